"""Orders by the state tables of FIX 4.4: which event may follow in which state, independent of our fold.

Beside the state of each order this keeps what counts against the limits, so that limits and exposure can be
compared with the log alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from trade2026.domain import events as ev
from trade2026.domain.orders import OrderSpec

CLOSED = frozenset({"Filled", "Canceled", "Expired", "Rejected"})
_OPEN = frozenset({"PendingNew", "New", "PartiallyFilled", "PendingCancel", "PendingReplace", "Suspended"})
_WORKING = _OPEN - {"Suspended"}

_MAY_FOLLOW: dict[type, frozenset[str]] = {
    ev.OrderTriggered: frozenset({"New", "PendingReplace"}),
    ev.StopTrailed: frozenset({"New", "PendingReplace"}),
    ev.OrderReleased: frozenset({"Suspended"}),
    ev.OrderOpened: frozenset({"PendingNew", "PendingCancel", "PendingReplace"}),
    ev.OrderRejected: frozenset({"PendingNew", "PendingCancel", "PendingReplace", "Suspended"}),
    ev.OrderFilled: _WORKING - {"PendingNew"},
    ev.CancelRequested: _WORKING - {"PendingCancel"},
    ev.OrderCanceled: _OPEN,
    ev.OrderExpired: _OPEN,
    ev.ReplaceRequested: _OPEN - {"PendingCancel", "PendingReplace"},
    ev.OrderReplaced: frozenset({"PendingReplace", "PendingCancel"}),
    ev.ReplaceRejected: frozenset({"PendingReplace", "PendingCancel"}) | CLOSED,
    ev.CancelRejected: frozenset({"PendingCancel"}) | CLOSED,
}


@dataclass
class State:
    """One order after some events. Quantities and prices are nanos."""

    spec: OrderSpec
    status: str
    leaves: int
    reserved_price: int
    routed: bool
    """A venue has been told."""
    resumes_as: str = "New"
    """What it is again when a pending cancel or replacement is over."""
    filled: int = 0
    asked_quantity: int = 0
    asked_price: int = 0
    trace_id: str = ""
    events: list[str] = field(default_factory=list)

    @property
    def counted(self) -> tuple[int, int]:
        """Quantity and price at which it counts in the limits."""
        if self.status in CLOSED or self.status == "Suspended":
            return 0, 0
        if self.status == "PendingReplace":
            return max(self.leaves, self.asked_quantity - self.filled), max(self.reserved_price, self.asked_price)
        return self.leaves, self.reserved_price


class States:
    """Every order, folded event by event; `faults` tells what no order may do."""

    def __init__(self) -> None:
        self.orders: dict[str, State] = {}
        self.faults: list[str] = []

    def apply(self, envelope: ev.Envelope) -> None:
        """Take the next event of `orders.events`."""
        event, trace_id = envelope.data, envelope.traceparent[3:35]
        if isinstance(event, ev.OrderAccepted):
            self._add(event.order_id, event.spec, event.reserved_price, event.routed, trace_id)
        elif isinstance(event, ev.OrderRefused):
            self.orders[event.order_id] = State(event.spec, "Rejected", 0, 0, False, trace_id=trace_id)
        elif isinstance(event, ev.OrderListAccepted):
            for leg in event.orders:
                self._add(leg.order_id, leg.spec, leg.reserved_price, leg.routed, trace_id)
                if leg.role == "child":
                    self.orders[leg.order_id].status = "Suspended"
                    self.orders[leg.order_id].routed = False
        elif (order := self.orders.get(getattr(event, "order_id", ""))) is not None:
            self._follow(order, envelope, trace_id)

    def _add(self, order_id: str, spec: OrderSpec, reserved_price: int, routed: bool, trace_id: str) -> None:
        status = "PendingNew" if routed else "New"
        self.orders[order_id] = State(spec, status, spec.quantity, reserved_price, routed, trace_id=trace_id)

    def _follow(self, order: State, envelope: ev.Envelope, trace_id: str) -> None:
        event = envelope.data
        name = type(event).__name__
        if order.status not in _MAY_FOLLOW[type(event)]:
            told = f"{envelope.seq}: {name} of {event.order_id}, which is {order.status}"  # type: ignore[union-attr]
            self.faults.append(f"{told} after {', '.join(order.events)}")
        if trace_id != order.trace_id:
            self.faults.append(f"{envelope.seq}: {name} is of trace {trace_id}, its order of {order.trace_id}")
        order.events.append(name)
        if order.status not in CLOSED:
            _apply(order, event)


def _apply(order: State, event: ev.AnyEvent) -> None:
    match event:
        case ev.OrderTriggered():
            order.routed = True
            if order.status == "New":
                order.status = "PendingNew"
        case ev.OrderReleased():
            order.spec, order.leaves, order.reserved_price = event.spec, event.spec.quantity, event.reserved_price
            order.status, order.routed = "PendingNew" if event.routed else "New", event.routed
        case ev.OrderOpened():
            if order.status == "PendingNew":
                order.status = "New"
            elif order.resumes_as == "PendingNew":
                order.resumes_as = "New"
        case ev.OrderFilled():
            order.filled += event.last_qty
            order.leaves = max(0, order.leaves - event.last_qty)
            _executed(order)
        case ev.CancelRequested():
            if order.status != "PendingReplace":
                order.resumes_as = order.status
            order.status = "PendingCancel"
        case ev.ReplaceRequested():
            order.resumes_as, order.status = order.status, "PendingReplace"
            order.asked_quantity, order.asked_price = event.quantity, event.reserved_price
        case ev.OrderReplaced():
            order.leaves = event.quantity - order.filled
            order.reserved_price = order.asked_price or event.price
            if order.status == "PendingReplace":
                order.status = order.resumes_as
            if order.leaves <= 0:
                order.leaves, order.status = 0, "Filled"
        case ev.CancelRejected() | ev.ReplaceRejected():
            pending = "PendingCancel" if isinstance(event, ev.CancelRejected) else "PendingReplace"
            if order.status == pending:
                order.status = order.resumes_as
        case ev.OrderCanceled():
            order.leaves, order.status = 0, "Canceled"
        case ev.OrderExpired():
            order.leaves, order.status = 0, "Expired"
        case ev.OrderRejected():
            order.leaves, order.status = 0, "Rejected"
        case _:
            pass


def _executed(order: State) -> None:
    if not order.leaves:
        order.status = "Filled"
    elif order.status in ("PendingCancel", "PendingReplace"):
        order.resumes_as = "PartiallyFilled"
    else:
        order.status = "PartiallyFilled"


def follow_states(envelopes: Iterable[ev.Envelope]) -> States:
    """Fold a whole log."""
    states = States()
    for envelope in envelopes:
        states.apply(envelope)
    return states
