"""Alternative data in a process that is killed in the middle of its batches: what was acknowledged is there, once."""

import asyncio
import json
import os
import random
from collections import Counter
from pathlib import Path

import msgspec
from rig import Rig
from tests.child import Child

from trade2026.kit.settings import ProcessSettings
from trade2026.sink_alt.analytics import RECORDS_TABLE
from trade2026.sink_alt.tables import RECORDS
from trade2026.stores.analytics.embedded import open_embedded
from trade2026.stores.analytics.port import Selection as Selected
from trade2026.stores.delta import DeltaLake
from trade2026.stores.lake import Selection

SECONDS_MAX = 60.0
KILLS = int(os.environ.get("SINK_KILLS", "10"))
BATCHES_PER_LIFE = 8
CHILD = Path(__file__).parent / "sink_alt_child.py"


class Sink(Child):
    """The process. Its batches are small, and it compacts all the time, so that a kill meets all of it."""

    def __init__(self, state: Path, settings: ProcessSettings) -> None:
        config = {"sink-alt": {"batch_seconds": 0.01, "batch_rows": 150, "compact_minutes": 0.001}}
        stores = {"analytics": {"type": "embedded"}}
        file = state / "data.json"
        file.write_bytes(msgspec.json.encode(msgspec.structs.replace(settings, config=config, stores=stores)))
        super().__init__(CHILD, state, str(file))

    def acknowledged(self) -> int:
        """How many records were; a line that a kill has cut does not count."""
        file = self.state / "acknowledged"
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
        whole = [int(line) for line in lines if line.endswith("\n")]
        return whole[-1] if whole else 0

    async def acknowledges(self, least: int) -> None:
        """Wait until it has acknowledged so many."""
        assert self.process is not None
        async with asyncio.timeout(SECONDS_MAX):
            while self.acknowledged() < least:
                assert self.process.poll() is None, "it ended by itself"
                await asyncio.sleep(0.02)

    async def ends(self) -> None:
        """Let it store what it has, and end."""
        assert self.process is not None
        (self.state / "enough").touch()
        async with asyncio.timeout(SECONDS_MAX):
            while self.process.poll() is None:
                await asyncio.sleep(0.05)
        assert self.process.returncode == 0


async def test_a_sink_that_is_killed_again_and_again_loses_no_record_and_doubles_none(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "data")
    settings = rig.settings
    await rig.close()
    child, rng = Sink(tmp_path, settings), random.Random(11)
    try:
        for life in range(KILLS + 1):
            child.spawn()
            await child.acknowledges(child.acknowledged() + 20 * BATCHES_PER_LIFE)
            if life < KILLS:
                await asyncio.sleep(rng.random() * 0.2)
                child.kill()
        await child.ends()
    finally:
        child.kill()
    lake = DeltaLake(tmp_path / "lake" / "alternative")
    rows = lake.read(RECORDS, Selection(limit=100_000)).rows
    counts = Counter(row["record_id"] for row in rows)
    assert set(counts) == {f"r{number}" for number in range(child.acknowledged())}
    assert set(counts.values()) == {1}
    assert all(json.loads(row["data"]) == {"number": row["ts_event"]} for row in rows)
    assert any(commit.operation == "OPTIMIZE" for commit in lake.history(RECORDS.name, 10_000))
    analytics = open_embedded(tmp_path / "analytics")
    try:
        kept = analytics.scan(RECORDS_TABLE, Selected(limit=100_000))
        assert {(row[2], row[3]) for row in kept} == {(row["record_id"], row["seq"]) for row in rows}
        assert len(kept) == len(rows) == analytics.count(RECORDS_TABLE)
    finally:
        analytics.close()
