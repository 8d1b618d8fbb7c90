"""What only a bus on a disk must withstand when a beginning is dropped: kills between any two steps, lost files."""

import asyncio
import contextlib
import os
import random
import shutil
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

import trade2026
from trade2026.kit.bus import beginning
from trade2026.kit.bus.port import BusCorrupt, BusUncertain, Record, TopicConfig
from trade2026.kit.bus.sqlite import SqliteBus

TOPIC = "orders.events"
ROLLING = TopicConfig(name=TOPIC, segment_bytes_max=1)
"""A segment for each append."""
SECONDS_MAX = 60.0
DROPPER = """
import asyncio, sys
from pathlib import Path
from trade2026.kit.bus.port import TopicConfig
from trade2026.kit.bus.sqlite import SqliteBus

async def main():
    bus = SqliteBus(Path(sys.argv[1]), [TopicConfig(name="orders.events", segment_bytes_max=1)])
    while True:
        asked = min(await bus.start("orders.events", 0) + 3, await bus.end("orders.events", 0))
        print(await bus.drop("orders.events", 0, asked), flush=True)
        await asyncio.sleep(0.001)

asyncio.run(main())
"""

Open = Callable[[], SqliteBus]


@pytest_asyncio.fixture
async def open_bus(tmp_path: Path) -> AsyncIterator[Open]:
    """Each call is a new object on the same folder, like another process."""
    opened: list[SqliteBus] = []

    def opens() -> SqliteBus:
        opened.append(SqliteBus(tmp_path / "bus", [ROLLING]))
        return opened[-1]

    yield opens
    for bus in opened:
        await bus.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "bus" / TOPIC / "0"


async def fill(bus: SqliteBus, count: int) -> None:
    writer = await bus.claim(TOPIC, 0, "oms")
    for _ in range(count):
        await writer.append([b"%d" % writer.next_seq])
    await writer.close()


async def require(bus: SqliteBus, start: int, end: int) -> None:
    assert (await bus.start(TOPIC, 0), await bus.end(TOPIC, 0)) == (start, end)
    assert await bus.read(TOPIC, 0, start, end + 1) == [Record(TOPIC, 0, n, b"%d" % n) for n in range(start, end)]
    assert await bus.inspect() == []


def lose(folder: Path, segment: int) -> None:
    for file in folder.glob(f"segment-{segment:020d}.db*"):
        file.unlink()


async def test_the_files_go_and_a_name_says_where_the_log_begins(open_bus: Open, folder: Path) -> None:
    bus = open_bus()
    await fill(bus, 9)
    await bus.read(TOPIC, 0, 0, 9)  # what was read before holds no file open
    for asked in (4, 7):
        assert await bus.drop(TOPIC, 0, asked) == asked
    names = {path.name for path in folder.iterdir() if path.name.startswith(("segment-", "begins-"))}
    assert {name for name in names if name.endswith(".db")} == {f"segment-{n:020d}.db" for n in (7, 8)}
    assert {name for name in names if name.startswith("begins-")} == {f"begins-{7:020d}"}
    await bus.start(TOPIC, 0)
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of looking here
            held = os.readlink(descriptor)
            assert not (held.startswith(str(folder)) and "(deleted)" in held), held


