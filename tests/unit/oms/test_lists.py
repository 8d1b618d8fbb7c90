"""Children of lists and the limits: what is asked when the list is submitted, and what when a child is released."""

from typing import Any

import msgspec
import pytest
from tests.checker_states import States
from tests.unit.oms.test_machine import BTC, PRICE, UNIT, Desk, bracket, spec, stop, submit_list

from trade2026.controls import order_log
from trade2026.controls.limits import LimitBook, LimitSet, Rate
from trade2026.controls.machine import Controls
from trade2026.domain import commands as cmd
from trade2026.domain import events as ev
from trade2026.domain.order_fold import OrderFold
from trade2026.domain.orders import Order, OrderType, OrdStatus
from trade2026.oms.refusals import Refused


def limited(**limits: Any) -> Desk:
    return Desk(LimitBook(account_default=LimitSet(**limits)))


def adopt(desk: Desk, **limits: Any) -> None:
    book = LimitBook(account_default=LimitSet(**limits))
    desk.do(cmd.AdoptLimits(ts=desk.now, version=2, limits=msgspec.Raw(msgspec.json.encode(book))))


def exits(**terms: Any) -> list[Any]:
    return [spec("entry"), spec("exit", **({"side": "SELL", "price": PRICE + 100 * UNIT} | terms))]


