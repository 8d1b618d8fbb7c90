"""Orders, positions and events as users see them: decimal text, RFC 3339 times."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from trade2026.domain.events import Envelope
from trade2026.domain.numbers import average_price, cost_to_nanos, to_text
from trade2026.domain.orders import Order
from trade2026.domain.positions import Position


class OrderView(msgspec.Struct, omit_defaults=True):
    """An order in JSON. Amounts are decimal strings, times RFC 3339 UTC."""

    order_id: str
    client_order_id: str
    status: str
    account: str
    symbol: str
    side: str
    order_type: str
    quantity: str
    leaves_qty: str
    cum_qty: str
    avg_px: str
    time_in_force: str
    created_at: str
    updated_at: str
    price: str = ""
    stop_price: str = ""
    trailing_offset: str = ""
    display_quantity: str = ""
    expire_at: str = ""
    post_only: bool = False
    reduce_only: bool = False
    strategy: str = ""
    trader: str = ""
    desk: str = ""
    client: str = ""
    algo: str = ""
    parent_order_id: str = ""
    list_id: str = ""
    venue_order_id: str = ""
    reject_code: str = ""
    reason: str = ""
    trace_id: str = ""
    history: list[dict[str, Any]] = []


class SubmitView(msgspec.Struct, omit_defaults=True):
    """The answer to a submission."""

    order_id: str
    client_order_id: str
    status: str
    reject_code: str = ""
    reason: str = ""


class PositionView(msgspec.Struct):
    """The position of an account in one instrument; money in the settlement currency."""

    symbol: str
    quantity: str
    average_price: str
    realized: str
    fees: str


def time_text(ns: int) -> str:
    """RFC 3339 UTC with microseconds; empty for 0."""
    if not ns:
        return ""
    whole, nanos = divmod(ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{nanos // 1000:06d}Z"


def order_view(order: Order, history: list[dict[str, Any]] | None = None) -> OrderView:
    """Show an order."""
    spec = order.spec
    trace = order.traceparent.split("-")
    return OrderView(
        order_id=order.order_id,
        client_order_id=spec.client_order_id,
        status=order.status,
        account=spec.account,
        symbol=spec.instrument,
        side=spec.side,
        order_type=spec.order_type,
        quantity=to_text(spec.quantity),
        leaves_qty=to_text(order.leaves_qty),
        cum_qty=to_text(order.cum_qty),
        avg_px=to_text(average_price(order.cum_cost, order.cum_qty)),
        time_in_force=spec.time_in_force,
        created_at=time_text(order.ts_created),
        updated_at=time_text(order.ts_updated),
        price=to_text(spec.price) if spec.price else "",
        stop_price=to_text(order.stop_price) if order.stop_price else "",
        trailing_offset=to_text(spec.trailing_offset) if spec.trailing_offset else "",
        display_quantity=to_text(spec.display_quantity) if spec.display_quantity else "",
        expire_at=time_text(spec.expire_at),
        post_only=spec.post_only,
        reduce_only=spec.reduce_only,
        strategy=spec.strategy,
        trader=spec.trader,
        desk=spec.desk,
        client=spec.client,
        algo=spec.algo,
        parent_order_id=spec.parent_order_id,
        list_id=order.list_id,
        venue_order_id=order.venue_order_id,
        reject_code=order.reject_code,
        reason=order.reason,
        trace_id=trace[1] if len(trace) == 4 else "",
        history=history or [],
    )


def submit_view(order: Order) -> SubmitView:
    """Show what became of a submission."""
    return SubmitView(order.order_id, order.spec.client_order_id, order.status, order.reject_code, order.reason)


_AMOUNTS = frozenset(
    [
        "quantity",
        "price",
        "stop_price",
        "trailing_offset",
        "display_quantity",
        "reserved_price",
        "last_qty",
        "last_px",
        "multiplier",
        "cum_qty",
        "leaves_qty",
        "last",
        "low",
        "high",
        "bid",
        "ask",
    ]
)
_COSTS = frozenset(["fee", "cum_cost", "open_cost", "realized", "fees", "total_realized", "total_fees"])


def amounts_as_text(value: Any, key: str = "") -> Any:
    """Return an event's data with its integers of 10⁻⁹ as decimal text."""
    if isinstance(value, dict):
        return {name: amounts_as_text(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [amounts_as_text(inner, key) for inner in value]
    if type(value) is int and key in _AMOUNTS:
        return to_text(value)
    if type(value) is int and key in _COSTS:
        return to_text(cost_to_nanos(value))
    return value


def event_view(envelope: Envelope, topic: str = "orders.events", partition: int = 0) -> dict[str, Any]:
    """Show one event with its place in the log."""
    data = amounts_as_text(msgspec.json.decode(msgspec.json.encode(envelope.data)))
    kind = data.pop("type")
    return {
        "event_id": f"{topic}/{partition}/{envelope.seq}",
        "seq": envelope.seq,
        "type": kind,
        "ts_event": time_text(envelope.ts_event),
        "ts_init": time_text(envelope.ts_init),
        "principal": envelope.principal,
        "causation_id": envelope.causation_id,
        "data": data,
    }


def position_view(instrument: str, position: Position) -> PositionView:
    """Show a position."""
    return PositionView(
        instrument,
        to_text(position.quantity),
        to_text(position.average_price),
        to_text(cost_to_nanos(position.realized)),
        to_text(cost_to_nanos(position.fees)),
    )
