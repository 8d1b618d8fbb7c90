"""What the audit log says of each event, and the chain that holds it together.

Pure. A record is made of one event alone, so whoever has the source log can make it again and compare. Its hash is
SHA-256 of its own content and the hash before it: nothing before a signed hash can be changed, removed, inserted or
put elsewhere without another hash coming out.
"""

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec

from trade2026.domain.events import (
    AnyEvent,
    ChildDecided,
    ChildReported,
    Delivered,
    Envelope,
    OrderAccepted,
    OrderDecided,
    OrderFilled,
    OrderListAccepted,
    OrderListDecided,
    OrderRefused,
    SliceReached,
    StopTrailed,
    StrategyWarmed,
)
from trade2026.domain.numbers import to_text
from trade2026.domain.orders import OrderSpec

SEEN = (Delivered, StrategyWarmed, SliceReached, StopTrailed, ChildReported)
"""What was seen, and is no command, decision, outcome or act of a person: not audited."""
WHAT_CHARACTERS_MAX = 500
_SUBJECTS = ("order_id", "parent_id", "list_id", "alert_id", "strategy")
_NOT_SAID = frozenset((*_SUBJECTS, "account", "client_order_id", "venue_order_id"))
_AMOUNTS = frozenset(("quantity", "price", "stop_price", "reserved_price"))
_encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode


class Entry(msgspec.Struct, frozen=True):
    """What one event says.

    Attributes:
        digest: SHA-256 of the event as it lies in the log, hexadecimal.
        ts: When it was recorded (ns since the epoch).
        account: Of the event itself; empty where it names none.
        subject: The order, parent, list, alert or strategy that it is about.
        cause: The event or request that brought it about.
        what: The rest in words, for people and for searching.
    """

    topic: str
    partition: int
    seq: int
    digest: str
    ts: int
    type: str
    principal: str
    account: str
    subject: str
    trace_id: str
    cause: str
    what: str

    @property
    def event_id(self) -> str:
        """Where the event is."""
        return f"{self.topic}/{self.partition}/{self.seq}"


class AuditRecord(msgspec.Struct, frozen=True):
    """One link of the chain; `n` counts from 0 without gaps."""

    n: int
    entry: Entry
    hash: str


class Checkpoint(msgspec.Struct, frozen=True):
    """A signed word about the chain: it had `n` records, the last with the hash `head`.

    Attributes:
        kind: `interval`, `stop`, or `cut`: what is before it was deleted by retention.
        positions: By `topic/partition`, the events before this position are in the chain, or not to be audited.
        key: Fingerprint of the public key.
        signature: Ed25519 over all the rest, hexadecimal.
    """

    stack: str
    kind: str
    n: int
    head: str
    ts: int
    positions: dict[str, int]
    key: str
    signature: str = ""

    def signed_bytes(self) -> bytes:
        """What the signature is over."""
        positions = sorted(self.positions.items())
        return _encode(["trade2026 audit", self.stack, self.kind, self.n, self.head, self.ts, positions, self.key])


class NotSigned(Exception):
    """No checkpoint was made of what there is; the message says why."""


def genesis(stack: str) -> str:
    """The hash before the first record."""
    return hashlib.sha256(b"trade2026 audit " + stack.encode()).hexdigest()


def seal(before: str, n: int, entry: Entry) -> str:
    """The hash of a record that follows one with the hash `before`."""
    return hashlib.sha256(_encode([before, n, entry])).hexdigest()


def entry_of(topic: str, partition: int, envelope: Envelope, body: bytes) -> Entry | None:
    """What the audit log says of an event; None if it is not audited."""
    data = envelope.data
    if isinstance(data, SEEN):
        return None
    trace = envelope.traceparent
    return Entry(
        topic,
        partition,
        envelope.seq,
        hashlib.sha256(body).hexdigest(),
        envelope.ts_init,
        type(data).__name__,
        envelope.principal,
        _account(data),
        _subject(data),
        trace[3:35],
        envelope.causation_id,
        _what(data)[:WHAT_CHARACTERS_MAX],
    )


class Chain:
    """The end of the chain, and how far each topic is in it.

    Args:
        n: Of the next record.
        positions: As in `Checkpoint`.
    """

    def __init__(self, stack: str, n: int = 0, head: str = "", positions: dict[str, int] | None = None) -> None:
        self.stack, self.n, self.head = stack, n, head or genesis(stack)
        self.positions = dict(positions or {})

    def take(self, topic: str, partition: int, envelope: Envelope, body: bytes) -> AuditRecord | None:
        """Take the next event of a partition; returns its record, if it is audited."""
        place = f"{topic}/{partition}"
        assert envelope.seq >= self.positions.get(place, 0), f"{place}: {envelope.seq} was taken already"
        self.positions[place] = envelope.seq + 1
        entry = entry_of(topic, partition, envelope, body)
        if entry is None:
            return None
        record = AuditRecord(self.n, entry, seal(self.head, self.n, entry))
        self.n, self.head = record.n + 1, record.hash
        return record

    def checkpoint(self, kind: str, ts: int, key: str) -> Checkpoint:
        """A word about the chain as it is, to be signed."""
        return Checkpoint(self.stack, kind, self.n, self.head, ts, dict(self.positions), key)


def _account(data: AnyEvent) -> str:
    account = getattr(data, "account", "") or getattr(getattr(data, "spec", None), "account", "")
    if account:
        return account
    if isinstance(data, OrderListAccepted):
        return data.orders[0].spec.account
    if isinstance(data, OrderListDecided):
        return data.specs[0].account
    kind, _, name = getattr(data, "scope", "").partition(":")
    return name if kind == "account" else ""


def _subject(data: AnyEvent) -> str:
    return next((found for name in _SUBJECTS if (found := getattr(data, name, ""))), "")


def _what(data: AnyEvent) -> str:
    match data:
        case OrderAccepted() | OrderDecided() | ChildDecided():
            return _terms(data.spec)
        case OrderRefused():
            return f"{data.reject_code}: {data.reason}; {_terms(data.spec)}"
        case OrderFilled():
            return f"{data.side} {to_text(data.last_qty)} {data.instrument} at {to_text(data.last_px)}, {data.exec_id}"
        case OrderListAccepted():
            legs = "; ".join(f"{leg.order_id} {leg.role} {_terms(leg.spec)}" for leg in data.orders)
            return f"{data.kind} of {legs}"
        case OrderListDecided():
            return f"{data.kind} of {'; '.join(map(_terms, data.specs))}"
        case _:
            return _said(data)


def _terms(spec: OrderSpec) -> str:
    price = f" at {to_text(spec.price)}" if spec.price else ""
    named = f", {spec.client_order_id}" if spec.client_order_id else ""
    return f"{spec.side} {to_text(spec.quantity)} {spec.instrument} {spec.order_type}{price}{named}"


def _said(data: AnyEvent) -> str:
    """Every word that an event has, by its name."""
    words: list[str] = []
    for name in data.__struct_fields__:
        value = getattr(data, name)
        if name in _NOT_SAID or not value:
            continue
        if name in _AMOUNTS:
            words.append(f"{name} {to_text(value)}")
        elif isinstance(value, str) or type(value) is int or value is True:
            words.append(f"{name} {value}")
        elif isinstance(value, list) and all(isinstance(each, str) for each in value):  # pyright: ignore[reportUnknownVariableType]
            words.append(f"{name} {' '.join(value)}")  # pyright: ignore[reportUnknownArgumentType]
    return ", ".join(words)
