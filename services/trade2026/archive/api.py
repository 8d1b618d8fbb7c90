"""Orders of any age and the trace of one, over HTTP (port 8101)."""

from typing import TYPE_CHECKING, Any

from trade2026.domain.events import Envelope, decode
from trade2026.domain.orders import Order, number_of
from trade2026.kit.bus.port import Trimmed
from trade2026.kit.http import App, Problem, Request, Response, json_response
from trade2026.kit.parameters import LIMIT, ORDERS
from trade2026.kit.queries import bad_cursor, listed_account, may_see, number, order_status
from trade2026.kit.views import event_view, order_view

if TYPE_CHECKING:
    from trade2026.archive.service import ArchiveService

EVENTS_MAX = 10_000
_TOPIC_ORDER = {"orders.events": 0, "venue.reports": 1, "positions": 2, "pnl": 3}


def add_routes(app: App, service: "ArchiveService") -> None:
    """Every endpoint of the archive."""

    @app.route("GET", "/orders", summary="Orders, newest first", query=ORDERS)
    async def orders(request: Request) -> Response:
        account, status, limit = listed_account(request), order_status(request), number(request, "limit", 100)
        cursor = request.query.get("cursor")
        if cursor is not None and not 0 <= number_of(cursor) <= service.reader.newest():
            raise bad_cursor("order")
        found, cursor = service.reader.list(account, status, cursor, limit)
        return json_response({"orders": [order_view(order) for order in found], "cursor": cursor})

    @app.route("GET", "/orders/{order_id}", summary="An order, also one that has left the memory of the OMS")
    async def order(request: Request) -> Response:
        return json_response(order_view(known_order(service, request)))

    @app.route(
        "GET",
        "/trace/{order_id}",
        summary="Everything that happened to an order, on every topic, in order",
        query=LIMIT,
    )
    async def trace(request: Request) -> Response:
        found = known_order(service, request)
        events = await events_of(service, found.order_id, number(request, "limit", 1_000, most=EVENTS_MAX))
        return json_response(
            {
                "order_id": found.order_id,
                "trace_id": order_view(found).trace_id,
                "events": [trace_line(topic, envelope) for topic, envelope in events],
            }
        )


def known_order(service: "ArchiveService", request: Request) -> Order:
    """The order of the path; 404 when the history does not have it."""
    order_id = request.params["order_id"]
    order = service.reader.by_id(order_id)
    if order is None or not may_see(request, order.spec.account):
        raise Problem(404, "unknown_order", f"the history has no order {order_id!r}", as_of=service.as_of)
    return order


async def events_of(service: "ArchiveService", order_id: str, limit: int) -> list[tuple[str, Envelope]]:
    """The order's events by time; those that a topic has dropped since are left out."""
    found: list[tuple[str, Envelope]] = []
    for topic, partition, seq in service.reader.index(order_id, limit):
        try:
            records = await service.context.bus.read(topic, partition, seq, 1)
        except Trimmed:
            continue
        found += [(topic, decode(record.body)) for record in records if record.seq == seq]
    return sorted(found, key=_moment)


def trace_line(topic: str, envelope: Envelope) -> dict[str, Any]:
    """One event of a trace."""
    return {"topic": topic, **event_view(envelope, topic)}


def _moment(item: tuple[str, Envelope]) -> tuple[int, int, int]:
    topic, envelope = item
    return envelope.ts_init, _TOPIC_ORDER.get(topic, len(_TOPIC_ORDER)), envelope.seq
