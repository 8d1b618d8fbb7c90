"""Orders in the words of FIX 4.4: what was asked (`OrderSpec`) and what has become of it (`Order`)."""

from enum import StrEnum
from typing import Literal

import msgspec

Side = Literal["BUY", "SELL"]

DIRECT_ORDER_PREFIX = "paper-"
"""Begins the id of every order that was placed at the venue itself and not through the OMS."""


class OrderType(StrEnum):
    """FIX OrdType (40), with the platform's names for pegged behaviour."""

    MARKET = "MARKET"
    LIMIT = "LIMIT"
    STOP = "STOP"
    STOP_LIMIT = "STOP_LIMIT"
    TRAILING_STOP = "TRAILING_STOP"
    ICEBERG = "ICEBERG"


class TimeInForce(StrEnum):
    """FIX TimeInForce (59)."""

    DAY = "DAY"
    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"
    GTD = "GTD"


class OrdStatus(StrEnum):
    """FIX OrdStatus (39)."""

    PENDING_NEW = "PendingNew"
    NEW = "New"
    PARTIALLY_FILLED = "PartiallyFilled"
    FILLED = "Filled"
    PENDING_CANCEL = "PendingCancel"
    CANCELED = "Canceled"
    PENDING_REPLACE = "PendingReplace"
    REJECTED = "Rejected"
    EXPIRED = "Expired"
    SUSPENDED = "Suspended"


CLOSED = frozenset({OrdStatus.FILLED, OrdStatus.CANCELED, OrdStatus.REJECTED, OrdStatus.EXPIRED})
"""States that an order never leaves."""

HELD_TYPES = frozenset({OrderType.STOP, OrderType.STOP_LIMIT, OrderType.TRAILING_STOP})
"""Types that wait at our side for their trigger before a venue hears of them."""


class OrderSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An order as it was asked for. All amounts are nanos; 0 means "not given" where a price may be absent."""

    client_order_id: str
    account: str
    instrument: str
    side: Side
    order_type: OrderType
    quantity: int
    price: int = 0
    stop_price: int = 0
    trailing_offset: int = 0
    display_quantity: int = 0
    time_in_force: TimeInForce = TimeInForce.GTC
    expire_at: int = 0
    post_only: bool = False
    reduce_only: bool = False
    strategy: str = ""
    trader: str = ""
    desk: str = ""
    client: str = ""
    algo: str = ""
    parent_order_id: str = ""

    @property
    def signed_quantity(self) -> int:
        """Quantity, negative for a sell."""
        return self.quantity if self.side == "BUY" else -self.quantity

    @property
    def is_held(self) -> bool:
        """Whether a trigger must fire before a venue sees this order."""
        return self.order_type in HELD_TYPES


class Order(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The life of one order so far. `cum_cost` is at `COST_SCALE`, every other amount in nanos."""

    order_id: str
    spec: OrderSpec
    status: OrdStatus
    leaves_qty: int
    cum_qty: int = 0
    cum_cost: int = 0
    reserved_price: int = 0
    """The price at which the open quantity counts in the limits."""
    list_id: str = ""
    list_role: str = ""
    """`oco` | `parent` | `child`; a child is Suspended until its parent fills."""
    list_kind: str = ""
    """`OCO` | `OTO` | `BRACKET`: whether children are rivals; empty in a snapshot from before it was kept."""
    working: bool = False
    """A venue has been told of it."""
    triggered: bool = False
    stop_price: int = 0
    """The current trigger of a held order; trails for a trailing stop."""
    status_before: OrdStatus | None = None
    """What it returns to when a pending cancel or replace is refused."""
    pending_quantity: int = 0
    pending_price: int = 0
    pending_stop_price: int = 0
    pending_reserved_price: int = 0
    expiring: bool = False
    """A cancel is under way because its time in force ran out."""
    original: OrderSpec | None = None
    """The spec as first asked for, once an amendment has changed it."""
    venue_order_id: str = ""
    reject_code: str = ""
    reason: str = ""
    traceparent: str = ""
    ts_created: int = 0
    ts_updated: int = 0
    seqs: list[int] = []
    """Positions of this order's events in the log."""

    @property
    def is_open(self) -> bool:
        """Whether anything may still happen to it."""
        return self.status not in CLOSED


def partition_of_id(order_id: str, kind: str = "o") -> int:
    """Return the partition that an id names: 3 for `o3-12`; -1 if it is no id of ours.

    Args:
        kind: o of orders, e of parents.
    """
    name, dash, _ = order_id.partition("-")
    number = name[1:]
    fits = dash and name[:1] == kind and number.isascii() and number.isdigit() and len(number) < 3
    return int(number) if fits else -1


def number_of(order_id: str) -> int:
    """Return the place of an order among those of its partition: 12 for `o0-12`; -1 if it is no order id of ours."""
    _, dash, number = order_id.partition("-")
    return int(number) if dash and number.isascii() and number.isdigit() and len(number) < 19 else -1
