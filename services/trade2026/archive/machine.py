"""What the history must remember of each event: the orders that it changed, and where it is.

Pure: a fold of the order log that knows which orders have changed since they were last written.
"""

from collections.abc import Iterator

import msgspec

from trade2026.domain.events import Envelope, OrderAccepted, OrderListAccepted, OrderRefused
from trade2026.domain.order_fold import FoldState, OrderFold
from trade2026.domain.orders import Order


class HistoryMachine:
    """The open orders, and the closed ones until they are written."""

    def __init__(self) -> None:
        self.fold = OrderFold()
        self.changed: dict[str, Order] = {}
        """Orders that differ from what is written."""
        self._recalled: set[str] = set()

    def apply(self, envelope: Envelope) -> None:
        """Fold the next event of `orders.events`."""
        self.fold.apply(envelope)
        for order_id in order_ids_of(envelope):
            order = self.fold.orders.get(order_id)
            if order is not None:
                self.changed[order_id] = order

    def needs(self, envelope: Envelope) -> str:
        """The id of a written order that this event changes and memory does not hold; usually empty."""
        if isinstance(envelope.data, OrderAccepted | OrderRefused | OrderListAccepted):
            return ""
        order_id = getattr(envelope.data, "order_id", "")
        return order_id if order_id and order_id not in self.fold.orders else ""

    def recall(self, order: Order) -> None:
        """Take a written order back, until the next `written`."""
        self.fold.orders[order.order_id] = order
        self._recalled.add(order.order_id)

    def written(self) -> None:
        """All changes are in the history: closed orders may leave memory."""
        self.changed.clear()
        for order_id in self._recalled:
            if order_id not in self.fold.open:
                self.fold.orders.pop(order_id, None)
        self._recalled.clear()
        self.fold.forget_closed(self.fold.next_seq)

    def state(self) -> bytes:
        """The fold without its orders: those are rows of their own."""
        return msgspec.json.encode(msgspec.structs.replace(self.fold.state(), orders={}))

    def restore(self, state: bytes, open_orders: dict[str, Order]) -> None:
        """Go on from what was written."""
        kept = msgspec.json.decode(state, type=FoldState)
        self.fold.restore(msgspec.json.encode(msgspec.structs.replace(kept, orders=open_orders)))


def order_ids_of(envelope: Envelope) -> Iterator[str]:
    """Every order that an event of any topic is about."""
    data = envelope.data
    if isinstance(data, OrderListAccepted):
        for leg in data.orders:
            yield leg.order_id
        return
    order_id = getattr(data, "order_id", "")
    if order_id:
        yield order_id
