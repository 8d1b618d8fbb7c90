"""Parent orders: what is to be worked into children, how, and what the market did meanwhile."""

from enum import StrEnum

import msgspec

from trade2026.domain.orders import Side


class Algo(StrEnum):
    """FIX TargetStrategy (847); a type of order stands for passing it through as one child."""

    TWAP = "TWAP"
    VWAP = "VWAP"
    MARKET = "MARKET"
    LIMIT = "LIMIT"
    STOP = "STOP"

    @property
    def is_sliced(self) -> bool:
        """Whether it is worked over time."""
        return self in (Algo.TWAP, Algo.VWAP)


class ParentStatus(StrEnum):
    """Where a parent is. `Canceling` and `Expiring` wait until the venue has confirmed for every child."""

    WORKING = "Working"
    PAUSED = "Paused"
    CANCELING = "Canceling"
    EXPIRING = "Expiring"
    FILLED = "Filled"
    CANCELED = "Canceled"
    EXPIRED = "Expired"
    REJECTED = "Rejected"


ENDED = frozenset({ParentStatus.FILLED, ParentStatus.CANCELED, ParentStatus.EXPIRED, ParentStatus.REJECTED})
"""States that a parent never leaves."""


class ParentSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A parent as it was asked for. Amounts are nanos, times and durations ns; 0 is "not given"."""

    client_order_id: str
    account: str
    instrument: str
    side: Side
    algo: Algo
    quantity: int
    price: int = 0
    """No child is worse than this."""
    stop_price: int = 0
    start_at: int = 0
    """0 begins at once."""
    end_at: int = 0
    duration: int = 0
    """The end, where `end_at` is not given."""
    slices: int = 1
    profile: tuple[int, ...] = ()
    """VWAP: weights of the time from start to end, evenly spread; empty takes the recorded volume."""
    child_quantity_max: int = 0
    participation_bps: int = 0
    """The most of the market's volume since the start that children may be together."""
    catch_up_bps: int = 10_000
    """So much more than planned may a slice be when the parent is behind."""
    strategy: str = ""
    trader: str = ""
    desk: str = ""
    client: str = ""

    @property
    def sign(self) -> int:
        """1 for a buy, -1 for a sell."""
        return 1 if self.side == "BUY" else -1


class Slice(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """At `due` (ns) children should add up to `target` (nanos)."""

    due: int
    target: int


class MarketSeen(msgspec.Struct, frozen=True, gc=False):
    """What trades of an instrument add up to. Only differences mean something.

    `price` is the last one, `volume` is in nanos, `value` at `COST_SCALE`; `next_seq` is the position in
    `market.ticks` up to which they were counted.
    """

    price: int
    volume: int
    value: int
    next_seq: int
