"""What risk says is read again until our own log has it."""

import asyncio
from typing import Any

import msgspec

from trade2026.controls.limits import LimitBook, LimitSet, Tightening
from trade2026.controls.machine import Controls
from trade2026.domain import events as ev
from trade2026.kit.bus.memory import MemoryBus
from trade2026.kit.bus.port import TopicConfig
from trade2026.kit.clock import ManualClock
from trade2026.kit.owner import Owner
from trade2026.kit.publisher import Publisher
from trade2026.oms.machine import OrderMachine
from trade2026.oms.risk_follower import TOPIC, RiskFollower

CEILINGS = LimitBook(stack=LimitSet(max_open_orders=10))


class Zombie(Owner):
    """Decides, and is then told that another owner has the log."""

    def submit(self, command: Any, *, reduces_risk: bool = False) -> Any:
        self._claiming = asyncio.ensure_future(self.claimed_by_another())
        return super().submit(command, reduces_risk=reduces_risk)

    async def claimed_by_another(self) -> None:
        await self.bus.claim(self.topic, 0, "heir")


def owner_of(bus: MemoryBus, clock: ManualClock, kind: type[Owner] = Owner) -> Owner:
    return kind(bus, "orders.events", lambda: OrderMachine(Controls(LimitBook(), {})), clock, tenant="t", name="oms")


async def test_a_tightening_that_a_replaced_owner_could_not_record_is_read_by_its_heir() -> None:
    bus, clock = MemoryBus([TopicConfig(name=TOPIC), TopicConfig(name="orders.events")]), ManualClock()
    risk = Publisher(bus, TOPIC, tenant="t", clock=clock, owner="risk")
    await risk.start()
    tightening = Tightening(scope="stack", limits=LimitSet(max_open_orders=1), by="ann", reason="thin")
    book = msgspec.structs.replace(CEILINGS, version=9, tightened=[tightening])
    await risk.publish(ev.LimitsChanged(version=9, limits=msgspec.Raw(msgspec.json.encode(book)), by="ann", reason="t"))

    before = owner_of(bus, clock, Zombie)
    await before.start()
    follower = RiskFollower(bus, before, clock, CEILINGS)
    async with asyncio.timeout(60):
        await follower.start()
    assert before.fenced
    assert await bus.committed("oms", TOPIC, 0) == 0
    await follower.stop()

    heir = owner_of(bus, clock)
    await heir.start()
    follower = RiskFollower(bus, heir, clock, CEILINGS)
    await follower.start()
    assert heir.machine.controls.book.stack.max_open_orders == 1
    assert await bus.committed("oms", TOPIC, 0) == 1
    await follower.stop()
    await heir.stop()
