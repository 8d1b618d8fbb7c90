"""What only a bus on a disk, shared by processes, must withstand: kills, damage, full disks, other processes."""

import asyncio
import os
import shutil
import signal
import sqlite3
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
import pytest_asyncio

import trade2026
from trade2026.kit.bus.port import BusCorrupt, BusFull, BusUncertain, Fenced, Record, TopicConfig
from trade2026.kit.bus.sqlite import SqliteBus

TOPIC = "orders.events"
WOKEN_SECONDS_MAX = 60.0
"""Nobody looks by itself: who is not woken waits for ever, so this may be long."""
STARTED_SECONDS_MAX = 60.0

Open = Callable[..., SqliteBus]

_CHILD = """
import asyncio, sys
from pathlib import Path
from trade2026.kit.bus.port import TopicConfig
from trade2026.kit.bus.sqlite import SqliteBus

async def main(root):
    bus = SqliteBus(Path(root), [TopicConfig(name="orders.events", segment_bytes_max=200_000)])
{body}

asyncio.run(main(sys.argv[1]))
"""

_APPEND_FOREVER = """
    writer = await bus.claim("orders.events", 0, "child")
    async def produce():
        while True:
            seq = writer.next_seq
            appended = writer.append([b"%d" % seq, b"%d" % (seq + 1)])
            print(await appended, flush=True)
    await asyncio.gather(*(produce() for _ in range(20)))
"""

_FOLLOW = """
    reader = await bus.open_reader("orders.events", 0)
    print("following", flush=True)
    while True:
        for record in await reader.read():
            print(record.seq, record.body.decode(), flush=True)
"""

_APPEND_WHEN_TOLD = """
    writer = await bus.claim("orders.events", 0, "child")
    for line in sys.stdin:
        try:
            print(await writer.append([line.strip().encode()]), flush=True)
        except Exception as error:
            print(type(error).__name__, flush=True)
"""


@pytest_asyncio.fixture
async def open_bus(tmp_path: Path) -> AsyncIterator[Open]:
    """Each call is a new object on the same folder, like another process."""
    opened: list[SqliteBus] = []

    def opens(**topic: int | bool) -> SqliteBus:
        opened.append(SqliteBus(tmp_path / "bus", [TopicConfig(name=TOPIC, **topic)]))  # type: ignore[arg-type]
        return opened[-1]

    yield opens
    for bus in opened:
        await bus.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "bus" / TOPIC / "0"


@asynccontextmanager
async def child(tmp_path: Path, body: str) -> AsyncIterator[Process]:
    environment = {**os.environ, "PYTHONPATH": str(Path(trade2026.__file__).parents[1])}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _CHILD.format(body=body), str(tmp_path / "bus"), stdin=PIPE, stdout=PIPE, env=environment
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line_of(process: Process, seconds_max: float = STARTED_SECONDS_MAX) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), seconds_max)).decode().strip()


async def tell(process: Process, line: str) -> str:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n".encode())
    await process.stdin.drain()
    return await line_of(process)


async def everything(bus: SqliteBus) -> list[Record]:
    return await bus.read(TOPIC, 0, await bus.start(TOPIC, 0), 10_000_000)


async def test_what_was_acknowledged_before_a_kill_is_there_after_it(open_bus: Open, tmp_path: Path) -> None:
    for round_number in range(1, 4):
        async with child(tmp_path, _APPEND_FOREVER) as process:
            acknowledged = [int(await line_of(process)) for _ in range(600)]
            process.send_signal(signal.SIGKILL)
            rest, _ = await process.communicate()
        acknowledged += [int(line) for line in rest.split(b"\n")[:-1]]
        bus = open_bus()
        records = await everything(bus)
        assert [(record.seq, int(record.body)) for record in records] == [(n, n) for n in range(len(records))]
        assert max(acknowledged) < len(records)
        assert len(records) % 2 == 0, "an append of two records was cut in two"
        writer = await bus.claim(TOPIC, 0, "oms")
        assert (writer.epoch, writer.next_seq) == (2 * round_number, len(records))
        await bus.close()


