"""The life of an order: given events, when a command comes, then these events follow."""

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.checker_limits import over_limits
from tests.checker_lists import broken_lists
from tests.checker_states import States

from trade2026.controls.limits import LimitBook, LimitSet, Rate
from trade2026.controls.machine import Controls
from trade2026.domain import commands as cmd
from trade2026.domain import events as ev
from trade2026.domain.market import Reference
from trade2026.domain.order_fold import counted
from trade2026.domain.orders import CLOSED, Order, OrderSpec, OrderType, OrdStatus
from trade2026.oms.machine import OrderMachine
from trade2026.oms.refusals import BadAmendment, BadList, ClientOrderIdReused, OrderClosed, Refused, UnknownOrder

UNIT = 10**9
PRICE = 45_000 * UNIT
BTC = "BTCUSDT.SIM"


class Desk:
    """One machine, its log in memory, and a clock that ticks with every command."""

    def __init__(self, book: LimitBook | None = None) -> None:
        self.book = book or LimitBook()
        self.machine = OrderMachine(Controls(self.book, {}))
        self.log: list[ev.Envelope] = []
        self.now = 1_700_000_000 * UNIT
        self.reports = 0

    def do(self, command: cmd.Command) -> Any:
        def emit(event: ev.AnyEvent) -> None:
            envelope = ev.Envelope(len(self.log), 1, command.ts, command.ts, "desk", "local", "", "", "", event)
            envelope = ev.decode(ev.encode(envelope))
            self.machine.apply(envelope)
            self.log.append(envelope)

        self.now += 1_000
        answer = self.machine.decide(command, emit)
        if isinstance(answer, Order):
            return self.live(answer)
        return [self.live(order) for order in answer] if isinstance(answer, list) else answer

    def live(self, answer: Order) -> Order:
        """The order behind an answer: tests look at what becomes of it."""
        order = self.machine.fold.orders[answer.order_id]
        assert order == answer
        assert order is not answer, "an answer waits until it is durable, so it must not change meanwhile"
        return order

    def submit(self, client_order_id: str = "c1", **terms: Any) -> Order:
        return self.do(cmd.SubmitOrder(ts=self.now, spec=spec(client_order_id, **terms), reference=self.reference()))

    def reference(self, last: int = PRICE) -> Reference:
        return Reference(last, last, last, ts=self.now)

    def report(self, report: ev.ReportEvent) -> None:
        self.do(cmd.ApplyReport(ts=self.now, report=report, report_seq=self.reports))
        self.reports += 1

    def fill(self, order: Order, quantity: int, price: int = PRICE) -> None:
        exec_id = f"e{self.reports}"
        self.report(ev.VenueFilled(order_id=order.order_id, exec_id=exec_id, last_qty=quantity, last_px=price))

    def observe(self, low: int, high: int) -> None:
        reference = Reference(high, low, high, ts=self.now)
        self.do(cmd.ObserveMarket(ts=self.now, instrument=BTC, reference=reference))

    def types(self, start: int = 0) -> list[str]:
        return [type(envelope.data).__name__ for envelope in self.log[start:]]


def spec(client_order_id: str, **terms: Any) -> OrderSpec:
    values: dict[str, Any] = {
        "client_order_id": client_order_id,
        "account": "main",
        "instrument": BTC,
        "side": "BUY",
        "order_type": OrderType.LIMIT,
        "quantity": 10 * UNIT,
        "price": PRICE,
    }
    return OrderSpec(**(values | terms))


def stop(client_order_id: str = "s1", **terms: Any) -> dict[str, Any]:
    return {
        "client_order_id": client_order_id,
        "order_type": OrderType.STOP,
        "price": 0,
        "stop_price": PRICE + UNIT,
    } | terms


# ── submit ─────────────────────────────────────────────────────────────────────────────────────


def test_a_second_submit_with_the_same_client_order_id_returns_the_first_answer() -> None:
    desk = Desk()
    first = desk.submit("c1")
    assert desk.submit("c1") is first
    assert desk.types() == ["OrderAccepted"]


