"""What every bus must keep, whichever it is."""

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from trade2026.kit.bus.memory import MemoryBus
from trade2026.kit.bus.port import Bus, BusCorrupt, BusError, BusFull, Fenced, TopicConfig, Trimmed
from trade2026.kit.bus.sqlite import SqliteBus

TOPICS = [TopicConfig(name="orders.events"), TopicConfig(name="market.ticks", durable=False)]
TOPIC = "orders.events"


def sqlite_bus(root: Path, **terms: int) -> SqliteBus:
    return SqliteBus(root, [TopicConfig(name=TOPIC, **terms)] if terms else TOPICS)


@pytest.fixture(params=["memory", "sqlite"])
async def bus(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bus]:
    made: Bus = MemoryBus(TOPICS) if request.param == "memory" else sqlite_bus(tmp_path)
    yield made
    await made.close()


async def bodies(bus: Bus, from_seq: int = 0) -> list[bytes]:
    return [record.body for record in await bus.read(TOPIC, 0, from_seq, 100_000)]


async def test_records_keep_their_order_and_their_positions_have_no_gap(bus: Bus) -> None:
    writer = await bus.claim(TOPIC, 0, "a")
    answers = [writer.append([b"%d" % number, b"%d+" % number]) for number in range(50)]
    assert [await answer for answer in answers] == list(range(1, 100, 2))
    records = await bus.read(TOPIC, 0, 0, 1000)
    assert [record.seq for record in records] == list(range(100))
    assert [record.body for record in records[:4]] == [b"0", b"0+", b"1", b"1+"]
    assert await bus.end(TOPIC, 0) == writer.next_seq == 100
    await writer.close()


async def test_what_is_acknowledged_can_be_read_by_anybody(bus: Bus) -> None:
    writer = await bus.claim(TOPIC, 0, "a")
    await writer.append([b"one"])
    reader = await bus.open_reader(TOPIC, 0)
    assert [record.body for record in await reader.read()] == [b"one"]
    await reader.close()
    await writer.close()


async def test_replay_begins_at_any_position(bus: Bus) -> None:
    writer = await bus.claim(TOPIC, 0, "a")
    await writer.append([b"%d" % number for number in range(10)])
    await writer.append([b"%d" % number for number in range(10, 20)])
    for start in (0, 3, 10, 19):
        assert await bodies(bus, start) == [b"%d" % number for number in range(start, 20)]
    assert await bodies(bus, 20) == []
    await writer.close()


async def test_a_reader_that_waits_is_woken_by_an_append(bus: Bus) -> None:
    writer = await bus.claim(TOPIC, 0, "a")
    reader = await bus.open_reader(TOPIC, 0)
    reading = asyncio.ensure_future(reader.read())
    await asyncio.sleep(0)
    assert not reading.done()
    await writer.append([b"one"])
    assert [record.body for record in await asyncio.wait_for(reading, 2)] == [b"one"]
    await reader.close()
    await writer.close()


async def test_a_later_owner_fences_the_earlier_one_even_with_appends_under_way(bus: Bus) -> None:
    first = await bus.claim(TOPIC, 0, "a")
    await first.append([b"one"])
    second = await bus.claim(TOPIC, 0, "b")
    assert second.epoch == first.epoch + 1
    zombie = [first.append([b"zombie"]), first.append([b"zombie"])]
    for answer in zombie:
        with pytest.raises(Fenced):
            await answer
    with pytest.raises(Fenced):
        await first.append([b"zombie"])
    await second.append([b"two"])
    assert await bodies(bus) == [b"one", b"two"]
    await first.close()
    await second.close()


async def test_many_writers_at_once_each_hear_their_own_position(bus: Bus) -> None:
    writer = await bus.claim(TOPIC, 0, "a")

    async def say(name: int) -> tuple[int, bytes]:
        body = b"%d" % name
        return await writer.append([body]), body

    heard = dict(await asyncio.gather(*(say(name) for name in range(200))))
    assert [heard[position] for position in range(200)] == await bodies(bus)
    await writer.close()


async def test_a_group_goes_on_where_it_committed(bus: Bus) -> None:
    assert await bus.committed("g", TOPIC, 0) == 0
    await bus.commit("g", TOPIC, 0, 7)
    await bus.commit("g", TOPIC, 0, 9)
    assert await bus.committed("g", TOPIC, 0) == 9
    assert await bus.committed("other", TOPIC, 0) == 0


async def test_a_position_beyond_the_end_means_that_the_log_lost_its_tail(bus: Bus) -> None:
    with pytest.raises(BusCorrupt):
        await bus.open_reader(TOPIC, 0, 1)


async def test_an_unknown_topic_is_named(bus: Bus) -> None:
    with pytest.raises(BusError, match=r"nowhere/0"):
        await bus.claim("nowhere", 0, "a")


async def test_without_room_nothing_is_written_and_the_writer_is_dead() -> None:
    bus = MemoryBus(TOPICS)
    writer = await bus.claim(TOPIC, 0, "a")
    bus.full = True
    with pytest.raises(BusFull):
        await writer.append([b"one"])
    bus.full = False
    with pytest.raises(BusFull):
        await writer.append([b"two"])
    assert await bodies(bus) == []


