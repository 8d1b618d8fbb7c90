"""What happened: the events on the bus and the envelope around each.

Amounts are integers of 10⁻⁹ inside the log (decimal strings at every edge). Readers accept every
older version; a field is only ever added, with a default. An unknown event type stops its reader.
"""

from typing import Any, Literal

import msgspec

from trade2026.domain.market import Bar, Book, Reference, Trade
from trade2026.domain.numbers import SCALE
from trade2026.domain.orders import OrderSpec, OrdStatus
from trade2026.domain.parents import MarketSeen, ParentSpec, ParentStatus, Slice


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag=True):
    """Base of all events; the JSON field `type` holds the class name."""


# ── orders.events ──────────────────────────────────────────────────────────────────────────────


class OwnerStarted(Event, frozen=True, kw_only=True):
    """A process owns this partition from here on."""

    owner: str
    epoch: int
    code_version: str
    config_hash: str


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


class Killed(Event, frozen=True, kw_only=True):
    """Trading in a scope is stopped (`halt`: new orders only) until a named person resumes it."""

    scope: str
    reason: str
    by: str
    halt: bool = False
    cause: str = "person"


class Resumed(Event, frozen=True, kw_only=True):
    """A named person released a kill or halt."""

    scope: str
    reason: str
    by: str


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

# ── venue.reports ──────────────────────────────────────────────────────────────────────────────


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

# ── risk.events ────────────────────────────────────────────────────────────────────────────────


class LimitsChanged(Event, frozen=True, kw_only=True):
    """The limits in force: the manifest's ceilings with what the API has tightened, and until when."""

    version: int
    limits: msgspec.Raw
    by: str
    reason: str


class AlertRaised(Event, frozen=True, kw_only=True):
    """Something a risk officer must see. `alert_id` is stable, so a replay raises it once."""

    alert_id: str
    severity: Literal["info", "warning", "critical"]
    scope: str
    message: str


class AlertAcknowledged(Event, frozen=True, kw_only=True):
    """A person has seen it."""

    alert_id: str
    by: str
    note: str = ""


RiskEvent = LimitsChanged | AlertRaised | AlertAcknowledged | Killed | Resumed | OwnerStarted

# ── positions, pnl ─────────────────────────────────────────────────────────────────────────────


class PositionChanged(Event, frozen=True, kw_only=True):
    """A position after one fill. Money is at `COST_SCALE`; `as_of` is the fill's position in the log."""

    account: str
    instrument: str
    strategy: str = ""
    quantity: int
    open_cost: int
    realized: int
    fees: int
    order_id: str
    exec_id: str
    as_of: int


class PnlRealized(Event, frozen=True, kw_only=True):
    """P&L that one fill realised, and the account's totals after it, at `COST_SCALE` of `currency`."""

    account: str
    instrument: str
    strategy: str = ""
    currency: str
    realized: int
    fee: int
    total_realized: int
    total_fees: int
    order_id: str
    exec_id: str
    as_of: int


# ── strategies.events ──────────────────────────────────────────────────────────────────────────


class Run(msgspec.Struct, frozen=True, array_like=True):
    """Records that follow each other in one partition: `count` of them from `first`; with 0, the next is at `first`.

    `topic` is `clock` for the passing of time: then `first` is the time (ns).
    """

    topic: str
    partition: int
    first: int
    count: int = 1


class Delivered(Event, frozen=True, kw_only=True):
    """What the strategies were given, in this order, since the record before. `digest` is of the records."""

    runs: list[Run]
    digest: str = ""


class StrategyWarmed(Event, frozen=True, kw_only=True):
    """History that one strategy was given before it started."""

    strategy: str
    runs: list[Run]
    digest: str = ""


class StrategyStarted(Event, frozen=True, kw_only=True):
    """A strategy begins: its code (a hash), its parameters, and what it may trade. `ts` is its time (ns)."""

    strategy: str
    code: str
    account: str
    instruments: list[str]
    parameters: msgspec.Raw
    ts: int


