"""Everything that belongs to an order or a parent: from what it was decided on to its profit and loss."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from trade2026.domain import events as ev
from trade2026.domain.events import AnyEvent, Envelope, decode
from trade2026.domain.orders import Order
from trade2026.kit.bus.port import Bus, BusError, Trimmed
from trade2026.kit.history import Histories

DECIDED_IN = ("strategies.events", "exeq.events")
_MARKET = "market."
_TOPIC_ORDER = ("market.books", "market.ticks", *DECIDED_IN, "orders.events", "venue.reports", "positions", "pnl")


class Located(NamedTuple):
    """An event, and where it lies."""

    topic: str
    partition: int
    envelope: Envelope


class Traces:
    """Reads events by where the history says that they are.

    Args:
        topics: That this stack has, with how many partitions each.
    """

    def __init__(self, bus: Bus, history: Histories, topics: Mapping[str, int]) -> None:
        self._bus, self._history, self._topics = bus, history, topics

    async def of_order(self, order: Order, limit: int) -> list[Located]:
        """The order's events, before them the decision that it was sent for, and what that was decided on."""
        found = await self._indexed(order.order_id, limit)
        first = next((one.envelope for one in found if one.topic == "orders.events"), None)
        decided = await self._at(first.causation_id, DECIDED_IN) if first is not None else None
        # The cause is what the sender said: only a decision about this very order is believed.
        if decided is not None and _is_about(decided.envelope.data, order):
            found.append(decided)
            seen = await self._at(decided.envelope.causation_id, self._topics)
            if seen is not None and seen.topic.startswith(_MARKET):
                found.append(seen)
        return _in_time(found)

    async def of_parent(self, parent_id: str, limit: int) -> list[Located]:
        """The parent's events and those of its children; none if the history does not have it."""
        found = await self._indexed(parent_id, limit)
        account = next(
            (data.spec.account for one in found if isinstance(data := one.envelope.data, ev.ParentAccepted)), ""
        )
        reports = [data for one in found if isinstance(data := one.envelope.data, ev.ChildReported)]
        for order_id in dict.fromkeys(report.child_order_id for report in reports if report.child_order_id):
            order = self._history.by_id(order_id)
            if order is not None and order.spec.account == account and len(found) < limit:
                found += await self._indexed(order_id, limit - len(found))
        return _in_time(found)

    async def _indexed(self, subject: str, limit: int) -> list[Located]:
        """What the index has; what a topic has dropped since is left out."""
        found: list[Located] = []
        for topic, partition, seq in self._history.index(subject, limit):
            try:
                records = await self._bus.read(topic, partition, seq, 1)
            except Trimmed:
                continue
            found += [Located(topic, partition, decode(record.body)) for record in records if record.seq == seq]
        return found

    async def _at(self, event_id: str, topics: Iterable[str]) -> Located | None:
        """The event of an id, if it is in one of these topics of the stack, and still there."""
        topic, _, place = event_id.partition("/")
        partition, _, seq = place.partition("/")
        if topic not in topics or not partition.isdecimal() or int(partition) >= self._topics.get(topic, 0):
            return None
        try:
            records = await self._bus.read(topic, int(partition), int(seq), 1)
        except BusError:
            return None
        return Located(topic, int(partition), decode(records[0].body)) if records else None


def _is_about(event: AnyEvent, order: Order) -> bool:
    wanted = order.spec.account, order.spec.client_order_id
    if isinstance(event, ev.OrderDecided | ev.ChildDecided):
        return (event.spec.account, event.spec.client_order_id) == wanted
    if isinstance(event, ev.OrderListDecided):
        return any((spec.account, spec.client_order_id) == wanted for spec in event.specs)
    return False


def _in_time(found: list[Located]) -> list[Located]:
    def moment(item: Located) -> tuple[int, int, int]:
        topic, _, envelope = item
        place = _TOPIC_ORDER.index(topic) if topic in _TOPIC_ORDER else len(_TOPIC_ORDER)
        return envelope.ts_init, place, envelope.seq

    return sorted(found, key=moment)
