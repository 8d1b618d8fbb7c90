"""Both stores answer QuestDB's SQL as QuestDB does: recorded from QuestDB 9.3.4 with the same rows.

Where an answer has no order, any is right. What only the embedded one answers is DuckDB's (`can.duckdb_sql`).
"""

import json
import math
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tests.questdb import emptied

from trade2026.local.infra.component import Component
from trade2026.stores.timeseries.duckdb_store import DuckDbStore
from trade2026.stores.timeseries.port import Batch, QueryableStore, QueryRefused, QueryTooLarge
from trade2026.stores.timeseries.questdb_store import QuestDbStore

ANSWERS = [json.loads(line) for line in (Path(__file__).parent / "questdb_answers.jsonl").read_text().splitlines()]
TICKS = (
    ("2013-11-25T00:00:00.500000+00:00", "BTCUSDT.SIM", "1", "BUY", 800_500_000_000, 100_000_000),
    ("2013-11-25T00:00:30+00:00", "BTCUSDT.SIM", "2", "SELL", 801_000_000_000, 200_000_000),
    ("2013-11-25T00:00:40+00:00", "ETHUSDT.SIM", "3", "BUY", 20_000_000_000, 1_000_000_000),
    ("2013-11-25T00:03:10.123456+00:00", "BTCUSDT.SIM", "4", "BUY", 803_250_000_000, 300_000_000),
    ("2013-11-25T00:04:00+00:00", "ETHUSDT.SIM", "5", None, 21_000_000_000, None),
    ("2013-11-26T01:00:00+00:00", "BTCUSDT.SIM", "6", "BUY", 900_000_000_000, 1_500_000_000),
)
SECONDS_MAX = 60.0


def filled(store: QueryableStore) -> QueryableStore:
    rows = [
        (ns := ns_of(time), symbol, trade, side, price, quantity, n, ns, 0, n)
        for n, (time, symbol, trade, side, price, quantity) in enumerate(TICKS)
    ]
    store.write(Batch({"ticks": rows}))
    return store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QueryableStore]:
    """The embedded one."""
    made = filled(DuckDbStore(tmp_path_factory.mktemp("store") / "series.duckdb"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def server(questdb: Component) -> Iterator[QueryableStore]:
    """QuestDB itself."""
    made = filled(QuestDbStore(emptied(questdb), "contract"))
    yield made
    made.close()


@pytest.fixture(params=["store", "server"])
def either(request: pytest.FixtureRequest) -> QueryableStore:
    return request.getfixturevalue(request.param)


def ns_of(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 10**6) * 1000


def shown(value: Any) -> Any:
    return value.isoformat(timespec="microseconds") + "Z" if isinstance(value, datetime) else value


def same(found: Any, expected: Any) -> bool:
    if isinstance(found, float) and isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=1e-12)
    return found == expected


@pytest.mark.parametrize("recorded", ANSWERS, ids=[answer["query"] for answer in ANSWERS])
def test_the_answer_is_that_of_questdb(either: QueryableStore, recorded: dict[str, Any]) -> None:
    if "error" in recorded:
        with pytest.raises(QueryRefused) as refused:
            either.ask(recorded["query"], rows_max=100, seconds_max=SECONDS_MAX)
        assert (str(refused.value), refused.value.position) == (recorded["error"], recorded["position"])
        return
    answer = either.ask(recorded["query"], rows_max=100, seconds_max=SECONDS_MAX)
    columns = [{"name": name, "type": kind} for name, kind in zip(answer.names, answer.types, strict=True)]
    assert columns == recorded["columns"]
    if either.can.duckdb_sql:  # QuestDB says another one where it was asked for a part of the rows
        assert answer.timestamp == recorded["timestamp"]
    found = sorted(([shown(value) for value in row] for row in answer.rows), key=str)
    expected = sorted(recorded["dataset"], key=str)
    assert len(found) == len(expected)
    assert all(map(same, row, other) for row, other in zip(found, expected, strict=True)), (found, expected)
    for row, other in zip(found, expected, strict=True):
        assert all(map(same, row, other)), (row, other)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT symbol, sum(quantity) FILTER (WHERE side = 'BUY') FROM ticks GROUP BY ALL ORDER BY ALL",
        "FROM ticks SELECT max(price)",
        "SELECT * EXCLUDE (seq) FROM ticks USING SAMPLE 3 ROWS",
        "SELECT list(price ORDER BY price) FROM ticks",
        "SELECT a.symbol FROM ticks a ASOF JOIN ticks b ON a.symbol = b.symbol AND a.timestamp >= b.timestamp",
        "SELECT extract('hour' FROM timestamp), price IS DISTINCT FROM 1 FROM ticks -- a comment; with 'quotes",
        "SELECT row_number() OVER (ORDER BY timestamp) AS n FROM ticks QUALIFY n < 3",
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 5) SELECT sum(x) FROM n",
        "SELECT * FROM (PIVOT (SELECT symbol, side, price FROM ticks) ON side IN ('BUY', 'SELL') USING sum(price))",
        "SELECT 'it''s; FROM' AS text, {'a': 1}.a, [1, 2][1], price::DECIMAL(10, 2) FROM ticks LIMIT 2 OFFSET 1",
        "SELECT x FROM (VALUES (1), (2)) AS t(x) EXCEPT SELECT 1 ORDER BY x",
        "SELECT COLUMNS('price|quantity') FROM ticks",
    ],
)
def test_what_duckdb_answers_is_answered(store: QueryableStore, query: str) -> None:
    assert store.can.duckdb_sql
    assert store.ask(query, rows_max=100, seconds_max=SECONDS_MAX).rows


