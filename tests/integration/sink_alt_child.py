"""A process that takes records and stores them, for a test that kills it: `python sink_alt_child.py STATE SETTINGS`.

It gives itself numbered records, and says in `acknowledged` how many were. After a kill it begins with the first that
was not: those that were recorded all the same are given again.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

from trade2026.kit.bus.sqlite import SqliteBus
from trade2026.kit.clock import WallClock
from trade2026.kit.metrics import Metrics
from trade2026.kit.service import Context
from trade2026.kit.settings import load
from trade2026.sink_alt.commands import AcceptRecord, RegisterSource
from trade2026.sink_alt.machine import Outcome
from trade2026.sink_alt.service import SinkAltService

PER_BATCH = 20
SCHEMA = b'{"type":"object","additionalProperties":false,"properties":{"number":{"type":"integer"}}}'


async def run(state: Path, settings_file: Path) -> None:
    """Run until killed, or until the file `enough` is there."""
    settings, clock = load(settings_file), WallClock()
    bus = SqliteBus(state / "bus", settings.topics)
    service = SinkAltService(Context(settings, bus, clock, Metrics(clock)))
    await service.start()
    await service.ask(RegisterSource(ts=clock.now(), source="numbers", schema=SCHEMA))
    file = state / "acknowledged"
    number = int(file.read_text().split()[-1]) if file.exists() else 0
    said = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    (state / "ready").touch()
    while not (state / "enough").exists():
        numbers = range(number, number + PER_BATCH)
        answers = await service.ask(*(given(each, clock.now()) for each in numbers))
        assert all(isinstance(answer, Outcome) and answer.status == "accepted" for answer in answers), answers
        number = numbers.stop
        os.write(said, f"{number}\n".encode())
        await asyncio.sleep(0.005)
    for sink in service.sinks.values():
        while sink.stored_to < service.machine.next_seq:
            await asyncio.sleep(0.05)
    await service.stop()
    await bus.close()


def given(number: int, now: int) -> AcceptRecord:
    """A record; what it says follows from its number."""
    data = json.dumps({"number": number}).encode()
    return AcceptRecord(
        ts=now, source="numbers", record_id=f"r{number}", symbol="ABC"[number % 3], ts_event=number, ts_available=0, data=data
    )  # fmt: skip


asyncio.run(run(Path(sys.argv[1]), Path(sys.argv[2])))
