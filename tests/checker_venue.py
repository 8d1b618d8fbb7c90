"""The venue's own account of orders, and whether the order log tells the same: each execution once, each order once."""

from collections.abc import Iterable
from dataclasses import dataclass

from trade2026.domain import events as ev


@dataclass
class AtVenue:
    """One order as the venue's reports tell it."""

    quantity: int
    filled: int = 0
    closed: str = ""


def follow_reports(reports: Iterable[ev.Envelope]) -> tuple[dict[str, AtVenue], list[str]]:
    """Return every order at the venue, and all that is wrong with them."""
    orders: dict[str, AtVenue] = {}
    executions: set[str] = set()
    faults: list[str] = []
    for envelope in reports:
        event, seq = envelope.data, envelope.seq
        order_id = event.order_id  # type: ignore[union-attr]
        if isinstance(event, ev.VenueAccepted):
            if order_id in orders:
                faults.append(f"report {seq}: {order_id} was placed twice")
            assert event.spec is not None
            orders[order_id] = AtVenue(event.spec.quantity)
            continue
        if isinstance(event, ev.VenueRejected):
            if order_id in orders:
                faults.append(f"report {seq}: {order_id} was placed twice")
            orders[order_id] = AtVenue(0, closed="rejected")
            continue
        order = orders.get(order_id)
        if order is None:
            if not isinstance(event, ev.VenueCancelRejected | ev.VenueReplaceRejected):
                faults.append(f"report {seq}: {type(event).__name__} of {order_id}, which was never placed")
        elif isinstance(event, ev.VenueFilled):
            if event.exec_id in executions:
                faults.append(f"report {seq}: execution {event.exec_id} is told twice")
            executions.add(event.exec_id)
            order.filled += event.last_qty
            if order.closed or order.filled > order.quantity:
                faults.append(f"report {seq}: {event.exec_id} fills {order_id}, of which nothing was left")
            if order.filled >= order.quantity:
                order.closed = "filled"
        elif isinstance(event, ev.VenueCanceled | ev.VenueReplaced):
            if order.closed:
                faults.append(f"report {seq}: {type(event).__name__} of {order_id}, which is {order.closed}")
            if isinstance(event, ev.VenueCanceled):
                order.closed = "canceled"
            else:
                order.quantity = event.quantity
    return orders, faults


def compare_fills(reports: Iterable[ev.Envelope], orders: list[ev.Envelope]) -> list[str]:
    """Every execution at the venue must be in the order log exactly once, with the same terms."""
    told = {fill.report_seq: fill for envelope in orders if isinstance(fill := envelope.data, ev.OrderFilled)}
    count = sum(isinstance(envelope.data, ev.OrderFilled) for envelope in orders)
    faults = [] if len(told) == count else [f"{count} fills tell of {len(told)} reports"]
    for envelope in reports:
        report = envelope.data
        if not isinstance(report, ev.VenueFilled):
            continue
        fill = told.pop(envelope.seq, None)
        if fill is None:
            faults.append(f"execution {report.exec_id} of {report.order_id} is not in the order log")
            continue
        theirs = (report.order_id, report.exec_id, report.last_qty, report.last_px, report.fee)
        ours = (fill.order_id, fill.exec_id, fill.last_qty, fill.last_px, fill.fee)
        if ours != theirs:
            faults.append(f"the venue tells {theirs}, the order log {ours}")
    faults += [f"the venue knows of no execution {fill.exec_id}" for fill in told.values()]
    return faults


def compare_ends(at_venue: dict[str, AtVenue], statuses: dict[str, tuple[str, bool]]) -> list[str]:
    """At rest both sides agree on every order: who was told of, who still works.

    Args:
        statuses: By order id, the state in the order log, and whether the venue was told of it.
    """
    faults: list[str] = []
    for order_id, (status, routed) in statuses.items():
        order = at_venue.get(order_id)
        if routed and order is None:
            faults.append(f"{order_id} was sent and never reached the venue")
        if order is not None and not routed:
            faults.append(f"{order_id} is at the venue and was never sent")
        closed = status in ("Filled", "Canceled", "Expired", "Rejected")
        if order is not None and bool(order.closed) != closed:
            faults.append(f"{order_id} is {status}, at the venue it is {order.closed or 'working'}")
    faults += [f"{order_id} is at the venue and nobody sent it" for order_id in at_venue.keys() - statuses.keys()]
    return faults


def traces(logs: Iterable[Iterable[ev.Envelope]], trace_ids: dict[str, str]) -> list[str]:
    """Every event of an order, in any log, must carry the order's trace."""
    faults: list[str] = []
    for log in logs:
        for envelope in log:
            order_id = getattr(envelope.data, "order_id", "")
            wanted = trace_ids.get(order_id)
            if wanted and envelope.traceparent[3:35] != wanted:
                name = type(envelope.data).__name__
                faults.append(f"{name} of {order_id} is of trace {envelope.traceparent!r}, not {wanted}")
    return faults
