"""What every analytics store promises; chdb is the contract, and a real server proves the wire and plain types.

Debian's server is of 2018: what it lacks is not among its capabilities, and the test reads those.
"""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from trade2026.local.infra.component import Component
from trade2026.stores.analytics.dialect import capabilities_of
from trade2026.stores.analytics.embedded import open_embedded
from trade2026.stores.analytics.port import (
    Analytics,
    AnalyticsUnavailable,
    Capability,
    Lacking,
    QueryRefused,
    QueryTooLarge,
    RowsRefused,
    Selection,
)
from trade2026.stores.analytics.schema import TIME_NS_MAX, TIME_NS_MIN, Column, Kind, Row, Table
from trade2026.stores.analytics.server import open_server

SECOND = 10**9
START = 1_385_337_600 * SECOND + 123_456_789
NEWS = Table(
    "news",
    (
        Column("source", Kind.WORD),
        Column("symbol", Kind.WORD),
        Column("known", Kind.TIME),
        Column("record_id", Kind.TEXT),
        Column("score", Kind.NUMBER),
        Column("seq", Kind.INTEGER),
    ),
    keys=("source", "symbol", "known", "record_id"),
    version="seq",
    order=("known", "seq"),
    time="known",
)
ALL = frozenset(Capability)
Reopen = Callable[[], Analytics]
_databases = itertools.count()


