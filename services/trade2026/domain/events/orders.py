"""`orders.events`: what became of every order, in FIX's words."""

from typing import Literal

import msgspec

from trade2026.domain.events.base import Event, OwnerStarted
from trade2026.domain.events.stops import Killed, Resumed
from trade2026.domain.market import Reference
from trade2026.domain.numbers import SCALE
from trade2026.domain.orders import OrderSpec


class OrderAccepted(Event, frozen=True, kw_only=True):
    """The order exists (PendingNew), counts in every limit and, if `routed`, goes to its venue."""

    order_id: str
    spec: OrderSpec
    reserved_price: int
    routed: bool = True
    reference: Reference | None = None
    limits_version: int = 0


class OrderRefused(Event, frozen=True, kw_only=True):
    """A control refused the order; it is recorded and never existed for a venue."""

    order_id: str
    spec: OrderSpec
    reject_code: str
    reason: str
    reference: Reference | None = None
    limits_version: int = 0


class ListedOrder(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One leg of an order list. `role` is `oco`, `parent` or `child`."""

    order_id: str
    spec: OrderSpec
    role: str
    reserved_price: int = 0
    routed: bool = True


class OrderListAccepted(Event, frozen=True, kw_only=True):
    """Orders that depend on each other, accepted in one piece (FIX NewOrderList)."""

    list_id: str
    kind: str
    orders: list[ListedOrder]
    reference: Reference | None = None
    limits_version: int = 0


class OrderTriggered(Event, frozen=True, kw_only=True):
    """The stop price was touched: the order goes to its venue as a market or limit order."""

    order_id: str
    spec: OrderSpec
    """As the venue must see it: MARKET or LIMIT, the open quantity."""
    reference: Reference


class StopTrailed(Event, frozen=True, kw_only=True):
    """The market moved in favour of a trailing stop: its trigger follows."""

    order_id: str
    stop_price: int
    reference: Reference


class OrderReleased(Event, frozen=True, kw_only=True):
    """A suspended child's parent has filled: it works now (`routed`), or waits for its trigger."""

    order_id: str
    spec: OrderSpec
    reserved_price: int
    routed: bool = True


class OrderOpened(Event, frozen=True, kw_only=True):
    """The venue has the order (New)."""

    order_id: str
    venue_order_id: str = ""
    report_seq: int = -1


class OrderRejected(Event, frozen=True, kw_only=True):
    """The venue refused the order, or a control did when a suspended child was to be released."""

    order_id: str
    reject_code: str
    reason: str
    report_seq: int = -1


class OrderFilled(Event, frozen=True, kw_only=True):
    """One execution. `last_px` and `last_qty` are this one; `cum_*` and `leaves_qty` are after it.

    `fee` is at `COST_SCALE`. Everything that a position, P&L or report needs is here.
    """

    order_id: str
    exec_id: str
    account: str
    instrument: str
    side: Literal["BUY", "SELL"]
    last_qty: int
    last_px: int
    fee: int = 0
    multiplier: int = SCALE
    """Of the instrument, nanos: the value of the fill is quantity times price times this."""
    liquidity: Literal["MAKER", "TAKER", ""] = ""
    cum_qty: int
    leaves_qty: int
    cum_cost: int
    """Sum of quantity times price, without the multiplier."""
    strategy: str = ""
    trader: str = ""
    desk: str = ""
    client: str = ""
    client_order_id: str = ""
    report_seq: int = -1


class CancelRequested(Event, frozen=True, kw_only=True):
    """PendingCancel. `routed` when a venue must be told."""

    order_id: str
    reason: str = ""
    routed: bool = True
    expiry: bool = False
    """Its time in force ran out: the venue's confirmation makes it Expired, not Canceled."""


class CancelRejected(Event, frozen=True, kw_only=True):
    """The venue would not cancel (usually: too late)."""

    order_id: str
    reason: str
    report_seq: int = -1


class OrderCanceled(Event, frozen=True, kw_only=True):
    """The rest will never execute."""

    order_id: str
    reason: str = ""
    report_seq: int = -1


class OrderExpired(Event, frozen=True, kw_only=True):
    """Its time in force ran out."""

    order_id: str
    reason: str = ""
    report_seq: int = -1


class ReplaceRequested(Event, frozen=True, kw_only=True):
    """PendingReplace: quantity (total), price and stop price that are asked for."""

    order_id: str
    quantity: int
    price: int
    stop_price: int = 0
    reserved_price: int = 0
    routed: bool = True
    reference: Reference | None = None


class ReplaceRejected(Event, frozen=True, kw_only=True):
    """The order stays as it was."""

    order_id: str
    reason: str
    report_seq: int = -1


class OrderReplaced(Event, frozen=True, kw_only=True):
    """The order has its new terms (ExecType Replaced)."""

    order_id: str
    quantity: int
    price: int
    stop_price: int = 0
    report_seq: int = -1


class LimitsAdopted(Event, frozen=True, kw_only=True):
    """From here on decisions use these limits (`controls.LimitBook` as JSON)."""

    version: int
    limits: msgspec.Raw


OrderEvent = (
    OwnerStarted
    | OrderAccepted
    | OrderRefused
    | OrderListAccepted
    | OrderTriggered
    | StopTrailed
    | OrderReleased
    | OrderOpened
    | OrderRejected
    | OrderFilled
    | CancelRequested
    | CancelRejected
    | OrderCanceled
    | OrderExpired
    | ReplaceRequested
    | ReplaceRejected
    | OrderReplaced
    | Killed
    | Resumed
    | LimitsAdopted
)
