"""Which texts are queries that a stranger may send to QuestDB."""

import pytest

from trade2026.stores.timeseries.port import QueryRefused
from trade2026.stores.timeseries.questdb_queries import require_query


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "  select * from ticks where symbol = 'insert; drop table' ;",
        "WITH a AS (SELECT * FROM ticks) SELECT * FROM a",
        "ticks",
        "ticks latest on timestamp partition by symbol",
        "SHOW TABLES",
        "SELECT replace(symbol, 'a', 'b') FROM ticks -- a comment",
    ],
)
def test_a_query_passes(sql: str) -> None:
    require_query(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "DROP TABLE ticks",
        "drop where",
        "WITH a AS (SELECT 1) INSERT INTO ticks SELECT * FROM a",
        "/* SELECT */ DROP TABLE ticks",
        "SELECT 1; DROP TABLE ticks",
        "SELECT 1 FROM (SELECT read_parquet('x'))",
        "SELECT \"read_parquet\" /* here */ ('x')",
        "SHOW PARAMETERS",
        "SELECT (1",
        "SELECT " + "1," * 10_000 + "1",
    ],
)
def test_anything_else_does_not(sql: str) -> None:
    with pytest.raises(QueryRefused):
        require_query(sql)
