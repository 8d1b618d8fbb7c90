"""What only a partition's part of a limit has no room for is no refusal while a larger part may be waited for."""

from typing import Any

import msgspec
import pytest
from tests.unit.oms.test_machine import PRICE, UNIT, Desk, spec

from trade2026.controls.limits import LimitBook, LimitSet, Slice
from trade2026.controls.slices import Shortage
from trade2026.domain import commands as cmd
from trade2026.domain.orders import Order, OrdStatus
from trade2026.oms.refusals import Refused, SliceShort

_ORDER = 10 * PRICE
"""The value of one order."""


def desk(field: str, part: int, whole: int) -> Desk:
    """Of a partition that has `part` of what the stack may have."""
    limits: Any = {field: part}
    return Desk(LimitBook(stack=LimitSet(**limits), partitions=2, slices={"stack": {field: Slice(whole, part)}}))


def amend(desk: Desk, order: Order, *, may_wait: bool = True, **terms: Any) -> Order:
    reference = desk.reference()
    return desk.do(
        cmd.AmendOrder(ts=desk.now, order_id=order.order_id, reference=reference, may_wait=may_wait, **terms)
    )


def submit_list(desk: Desk, kind: Any, count: int, *, may_wait: bool = True, **terms: Any) -> list[Order]:
    specs = [spec(f"c{number}", **(terms if number else {})) for number in range(count)]
    return desk.do(cmd.SubmitList(ts=desk.now, kind=kind, specs=specs, reference=desk.reference(), may_wait=may_wait))


def test_an_amendment_that_only_the_slice_has_no_room_for_may_wait_and_what_the_whole_limit_lacks_may_not() -> None:
    found = desk("max_gross_exposure", 1 * _ORDER, 3 * _ORDER)
    order = found.submit()
    before = found.machine.controls.snapshot()
    with pytest.raises(SliceShort) as short:
        amend(found, order, quantity=30 * UNIT)
    assert short.value.shortage == Shortage("stack", "max_gross_exposure", 3 * _ORDER)
    with pytest.raises(Refused):
        amend(found, order, quantity=31 * UNIT)
    with pytest.raises(Refused):
        amend(found, order, quantity=30 * UNIT, may_wait=False)
    assert (len(found.log), found.machine.controls.snapshot()) == (1, before)


def test_a_list_says_what_all_of_its_legs_need_together() -> None:
    found = desk("max_open_orders", 1, 4)
    before = found.machine.controls.snapshot()
    for kind in ("OCO", "OTO"):
        with pytest.raises(SliceShort) as short:
            submit_list(found, kind, 4)
        assert short.value.shortage == Shortage("stack", "max_open_orders", 4)
        with pytest.raises(Refused):
            submit_list(found, kind, 5)
        with pytest.raises(Refused):
            submit_list(found, kind, 2, may_wait=False)
    assert (found.log, found.machine.controls.snapshot()) == ([], before)


def test_a_list_with_a_leg_that_no_slice_would_help_is_refused_at_once() -> None:
    found = desk("max_open_orders", 1, 4)
    with pytest.raises(Refused) as refused:
        submit_list(found, "OCO", 3, reduce_only=True)
    assert refused.value.reject_code == "REDUCE_ONLY"


def test_a_child_that_waits_for_its_parent_may_be_amended_by_what_it_was_asked_for() -> None:
    found = desk("max_open_orders", 2, 4)
    parent, child = submit_list(found, "OTO", 2)
    assert amend(found, child, quantity=20 * UNIT).spec.quantity == 20 * UNIT
    assert parent.is_open


def test_an_amendment_that_makes_an_order_smaller_passes_where_a_limit_is_exceeded() -> None:
    found = desk("max_gross_exposure", 3 * _ORDER, 3 * _ORDER)
    orders = [found.submit(f"c{number}") for number in range(3)]
    slices = {"stack": {"max_gross_exposure": Slice(3 * _ORDER, _ORDER)}}
    book = LimitBook(stack=LimitSet(max_gross_exposure=_ORDER), partitions=2, slices=slices)
    found.do(cmd.AdoptLimits(ts=found.now, version=2, limits=msgspec.Raw(msgspec.json.encode(book))))
    for order, less in zip(orders, ({"quantity": 9 * UNIT}, {"price": PRICE - UNIT}), strict=False):
        assert amend(found, order, **less).status is OrdStatus.PENDING_REPLACE
    with pytest.raises(Refused):
        amend(found, orders[2], quantity=11 * UNIT)
