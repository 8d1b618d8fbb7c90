"""The envelope around each event, and how a record is written and read."""

from typing import Any

import msgspec

from trade2026.domain.events.alternative import AlternativeEvent
from trade2026.domain.events.audit import AuditEvent
from trade2026.domain.events.execution import ExecutionEvent
from trade2026.domain.events.orders import OrderEvent
from trade2026.domain.events.positions import PnlRealized, PositionChanged
from trade2026.domain.events.risk import RiskEvent
from trade2026.domain.events.strategies import ShardEvent, StrategyEvent
from trade2026.domain.events.venue import ReportEvent
from trade2026.domain.market import Bar, Book, Trade, VenueMessage

AnyEvent = (
    OrderEvent
    | ReportEvent
    | RiskEvent
    | PositionChanged
    | PnlRealized
    | StrategyEvent
    | ShardEvent
    | ExecutionEvent
    | AuditEvent
    | AlternativeEvent
    | Trade
    | Book
    | Bar
    | VenueMessage
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