@pytest.fixture(params=["embedded", "server"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Reopen]:
    """Opens the same store anew, as a restarted process does."""
    opened: list[Analytics] = []
    if request.param == "embedded":
        make: Callable[[], Analytics] = lambda: open_embedded(tmp_path / "analytics")  # noqa: E731
    else:
        server: Component = request.getfixturevalue("clickhouse")
        database = f"contract_{next(_databases)}"
        make = lambda: open_server(f"clickhouse://{server.address}", database=database)  # noqa: E731

    def again() -> Analytics:
        for store in opened:
            store.close()
        opened.append(make())
        return opened[-1]

    yield again
    for store in opened:
        store.close()


@pytest.fixture
def store(reopen: Reopen) -> Analytics:
    return reopen()


def news(seconds: float, record_id: str, symbol: str = "BTC", seq: int = 0, score: float = 0.5) -> Row:
    return ("wire", symbol, START + int(seconds * SECOND), record_id, score, seq)


def ids(rows: list[Row]) -> list[str]:
    return [row[3] for row in rows]


def found(store: Analytics, **wanted: Any) -> list[str]:
    return ids(store.scan(NEWS, Selection(**wanted)))


def test_a_new_store_has_nothing(store: Analytics) -> None:
    assert store.offsets(["a"]) == {} and store.count(NEWS) == 0 and store.scan(NEWS, Selection()) == []


def test_rows_are_there_when_the_write_returns_as_they_were_given(store: Analytics) -> None:
    odd = ("wire's", 'tab\t"and"\\', START, "line\nüñ🙂", -1.5e300, -(2**63))
    times = [(*news(0, f"t{ns}")[:2], ns, f"t{ns}", 0.1, 2**63 - 1) for ns in (TIME_NS_MIN, -1, 0, 1, TIME_NS_MAX)]
    store.write(NEWS, [odd, *times], {"alt/0": 6})
    assert sorted(store.scan(NEWS, Selection())) == sorted([odd, *times])


def test_positions_are_kept_and_may_go_back(reopen: Reopen) -> None:
    store = reopen()
    store.write(NEWS, [news(0, "a")], {"alt/0": 5, "alt/0/lost": 2})
    store.write(NEWS, [news(1, "b")], {"alt/0": 9})
    store.write(NEWS, [], {"alt/0": 7})
    assert reopen().offsets(["alt/0", "alt/0/lost", "other"]) == {"alt/0": 7, "alt/0/lost": 2}


def test_rows_with_the_same_keys_are_one_and_the_greatest_version_stays(store: Analytics) -> None:
    store.write(NEWS, [news(0, "a", seq=1, score=1), news(0, "a", seq=3, score=3), news(0, "a", seq=2, score=2)], {})
    store.write(NEWS, [news(0, "a", seq=2, score=2), news(0, "b")], {})
    assert store.count(NEWS) == 2
    assert [row[4] for row in store.scan(NEWS, Selection(limit=10)) if row[3] == "a"] == [3.0]


def test_a_replay_of_everything_changes_nothing(reopen: Reopen) -> None:
    rows = [news(n, f"r{n}", seq=n) for n in range(500)]
    store = reopen()
    store.write(NEWS, rows, {"alt/0": 500})
    store.write(NEWS, rows[100:300], {"alt/0": 300})
    store = reopen()
    store.write(NEWS, rows, {"alt/0": 500})
    assert store.count(NEWS) == 500 and found(store) == [f"r{n}" for n in range(500)]


@pytest.mark.parametrize(
    "wrong",
    [
        news(0, "x")[:-1],
        (*news(0, "x")[:4], None, 0),
        (*news(0, "x")[:4], float("nan"), 0),
        (*news(0, "x")[:5], 2**63),
        (*news(0, "x")[:5], True),
        (*news(0, "x")[:2], TIME_NS_MIN - 1, *news(0, "x")[3:]),
    ],
)
def test_a_row_that_does_not_fit_refuses_its_batch(store: Analytics, wrong: Row) -> None:
    with pytest.raises(RowsRefused):
        store.write(NEWS, [news(0, "a"), wrong], {"alt/0": 2})
    assert store.count(NEWS) == 0 and store.offsets(["alt/0"]) == {}


def test_rows_are_found_by_words_and_time(store: Analytics) -> None:
    store.write(NEWS, [news(n, str(n), symbol="AB"[n % 2], seq=n) for n in (3, 0, 2, 1, 4)], {})
    assert found(store) == ["0", "1", "2", "3", "4"]
    assert found(store, equal={"symbol": "A"}, limit=2) == ["0", "2"]
    assert found(store, since_ns=START + SECOND, until_ns=START + 3 * SECOND) == ["1", "2"]
    assert found(store, equal={"symbol": "' OR 1"}) == []


def test_a_table_gets_the_columns_that_a_newer_writer_adds(reopen: Reopen) -> None:
    reopen().write(NEWS, [news(0, "a")], {})
    wider = Table(**{**vars_of(NEWS), "columns": (*NEWS.columns, Column("language", Kind.WORD))})
    store = reopen()
    store.write(wider, [(*news(1, "b"), "de")], {})
    assert [row[-1] for row in store.scan(wider, Selection())] == ["", "de"]
    assert found(store) == ["a", "b"]


def test_the_latest_row_as_of_a_time_is_never_from_after_it(store: Analytics) -> None:
    rows = [news(0, "a", seq=0), news(10, "b", seq=2), news(10, "c", seq=1), news(5, "d", symbol="ETH", seq=3)]
    store.write(NEWS, rows, {})
    store.write(NEWS, rows, {})
    at = [START - 1, START, START + 9 * SECOND, START + 10 * SECOND - 1, START + 10 * SECOND, START + 99 * SECOND]
    asked = [("BTC", ns) for ns in at] + [("ETH", START + 5 * SECOND), ("DOGE", START + 99 * SECOND)]
    if Capability.LATEST not in store.capabilities:
        with pytest.raises(Lacking):
            store.latest(NEWS, "symbol", asked, {"source": "wire"})
        return
    answers = store.latest(NEWS, "symbol", asked, {"source": "wire"})
    assert [row and row[3] for row in answers] == [None, "a", "a", "a", "b", "b", "d", None]
    assert answers[1] == rows[0]
    assert store.latest(NEWS, "symbol", asked, {"source": "other"}) == [None] * len(asked)
    assert store.latest(NEWS, "symbol", [], {"source": "wire"}) == []


def test_many_times_are_asked_at_once(store: Analytics) -> None:
    if Capability.LATEST not in store.capabilities:
        return
    store.write(NEWS, [news(n, str(n), seq=n) for n in range(100)], {})
    asked = [("BTC", START + n * SECOND // 25) for n in range(2_500)]
    answers = store.latest(NEWS, "symbol", asked, {"source": "wire"})
    assert [row and row[3] for row in answers] == [str(n // 25) for n in range(2_500)]


def test_a_query_answers_names_types_and_rows_and_says_when_there_are_more(store: Analytics) -> None:
    store.write(NEWS, [news(n, str(n), seq=n, score=n / 2) for n in range(3)], {})
    answer = store.ask(
        "SELECT record_id, sum(score) AS score, max(seq) AS seq FROM news GROUP BY record_id ORDER BY seq;",
        rows_max=2,
        seconds_max=30,
    )
    assert (list(answer.names), list(answer.types)) == (["record_id", "score", "seq"], ["String", "Float64", "Int64"])
    assert (answer.rows, answer.more) == ([("0", 0.0, 0), ("1", 0.5, 1)], True)
    for sql in ("SELECT 1 -- ; one", "SELECT /* ) */ 1 # two", "SELECT length('a;)--')  - 4;"):
        assert store.ask(sql, rows_max=1, seconds_max=30).rows == [(1,)]


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO news (record_id) VALUES ('x')",
        "DROP TABLE news",
        "SELECT 1) ; DROP TABLE news; (SELECT 1",
        "SELECT nothing FROM news",
        "SELECT * FROM nowhere",
        "SELEC",
        "",
        "SELECT * FROM url('http://127.0.0.1:1/', 'TSV', 'a String')",
        "SELECT * FROM Python /* quietly */ (rows)",
        "SELECT 1) SETTINGS readonly = 0 /*",
        "SELECT * FROM news LIMIT 1 SETTINGS readonly = 0",
        "SELECT 'open",
        "SELECT $$a$$",
        "SELECT (1",
    ],
)
def test_what_is_no_query_is_refused_and_changes_nothing(store: Analytics, sql: str) -> None:
    store.write(NEWS, [news(0, "a")], {})
    with pytest.raises((QueryRefused, AnalyticsUnavailable)):
        store.ask(sql, rows_max=10, seconds_max=30)
    assert found(store) == ["a"]


def test_a_query_that_takes_too_long_is_ended(store: Analytics) -> None:
    with pytest.raises(QueryTooLarge):
        store.ask("SELECT count() FROM system.numbers WHERE number % 2 = 3", rows_max=1, seconds_max=1)
    assert store.ask("SELECT 1", rows_max=1, seconds_max=30).rows == [(1,)]


def test_what_the_engine_can_do_is_declared(store: Analytics) -> None:
    store.write(NEWS, [news(0, "a")], {})
    types = dict(row[:2] for row in store.ask("SELECT name, type FROM system.columns WHERE table = 'news'",
                                              rows_max=99, seconds_max=30).rows)  # fmt: skip
    assert types["known"] == ("DateTime64(9, 'UTC')" if Capability.TIMES in store.capabilities else "Int64")
    assert types["symbol"] == ("LowCardinality(String)" if Capability.WORDS in store.capabilities else "String")
    windows = "SELECT row_number() OVER (ORDER BY known) FROM news"
    if Capability.WINDOWS in store.capabilities:
        assert store.ask(windows, rows_max=1, seconds_max=30).rows == [(1,)]
    else:
        with pytest.raises(QueryRefused):
            store.ask(windows, rows_max=1, seconds_max=30)


def test_the_embedded_engine_can_do_everything_and_one_of_2018_says_what_it_lacks(tmp_path: Path) -> None:
    store = open_embedded(tmp_path / "analytics")
    try:
        assert store.capabilities == ALL
    finally:
        store.close()
    assert capabilities_of((18, 16)) == frozenset() and capabilities_of((24, 8)) == ALL


def test_old_rows_are_dropped_by_an_engine_that_can(store: Analytics) -> None:
    if Capability.RETENTION not in store.capabilities:
        return
    short = Table(**{**vars_of(NEWS), "name": "short", "retention_days": 1})
    store.write(short, [news(0, "of 2013")], {})
    store._engine.run("OPTIMIZE TABLE short FINAL")  # type: ignore[attr-defined] # it drops them when it merges
    assert store.count(short) == 0


def test_a_closed_store_says_so_and_closing_twice_is_one_close(store: Analytics) -> None:
    store.close()
    store.close()
    with pytest.raises(AnalyticsUnavailable):
        store.offsets(["a"])


def vars_of(table: Table) -> dict[str, Any]:
    return {name: getattr(table, name) for name in Table.__dataclass_fields__}


# ── the server ──────────────────────────────────────────────────────────────────────────────────────


def test_a_server_that_is_down_is_told_and_is_used_again_when_it_is_back(tmp_path: Path) -> None:
    from tests.infra import started

    from trade2026.local.infra.clickhouse import ClickHouse

    server = started(ClickHouse(tmp_path / "clickhouse"))
    store = open_server(f"clickhouse://{server.address}", database="desk")
    try:
        store.write(NEWS, [news(0, "a")], {"alt/0": 1})
        server.kill()
        with pytest.raises(AnalyticsUnavailable, match=server.address):
            store.write(NEWS, [news(1, "b")], {"alt/0": 2})
        server.start()
        assert store.offsets(["alt/0"]) == {"alt/0": 1}
        store.write(NEWS, [news(1, "b")], {"alt/0": 2})
        assert found(store) == ["a", "b"]
    finally:
        store.close()
        server.stop()
