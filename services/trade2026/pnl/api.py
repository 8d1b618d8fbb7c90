"""P&L over HTTP (port 8100). Money is decimal text, rounded half to even at 10⁻⁹."""

from typing import TYPE_CHECKING, Any

from trade2026.domain.numbers import cost_to_nanos, to_text
from trade2026.kit.http import App, Problem, Request, Response, json_response
from trade2026.kit.parameters import LIMIT
from trade2026.kit.projection_cell import ProjectionCell
from trade2026.kit.queries import may_see, number, require_account
from trade2026.kit.views import time_text
from trade2026.pnl.machine import DAY_NS, DAYS_MAX, POINTS_MAX, Curve, Holding, Pnl, PnlMachine

if TYPE_CHECKING:
    from trade2026.pnl.service import PnlService


def add_routes(app: App, service: "PnlService") -> None:
    """Every endpoint of P&L."""

    @app.route("GET", "/pnl", summary="P&L of every account in the base currency, as of an event")
    async def overview(request: Request) -> Response:
        cells = service.cells.here
        found = [
            account_totals(cell.machine, account)
            for cell in cells.values()
            for account in cell.machine.accounts()
            if may_see(request, account)
        ]
        as_of = {partition: cell.as_of for partition, cell in cells.items()}
        for other in await service.cells.asked_of_others(request):
            found += other["accounts"]
            as_of |= {int(partition): seq for partition, seq in other["as_of"].items()}
        found.sort(key=lambda line: line["account"])
        alone = service.cells.partitions == 1
        return json_response({"as_of": as_of[0] if alone else as_of, "accounts": found})

    @app.route("GET", "/pnl/{account}", summary="P&L of an account by symbol and strategy, as of an event")
    async def of_account(request: Request) -> Response:
        account, cell = known_account(service, request)
        return json_response({"as_of": cell.as_of, **account_view(cell.machine, account)})

    @app.route("GET", "/pnl/{account}/series", summary="Equity curve with drawdown, the newest points", query=LIMIT)
    async def series(request: Request) -> Response:
        account, cell = known_account(service, request)
        curve = cell.machine.curves.get(account) or Curve()
        points = curve.points[-number(request, "limit", POINTS_MAX, most=POINTS_MAX) :]
        return json_response(
            {
                "account": account,
                "currency": cell.machine.base_currency,
                "interval_seconds": curve.interval // 10**9,
                "max_drawdown": money(curve.max_drawdown),
                "points": [
                    {"time": time_text(point.ts), "equity": money(point.equity), "drawdown": money(point.drawdown)}
                    for point in points
                ],
            }
        )

    @app.route("GET", "/pnl/{account}/days", summary="Equity at the end of each UTC day, the newest first", query=LIMIT)
    async def days(request: Request) -> Response:
        account, cell = known_account(service, request)
        return json_response(
            {
                "account": account,
                "as_of": cell.as_of,
                "currency": cell.machine.base_currency,
                "days": day_lines(cell.machine, account, number(request, "limit", DAYS_MAX, most=DAYS_MAX)),
            }
        )

    @app.route("GET", "/positions/{account}", summary="The positions behind the P&L, as of an event")
    async def positions(request: Request) -> Response:
        account = require_account(request, request.params["account"])
        cell = service.cells.of_account(account)
        lines = [
            position_line(cell.machine, instrument, holding)
            for instrument, holding in cell.machine.positions_of(account).items()
        ]
        return json_response({"account": account, "as_of": cell.as_of, "positions": lines})


def known_account(service: "PnlService", request: Request) -> tuple[str, ProjectionCell]:
    """The account of the path, and its cell; 404 before its first fill."""
    account = require_account(request, request.params["account"])
    cell = service.cells.of_account(account)
    if not cell.machine.positions_of(account):
        raise Problem(404, "unknown_account", f"account {account!r} has not traded", field="account")
    return account, cell


def account_totals(machine: PnlMachine, account: str) -> dict[str, Any]:
    """An account in the base currency; what has no rate is named."""
    total, missing = machine.in_base(machine.by_currency(machine.positions_of(account).items()))
    curve = machine.curves.get(account) or Curve()
    return {
        "account": account,
        "method": machine.method,
        **pnl_line(total),
        "drawdown": money(max(curve.peak, total.total) - total.total),
        "max_drawdown": money(max(curve.max_drawdown, curve.peak - total.total)),
        "marked_since": time_text(machine.marked_since),
        "not_converted": missing,
    }


def account_view(machine: PnlMachine, account: str) -> dict[str, Any]:
    """An account with its symbols and strategies, each in its own currency."""
    positions = machine.positions_of(account)
    strategies: dict[str, list[tuple[str, Holding]]] = {}
    for (owner, strategy, instrument), holding in machine.by_strategy.items():
        if owner == account:
            strategies.setdefault(strategy, []).append((instrument, holding))
    return {
        **account_totals(machine, account),
        "by_currency": [pnl_line(part) for part in machine.by_currency(positions.items())],
        "by_symbol": [position_line(machine, name, holding) for name, holding in positions.items()],
        "by_strategy": [
            {
                "strategy": strategy,
                **pnl_line(machine.in_base(machine.by_currency(held))[0]),
                "by_symbol": [position_line(machine, name, holding) for name, holding in sorted(held, key=_name)],
            }
            for strategy, held in sorted(strategies.items())
        ],
    }


def day_lines(machine: PnlMachine, account: str, limit: int) -> list[dict[str, str]]:
    """One line a day on which the equity was seen to move, the newest first."""
    closes = machine.closes.get(account, [])
    before = [0, *(close.equity for close in closes)]
    lines = [
        {
            "date": time_text(close.day * DAY_NS)[:10] or "1970-01-01",
            "equity": money(close.equity),
            "change": money(close.equity - earlier),
        }
        for earlier, close in zip(before, closes, strict=False)
    ]
    return lines[::-1][:limit]


def position_line(machine: PnlMachine, instrument: str, holding: Holding) -> dict[str, Any]:
    """One position with its P&L."""
    mark = machine.marks.get(instrument)
    return {
        "symbol": instrument,
        "quantity": to_text(holding.quantity),
        "average_price": to_text(holding.position.average_price),
        "mark": to_text(mark) if mark is not None else None,
        **pnl_line(
            Pnl(machine.currency(instrument), holding.realized, machine.unrealized(instrument, holding), holding.fees)
        ),
    }


def pnl_line(pnl: Pnl) -> dict[str, str]:
    """P&L as decimal text."""
    return {
        "currency": pnl.currency,
        "realized": money(pnl.realized),
        "unrealized": money(pnl.unrealized),
        "fees": money(pnl.fees),
        "total": money(pnl.total),
    }


def money(cost: int) -> str:
    """Money at `COST_SCALE` as decimal text."""
    return to_text(cost_to_nanos(cost))


def _name(item: tuple[str, Holding]) -> str:
    return item[0]
