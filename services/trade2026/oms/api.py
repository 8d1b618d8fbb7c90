"""Order entry and questions about orders, over HTTP and WebSocket (port 8099)."""

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from trade2026.controls.scopes import SCOPE_KINDS, is_scope
from trade2026.domain import commands as cmd
from trade2026.domain.orders import Order, OrdStatus, number_of
from trade2026.kit.body import parse
from trade2026.kit.http import App, Problem, Request, Response, json_response
from trade2026.kit.identity import Principal
from trade2026.kit.owner import Unavailable
from trade2026.kit.queries import bad_cursor, listed_account, number, order_status, require_scope
from trade2026.kit.views import OrderView, PositionView, SubmitView, event_view, order_view, position_view, submit_view
from trade2026.oms.machine import OrderClosed, OrderError, Refused, UnknownOrder
from trade2026.oms.order_input import TEXT_MAX, AmendInput, OrderInput, amount

if TYPE_CHECKING:
    from trade2026.oms.service import OmsService

BATCH_ORDERS_MAX = 1_000
BATCH_BYTES_MAX = 1024 * 1024


class BatchInput(msgspec.Struct, forbid_unknown_fields=True):
    """Orders that are independent of each other."""

    orders: list[OrderInput]


class ListInput(msgspec.Struct, forbid_unknown_fields=True):
    """Orders that depend on each other: `kind` is OCO, OTO or BRACKET (entry, take profit, stop loss)."""

    kind: str
    orders: list[OrderInput]


class ScopeInput(msgspec.Struct, forbid_unknown_fields=True):
    """What a cancel-all, kill or resume applies to, e.g. `stack`, `account:main`, `strategy:mm`, `venue:SIM`."""

    scope: str = "stack"
    reason: str = ""
    halt: bool = False