# ── when the list is submitted ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("limits", "terms", "code"),
    [
        ({"max_order_quantity": 10 * UNIT}, {"quantity": 11 * UNIT}, "MAX_ORDER_QUANTITY"),
        ({"max_order_value": 460_000 * UNIT}, {"price": 47_000 * UNIT}, "MAX_ORDER_VALUE"),
        ({"max_open_orders": 1}, {}, "MAX_OPEN_ORDERS"),
        ({"price_collar_bps": 500}, {"price": PRICE // 2}, "PRICE_COLLAR"),
    ],
)
def test_a_child_that_breaks_a_limit_refuses_its_list(limits: Any, terms: Any, code: str) -> None:
    desk = limited(**limits)
    before = desk.machine.controls.snapshot()
    with pytest.raises(Refused) as refused:
        submit_list(desk, "OTO", *exits(**terms))
    assert refused.value.reject_code == code
    assert (desk.log, desk.machine.controls.snapshot()) == ([], before)


@pytest.mark.parametrize("scope", ["strategy:mm", "trader:tom"])
def test_a_child_of_a_stopped_scope_refuses_its_list(scope: str) -> None:
    desk = Desk()
    desk.do(cmd.Kill(ts=desk.now, scope=scope, reason="test", principal="ann"))
    with pytest.raises(Refused) as refused:
        submit_list(desk, "OTO", *exits(strategy="mm", trader="tom"))
    assert refused.value.reject_code == "KILLED"


def test_a_child_of_somebody_without_the_permission_refuses_its_list() -> None:
    desk = Desk(LimitBook(strategies={"mm": LimitSet(restricted=[BTC])}))
    with pytest.raises(Refused) as refused:
        submit_list(desk, "OTO", *exits(strategy="mm"))
    assert refused.value.reject_code == "RESTRICTED"


def test_an_exit_far_from_the_market_passes_the_collars() -> None:
    desk = limited(price_collar_bps=100, passive_collar_bps=100, price_window_bps=100)
    submit_list(desk, "OTO", *exits(price=2 * PRICE))


def test_a_child_is_compared_with_the_price_of_its_parent_and_not_with_the_market() -> None:
    desk = limited(price_collar_bps=500)
    low = spec("entry", price=PRICE * 8 // 10)
    submit_list(desk, "OTO", low, spec("exit", side="SELL", price=PRICE * 82 // 100))


def test_children_that_wait_count_as_open_orders_until_they_are_gone() -> None:
    desk = limited(max_open_orders=4)
    entry, *_ = bracket(desk)
    assert desk.submit("c1").is_open
    assert desk.submit("c2").reject_code == "MAX_OPEN_ORDERS"
    desk.report(ev.VenueCanceled(order_id=entry.order_id))
    assert [desk.submit(f"d{number}").is_open for number in range(4)] == [True, True, True, False]


def test_children_that_wait_are_counted_after_a_snapshot_too() -> None:
    desk = limited(max_open_orders=3)
    bracket(desk)
    state = b"\n".join(order_log.slices(desk.machine.fold, desk.machine.controls))
    controls = Controls(LimitBook(), {})
    order_log.restore(state, OrderFold(controls), controls)
    check = controls.check(spec("c1"), desk.reference(), desk.now)
    assert check is not None
    assert check.code == "MAX_OPEN_ORDERS"


def test_an_amendment_of_a_child_that_waits_is_asked_what_its_submission_was() -> None:
    desk = limited(max_order_quantity=10 * UNIT, max_open_orders=2, price_collar_bps=500, passive_collar_bps=500)
    _, child = submit_list(desk, "OTO", *exits())
    desk.do(cmd.AmendOrder(ts=desk.now, order_id=child.order_id, price=2 * PRICE, reference=desk.reference()))
    assert (child.spec.price, child.status) == (2 * PRICE, OrdStatus.SUSPENDED)
    with pytest.raises(Refused):
        desk.do(cmd.AmendOrder(ts=desk.now, order_id=child.order_id, quantity=11 * UNIT, reference=desk.reference()))


# ── when a child is released ───────────────────────────────────────────────────────────────────


def test_exits_that_reduce_pass_every_limit_of_exposure_and_do_not_count_against_each_other() -> None:
    desk = limited(max_position=10 * UNIT, max_gross_exposure=10 * (PRICE + 100 * UNIT))
    entry, take_profit, stop_loss = bracket(desk)
    adopt(desk, max_position=UNIT, max_gross_exposure=UNIT, max_net_exposure=UNIT, restricted=[BTC])
    desk.fill(entry, 10 * UNIT)
    assert [take_profit.status, stop_loss.status] == [OrdStatus.PENDING_NEW, OrdStatus.NEW]


def test_a_child_that_would_exceed_a_limit_is_rejected_on_the_record_and_the_others_go_on() -> None:
    desk = limited(max_position=10 * UNIT)
    more = spec("more", price=PRICE - UNIT)
    out = spec("out", side="SELL", price=PRICE + 100 * UNIT)
    entry, refused, stays = submit_list(desk, "OTO", spec("entry"), more, out)
    desk.report(ev.VenueAccepted(order_id=entry.order_id, venue_order_id="v1"))
    desk.fill(entry, 10 * UNIT)
    assert (refused.status, refused.reject_code, stays.status) == (
        OrdStatus.REJECTED,
        "MAX_POSITION",
        OrdStatus.PENDING_NEW,
    )
    assert "not released" in refused.reason
    assert desk.types()[-3:] == ["OrderFilled", "OrderRejected", "OrderReleased"]
    model = States()
    for envelope in desk.log:
        model.apply(envelope)
    assert model.faults == []


def halted(desk: Desk) -> None:
    desk.do(cmd.Kill(ts=desk.now, scope="account:main", reason="test", principal="ann", halt=True))


def test_a_halt_lets_exits_go_and_keeps_back_what_opens() -> None:
    desk = Desk()
    entry, take_profit, stop_loss = bracket(desk)
    other = submit_list(desk, "OTO", spec("e2"), spec("more", price=PRICE - UNIT))
    halted(desk)
    desk.fill(entry, 10 * UNIT)
    desk.fill(other[0], 10 * UNIT)
    assert [take_profit.status, stop_loss.status] == [OrdStatus.PENDING_NEW, OrdStatus.NEW]
    assert (other[1].status, other[1].reject_code) == (OrdStatus.REJECTED, "HALTED")


def test_the_exits_of_several_brackets_count_once_a_list() -> None:
    desk = Desk()
    lists: list[list[Order]] = []
    for number in range(3):
        terms: dict[str, Any] = {"side": "SELL", "reduce_only": number > 0}
        out = spec(f"tp{number}", **terms, price=PRICE + 100 * UNIT)
        cut = spec(**(stop(f"sl{number}", stop_price=PRICE - UNIT) | terms))
        lists.append(submit_list(desk, "BRACKET", spec(f"e{number}"), out, cut))
    halted(desk)
    for entry, *_ in lists:
        desk.fill(entry, 10 * UNIT)
    assert [leg.status for _, *legs in lists for leg in legs] == [OrdStatus.PENDING_NEW, OrdStatus.NEW] * 3


def test_an_exit_that_would_turn_the_position_must_pass_the_limits() -> None:
    desk = limited(max_position=10 * UNIT)
    desk.fill(desk.submit("short", side="SELL"), 10 * UNIT)
    entry, out = submit_list(desk, "OTO", *exits())
    adopt(desk, max_position=5 * UNIT)
    desk.fill(entry, 10 * UNIT)
    assert (out.status, out.reject_code) == (OrdStatus.REJECTED, "MAX_POSITION")


def test_a_child_without_a_price_counts_at_what_its_parent_paid() -> None:
    desk = Desk()
    entry = spec("entry", order_type=OrderType.MARKET, price=0)
    out = spec("out", side="SELL", order_type=OrderType.MARKET, price=0)
    orders = desk.do(cmd.SubmitList(ts=desk.now, kind="OTO", specs=[entry, out]))
    desk.fill(orders[0], 10 * UNIT)
    assert orders[1].reserved_price == PRICE


def test_what_decides_a_release_is_in_the_log() -> None:
    """Also the time: it is the report's, and a loss of yesterday halts nobody today."""
    desk = limited(max_position=10 * UNIT, max_executions=Rate(count=100, per_ns=UNIT))
    _, *children = submit_list(desk, "OTO", spec("entry"), *exits()[1:], spec("more", price=PRICE - UNIT))
    entry = desk.machine.fold.orders["o0-0"]
    report = ev.VenueFilled(order_id=entry.order_id, exec_id="e", last_qty=10 * UNIT, last_px=PRICE)
    asked: list[int] = []
    check = desk.machine.controls.check_release

    def note(spec: Any, reserved: int, now: int, open_on_side: int | None = None) -> Any:
        asked.append(now)
        return check(spec, reserved, now, open_on_side)

    desk.machine.controls.check_release = note
    desk.do(cmd.ApplyReport(ts=desk.now, report=report, report_seq=0, ts_report=desk.now - 5))
    assert [child.status for child in children] == [OrdStatus.PENDING_NEW, OrdStatus.REJECTED]
    assert set(asked) == {desk.now - 1_000 - 5}


# ── when a child executes ──────────────────────────────────────────────────────────────────────


def two_exits(desk: Desk, kind: str, first: int = 5, second: int = 5) -> list[Order]:
    near = spec("near", side="SELL", quantity=first * UNIT, price=PRICE + 50 * UNIT)
    far = spec("far", side="SELL", quantity=second * UNIT, price=PRICE + 100 * UNIT)
    return submit_list(desk, kind, spec("entry"), near, far)


def test_the_children_of_an_oto_list_are_independent_of_each_other() -> None:
    desk = Desk()
    entry, near, far = two_exits(desk, "OTO")
    desk.fill(entry, 10 * UNIT)
    desk.fill(near, 2 * UNIT, PRICE + 50 * UNIT)
    desk.fill(near, 3 * UNIT, PRICE + 50 * UNIT)
    assert (near.status, far.status) == (OrdStatus.FILLED, OrdStatus.PENDING_NEW)
    desk.fill(far, 5 * UNIT, PRICE + 100 * UNIT)
    assert desk.machine.controls.position("main", BTC).quantity == 0
    assert "CancelRequested" not in desk.types()


def test_the_first_execution_of_a_brackets_exit_cancels_the_other_one_only() -> None:
    desk = Desk()
    entry, near, far = two_exits(desk, "BRACKET", 10, 10)
    desk.fill(entry, 10 * UNIT)
    desk.fill(far, UNIT, PRICE + 100 * UNIT)
    assert (near.status, far.status) == (OrdStatus.PENDING_CANCEL, OrdStatus.PARTIALLY_FILLED)


@pytest.mark.parametrize("kind", ["OTO", "BRACKET"])
def test_a_child_that_a_person_cancels_takes_no_other_with_it(kind: str) -> None:
    desk = Desk()
    entry, near, far = two_exits(desk, kind)
    desk.fill(entry, 10 * UNIT)
    desk.do(cmd.CancelOrder(ts=desk.now, order_id=near.order_id))
    desk.report(ev.VenueCanceled(order_id=near.order_id))
    assert (near.status, far.status) == (OrdStatus.CANCELED, OrdStatus.PENDING_NEW)


def cut_short(desk: Desk, entry: Order, executed: int) -> None:
    desk.fill(entry, executed * UNIT)
    desk.do(cmd.CancelOrder(ts=desk.now, order_id=entry.order_id))
    desk.report(ev.VenueCanceled(order_id=entry.order_id))


@pytest.mark.parametrize(("executed", "near", "far"), [(4, 4, 0), (5, 5, 0), (7, 5, 2)])
def test_independent_exits_share_what_an_entry_cut_short_has_executed(executed: int, near: int, far: int) -> None:
    desk = Desk()
    entry, *exits = two_exits(desk, "OTO")
    cut_short(desk, entry, executed)
    assert [order.leaves_qty for order in exits] == [near * UNIT, far * UNIT]
    assert exits[1].is_open == bool(far)


def test_a_child_of_an_oto_list_is_as_large_as_it_was_asked_for_once_its_parent_is_filled() -> None:
    desk = Desk()
    entry, turn = submit_list(desk, "OTO", spec("entry"), spec("turn", side="SELL", quantity=15 * UNIT))
    desk.fill(entry, 10 * UNIT)
    assert (turn.status, turn.leaves_qty) == (OrdStatus.PENDING_NEW, 15 * UNIT)


def test_independent_exits_that_would_turn_the_position_together_must_pass_the_limits() -> None:
    desk = Desk()
    entry, near, far = two_exits(desk, "OTO", 10, 10)
    halted(desk)
    desk.fill(entry, 10 * UNIT)
    assert (near.status, far.status, far.reject_code) == (OrdStatus.PENDING_NEW, OrdStatus.REJECTED, "HALTED")


def test_children_in_a_snapshot_that_does_not_tell_their_kind_stay_rivals() -> None:
    desk = Desk()
    entry, near, far = two_exits(desk, "BRACKET", 10, 10)
    for order in (entry, near, far):
        order.list_kind = ""
    desk.fill(entry, 10 * UNIT)
    desk.fill(near, 10 * UNIT, PRICE + 50 * UNIT)
    assert far.status is OrdStatus.PENDING_CANCEL
