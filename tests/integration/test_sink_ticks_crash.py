"""The lake's sink in a process that is killed in the middle of its batches: each record is there once."""

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from rig import SYMBOL, Rig
from tests.child import Child
from tests.infra import S3_KEYS, started
from tests.waiting import until

from trade2026.domain.events import Envelope, encode
from trade2026.domain.market import Book, Level, Trade
from trade2026.domain.numbers import SCALE
from trade2026.kit.bus.sqlite import SqliteBus
from trade2026.kit.settings import ProcessSettings
from trade2026.local.infra.seaweedfs import SeaweedFs
from trade2026.sink_ticks.tables import DAY_NS, FEEDS
from trade2026.sinks.lake import open_lake
from trade2026.sinks.machine import Feed, position_name
from trade2026.stores.delta import DeltaLake
from trade2026.stores.lake import Selection

SECONDS_MAX = 60.0
TICKS, BOOKS = "market.ticks", "market.books"
KILLS = int(os.environ.get("SINK_KILLS", "10"))
PER_APPEND = 20
APPENDS_PER_LIFE = 30
CHILD = Path(__file__).parent / "sink_ticks_child.py"


def child_of(state: Path, settings: ProcessSettings) -> Child:
    """The process. Its batches are small, and it compacts all the time, so that a kill meets all of it."""
    config = {"sink-ticks": {"batch_seconds": 0.01, "batch_rows": 150, "compact_minutes": 0.001}}
    file = state / "data.json"
    file.write_bytes(msgspec.json.encode(msgspec.structs.replace(settings, config=config)))
    return Child(CHILD, state, str(file))


def body(seq: int, topic: str) -> bytes:
    ts = 20_000 * DAY_NS + seq * 1_000
    if topic == TICKS:
        data = Trade(SYMBOL, f"t-{seq}", 50_000 * SCALE + seq, SCALE)
    else:
        data = Book(SYMBOL, [Level(SCALE, seq + 1)], [], venue_seq=seq)
    return encode(Envelope(seq, 1, ts, ts, "test", "market", "", "", "", data))


Open = Callable[[], DeltaLake]


async def until_stored(opened: Open, ends: dict[str, int]) -> None:
    """Wait until the tables say that they have everything."""
    async with asyncio.timeout(SECONDS_MAX):
        for feed in FEEDS:
            name = position_name(feed.topic)
            while feed.topic in ends:
                found = await asyncio.to_thread(opened().offsets, feed.spec.name, [name])
                if found.get(name) == ends[feed.topic]:
                    break
                await asyncio.sleep(0.1)


@dataclass
class Place:
    """Where the lake is, and what becomes of it in a life of the sink."""

    settings: ProcessSettings
    environment: dict[str, str]
    harm: Callable[[int], None]


@pytest.fixture(params=["folder", "s3"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    rig = Rig(tmp_path, "data")
    settings = rig.settings
    await rig.close()
    if request.param == "folder":
        yield Place(settings, {}, lambda life: None)
        return
    store = SeaweedFs(tmp_path / "seaweedfs", keys=S3_KEYS)
    started(store)
    lake = {"type": "s3", "url": f"s3://{store.bucket}/desk", "endpoint": f"http://{store.address}"}
    settings = msgspec.structs.replace(settings, stores={"lake": lake})

    def harm(life: int) -> None:
        """Twice in ten lives it is the store that is killed in the middle of batches, and the sink has to go on by itself."""
        if life % 10 in (3, 7):
            store.kill()
            store.start()

    try:
        yield Place(settings, dict(zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), S3_KEYS, strict=True)), harm)
    finally:
        store.stop()


async def test_a_sink_that_is_killed_again_and_again_loses_no_row_and_doubles_none(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in place.environment.items():
        monkeypatch.setenv(name, value)
    settings = place.settings
    bus, child, rng = SqliteBus(tmp_path / "bus", settings.topics), child_of(tmp_path, settings), random.Random(11)
    ends = dict.fromkeys((TICKS, BOOKS), 0)
    try:
        writers = {topic: await bus.claim(topic, 0, "test") for topic in ends}
        for life in range(KILLS + 1):
            await child.start()
            for number in range(APPENDS_PER_LIFE):
                for topic, writer in writers.items():
                    numbers = range(ends[topic], ends[topic] + PER_APPEND)
                    await writer.append([body(seq, topic) for seq in numbers])
                    ends[topic] = numbers.stop
                await asyncio.sleep(rng.random() * 0.01)
                if number == APPENDS_PER_LIFE // 2:
                    await asyncio.to_thread(place.harm, life)
            if life < KILLS:
                await asyncio.sleep(rng.random() * 0.2)
                child.kill()

        def opened() -> DeltaLake:
            return open_lake(settings, names=["ticks", "books"], retention_hours=24)

        await until_stored(opened, ends)
        lake = opened()
        assert lake.tables() == ["books", "ticks"]
        await until(lambda: optimised(lake, "books") and optimised(lake, "ticks"), "each table was optimised")
        for feed in FEEDS:
            if feed.topic in ends:
                check(lake, feed, ends[feed.topic])
    finally:
        child.kill()
        await bus.close()


def optimised(lake: DeltaLake, table: str) -> bool:
    return any(commit.operation == "OPTIMIZE" for commit in lake.history(table, 10_000))


def check(lake: DeltaLake, feed: Feed, end: int) -> None:
    """Each record is there, once."""
    answer = lake.read(feed.spec, Selection(limit=100_000))
    counts = Counter((row["epoch"], row["seq"]) for row in answer.rows)
    assert set(counts) == {(1, seq) for seq in range(end)}
    assert set(counts.values()) == {1}