async def test_a_torn_end_of_the_write_ahead_log_costs_nothing_acknowledged(
    open_bus: Open, tmp_path: Path, folder: Path
) -> None:
    async with child(tmp_path, _APPEND_FOREVER) as process:
        acknowledged = [int(await line_of(process)) for _ in range(300)]
        process.kill()
        await process.communicate()
    newest = max(folder.glob("segment-*.db-wal"))
    with newest.open("ab") as wal:
        wal.write(os.urandom(5_000))
    assert max(acknowledged) < len(await everything(open_bus()))
    assert (await open_bus().claim(TOPIC, 0, "oms")).epoch == 2


async def test_a_flipped_byte_is_found(open_bus: Open, folder: Path) -> None:
    bus = open_bus()
    writer = await bus.claim(TOPIC, 0, "oms")
    for n in range(3):
        await writer.append([b"a record that is number %d" % n])
    await bus.close()
    (segment,) = folder.glob("*.db")
    content = segment.read_bytes()
    assert content.count(b"is number 1") == 1
    segment.write_bytes(content.replace(b"is number 1", b"is number 9"))
    with pytest.raises(BusCorrupt, match=r"orders\.events/0: the frame at 1 is damaged.*restore"):
        await everything(open_bus())


async def test_a_missing_frame_is_found(open_bus: Open, folder: Path) -> None:
    bus = open_bus()
    writer = await bus.claim(TOPIC, 0, "oms")
    for n in range(3):
        await writer.append([b"%d" % n])
    await bus.close()
    (segment,) = folder.glob("*.db")
    with closing(sqlite3.connect(segment, isolation_level=None)) as connection:
        assert connection.execute("DELETE FROM frames WHERE seq = 1").rowcount == 1
    bus = open_bus()
    for position in (0, 1):
        with pytest.raises(BusCorrupt, match="1 is missing, the next record there is 2"):
            await bus.read(TOPIC, 0, position, 10)


async def test_a_missing_segment_is_found(open_bus: Open, folder: Path) -> None:
    bus = open_bus(segment_bytes_max=1)
    writer = await bus.claim(TOPIC, 0, "oms")
    for n in range(4):
        await writer.append([b"%d" % n])
    await bus.close()
    for file in folder.glob(f"segment-{2:020d}.db*"):
        file.unlink()
    with pytest.raises(BusCorrupt, match="2 is missing, the next segment begins at 3"):
        await everything(open_bus())


async def test_an_old_segment_is_read_after_newer_ones(open_bus: Open) -> None:
    bus = open_bus(segment_bytes_max=1)
    writer = await bus.claim(TOPIC, 0, "oms")
    for n in range(6):
        await writer.append([b"%d" % n])
    for n in (5, 4, 3, 2, 1, 0, 5):
        assert [record.body for record in await bus.read(TOPIC, 0, n, 1)] == [b"%d" % n]


async def test_what_is_no_database_is_corrupt(open_bus: Open, folder: Path) -> None:
    bus = open_bus()
    await (await bus.claim(TOPIC, 0, "oms")).append([b"a"])
    await bus.close()
    (segment,) = folder.glob("*.db")
    segment.write_bytes(b"not a database, " * 1_000)
    for attempt in (everything(open_bus()), open_bus().claim(TOPIC, 0, "oms")):
        with pytest.raises(BusCorrupt, match="not a database"):
            await attempt


@pytest.mark.parametrize("folder_name", ["short", "long" * 30])
async def test_a_reader_in_another_process_is_woken(tmp_path: Path, folder_name: str) -> None:
    root = tmp_path / folder_name
    bus = SqliteBus(root / "bus", [TopicConfig(name=TOPIC)])
    async with child(root, _FOLLOW) as process:
        assert await line_of(process) == "following"
        writer = await bus.claim(TOPIC, 0, "oms")
        for n in range(50):
            assert await writer.append([b"event-%d" % n]) == n
            assert await line_of(process, WOKEN_SECONDS_MAX) == f"{n} event-{n}"
    await writer.append([b"to nobody"])
    await bus.close()
    assert [path for path in bus._partitions[TOPIC, 0].wakes.folder.iterdir() if path.is_socket()] == []


