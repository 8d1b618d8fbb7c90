"""The order log as the venue reads it: what each event asks of the venue, if anything."""

from trade2026.domain import events as ev
from trade2026.domain.commands import Command
from trade2026.domain.orders import OrderSpec
from trade2026.gateway import commands as cmd


def asked_of_venue(event: ev.AnyEvent) -> Command | None:
    """Return what an event of the OMS asks of the venue; its time and cause are for the caller to fill in."""
    if isinstance(event, ev.OrderAccepted | ev.OrderReleased):
        return _place((event.order_id, event.spec)) if event.routed else None
    if isinstance(event, ev.OrderTriggered):
        return _place((event.order_id, event.spec))
    if isinstance(event, ev.OrderListAccepted):
        return _place(*((leg.order_id, leg.spec) for leg in event.orders if leg.routed))
    if isinstance(event, ev.CancelRequested) and event.routed:
        return cmd.CancelWorking(ts=0, order_id=event.order_id)
    if isinstance(event, ev.ReplaceRequested) and event.routed:
        return cmd.ReplaceWorking(ts=0, order_id=event.order_id, quantity=event.quantity, price=event.price)
    return None


def _place(*orders: tuple[str, OrderSpec]) -> Command | None:
    return cmd.PlaceOrders(ts=0, orders=[cmd.NewOrder(*order) for order in orders]) if orders else None