def test_the_same_client_order_id_with_other_content_is_refused_and_leaves_no_trace() -> None:
    desk = Desk()
    desk.submit("c1")
    with pytest.raises(ClientOrderIdReused):
        desk.submit("c1", quantity=UNIT)
    assert len(desk.log) == 1


def test_a_repeated_submit_after_an_amendment_still_gets_the_first_answer() -> None:
    desk = Desk()
    order = desk.submit("c1")
    desk.report(ev.VenueAccepted(order_id=order.order_id, venue_order_id="v1"))
    desk.do(cmd.AmendOrder(ts=desk.now, order_id=order.order_id, quantity=5 * UNIT, reference=desk.reference()))
    desk.report(ev.VenueReplaced(order_id=order.order_id, quantity=5 * UNIT, price=PRICE))
    assert desk.submit("c1") is order


def test_a_refused_order_is_recorded_with_its_reject_code() -> None:
    desk = Desk(LimitBook(account_default=LimitSet(max_order_quantity=UNIT)))
    order = desk.submit()
    assert (order.status, order.reject_code) == (OrdStatus.REJECTED, "MAX_ORDER_QUANTITY")
    assert desk.types() == ["OrderRefused"]


def test_a_sent_order_counts_in_the_limits_before_the_venue_answers() -> None:
    desk = Desk(LimitBook(account_default=LimitSet(max_gross_exposure=15 * PRICE)))
    assert desk.submit("c1").status is OrdStatus.PENDING_NEW
    assert desk.submit("c2").reject_code == "CREDIT_THRESHOLD"


def test_a_closed_order_counts_no_longer() -> None:
    desk = Desk(LimitBook(account_default=LimitSet(max_gross_exposure=15 * PRICE)))
    order = desk.submit("c1")
    desk.do(cmd.CancelOrder(ts=desk.now, order_id=order.order_id))
    desk.report(ev.VenueCanceled(order_id=order.order_id))
    assert desk.submit("c2").status is OrdStatus.PENDING_NEW


@pytest.mark.parametrize(("held", "side", "quantity"), [(0, "SELL", 1), (5, "BUY", 1), (5, "SELL", 6), (-5, "SELL", 1)])
def test_a_reduce_only_order_may_not_open_or_turn_a_position(held: int, side: str, quantity: int) -> None:
    desk = Desk()
    if held:
        opened = desk.submit("c0", side="BUY" if held > 0 else "SELL", quantity=abs(held) * UNIT)
        desk.fill(opened, abs(held) * UNIT)
    refused = desk.submit("c1", side=side, quantity=quantity * UNIT, reduce_only=True)
    assert refused.reject_code == "REDUCE_ONLY"


# ── venue reports ──────────────────────────────────────────────────────────────────────────────


def test_the_same_report_twice_changes_nothing() -> None:
    desk = Desk()
    order = desk.submit()
    fill = ev.VenueFilled(order_id=order.order_id, exec_id="e1", last_qty=UNIT, last_px=PRICE)
    for _ in range(2):
        desk.do(cmd.ApplyReport(ts=desk.now, report=fill, report_seq=0))
    assert order.cum_qty == UNIT
    assert desk.types() == ["OrderAccepted", "OrderFilled"]


def test_a_report_of_an_order_that_is_not_ours_is_ignored() -> None:
    desk = Desk()
    desk.report(ev.VenueFilled(order_id="x", exec_id="e1", last_qty=UNIT, last_px=PRICE))
    assert desk.log == []


def test_a_fill_that_arrives_before_the_cancel_is_confirmed_is_kept() -> None:
    desk = Desk()
    order = desk.submit()
    desk.do(cmd.CancelOrder(ts=desk.now, order_id=order.order_id))
    desk.fill(order, 4 * UNIT)
    desk.report(ev.VenueCanceled(order_id=order.order_id))
    assert (order.status, order.cum_qty, order.leaves_qty) == (OrdStatus.CANCELED, 4 * UNIT, 0)


# ── cancel and amend ───────────────────────────────────────────────────────────────────────────


def test_a_cancel_of_an_unknown_or_closed_order_says_so() -> None:
    desk = Desk()
    with pytest.raises(UnknownOrder):
        desk.do(cmd.CancelOrder(ts=desk.now, order_id="o0-99"))
    order = desk.submit()
    desk.fill(order, 10 * UNIT)
    with pytest.raises(OrderClosed):
        desk.do(cmd.CancelOrder(ts=desk.now, order_id=order.order_id))


