"""Kafka, QuestDB and Valkey as ordinary processes on this machine, for a stack whose manifest asks for them."""
