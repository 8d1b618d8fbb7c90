"""The venue against a slow, obvious one: queues are lists that are walked from the front.

A queue at a price holds what others have there and our orders, in the order in which they came. A print eats
its way through; what it does not reach is as it was.
"""

from dataclasses import dataclass, field

import msgspec
from gateway_builders import BOOK, Desk
from hypothesis import given, settings
from test_machine import actions

from trade2026.domain import events as ev
from trade2026.domain.numbers import to_nanos
from trade2026.domain.orders import OrderSpec, OrderType, TimeInForce

Fill = tuple[str, int, int, str]


@dataclass
class Resting:
    """One of our orders."""

    name: str
    spec: OrderSpec
    leaves: int
    shown: int = 0

    def show(self) -> None:
        iceberg = self.spec.order_type is OrderType.ICEBERG
        self.shown = min(self.spec.display_quantity, self.leaves) if iceberg else self.leaves


@dataclass
class SlowVenue:
    """What the machine must do, without any index."""

    queues: dict[tuple[str, int], list] = field(default_factory=dict)
    """Side and price → whole numbers (others' quantity) and our orders, the first to trade first."""
    working: dict[str, Resting] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    book: dict[str, list[list[int]]] = field(default_factory=lambda: {"BUY": [], "SELL": []})
    """Side → [price, quantity] that stands there, the best first."""
    fills: list[Fill] = field(default_factory=list)

    # ── orders ──

    def place(self, name: str, order: OrderSpec, ts: int) -> None:
        if name in self.seen:
            return
        self.seen.add(name)
        crossed = self._crossed(order)
        if (order.order_type is OrderType.MARKET and not crossed) or (order.post_only and crossed):
            return
        resting = self.working[name] = Resting(name, order, order.quantity)
        if _may_rest(order):
            self._join(resting)
        if order.expire_at and order.expire_at <= ts:
            self.cancel(name)
            return
        self._take(resting)

    def cancel(self, name: str) -> None:
        resting = self.working.pop(name, None)
        if resting is not None:
            self._leave(resting)

    def replace(self, name: str, quantity: int, price: int) -> None:
        resting = self.working.get(name)
        if resting is None:
            return
        filled = resting.spec.quantity - resting.leaves
        terms = _with(resting.spec, quantity, price)
        if quantity <= filled or (terms.post_only and self._crossed(terms)):
            return
        keeps = price == resting.spec.price and quantity <= resting.spec.quantity
        if not keeps:
            self._leave(resting)
        resting.spec, resting.leaves = terms, quantity - filled
        if keeps:
            resting.shown = min(resting.shown, resting.leaves)
        else:
            self._join(resting)
        self._take(resting)

    def expire(self, ts: int) -> None:
        for name, resting in list(self.working.items()):
            if resting.spec.expire_at and resting.spec.expire_at <= ts:
                self.cancel(name)

    # ── the market ──

    def print(self, price: int, quantity: int, book: dict[str, list[list[int]]] | None) -> None:
        for side, better in (("BUY", lambda p: -p), ("SELL", lambda p: p)):
            left = quantity
            for at in sorted({p for s, p in self.queues if s == side}, key=better):
                if (at > price) if side == "BUY" else (at < price):
                    left = self._through(side, at, left)
                elif at == price:
                    self._at(side, at, left)
        if book is not None:
            self.book = {side: [list(level) for level in levels] for side, levels in book.items()}

    def _through(self, side: str, at: int, left: int) -> int:
        if not left:
            return 0
        queue = self.queues[side, at]
        queue[:] = [entry for entry in queue if isinstance(entry, Resting)]
        for resting in list(queue):
            if not left:
                break
            part = min(left, resting.leaves)
            left -= part
            self._fill(resting, part, at, "MAKER")
        return left

    def _at(self, side: str, at: int, left: int) -> None:
        queue = self.queues[side, at]
        for _ in range(sum(isinstance(entry, Resting) for entry in queue)):
            while queue and not isinstance(queue[0], Resting):
                part = min(left, queue[0])
                left -= part
                queue[0] -= part
                if queue[0]:
                    return
                queue.pop(0)
            if not left:
                return
            part = min(left, queue[0].shown)
            left -= part
            self._fill(queue[0], part, at, "MAKER")

    # ── what both need ──

    def _crossed(self, order: OrderSpec) -> list[list[int]]:
        levels = self.book["SELL" if order.side == "BUY" else "BUY"]
        return [
            level
            for level in levels
            if level[1] > 0
            and (
                order.order_type is OrderType.MARKET
                or (level[0] <= order.price if order.side == "BUY" else level[0] >= order.price)
            )
        ]

    def _take(self, resting: Resting) -> None:
        order, levels = resting.spec, self._crossed(resting.spec)
        if order.time_in_force is TimeInForce.FOK and sum(level[1] for level in levels) < resting.leaves:
            self.cancel(resting.name)
            return
        for level in levels:
            part = min(level[1], resting.leaves)
            if part:
                level[1] -= part
                self._fill(resting, part, level[0], "TAKER")
        if resting.leaves and not _may_rest(order):
            self.cancel(resting.name)

    def _fill(self, resting: Resting, part: int, price: int, liquidity: str) -> None:
        self.fills.append((resting.name, part, price, liquidity))
        resting.leaves -= part
        if not resting.leaves:
            self.cancel(resting.name)
        elif liquidity == "TAKER":
            resting.show()
        else:
            resting.shown -= part
            if resting.shown <= 0:
                self._leave(resting, keep_queue=True)
                self._join(resting)

    def _join(self, resting: Resting) -> None:
        side, price = resting.spec.side, resting.spec.price
        queue = self.queues.setdefault((side, price), [])
        displayed = sum(quantity for at, quantity in self.book[side] if at == price)
        others = sum(entry for entry in queue if not isinstance(entry, Resting))
        if displayed > others:
            queue.append(displayed - others)
        queue.append(resting)
        resting.show()

    def _leave(self, resting: Resting, *, keep_queue: bool = False) -> None:
        key = resting.spec.side, resting.spec.price
        queue = self.queues.get(key, [])
        if resting in queue:
            queue.remove(resting)
        if not keep_queue and not any(isinstance(entry, Resting) for entry in queue):
            self.queues.pop(key, None)