def test_a_second_cancel_asks_the_venue_only_once() -> None:
    desk = Desk()
    order = desk.submit()
    for _ in range(2):
        desk.do(cmd.CancelOrder(ts=desk.now, order_id=order.order_id))
    assert desk.types() == ["OrderAccepted", "CancelRequested"]


def test_a_second_cancel_of_all_counts_only_what_it_asks_for() -> None:
    desk = Desk()
    desk.submit("c1")
    assert desk.do(cmd.CancelAll(ts=desk.now)) == 1
    desk.submit("c2")
    assert [desk.do(cmd.CancelAll(ts=desk.now)) for _ in range(2)] == [1, 0]


def test_a_held_stop_is_cancelled_at_once_because_no_venue_knows_it() -> None:
    desk = Desk()
    order = desk.submit(**stop())
    desk.do(cmd.CancelOrder(ts=desk.now, order_id=order.order_id))
    assert desk.types() == ["OrderAccepted", "OrderCanceled"]


def test_an_amendment_below_what_has_executed_is_refused() -> None:
    desk = Desk()
    order = desk.submit()
    desk.fill(order, 4 * UNIT)
    with pytest.raises(BadAmendment):
        desk.do(cmd.AmendOrder(ts=desk.now, order_id=order.order_id, quantity=4 * UNIT, reference=desk.reference()))


def test_an_amendment_that_breaks_a_limit_is_refused_and_the_order_stays() -> None:
    desk = Desk(LimitBook(account_default=LimitSet(max_gross_exposure=15 * PRICE)))
    order = desk.submit()
    with pytest.raises(Refused) as caught:
        desk.do(cmd.AmendOrder(ts=desk.now, order_id=order.order_id, quantity=16 * UNIT, reference=desk.reference()))
    assert caught.value.reject_code == "CREDIT_THRESHOLD"
    assert order.spec.quantity == 10 * UNIT


# ── stops, trails, time ────────────────────────────────────────────────────────────────────────


def test_a_stop_goes_to_the_venue_as_a_market_order_when_its_price_is_touched() -> None:
    desk = Desk()
    order = desk.submit(**stop())
    desk.observe(PRICE, PRICE + UNIT - 1)
    assert not order.triggered
    desk.observe(PRICE, PRICE + UNIT)
    triggered = desk.log[-1].data
    assert isinstance(triggered, ev.OrderTriggered)
    assert (triggered.spec.order_type, triggered.spec.quantity) == (OrderType.MARKET, 10 * UNIT)


def test_a_stop_triggers_once() -> None:
    desk = Desk()
    desk.submit(**stop())
    desk.observe(PRICE, PRICE + UNIT)
    desk.observe(PRICE, PRICE + 2 * UNIT)
    assert desk.types() == ["OrderAccepted", "OrderTriggered"]


def test_a_trailing_stop_follows_the_market_one_way_only() -> None:
    desk = Desk()
    terms = stop(
        order_type=OrderType.TRAILING_STOP, side="SELL", stop_price=PRICE - 10 * UNIT, trailing_offset=10 * UNIT
    )
    order = desk.submit(**terms)
    desk.observe(PRICE + 5 * UNIT, PRICE + 5 * UNIT)
    assert order.stop_price == PRICE - 5 * UNIT
    desk.observe(PRICE, PRICE)
    assert order.stop_price == PRICE - 5 * UNIT
    desk.observe(PRICE - 5 * UNIT, PRICE)
    assert desk.types()[1:] == ["StopTrailed", "OrderTriggered"]


def test_an_order_that_the_venue_expired_by_itself_is_expired_here() -> None:
    desk = Desk()
    order = desk.submit(expire_at=desk.now + UNIT, time_in_force="GTD")
    desk.report(ev.VenueCanceled(order_id=order.order_id, unsolicited=True, expired=True))
    assert order.status is OrdStatus.EXPIRED


