"""The lake's sink in a process that is killed in the middle of its batches: each record is there once."""

import asyncio
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import msgspec
from rig import SYMBOL, Rig

from trade2026.domain.events import Envelope, encode
from trade2026.domain.market import Book, Level, Trade
from trade2026.domain.numbers import SCALE
from trade2026.kit.bus.sqlite import SqliteBus
from trade2026.kit.settings import ProcessSettings
from trade2026.sink_ticks.tables import DAY_NS, FEEDS
from trade2026.sinks.machine import position_name
from trade2026.stores.delta import DeltaLake
from trade2026.stores.lake import Selection

SECONDS_MAX = 60.0
TICKS, BOOKS = "market.ticks", "market.books"
KILLS = 10
PER_APPEND = 20
APPENDS_PER_LIFE = 30
CHILD = Path(__file__).parent / "sink_ticks_child.py"


class Child:
    """The process. Its batches are small, and it compacts all the time, so that a kill meets all of it."""

    def __init__(self, state: Path, settings: ProcessSettings) -> None:
        self.state, self.file = state, state / "data.json"
        config = {"sink-ticks": {"batch_seconds": 0.01, "batch_rows": 150, "compact_minutes": 0.001}}
        self.file.write_bytes(msgspec.json.encode(msgspec.structs.replace(settings, config=config)))
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it, and wait until it stores."""
        (self.state / "ready").unlink(missing_ok=True)
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "services")}
        command = [sys.executable, str(CHILD), str(self.state), str(self.file)]
        self.process = subprocess.Popen(command, env=environment)  # noqa: ASYNC220
        async with asyncio.timeout(SECONDS_MAX):
            while not (self.state / "ready").exists():
                assert self.process.poll() is None, "the sink did not start"
                await asyncio.sleep(0.01)

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def body(seq: int, topic: str) -> bytes:
    ts = 20_000 * DAY_NS + seq * 1_000
    if topic == TICKS:
        data = Trade(SYMBOL, f"t-{seq}", 50_000 * SCALE + seq, SCALE)
    else:
        data = Book(SYMBOL, [Level(SCALE, seq + 1)], [], venue_seq=seq)
    return encode(Envelope(seq, 1, ts, ts, "test", "market", "", "", "", data))


async def until_stored(state: Path, ends: dict[str, int]) -> None:
    """Wait until the tables say that they have everything."""
    async with asyncio.timeout(SECONDS_MAX):
        for feed in FEEDS:
            name = position_name(feed.topic)
            while feed.topic in ends:
                found = await asyncio.to_thread(DeltaLake(state / "lake").offsets, feed.spec.name, [name])
                if found.get(name) == ends[feed.topic]:
                    break
                await asyncio.sleep(0.1)


async def test_a_sink_that_is_killed_ten_times_loses_no_row_and_doubles_none(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "data")
    settings = rig.settings
    await rig.close()
    bus, child, rng = SqliteBus(tmp_path / "bus", settings.topics), Child(tmp_path, settings), random.Random(11)
    ends = dict.fromkeys((TICKS, BOOKS), 0)
    try:
        writers = {topic: await bus.claim(topic, 0, "test") for topic in ends}
        for life in range(KILLS + 1):
            await child.start()
            for _ in range(APPENDS_PER_LIFE):
                for topic, writer in writers.items():
                    numbers = range(ends[topic], ends[topic] + PER_APPEND)
                    await writer.append([body(seq, topic) for seq in numbers])
                    ends[topic] = numbers.stop
                await asyncio.sleep(rng.random() * 0.01)
            if life < KILLS:
                await asyncio.sleep(rng.random() * 0.2)
                child.kill()
        await until_stored(tmp_path, ends)
    finally:
        child.kill()
        await bus.close()
    lake = DeltaLake(tmp_path / "lake")
    for feed in FEEDS:
        if feed.topic not in ends:
            continue
        answer = lake.read(feed.spec, Selection(limit=100_000))
        counts = Counter((row["epoch"], row["seq"]) for row in answer.rows)
        assert set(counts) == {(1, seq) for seq in range(ends[feed.topic])}
        assert set(counts.values()) == {1}
        assert any(commit.operation == "OPTIMIZE" for commit in lake.history(feed.spec.name, 10_000))
