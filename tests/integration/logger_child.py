"""A process that keeps the audit log, for a test that kills it: `python logger_child.py STATE SETTINGS`."""

import asyncio
import sys
from pathlib import Path

from trade2026.kit.bus.sqlite import SqliteBus
from trade2026.kit.clock import WallClock
from trade2026.kit.metrics import Metrics
from trade2026.kit.service import Context
from trade2026.kit.settings import load
from trade2026.logger.service import LoggerService


async def run(state: Path, settings_file: Path) -> None:
    """Run until killed."""
    settings, clock = load(settings_file), WallClock()
    bus = SqliteBus(state / "bus", settings.topics)
    service = LoggerService(Context(settings, bus, clock, Metrics(clock)))
    await service.start()
    (state / "ready").touch()
    await asyncio.Event().wait()


asyncio.run(run(Path(sys.argv[1]), Path(sys.argv[2])))
