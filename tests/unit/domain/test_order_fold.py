"""What has become of an order: the fold of its events, and how it counts in the limits meanwhile."""

from collections.abc import Iterable

import pytest

from trade2026.domain import events as ev
from trade2026.domain.order_fold import OrderFold, counted
from trade2026.domain.orders import OrderSpec, OrderType, OrdStatus

UNIT = 10**9
PRICE = 45_000 * UNIT


def spec(client_order_id: str = "c1", **terms: object) -> OrderSpec:
    values: dict[str, object] = {
        "client_order_id": client_order_id,
        "account": "main",
        "instrument": "BTCUSDT.SIM",
        "side": "BUY",
        "order_type": OrderType.LIMIT,
        "quantity": 10 * UNIT,
        "price": PRICE,
    }
    return OrderSpec(**(values | terms))  # type: ignore[arg-type]


class Exposure:
    """Sums what the fold says about open quantities."""

    def __init__(self) -> None:
        self.quantity = 0
        self.value = 0
        self.open_orders = 0

    def order_sent(self, spec: OrderSpec, ts: int) -> None: ...
    def message_sent(self, account: str, strategy: str, ts: int) -> None: ...
    def child_waits(self, spec: OrderSpec, change: int) -> None: ...
    def filled(self, event: ev.OrderFilled, ts: int) -> None: ...
    def marked(self, instrument: str, price: int) -> None: ...
    def killed(self, event: ev.Killed) -> None: ...
    def resumed(self, event: ev.Resumed) -> None: ...
    def limits_adopted(self, limits: object) -> None: ...

    def order_changed(
        self, spec: OrderSpec, qty_before: int, price_before: int, qty_after: int, price_after: int
    ) -> None:
        self.quantity += qty_after - qty_before
        self.value += qty_after * price_after - qty_before * price_before
        self.open_orders += (qty_after > 0) - (qty_before > 0)


def fold_of(*data: ev.AnyEvent, hook: Exposure | None = None) -> OrderFold:
    return extend(OrderFold(hook), data)


def extend(fold: OrderFold, data: Iterable[ev.AnyEvent]) -> OrderFold:
    for event in data:
        seq = fold.next_seq
        fold.apply(
            ev.decode(ev.encode(ev.Envelope(seq, 1, 1000 + seq, 1000 + seq, "desk", "local", "", "", "", event)))
        )
    return fold


def accepted(order_id: str = "o1", **terms: object) -> ev.OrderAccepted:
    return ev.OrderAccepted(order_id=order_id, spec=spec(order_id, **terms), reserved_price=PRICE)


def filled(last: int, cum: int, leaves: int, order_id: str = "o1") -> ev.OrderFilled:
    return ev.OrderFilled(
        order_id=order_id,
        exec_id=f"e{cum}",
        account="main",
        instrument="BTCUSDT.SIM",
        side="BUY",
        last_qty=last * UNIT,
        last_px=PRICE,
        cum_qty=cum * UNIT,
        leaves_qty=leaves * UNIT,
        cum_cost=cum * UNIT * PRICE,
    )


def test_an_order_goes_from_pending_new_over_new_and_partially_filled_to_filled() -> None:
    fold = fold_of(accepted())
    order = fold.orders["o1"]
    seen = [order.status]
    for event in (ev.OrderOpened(order_id="o1", venue_order_id="v1"), filled(4, 4, 6), filled(6, 10, 0)):
        extend(fold, [event])
        seen.append(order.status)
    assert seen == [OrdStatus.PENDING_NEW, OrdStatus.NEW, OrdStatus.PARTIALLY_FILLED, OrdStatus.FILLED]
    assert (order.cum_qty, order.leaves_qty, order.seqs) == (10 * UNIT, 0, [0, 1, 2, 3])
    assert not fold.open


def test_a_fill_during_a_pending_cancel_counts_and_the_cancel_stays_pending() -> None:
    fold = fold_of(accepted(), ev.CancelRequested(order_id="o1"), filled(4, 4, 6))
    assert fold.orders["o1"].status is OrdStatus.PENDING_CANCEL
    extend(fold, [ev.CancelRejected(order_id="o1", reason="too late")])
    assert fold.orders["o1"].status is OrdStatus.PARTIALLY_FILLED


