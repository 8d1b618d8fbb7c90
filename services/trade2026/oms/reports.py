"""What each report of a venue means for its order. Pure."""

from trade2026.domain import events as ev
from trade2026.domain.orders import Order

_LATE = (ev.VenueFilled, ev.VenueCancelRejected, ev.VenueReplaceRejected)
"""All that a venue may say of a closed order that changes anything."""


def meaning(report: ev.ReportEvent, order: Order, seq: int, multiplier: int) -> ev.OrderEvent | None:
    """Return what becomes of an order by a report; None if nothing does.

    Args:
        order: As it is before.
        seq: The report's position in the venue's log.
        multiplier: Of the order's instrument, nanos.
    """
    if not (order.is_open or isinstance(report, _LATE)):
        return None
    order_id = report.order_id
    match report:
        case ev.VenueAccepted():
            return ev.OrderOpened(order_id=order_id, venue_order_id=report.venue_order_id, report_seq=seq)
        case ev.VenueRejected():
            return ev.OrderRejected(
                order_id=order_id, reject_code=report.reject_code, reason=report.reason, report_seq=seq
            )
        case ev.VenueFilled():
            return _filled(report, order, seq, multiplier)
        case ev.VenueCanceled():
            expired = report.expired or (order.expiring and not report.unsolicited)
            ended = ev.OrderExpired if expired else ev.OrderCanceled
            return ended(order_id=order_id, reason=report.reason or order.reason, report_seq=seq)
        case ev.VenueCancelRejected():
            return ev.CancelRejected(order_id=order_id, reason=report.reason, report_seq=seq)
        case ev.VenueReplaced():
            return ev.OrderReplaced(order_id=order_id, quantity=report.quantity, price=report.price, report_seq=seq)
        case ev.VenueReplaceRejected():
            return ev.ReplaceRejected(order_id=order_id, reason=report.reason, report_seq=seq)


def _filled(report: ev.VenueFilled, order: Order, seq: int, multiplier: int) -> ev.OrderFilled:
    spec = order.spec
    return ev.OrderFilled(
        order_id=order.order_id,
        exec_id=report.exec_id,
        account=spec.account,
        instrument=spec.instrument,
        side=spec.side,
        last_qty=report.last_qty,
        last_px=report.last_px,
        fee=report.fee,
        multiplier=multiplier,
        liquidity=report.liquidity,
        cum_qty=order.cum_qty + report.last_qty,
        leaves_qty=max(0, order.leaves_qty - report.last_qty),
        cum_cost=order.cum_cost + report.last_qty * report.last_px,
        strategy=spec.strategy,
        trader=spec.trader,
        desk=spec.desk,
        client=spec.client,
        client_order_id=spec.client_order_id,
        report_seq=seq,
    )
