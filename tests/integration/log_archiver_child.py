"""A process that moves the log to the lake, for a test that kills it: `python log_archiver_child.py STATE SETTINGS`."""

import asyncio
import sys
from pathlib import Path

from trade2026.archive.log_archiver import LogArchiver
from trade2026.kit.clock import WallClock
from trade2026.kit.metrics import Metrics
from trade2026.kit.settings import load
from trade2026.log_archive.opening import open_bus


async def run(state: Path, settings_file: Path) -> None:
    """Run until killed, without a pause: a kill meets every step."""
    settings, clock = load(settings_file), WallClock()
    archiver = LogArchiver(
        open_bus(settings), clock, Metrics(clock), state, {"orders.events": 1}, after_ns=1, records=10
    )
    archiver.round_seconds = archiver.pause_seconds = 0.0
    await archiver.bus.archive.extent("orders.events", 0)  # its library is loaded then
    (state / "ready").touch()
    await archiver.run()


asyncio.run(run(Path(sys.argv[1]), Path(sys.argv[2])))
