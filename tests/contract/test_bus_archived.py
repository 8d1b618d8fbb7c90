"""A bus that has dropped what an archive holds is to its readers as one that never dropped anything."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio

from trade2026.kit.bus.archive_memory import MemoryArchive
from trade2026.kit.bus.archived import ArchivedBus, kept_of, resume_position
from trade2026.kit.bus.kafka import KafkaBus
from trade2026.kit.bus.kafka_settings import KafkaSettings
from trade2026.kit.bus.memory import MemoryBus
from trade2026.kit.bus.port import Bus, BusCorrupt, BusError, Reader, Record, TopicConfig, Trimmed
from trade2026.kit.bus.sqlite import SqliteBus

ORDERS, OTHERS = "orders.events", "risk.events"
TOPICS = [TopicConfig(name=ORDERS, segment_bytes_max=1), TopicConfig(name=OTHERS, segment_bytes_max=1)]
"""A segment for each append, so that a bus on a disk drops exactly what it is asked to."""
SECONDS_MAX = 60.0


@pytest_asyncio.fixture(params=["memory", "sqlite", "kafka"])
async def bus(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ArchivedBus]:
    kept: Bus
    if request.param == "kafka":
        address = request.getfixturevalue("kafka").address
        kept = KafkaBus(KafkaSettings(bootstrap_servers=address, prefix=uuid4().hex), TOPICS)
    else:
        kept = MemoryBus(TOPICS) if request.param == "memory" else SqliteBus(tmp_path / "bus", TOPICS)
    made = ArchivedBus(kept, MemoryArchive(), [ORDERS])
    yield made
    await made.close()


def records(first: int, end: int) -> list[Record]:
    return [Record(ORDERS, 0, seq, b'{"n":%d}' % seq) for seq in range(first, end)]


async def append(bus: Bus, end: int, topic: str = ORDERS) -> None:
    writer = await bus.claim(topic, 0, "oms")
    for seq in range(writer.next_seq, end):
        await writer.append([b'{"n":%d}' % seq])
    await writer.close()


async def archive(bus: ArchivedBus, end: int) -> None:
    extent = await bus.archive.extent(ORDERS, 0)
    first = extent.next_seq if extent is not None else await bus.kept.start(ORDERS, 0)
    await bus.archive.write(await bus.kept.read(ORDERS, 0, first, end - first))


async def move(bus: ArchivedBus, end: int) -> None:
    """Archive and drop."""
    await archive(bus, end)
    assert await bus.drop(ORDERS, 0, end) == await bus.kept.start(ORDERS, 0) == end


async def read_all(bus: Bus, first: int = 0) -> list[Record]:
    found: list[Record] = []
    while more := await bus.read(ORDERS, 0, first + len(found), 7):
        found += more
    return found


async def read_to(reader: Reader, end: int) -> list[Record]:
    found: list[Record] = []
    while reader.next_seq < end:
        found += await asyncio.wait_for(reader.read(4), SECONDS_MAX)
    return found


async def test_everything_is_read_as_before_wherever_one_begins(bus: ArchivedBus) -> None:
    await append(bus, 30)
    await move(bus, 12)
    await move(bus, 20)
    assert (await bus.start(ORDERS, 0), await bus.end(ORDERS, 0)) == (0, 30)
    for first in (0, 11, 12, 19, 20, 29, 30):
        assert await read_all(bus, first) == records(first, 30)


async def test_a_follower_from_the_first_record_reaches_the_end_and_is_woken_there(bus: ArchivedBus) -> None:
    await append(bus, 20)
    await move(bus, 15)
    reader = await bus.open_reader(ORDERS, 0, 2)
    assert await read_to(reader, 20) == records(2, 20)
    waiting = asyncio.ensure_future(read_to(reader, 23))
    await append(bus, 23)
    assert await waiting == records(20, 23)
    await reader.close()
    with pytest.raises(BusError, match="the reader is closed"):
        await reader.read()


async def test_a_follower_that_the_beginning_overtakes_goes_on_in_the_archive(bus: ArchivedBus) -> None:
    await append(bus, 30)
    reader = await bus.open_reader(ORDERS, 0, 0)
    found = await asyncio.wait_for(reader.read(3), SECONDS_MAX)
    await move(bus, 25)
    found += await read_to(reader, 27)
    await append(bus, 40)
    await move(bus, 38)
    assert found + await read_to(reader, 40) == records(0, 40)
    await reader.close()


async def test_only_what_the_archive_has_is_dropped(bus: ArchivedBus) -> None:
    await append(bus, 20)
    with pytest.raises(BusError, match="0 to 4 is not dropped"):
        await bus.drop(ORDERS, 0, 5)
    await archive(bus, 10)
    with pytest.raises(BusError, match="0 to 10 is not dropped"):
        await bus.drop(ORDERS, 0, 11)
    assert await bus.kept.start(ORDERS, 0) == 0
    assert await bus.drop(ORDERS, 0, 10) == 10
    assert await bus.drop(ORDERS, 0, 10) == 10


async def test_what_neither_has_is_trimmed_and_what_was_read_beyond_the_end_is_lost(bus: ArchivedBus) -> None:
    await append(bus, 20)
    await bus.kept.drop(ORDERS, 0, 5)
    await archive(bus, 12)
    await bus.drop(ORDERS, 0, 10)
    assert await bus.start(ORDERS, 0) == 5
    for ask in (bus.read(ORDERS, 0, 4, 1), bus.open_reader(ORDERS, 0, 4)):
        with pytest.raises(Trimmed, match="the log begins at 10 and the lake has 5 to 11 of it: 4 is gone"):
            await ask
    with pytest.raises(BusCorrupt):
        await bus.open_reader(ORDERS, 0, 21)


async def test_a_log_whose_dropped_beginning_is_nowhere_does_not_pass_for_a_whole_one(bus: ArchivedBus) -> None:
    await append(bus, 20)
    await archive(bus, 5)
    await bus.kept.drop(ORDERS, 0, 8)
    with pytest.raises(Trimmed, match="the log begins at 8 and the lake has 0 to 4 of it: 7 is gone"):
        await bus.start(ORDERS, 0)
    with pytest.raises(Trimmed, match="6 is gone"):
        await bus.read(ORDERS, 0, 6, 10)
    assert await read_all(bus, 8) == records(8, 20)


async def test_topics_that_are_not_archived_are_as_the_bus_has_them(bus: ArchivedBus) -> None:
    await append(bus, 10, OTHERS)
    assert await bus.drop(OTHERS, 0, 6) == await bus.start(OTHERS, 0) == 6
    with pytest.raises(Trimmed):
        await bus.read(OTHERS, 0, 5, 1)
    with pytest.raises(Trimmed):
        await bus.open_reader(OTHERS, 0, 5)
    assert [await resume_position(bus, OTHERS, 0, position) for position in (0, 5, 6, 9, 10)] == [6, 6, 6, 9, 10]
    assert await resume_position(bus, ORDERS, 0, 0) == 0
    assert kept_of(bus) is bus.kept and kept_of(bus.kept) is bus.kept
