"""Questions about strategies, over HTTP (port 8108)."""

from typing import TYPE_CHECKING, Any

import msgspec

from trade2026.kit.http import App, Problem, Request, Response, json_response
from trade2026.kit.queries import may_see
from trade2026.kit.views import time_text
from trade2026.sdk.hosted import Hosted

if TYPE_CHECKING:
    from trade2026.strategies.service import StrategiesService


def add_routes(app: App, service: "StrategiesService") -> None:
    """Every endpoint of the strategies."""

    @app.route("GET", "/strategies", summary="Every strategy: status, position, orders, P&L")
    async def listing(request: Request) -> Response:
        return json_response({"strategies": [view(service, name) for name in _visible(service, request)]})

    @app.route("GET", "/strategies/{name}", summary="One strategy with its parameters, positions and open orders")
    async def show(request: Request) -> Response:
        name = request.params["name"]
        hosted = service.hosted(name)
        if hosted is None or not may_see(request, hosted.definition.account):
            known = ", ".join(_visible(service, request)) or "none runs"
            raise Problem(404, "unknown_strategy", f"there is no strategy {name[:80]!r} here; known: {known}")
        ctx = hosted.ctx
        return json_response(
            {
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
        )


def _defaults(hosted: Hosted) -> dict[str, Any]:
    """Its parameters that are not set, with what is in force for them."""
    in_force = msgspec.to_builtins(hosted.strategy.p)
    return {name: value for name, value in in_force.items() if name not in hosted.definition.parameters}


def _visible(service: "StrategiesService", request: Request) -> list[str]:
    """Names of the strategies whose accounts the principal may see."""
    hosted = service.machine.hosted
    return [name for name in sorted(hosted) if may_see(request, hosted[name].definition.account)]


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
        "open_orders": len(ctx.orders),
        "position": {symbol: str(p.quantity) for symbol, p in sorted(ctx.account.positions.items())},
        "pnl": str(ctx.account.pnl),
        "drawdown": str(service.highest.drawdown(name, ctx.account.pnl)),
        "last_signal_time": time_text(hosted.decided_at) if hosted.decided_at else "",
        "time": time_text(ctx.now),
    }
