"""The audit log in a process that is killed in the middle of its batches: each event is in it once, and it is whole."""

import asyncio
import os
import random
from collections import Counter
from pathlib import Path

import msgspec
from rig import Rig, accepted
from tests.child import Child
from tests.waiting import until

from trade2026.domain.events import AlertRaised, Envelope, encode
from trade2026.kit.bus.sqlite import SqliteBus
from trade2026.kit.settings import ProcessSettings
from trade2026.logger.checking import verify_store
from trade2026.logger.store import AuditReader

ORDERS, RISK = "orders.events", "risk.events"
KILLS = int(os.environ.get("SINK_KILLS", "10"))
PER_APPEND = 20
APPENDS_PER_LIFE = 20
CHILD = Path(__file__).parent / "logger_child.py"


def child_of(state: Path, settings: ProcessSettings) -> Child:
    """The process. Its batches are small, and it signs all the time, so that a kill meets all of it."""
    config = {"logger": {"batch_seconds": 0.01, "checkpoint_records": 50}}
    file = state / "data.json"
    file.write_bytes(msgspec.json.encode(msgspec.structs.replace(settings, config=config)))
    return Child(CHILD, state, str(file))


def body(seq: int, topic: str) -> bytes:
    ts = 10**18 + seq
    if topic == ORDERS:
        data = accepted(f"o0-{seq}")
    else:
        data = AlertRaised(alert_id=f"a-{seq}", severity="info", scope="stack", message="look")
    return encode(Envelope(seq, 1, ts, ts, "rig", "ann", "", "", "", data))


async def test_a_logger_that_is_killed_again_and_again_loses_no_event_and_doubles_none(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "data")
    settings = rig.settings
    await rig.close()
    bus, child, rng = SqliteBus(tmp_path / "bus", settings.topics), child_of(tmp_path, settings), random.Random(7)
    ends = dict.fromkeys((ORDERS, RISK), 0)
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
        reader = AuditReader(tmp_path / "audit" / "audit.db")
        await until(lambda: reader.end == sum(ends.values()), "everything is in the audit log")
        child.kill()
        counts = Counter(record.entry.event_id for record in reader.records())
        assert counts == {f"{topic}/0/{seq}": 1 for topic, end in ends.items() for seq in range(end)}
        report = await verify_store(reader, bus, running=False)
        assert (report.faults, report.end, report.events) == ([], sum(ends.values()), sum(ends.values()))
        assert report.signed_to > 0
        reader.close()
    finally:
        child.kill()
        await bus.close()
