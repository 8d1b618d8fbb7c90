"""What the history must remember of each event: the orders that it changed, and where it is.

Pure: a fold of the order log that knows which orders have changed since they were last written.
"""

from collections.abc import Iterator

from trade2026.controls.limits import LimitBook
from trade2026.controls.machine import Controls
from trade2026.domain.events import AnyEvent, Envelope, OrderAccepted, OrderListAccepted, OrderRefused
from trade2026.domain.instruments import Instrument
from trade2026.domain.order_fold import OrderFold
from trade2026.domain.orders import Order

_NEW_ORDERS = (OrderAccepted, OrderRefused, OrderListAccepted)


class HistoryMachine:
    """The open orders, the closed ones until they are written, and what counts against the limits.

    Args:
        instruments: By instrument id, as the order service has them.
        written_to: Events before this position are in the history already.
    """

    def __init__(self, instruments: dict[str, Instrument], written_to: int = 0) -> None:
        self.controls = Controls(LimitBook(), instruments)
        self.fold = OrderFold(self.controls)
        self.written_to = written_to
        self.changed: dict[str, Order] = {}
        """Orders that differ from what is written."""

    def needs(self, event: AnyEvent) -> str:
        """The id of a written order that the next event changes and memory does not hold; usually none, which is ""."""
        if isinstance(event, _NEW_ORDERS) or self.fold.next_seq < self.written_to:
            return ""
        return self.fold.missing(event)

    def apply(self, envelope: Envelope) -> None:
        """Fold the next event of `orders.events`."""
        self.fold.apply(envelope)
        if envelope.seq < self.written_to:
            return
        for order_id in order_ids_of(envelope):
            order = self.fold.orders.get(order_id)
            if order is not None:
                self.changed[order_id] = order

    def written(self) -> None:
        """All changes are in the history: closed orders may leave memory."""
        self.changed.clear()
        self.written_to = max(self.written_to, self.fold.next_seq)
        self.fold.forget_closed(self.fold.next_seq)


def order_ids_of(envelope: Envelope) -> Iterator[str]:
    """Every order, or the parent, that an event of any topic is about."""
    data = envelope.data
    if isinstance(data, OrderListAccepted):
        for leg in data.orders:
            yield leg.order_id
        return
    subject = getattr(data, "order_id", "") or getattr(data, "parent_id", "")
    if subject:
        yield subject