async def test_a_claim_wakes_readers_that_a_killed_owner_left_behind(open_bus: Open) -> None:
    bus, other = open_bus(), open_bus()
    reader = await bus.open_reader(TOPIC, 0)
    waiting = asyncio.ensure_future(reader.read())
    await asyncio.sleep(0)
    log = other._partitions[TOPIC, 0]
    segment, epoch, _ = await asyncio.to_thread(log.claim, "killed before it could tell")
    with closing(log.writing(segment)) as connection:
        frame = (0, 1, 0, b"", epoch)
        assert connection.execute(
            "INSERT INTO frames SELECT ?, ?, ?, ? WHERE (SELECT epoch FROM owner) = ?", frame
        ).rowcount
    assert not waiting.done()
    await other.claim(TOPIC, 0, "next")
    assert await asyncio.wait_for(waiting, WOKEN_SECONDS_MAX) == [Record(TOPIC, 0, 0, b"")]


async def test_a_reader_whose_socket_was_deleted_hears_again(open_bus: Open) -> None:
    bus, other = open_bus(), open_bus()
    writer = await bus.claim(TOPIC, 0, "oms")
    reader = await other.open_reader(TOPIC, 0)
    shutil.rmtree(other._partitions[TOPIC, 0].wakes.folder)
    waiting = asyncio.ensure_future(reader.read())
    await asyncio.sleep(0)
    await writer.append([b"while nobody could be woken"])
    assert [record.body for record in await asyncio.wait_for(waiting, WOKEN_SECONDS_MAX)] == [
        b"while nobody could be woken"
    ]
    waiting = asyncio.ensure_future(reader.read())
    await asyncio.sleep(0)
    await writer.append([b"woken"])
    assert [record.body for record in await asyncio.wait_for(waiting, WOKEN_SECONDS_MAX)] == [b"woken"]


async def test_an_owner_in_another_process_is_fenced(open_bus: Open, tmp_path: Path) -> None:
    bus = open_bus()
    async with child(tmp_path, _APPEND_WHEN_TOLD) as process:
        assert await tell(process, "mine") == "0"
        writer = await bus.claim(TOPIC, 0, "oms")
        assert await tell(process, "zombie") == "Fenced"
        assert await writer.append([b"ours"]) == 1
        assert await tell(process, "zombie") == "Fenced"
    assert [record.body for record in await everything(bus)] == [b"mine", b"ours"]


async def test_a_zombie_cannot_write_into_a_segment_that_others_have_left(open_bus: Open, folder: Path) -> None:
    zombie = await open_bus().claim(TOPIC, 0, "zombie")
    await zombie.append([b"0"])
    bus = open_bus(segment_bytes_max=1)
    writer = await bus.claim(TOPIC, 0, "oms")
    for n in range(1, 4):
        assert await writer.append([b"%d" % n]) == n
    assert len(list(folder.glob("segment-*.db"))) == 4
    with pytest.raises(Fenced):
        await zombie.append([b"zombie"])
    assert [record.body for record in await everything(bus)] == [b"0", b"1", b"2", b"3"]


async def test_a_zombie_that_wants_to_roll_is_fenced_and_leaves_no_segment(open_bus: Open, folder: Path) -> None:
    zombie = await open_bus(segment_bytes_max=1).claim(TOPIC, 0, "zombie")
    await zombie.append([b"0"])
    await open_bus().claim(TOPIC, 0, "oms")
    with pytest.raises(Fenced):
        await zombie.append([b"zombie"])
    assert [
        path.name for path in folder.glob("segment-*") if path.suffix != ".db-wal" and path.suffix != ".db-shm"
    ] == [f"segment-{0:020d}.db"]


