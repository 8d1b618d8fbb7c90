"""The venue's own record, folded apart from ours, against a slow model and against our fold."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from trade2026.domain import events as ev
from trade2026.domain.orders import OrderSpec, OrderType
from trade2026.ptrc.machine import PositionMachine
from trade2026.ptrc.reconciliation import StatedFill
from trade2026.ptrc.venue_record import VenueRecord

BTC = "BTCUSDT.SIM"


def spec(account: str, side: Any, quantity: int) -> OrderSpec:
    return OrderSpec(
        client_order_id="c",
        account=account,
        instrument=BTC,
        side=side,
        order_type=OrderType.LIMIT,
        quantity=quantity,
        price=1,
    )


def envelope(seq: int, event: Any) -> ev.Envelope:
    return ev.Envelope(seq, 1, seq, seq, "desk", "venue", "", "", "", event)


class World:
    """A venue that reports, and an OMS that takes the reports over one by one."""

    def __init__(self) -> None:
        self.record, self.ours = VenueRecord(), PositionMachine()
        self.orders: dict[str, tuple[str, Any]] = {}

    def report(self, event: Any, *, taken_over: bool = True) -> None:
        seq = self.record.next_seq
        self.record.apply(envelope(seq, event))
        if taken_over and isinstance(event, ev.VenueFilled):
            account, side = self.orders[event.order_id]
            fill = ev.OrderFilled(
                order_id=event.order_id,
                exec_id=event.exec_id,
                account=account,
                instrument=BTC,
                side=side,
                last_qty=event.last_qty,
                last_px=event.last_px,
                cum_qty=event.last_qty,
                leaves_qty=0,
                cum_cost=0,
                report_seq=seq,
            )
            self.ours.apply(envelope(self.ours.next_seq, fill))

    def accept(self, order_id: str, account: str, side: Any, quantity: int) -> None:
        self.orders[order_id] = (account, side)
        self.report(ev.VenueAccepted(order_id=order_id, venue_order_id="v", spec=spec(account, side, quantity)))

    def breaks(self, account: str) -> list[Any]:
        stated, fills = self.record.statement(account, "SIM", self.ours.fills_since(account))
        return self.ours.reconcile(account, "SIM", stated, fills, report_seq=self.record.next_seq - 1)


ORDERS = st.lists(
    st.tuples(
        st.sampled_from(["main", "second"]),
        st.sampled_from(["BUY", "SELL"]),
        st.lists(st.integers(1, 50), max_size=4),
        st.booleans(),
    ),
    max_size=12,
)


@given(ORDERS)
def test_books_that_took_over_every_report_match_the_venue(orders: list[tuple[str, str, list[int], bool]]) -> None:
    world, executions = World(), 0
    for number, (account, side, fills, rest_is_canceled) in enumerate(orders):
        world.accept(f"o{number}", account, side, sum(fills) + rest_is_canceled or 1)
        for quantity in fills:
            world.report(
                ev.VenueFilled(order_id=f"o{number}", exec_id=f"x{executions}", last_qty=quantity, last_px=100)
            )
            executions += 1
        if rest_is_canceled:
            world.report(ev.VenueCanceled(order_id=f"o{number}"))
    for account in ("main", "second"):
        assert world.breaks(account) == []
        expected = sum(
            (1 if side == "BUY" else -1) * sum(fills) for owner, side, fills, _ in orders if owner == account
        )
        assert world.record.positions.get(account, {}).get(BTC, 0) == expected


def test_an_execution_that_never_reached_our_books_is_a_break_with_its_cause() -> None:
    world = World()
    world.accept("o0", "main", "BUY", 5)
    world.report(ev.VenueFilled(order_id="o0", exec_id="x0", last_qty=5, last_px=100), taken_over=False)
    (found,) = world.breaks("main")
    assert (found.ours, found.theirs, found.explained) == (0, 5, True)
    assert [(cause.kind, cause.exec_id) for cause in found.causes] == [("missing_fill", "x0")]


def test_an_execution_of_an_order_that_was_placed_at_the_venue_itself_is_not_ours() -> None:
    world = World()
    world.accept("paper-main-1", "main", "SELL", 5)
    world.report(ev.VenueFilled(order_id="paper-main-1", exec_id="x0", last_qty=5, last_px=100), taken_over=False)
    (found,) = world.breaks("main")
    assert (found.ours, found.theirs, found.explained) == (0, -5, True)
    assert [(cause.kind, cause.exec_id) for cause in found.causes] == [("not_ours", "x0")]


def test_a_fill_of_a_later_report_than_the_record_holds_is_no_break() -> None:
    world = World()
    world.accept("o0", "main", "BUY", 9)
    world.report(ev.VenueFilled(order_id="o0", exec_id="x0", last_qty=5, last_px=100))
    stated, fills = world.record.statement("main", "SIM")
    upto = world.record.next_seq - 1
    world.report(ev.VenueFilled(order_id="o0", exec_id="x1", last_qty=4, last_px=100))
    assert world.ours.reconcile("main", "SIM", stated, fills, report_seq=upto) == []


def test_another_price_is_a_break_although_the_quantities_agree() -> None:
    world = World()
    world.accept("o0", "main", "BUY", 5)
    world.report(ev.VenueFilled(order_id="o0", exec_id="x0", last_qty=5, last_px=100))
    (found,) = world.ours.reconcile("main", "SIM", {BTC: 5}, [StatedFill("x0", BTC, 5, 101)])
    assert [(cause.kind, cause.signed_quantity) for cause in found.causes] == [("price_differs", 0)]
    assert found.explained


def test_a_statement_of_executions_alone_says_nothing_of_quantities() -> None:
    world = World()
    world.accept("o0", "main", "BUY", 5)
    world.report(ev.VenueFilled(order_id="o0", exec_id="x0", last_qty=5, last_px=100))
    assert world.ours.reconcile("main", "SIM", None, [StatedFill("x0", BTC, 5, 100)]) == []


def test_an_order_that_is_over_leaves_the_record() -> None:
    world = World()
    world.accept("o0", "main", "BUY", 5)
    world.report(ev.VenueReplaced(order_id="o0", quantity=2, price=1))
    world.report(ev.VenueFilled(order_id="o0", exec_id="x0", last_qty=2, last_px=100))
    world.accept("o1", "main", "BUY", 5)
    world.report(ev.VenueCanceled(order_id="o1"))
    assert world.record._working == {}
