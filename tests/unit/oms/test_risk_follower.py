"""What risk says is read again until our own log has it."""

import asyncio
from typing import Any

import msgspec
import pytest
from tests.waiting import until

from trade2026.controls.limits import LimitBook, LimitSet, Slice, Tightening, with_told
from trade2026.controls.machine import Controls
from trade2026.domain import events as ev
from trade2026.kit.bus.memory import MemoryBus
from trade2026.kit.bus.port import BusError, TopicConfig
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


def value_of(owner: Owner) -> int:
    return owner.machine.controls.book.slices["stack"]["max_open_orders"].value


async def test_an_old_grant_that_is_read_again_is_no_grant_though_its_limit_has_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bus, clock = MemoryBus([TopicConfig(name=TOPIC), TopicConfig(name="orders.events")]), ManualClock()
    ceilings = LimitBook(stack=LimitSet(max_open_orders=100))
    risk = Publisher(bus, TOPIC, tenant="t", clock=clock, owner="risk")
    await risk.start()

    def changed(version: int, *tightened: Tightening) -> ev.LimitsChanged:
        book = msgspec.structs.replace(ceilings, version=version, tightened=list(tightened))
        return ev.LimitsChanged(version=version, limits=msgspec.Raw(msgspec.json.encode(book)), by="ann", reason="r")

    async def refused(*args: Any) -> None:
        raise BusError("not now")

    first = owner_of(bus, clock)
    await first.start()
    follower = RiskFollower(bus, first, clock, ceilings, 4)
    with monkeypatch.context() as patch:
        patch.setattr(bus, "commit", refused)
        await follower.start()
        await follower.adopt()
        slices = msgspec.Raw(msgspec.json.encode({"stack": {"max_open_orders": Slice(100, 70)}}))
        await risk.publish(ev.SlicesGranted(partition=0, slices=slices))
        await until(lambda: value_of(first) == 70, "it has what was granted")
        tight = Tightening(scope="stack", limits=LimitSet(max_open_orders=60), by="ann", reason="thin")
        await risk.publish(changed(2, tight))
        await until(lambda: value_of(first) == 15, "it has its equal share")
        await risk.publish(changed(3))
        await until(
            lambda: first.machine.controls.book.stack.max_open_orders == 15, "the limit is back, its part is not"
        )
        await until(lambda: first.machine.controls.book.slices["stack"]["max_open_orders"].of == 100, "of the whole")
        await follower.stop()
    await first.stop()

    heir = owner_of(bus, clock)
    await heir.start()
    follower = RiskFollower(bus, heir, clock, ceilings, 4)
    await follower.start()
    await until(lambda: not follower.followed[0].lag, "all is read again")
    await follower.adopt()
    assert value_of(heir) == 15
    await follower.stop()
    await heir.stop()


@pytest.mark.parametrize("is_more_granted", [False, True])
async def test_an_owner_that_has_the_log_again_does_not_bring_back_what_another_has_given_away(
    monkeypatch: pytest.MonkeyPatch, is_more_granted: bool
) -> None:
    bus, clock = MemoryBus([TopicConfig(name=TOPIC), TopicConfig(name="orders.events")]), ManualClock()
    ceilings = LimitBook(stack=LimitSet(max_open_orders=100, max_gross_exposure=100))
    risk = Publisher(bus, TOPIC, tenant="t", clock=clock, owner="risk")
    await risk.start()

    async def grant(field: str, value: int) -> None:
        slices = msgspec.Raw(msgspec.json.encode({"stack": {field: Slice(100, value)}}))
        await risk.publish(ev.SlicesGranted(partition=0, slices=slices))

    async def tighten(*most: int) -> None:
        tightened = [
            Tightening(scope="stack", limits=LimitSet(max_order_quantity=each), by="ann", reason="thin")
            for each in most
        ]
        book = msgspec.structs.replace(ceilings, version=9, tightened=tightened)
        limits = msgspec.Raw(msgspec.json.encode(book))
        await risk.publish(ev.LimitsChanged(version=9, limits=limits, by="ann", reason="r"))

    def is_as_granted(owner: Owner) -> bool:
        return value_of(owner) == 20 and owner.machine.controls.book.stack.max_order_quantity == 3

    slow = owner_of(bus, clock)
    await slow.start()
    follower = RiskFollower(bus, slow, clock, ceilings, 4)
    await follower.start()
    await grant("max_open_orders", 70)
    await tighten(5)
    await until(lambda: value_of(slow) == 70, "it has what was granted")
    await until(lambda: slow.machine.controls.book.stack.max_order_quantity == 5, "and what was tightened")
    reader: Any = follower.followed[0]
    read, held = reader._read, asyncio.Event()

    async def late() -> Any:
        await held.wait()
        return await read()

    await grant("max_gross_exposure", 24)  # read in the call that is under way: those after it are late
    monkeypatch.setattr(reader, "_read", late)
    await until(lambda: slow.machine.controls.book.stack.max_gross_exposure == 24, "it has this, too")

    other = owner_of(bus, clock)
    await other.start()
    heir = RiskFollower(bus, other, clock, ceilings, 4)
    await heir.start()
    await grant("max_open_orders", 20)
    await tighten(5, 3)
    await until(lambda: is_as_granted(other), "the other has less")
    await heir.stop()
    await other.stop()

    await slow.stop()
    slow = follower.owner = owner_of(bus, clock)  # its group has given it the partition back
    await slow.start()
    await follower.claimed()
    assert is_as_granted(slow)
    if is_more_granted:
        await grant("max_gross_exposure", 26)
    held.set()
    end = await bus.end(TOPIC, 0)
    await until(lambda: reader.next_seq == end and not reader.lag, "it has read all")
    await follower.adopt()
    assert is_as_granted(slow)
    assert slow.machine.controls.book.stack.max_gross_exposure == (26 if is_more_granted else 24)
    await follower.stop()
    await slow.stop()


async def test_limits_of_strategies_that_were_told_are_kept_by_an_owner_that_hears_nothing_of_risk() -> None:
    bus, clock = MemoryBus([TopicConfig(name=TOPIC), TopicConfig(name="orders.events")]), ManualClock()
    ceilings = LimitBook(strategy_default=LimitSet(max_open_orders=5))
    risk = Publisher(bus, TOPIC, tenant="t", clock=clock, owner="risk")
    await risk.start()
    owner = owner_of(bus, clock)
    await owner.start()
    follower = RiskFollower(bus, owner, clock, ceilings)
    await follower.start()
    told = with_told(ceilings, {"maker": LimitSet(max_order_quantity=3)})
    limits = msgspec.Raw(msgspec.json.encode(told))
    await risk.publish(ev.LimitsChanged(version=2, limits=limits, by="platform", reason="it was applied"))
    whole = LimitSet(max_open_orders=5, max_order_quantity=3)
    await until(lambda: owner.machine.controls.book.of("strategy", "maker") == whole, "they are adopted")
    await follower.stop()
    await owner.stop()

    heir = owner_of(bus, clock)
    await heir.start()
    follower = RiskFollower(bus, heir, clock, LimitBook(strategy_default=LimitSet(max_open_orders=4)))
    await follower.start()
    await follower.adopt()
    assert heir.machine.controls.book.of("strategy", "maker") == LimitSet(max_open_orders=4, max_order_quantity=3)
    await follower.stop()
    await heir.stop()