async def test_a_crash_between_making_a_segment_and_sealing_the_old_one_loses_nothing(
    open_bus: Open, folder: Path
) -> None:
    bus = open_bus()
    writer = await bus.claim(TOPIC, 0, "oms")
    await writer.append([b"0", b"1"])
    reader = await bus.open_reader(TOPIC, 0)
    await reader.read()
    waiting = asyncio.ensure_future(reader.read())
    bus._partitions[TOPIC, 0].create_segment(2, writer.epoch, "oms")
    (folder / "segment-00000000000000000009.abcd.new").touch()
    other = open_bus()
    successor = await other.claim(TOPIC, 0, "oms")
    assert (successor.epoch, successor.next_seq) == (2, 2)
    assert await successor.append([b"2"]) == 2
    assert await asyncio.wait_for(waiting, WOKEN_SECONDS_MAX) == [Record(TOPIC, 0, 2, b"2")]
    assert list(folder.glob("*.new*")) == []


async def test_reading_crosses_segments_while_they_roll(open_bus: Open, folder: Path) -> None:
    bus, other = open_bus(segment_bytes_max=20_000), open_bus()
    reader = await other.open_reader(TOPIC, 0)
    writer = await bus.claim(TOPIC, 0, "oms")
    for n in range(100):
        await writer.append([b"%0999d" % (2 * n), b"%0999d" % (2 * n + 1)])
        records = await asyncio.wait_for(reader.read(), WOKEN_SECONDS_MAX)
        assert [int(record.body) for record in records] == [2 * n, 2 * n + 1]
    assert len(list(folder.glob("segment-*.db"))) >= 9
    assert [int(record.body) for record in await everything(bus)] == list(range(200))
    assert await bus.start(TOPIC, 0) == 0
    await bus.close()
    again = await open_bus().claim(TOPIC, 0, "oms")
    assert (again.epoch, again.next_seq) == (2, 200)


async def test_retention_drops_the_files_of_the_oldest_segments(open_bus: Open, folder: Path) -> None:
    bus = open_bus(segment_bytes_max=50_000, retention_bytes_max=300_000, durable=False)
    writer = await bus.claim(TOPIC, 0, "gateway")
    for _ in range(100):
        await writer.append([b"x" * 10_000])
    await writer.close()
    first = await bus.start(TOPIC, 0)
    segments = sorted(folder.glob("segment-*.db"))
    assert segments[0].name == f"segment-{first:020d}.db"
    assert sum(path.stat().st_size for path in folder.glob("segment-*")) < 450_000
    assert await bus.end(TOPIC, 0) == 100
    assert len(await everything(bus)) == 100 - first > 10


async def test_a_full_disk_refuses_the_append_and_ends_the_writer(open_bus: Open) -> None:
    bus = open_bus()
    writer = await bus.claim(TOPIC, 0, "oms")
    await writer.append([b"a"])
    assert writer._connection is not None
    (pages,) = writer._connection.execute("PRAGMA page_count").fetchone()
    writer._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    refused = [writer.append([b"too large" * 10_000]), writer.append([b"small, but after it"])]
    for append in refused:
        with pytest.raises(BusFull, match="is full, nothing was written"):
            await append
    with pytest.raises(BusFull):
        await writer.append([b"small"])
    assert [record.body for record in await everything(bus)] == [b"a"]
    successor = await bus.claim(TOPIC, 0, "oms")
    assert await successor.append([b"room again"]) == 1