class WsMessage(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A request on the order socket; `id` comes back with the answer."""

    op: str
    id: int | str = 0
    order: OrderInput | None = None
    orders: list[OrderInput] | None = None
    order_id: str = ""
    amend: AmendInput | None = None


_encode = msgspec.json.encode

_STATUS = {"unknown_order": 404, "order_closed": 409, "client_order_id_reused": 409}


def problem_of(error: OrderError) -> Problem:
    """The HTTP answer to a command that was refused."""
    if isinstance(error, Refused):
        return Problem(422, error.code, str(error), reject_code=error.reject_code)
    return Problem(_STATUS.get(error.code, 422), error.code, str(error))


def permitted_scope(principal: Principal, scope: str) -> str:
    """Return a scope; a word that names none must not look as if it had stopped something."""
    if not is_scope(scope):
        detail = f"scope is stack, or one of {', '.join(SCOPE_KINDS)} with :NAME"
        raise Problem(422, "bad_scope", detail, field="scope")
    return require_scope(principal, scope)


def _may(principal: Principal, account: str) -> None:
    if principal.accounts is not None and account not in principal.accounts:
        raise Problem(
            403, "account_not_permitted", f"{principal.name} may not use account {account!r}", field="account"
        )


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
        return json_response({"results": await submit_many(service, orders, request.principal, request.received_ns)})

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
            _may(request.principal, spec.account)
        command = cmd.SubmitList(
            ts=request.received_ns,
            principal=request.principal.name,
            traceparent=service.traceparent(request),
            kind=kind,  # type: ignore[arg-type]
            specs=specs,
            reference=service.reference(specs[0].instrument) if specs else None,
        )
        service.admit()
        orders = await _decided(service.submit(command, in_request=True))
        return json_response({"list_id": orders[0].list_id, "orders": [submit_view(order) for order in orders]})


def add_changes(app: App, service: "OmsService") -> None:
    """Cancel, amend, kill, resume."""

    @app.route("DELETE", "/orders/{order_id}", summary="Cancel an order", response_schema=OrderView, role="trader")
    async def cancel(request: Request) -> Response:
        order = await cancel_one(service, request.params["order_id"], request.principal, request.received_ns)
        return json_response(order_view(order))

    @app.route("PATCH", "/orders/{order_id}", summary="Amend an order", request_schema=AmendInput, role="trader")
    async def amend(request: Request) -> Response:
        body = request.json(AmendInput)
        order = await amend_one(service, request.params["order_id"], body, request.principal, request.received_ns)
        return json_response(order_view(order))

    @app.route("POST", "/orders/cancel-all", summary="Cancel all in a scope", request_schema=ScopeInput, role="trader")
    async def cancel_all(request: Request) -> Response:
        body = request.json(ScopeInput)
        principal = request.principal
        permitted_scope(principal, body.scope)
        command = cmd.CancelAll(ts=request.received_ns, principal=principal.name, scope=body.scope, reason=body.reason)
        return json_response({"scope": body.scope, "asked": await _decided(service.submit(command, reduces_risk=True))})

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
        permitted_scope(request.principal, body.scope)
        asked = await service.kill(body.scope, body.reason, request.principal.name, halt=body.halt)
        return json_response({"scope": body.scope, "asked": asked})

    @app.route("POST", "/resume", summary="Release a kill or halt", request_schema=ScopeInput, role="risk")
    async def resume(request: Request) -> Response:
        body = request.json(ScopeInput)
        if not body.reason:
            raise Problem(422, "missing_field", "say why trading may go on: give a reason", field="reason")
        permitted_scope(request.principal, body.scope)
        await service.resume(body.scope, body.reason, request.principal.name)
        return json_response({"scope": body.scope})


def add_questions(app: App, service: "OmsService") -> None:
    """Orders and positions."""

    @app.route("GET", "/orders/{order_id}", summary="An order with its history", response_schema=OrderView)
    async def show(request: Request) -> Response:
        order = await find_visible(service, request.params["order_id"], request.principal)
        history = [event_view(envelope) for envelope in await service.events_of(order)]
        return json_response(order_view(order, history))

    @app.route(
        "GET", "/orders", summary="Orders, newest first: account, status (open, closed or a state), cursor, limit"
    )
    async def listing(request: Request) -> Response:
        account, status, limit = listed_account(request), order_status(request), number(request, "limit", 100)
        cursor = request.query.get("cursor")
        if cursor is not None and not 0 <= number_of(cursor) < service.owner.machine.fold.order_count:
            raise bad_cursor("order")
        orders, cursor = await service.orders.page(account=account, status=status, cursor=cursor, limit=limit)
        return json_response({"orders": [order_view(order) for order in orders], "cursor": cursor})

    @app.route("GET", "/positions/{account}", summary="Positions of an account, as of an event")
    async def positions(request: Request) -> Response:
        account = request.params["account"]
        _may(request.principal, account)
        held, as_of = await service.positions(account)
        found = [position_view(name, position) for name, position in sorted(held.items())]
        return json_response({"account": account, "as_of": as_of, "positions": found})

    _ = PositionView


def add_sockets(app: App, service: "OmsService") -> None:
    """Order entry and the event stream over WebSocket."""

    @app.websocket("/ws/orders", summary="Order entry: submit, batch, cancel, amend", role="trader")
    async def order_entry(ws: WebSocket, principal: Principal) -> None:
        await OrderSocket(ws, principal, service).run()

    @app.websocket("/ws/events", summary="Events of the order log as they become durable")
    async def events(ws: WebSocket, principal: Principal) -> None:
        await service.stream.serve(ws, principal)


def _identifier(message: Any) -> int | str:
    """The id of a request, so that also the answer to a wrong one can be told from others; 0 if it has none."""
    given = message.get("id", 0) if isinstance(message, dict) else 0
    return given if type(given) in (int, str) else 0


async def _decided(answer: Awaitable[Any]) -> Any:
    try:
        return await answer
    except (OrderError, Unavailable) as error:
        raise _problem(error) from error


async def submit_one(
    service: "OmsService", order: OrderInput, principal: Principal, request: Request | None = None, now: int = 0
) -> Order:
    """Submit one order and return it once it is durable."""
    now = request.received_ns if request is not None else now
    key = idempotency_key(request) if request is not None else ""
    spec = service.spec(order, now, key)
    _may(principal, spec.account)
    service.admit()
    known = service.answered_before(spec)
    if known is not None:
        return known
    command = cmd.SubmitOrder(
        ts=now,
        principal=principal.name,
        traceparent=service.traceparent(request),
        spec=spec,
        reference=service.reference(spec.instrument),
    )
    return await _decided(service.submit(command, in_request=request is not None))


def idempotency_key(request: Request) -> str:
    """The header's value; a longer one is refused, not cut: two keys must never become one."""
    key = request.headers.get(b"idempotency-key", b"").decode("latin-1")
    if len(key) > TEXT_MAX or not key.isprintable():
        detail = f"Idempotency-Key has at most {TEXT_MAX} printable characters"
        raise Problem(422, "bad_text", detail, field="Idempotency-Key")
    return key


async def submit_many(
    service: "OmsService", orders: list[OrderInput], principal: Principal, now: int
) -> list[SubmitView | dict[str, Any]]:
    """Submit independent orders; a wrong one spoils only its own answer."""
    results: list[Any] = []
    commands: list[cmd.Command] = []
    places: list[int] = []
    for order in orders:
        try:
            spec = service.spec(order, now)
            _may(principal, spec.account)
            service.admit()
            known = service.answered_before(spec)
        except Problem as problem:
            results.append(problem.body())
            continue
        if known is None:
            places.append(len(results))
            commands.append(
                cmd.SubmitOrder(
                    ts=now,
                    principal=principal.name,
                    traceparent=service.traceparent(None),
                    spec=spec,
                    reference=service.reference(spec.instrument),
                )
            )
        results.append(submit_view(known) if known is not None else None)
    try:
        answers = await service.submit_many(commands)
    except Problem as problem:
        answers = [problem] * len(commands)
    for place, answer in zip(places, answers, strict=True):
        results[place] = submit_view(answer) if isinstance(answer, Order) else _problem(answer).body()
    return results


def _problem(error: Exception) -> Problem:
    """The HTTP answer to what a command met."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, OrderError):
        return problem_of(error)
    if isinstance(error, Unavailable):
        return Problem(503, "not_acknowledged", str(error), retry_after=1)
    raise error


async def find_visible(service: "OmsService", order_id: str, principal: Principal) -> Order:
    """Return an order; for one of another's account the same 404 as for none, so that ids tell nothing."""
    order = await service.orders.find(order_id)
    if order is None or (principal.accounts is not None and order.spec.account not in principal.accounts):
        raise problem_of(UnknownOrder(order_id))
    return order


async def cancel_one(service: "OmsService", order_id: str, principal: Principal, now: int) -> Order:
    """Ask for the cancellation of one order."""
    order_to_change(service, order_id, principal)
    command = cmd.CancelOrder(ts=now, principal=principal.name, order_id=order_id, reason=f"asked by {principal.name}")
    return await _decided(service.submit(command, reduces_risk=True))


def order_to_change(service: "OmsService", order_id: str, principal: Principal) -> Order:
    """Return an open order; 409 for a closed one, and the same 404 for another's as for none."""
    try:
        order = service.orders.to_change(order_id)
    except OrderClosed as error:
        hidden = principal.accounts is not None and error.account not in principal.accounts
        raise problem_of(UnknownOrder(order_id) if hidden else error) from error
    except UnknownOrder as error:
        raise problem_of(error) from error
    if principal.accounts is not None and order.spec.account not in principal.accounts:
        raise problem_of(UnknownOrder(order_id))
    return order


async def amend_one(service: "OmsService", order_id: str, body: AmendInput, principal: Principal, now: int) -> Order:
    """Ask for new terms of one order."""
    order = order_to_change(service, order_id, principal)
    terms: dict[str, Any] = {name: amount(getattr(body, name), name) for name in ("quantity", "price", "stop_price")}
    service.check_steps(order.spec.instrument, terms)
    service.admit()
    command = cmd.AmendOrder(
        ts=now,
        principal=principal.name,
        order_id=order_id,
        reference=service.reference(order.spec.instrument),
        **terms,
    )
    return await _decided(service.submit(command))


class OrderSocket:
    """One client's order-entry connection: requests are answered in the order of their arrival."""

    def __init__(self, ws: WebSocket, principal: Principal, service: "OmsService") -> None:
        self.ws, self.principal, self.service = ws, principal, service

    async def run(self) -> None:
        """Serve until the client leaves; a broken message gets a problem, not a hang-up."""
        while True:
            try:
                message = await self.ws.receive()
            except WebSocketDisconnect:
                return
            if message["type"] == "websocket.disconnect":
                return
            raw = message.get("text") or message.get("bytes") or b""
            await self.ws.send_bytes(_encode(await self._answer(raw)))

    async def _answer(self, raw: str | bytes) -> dict[str, Any]:
        body = raw if isinstance(raw, bytes) else raw.encode()
        identifier: int | str = 0
        try:
            identifier = _identifier(parse(body))
            request = parse(body, WsMessage)
            return {"id": identifier, "result": await self._perform(request)}
        except Problem as problem:
            return {"id": identifier, "problem": problem.body()}
        except Unavailable as error:
            return {"id": identifier, "problem": Problem(503, "not_ready", str(error), retry_after=1).body()}

    async def _perform(self, request: WsMessage) -> Any:
        now, service, principal = self.service.context.clock.now(), self.service, self.principal
        if request.op == "submit" and request.order is not None:
            return submit_view(await submit_one(service, request.order, principal, now=now))
        if request.op == "batch" and request.orders is not None and len(request.orders) <= BATCH_ORDERS_MAX:
            return await submit_many(service, request.orders, principal, now)
        if request.op == "cancel" and request.order_id:
            return submit_view(await cancel_one(service, request.order_id, principal, now))
        if request.op == "amend" and request.order_id and request.amend is not None:
            return submit_view(await amend_one(service, request.order_id, request.amend, principal, now))
        raise Problem(
            422,
            "bad_operation",
            'op is "submit" with order, "batch" with up to 1,000 orders, "cancel" with order_id, or "amend" with order_id and amend',
            field="op",
        )