@pytest.mark.parametrize(
    "query",
    [
        "INSERT INTO ticks SELECT * FROM ticks",
        "DELETE FROM ticks",
        "DROP TABLE ticks",
        "CREATE TABLE mine (a INTEGER)",
        "CREATE TEMP TABLE mine (a INTEGER)",
        "SELECT 1; DROP TABLE ticks",
        "ATTACH '/tmp/other.db'",
        "COPY ticks TO '/tmp/ticks.csv'",
        "EXPORT DATABASE '/tmp/ticks'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM read_parquet('https://example.com/a.parquet')",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET memory_limit = '10GB'",
        "SELECT getenv('HOME')",
        "PRAGMA enable_profiling",
        "CHECKPOINT",
        "BEGIN",
        "COMMIT; DELETE FROM ticks",
        "SELECT * FROM store",
    ],
)
def test_a_query_changes_nothing_and_reaches_nothing_outside(store: QueryableStore, query: str) -> None:
    with pytest.raises(QueryRefused):
        store.ask(query, rows_max=100, seconds_max=SECONDS_MAX)
    assert store.tables()["ticks"].rows == len(TICKS)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("", "empty query"),
        ("SELECT avg(price) FROM ticks SAMPLE BY 1 fortnight", "unit"),
        ("SELECT * FROM ticks SAMPLE BY 1m", "named columns"),
        ("SELECT symbol, avg(price) FROM ticks SAMPLE BY 1m GROUP BY symbol", "leave GROUP BY out"),
        ("SELECT avg(price) FROM ticks SAMPLE BY 1m FILL(1, 2)", "2 values for 1"),
        ("SELECT avg(price) FROM ticks SAMPLE BY 1m FILL(next)", "FILL knows"),
        ("SELECT * FROM ticks LATEST BY symbol", "LATEST ON timestamp PARTITION BY"),
        ("SELECT * FROM ticks WHERE timestamp IN 'yesterday'", "no interval"),
        ("SELECT dateadd('x', 1, now())", "unit"),
        ("SELECT (((1)", "not closed"),
        ("SELECT " + "(" * 200 + ")" * 200, "deep"),
        ("SELECT 'a", "unterminated"),
        ("SELECT count() FRM orders", "'FRM': did you mean FROM"),
        ("SELECT * FROM orders WHER side = 'BUY'", "'WHER': did you mean WHERE"),
        ("SELECT price FROM ticks LIMT 3", "'LIMT': did you mean LIMIT"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_the_reason(store: QueryableStore, query: str, says: str) -> None:
    with pytest.raises(QueryRefused, match=says):
        store.ask(query, rows_max=100, seconds_max=SECONDS_MAX)


def test_an_answer_has_as_many_rows_as_asked_for_and_says_that_there_are_more(either: QueryableStore) -> None:
    sql = "SELECT trade_id FROM ticks ORDER BY timestamp"
    answer = either.ask(sql, rows_max=2, skip=1, seconds_max=SECONDS_MAX)
    assert (answer.rows, answer.more) == ([("2",), ("3",)], True)
    answer = either.ask(sql, rows_max=5, skip=1, seconds_max=SECONDS_MAX)
    assert len(answer.rows) == 5 and not answer.more
    assert either.count(sql, seconds_max=SECONDS_MAX) == len(TICKS)


@pytest.mark.parametrize(
    ("where", "query"),
    [
        ("store", "SELECT count() FROM range(100000000000) a, range(1000000) b"),
        ("server", "SELECT sum(rnd_double()) FROM long_sequence(100000000000)"),
    ],
)
def test_a_query_that_never_ends_is_stopped(request: pytest.FixtureRequest, where: str, query: str) -> None:
    asked: QueryableStore = request.getfixturevalue(where)
    with pytest.raises(QueryTooLarge, match="stopped"):
        asked.ask(query, rows_max=1, seconds_max=0.2)
    assert asked.ask("SELECT 1", rows_max=1, seconds_max=SECONDS_MAX).rows == [(1,)]


@pytest.mark.parametrize(
    "query",
    [
        "INSERT INTO ticks SELECT * FROM ticks",
        "WITH mine AS (SELECT * FROM ticks) INSERT INTO ticks SELECT * FROM mine",
        "/* /* */ SELECT */ DROP TABLE ticks",
        "-- SELECT\nDROP TABLE ticks",
        "UPDATE ticks SET price = 1",
        "TRUNCATE TABLE ticks",
        "DROP TABLE ticks",
        "ALTER TABLE ticks DROP PARTITION LIST '2013-11-25'",
        "RENAME TABLE ticks TO mine",
        "CREATE TABLE mine AS (SELECT * FROM ticks)",
        "SELECT 1; DROP TABLE ticks",
        "SELECT 1; DROP TABLE ticks; SELECT 1",
        "COPY ticks TO 'ticks'",
        "BACKUP TABLE ticks",
        "CHECKPOINT CREATE",
        "SELECT * FROM read_parquet('/etc/passwd')",
        "SELECT * FROM (SELECT * FROM import_files())",
        'SELECT "reload_config" ()',
        "SELECT flush_query_cache /**/ ()",
        "CANCEL QUERY 1",
        "SHOW PARAMETERS",
        "SELECT * FROM (SHOW PARAMETERS)",
        "VACUUM TABLE ticks",
        "REINDEX TABLE ticks LOCK EXCLUSIVE",
    ],
)
def test_a_query_changes_nothing_in_questdb_and_reaches_no_file_of_it(server: QueryableStore, query: str) -> None:
    with pytest.raises(QueryRefused):
        server.ask(query, rows_max=100, seconds_max=SECONDS_MAX)
    assert server.tables()["ticks"].rows == len(TICKS)
    assert server.ask("SELECT price FROM ticks LIMIT 1", rows_max=1, seconds_max=SECONDS_MAX).rows == [(800.5,)]


@pytest.mark.parametrize(
    "query", ["SELECT list(range) FROM range(200000000)", "SELECT repeat('x', 1000000) FROM range(100)"]
)
def test_a_query_that_wants_too_much_memory_is_refused(store: QueryableStore, query: str) -> None:
    with pytest.raises(QueryTooLarge):
        store.ask(query, rows_max=100_000, seconds_max=SECONDS_MAX)
    assert store.ask("SELECT 1", rows_max=1, seconds_max=SECONDS_MAX).rows == [(1,)]


def test_rows_are_written_while_long_queries_run(tmp_path: Path) -> None:
    store = DuckDbStore(tmp_path / "series.duckdb")
    ended: list[bool] = []

    def ask() -> None:
        try:
            store.ask(
                "SELECT count() FROM range(100000000000) a, range(1000000) b", rows_max=1, seconds_max=SECONDS_MAX
            )
        except QueryTooLarge:
            ended.append(True)

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    try:
        for n in range(5):
            store.write(Batch({"metrics": [(ns_of(TICKS[0][0]) + n * 1000, "var", 1.0, "", "", "")]}))
        assert store.tables()["metrics"].rows == 5 and not ended
        deadline = time.monotonic() + SECONDS_MAX
        while len(ended) < 3 and time.monotonic() < deadline:
            store.interrupt_queries()
            time.sleep(0.05)
        assert len(ended) == 3
    finally:
        for asker in askers:
            asker.join()
        store.close()
