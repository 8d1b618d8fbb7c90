"""What every bus promises of a partition whose beginning is dropped (`Bus.drop`), in the same words for each."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from uuid import uuid4

import pytest
import pytest_asyncio

from trade2026.kit.bus.kafka import KafkaBus
from trade2026.kit.bus.kafka_settings import KafkaSettings
from trade2026.kit.bus.memory import MemoryBus
from trade2026.kit.bus.port import Bus, BusCorrupt, Fenced, Reader, Record, TopicConfig, Trimmed, Writer
from trade2026.kit.bus.sqlite import SqliteBus

ORDERS = "orders.events"
TOPICS = [TopicConfig(name=ORDERS, partitions=2, segment_bytes_max=30_000)]
SECONDS_MAX = 60.0

Reopen = Callable[[], Bus]


@pytest_asyncio.fixture(params=["memory", "sqlite", "kafka"])
async def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Reopen]:
    """Each call is how another process, or the next one, sees the bus."""
    memory = MemoryBus(TOPICS)
    settings = None
    if request.param == "kafka":
        settings = KafkaSettings(bootstrap_servers=request.getfixturevalue("kafka").address, prefix=uuid4().hex)
    opened: list[Bus] = []

    def reopened() -> Bus:
        if settings is not None:
            opened.append(KafkaBus(settings, TOPICS))
        else:
            opened.append(memory if request.param == "memory" else SqliteBus(tmp_path / "bus", TOPICS))
        return opened[-1]

    yield reopened
    for bus in opened:
        await bus.close()


def body_of(seq: int) -> bytes:
    """Ten of them fill a segment on the disk."""
    return b"%03000d" % seq


async def append(writer: Writer, count: int) -> None:
    """One by one, so that segments roll between them."""
    first = writer.next_seq
    for seq in range(first, first + count):
        assert await writer.append([body_of(seq)]) == seq


async def require(bus: Bus, start: int, end: int) -> None:
    """The log holds what lies between two positions, and says so."""
    assert (await bus.start(ORDERS, 0), await bus.end(ORDERS, 0)) == (start, end)
    records: list[Record] = []
    while start + len(records) < end:
        records += await bus.read(ORDERS, 0, start + len(records), end)
    assert records == [Record(ORDERS, 0, seq, body_of(seq)) for seq in range(start, end)]
    assert await bus.read(ORDERS, 0, end, 10) == []
    if start:
        for attempt in (bus.read(ORDERS, 0, start - 1, 1), bus.open_reader(ORDERS, 0, 0)):
            with pytest.raises(Trimmed, match=f"the oldest position kept is {start}"):
                await attempt
    assert await bus.inspect() == []


async def soon(reader: Reader) -> list[Record]:
    return await asyncio.wait_for(reader.read(), SECONDS_MAX)


@pytest.mark.parametrize("seed", range(3))
async def test_what_lies_after_the_position_is_read_unchanged_wherever_it_is(reopen: Reopen, seed: int) -> None:
    rng, start, end, epoch = Random(seed), 0, 0, 0
    for _ in range(4):
        bus = reopen()
        for _ in range(rng.randint(1, 3)):  # claims lie between the records
            writer = await bus.claim(ORDERS, 0, "oms")
            assert (writer.epoch, writer.next_seq) == (epoch + 1, end)
            epoch = writer.epoch
        await append(writer, count := rng.randint(1, 25))
        end += count
        for asked in sorted(rng.randint(0, end) for _ in range(2)):
            begins = await (bus if rng.random() < 0.5 else reopen()).drop(ORDERS, 0, asked)
            assert start <= begins <= max(start, asked)
            start = begins
            await require(bus, start, end)
        await require(reopen(), start, end)
        await bus.close()


async def test_it_begins_not_much_earlier_than_asked(reopen: Reopen) -> None:
    bus = reopen()
    await append(await bus.claim(ORDERS, 0, "oms"), 60)
    begins = await bus.drop(ORDERS, 0, 45)
    assert begins == 45 if not isinstance(bus, SqliteBus) else 30 < begins <= 45


async def test_when_everything_is_dropped_the_last_record_stays_and_positions_and_epochs_go_on(reopen: Reopen) -> None:
    bus = reopen()
    writer = await bus.claim(ORDERS, 0, "oms")
    await append(writer, 30)
    for round_number in range(2, 5):
        start, end = await bus.drop(ORDERS, 0, writer.next_seq), writer.next_seq
        assert 0 < start < end and (isinstance(bus, SqliteBus) or start == end - 1)
        assert await bus.read(ORDERS, 0, end - 1, 10) == [Record(ORDERS, 0, end - 1, body_of(end - 1))]
        reader = await bus.open_reader(ORDERS, 0, end)
        await append(writer, 1)
        assert await soon(reader) == [Record(ORDERS, 0, end, body_of(end))]
        await bus.drop(ORDERS, 0, end + 1)
        await bus.close()
        bus = reopen()
        writer = await bus.claim(ORDERS, 0, "oms")
        assert (writer.epoch, writer.next_seq) == (round_number, end + 1)
        await require(bus, await bus.start(ORDERS, 0), end + 1)


async def test_dropping_again_or_less_changes_nothing(reopen: Reopen) -> None:
    bus = reopen()
    await append(await bus.claim(ORDERS, 0, "oms"), 40)
    start = await bus.drop(ORDERS, 0, 35)
    assert start > 0
    for asked in (35, start, 1, 0):
        assert await reopen().drop(ORDERS, 0, asked) == start
    await require(bus, start, 40)


async def test_what_lies_beyond_the_end_is_refused(reopen: Reopen) -> None:
    bus = reopen()
    assert await bus.drop(ORDERS, 0, 0) == 0
    with pytest.raises(BusCorrupt, match=r"orders\.events/0: the log ends at 0, nothing is dropped before 1"):
        await bus.drop(ORDERS, 0, 1)
    await append(await bus.claim(ORDERS, 0, "oms"), 40)
    with pytest.raises(BusCorrupt, match="the log ends at 40, nothing is dropped before 41"):
        await bus.drop(ORDERS, 0, 41)
    await require(bus, 0, 40)


async def test_other_partitions_and_how_far_groups_are_stay_as_they_were(reopen: Reopen) -> None:
    bus = reopen()
    await append(await bus.claim(ORDERS, 0, "oms"), 40)
    await (await bus.claim(ORDERS, 1, "oms")).append([b"other"])
    await bus.commit("late", ORDERS, 0, 3)
    await bus.commit("soon", ORDERS, 0, 39)
    assert await bus.drop(ORDERS, 0, 40) > 3
    assert [await reopen().committed(group, ORDERS, 0) for group in ("late", "soon")] == [3, 39]
    assert await bus.start(ORDERS, 1) == 0
    assert await bus.read(ORDERS, 1, 0, 10) == [Record(ORDERS, 1, 0, b"other")]


async def test_an_owner_appends_and_others_follow_while_the_beginning_is_dropped(reopen: Reopen) -> None:
    owner, other = reopen(), reopen()
    writer = await owner.claim(ORDERS, 0, "oms")
    reader, left_behind = await other.open_reader(ORDERS, 0), await other.open_reader(ORDERS, 0)
    followed: list[Record] = []

    async def follow() -> None:
        while len(followed) < 300:
            followed.extend(await soon(reader))

    async def drop() -> list[int]:
        starts = [0]
        while len(followed) < 300:
            starts.append(await other.drop(ORDERS, 0, reader.next_seq))
            await asyncio.sleep(0.02)
        return [*starts, await other.drop(ORDERS, 0, 300)]

    _, _, starts = await asyncio.gather(append(writer, 300), follow(), drop())
    assert followed == [Record(ORDERS, 0, seq, body_of(seq)) for seq in range(300)]
    assert starts == sorted(starts) and starts[-1] > 0
    assert writer.epoch == 1 and await writer.append([body_of(300)]) == 300
    with pytest.raises(Trimmed):
        await left_behind.read()


async def test_who_knew_the_log_before_finds_what_is_left(reopen: Reopen) -> None:
    early, late = reopen(), reopen()
    await append(await late.claim(ORDERS, 0, "oms"), 20)
    await require(early, 0, 20)
    waits = await early.open_reader(ORDERS, 0, 20)
    for _ in range(5):
        writer = await late.claim(ORDERS, 0, "oms")
    await append(writer, 40)
    start = await late.drop(ORDERS, 0, 20)
    assert (await early.read(ORDERS, 0, 20, 1))[0] == Record(ORDERS, 0, 20, body_of(20))
    await require(early, start, 60)
    assert (await soon(waits))[0] == Record(ORDERS, 0, 20, body_of(20))
    start = await late.drop(ORDERS, 0, 55)
    await require(early, start, 60)
    assert (await soon(await early.open_reader(ORDERS, 0, start)))[0].seq == start


@pytest.mark.parametrize("had_written", [True, False])
async def test_an_owner_that_slept_while_others_wrote_and_dropped_is_fenced(reopen: Reopen, had_written: bool) -> None:
    sleeper = await reopen().claim(ORDERS, 0, "sleeper")
    if had_written:
        await append(sleeper, 1)
    bus = reopen()
    writer = await bus.claim(ORDERS, 0, "oms")
    await append(writer, 40)
    start, end = await bus.drop(ORDERS, 0, writer.next_seq), writer.next_seq
    assert start > 1
    for _ in range(2):
        with pytest.raises(Fenced):
            await sleeper.append([b"zombie"])
    await append(writer, 1)
    await require(bus, start, end + 1)