def test_an_order_whose_time_is_over_expires_after_the_venue_confirms() -> None:
    desk = Desk()
    order = desk.submit(expire_at=desk.now + UNIT, time_in_force="GTD")
    desk.do(cmd.PassTime(ts=desk.now))
    assert order.status is OrdStatus.PENDING_NEW
    desk.do(cmd.PassTime(ts=desk.now + UNIT))
    desk.report(ev.VenueCanceled(order_id=order.order_id))
    assert order.status is OrdStatus.EXPIRED


# ── lists ──────────────────────────────────────────────────────────────────────────────────────


def submit_list(desk: Desk, kind: str, *specs: OrderSpec) -> list[Order]:
    return desk.do(cmd.SubmitList(ts=desk.now, kind=kind, specs=list(specs), reference=desk.reference()))  # type: ignore[arg-type]


def bracket(desk: Desk) -> list[Order]:
    exit_terms: dict[str, Any] = {"side": "SELL"}
    take_profit = spec("tp", **exit_terms, price=PRICE + 100 * UNIT)
    stop_loss = spec("sl", **exit_terms, order_type=OrderType.STOP, price=0, stop_price=PRICE - 100 * UNIT)
    return submit_list(desk, "BRACKET", spec("entry"), take_profit, stop_loss)


def test_the_first_execution_of_an_oco_pair_cancels_the_other() -> None:
    desk = Desk()
    first, second = submit_list(desk, "OCO", spec("a"), spec("b", price=PRICE - UNIT))
    desk.fill(first, UNIT)
    assert second.status is OrdStatus.PENDING_CANCEL


def test_a_bracket_waits_for_its_entry_and_leaves_one_exit() -> None:
    desk = Desk()
    entry, take_profit, stop_loss = bracket(desk)
    assert [take_profit.status, stop_loss.status] == [OrdStatus.SUSPENDED] * 2
    desk.fill(entry, 10 * UNIT)
    assert [take_profit.status, stop_loss.status] == [OrdStatus.PENDING_NEW, OrdStatus.NEW]
    desk.fill(take_profit, 10 * UNIT, PRICE + 100 * UNIT)
    assert stop_loss.status is OrdStatus.CANCELED
    assert not desk.machine.fold.open


def test_the_exits_of_an_entry_that_was_cancelled_half_done_protect_what_was_executed() -> None:
    desk = Desk()
    entry, take_profit, stop_loss = bracket(desk)
    desk.fill(entry, 4 * UNIT)
    desk.do(cmd.CancelOrder(ts=desk.now, order_id=entry.order_id))
    desk.report(ev.VenueCanceled(order_id=entry.order_id))
    assert [take_profit.leaves_qty, stop_loss.leaves_qty] == [4 * UNIT] * 2


def test_the_children_of_an_entry_that_never_executed_are_cancelled_with_it() -> None:
    desk = Desk()
    entry, take_profit, stop_loss = bracket(desk)
    desk.do(cmd.CancelOrder(ts=desk.now, order_id=entry.order_id))
    desk.report(ev.VenueCanceled(order_id=entry.order_id))
    assert [take_profit.status, stop_loss.status] == [OrdStatus.CANCELED] * 2


def test_a_list_with_one_leg_over_a_limit_is_refused_as_a_whole() -> None:
    desk = Desk(LimitBook(account_default=LimitSet(max_order_quantity=10 * UNIT)))
    with pytest.raises(Refused):
        submit_list(desk, "OCO", spec("a"), spec("b", quantity=11 * UNIT))
    assert desk.log == []


@pytest.mark.parametrize(
    ("kind", "specs"),
    [
        ("OCO", [spec("a")]),
        ("OCO", [spec("a"), spec("a", price=PRICE - UNIT)]),
        ("OCO", [spec("a"), spec("b", account="other")]),
        ("BRACKET", [spec("a"), spec("b"), spec("c")]),
    ],
)
def test_orders_that_make_no_list_of_their_kind_are_refused(kind: str, specs: list[OrderSpec]) -> None:
    with pytest.raises(BadList):
        submit_list(Desk(), kind, *specs)


# ── kill, halt, limits ─────────────────────────────────────────────────────────────────────────