def _may_rest(order: OrderSpec) -> bool:
    return order.order_type is not OrderType.MARKET and order.time_in_force not in (TimeInForce.IOC, TimeInForce.FOK)


def _with(order: OrderSpec, quantity: int, price: int) -> OrderSpec:
    return msgspec.structs.replace(order, quantity=quantity, price=price)


def plain(book: object) -> dict[str, list[list[int]]] | None:
    """A book as the model keeps it."""
    if book is None:
        return None
    sides = {"BUY": book.bids, "SELL": book.asks}  # type: ignore[attr-defined]
    return {side: [[level.price, level.quantity] for level in levels] for side, levels in sides.items()}


@settings(max_examples=200)
@given(script=actions)
def test_the_venue_fills_what_the_slow_one_fills(script):
    desk, slow = Desk(), SlowVenue()
    slow.print(to_nanos("100"), to_nanos("0.001"), plain(BOOK))
    for kind, *terms in script:
        told = getattr(desk, kind)(*terms)
        before = len(slow.fills)
        match kind:
            case "place":
                slow.place(terms[0], terms[1], desk.causes)
            case "cancel":
                slow.cancel(terms[0])
            case "replace":
                slow.replace(terms[0], to_nanos(terms[1]), to_nanos(terms[2]))
            case "expire":
                slow.expire(terms[0])
            case "print":
                slow.expire(desk.prints)
                slow.print(to_nanos(terms[0]), to_nanos(terms[1]), plain(terms[2]))
        fills = [(e.order_id, e.last_qty, e.last_px, e.liquidity) for e in told if isinstance(e, ev.VenueFilled)]
        assert fills == slow.fills[before:]
        assert {name: order.leaves_qty for name, order in desk.venue.orders.items()} == {
            name: resting.leaves for name, resting in slow.working.items()
        }
    assert all(part > 0 for _, part, _, _ in slow.fills)
