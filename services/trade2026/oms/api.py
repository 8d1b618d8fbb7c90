"""Order entry and questions about orders, over HTTP and WebSocket (port 8099)."""

from typing import TYPE_CHECKING

import msgspec
from starlette.websockets import WebSocket

from trade2026.controls.scopes import BadScope, resolve_scope
from trade2026.domain import commands as cmd
from trade2026.domain.orders import OrdStatus
from trade2026.kit.http import App, Problem, Request, Response, json_response
from trade2026.kit.identity import Principal
from trade2026.kit.lists import Lines, List
from trade2026.kit.pages import ORDERS as ORDERS_LISTED
from trade2026.kit.parameters import ACCOUNT, ORDERS
from trade2026.kit.queries import listed_account, number, order_status, require_scope
from trade2026.kit.views import OrderView, SubmitView, event_view, order_view, position_view, submit_view
from trade2026.oms.cell import TOPIC
from trade2026.oms.entry import (
    BATCH_ORDERS_MAX,
    Sent,
    amend_one,
    cancel_one,
    decided,
    find_visible,
    require_own,
    submit_many,
    submit_one,
)
from trade2026.oms.everywhere import asked_everywhere
from trade2026.oms.order_input import AmendInput, OrderInput
from trade2026.oms.socket import OrderSocket

if TYPE_CHECKING:
    from trade2026.oms.service import OmsService

BATCH_BYTES_MAX = 1024 * 1024

EVENTS = {
    "from": "begin with the event of this seq (PARTITION:SEQ of several); with the next one if omitted",
    **ACCOUNT,
}


REASON_MAX = 512
"""Characters of a reason that are kept: a long one must not hold up a kill."""


class BatchInput(msgspec.Struct, forbid_unknown_fields=True):
    """Orders that are independent of each other."""

    orders: list[OrderInput]


class ListInput(msgspec.Struct, forbid_unknown_fields=True):
    """Orders that depend on each other.

    `kind` is OCO (one cancels the others), OTO (the first triggers the others, which are independent) or BRACKET
    (entry, take profit, stop loss: the first triggers the exits, of which one cancels the other).
    """

    kind: str
    orders: list[OrderInput]


class ScopeInput(msgspec.Struct, forbid_unknown_fields=True):
    """What a cancel-all, kill or resume applies to, e.g. `stack`, `account:main`, `strategy:mm`, `venue:SIM`."""

    scope: str = "stack"
    reason: str = ""
    halt: bool = False


_encode = msgspec.json.encode


def permitted_scope(service: "OmsService", principal: Principal, scope: str) -> str:
    """Return the scope that a text means, for who may act on it."""
    try:
        return require_scope(principal, resolve_scope(scope, service.instruments, service.stopped()))
    except BadScope as error:
        raise Problem(422, "bad_scope", str(error), field="scope") from error


def add_routes(app: App, service: "OmsService") -> None:
    """Every endpoint of the OMS."""
    add_order_entry(app, service)
    add_changes(app, service)
    add_questions(app, service)
    add_sockets(app, service)


def add_order_entry(app: App, service: "OmsService") -> None:
    """Submit one order, a batch, or a list."""

    @app.route(
        "POST",
        "/orders",
        summary="Submit an order",
        request_schema=OrderInput,
        response_schema=SubmitView,
        role="trader",
        inline=True,
    )
    async def submit(request: Request) -> Response:
        order = await submit_one(service, request.json(OrderInput), request.principal, request)
        if order.status is OrdStatus.REJECTED and order.reject_code:
            raise Problem(
                422,
                "order_rejected",
                order.reason,
                order_id=order.order_id,
                client_order_id=order.spec.client_order_id,
                reject_code=order.reject_code,
            )
        return Response(_encode(submit_view(order)))

    @app.route(
        "POST",
        "/orders/batch",
        summary="Submit up to 1,000 independent orders; each has its own answer, in order",
        request_schema=BatchInput,
        role="trader",
        body_bytes_max=BATCH_BYTES_MAX,
    )
    async def submit_batch(request: Request) -> Response:
        orders = request.json(BatchInput).orders
        if not 0 < len(orders) <= BATCH_ORDERS_MAX:
            raise Problem(422, "batch_size", f"a batch has 1 to {BATCH_ORDERS_MAX} orders", field="orders")
        origin = Sent(request.headers, lambda: request.json()["orders"])
        results = await submit_many(service, orders, request.principal, request.received_ns, origin)
        return json_response({"results": results})

    @app.route(
        "POST",
        "/orders/list",
        summary="Submit orders that depend on each other: OCO, OTO, BRACKET",
        request_schema=ListInput,
        role="trader",
        body_bytes_max=BATCH_BYTES_MAX,
    )
    async def submit_list(request: Request) -> Response:
        body = request.json(ListInput)
        kind = body.kind.upper()
        if kind not in ("OCO", "OTO", "BRACKET"):
            raise Problem(422, "bad_kind", "kind is OCO, OTO or BRACKET", field="kind")
        specs = [service.spec(order, request.received_ns) for order in body.orders]
        for spec in specs:
            require_own(request.principal, spec.account)
        command = cmd.SubmitList(
            ts=request.received_ns,
            principal=request.principal.name,
            causation_id=request.causation_id,
            traceparent=request.traceparent,
            kind=kind,  # type: ignore[arg-type]
            specs=specs,
            reference=service.reference(specs[0].instrument) if specs else None,
        )
        cell = service.cell_of(specs[0].account if specs else service.settings.default_account)
        service.admit(cell, *specs)
        orders = await cell.list_answered_before(specs)
        if orders is None:
            orders = await decided(cell.submit(command, in_request=True))
        return json_response({"list_id": orders[0].list_id, "orders": [submit_view(order) for order in orders]})


