"""The venue over HTTP and WebSocket (port 8080)."""

from typing import TYPE_CHECKING, Any

import msgspec
from starlette.websockets import WebSocket

from trade2026.controls.scopes import BadScope, resolve_scope, venue_of
from trade2026.domain.instruments import Instruments
from trade2026.domain.numbers import to_text
from trade2026.domain.orders import DIRECT_ORDER_PREFIX, OrderSpec
from trade2026.gateway import commands as cmd
from trade2026.gateway.book import LEVELS
from trade2026.gateway.order_ids import paper_order_id
from trade2026.gateway.order_input import PaperOrderInput, find_instrument, read_order
from trade2026.gateway.resting import VenueOrder
from trade2026.gateway.view import TRADES_KEPT, MarketView, instrument_view
from trade2026.kit.http import App, Problem, Request, Response, json_response
from trade2026.kit.identity import Principal
from trade2026.kit.owner import Unavailable
from trade2026.kit.queries import may_see, require_account, require_scope

if TYPE_CHECKING:
    from trade2026.gateway.service import GatewayService


REASON_MAX = 512


class ScopeInput(msgspec.Struct, forbid_unknown_fields=True):
    """What a kill or resume applies to, e.g. `stack`, `account:main`, `venue:SIM`."""

    scope: str = "stack"
    reason: str = ""
    halt: bool = False


def add_routes(app: App, service: "GatewayService") -> None:
    """Every endpoint of the gateway."""
    _add_market(app, service)
    _add_orders(app, service)
    _add_kill(app, service)


def _add_market(app: App, service: "GatewayService") -> None:
    @app.route(
        "GET", "/ticker/{symbol}", summary="Last price, best prices, range and volume of 24 hours, as the venue says"
    )
    async def ticker(request: Request) -> Response:
        return json_response(_view(service, request).ticker())

    @app.route(
        "GET",
        "/book/{symbol}",
        summary="The book as the venue says",
        query={"depth": f"1 to {LEVELS} (the default) levels"},
    )
    async def book(request: Request) -> Response:
        return json_response(_view(service, request).book_view(_number(request, "depth", LEVELS, LEVELS)))

    @app.route(
        "GET",
        "/trades/{symbol}",
        summary="Last trades as the venue says, bad prints too, newest first",
        query={"limit": f"1 to {TRADES_KEPT}; 100 by default"},
    )
    async def trades(request: Request) -> Response:
        return json_response(_view(service, request).trades_view(_number(request, "limit", 100, TRADES_KEPT)))

    @app.route("GET", "/instruments", summary="What can be traded here, and in which steps")
    async def instruments(request: Request) -> Response:
        return json_response({"instruments": [instrument_view(item) for item in service.instruments.by_id.values()]})

    @app.route("GET", "/replay", summary="Where the trades come from, and how far they are")
    async def replay(request: Request) -> Response:
        items = service.feed.instruments.values() if service.feed is not None else ()
        return json_response({"replays": [item.source.describe() for item in items]})

    @app.websocket(
        "/ws/market", summary="Trades, books, tickers as the venue says: subscribe with op, channels, symbols"
    )
    async def market(ws: WebSocket, principal: Principal) -> None:
        await service.stream.serve(ws)


def _view(service: "GatewayService", request: Request) -> MarketView:
    instrument = find_instrument(service.instruments, request.params["symbol"])
    if service.feed is None:
        raise Problem(503, "not_ready", service.readiness()[1], retry_after=1)
    return service.feed.instruments[instrument.instrument_id].view


def _number(request: Request, name: str, default: int, most: int) -> int:
    text = request.query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= most):
        raise Problem(422, f"bad_{name}", f"{name} is a number from 1 to {most}", field=name)
    return int(text)


