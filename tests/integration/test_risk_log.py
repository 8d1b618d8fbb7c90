"""The risk service's log on the disk: taken away, it is not begun anew."""

from pathlib import Path

import pytest

from trade2026.domain.events import Resumed
from trade2026.kit.bus.port import BusCorrupt, BusError, TopicConfig
from trade2026.kit.bus.sqlite import SqliteBus
from trade2026.kit.clock import WallClock
from trade2026.risk.log import TOPIC, RiskLog


async def test_a_log_that_was_taken_away_is_refused_until_it_is_back(tmp_path: Path) -> None:
    bus = SqliteBus(tmp_path, [TopicConfig(name=TOPIC)])
    faults: list[str] = []
    log = RiskLog(bus, WallClock(), tenant="desk", owner="test", on_fault=faults.append)
    await log.start()
    event = Resumed(scope="stack", reason="over", by="ann")
    assert await log.record(event, principal="ann") == 0
    (tmp_path / TOPIC).rename(tmp_path / "aside")
    with pytest.raises(BusError, match="was taken away"):
        await log.record(event, principal="ann")
    with pytest.raises(BusCorrupt, match="it ended at 1, and is gone; restore"):
        await log.record(event, principal="ann")
    await log.reclaim()
    assert "is gone" in faults[-1]
    (tmp_path / "aside").rename(tmp_path / TOPIC)
    await log.reclaim()
    assert faults[-1] == ""
    assert await log.record(event, principal="ann") >= 1  # the one that failed may be there
    await log.stop()
    await bus.close()
