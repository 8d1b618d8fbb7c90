"""What no event tells of an order, as spans: when it was durable, and what stood for a request of many."""

from typing import Any

from trade2026.domain.commands import SubmitList, SubmitOrder
from trade2026.domain.orders import Order, partition_of_id
from trade2026.kit.tracing import is_on, named, parse_traceparent, span


def acknowledged(command: Any, answer: Any, now_ns: int, *, in_request: bool, caller: str = "") -> None:
    """Export the spans of a submission that is durable now; nothing for other commands or an earlier answer.

    Args:
        answer: The order, or the orders of a list.
        in_request: The request's own span is the trace's first; otherwise (batch, WebSocket) one is made here.
        caller: The context that the client of a WebSocket gave; empty if it gave none.
    """
    if not is_on() or not isinstance(command, SubmitOrder | SubmitList):
        return
    order: Order | None = (answer or [None])[0] if isinstance(answer, list) else answer
    context = parse_traceparent(command.traceparent)
    if order is None or context is None or order.traceparent != command.traceparent:
        return
    decided = named(command.traceparent, f"orders.events/{partition_of_id(order.order_id)}/{order.seqs[0]}")
    attributes = {"order.id": order.order_id}
    refused = bool(order.reject_code)
    span("durable", decided, order.ts_updated, now_ns, attributes, service="oms", keep=refused)
    if not in_request:
        own = command.traceparent
        span("submit", caller, command.ts, now_ns, attributes, own=own, service="oms", keep=refused)
