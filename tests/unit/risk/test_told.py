"""Limits that a strategy's own manifest tells while the stack runs."""

import msgspec
from tests.unit.risk.risk_desk import SECOND, UNIT, Desk, codes, order

from trade2026.controls.limits import LimitBook, LimitSet, Tightening
from trade2026.domain import events as ev

MAKER = "strategy:maker"


def own(quantity: int) -> LimitSet:
    """What a strategy's manifest sets."""
    return LimitSet(max_order_quantity=quantity)


async def test_limits_that_a_strategys_manifest_tells_hold_until_it_tells_others_also_after_a_restart(
    desk: Desk,
) -> None:
    risk = await desk.run()
    spec = order(2, strategy="maker")
    await risk.tell("maker", own(UNIT), "platform", "it was applied")
    assert risk.book.strategies["maker"] == own(UNIT) and not risk.is_enforced("maker")
    await adopted(desk, risk.book)
    assert risk.is_enforced("maker") and "MAX_ORDER_QUANTITY" in codes(risk, spec)
    risk = await desk.run()
    assert risk.book.strategies["maker"] == own(UNIT)
    await risk.tell("maker", own(3 * UNIT), "platform", "it was changed")
    await adopted(desk, risk.book)
    assert "MAX_ORDER_QUANTITY" not in codes(risk, spec)
    version = risk.book.version
    await risk.tell("maker", own(3 * UNIT), "platform", "it was looked at")
    assert risk.book.version == version
    await risk.tell("maker", LimitSet(), "platform", "it was deleted")
    assert "maker" not in risk.book.strategies and not risk.book.told
    changes = [each for each in await desk.recorded() if isinstance(each, ev.LimitsChanged)]
    assert [(each.by, each.reason) for each in changes][-3:] == [
        ("platform", "it was applied"), ("platform", "it was changed"), ("platform", "it was deleted"),
    ]  # fmt: skip


async def test_what_a_strategys_manifest_does_not_set_is_as_the_stack_says(desk: Desk) -> None:
    risk = await desk.run(LimitBook(strategy_default=LimitSet(max_order_quantity=9, max_open_orders=5)))
    await risk.tell("maker", own(3), "platform", "it was applied")
    assert risk.book.strategies["maker"] == LimitSet(max_order_quantity=3, max_open_orders=5)
    assert risk.book.of("strategy", "taker") == LimitSet(max_order_quantity=9, max_open_orders=5)


async def test_what_a_person_has_tightened_stands_when_the_strategys_manifest_goes_and_comes_again(desk: Desk) -> None:
    risk = await desk.run()
    await risk.tell("maker", own(9), "platform", "it was applied")
    tight = Tightening(scope=MAKER, limits=own(2), by="ann", reason="thin")
    await risk.tighten(tight)
    await risk.tell("maker", LimitSet(), "platform", "it was deleted")
    assert risk.book.strategies["maker"] == own(2)
    risk = await desk.run()
    await risk.tell("maker", own(9), "platform", "it was applied")
    assert risk.book.strategies["maker"] == own(2)
    assert [each.by for each in risk.book.tightened] == ["ann"]
    await risk.tell("maker", own(8), "platform", "a person has changed that limit in the manifest")
    assert risk.book.strategies["maker"] == own(8)


async def test_what_is_told_can_not_widen_what_is_tightened_for_a_time(desk: Desk) -> None:
    risk = await desk.run()
    await risk.tighten(Tightening(scope=MAKER, limits=own(2), by="ann", reason="r", until=desk.clock.now() + SECOND))
    for limits in (own(9), own(8), LimitSet()):
        await risk.tell("maker", limits, "platform", "it was applied")
        assert risk.book.strategies["maker"] == own(2)


async def adopted(desk: Desk, book: LimitBook) -> None:
    """The order service has recorded them."""
    limits = msgspec.Raw(msgspec.json.encode(book))
    await desk.order_events(ev.LimitsAdopted(version=book.version, limits=limits))