class StrategyStopped(Event, frozen=True, kw_only=True):
    """A strategy has ended in order."""

    strategy: str
    reason: str
    ts: int


class StrategyFailed(Event, frozen=True, kw_only=True):
    """A strategy raised an error, or decided otherwise than before: it waits for a named person."""

    strategy: str
    reason: str


class OrderDecided(Event, frozen=True, kw_only=True):
    """A strategy's order; `number` counts its decisions."""

    strategy: str
    number: int
    spec: OrderSpec


class OrderListDecided(Event, frozen=True, kw_only=True):
    """Orders of a strategy that depend on each other."""

    strategy: str
    number: int
    kind: str
    specs: list[OrderSpec]


class CancelDecided(Event, frozen=True, kw_only=True):
    """A strategy wants the rest of its order cancelled."""

    strategy: str
    number: int
    client_order_id: str


class AmendDecided(Event, frozen=True, kw_only=True):
    """A strategy wants other terms for its order; 0 leaves a field as it is."""

    strategy: str
    number: int
    client_order_id: str
    quantity: int = 0
    price: int = 0
    stop_price: int = 0


class DecisionRefused(Event, frozen=True, kw_only=True):
    """The order service would not take a decision, and has not recorded it. Delivered to the strategy."""

    strategy: str
    number: int
    code: str
    reason: str
    ts: int


Decision = OrderDecided | OrderListDecided | CancelDecided | AmendDecided

StrategyEvent = (
    Delivered | StrategyWarmed | StrategyStarted | StrategyStopped | StrategyFailed | DecisionRefused | Decision
)

# ── exeq.events ────────────────────────────────────────────────────────────────────────────────


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

AnyEvent = (
    OrderEvent
    | Delivered
    | StrategyWarmed
    | StrategyStarted
    | StrategyStopped
    | StrategyFailed
    | DecisionRefused
    | OrderDecided
    | OrderListDecided
    | CancelDecided
    | AmendDecided
    | VenueAccepted
    | VenueRejected
    | VenueFilled
    | VenueCanceled
    | VenueCancelRejected
    | VenueReplaced
    | VenueReplaceRejected
    | LimitsChanged
    | AlertRaised
    | AlertAcknowledged
    | PositionChanged
    | PnlRealized
    | ExecutionEvent
    | Trade
    | Book
    | Bar
)


class Envelope(msgspec.Struct, gc=False):
    """One record of the log: who said what, when, and why.

    Mutable only so that the owner can stamp it once; `event_id` is `topic/partition/seq`.

    Attributes:
        seq: Position in the partition, from 0, without gaps.
        epoch: Of the owner that wrote it; never falls within a partition.
        version: Of the schema named by `data.type`.
        tenant: The TradingStack.
        principal: User, key or strategy; `local` by default.
        correlation_id: What it belongs to, usually an order id.
        causation_id: The event id, or request id, that brought it about.
        ts_event: When it happened (ns since the epoch).
        ts_init: When we made this record (ns); never falls within a partition.
        traceparent: W3C trace context.
    """

    seq: int
    epoch: int
    ts_event: int
    ts_init: int
    tenant: str
    principal: str
    correlation_id: str
    causation_id: str
    traceparent: str
    data: AnyEvent
    version: int = 1


class UnknownEvent(ValueError):
    """A record that this code does not understand: its reader must stop, not guess (law 14)."""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Envelope)

encode: Any = _encoder.encode
"""Encode an envelope (or any struct) as one JSON object without line breaks."""


def decode(body: bytes) -> Envelope:
    """Decode one record.

    Raises:
        UnknownEvent: for an event type or a shape that this version does not know.
    """
    try:
        return _decoder.decode(body)
    except msgspec.DecodeError as error:
        raise UnknownEvent(f"a record cannot be read: {error}: {body[:200]!r}") from error
