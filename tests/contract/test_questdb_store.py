"""What holds for QuestDB only: who owns its tables, what was dropped, which row it refuses, and how far the journal goes."""

import contextlib
import time
from collections.abc import Iterator

import pytest
from tests.questdb import emptied
from tests.waiting import SECONDS_MAX

from trade2026.local.infra.component import Component, free_port
from trade2026.stores.timeseries import questdb_progress
from trade2026.stores.timeseries.port import Batch, RowsRefused, StoreDamaged, StoreUnavailable
from trade2026.stores.timeseries.questdb_http import QuestDbHttp, QuestDbSettings
from trade2026.stores.timeseries.questdb_store import QuestDbStore, set_aside

START = 1_385_337_600 * 10**9
SOURCE = ("market.ticks", 0)


@pytest.fixture
def settings(questdb: Component) -> QuestDbSettings:
    return emptied(questdb)


@pytest.fixture
def store(settings: QuestDbSettings) -> Iterator[QuestDbStore]:
    made = QuestDbStore(settings, "desk")
    yield made
    made.close()


@pytest.fixture
def http(settings: QuestDbSettings) -> Iterator[QuestDbHttp]:
    with contextlib.closing(QuestDbHttp(settings)) as made:
        yield made


def metrics(*names: str) -> Batch:
    return Batch({"metrics": [(START, name, 1.0, "", "", "") for name in names]}, {SOURCE: len(names)}, {"a": b"1"})


def names(store: QuestDbStore) -> list[str]:
    return sorted(row[1] for row in store.scan("metrics").rows)


def a_second_later(store: QuestDbStore) -> None:
    """It is not believed any more what was seen a second ago."""
    store._seen_ours = 0.0


def test_what_was_written_is_there_for_the_next_writer(store: QuestDbStore, settings: QuestDbSettings) -> None:
    store.write(metrics("var"))
    store.write(Batch({}, {SOURCE: 5, ("pnl", 0): 2}, {"a": None, "b": b"\x00\xff"}))
    with contextlib.closing(QuestDbStore(settings, "desk")) as heir:
        assert heir.offsets() == {SOURCE: 5, ("pnl", 0): 2}
        assert heir.state() == {"b": b"\x00\xff"}
        assert names(heir) == ["var"]


def test_a_writer_that_was_replaced_writes_no_more_and_its_positions_count_for_nobody(
    store: QuestDbStore, settings: QuestDbSettings
) -> None:
    store.write(metrics("var"))
    with contextlib.closing(QuestDbStore(settings, "desk")) as heir:
        a_second_later(store)
        with pytest.raises(StoreUnavailable, match="another writer has claimed"):
            store.write(Batch({}, {SOURCE: 99}, {"a": b"late"}))
        store._remember(Batch({}, {SOURCE: 99}, {"a": b"late"}))  # as if it had slept between asking and writing
        heir.write(Batch({}, {("pnl", 0): 1}))
        assert heir.offsets() == {SOURCE: 1, ("pnl", 0): 1} and heir.state() == {"a": b"1"}


def test_the_journal_is_copied_and_cut_when_it_is_long(
    store: QuestDbStore, http: QuestDbHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questdb_progress, "JOURNALED_MAX", 10)
    for n in range(30):
        store.write(Batch({}, {SOURCE: n}, {f"order:{n}": b"open", f"order:{n - 1}": None}))
    assert store.offsets() == {SOURCE: 29} and store.state() == {"order:29": b"open"}
    store._progress._time += 3_600 * 10**6  # an hour later the last partition is another one
    store._claim()
    assert rows_left(http, 2) == 2, "QuestDB drops a partition a moment later"
    assert store.offsets() == {SOURCE: 29} and store.state() == {"order:29": b"open"}


def rows_left(http: QuestDbHttp, wanted: int) -> int:
    """How many rows the journal has, once it has so many, or at the end of patience."""
    deadline = time.monotonic() + SECONDS_MAX
    while True:
        [[kept]] = http.rows("SELECT count() FROM writer_progress")
        if kept == wanted or time.monotonic() > deadline:
            return kept
        time.sleep(0.05)


def test_another_stack_s_store_and_tables_of_strangers_are_left_alone(
    store: QuestDbStore, settings: QuestDbSettings, http: QuestDbHttp
) -> None:
    store.write(metrics("var"))
    with pytest.raises(StoreUnavailable, match="belongs to the stack desk"):
        QuestDbStore(settings, "other")
    http.rows("RENAME TABLE writer_claims TO claims_of_somebody")
    try:
        with pytest.raises(StoreUnavailable, match=r"tables that are not ours .*metrics"):
            QuestDbStore(settings, "desk")
    finally:
        http.rows("RENAME TABLE claims_of_somebody TO writer_claims")
    assert names(store) == ["var"]


