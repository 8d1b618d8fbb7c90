"""What every time-series store promises (`stores/timeseries/port.py`), asked of each backend in the same words."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.questdb import emptied

from trade2026.stores.timeseries.duckdb_store import DuckDbStore, set_aside
from trade2026.stores.timeseries.memory import MemoryStore
from trade2026.stores.timeseries.port import Batch, RowsRefused, StoreDamaged, StoreUnavailable, TimeSeriesStore
from trade2026.stores.timeseries.questdb_store import QuestDbStore
from trade2026.stores.timeseries.schema import TABLES, Column, Kind, Row, as_given

START = 1_385_337_600 * 10**9
"""2013-11-25, in nanoseconds."""
SECOND = 10**9
DAY = 86_400
SOURCE = ("market.ticks", 0)


@pytest.fixture(params=["memory", "duckdb", "questdb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TimeSeriesStore]:
    if request.param == "memory":
        made: TimeSeriesStore = MemoryStore()
    elif request.param == "duckdb":
        made = DuckDbStore(tmp_path / "series.duckdb")
    else:
        made = QuestDbStore(emptied(request.getfixturevalue("questdb")), "contract")
    yield made
    made.close()


@pytest.fixture
def reopen(tmp_path: Path) -> Iterator[Callable[[], DuckDbStore]]:
    """The store as a new process would find it."""
    opened: list[DuckDbStore] = []

    def reopened() -> DuckDbStore:
        if opened:
            opened[-1].close()
        opened.append(DuckDbStore(tmp_path / "series.duckdb"))
        return opened[-1]

    yield reopened
    for each in opened:
        each.close()


def tick(second: float, trade_id: str, *, symbol: str = "BTCUSDT.SIM", price: int = 800 * 10**9) -> Row:
    return (START + int(second * SECOND), symbol, trade_id, "BUY", price, 10**8, 7, START, 0, 7)


def batch(*ticks: Row, next_seq: int = 0) -> Batch:
    return Batch({"ticks": list(ticks)}, {SOURCE: next_seq or len(ticks)})


def ids(store: TimeSeriesStore, **conditions: object) -> list[str]:
    return [row[2] for row in store.scan("ticks", **conditions).rows]  # type: ignore[arg-type]


def test_a_new_store_has_every_table_and_nothing_in_it(store: TimeSeriesStore) -> None:
    assert store.offsets() == {} and store.state() == {}
    assert {name: stats.rows for name, stats in store.tables().items()} == dict.fromkeys(TABLES, 0)
    assert store.scan("orders").rows == []


def test_rows_are_there_when_the_write_returns_with_amounts_and_times_in_their_units(store: TimeSeriesStore) -> None:
    store.write(batch(tick(0.5, "1", price=800_250_000_000)))
    found = store.scan("ticks")
    [row] = found.rows
    assert tuple(found.names) == TABLES["ticks"].names and found.timestamp == 0 and not found.more
    assert row[:6] == (datetime(2013, 11, 25, 0, 0, 0, 500_000), "BTCUSDT.SIM", "1", "BUY", 800.25, 0.1)  # noqa: DTZ001
    assert row[7] == datetime(2013, 11, 25) and row[8] is None, "no time is no value"  # noqa: DTZ001
    stats = store.tables()["ticks"]
    assert (stats.rows, stats.first_ns, stats.last_ns) == (1, START + SECOND // 2, START + SECOND // 2)


def test_positions_and_state_are_written_with_the_rows(store: TimeSeriesStore) -> None:
    store.write(Batch({"ticks": [tick(0, "1")]}, {SOURCE: 5, ("pnl", 0): 2}, {"a": b"1", "b": b"2"}))
    store.write(Batch({}, {SOURCE: 9}, {"a": None, "b": b"3", "c": b"\x00\xff"}))
    assert store.offsets() == {SOURCE: 9, ("pnl", 0): 2}
    assert store.state() == {"b": b"3", "c": b"\x00\xff"}


def test_a_row_with_the_same_keys_takes_the_place_of_the_one_before(store: TimeSeriesStore) -> None:
    store.write(batch(tick(0, "1"), tick(1, "2"), tick(1, "2", price=801 * 10**9)))
    store.write(batch(tick(1, "2", price=802 * 10**9), tick(1, "3")))
    assert sorted((row[2], row[4]) for row in store.scan("ticks").rows) == [("1", 800.0), ("2", 802.0), ("3", 800.0)]


def test_a_replay_of_everything_changes_nothing(store: TimeSeriesStore) -> None:
    ticks = [tick(n / 10, str(n)) for n in range(100)]
    store.write(batch(*ticks))
    store.write(batch(*ticks[:50]))
    store.write(batch(*ticks))
    assert ids(store, limit=1000) == [str(n) for n in range(100)]


def test_keys_without_a_value_are_the_same(store: TimeSeriesStore) -> None:
    row = (START, "var", 1.5, "", "", "")
    store.write(Batch({"metrics": [row]}))
    store.write(Batch({"metrics": [row]}))
    [found] = store.scan("metrics").rows
    assert found[1:] == ("var", 1.5, None, None, None)


@pytest.mark.parametrize(
    "bad",
    [
        tick(0, "9")[:-1],
        (None, *tick(0, "9")[1:]),
        (*tick(0, "9")[:4], "dear", *tick(0, "9")[5:]),
        (*tick(0, "9")[:4], 2**70, *tick(0, "9")[5:]),
    ],
)
def test_a_row_that_does_not_fit_refuses_all_of_its_batch(store: TimeSeriesStore, bad: Row) -> None:
    with pytest.raises(RowsRefused):
        store.write(Batch({"metrics": [(START, "var", 1.5, "", "", "")], "ticks": [bad]}, {SOURCE: 1}, {"a": b"1"}))
    assert store.offsets() == {} and store.state() == {}
    assert all(stats.rows == 0 for stats in store.tables().values())


def test_a_scan_is_in_order_of_time_between_two_moments_and_of_what_is_asked_for(store: TimeSeriesStore) -> None:
    store.write(batch(*(tick(n, str(n), symbol="AB"[n % 2]) for n in (3, 0, 2, 1, 4))))
    assert ids(store) == ["0", "1", "2", "3", "4"]
    assert ids(store, newest_first=True, limit=2) == ["4", "3"]
    assert ids(store, since_ns=START + SECOND, until_ns=START + 3 * SECOND) == ["1", "2"]
    assert ids(store, equal={"symbol": "A"}) == ["0", "2", "4"]
    assert store.scan("ticks", limit=4).more and not store.scan("ticks", limit=5).more


def test_old_rows_are_dropped_each_or_by_whole_days(store: TimeSeriesStore) -> None:
    store.write(batch(*(tick(n, str(n)) for n in (0, 1, 2, DAY, DAY + 1))))
    assert store.drop_before("ticks", START + SECOND) == (1 if store.can.drops_rows else 0)
    assert store.drop_before("ticks", START + (DAY + 1) * SECOND) == 3
    assert store.drop_before("ticks", START + (DAY + 1) * SECOND) == 0
    kept = (DAY + 1,) if store.can.drops_rows else (DAY, DAY + 1)
    assert ids(store) == [str(n) for n in kept]


@pytest.mark.parametrize(
    "text", ["a b", "a,b=c", 'say "no"', "it's", "back\\slash", "two\nlines\r\n", "ü😀", "%d %s", "\t"]
)
def test_any_text_comes_back_as_it_was(store: TimeSeriesStore, text: str) -> None:
    event = (START, text, text, "warning", text, "ann", text, 1, 1)
    store.write(Batch({"risk_events": [event, (START, "plain", "", "", "", "", "", None, 2)]}, {}, {text: b"1"}))
    assert store.scan("risk_events", equal={"type": text}).rows[0][1:7] == (text, text, "warning", text, "ann", text)
    assert store.scan("risk_events", equal={"type": "plain"}).rows[0][2:8] == (None,) * 6
    assert store.state() == {text: b"1"}


def test_a_row_may_have_no_value_but_its_time(store: TimeSeriesStore) -> None:
    for name, table in TABLES.items():
        row = (START, *(None if column.name not in table.keys else key_of(column) for column in table.columns[1:]))
        store.write(Batch({name: [row]}))
        [found] = store.scan(name).rows
        assert [value for value in found[1:] if value is not None] == [value for value in row[1:] if value is not None]


def key_of(column: Column) -> object:
    return 7 if column.kind is Kind.LONG else "key"


def test_amounts_come_back_to_the_last_digit(store: TimeSeriesStore) -> None:
    amounts = [1, 10**9 + 1, 123_456_789_012_345, -(10**17), 2**52, 0]
    store.write(batch(*(tick(n, str(n), price=amount) for n, amount in enumerate(amounts))))
    assert [as_given(TABLES["ticks"], row)[4] for row in store.scan("ticks").rows] == amounts


def test_half_a_character_is_no_text(store: TimeSeriesStore) -> None:
    if isinstance(store, MemoryStore):
        return
    with pytest.raises(RowsRefused):
        store.write(Batch({"metrics": [(START, "\ud800", 1.5, "", "", "")]}))


def test_closing_twice_is_one_close(store: TimeSeriesStore) -> None:
    store.close()
    store.close()


# ── the embedded store ──────────────────────────────────────────────────────────────────────────────


def test_what_was_written_is_there_for_the_next_process(reopen: Callable[[], DuckDbStore]) -> None:
    reopen().write(Batch({"ticks": [tick(0, "1"), tick(1, "2")]}, {SOURCE: 2}, {"a": b"1"}))
    store = reopen()
    assert (store.offsets(), store.state()) == ({SOURCE: 2}, {"a": b"1"})
    store.write(batch(tick(1, "2"), tick(2, "3"), next_seq=3))
    assert ids(store) == ["1", "2", "3"], "it knows which times it has"


def test_only_one_process_owns_the_file(tmp_path: Path, reopen: Callable[[], DuckDbStore]) -> None:
    import subprocess
    import sys

    reopen()
    code = "import duckdb, sys; duckdb.connect(sys.argv[1])"
    other = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "series.duckdb")], capture_output=True, text=True, check=False
    )
    assert other.returncode != 0 and "lock" in other.stderr


def test_a_file_that_is_no_database_is_damaged_and_can_be_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "series.duckdb"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(StoreDamaged):
        DuckDbStore(path)
    aside = set_aside(path)
    assert aside.read_bytes().startswith(b"no database")
    DuckDbStore(path).close()


def test_a_folder_that_cannot_be_reached_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "series.duckdb").mkdir()
    with pytest.raises(StoreUnavailable):
        DuckDbStore(tmp_path / "series.duckdb")


def test_a_file_that_was_deleted_takes_no_more_rows(tmp_path: Path, reopen: Callable[[], DuckDbStore]) -> None:
    store = reopen()
    store.write(batch(tick(0, "1")))
    (tmp_path / "series.duckdb").unlink()
    with pytest.raises(StoreDamaged, match="deleted"):
        store.write(batch(tick(1, "2")))


def test_a_column_that_came_later_is_added(tmp_path: Path, reopen: Callable[[], DuckDbStore]) -> None:
    import duckdb

    with duckdb.connect(tmp_path / "series.duckdb") as older:
        older.execute("CREATE TABLE ticks (timestamp TIMESTAMP, symbol VARCHAR, retired INTEGER)")
        older.execute("INSERT INTO ticks VALUES (TIMESTAMP '2013-11-25', 'BTCUSDT.SIM', 1)")
    store = reopen()
    store.write(batch(tick(1, "2")))
    assert ids(store) == [None, "2"]


def test_the_rows_of_one_batch_become_visible_together(reopen: Callable[[], DuckDbStore]) -> None:
    store = reopen()
    store.write(Batch({"ticks": [tick(0, "1")], "metrics": [(START, "var", 1.0, "", "", "")]}))
    answer = store.ask("SELECT (SELECT count() FROM ticks), (SELECT count() FROM metrics)", rows_max=1, seconds_max=60)
    assert answer.rows == [(1, 1)]


def test_times_are_those_of_the_clock(store: TimeSeriesStore) -> None:
    now = datetime.now(UTC)
    store.write(Batch({"metrics": [(int(now.timestamp() * 10**6) * 1000, "var", 1.0, "", "", "")]}))
    [row] = store.scan("metrics").rows
    assert abs((row[0].replace(tzinfo=UTC) - now).total_seconds()) < 0.001
