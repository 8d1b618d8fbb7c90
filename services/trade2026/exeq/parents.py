"""What has become of a parent and its children so far."""

import msgspec

from trade2026.domain.numbers import average_price
from trade2026.domain.orders import CLOSED, OrderSpec, OrdStatus
from trade2026.domain.parents import ENDED, MarketSeen, ParentSpec, ParentStatus, Slice


class Child(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One order for the market. Amounts are nanos, `cum_cost` is at `COST_SCALE`."""

    number: int
    spec: OrderSpec
    quantity: int
    decided_seq: int = -1
    """Position of the event that decided it."""
    cancel_seq: int = -1
    """Position of the event that last decided its cancel."""
    order_id: str = ""
    """Empty until the order service has been heard."""
    status: OrdStatus = OrdStatus.PENDING_NEW
    cum_qty: int = 0
    cum_cost: int = 0
    cancels: int = 0
    """How often its cancel was decided."""
    cancel_again_at: int = 0
    """When to ask again for a cancel that was refused (ns); 0 while none was."""
    reason: str = ""

    @property
    def is_open(self) -> bool:
        """Whether it may still execute."""
        return self.status not in CLOSED

    @property
    def cancel_decided(self) -> bool:
        """Whether it is to be cancelled."""
        return self.cancels > 0

    @property
    def leaves(self) -> int:
        """What may still execute, nanos."""
        return max(0, self.quantity - self.cum_qty) if self.is_open else 0


class Benchmarks(msgspec.Struct, kw_only=True):
    """What the market did since the parent began; a price is 0 before anything was seen."""

    arrival: int = 0
    """The last price when it began."""
    prices_sum: int = 0
    prices: int = 0
    first: MarketSeen | None = None
    last: MarketSeen | None = None

    def see(self, market: MarketSeen) -> None:
        """Take the next observation."""
        if self.first is None:
            self.arrival, self.first = market.price, market
        self.prices_sum += market.price
        self.prices += 1
        self.last = market

    @property
    def volume(self) -> int:
        """Of the market since it began, nanos."""
        return self.last.volume - self.first.volume if self.first and self.last else 0

    @property
    def twap(self) -> int:
        """Mean of the prices at the slices."""
        return self.prices_sum // self.prices if self.prices else 0

    @property
    def vwap(self) -> int:
        """Of all trades since it began."""
        if not self.first or not self.last:
            return 0
        return average_price(self.last.value - self.first.value, self.volume)


class Parent(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The life of one parent so far."""

    parent_id: str
    spec: ParentSpec
    original: ParentSpec
    """As first asked for: a repeated request is compared with it."""
    slices: list[Slice]
    end_at: int
    next_slice: int = 0
    planned_from: int = 0
    """What was done when `slices` were planned, nanos."""
    status: ParentStatus = ParentStatus.WORKING
    reason: str = ""
    children: list[Child] = []
    benchmarks: Benchmarks = msgspec.field(default_factory=Benchmarks)
    rejects: int = 0
    """Children refused in a row."""
    principal: str = ""
    traceparent: str = ""
    ts_created: int = 0
    ts_updated: int = 0

    @property
    def is_open(self) -> bool:
        """Whether anything may still happen to it."""
        return self.status not in ENDED

    @property
    def filled(self) -> int:
        """What children have executed, nanos."""
        return sum(child.cum_qty for child in self.children)

    @property
    def cost(self) -> int:
        """Sum of quantity times price, at `COST_SCALE`."""
        return sum(child.cum_cost for child in self.children)

    @property
    def committed(self) -> int:
        """What is executed or may still execute: never more than the quantity."""
        return sum(child.cum_qty + child.leaves for child in self.children)

    @property
    def open_children(self) -> list[Child]:
        """Children that may still execute."""
        return [child for child in self.children if child.is_open]

    @property
    def average_price(self) -> int:
        """Of what is executed; 0 before."""
        return average_price(self.cost, self.filled)

    def slippage_bps(self, benchmark: int) -> float | None:
        """How much worse than a price it executed, in basis points; negative is better, None if either is unknown."""
        average = self.average_price
        if not benchmark or not average:
            return None
        return round((average - benchmark) * self.spec.sign * 10_000 / benchmark, 3)


class ExecutionState(msgspec.Struct, kw_only=True):
    """Every parent as of one position of the log, as a snapshot has them."""

    version: int
    next_seq: int
    orders_seq: int
    markets: dict[str, MarketSeen]
    parents: list[Parent]
