"""What the order log says of children."""

from typing import Any

from trade2026.domain import events as ev
from trade2026.domain.events import ChildReported, Envelope
from trade2026.domain.orders import OrdStatus, partition_of_id
from trade2026.exeq.parents import Parent

_STATUS = {
    ev.OrderOpened: OrdStatus.NEW,
    ev.OrderRejected: OrdStatus.REJECTED,
    ev.OrderCanceled: OrdStatus.CANCELED,
    ev.OrderExpired: OrdStatus.EXPIRED,
}
_Child = tuple[str, int]


def child_of(client_order_id: str) -> _Child | None:
    """Return the parent and number in the id of a child; None for another order."""
    parent_id, dash, number = client_order_id.rpartition("-")
    if not dash or partition_of_id(parent_id, "e") < 0 or not number.isascii() or not number.isdigit():
        return None
    return parent_id, int(number)


class OrderReports:
    """Picks the children's events out of the order log.

    Args:
        parents: Known already, with the order ids of their children.
    """

    def __init__(self, parents: dict[str, Parent]) -> None:
        self._parents = parents
        self._children: dict[str, _Child] = {
            child.order_id: (parent.parent_id, child.number)
            for parent in parents.values()
            for child in parent.children
            if child.order_id
        }

    def read(self, envelope: Envelope) -> ChildReported | None:
        """Return what an event says of a child; None if it is about none."""
        data = envelope.data
        if isinstance(data, ev.OrderAccepted | ev.OrderRefused):
            child = child_of(data.spec.client_order_id)
            parent = self._parents.get(child[0]) if child is not None else None
            if child is None or parent is None or data.spec.parent_order_id != child[0]:
                return None
            if parent.spec.account != data.spec.account:
                return None  # somebody else's order under a name like ours: ids are per account
            self._children[data.order_id] = child
            if isinstance(data, ev.OrderRefused):
                return _report(child, envelope, data.order_id, OrdStatus.REJECTED, reason=data.reason)
            return _report(child, envelope, data.order_id)
        child = self._children.get(getattr(data, "order_id", ""))
        if child is None:
            return None
        return _changed(child, envelope)


def _changed(child: _Child, envelope: Envelope) -> ChildReported | None:
    data = envelope.data
    if isinstance(data, ev.OrderFilled):
        status = OrdStatus.PARTIALLY_FILLED if data.leaves_qty else OrdStatus.FILLED
        return _report(child, envelope, data.order_id, status, cum_qty=data.cum_qty, cum_cost=data.cum_cost)
    if isinstance(data, ev.OrderReplaced):
        return _report(child, envelope, data.order_id, quantity=data.quantity)
    if isinstance(data, ev.CancelRejected):
        return _report(child, envelope, data.order_id, cancel_rejected=True, reason=data.reason)
    status = _STATUS.get(type(data))
    if status is None:
        return None
    return _report(child, envelope, getattr(data, "order_id", ""), status, reason=getattr(data, "reason", ""))


def _report(
    child: _Child, envelope: Envelope, order_id: str, status: OrdStatus | None = None, **more: Any
) -> ChildReported:
    parent_id, number = child
    return ChildReported(
        parent_id=parent_id,
        number=number,
        child_order_id=order_id,
        status=status,
        orders_seq=envelope.seq,
        **more,
    )