async def test_a_stop_between_any_two_steps_leaves_the_log_before_or_after(
    open_bus: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = open_bus()
    await fill(bus, 8)
    await bus.drop(TOPIC, 0, 2)
    await bus.close()
    steps_left = 0

    def counted(step: Callable[..., None]) -> Callable[..., None]:
        def stops_or_does(*arguments: object, **options: object) -> None:
            nonlocal steps_left
            if not steps_left:
                raise OSError(5, "stopped here")
            steps_left -= 1
            step(*arguments, **options)

        return stops_or_does

    starts: list[int] = []
    finished = False
    while not finished:
        steps_left = len(starts)
        copy = shutil.copytree(tmp_path / "bus", tmp_path / f"stopped after {steps_left}")
        stopped = SqliteBus(copy, [ROLLING])
        with monkeypatch.context() as patched:
            patched.setattr(Path, "touch", counted(Path.touch))
            patched.setattr(Path, "unlink", counted(Path.unlink))
            patched.setattr(beginning, "sync_folder", counted(beginning.sync_folder))
            try:
                finished = await stopped.drop(TOPIC, 0, 5) == 5
            except BusUncertain:
                starts.append(await stopped.start(TOPIC, 0))
        after = SqliteBus(copy, [ROLLING])
        await require(after, 5 if finished else starts[-1], 8)
        assert await after.drop(TOPIC, 0, 5) == 5
        await require(after, 5, 8)
        assert len(list(copy.rglob("segment-*.db"))) == 3
        for each in (stopped, after):
            await each.close()
    assert starts[0] == 2 and set(starts[1:]) == {5} and len(starts) > 10


async def test_what_a_killed_one_left_goes_with_the_next(open_bus: Open, folder: Path) -> None:
    await fill(open_bus(), 6)
    (folder / f"begins-{3:020d}").touch()
    await require(open_bus(), 3, 6)
    assert await open_bus().drop(TOPIC, 0, 1) == 3
    assert sorted(path.name for path in folder.glob("segment-*.db")) == [f"segment-{n:020d}.db" for n in (3, 4, 5)]
    await require(open_bus(), 3, 6)


async def test_kill_9_of_who_drops_leaves_no_hole_and_the_owner_goes_on(open_bus: Open, tmp_path: Path) -> None:
    bus, rng = open_bus(), random.Random(5)
    writer = await bus.claim(TOPIC, 0, "oms")
    appended = 0

    async def own() -> None:
        nonlocal appended
        while True:
            assert await writer.append([b"%d" % writer.next_seq]) == appended
            appended += 1

    owning = asyncio.create_task(own())
    environment = {**os.environ, "PYTHONPATH": str(Path(trade2026.__file__).parents[1])}
    start = 0
    for _ in range(5):
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", DROPPER, str(tmp_path / "bus"), stdout=PIPE, env=environment
        )
        assert child.stdout is not None
        for _ in range(rng.randint(1, 12)):
            said = int(await asyncio.wait_for(child.stdout.readline(), SECONDS_MAX))
            assert said >= start
            start = said
        await asyncio.sleep(rng.random() * 0.005)
        child.kill()
        await child.communicate()
        fresh = open_bus()
        start = await fresh.start(TOPIC, 0)
        records = await fresh.read(TOPIC, 0, start, 1_000_000)
        assert [(record.seq, int(record.body)) for record in records] == [
            (n, n) for n in range(start, start + len(records))
        ]
        assert start + len(records) >= appended and await fresh.inspect() == []
        await fresh.close()
        assert not owning.done()
    owning.cancel()
    await asyncio.gather(owning, return_exceptions=True)
    await writer.close()
    await require(open_bus(), start, writer.next_seq)
    assert start > 0 and (await open_bus().claim(TOPIC, 0, "next")).epoch == 2


@pytest.mark.parametrize("dropped", [0, 3])
@pytest.mark.parametrize("lost", [0, 2])
async def test_a_segment_that_is_gone_although_nobody_dropped_it_is_found(
    open_bus: Open, folder: Path, dropped: int, lost: int
) -> None:
    bus = open_bus()
    await fill(bus, 8)
    assert await bus.drop(TOPIC, 0, dropped) == dropped
    lost += dropped
    lose(folder, lost)
    for each in (bus, open_bus()):
        (fault,) = await each.inspect()
        assert f"{TOPIC}/0: {lost} is missing, the next segment begins at {lost + 1}; restore" in fault
        assert await each.start(TOPIC, 0) == dropped
        with pytest.raises(BusCorrupt, match=f"{lost} is missing, the next segment begins at {lost + 1}"):
            await each.read(TOPIC, 0, dropped, 10)


async def test_the_last_record_stays_also_where_the_segment_after_it_is_empty(open_bus: Open) -> None:
    bus = open_bus()
    await fill(bus, 4)
    bus._partitions[TOPIC, 0].create_segment(4, 1, "one that was killed before it wrote")
    assert await bus.drop(TOPIC, 0, 4) == 3
    await require(bus, 3, 4)
    await fill(open_bus(), 2)
    await require(open_bus(), 3, 6)


async def test_a_log_that_is_lost_after_a_drop_is_not_begun_anew(open_bus: Open, folder: Path) -> None:
    await fill(open_bus(), 4)
    await open_bus().drop(TOPIC, 0, 3)
    lose(folder, 3)
    with pytest.raises(BusCorrupt, match="it was here before, and is gone"):
        await open_bus().claim(TOPIC, 0, "oms")
