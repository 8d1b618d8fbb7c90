"""Orders of any age and the trace of one, over HTTP (port 8101)."""

from typing import TYPE_CHECKING, Any

from trade2026.archive.traces import Located
from trade2026.domain.events import ParentAccepted
from trade2026.domain.orders import Order
from trade2026.kit.http import App, Problem, Request, Response, json_response
from trade2026.kit.pages import BadCursor
from trade2026.kit.parameters import LIMIT, ORDERS
from trade2026.kit.queries import bad_cursor, listed_account, may_see, number, order_status
from trade2026.kit.views import event_view, order_view

if TYPE_CHECKING:
    from trade2026.archive.service import ArchiveService

EVENTS_MAX = 10_000
PARENT_PREFIX = "e"
"""Of the ids of parents; an order's begins with its own."""


def add_routes(app: App, service: "ArchiveService") -> None:
    """Every endpoint of the archive."""

    @app.route("GET", "/orders", summary="Orders, newest first", query=ORDERS)
    async def orders(request: Request) -> Response:
        account, status, limit = listed_account(request), order_status(request), number(request, "limit", 100)
        try:
            found, cursor = service.history.list(account, status, request.query.get("cursor"), limit)
        except BadCursor as error:
            raise bad_cursor("order") from error
        return json_response({"orders": [order_view(order) for order in found], "cursor": cursor})

    @app.route("GET", "/orders/{order_id}", summary="An order, also one that has left the memory of the OMS")
    async def order(request: Request) -> Response:
        return json_response(order_view(known_order(service, request)))

    @app.route(
        "GET",
        "/trace/{order_id}",
        summary="Everything that happened to an order, or to a parent and its children, on every topic, in order",
        query=LIMIT,
    )
    async def trace(request: Request) -> Response:
        subject, limit = request.params["order_id"], number(request, "limit", 1_000, most=EVENTS_MAX)
        if subject.startswith(PARENT_PREFIX):
            events = await known_parent(service, request, limit)
        else:
            events = await service.traces.of_order(known_order(service, request), limit)
        return json_response(
            {
                "order_id": subject,
                "trace_id": next((one.envelope.traceparent[3:35] for one in events if one.envelope.traceparent), ""),
                "events": [trace_line(one) for one in events],
            }
        )


def known_order(service: "ArchiveService", request: Request) -> Order:
    """The order of the path; 404 when the history does not have it."""
    order_id = request.params["order_id"]
    order = service.history.by_id(order_id)
    if order is None or not may_see(request, order.spec.account):
        raise Problem(404, "unknown_order", f"the history has no order {order_id!r}", as_of=service.as_of)
    return order


async def known_parent(service: "ArchiveService", request: Request, limit: int) -> list[Located]:
    """The events of the parent of the path; 404 when the history does not have it."""
    parent_id = request.params["order_id"]
    events = await service.traces.of_parent(parent_id, limit)
    accounts = [one.envelope.data.spec.account for one in events if isinstance(one.envelope.data, ParentAccepted)]
    if not accounts or not may_see(request, accounts[0]):
        raise Problem(404, "unknown_order", f"the history has no parent {parent_id!r}", as_of=service.as_of)
    return events


def trace_line(one: Located) -> dict[str, Any]:
    """One event of a trace."""
    return {"topic": one.topic, **event_view(one.envelope, one.topic, one.partition)}
