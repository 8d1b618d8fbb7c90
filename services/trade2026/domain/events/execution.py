"""`exeq.events`: parent orders, their plans, and the children that work them."""

from trade2026.domain.events.base import Event
from trade2026.domain.orders import OrderSpec, OrdStatus
from trade2026.domain.parents import MarketSeen, ParentSpec, ParentStatus, Slice


class ParentAccepted(Event, frozen=True, kw_only=True):
    """A parent order exists. Its plan is here, so that a later version's arithmetic changes no history."""

    parent_id: str
    spec: ParentSpec
    begin_at: int
    end_at: int = 0
    slices: list[Slice]


class ParentAmended(Event, frozen=True, kw_only=True):
    """New terms and the plan of what is left, which begins with slice 0 again.

    `done` (nanos) is what children were or may still be filled for when it was planned.
    """

    parent_id: str
    spec: ParentSpec
    end_at: int = 0
    slices: list[Slice]
    done: int = 0


class ParentPaused(Event, frozen=True, kw_only=True):
    """No child begins until it is resumed."""

    parent_id: str
    reason: str = ""


class ParentResumed(Event, frozen=True, kw_only=True):
    """It goes on, and catches up within its bounds."""

    parent_id: str


class ParentStopping(Event, frozen=True, kw_only=True):
    """No child begins any more; it ends when none works. `status` is Canceling or Expiring."""

    parent_id: str
    status: ParentStatus
    reason: str = ""


class ParentEnded(Event, frozen=True, kw_only=True):
    """Nothing happens to it any more."""

    parent_id: str
    status: ParentStatus
    reason: str = ""
    market: MarketSeen | None = None


class SliceReached(Event, frozen=True, kw_only=True):
    """The time of a slice has come; `number` is its place in the plan. Earlier ones are over, reached or not."""

    parent_id: str
    number: int
    market: MarketSeen | None = None


class ChildDecided(Event, frozen=True, kw_only=True):
    """An order for the market; `number` counts the children of the parent."""

    parent_id: str
    number: int
    spec: OrderSpec


class ChildCancelDecided(Event, frozen=True, kw_only=True):
    """The rest of a child is to be cancelled."""

    parent_id: str
    number: int


class ChildReported(Event, frozen=True, kw_only=True):
    """What the order log, at `orders_seq`, or the order service's answer (-1) says of a child. Amounts are totals."""

    parent_id: str
    number: int
    child_order_id: str = ""
    status: OrdStatus | None = None
    """None where it has not changed."""
    quantity: int = 0
    cum_qty: int = 0
    cum_cost: int = 0
    cancel_rejected: bool = False
    reason: str = ""
    orders_seq: int = -1


ExecutionEvent = (
    ParentAccepted
    | ParentAmended
    | ParentPaused
    | ParentResumed
    | ParentStopping
    | ParentEnded
    | SliceReached
    | ChildDecided
    | ChildCancelDecided
    | ChildReported
)
