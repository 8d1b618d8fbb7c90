"""Questions about strategies, over HTTP (port 8108)."""

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from trade2026.kit.calls import get
from trade2026.kit.http import App, Problem, Request, Response, json_response
from trade2026.kit.queries import may_see
from trade2026.kit.views import time_text
from trade2026.sdk.hosted import Hosted
from trade2026.strategies.whole import together, whole_details

if TYPE_CHECKING:
    from trade2026.strategies.service import StrategiesService

_SECONDS_MAX = 1.0


def add_routes(app: App, service: "StrategiesService") -> None:
    """Every endpoint of the strategies."""

    @app.route("GET", "/strategies", summary="Every strategy: status, position, orders, P&L")
    async def listing(request: Request) -> Response:
        asked = await asyncio.gather(*(_asked(url, "/shard", request) for url in service.others()))
        found = [_here(service, request), *(each["strategies"] for each in asked if each is not None)]
        return json_response({"strategies": together(found)})

    @app.route("GET", "/shard", summary="Every strategy, as far as this process trades its symbols")
    async def shard(request: Request) -> Response:
        return json_response({"strategies": _here(service, request)})

    @app.route("GET", "/strategies/{name}", summary="One strategy with its parameters, positions and open orders")
    async def show(request: Request) -> Response:
        name = request.params["name"]
        path = f"/shard/{quote(name, safe='')}"
        here = [_details(service, name)] if name in _visible(service, request) else []
        asked = await asyncio.gather(*(_asked(url, path, request) for url in service.others()))
        found = [*here, *(each for each in asked if each is not None)]
        if not found:
            known = ", ".join(_visible(service, request)) or "none runs"
            raise Problem(404, "unknown_strategy", f"there is no strategy {name[:80]!r} here; known: {known}")
        return json_response(whole_details(found))

    @app.route("GET", "/shard/{name}", summary="One strategy, as far as this process trades its symbols")
    async def part(request: Request) -> Response:
        name = request.params["name"]
        if name not in _visible(service, request):
            raise Problem(404, "unknown_strategy", f"there is no strategy {name[:80]!r} here")
        return json_response(_details(service, name))


def _details(service: "StrategiesService", name: str) -> dict[str, Any]:
    hosted = service.machine.hosted[name]
    ctx = hosted.ctx
    return {
        **view(service, name),
        "parameters": hosted.definition.parameters,
        "defaults": _defaults(hosted),
        "positions": [
            {
                "symbol": symbol,
                "quantity": str(position.quantity),
                "average_price": str(position.average_price),
                "pnl": str(position.pnl),
            }
            for symbol, position in sorted(ctx.account.positions.items())
        ],
        "orders": [
            {
                "client_order_id": order.client_order_id,
                "order_id": order.order_id,
                "side": order.side,
                "quantity": str(order.quantity),
                "price": str(order.price),
                "filled": str(order.filled),
                "status": order.status,
            }
            for order in ctx.orders
        ],
    }


def _defaults(hosted: Hosted) -> dict[str, Any]:
    """Its parameters that are not set, with what is in force for them."""
    in_force = msgspec.to_builtins(hosted.strategy.p)
    return {name: value for name, value in in_force.items() if name not in hosted.definition.parameters}


def _here(service: "StrategiesService", request: Request) -> list[dict[str, Any]]:
    return [view(service, name) for name in _visible(service, request)]


async def _asked(url: str, path: str, request: Request) -> Any:
    """What another process says; None while it does not answer, and then the number of shards says so."""
    authorization = request.headers.get(b"authorization", b"").decode("latin-1")
    answer = await get(f"{url}{path}", authorization=authorization, seconds_max=_SECONDS_MAX)
    return msgspec.json.decode(answer.body) if answer.ok else None


def _visible(service: "StrategiesService", request: Request) -> list[str]:
    """Names of the strategies here whose accounts the principal may see."""
    hosted = service.machine.hosted
    here = [name for name in sorted(hosted) if name in service.loaded or name not in service.shards]
    return [name for name in here if may_see(request, hosted[name].definition.account)]


def view(service: "StrategiesService", name: str) -> dict[str, Any]:
    """A strategy in a line."""
    hosted = service.machine.hosted[name]
    status, reason = service.status_of(name)
    ctx = hosted.ctx
    return {
        "name": name,
        "status": status,
        "reason": reason,
        "account": hosted.definition.account,
        "symbols": hosted.definition.instruments,
        "decisions": hosted.decided,
        "halts": sorted(ctx.halted),
        "shards": int(name in service.loaded),
        "shards_wanted": service.shards.get(name, 0),
        "open_orders": len(ctx.orders),
        "position": {symbol: str(p.quantity) for symbol, p in sorted(ctx.account.positions.items())},
        "pnl": str(ctx.account.pnl),
        "drawdown": str(service.highest.drawdown(name, ctx.account.pnl)),
        "last_signal_time": time_text(hosted.decided_at) if hosted.decided_at else "",
        "time": time_text(ctx.now),
    }