def test_a_kill_cancels_its_scope_and_refuses_new_orders_until_a_person_resumes_it() -> None:
    desk = Desk()
    mine, other = desk.submit("c1"), desk.submit("c2", account="other")
    asked = desk.do(cmd.Kill(ts=desk.now, scope="account:main", reason="test", principal="ann"))
    assert (asked, mine.status, other.status) == (1, OrdStatus.PENDING_CANCEL, OrdStatus.PENDING_NEW)
    assert desk.submit("c3").reject_code == "KILLED"
    desk.do(cmd.Resume(ts=desk.now, scope="account:main", reason="checked", principal="bob"))
    assert desk.submit("c4").status is OrdStatus.PENDING_NEW


def test_a_strategy_that_executes_too_often_is_halted_until_a_person_resumes_it() -> None:
    rate = Rate(count=2, per_ns=60 * UNIT)
    desk = Desk(LimitBook(strategies={"mm": LimitSet(max_executions=rate)}))
    for number in range(3):
        desk.fill(desk.submit(f"c{number}", strategy="mm"), 10 * UNIT)
    assert desk.types()[-1] == "Killed"
    assert desk.submit("c9", strategy="mm").reject_code == "REPEATED_EXECUTION"
    assert desk.submit("c10").status is OrdStatus.PENDING_NEW
    desk.do(cmd.Resume(ts=desk.now, scope="strategy:mm", reason="looked at it", principal="ann"))
    assert desk.submit("c11", strategy="mm").status is OrdStatus.PENDING_NEW


# ── any sequence ───────────────────────────────────────────────────────────────────────────────


