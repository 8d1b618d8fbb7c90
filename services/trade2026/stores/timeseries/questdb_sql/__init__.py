"""QuestDB's SQL for DuckDB: only what QuestDB has and DuckDB has not is rewritten, the rest goes through as it is."""
