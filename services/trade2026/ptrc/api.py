"""Positions, reconciliation and reports over HTTP (port 8109)."""

from typing import TYPE_CHECKING, Any

import msgspec

from trade2026.domain.events import decode
from trade2026.domain.instruments import UnknownInstrument
from trade2026.domain.lots import Lot
from trade2026.domain.numbers import NumberError, cost_to_nanos, to_nanos, to_text
from trade2026.kit.http import App, Problem, Request, Response, json_response
from trade2026.kit.queries import may_see, number, require_account
from trade2026.kit.views import time_text
from trade2026.ptrc.machine import Break, Holding, StatedFill
from trade2026.ptrc.reports import Transaction, as_csv, transaction

if TYPE_CHECKING:
    from trade2026.ptrc.service import PtrcService

STATEMENT_LINES_MAX = 10_000
LOTS_SHOWN_MAX = 1_000
_SEQ_MAX = 10**18
_RECORDS_PER_READ = 1_000
_RECORDS_PER_PAGE = 20_000


class StatedPosition(msgspec.Struct, forbid_unknown_fields=True):
    """A line of a venue's statement; `quantity` is signed decimal text."""

    symbol: str
    quantity: str


class StatedExecution(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """An execution that a venue states; symbol, side and quantity are compared when they are given."""

    exec_id: str
    symbol: str = ""
    side: str = ""
    quantity: str = ""


class Statement(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What a venue says an account holds, and which executions it knows."""

    account: str
    venue: str
    positions: list[StatedPosition]
    fills: list[StatedExecution] | None = None


def add_routes(app: App, service: "PtrcService") -> None:
    """Every endpoint of post-trade."""

    @app.route("GET", "/positions", summary="Positions of every account, as of an event")
    async def positions(request: Request) -> Response:
        accounts = [account for account in service.machine.accounts() if may_see(request, account)]
        found = [
            {"account": account, **line}
            for account in accounts
            for line in position_lines(service, account, lots=False)
        ]
        return json_response({"as_of": service.projection.as_of, "positions": found})

    @app.route("GET", "/positions/{account}", summary="Positions of an account with lots, as of an event")
    async def positions_of(request: Request) -> Response:
        account = require_account(request, request.params["account"])
        lines = position_lines(service, account, lots=True)
        return json_response({"account": account, "as_of": service.projection.as_of, "positions": lines})

    @app.route(
        "POST",
        "/reconcile",
        summary="Compare a venue's statement with our positions; answers with the breaks and their causes",
        request_schema=Statement,
    )
    async def reconcile(request: Request) -> Response:
        statement = request.json(Statement)
        require_account(request, statement.account)
        return json_response(compare(service, statement))

    @app.route(
        "GET", "/reports/transactions", summary="Executions with RTS 22 fields: format (json, csv), cursor, limit"
    )
    async def transactions(request: Request) -> Response:
        kind = request.query.get("format", "json")
        if kind not in ("json", "csv"):
            raise Problem(422, "bad_format", "format is json or csv", field="format")
        rows, cursor = await page_of_transactions(service, request)
        if kind == "json":
            return json_response({"transactions": rows, "cursor": str(cursor) if cursor is not None else None})
        headers = [(b"content-disposition", b'attachment; filename="transactions.csv"')]
        if cursor is not None:
            headers.append((b"x-next-cursor", str(cursor).encode()))
        return Response(as_csv(rows), content_type="text/csv; charset=utf-8", headers=headers)


def position_lines(service: "PtrcService", account: str, *, lots: bool) -> list[dict[str, Any]]:
    """One line per instrument that the account ever held."""
    holdings = service.machine.holdings_of(account)
    lines: list[dict[str, Any]] = []
    for instrument, position in service.machine.positions_of(account).items():
        line: dict[str, Any] = {
            "symbol": instrument,
            "quantity": to_text(position.quantity),
            "average_price": to_text(position.average_price),
            "realized": to_text(cost_to_nanos(position.realized)),
            "fees": to_text(cost_to_nanos(position.fees)),
        }
        if lots:
            line["strategies"] = [holding_line(strategy, holding) for strategy, holding in holdings[instrument]]
        lines.append(line)
    return lines


def holding_line(strategy: str, holding: Holding) -> dict[str, Any]:
    """What one strategy holds; of very many lots the oldest are shown."""
    position = holding.position
    sign = 1 if position.quantity > 0 else -1
    return {
        "strategy": strategy,
        "quantity": to_text(position.quantity),
        "average_price": to_text(position.average_price),
        "realized": to_text(cost_to_nanos(position.realized)),
        "realized_fifo": to_text(cost_to_nanos(holding.book.realized)),
        "fees": to_text(cost_to_nanos(position.fees)),
        "lot_count": len(holding.book.lots),
        "lots": [lot_line(lot, sign) for lot in holding.book.lots[:LOTS_SHOWN_MAX]],
    }


def lot_line(lot: Lot, sign: int) -> dict[str, Any]:
    """One lot, its quantity signed like the position's."""
    return {
        "exec_id": lot.exec_id,
        "quantity": to_text(sign * lot.quantity),
        "price": to_text(lot.price),
        "opened_at": time_text(lot.ts),
    }


def compare(service: "PtrcService", statement: Statement) -> dict[str, Any]:
    """Reconcile a statement.

    Raises:
        Problem: 422 for a symbol or an amount that makes no sense.
    """
    if max(len(statement.positions), len(statement.fills or ())) > STATEMENT_LINES_MAX:
        raise Problem(422, "statement_size", f"a statement has at most {STATEMENT_LINES_MAX} lines of a kind")
    stated: dict[str, int] = {}
    for line in statement.positions:
        instrument = instrument_id(service, line.symbol, statement.venue)
        if instrument in stated:
            raise Problem(422, "duplicate_symbol", f"{line.symbol} is stated twice", field="positions")
        stated[instrument] = nanos(line.quantity, "positions")
    fills = None
    if statement.fills is not None:
        fills = [stated_fill(service, fill, statement.venue) for fill in statement.fills]
    breaks = service.machine.reconcile(statement.account, statement.venue, stated, fills)
    service.breaks = len(breaks)
    return {
        "account": statement.account,
        "venue": statement.venue,
        "as_of": service.projection.as_of,
        "matched": not breaks,
        "fills_complete": service.machine.holds_all_fills(statement.account),
        "breaks": [break_line(found) for found in breaks],
    }


def break_line(found: Break) -> dict[str, Any]:
    """A break as users see it; a difference that no execution explains is a cause of its own."""
    causes = [
        {"kind": cause.kind, "exec_id": cause.exec_id, "quantity": to_text(cause.signed_quantity)}
        for cause in found.causes
    ]
    if found.ours != found.theirs and not found.explained:
        causes.append({"kind": "quantity_differs", "quantity": to_text(found.theirs - found.ours)})
    return {
        "symbol": found.instrument,
        "our_quantity": to_text(found.ours),
        "venue_quantity": to_text(found.theirs),
        "difference": to_text(found.theirs - found.ours),
        "explained": found.explained,
        "causes": causes,
    }


def stated_fill(service: "PtrcService", fill: StatedExecution, venue: str) -> StatedFill:
    """Read an execution of a statement; side and quantity come together."""
    quantity = nanos(fill.quantity, "fills") if fill.quantity else 0
    side = fill.side.upper()
    if side not in ("", "BUY", "SELL") or quantity < 0 or bool(quantity) != bool(side):
        raise Problem(422, "bad_fill", "give side BUY or SELL with a positive quantity, or neither", field="fills")
    instrument = instrument_id(service, fill.symbol, venue) if fill.symbol else ""
    return StatedFill(fill.exec_id, instrument, quantity if side == "BUY" else -quantity)


def instrument_id(service: "PtrcService", symbol: str, venue: str) -> str:
    """`SYMBOL.VENUE` for a symbol of the statement's venue."""
    try:
        instrument = service.instruments.resolve(symbol if "." in symbol else f"{symbol}.{venue}")
    except UnknownInstrument as error:
        raise Problem(422, "unknown_symbol", str(error), field="symbol") from error
    if instrument.venue != venue:
        raise Problem(422, "other_venue", f"{symbol} is not an instrument of {venue}", field="symbol")
    return instrument.instrument_id


def nanos(text: str, field: str) -> int:
    """An amount of a statement."""
    try:
        return to_nanos(text)
    except NumberError as error:
        raise Problem(422, error.fault, str(error), field=field) from error


async def page_of_transactions(service: "PtrcService", request: Request) -> tuple[list[Transaction], int | None]:
    """Read executions from the log, from the cursor on; a page may be short, None ends the list."""
    bus, account = service.context.bus, request.query.get("account")
    if account is not None:
        require_account(request, account)
    limit = number(request, "limit", 100)
    position = number(request, "cursor", await bus.start("orders.events", 0), least=0, most=_SEQ_MAX)
    end = service.machine.next_seq
    stop = min(end, position + _RECORDS_PER_PAGE)
    rows: list[Transaction] = []
    while position < stop:
        for record in await bus.read("orders.events", 0, position, min(_RECORDS_PER_READ, stop - position)):
            position = record.seq + 1
            envelope = decode(record.body)
            row = transaction(envelope, service.settings.stack, service.instruments.by_id)
            if row is None or not visible(request, envelope.data.account, account):  # type: ignore[union-attr]
                continue
            rows.append(row)
            if len(rows) == limit:
                return rows, position if position < end else None
    return rows, position if position < end else None


def visible(request: Request, owner: str, account: str | None) -> bool:
    """Whether a row belongs to the page."""
    return may_see(request, owner) and account in (None, owner)