def _add_orders(app: App, service: "GatewayService") -> None:
    @app.route(
        "POST",
        "/orders",
        summary="Place a paper order past the OMS and its limits, where the venue has direct_orders: true",
        request_schema=PaperOrderInput,
        role="admin",
    )
    async def place(request: Request) -> Response:
        order = request.json(PaperOrderInput)
        spec = read_order(order, service.instruments, service.settings.default_account, service.unique())
        require_account(request, spec.account)
        _require_open(service, spec)
        order_id = paper_order_id(spec.account, spec.client_order_id)
        if service.machine.find(order_id) is None:
            if not (disk := service.disk()).ok:
                raise Problem(503, "disk_low", disk.detail, retry_after=5)
            await service.owner.submit(
                cmd.PlaceOrders(
                    ts=request.received_ns,
                    principal=request.principal.name,
                    traceparent=request.headers.get(b"traceparent", b"").decode("latin-1"),
                    orders=[cmd.NewOrder(order_id, spec)],
                )
            )
        placed = await _find(service, order_id)
        if placed.status == "rejected":
            raise Problem(422, "order_rejected", placed.reason, order_id=order_id)
        if placed.spec != spec:
            raise Problem(409, "client_order_id_reused", "another order has this client order id", order_id=order_id)
        return json_response(_order_view(placed))

    @app.route("GET", "/orders/{order_id}", summary="An order at the venue: working, or closed not long ago")
    async def show(request: Request) -> Response:
        order = await _visible(service, request)
        return json_response(_order_view(order))

    @app.route("DELETE", "/orders/{order_id}", summary="Cancel an order that was placed here", role="trader")
    async def cancel(request: Request) -> Response:
        order = await _visible(service, request)
        if not order.order_id.startswith(DIRECT_ORDER_PREFIX):
            raise Problem(409, "order_of_the_oms", "this order belongs to the OMS: cancel it there")
        if order.status != "working":
            raise Problem(409, "order_closed", f"too late: it is {order.status}")
        command = cmd.CancelWorking(ts=request.received_ns, principal=request.principal.name, order_id=order.order_id)
        await service.owner.submit(command, reduces_risk=True)
        return json_response(_order_view(await _find(service, order.order_id)))


def _require_open(service: "GatewayService", spec: OrderSpec) -> None:
    venue = venue_of(spec.instrument)
    if not service.configs[venue].direct_orders:
        detail = (
            f"{venue} takes orders from the OMS only; direct_orders: true in its config lets others past its limits"
        )
        raise Problem(403, "direct_orders_off", detail)


async def _visible(service: "GatewayService", request: Request) -> VenueOrder:
    """The order of the path; for one of another's account the same 404 as for none, so that ids tell nothing."""
    order = await _find(service, request.params["order_id"])
    if not may_see(request, order.spec.account):
        raise _unknown(order.order_id)
    return order


def _unknown(order_id: str) -> Problem:
    return Problem(404, "unknown_order", f"the venue does not know {order_id!r}; the OMS has the history")


async def _find(service: "GatewayService", order_id: str) -> VenueOrder:
    order = await service.owner.read(lambda venue: venue.find(order_id))
    if order is None:
        raise _unknown(order_id)
    return order


def _order_view(order: VenueOrder) -> dict[str, Any]:
    spec = order.spec
    return {
        "order_id": order.order_id,
        "venue_order_id": order.venue_order_id,
        "client_order_id": spec.client_order_id,
        "status": order.status,
        "reason": order.reason,
        "account": spec.account,
        "symbol": spec.instrument,
        "side": spec.side,
        "order_type": spec.order_type,
        "time_in_force": spec.time_in_force,
        "price": to_text(spec.price) if spec.price else None,
        "quantity": to_text(spec.quantity),
        "leaves_qty": to_text(order.leaves_qty),
        "cum_qty": to_text(order.cum_qty),
    }


def _add_kill(app: App, service: "GatewayService") -> None:
    @app.route(
        "POST",
        "/kill",
        summary="Refuse new orders of a scope at the venue and cancel its working ones",
        request_schema=ScopeInput,
        role="risk",
        needs_ready=False,
    )
    async def kill(request: Request) -> Response:
        body = _scope(service, request)
        reason = body.reason or "no reason given"
        try:
            cancelled = await service.kill(body.scope, reason, request.principal.name, halt=body.halt)
        except Unavailable as error:
            detail = f"latched: new orders are refused; the cancels follow as soon as the log can be written ({error})"
            raise Problem(503, "latched_not_logged", detail, retry_after=1, scope=body.scope) from error
        return json_response({"scope": body.scope, "cancelled": cancelled})

    @app.route(
        "POST",
        "/resume",
        summary="Release a kill at the venue",
        request_schema=ScopeInput,
        role="risk",
        needs_ready=False,
    )
    async def resume(request: Request) -> Response:
        body = _scope(service, request)
        if not body.reason:
            raise Problem(422, "missing_field", "say why trading may go on: give a reason", field="reason")
        released = service.resume(body.scope, body.reason, request.principal.name)
        return json_response({"scope": body.scope, "released": released})


def _scope(service: "GatewayService", request: Request) -> ScopeInput:
    body = request.json(ScopeInput)
    default = service.settings.venues[0].name if service.settings.venues else None
    every = Instruments(service.settings.instruments, default)
    try:
        body.scope = require_scope(request.principal, resolve_scope(body.scope, every, service.kills))
    except BadScope as error:
        raise Problem(422, "bad_scope", str(error), field="scope") from error
    body.reason = body.reason[:REASON_MAX]
    return body
