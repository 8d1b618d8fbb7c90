"""`venue.reports`: what a venue said of the orders it was sent."""

from typing import Literal

from trade2026.domain.events.base import Event
from trade2026.domain.orders import OrderSpec


class VenueAccepted(Event, frozen=True, kw_only=True):
    """The venue has the order. `spec` lets the venue rebuild its own state from this log."""

    order_id: str
    venue_order_id: str
    spec: OrderSpec | None = None


class VenueRejected(Event, frozen=True, kw_only=True):
    """The venue refused the order."""

    order_id: str
    reason: str
    reject_code: str = "VENUE"


class VenueFilled(Event, frozen=True, kw_only=True):
    """One execution at the venue. `fee` is at `COST_SCALE`; `exec_id` is unique per venue."""

    order_id: str
    exec_id: str
    last_qty: int
    last_px: int
    fee: int = 0
    liquidity: Literal["MAKER", "TAKER", ""] = ""
    source: str = ""
    """What filled it: the id of a print, or `book`."""


class VenueCanceled(Event, frozen=True, kw_only=True):
    """The rest of the order is gone; `unsolicited` when nobody asked (IOC rest, kill, expiry)."""

    order_id: str
    reason: str = ""
    unsolicited: bool = False
    expired: bool = False
    """Its time in force ran out at the venue."""


class VenueCancelRejected(Event, frozen=True, kw_only=True):
    """Too late to cancel, or unknown."""

    order_id: str
    reason: str


class VenueReplaced(Event, frozen=True, kw_only=True):
    """The venue has the new total quantity and price."""

    order_id: str
    quantity: int
    price: int


class VenueReplaceRejected(Event, frozen=True, kw_only=True):
    """The venue keeps the order as it was."""

    order_id: str
    reason: str


ReportEvent = (
    VenueAccepted
    | VenueRejected
    | VenueFilled
    | VenueCanceled
    | VenueCancelRejected
    | VenueReplaced
    | VenueReplaceRejected
)
