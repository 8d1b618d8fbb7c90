"""What every bus promises (`kit/bus/port.py`), asked of each backend in the same words."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from uuid import uuid4

import pytest
import pytest_asyncio
from tests.waiting import until

from trade2026.kit.bus.kafka import KafkaBus
from trade2026.kit.bus.kafka_settings import KafkaSettings
from trade2026.kit.bus.memory import MemoryBus
from trade2026.kit.bus.port import Bus, BusCorrupt, BusError, Fenced, Reader, Record, TopicConfig, Trimmed
from trade2026.kit.bus.sqlite import SqliteBus
from trade2026.kit.clock import ManualClock
from trade2026.kit.lag import LagWatch, Position
from trade2026.kit.metrics import Metrics

ORDERS = "orders.events"
TICKS = "market.ticks"
SHORT = "short"
TOPICS = [
    TopicConfig(name=ORDERS, partitions=2),
    TopicConfig(name=TICKS, durable=False),
    TopicConfig(name=SHORT, segment_bytes_max=1024 * 1024, retention_bytes_max=1024 * 1024),  # the least on Kafka
]
WOKEN_SECONDS_MAX = 60.0
"""Nobody looks by itself: who is not woken waits for ever, so this may be long."""


@pytest_asyncio.fixture(params=["memory", "memory with delays", "sqlite", "kafka"])
async def bus(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bus]:
    made: Bus
    if request.param == "sqlite":
        made = SqliteBus(tmp_path / "bus", TOPICS)
    elif request.param == "kafka":
        made = KafkaBus(kafka_settings(request), TOPICS)
    elif request.param == "memory":
        made = MemoryBus(TOPICS)
    else:
        delays = Random(7)
        made = MemoryBus(TOPICS, delay=lambda: delays.choice((0.0, 0.001, 0.003)))
    yield made
    await made.close()


@pytest_asyncio.fixture(params=["memory", "sqlite", "kafka"])
async def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Callable[[], Bus]]:
    """A bus whose processes come and go: each call is how a new process sees it."""
    memory = MemoryBus(TOPICS)
    brokers = kafka_settings(request) if request.param == "kafka" else None
    opened: list[Bus] = []

    def reopened() -> Bus:
        if brokers is not None:
            opened.append(KafkaBus(brokers, TOPICS))
        else:
            opened.append(memory if request.param == "memory" else SqliteBus(tmp_path / "bus", TOPICS))
        return opened[-1]

    yield reopened
    for bus in opened:
        await bus.close()


def kafka_settings(request: pytest.FixtureRequest) -> KafkaSettings:
    """Topics of its own for each test, on the broker of this run."""
    return KafkaSettings(bootstrap_servers=request.getfixturevalue("kafka").address, prefix=uuid4().hex)


def bodies_of(records: list[Record]) -> list[bytes]:
    return [record.body for record in records]


async def soon(reader: Reader, records_max: int = 1000) -> list[Record]:
    return await asyncio.wait_for(reader.read(records_max), WOKEN_SECONDS_MAX)


async def read_until(reader: Reader, end: int) -> list[Record]:
    records: list[Record] = []
    while reader.next_seq < end:
        records += await soon(reader)
    return records


async def test_an_empty_partition_starts_and_ends_at_zero(bus: Bus) -> None:
    assert await bus.start(ORDERS, 0) == await bus.end(ORDERS, 0) == 0
    assert await bus.read(ORDERS, 0, 0, 10) == []
    writer = await bus.claim(ORDERS, 0, "oms")
    assert (writer.topic, writer.partition, writer.epoch, writer.next_seq) == (ORDERS, 0, 1, 0)


@pytest.mark.parametrize("topic", [ORDERS, TICKS])
async def test_positions_have_no_gap_and_follow_the_order_of_appends(bus: Bus, topic: str) -> None:
    writer = await bus.claim(topic, 0, "oms")
    assert await writer.append([b"a", b"b", b"c"]) == 2
    assert await writer.append([b"d"]) == 3
    assert await bus.read(topic, 0, 0, 10) == [Record(topic, 0, n, b"abcd"[n : n + 1]) for n in range(4)]
    assert writer.next_seq == await bus.end(topic, 0) == 4


async def test_the_next_position_is_known_before_the_append_is_durable(bus: Bus) -> None:
    writer = await bus.claim(ORDERS, 0, "oms")
    first = writer.append([b"a", b"b"])
    assert (writer.next_seq, first.done()) == (2, False)
    second = writer.append([b"c"])
    assert writer.next_seq == 3
    assert await asyncio.gather(first, second) == [1, 2]


async def test_whoever_follows_is_seen_to_be_behind_in_records_and_in_seconds(bus: Bus) -> None:
    metrics, clock = Metrics(), ManualClock()
    writer = await bus.claim(ORDERS, 1, "oms")
    await writer.append([b'{"ts_init":%d}' % (clock.now() - age * 10**9) for age in (9, 5, 2)])
    position = {"next_seq": 1}
    watch = LagWatch(bus, clock, metrics)
    watching = asyncio.create_task(watch.run(lambda: [("pnl", [Position(ORDERS, 1, position["next_seq"])])], 0.01))

    async def shown(events: int, seconds: float) -> None:
        labels = f'{{partition="1",service="pnl",topic="{ORDERS}"}}'
        expected = [f"trade2026_follower_lag_events{labels} {events}\n"]
        expected.append(f"trade2026_follower_lag_seconds{labels} {seconds}\n")
        expected.append(f"trade2026_follower_position{labels} {3 - events}\n")
        await until(lambda: all(line in metrics.text("pnl") for line in expected), f"a lag of {events}")
        assert watch.of("pnl") == {f"{ORDERS}/1": {"events": events, "seconds": seconds}}
        assert watch.of("ptrc") == {}

    try:
        await shown(2, 5.0)
        clock.advance(10**9)
        await shown(2, 6.0)
        position["next_seq"] = 3
        await shown(0, 0.0)
    finally:
        watching.cancel()


async def test_partitions_are_independent(bus: Bus) -> None:
    left, right = await bus.claim(ORDERS, 0, "oms"), await bus.claim(ORDERS, 1, "oms")
    assert await asyncio.gather(left.append([b"left"]), right.append([b"right"])) == [0, 0]
    assert bodies_of(await bus.read(ORDERS, 1, 0, 10)) == [b"right"]


async def test_an_acknowledged_record_is_there_for_every_reader(bus: Bus) -> None:
    writer = await bus.claim(ORDERS, 0, "oms")
    reader = await bus.open_reader(ORDERS, 0)
    for n in range(50):
        position = await writer.append([b"%d" % n])
        assert await bus.end(ORDERS, 0) == position + 1
        assert bodies_of(await bus.read(ORDERS, 0, position, 10)) == [b"%d" % n]
        assert bodies_of(await soon(reader)) == [b"%d" % n]


async def test_the_records_of_one_append_become_visible_together(bus: Bus) -> None:
    writer = await bus.claim(ORDERS, 0, "oms")
    ends = set()
    for _ in range(30):
        appended = writer.append([b"x"] * 7)
        while not appended.done():
            ends.add(await bus.end(ORDERS, 0))
            await asyncio.sleep(0.0001)  # the writer is a thread: it needs its turns
        ends.add(await bus.end(ORDERS, 0))
    assert max(ends) == 210
    assert [end for end in sorted(ends) if end % 7] == []


async def test_an_append_of_any_size_is_acknowledged_and_read_back(bus: Bus) -> None:
    """Such as the cancellation of 60,000 orders: reducing risk must not depend on how much of it there is."""
    writer = await bus.claim(ORDERS, 0, "oms")
    bodies = [b"%0650d" % n for n in range(60_000)]
    assert await asyncio.gather(writer.append([b"before"]), writer.append(bodies), writer.append([b"after"])) == [
        0,
        60_000,
        60_001,
    ]
    position, found = 0, list[bytes]()
    while position < writer.next_seq:
        found += bodies_of(await bus.read(ORDERS, 0, position, 30_000))
        position = len(found)
    assert found == [b"before", *bodies, b"after"]


async def test_replay_begins_at_any_position(bus: Bus) -> None:
    writer = await bus.claim(ORDERS, 0, "oms")
    for first in (0, 5, 6, 16):
        size = {0: 5, 5: 1, 6: 10, 16: 4}[first]
        await writer.append([b"%d" % n for n in range(first, first + size)])
    expected = [b"%d" % n for n in range(20)]
    for position in range(21):
        assert bodies_of(await bus.read(ORDERS, 0, position, 100)) == expected[position:]
        assert bodies_of(await bus.read(ORDERS, 0, position, 3)) == expected[position : position + 3]
    reader = await bus.open_reader(ORDERS, 0, 7)
    taken = [await soon(reader, 4) for _ in range(4)]
    assert [bodies_of(records) for records in taken] == [
        expected[7:11],
        expected[11:15],
        expected[15:19],
        expected[19:],
    ]
    assert reader.next_seq == 20


async def test_a_waiting_reader_is_woken(bus: Bus) -> None:
    reader = await bus.open_reader(ORDERS, 0)
    waiting = asyncio.ensure_future(soon(reader))
    writer = await bus.claim(ORDERS, 0, "oms")
    for n in range(20):
        writer.append([b"%d" % n])
        records = await waiting
        assert bodies_of(records) == [b"%d" % n]
        waiting = asyncio.ensure_future(soon(reader))
        await asyncio.sleep(0)
        assert not waiting.done()
    waiting.cancel()


async def test_a_cancelled_read_takes_nothing_with_it(bus: Bus) -> None:
    reader, other = await bus.open_reader(ORDERS, 0), await bus.open_reader(ORDERS, 0)
    cancelled, waiting = asyncio.ensure_future(reader.read()), asyncio.ensure_future(soon(other))
    await asyncio.sleep(0)
    cancelled.cancel()
    await (await bus.claim(ORDERS, 0, "oms")).append([b"a"])
    assert bodies_of(await waiting) == bodies_of(await soon(reader)) == [b"a"]


async def test_closing_a_reader_ends_its_waiting(bus: Bus) -> None:
    reader = await bus.open_reader(ORDERS, 0)
    waiting = asyncio.ensure_future(soon(reader))
    await asyncio.sleep(0)
    await reader.close()
    with pytest.raises(BusError, match="closed"):
        await waiting


async def test_a_second_claim_fences_the_first_writer(bus: Bus) -> None:
    first = await bus.claim(ORDERS, 0, "oms-1")
    await first.append([b"a"])
    second = await bus.claim(ORDERS, 0, "oms-2")
    assert (first.epoch, second.epoch, second.next_seq) == (1, 2, 1)
    with pytest.raises(Fenced):
        await first.append([b"zombie"])
    assert await second.append([b"b"]) == 1
    with pytest.raises(Fenced):
        await first.append([b"zombie again"])
    assert bodies_of(await bus.read(ORDERS, 0, 0, 10)) == [b"a", b"b"]


async def test_a_claim_cuts_pipelined_appends_in_two_acknowledged_and_never_written(bus: Bus) -> None:
    first = await bus.claim(ORDERS, 0, "oms-1")
    pipelined = [first.append([b"first %d" % n, b"of two"]) for n in range(200)]
    second = await bus.claim(ORDERS, 0, "oms-2")
    pipelined += [first.append([b"late"]) for _ in range(20)]
    assert await second.append([b"second"]) == second.next_seq - 1
    answers = await asyncio.gather(*pipelined, return_exceptions=True)
    acknowledged = [answer for answer in answers if isinstance(answer, int)]
    assert answers[: len(acknowledged)] == acknowledged == [2 * n + 1 for n in range(len(acknowledged))]
    assert {type(answer) for answer in answers[len(acknowledged) :]} == {Fenced}
    records = bodies_of(await bus.read(ORDERS, 0, 0, 1000))
    assert len(records) == 2 * len(acknowledged) + 1
    assert records[-1] == b"second"


async def test_the_epoch_rises_by_one_with_every_claim_across_reopening(reopen: Callable[[], Bus]) -> None:
    epochs = []
    for _ in range(4):
        bus = reopen()
        writer = await bus.claim(ORDERS, 0, "oms")
        assert await writer.append([b"x"]) == writer.epoch - 1
        epochs.append(writer.epoch)
        await bus.close()
    assert epochs == [1, 2, 3, 4]
    assert [record.seq for record in await reopen().read(ORDERS, 0, 0, 10)] == [0, 1, 2, 3]


async def test_the_position_of_a_group_survives_reopening(reopen: Callable[[], Bus]) -> None:
    bus = reopen()
    assert await bus.committed("ptrc", ORDERS, 0) == 0
    await bus.commit("ptrc", ORDERS, 0, 41)
    await bus.commit("ptrc", ORDERS, 0, 42)
    await bus.commit("ptrc", TICKS, 0, 7)
    await bus.commit("pnl", ORDERS, 0, 3)
    await bus.close()
    bus = reopen()
    assert [await bus.committed(group, ORDERS, 0) for group in ("ptrc", "pnl", "risk")] == [42, 3, 0]
    assert await bus.committed("ptrc", TICKS, 0) == 7


async def test_going_on_beyond_the_end_means_that_the_log_lost_records(bus: Bus) -> None:
    await (await bus.claim(ORDERS, 0, "oms")).append([b"a", b"b"])
    await bus.open_reader(ORDERS, 0, 2)
    with pytest.raises(BusCorrupt, match="ends at 2 but 3 was read before"):
        await bus.open_reader(ORDERS, 0, 3)


async def test_what_is_no_longer_retained_is_refused_and_the_rest_is_whole(bus: Bus) -> None:
    writer = await bus.claim(SHORT, 0, "oms")
    reader = await bus.open_reader(SHORT, 0)
    for n in range(40):
        await writer.append([b"%050000d" % n, b"%050000d" % n])
    async with asyncio.timeout(WOKEN_SECONDS_MAX):  # a broker drops when it comes to it
        while not await bus.start(SHORT, 0):
            await asyncio.sleep(0.05)
    start = -1
    while start != await bus.start(SHORT, 0):  # it may drop more meanwhile
        start, end = await bus.start(SHORT, 0), await bus.end(SHORT, 0)
        assert 0 < start < end == 80
        for attempt in (bus.read(SHORT, 0, start - 1, 1), bus.open_reader(SHORT, 0, start - 1), reader.read()):
            with pytest.raises(Trimmed, match="the oldest position kept is"):
                await attempt
    kept = await bus.read(SHORT, 0, start, 1000)
    assert [(record.seq, int(record.body[-9:])) for record in kept] == [(n, n // 2) for n in range(start, end)]


async def test_closing_a_writer_first_writes_what_waits(bus: Bus) -> None:
    writer = await bus.claim(ORDERS, 0, "oms")
    appends = [writer.append([b"%d" % n]) for n in range(500)]
    await writer.close()
    assert [append.result() for append in appends] == list(range(500))
    await writer.close()
    with pytest.raises(BusError, match="closed"):
        await writer.append([b"late"])
    assert await bus.end(ORDERS, 0) == 500


@pytest.mark.parametrize("seed", range(5))
async def test_concurrent_appends_are_acknowledged_in_order_and_followed_without_a_gap(bus: Bus, seed: int) -> None:
    rng = Random(seed)
    writer = await bus.claim(ORDERS, 0, "oms")
    readers = [await bus.open_reader(ORDERS, 0) for _ in range(3)]
    expected: list[bytes] = []
    acknowledged: list[int] = []
    lasts: list[int] = []

    async def produce(producer: int) -> None:
        for n in range(rng.randint(30, 60)):
            bodies = [b'{"by":%d,"n":%d,"i":%d}' % (producer, n, i) for i in range(rng.randint(1, 9))]
            expected.extend(bodies)
            append = writer.append(bodies)
            lasts.append(writer.next_seq - 1)
            append.add_done_callback(lambda done: acknowledged.append(done.result()))
            for _ in range(rng.randint(0, 3)):
                await asyncio.sleep(0)
            if rng.random() < 0.3:
                await append

    await asyncio.gather(*(produce(n) for n in range(8)))
    followed = await asyncio.gather(*(read_until(reader, writer.next_seq) for reader in readers))
    await writer.close()
    assert acknowledged == lasts
    for records in followed:
        assert [record.seq for record in records] == list(range(len(expected)))
        assert bodies_of(records) == expected