async def test_a_crash_in_memory_keeps_a_prefix_and_answers_nobody() -> None:
    kept = set()
    for seed in range(20):
        bus = MemoryBus(TOPICS, delay=lambda: 1.0)
        writer = await bus.claim(TOPIC, 0, "a")
        answers = [writer.append([b"%d" % number]) for number in range(3)]
        bus.crash("a", random.Random(seed))
        left = await bodies(bus)
        assert left == [b"0", b"1", b"2"][: len(left)]
        assert not any(answer.done() for answer in answers)
        kept.add(len(left))
    assert kept == {0, 1, 2, 3}


# ── SQLite only ────────────────────────────────────────────────────────────────────────────────


async def test_epochs_and_offsets_survive_a_restart(tmp_path: Path) -> None:
    for epoch in (1, 2, 3):
        bus = sqlite_bus(tmp_path)
        writer = await bus.claim(TOPIC, 0, "a")
        assert (writer.epoch, writer.next_seq) == (epoch, epoch - 1)
        await writer.append([b"x"])
        await bus.commit("g", TOPIC, 0, epoch)
        await writer.close()
        await bus.close()
    assert await sqlite_bus(tmp_path).committed("g", TOPIC, 0) == 3


async def test_segments_roll_and_reading_crosses_them(tmp_path: Path) -> None:
    bus = sqlite_bus(tmp_path, segment_bytes_max=1000)
    writer = await bus.claim(TOPIC, 0, "a")
    reader = await bus.open_reader(TOPIC, 0)
    for number in range(50):
        await writer.append([b"%0100d" % number])
    seen: list[int] = []
    while len(seen) < 50:
        seen += [int(record.body) for record in await asyncio.wait_for(reader.read(), 2)]
    assert seen == list(range(50))
    assert len(list(tmp_path.glob("*/*/segment-*.db"))) > 3
    assert [int(body) for body in await bodies(bus, 17)] == list(range(17, 50))
    await reader.close()
    await writer.close()
    await bus.close()


async def test_a_zombie_cannot_write_into_a_segment_that_its_successor_has_left(tmp_path: Path) -> None:
    bus = sqlite_bus(tmp_path, segment_bytes_max=1000)
    first = await bus.claim(TOPIC, 0, "a")
    second = await bus.claim(TOPIC, 0, "b")
    for number in range(30):
        await second.append([b"%0100d" % number])
    with pytest.raises(Fenced):
        await first.append([b"zombie"])
    assert len(await bodies(bus)) == 30
    await first.close()
    await second.close()
    await bus.close()


async def test_old_segments_are_dropped_beyond_what_is_retained(tmp_path: Path) -> None:
    bus = sqlite_bus(tmp_path, segment_bytes_max=1000, retention_bytes_max=60_000)
    writer = await bus.claim(TOPIC, 0, "a")
    for number in range(100):
        await writer.append([b"%0100d" % number])
    start = await bus.start(TOPIC, 0)
    assert 0 < start < 100
    with pytest.raises(Trimmed):
        await bus.open_reader(TOPIC, 0, 0)
    await writer.close()
    await bus.close()


async def test_a_flipped_byte_is_noticed_and_placed(tmp_path: Path) -> None:
    bus = sqlite_bus(tmp_path)
    writer = await bus.claim(TOPIC, 0, "a")
    for number in range(3):
        await writer.append([b"record %d" % number])
    await writer.close()
    await bus.close()
    [path] = tmp_path.glob(f"{TOPIC}/0/segment-*.db")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE frames SET body = ? WHERE seq = 1", (b"recorD 1",))
    with pytest.raises(BusCorrupt, match="damaged at 1"):
        await bodies(sqlite_bus(tmp_path))


_CHILD = """
import asyncio, sys
from pathlib import Path
from trade2026.kit.bus.port import TopicConfig
from trade2026.kit.bus.sqlite import SqliteBus

async def main():
    bus = SqliteBus(Path(sys.argv[1]), [TopicConfig(name="orders.events")])
    writer = await bus.claim("orders.events", 0, "child")
    while True:
        for answer in [writer.append([b"x"]) for _ in range(3)]:
            print(await answer, flush=True)

asyncio.run(main())
"""


def _writing_child(root: Path) -> "subprocess.Popen[bytes]":
    services = str(Path(__file__).parents[2] / "services")
    environment = {**os.environ, "PYTHONPATH": services}
    return subprocess.Popen([sys.executable, "-c", _CHILD, str(root)], stdout=subprocess.PIPE, env=environment)


async def test_what_a_killed_process_acknowledged_is_there_and_a_torn_tail_harms_nothing(tmp_path: Path) -> None:
    for _ in range(3):
        child = _writing_child(tmp_path)
        assert child.stdout is not None
        seen = [int(child.stdout.readline()) for _ in range(200)]
        child.send_signal(signal.SIGKILL)
        child.wait()
        seen += [int(line) for line in child.stdout.read().splitlines(keepends=True) if line.endswith(b"\n")]
        child.stdout.close()
        [wal] = tmp_path.glob(f"{TOPIC}/0/segment-*.db-wal")
        with wal.open("ab") as torn:
            torn.write(os.urandom(5000))
        bus = sqlite_bus(tmp_path)
        assert len(await bodies(bus)) == await bus.end(TOPIC, 0) > max(seen)
        await bus.close()


async def test_a_reader_is_woken_by_another_process(tmp_path: Path) -> None:
    bus = sqlite_bus(tmp_path)
    reader = await bus.open_reader(TOPIC, 0)
    child = _writing_child(tmp_path)
    try:
        assert (await asyncio.wait_for(reader.read(), 10))[0].seq == 0
    finally:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()
        await reader.close()
        await bus.close()
