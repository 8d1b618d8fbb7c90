"""A log from SQLite journals to a real Kafka, rows from DuckDB to a real QuestDB: the same, also when cut short."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
import pytest_asyncio
from tests.checker_kafka import read_raw
from tests.waiting import until

from trade2026.kit.bus.kafka import KafkaBus
from trade2026.kit.bus.kafka_settings import KafkaSettings
from trade2026.kit.bus.port import TopicConfig, Trimmed
from trade2026.kit.bus.sqlite import SqliteBus
from trade2026.local.infra.component import Component
from trade2026.local.migration import log, series
from trade2026.local.migration.moves import MigrationRefused
from trade2026.stores.timeseries.duckdb_store import DuckDbStore
from trade2026.stores.timeseries.port import Batch
from trade2026.stores.timeseries.questdb_http import QuestDbSettings
from trade2026.stores.timeseries.questdb_store import QuestDbStore, set_aside
from trade2026.stores.timeseries.schema import TABLES, Kind, Row

ORDERS = TopicConfig(name="orders.events")
TICKS = TopicConfig(name="market.ticks", durable=False, segment_bytes_max=300_000, retention_bytes_max=900_000)
TOPICS = [ORDERS, TICKS]
NS = 1_700_000_000 * 10**9


class Killed(Exception):
    """In the place of `kill -9`: nothing that comes after is done."""


def nothing(what: str, done: int, total: int) -> None:
    pass


def killed(what: str, done: int, total: int) -> None:
    raise Killed


async def write(bus: SqliteBus | KafkaBus, topic: str, count: int, size: int = 0) -> None:
    """As one more owner."""
    writer = await bus.claim(topic, 0, "test")
    for first in range(0, count, 100):
        numbers = range(writer.next_seq, writer.next_seq + min(100, count - first))
        await writer.append(
            [b'{"seq":%d,"epoch":%d,"data":{"type":"T"},"x":"%s"}' % (n, writer.epoch, b"x" * size) for n in numbers]
        )
    await writer.close()


@pytest_asyncio.fixture
async def source(tmp_path: Path) -> AsyncIterator[SqliteBus]:
    bus = SqliteBus(tmp_path / "bus", TOPICS)
    yield bus
    await bus.close()


@pytest.fixture
def prefix() -> str:
    return f"t{uuid4().hex[:12]}"


@pytest_asyncio.fixture
async def target(kafka: Component, prefix: str) -> AsyncIterator[KafkaBus]:
    bus = KafkaBus(KafkaSettings(bootstrap_servers=kafka.address, prefix=prefix), TOPICS)
    yield bus
    await bus.close()


async def move(source: SqliteBus, target: KafkaBus, told: log.Told = nothing) -> int:
    extents = await log.extents_of(source, TOPICS)
    steps = [await log.look(source, target, extent) for extent in extents]
    moved = sum([await log.move(source, target, step, told) for step in steps])
    await log.copy_groups(source, target, extents)
    for extent in extents:
        compared = await log.compare(source, target, extent, nothing)
        assert compared.records == extent.records
    return moved


async def test_a_log_keeps_positions_and_epochs_also_where_its_beginning_was_dropped(
    source: SqliteBus, target: KafkaBus, kafka: Component, prefix: str
) -> None:
    for _ in range(3):
        await write(source, "orders.events", 700)
    await write(source, "market.ticks", 6_000, size=300)
    await source.commit("risk", "orders.events", 0, 1_234)
    await source.claim("orders.events", 0, "one that wrote nothing")
    start, end = await source.start("market.ticks", 0), await source.end("market.ticks", 0)
    assert start > 1_000, "its beginning was dropped"

    assert await move(source, target) == 2_100 + end - start
    assert await move(source, target) == 0, "nothing is copied twice"
    raw = await asyncio.to_thread(read_raw, kafka.address, f"{prefix}.market.ticks")
    assert (raw.first, len(raw.bodies)) == (start, end - start)
    raw = await asyncio.to_thread(read_raw, kafka.address, f"{prefix}.orders.events")
    assert raw.epochs == [1] * 700 + [2] * 700 + [3] * 700

    assert await target.committed("risk", "orders.events", 0) == 1_234
    assert await target.start("market.ticks", 0) == start
    with pytest.raises(Trimmed):
        await target.read("market.ticks", 0, start - 1, 1)
    reader = await target.open_reader("market.ticks", 0, end - 3)
    assert [record.seq for record in await reader.read()] == [end - 3, end - 2, end - 1]
    writer = await target.claim("orders.events", 0, "the stack")
    assert (writer.epoch, writer.next_seq) == (5, 2_100)
    assert await writer.append([b"{}"]) == 2_100


async def test_a_move_that_was_cut_short_goes_on_where_it_was(
    source: SqliteBus, target: KafkaBus, kafka: Component, prefix: str
) -> None:
    await write(source, "orders.events", 5_000)
    with pytest.raises(Killed):
        await move(source, target, killed)
    again = KafkaBus(KafkaSettings(bootstrap_servers=kafka.address, prefix=prefix), TOPICS)
    try:
        assert await move(source, again) == 3_000
    finally:
        await again.close()
    raw = await asyncio.to_thread(read_raw, kafka.address, f"{prefix}.orders.events")
    assert (len(raw.bodies), raw.ignored) == (5_000, 0)


async def test_what_a_bounded_topic_drops_again_is_counted(target: KafkaBus, tmp_path: Path) -> None:
    kept = msgspec.structs.replace(TICKS, retention_bytes_max=3_000_000)
    source = SqliteBus(tmp_path / "larger", [kept])
    await write(source, "market.ticks", 30_000)
    (extent,) = await log.extents_of(source, [kept])
    step = await log.look(source, target, extent)
    await log.move(source, target, step, nothing)
    start = await until(lambda: later_start(target, extent.start), "Kafka drops the oldest segment")
    compared = await log.compare(source, target, extent, nothing)
    assert compared.dropped >= start - extent.start > 0
    assert compared.records == extent.records - compared.dropped
    assert (await log.look(source, target, extent)).finished
    await source.close()


async def later_start(target: KafkaBus, start: int) -> int:
    now = await target.start("market.ticks", 0)
    return now if now > start else 0


async def test_a_log_that_went_on_before_it_was_used_there_is_caught_up_with(
    source: SqliteBus, target: KafkaBus
) -> None:
    await write(source, "orders.events", 50)
    await move(source, target)
    await write(source, "orders.events", 20)
    assert await move(source, target) == 20


async def test_topics_with_another_log_are_refused(source: SqliteBus, target: KafkaBus) -> None:
    await write(target, "orders.events", 10, size=3)
    await write(source, "orders.events", 20)
    with pytest.raises(MigrationRefused, match=r"orders\.events/0: what is at 9 on Kafka is another record"):
        await move(source, target)


async def test_a_record_that_differs_is_found(source: SqliteBus, target: KafkaBus, tmp_path: Path) -> None:
    other = SqliteBus(tmp_path / "other", TOPICS)
    await write(other, "orders.events", 30, size=3)
    await write(source, "orders.events", 30)
    try:
        await move(other, target)
        (extent, _) = await log.extents_of(source, TOPICS)
        with pytest.raises(MigrationRefused, match="what is at 0 on Kafka is another record"):
            await log.compare(source, target, extent, nothing)
    finally:
        await other.close()


# ── time series ─────────────────────────────────────────────────────────────────────────────


def rows_of(name: str, count: int) -> list[Row]:
    """With quotes, missing values, and amounts that have more digits than a float."""
    table, rows = TABLES[name], list[Row]()
    for n in range(count):
        row: list[object] = []
        for column in table.columns:
            match column.kind:
                case Kind.TIMESTAMP:
                    row.append(NS + n * 7_000_000_000_000 if column.name == "timestamp" else (n % 3) * NS)
                case Kind.LONG:
                    row.append(n)
                case Kind.DOUBLE if column.amount:
                    row.append(n * 123_456_789_123_457)
                case Kind.DOUBLE:
                    row.append(n / 7)
                case _:
                    row.append(f'{column.name} "{n}", a=b' if n % 4 or column.name in table.keys else "")
        rows.append(tuple(row))
    return rows


@pytest.fixture
def settings(questdb: Component) -> QuestDbSettings:
    found = QuestDbSettings(url=f"http://{questdb.address}")
    set_aside(found)
    return found


@pytest.fixture
def embedded(tmp_path: Path) -> Path:
    path = tmp_path / "series.duckdb"
    store = DuckDbStore(path)
    store.write(Batch({name: rows_of(name, 40) for name in TABLES}, {("market.ticks", 0): 40}, {"order:o0-1": b"{}"}))
    store.close()
    return path


def test_rows_and_the_positions_that_they_reach_are_the_same_also_when_it_was_cut_short(
    settings: QuestDbSettings, embedded: Path, tmp_path: Path
) -> None:
    before = embedded.read_bytes()
    source = series.SeriesCopy(embedded, tmp_path / "copy")
    source.open()
    with pytest.raises(Killed):
        series.move(source, settings, "desk", "m1", killed)
    again = series.SeriesCopy(embedded, tmp_path / "copy")
    again.open()
    series.require_ours(settings, "desk", "m1")
    assert series.move(again, settings, "desk", "m1", nothing) == 40 * (len(TABLES) - 1), "the first table was there"
    assert series.move(again, settings, "desk", "m1", nothing) == 0
    series.compare(again, settings, "desk", nothing)
    store = QuestDbStore(settings, "desk")
    assert store.offsets() == {("market.ticks", 0): 40}
    assert store.state()["order:o0-1"] == b"{}"
    store.write(Batch({"ticks": rows_of("ticks", 40)}))
    assert store.tables()["ticks"].rows == 40, "a row that comes again takes its own place"
    store.close()
    again.remove()
    assert embedded.read_bytes() == before and not (tmp_path / "copy").exists()


def test_a_questdb_that_holds_something_else_is_refused(
    settings: QuestDbSettings, embedded: Path, tmp_path: Path
) -> None:
    store = QuestDbStore(settings, "desk")
    store.write(Batch({"ticks": rows_of("ticks", 3)}))
    store.close()
    with pytest.raises(MigrationRefused, match="holds 3 rows that are not of this move"):
        series.require_ours(settings, "desk", "m1")


def test_a_row_that_differs_is_found(settings: QuestDbSettings, embedded: Path, tmp_path: Path) -> None:
    source = series.SeriesCopy(embedded, tmp_path / "copy")
    source.open()
    series.move(source, settings, "desk", "m1", nothing)
    store = QuestDbStore(settings, "desk")
    (*_, last) = rows_of("ticks", 40)
    store.write(Batch({"ticks": [(*last[:4], last[4] + 10**9, *last[5:])]}))
    store.close()
    with pytest.raises(MigrationRefused, match="ticks: QuestDB has"):
        series.compare(source, settings, "desk", nothing)


def test_a_stack_without_time_series_moves_none(settings: QuestDbSettings, tmp_path: Path) -> None:
    source = series.SeriesCopy(tmp_path / "none", tmp_path / "copy")
    source.open()
    assert series.move(source, settings, "desk", "m1", nothing) == 0
    series.compare(source, settings, "desk", nothing)