@pytest.mark.parametrize("again", [False, True], ids=["dropped", "dropped and made again"])
def test_a_table_that_was_dropped_is_damage_also_for_the_next_writer(
    store: QuestDbStore, settings: QuestDbSettings, http: QuestDbHttp, again: bool
) -> None:
    store.write(metrics("var"))
    http.rows("DROP TABLE metrics")
    if again:
        http.rows("CREATE TABLE metrics (timestamp TIMESTAMP, name SYMBOL) TIMESTAMP(timestamp) PARTITION BY DAY WAL")
    a_second_later(store)
    for _ in range(2):
        with pytest.raises(StoreDamaged, match="metrics was dropped"):
            store.write(metrics("late"))
    with pytest.raises(StoreDamaged, match="metrics was dropped"):
        QuestDbStore(settings, "desk")
    ending = set_aside(settings)
    assert http.rows(f"SELECT count() FROM writer_claims{ending}") == [[1]]
    with contextlib.closing(QuestDbStore(settings, "desk")) as anew:
        assert anew.offsets() == {} and anew.state() == {} and names(anew) == []
        anew.write(metrics("var"))
        assert names(anew) == ["var"]


def test_the_row_that_questdb_refuses_is_named_and_nothing_of_its_batch_is_written(
    store: QuestDbStore, settings: QuestDbSettings
) -> None:
    bad = (START, "no\0text", 1.0, "", "", "")
    batch = metrics("two\nlines", "b")
    batch.rows["ticks"] = [(START, "S", "1", "BUY", 1, 1, 1, START, 0, 1)]
    batch.rows["metrics"].append(bad)
    with pytest.raises(RowsRefused) as refused:
        store.write(batch)
    assert refused.value.row is bad
    with contextlib.closing(QuestDbStore(settings, "desk")) as heir:  # waits until all that was taken is applied
        assert names(heir) == [] and heir.scan("ticks").rows == [] and heir.offsets() == {}
        batch.rows["metrics"].remove(bad)
        heir.write(batch)
        assert names(heir) == ["b", "two\nlines"]


def test_a_table_that_questdb_suspended_is_told_and_resumed(store: QuestDbStore, http: QuestDbHttp) -> None:
    store.check()
    http.rows("ALTER TABLE metrics SUSPEND WAL")
    with pytest.raises(StoreUnavailable, match="suspended metrics"):
        store.check()
    batch = metrics("var")
    with pytest.raises(StoreUnavailable, match="suspended metrics"):
        store.write(batch)
    store.write(batch)
    assert names(store) == ["var"]
    store.check()


def test_columns_and_keys_that_came_later_are_added_and_other_types_are_told(
    store: QuestDbStore, settings: QuestDbSettings, http: QuestDbHttp
) -> None:
    store.close()
    http.rows("ALTER TABLE quotes DROP COLUMN venue_seq")
    http.rows("ALTER TABLE quotes DEDUP DISABLE")
    with contextlib.closing(QuestDbStore(settings, "desk")) as opened:
        row = (START, "S", 1, 1, 1, 1, 7, 1)
        opened.write(Batch({"quotes": [row]}))
        opened.write(Batch({"quotes": [row]}))
        [found] = opened.scan("quotes").rows
        assert found[6] == 7
    http.rows("ALTER TABLE quotes ALTER COLUMN venue_seq TYPE VARCHAR")
    with pytest.raises(StoreUnavailable, match=r"quotes\.venue_seq is a VARCHAR, not a LONG"):
        QuestDbStore(settings, "desk")
    http.rows("ALTER TABLE quotes ALTER COLUMN venue_seq TYPE LONG")


def test_a_questdb_that_is_not_there_or_does_not_know_us_is_unavailable(
    settings: QuestDbSettings, tmp_path: str
) -> None:
    with pytest.raises(StoreUnavailable, match="can't be reached"):
        QuestDbStore(QuestDbSettings(url=f"http://127.0.0.1:{free_port()}"), "desk")
    missing = QuestDbSettings(url=settings.url, username="ann", password_file=f"{tmp_path}/missing")
    with pytest.raises(StoreUnavailable, match="password"):
        QuestDbStore(missing, "desk")