def add_changes(app: App, service: "OmsService") -> None:
    """Cancel, amend, kill, resume."""

    @app.route("DELETE", "/orders/{order_id}", summary="Cancel an order", response_schema=OrderView, role="trader")
    async def cancel(request: Request) -> Response:
        order_id, cause = request.params["order_id"], request.causation_id
        order = await cancel_one(service, order_id, request.principal, request.received_ns, cause)
        return json_response(order_view(order))

    @app.route("PATCH", "/orders/{order_id}", summary="Amend an order", request_schema=AmendInput, role="trader")
    async def amend(request: Request) -> Response:
        body, order_id, cause = request.json(AmendInput), request.params["order_id"], request.causation_id
        order = await amend_one(service, order_id, body, request.principal, request.received_ns, cause)
        return json_response(order_view(order))

    @app.route("POST", "/orders/cancel-all", summary="Cancel all in a scope", request_schema=ScopeInput, role="trader")
    async def cancel_all(request: Request) -> Response:
        body = request.json(ScopeInput)
        principal = request.principal
        scope = permitted_scope(service, principal, body.scope)
        reason = body.reason[:REASON_MAX]
        command = cmd.CancelAll(ts=request.received_ns, principal=principal.name, scope=scope, reason=reason)
        asked = await asked_everywhere(service, request, scope, lambda: decided(service.cancel_all(command)))
        return json_response({"scope": scope, "asked": asked})

    @app.route(
        "POST",
        "/kill",
        summary="Stop trading in a scope and cancel it",
        request_schema=ScopeInput,
        role="risk",
        needs_ready=False,
    )
    async def kill(request: Request) -> Response:
        body = request.json(ScopeInput)
        scope = permitted_scope(service, request.principal, body.scope)
        reason = body.reason[:REASON_MAX] or "no reason given"
        by = request.principal.name
        asked = await asked_everywhere(service, request, scope, lambda: service.kill(scope, reason, by, halt=body.halt))
        return json_response({"scope": scope, "asked": asked})

    @app.route("POST", "/resume", summary="Release a kill or halt", request_schema=ScopeInput, role="risk")
    async def resume(request: Request) -> Response:
        body = request.json(ScopeInput)
        if not body.reason:
            raise Problem(422, "missing_field", "say why trading may go on: give a reason", field="reason")
        scope = permitted_scope(service, request.principal, body.scope)
        reason, by = body.reason[:REASON_MAX], request.principal.name
        await asked_everywhere(service, request, scope, lambda: service.resume(scope, reason, by))
        return json_response({"scope": scope})


def add_questions(app: App, service: "OmsService") -> None:
    """Orders and positions."""

    @app.route("GET", "/orders/{order_id}", summary="An order with its history", response_schema=OrderView)
    async def show(request: Request) -> Response:
        order_id = request.params["order_id"]
        cell = service.cell_of_order(order_id)
        order = await find_visible(cell, order_id, request.principal)
        history = [event_view(event, TOPIC, cell.partition) for event in await cell.events_of(order)]
        return json_response(order_view(order, history))

    @app.route("GET", "/orders", summary="Orders, newest first", query=ORDERS)
    async def listing(request: Request) -> Response:
        account, status, limit = listed_account(request), order_status(request), number(request, "limit", 100)

        async def own(partition: int, begin: str | None, limit: int) -> tuple[Lines, str | None]:
            lookup = service.cells.here[partition].orders
            found, cursor = await lookup.page(account=account, status=status, cursor=begin, limit=limit)
            return [msgspec.to_builtins(order_view(order)) for order in found], cursor

        def count(partition: int) -> int:
            return service.cells.here[partition].owner.machine.fold.order_count

        found, cursor = await List(service.cells, "orders", ORDERS_LISTED, own, count).answer(request, limit, account)
        return json_response({"orders": found, "cursor": cursor})

    @app.route("GET", "/positions/{account}", summary="Positions of an account, as of an event")
    async def positions(request: Request) -> Response:
        account = request.params["account"]
        require_own(request.principal, account)
        held, as_of = await service.cell_of(account).positions(account)
        found = [position_view(name, position) for name, position in sorted(held.items())]
        return json_response({"account": account, "as_of": as_of, "positions": found})


def add_sockets(app: App, service: "OmsService") -> None:
    """Order entry and the event stream over WebSocket."""

    @app.websocket("/ws/orders", summary="Order entry: submit, batch, cancel, amend", role="trader")
    async def order_entry(ws: WebSocket, principal: Principal) -> None:
        await OrderSocket(ws, principal, service).run()

    @app.websocket("/ws/events", summary="Events of the order log as they become durable", query=EVENTS)
    async def events(ws: WebSocket, principal: Principal) -> None:
        await service.stream.serve(ws, principal)
