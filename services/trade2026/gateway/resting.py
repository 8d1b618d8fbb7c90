"""Orders that rest, by price and then by time.

The best price is at the top of a heap whose dead entries are dropped when they surface, so a print costs
what it fills, however many orders rest behind.
"""

import heapq
from collections import OrderedDict

import msgspec

from trade2026.domain.orders import OrderSpec, OrderType

_DEAD_PRICES_MIN = 64


class VenueOrder(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """An order at the venue. Amounts are nanos."""

    order_id: str
    venue_order_id: str
    spec: OrderSpec
    leaves_qty: int
    cum_qty: int = 0
    shown: int = 0
    """What others can see of it: less than `leaves_qty` for an iceberg."""
    mark: int = 0
    """It is its turn once the market has traded this much at its level."""
    status: str = "working"
    """`working`, `filled`, `canceled`, `expired` or `rejected`."""
    reason: str = ""
    traceparent: str = ""


class Level:
    """The orders at one price, first come first served."""

    __slots__ = ("last_mark", "orders", "price", "rejoins", "traded")

    def __init__(self, price: int, rejoins: bool) -> None:
        self.price = price
        self.orders: OrderedDict[str, None] = OrderedDict()
        """Ids, the first to trade first."""
        self.traded = 0
        """Quantity of others that has traded here while the level existed."""
        self.last_mark = 0
        self.rejoins = rejoins
        """Rebuilt from the log, which knows no queue: it stands behind what the next book shows."""

    def join(self, order: VenueOrder, displayed: int) -> None:
        """Stand at the end, behind `displayed` of others."""
        order.mark = self.last_mark = max(self.traded + displayed, self.last_mark)
        order.shown = shown_of(order)
        self.orders[order.order_id] = None
        self.orders.move_to_end(order.order_id)

    def settle(self, displayed: int) -> None:
        """Take the first known queue as the one ahead of orders that were rebuilt from the log."""
        if self.rejoins:
            self.rejoins = False
            self.traded -= displayed


def shown_of(order: VenueOrder) -> int:
    """What a fresh clip of an order shows."""
    if order.spec.order_type is OrderType.ICEBERG:
        return min(order.spec.display_quantity, order.leaves_qty)
    return order.leaves_qty


class Side:
    """One instrument's resting buys, or sells."""

    def __init__(self, buys: bool) -> None:
        self.buys = buys
        self.levels: dict[int, Level] = {}
        self._heap: list[int] = []

    def add(self, order: VenueOrder, displayed: int | None) -> None:
        """Let an order rest; `displayed` is None while the log is replayed."""
        level = self._level(order.spec.price, rejoins=displayed is None)
        if displayed is not None:
            level.settle(displayed)
        level.join(order, displayed or 0)

    def take_back(self, price: int, order_ids: list[str]) -> None:
        """Let the orders of a snapshot rest at a price as they did; their marks are 0."""
        self._level(price, rejoins=True).orders.update(dict.fromkeys(order_ids))

    def _level(self, price: int, *, rejoins: bool) -> Level:
        level = self.levels.get(price)
        if level is None:
            level = self.levels[price] = Level(price, rejoins)
            heapq.heappush(self._heap, -price if self.buys else price)
        return level

    def remove(self, order: VenueOrder) -> None:
        """Take an order away; nothing happens if it does not rest."""
        level = self.levels.get(order.spec.price)
        if level is None or order.order_id not in level.orders:
            return
        del level.orders[order.order_id]
        if not level.orders:
            del self.levels[level.price]
            if len(self._heap) > 2 * len(self.levels) + _DEAD_PRICES_MIN:
                self._heap = [-price if self.buys else price for price in self.levels]
                heapq.heapify(self._heap)

    def best(self) -> Level | None:
        """The level that trades first."""
        while self._heap:
            level = self.levels.get(abs(self._heap[0]))
            if level is not None:
                return level
            heapq.heappop(self._heap)
        return None

    def is_through(self, level: Level, price: int) -> bool:
        """Whether a trade at `price` has gone through the level."""
        return level.price > price if self.buys else level.price < price
