"""Who moves the log to the lake is killed in the middle of it: nothing is lost, doubled or changed, ever."""

import asyncio
import os
import random
from pathlib import Path

import msgspec
from rig import Rig
from tests.child import Child
from tests.waiting import until

from trade2026.kit.bus.port import Record
from trade2026.kit.projection import snapshot_directory
from trade2026.kit.settings import ProcessSettings
from trade2026.kit.snapshots import SnapshotStore
from trade2026.log_archive.opening import open_bus

KILLS = int(os.environ.get("SINK_KILLS", "10"))
ORDERS = "orders.events"
PER_LIFE = 60
CHILD = Path(__file__).parent / "log_archiver_child.py"
SECONDS_MAX = 60.0


async def settings_in(state: Path) -> ProcessSettings:
    rig = Rig(state, "projections")
    await rig.close()
    topics = [
        msgspec.structs.replace(topic, segment_bytes_max=1) if topic.name == ORDERS else topic
        for topic in rig.settings.topics
    ]
    return msgspec.structs.replace(rig.settings, topics=topics)


def cover(state: Path, next_seq: int) -> None:
    """Two snapshots of everyone who must have two."""
    store = SnapshotStore(snapshot_directory(state, "oms"), "oms")
    for covered in (next_seq - 1, next_seq):
        store.write(b"", covered, "0")


async def append(settings: ProcessSettings, count: int) -> None:
    """A segment for each few records."""
    bus = open_bus(settings)
    writer = await bus.claim(ORDERS, 0, "oms")
    for first in range(writer.next_seq, writer.next_seq + count, 3):
        seqs = range(first, first + 3)
        await writer.append(
            [b'{"seq":%d,"epoch":1,"ts_event":0,"ts_init":%d,"data":{"type":"Resumed"}}' % (seq, seq) for seq in seqs]
        )
    await bus.close()


async def everything(settings: ProcessSettings) -> tuple[int, list[Record]]:
    """Where the log begins, and all that was ever written."""
    bus = open_bus(settings)
    try:
        found: list[Record] = []
        while more := await bus.read(ORDERS, 0, len(found), 1_000):
            found += more
        return await bus.kept.start(ORDERS, 0), found
    finally:
        await bus.close()


def versions(state: Path) -> int:
    """Of the table in the lake."""
    return len(list((state / "lake" / "log" / "records" / "_delta_log").glob("*.json")))


async def test_kill_9_of_who_archives_loses_doubles_and_changes_nothing(tmp_path: Path) -> None:
    settings = await settings_in(tmp_path)
    (file := tmp_path / "projections.json").write_bytes(msgspec.json.encode(settings))
    child, rng, begins = Child(CHILD, tmp_path, str(file)), random.Random(11), 0
    written: list[Record] = []
    try:
        for _ in range(KILLS):
            await append(settings, PER_LIFE)
            begins, found = await everything(settings)
            assert found[: len(written)] == written
            written = found
            cover(tmp_path, len(written))
            moved = versions(tmp_path) + rng.randint(1, 5)
            await child.start()
            await until(lambda moved=moved: versions(tmp_path) >= moved, "it has moved some")
            await asyncio.sleep(rng.random() ** 2 * 0.3)
            child.kill()
            after, found = await everything(settings)
            assert found == written and after >= begins
        await child.start()
        async with asyncio.timeout(SECONDS_MAX):
            while begins < KILLS * PER_LIFE - 20:
                begins, found = await everything(settings)
                assert found == written
                await asyncio.sleep(0.1)
    finally:
        child.kill()
    assert written[-1].seq == KILLS * PER_LIFE - 1