def test_while_a_replace_is_pending_the_heavier_terms_count() -> None:
    exposure = Exposure()
    replace = ev.ReplaceRequested(order_id="o1", quantity=15 * UNIT, price=PRICE + UNIT, reserved_price=PRICE + UNIT)
    fold = fold_of(accepted(), replace, hook=exposure)
    assert counted(fold.orders["o1"]) == (15 * UNIT, PRICE + UNIT)
    extend(fold, [ev.ReplaceRejected(order_id="o1", reason="no")])
    assert exposure.quantity == 10 * UNIT
    assert exposure.value == 10 * UNIT * PRICE


def test_what_counts_in_the_limits_is_zero_once_every_order_is_closed() -> None:
    exposure = Exposure()
    fold = fold_of(
        accepted("o1"),
        accepted("o2"),
        accepted("o3"),
        filled(10, 10, 0),
        ev.CancelRequested(order_id="o2"),
        ev.OrderCanceled(order_id="o2"),
        ev.OrderRejected(order_id="o3", reject_code="VENUE", reason="no"),
        hook=exposure,
    )
    assert (exposure.quantity, exposure.value, exposure.open_orders) == (0, 0, 0)
    assert not fold.open


def test_a_suspended_child_counts_from_its_release_on() -> None:
    exposure = Exposure()
    legs = [
        ev.ListedOrder(order_id="o1", spec=spec("p"), role="parent", reserved_price=PRICE),
        ev.ListedOrder(order_id="o2", spec=spec("c", side="SELL"), role="child", reserved_price=PRICE, routed=False),
    ]
    fold = fold_of(ev.OrderListAccepted(list_id="l1", kind="OTO", orders=legs), hook=exposure)
    assert fold.orders["o2"].status is OrdStatus.SUSPENDED
    assert exposure.quantity == 10 * UNIT
    extend(fold, [ev.OrderReleased(order_id="o2", spec=spec("c", side="SELL"), reserved_price=PRICE)])
    assert exposure.quantity == 20 * UNIT


def test_a_restored_snapshot_goes_on_like_the_fold_that_made_it() -> None:
    first = fold_of(accepted("o1"), accepted("o2"), filled(10, 10, 0, "o2"))
    second = OrderFold()
    second.restore(first.snapshot())
    rest = [ev.OrderOpened(order_id="o1"), ev.CancelRequested(order_id="o1"), ev.OrderCanceled(order_id="o1")]
    assert extend(first, rest).snapshot() == extend(second, rest).snapshot()
    assert first.forget_closed(3) == second.forget_closed(3) == 1


def test_closed_orders_leave_memory_only_once_their_last_event_is_kept_elsewhere() -> None:
    fold = fold_of(accepted("o1"), filled(10, 10, 0), accepted("o2"))
    assert fold.forget_closed(before_seq=1) == 0
    assert fold.forget_closed(before_seq=2) == 1
    assert list(fold.orders) == ["o2"]


def test_an_event_of_another_topic_stops_the_fold() -> None:
    with pytest.raises(ev.UnknownEvent):
        fold_of(ev.VenueRejected(order_id="o1", reason="x"))


def test_a_gap_in_the_log_stops_the_fold() -> None:
    fold = OrderFold()
    with pytest.raises(AssertionError):
        fold.apply(ev.Envelope(5, 1, 1, 1, "", "", "", "", "", accepted()))


def test_an_unknown_event_type_is_not_guessed() -> None:
    body = ev.encode(ev.Envelope(0, 1, 1, 1, "", "", "", "", "", accepted())).replace(
        b"OrderAccepted", b"OrderTeleported"
    )
    with pytest.raises(ev.UnknownEvent):
        ev.decode(body)


def test_unknown_fields_of_a_newer_writer_are_no_obstacle() -> None:
    body = ev.encode(ev.Envelope(0, 1, 1, 1, "", "", "", "", "", accepted()))
    assert ev.decode(body.replace(b'"order_id"', b'"mood":"calm","order_id"', 1)).data == accepted()