class AnySequence(RuleBasedStateMachine):
    """Whatever users and venues do, the orders stay legal and a replay of the log is the same machine.

    Beside the machine runs a slow, obvious model of FIX's states that knows the log only.
    """

    def __init__(self) -> None:
        super().__init__()
        limits = LimitSet(max_open_orders=9, max_position=25 * UNIT, max_order_quantity=18 * UNIT)
        self.desk = Desk(LimitBook(account_default=limits))
        book = msgspec.Raw(msgspec.json.encode(self.desk.book))
        self.desk.do(cmd.AdoptLimits(ts=self.desk.now, version=1, limits=book))
        self.model = States()
        self.told = 0
        self.orders: list[Order] = []
        self.executed: dict[str, int] = {}

    @rule(quantity=st.integers(1, 20), side=st.sampled_from(["BUY", "SELL"]), held=st.booleans())
    def submit(self, quantity: int, side: str, held: bool) -> None:
        terms: dict[str, Any] = stop() if held else {"client_order_id": ""}
        terms |= {"client_order_id": f"c{len(self.orders)}", "side": side, "quantity": quantity * UNIT}
        if held and side == "SELL":
            terms["stop_price"] = PRICE - UNIT
        self.orders.append(self.desk.submit(**terms))

    @rule(
        quantities=st.lists(st.integers(1, 20), min_size=3, max_size=4),
        kind=st.sampled_from(["OCO", "OTO", "OTO", "BRACKET"]),
        side=st.sampled_from(["BUY", "SELL"]),
    )
    def submit_list(self, quantities: list[int], kind: str, side: str) -> None:
        count = len(self.orders)
        other = "SELL" if side == "BUY" else "BUY"
        legs = [
            spec(f"c{count + n}", quantity=quantity * UNIT, side=each)
            for n, (quantity, each) in enumerate(zip(quantities, [side, other, other, side], strict=False))
        ]
        with contextlib.suppress(Refused):
            self.orders += submit_list(self.desk, kind, *legs[:3] if kind == "BRACKET" else legs)

    @precondition(lambda self: self.orders)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        order = data.draw(st.sampled_from(self.orders))
        try:
            self.desk.do(cmd.CancelOrder(ts=self.desk.now, order_id=order.order_id))
        except OrderClosed:
            assert order.status in CLOSED

    @precondition(lambda self: self.orders)
    @rule(data=st.data(), quantity=st.integers(1, 30))
    def amend(self, data: st.DataObject, quantity: int) -> None:
        order = data.draw(st.sampled_from(self.orders))
        with contextlib.suppress(OrderClosed, BadAmendment, Refused):
            self.desk.do(
                cmd.AmendOrder(
                    ts=self.desk.now,
                    order_id=order.order_id,
                    quantity=quantity * UNIT,
                    reference=self.desk.reference(),
                )
            )

    @precondition(lambda self: any(order.working for order in self.orders))
    @rule(data=st.data())
    def venue(self, data: st.DataObject) -> None:
        order = data.draw(st.sampled_from([order for order in self.orders if order.working]))
        name = order.order_id
        kind = data.draw(st.sampled_from(["open", "fill", "reject", "cancel", "no-cancel", "replace", "no-replace"]))
        if kind == "open":
            self.desk.report(ev.VenueAccepted(order_id=name, venue_order_id="v"))
        elif kind == "fill":
            quantity = data.draw(st.integers(1, order.leaves_qty // UNIT)) * UNIT
            self.executed[name] = self.executed.get(name, 0) + quantity
            self.desk.fill(order, quantity)
        elif kind == "reject" and not order.cum_qty:
            self.desk.report(ev.VenueRejected(order_id=name, reason="no"))
        elif kind == "cancel":
            self.desk.report(ev.VenueCanceled(order_id=name))
        elif kind == "no-cancel" and order.status is OrdStatus.PENDING_CANCEL:
            self.desk.report(ev.VenueCancelRejected(order_id=name, reason="late"))
        elif kind == "replace" and order.status is OrdStatus.PENDING_REPLACE and order.pending_quantity > order.cum_qty:
            report = ev.VenueReplaced(order_id=name, quantity=order.pending_quantity, price=order.pending_price)
            self.desk.report(report)
        elif kind == "no-replace":
            self.desk.report(ev.VenueReplaceRejected(order_id=name, reason="no"))

    @rule(low=st.integers(-2, 0), high=st.integers(0, 2))
    def market(self, low: int, high: int) -> None:
        self.desk.observe(PRICE + low * UNIT, PRICE + high * UNIT)

    @invariant()
    def quantities_add_up(self) -> None:
        for order in self.orders:
            assert order.cum_qty == self.executed.get(order.order_id, 0)
            assert 0 <= order.cum_qty <= order.spec.quantity
            if order.is_open:
                assert order.leaves_qty == order.spec.quantity - order.cum_qty > 0
            else:
                assert order.leaves_qty == 0

    @invariant()
    def the_slow_model_says_the_same(self) -> None:
        for envelope in self.desk.log[self.told :]:
            self.model.apply(envelope)
        self.told = len(self.desk.log)
        for order in self.orders:
            told = self.model.orders[order.order_id]
            assert (told.status, told.leaves, told.counted) == (order.status, order.leaves_qty, counted(order))

    @invariant()
    def the_position_is_the_sum_of_the_fills(self) -> None:
        signs = {order.order_id: 1 if order.spec.side == "BUY" else -1 for order in self.orders}
        expected = sum(signs[name] * quantity for name, quantity in self.executed.items())
        assert self.desk.machine.controls.position("main", BTC).quantity == expected

    def teardown(self) -> None:
        assert over_limits(self.desk.log) == []
        assert broken_lists(self.desk.log) == []
        again = OrderMachine(Controls(self.desk.book, {}))
        for envelope in self.desk.log:
            again.apply(envelope)
        assert again.fold.snapshot() == self.desk.machine.fold.snapshot()
        assert again.controls.exposure("stack") == self.desk.machine.controls.exposure("stack")


AnySequence.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnySequence = AnySequence.TestCase


@pytest.mark.parametrize(
    "limits",
    [LimitSet(max_open_orders=1), LimitSet(max_position=15 * UNIT), LimitSet(max_gross_exposure=800_000 * UNIT)],
)
def test_the_legs_of_a_list_count_together_against_the_limits(limits: LimitSet):
    desk = Desk(LimitBook(account_default=limits))
    before = desk.machine.controls.snapshot()
    with pytest.raises(Refused):
        submit_list(desk, "OCO", spec("a"), spec("b", price=PRICE - UNIT))
    assert (desk.log, desk.machine.controls.snapshot()) == ([], before)
    assert desk.submit("a").is_open
