"""What risk does for limits that span partitions, when its log is uncertain and when people release what it has halted."""

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from tests.waiting import until

from trade2026.controls.exposure import DAY_NS, Group
from trade2026.controls.limits import LimitBook, LimitSet, Slice, Slices
from trade2026.controls.machine import Controls
from trade2026.domain import events as ev
from trade2026.domain.numbers import COST_SCALE, SCALE
from trade2026.kit.bus.memory import MemoryBus
from trade2026.kit.bus.port import BusError, BusUncertain, TopicConfig
from trade2026.kit.clock import ManualClock
from trade2026.risk.log import TOPIC, NotThere, RiskLog
from trade2026.risk.sharing import SharingOut

NOW = ManualClock().now()
WHOLE = LimitBook(stack=LimitSet(max_open_orders=100, max_daily_loss=100 * SCALE))
HALT = ev.Killed(scope="stack", reason="lost", by="controls", halt=True, cause="breach")
RELEASE = ev.Resumed(scope="stack", reason="seen", by="ann")


class Seen:
    """A partition with a slice, so many open orders, and a loss."""

    def __init__(self, value: int, used: int, lost: int = 0) -> None:
        self.book = LimitBook(partitions=2, slices={"stack": {"max_open_orders": Slice(100, value)}})
        self.used, self.lost = used, lost
        self.halts: dict[str, ev.Killed] = {}
        self.kills: dict[str, ev.Killed] = {}

    def group(self, kind: str, name: str = "") -> Group:
        group = Group("stack")
        group.open_orders, group.pnl, group.day = self.used, -self.lost * COST_SCALE, NOW // DAY_NS
        return group

    def scopes_known(self) -> list[str]:
        return []

    def last_message(self, scope: str) -> int:
        return 0


def desk(*seen: Any, log: Any = None) -> tuple[SharingOut, list[ev.Killed]]:
    """The sharing out beside these partitions, and what it has killed."""
    killed: list[ev.Killed] = []

    async def kill(stop: ev.Killed, authorization: str) -> None:
        killed.append(stop)

    risk = SimpleNamespace(
        orders=[SimpleNamespace(controls=each, trips={}) for each in seen],
        book=WHOLE,
        log=log,
        context=SimpleNamespace(clock=ManualClock()),
        stops=SimpleNamespace(latched={}, kill=kill),
    )
    return SharingOut(risk), killed  # type: ignore[arg-type]


async def test_a_grant_that_may_have_been_recorded_is_not_forgotten_by_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bus, clock = MemoryBus([TopicConfig(name=TOPIC)]), ManualClock()
    log = RiskLog(bus, clock, tenant="t", owner="risk", on_fault=lambda why: None)
    await log.start()
    first, second = Seen(50, 49), Seen(20, 0)
    sharing, _ = desk(first, second, log=log)
    sharing._slicing._wanted["stack", "max_open_orders", 0] = (80, 10**30)
    publisher = log._publisher
    assert publisher is not None
    append = publisher.append

    async def unanswered(envelopes: Any) -> None:
        await append(envelopes)
        raise BusUncertain("the answer was lost")

    monkeypatch.setattr(publisher, "append", unanswered)
    with pytest.raises(BusUncertain):
        await sharing._grant()
    sharing._slicing._wanted.clear()
    first.used, second.used = 0, 19
    sharing._slicing._wanted["stack", "max_open_orders", 1] = (50, 10**30)
    with pytest.raises(NotThere):
        await sharing._grant()
    await sharing._grant()
    most = {0: 50, 1: 20}
    for record in await bus.read(TOPIC, 0, 0, 100):
        event = ev.decode(record.body).data
        if isinstance(event, ev.SlicesGranted):
            value = msgspec.json.decode(event.slices, type=Slices)["stack"]["max_open_orders"].value
            most[event.partition] = max(most[event.partition], value)
    assert sum(most.values()) <= 100, most


async def test_a_loss_of_all_partitions_together_halts_the_scope_once() -> None:
    first, second = Seen(50, 0, lost=60), Seen(50, 0, lost=39)
    sharing, killed = desk(first, second)
    await sharing._halt()
    assert killed == []
    second.lost = 41
    await sharing._halt()
    (stop,) = killed
    assert (stop.scope, stop.halt, stop.cause) == ("stack", True, "breach")
    assert "lost 101 today, the most is 100" in stop.reason
    first.halts["stack"] = second.halts["stack"] = stop
    await sharing._halt()
    assert len(killed) == 1


async def test_a_release_that_one_partition_shows_before_the_other_is_not_undone() -> None:
    first, second = Seen(50, 0), Seen(50, 0, lost=150)
    sharing, killed = desk(first, second)
    second.halts["stack"] = HALT  # first is released already
    sharing.stopped(RELEASE, 10)
    await sharing._halt()
    assert killed == []


@pytest.mark.parametrize(("tripped_at", "halted"), [(9, []), (11, ["stack"])])
async def test_a_start_halts_everywhere_what_was_tripped_since_a_person_has_released_it_and_nothing_older(
    monkeypatch: pytest.MonkeyPatch, tripped_at: int, halted: list[str]
) -> None:
    first, second = Controls(LimitBook(), {}), Controls(LimitBook(), {})
    second.killed(HALT)
    sharing, killed = desk(first, second)
    sharing._risk.orders[1].trips["stack"] = (HALT, tripped_at)

    async def nothing() -> None:
        pass

    monkeypatch.setattr(sharing, "_run", nothing)
    sharing.stopped(RELEASE, 10)
    await sharing.start()
    await sharing._halt()
    assert [stop.scope for stop in killed] == halted
    await sharing.stop()


async def test_a_scope_is_halted_everywhere_though_the_log_of_risk_can_not_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = Seen(50, 0, lost=60), Seen(50, 49, lost=60)
    bus, clock = MemoryBus([TopicConfig(name=TOPIC)]), ManualClock()
    log = RiskLog(bus, clock, tenant="t", owner="risk", on_fault=lambda why: None)
    await log.start()
    sharing, killed = desk(first, second, log=log)
    sharing._risk.orders[0].trips = sharing._risk.orders[1].trips = {}

    async def full(*args: Any, **named: Any) -> int:
        raise BusError("no room")

    monkeypatch.setattr(log, "record", full)
    await sharing.start()
    sharing.changed(ev.LimitsAdopted(version=1, limits=msgspec.Raw(b"{}")), 1)
    await until(lambda: killed, "it is halted")
    assert sharing.health()["slices"].ok, "it goes on looking"
    await sharing.stop()