@pytest.mark.parametrize("taken", ["segment-*.db", "segment-*.db-wal", "."])
async def test_a_log_that_is_taken_away_acknowledges_nothing_until_it_is_back(
    open_bus: Open, folder: Path, taken: str
) -> None:
    bus = open_bus()
    writer = await bus.claim(TOPIC, 0, "oms")
    assert await writer.append([b"a"]) == 0
    path = folder if taken == "." else next(folder.glob(taken))
    aside = path.with_name("aside")
    path.rename(aside)
    with pytest.raises(BusCorrupt, match=r"was taken away; restore .* from a backup"):
        await writer.append([b"b"])
    if taken != "segment-*.db-wal":
        with pytest.raises(BusCorrupt, match="it ended at 1, and is gone"):
            await bus.claim(TOPIC, 0, "oms")
    assert not path.exists()
    aside.rename(path)
    successor = await bus.claim(TOPIC, 0, "oms")
    await successor.append([b"c"])
    bodies = [record.body for record in await everything(bus)]
    assert (bodies[0], bodies[-1]) == (b"a", b"c")


async def test_a_log_that_was_lost_between_two_runs_is_not_begun_anew_until_somebody_says_so(
    open_bus: Open, folder: Path, tmp_path: Path
) -> None:
    await (await open_bus().claim(TOPIC, 0, "a")).append([b"1"])
    shutil.rmtree(folder.parent)
    made = tmp_path / "bus" / "made" / f"{TOPIC}-0"
    with pytest.raises(BusCorrupt, match=f"it was here before, and is gone; .*`trade2026 restore`, or remove {made}"):
        await open_bus().claim(TOPIC, 0, "b")
    made.unlink()
    assert (await open_bus().claim(TOPIC, 0, "b")).next_seq == 0


async def test_a_log_that_need_not_be_durable_may_be_lost(open_bus: Open, folder: Path) -> None:
    await (await open_bus(durable=False).claim(TOPIC, 0, "a")).append([b"1"])
    shutil.rmtree(folder.parent)
    assert (await open_bus(durable=False).claim(TOPIC, 0, "b")).next_seq == 0


async def test_a_log_that_was_replaced_by_a_shorter_one_is_not_gone_on_with(open_bus: Open, folder: Path) -> None:
    bus = open_bus()
    writer = await bus.claim(TOPIC, 0, "oms")
    await writer.append([b"a"])
    shutil.rmtree(folder)
    shutil.rmtree(folder.parents[1] / "made")
    other = open_bus()
    await other.claim(TOPIC, 0, "another")
    with pytest.raises(BusCorrupt, match=r"was replaced|was taken away"):
        await writer.append([b"b"])
    with pytest.raises(BusCorrupt, match="it ended at 1, and now at 0"):
        await bus.claim(TOPIC, 0, "oms")


async def test_a_failure_of_the_disk_leaves_the_append_uncertain(
    open_bus: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = open_bus(segment_bytes_max=1)
    writer = await bus.claim(TOPIC, 0, "oms")
    await writer.append([b"a"])

    def fails(first: int, epoch: int, owner: str) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(bus._partitions[TOPIC, 0], "create_segment", fails)
    for _ in range(2):
        with pytest.raises(BusUncertain, match="Input/output error"):
            await writer.append([b"b"])
    monkeypatch.undo()
    successor = await bus.claim(TOPIC, 0, "oms")
    assert await successor.append([b"b"]) == 1


async def test_only_a_durable_topic_waits_for_the_disk(open_bus: Open, tmp_path: Path) -> None:
    for durable, synchronous in ((True, 2), (False, 0)):
        log = open_bus(durable=durable)._partitions[TOPIC, 0]
        segment, _, _ = await asyncio.to_thread(log.claim, "oms")
        with closing(log.writing(segment)) as connection:
            assert connection.execute("PRAGMA synchronous").fetchone() == (synchronous,)
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_complete_segments_are_read_without_making_files(open_bus: Open, folder: Path) -> None:
    bus = open_bus(segment_bytes_max=1)
    writer = await bus.claim(TOPIC, 0, "oms")
    for n in range(4):
        await writer.append([b"%d" % n])
    await bus.close()
    assert [record.body for record in await everything(open_bus())] == [b"0", b"1", b"2", b"3"]
    beside = {path.name for path in folder.glob("segment-*") if path.suffix != ".db"}
    assert beside <= {f"segment-{3:020d}.db-wal", f"segment-{3:020d}.db-shm"}
