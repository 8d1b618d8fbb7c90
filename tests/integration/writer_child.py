"""A process that writes time series, for a test that kills it: `python writer_child.py STATE [URL OF QUESTDB]`."""

import asyncio
import sys
from pathlib import Path

import msgspec
from rig import Rig
from tests.questdb import on_questdb

from trade2026.questdb_writer.service import QuestDbWriterService
from trade2026.stores.timeseries.questdb_http import QuestDbSettings


async def run(state: Path, *questdb: str) -> None:
    """Write until killed, in many small batches."""
    rig = Rig(state, "data")
    config = {"questdb_writer": {"batch_rows": 300, "batch_seconds": 0.02}}
    rig.settings = msgspec.structs.replace(rig.settings, config=config)
    for url in questdb:
        rig.settings = on_questdb(rig.settings, QuestDbSettings(url=url))
    await rig.start(QuestDbWriterService)
    (state / "ready").touch()
    await asyncio.Event().wait()


asyncio.run(run(Path(sys.argv[1]), *sys.argv[2:]))
