"""Positions, reconciliation and reports over HTTP (port 8109)."""

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from trade2026.domain.events import decode
from trade2026.domain.lots import Lot
from trade2026.domain.numbers import cost_to_nanos, to_text
from trade2026.domain.shards import partition_of
from trade2026.kit.http import App, Problem, Request, Response, json_response
from trade2026.kit.parameters import ACCOUNT, PAGE
from trade2026.kit.queries import bad_cursor, may_see, number, require_account
from trade2026.kit.views import time_text
from trade2026.ptrc.machine import Holding
from trade2026.ptrc.reconciliation import Break
from trade2026.ptrc.reports import Transaction, as_csv, transaction
from trade2026.ptrc.settlement import DAY_NS, EARLIER, Ledger, Obligation, settlement_day
from trade2026.ptrc.statements import STATEMENT_BYTES_MAX, Statement, read_statement

if TYPE_CHECKING:
    from trade2026.ptrc.service import PtrcCell, PtrcService

LOTS_SHOWN_MAX = 1_000
_ORDERS = "orders.events"
_RECORDS_PER_READ = 1_000
_RECORDS_PER_PAGE = 20_000


def add_routes(app: App, service: "PtrcService") -> None:
    """Every endpoint of post-trade."""

    @app.route("GET", "/positions", summary="Positions of every account, as of an event")
    async def positions(request: Request) -> Response:
        cells = service.cells.here
        found = [
            {"account": account, **line}
            for cell in cells.values()
            for account in cell.machine.accounts()
            if may_see(request, account)
            for line in position_lines(cell, account, lots=False)
        ]
        as_of = {partition: cell.as_of for partition, cell in cells.items()}
        for other in await service.cells.asked_of_others(request):
            found += other["positions"]
            as_of |= {int(partition): seq for partition, seq in other["as_of"].items()}
        found.sort(key=lambda line: line["account"])
        alone = service.partitions == 1
        return json_response({"as_of": as_of[0] if alone else as_of, "positions": found})

    @app.route("GET", "/positions/{account}", summary="Positions of an account with lots, as of an event")
    async def positions_of(request: Request) -> Response:
        account = require_account(request, request.params["account"])
        cell = service.cells.of_account(account)
        lines = position_lines(cell, account, lots=True)
        return json_response({"account": account, "as_of": cell.as_of, "positions": lines})

    _add_reconciliation(app, service)

    @app.route("GET", "/settlement/{account}", summary="What is to be delivered and paid, and when (T+n)")
    async def settlement(request: Request) -> Response:
        account = require_account(request, request.params["account"])
        cell = service.cells.of_account(account)
        ledger = cell.machine.ledgers.get(account) or Ledger()
        lines = [settlement_line(service, day, instrument, net) for day, instrument, net in ledger.lines()]
        return json_response({"account": account, "as_of": cell.as_of, "obligations": lines})

    @app.route(
        "GET",
        "/reports/transactions",
        summary="Executions with RTS 22 fields",
        query={"format": "json (the default) or csv", **ACCOUNT, **PAGE},
        produces=("application/json", "text/csv"),
    )
    async def transactions(request: Request) -> Response:
        kind = request.query.get("format", "json")
        if kind not in ("json", "csv"):
            raise Problem(422, "bad_format", "format is json or csv", field="format")
        rows, cursor = await page_of_transactions(service, request)
        if kind == "json":
            return json_response({"transactions": rows, "cursor": cursor})
        headers = [(b"content-disposition", b'attachment; filename="transactions.csv"')]
        if cursor is not None:
            headers.append((b"x-next-cursor", cursor.encode()))
        return Response(as_csv(rows), content_type="text/csv; charset=utf-8", headers=headers)


def _add_reconciliation(app: App, service: "PtrcService") -> None:
    @app.route(
        "POST",
        "/reconcile",
        summary="Compare a venue's statement (JSON or CSV) with our books: breaks and causes",
        query={"account": "whose statement a CSV is", "venue": "which venue's statement a CSV is"},
        request_schema=Statement,
        body_bytes_max=STATEMENT_BYTES_MAX,
    )
    async def upload(request: Request) -> Response:
        stated = read_statement(request, service.instruments)
        require_account(request, stated.account)
        cell = service.cells.of_account(stated.account)
        breaks = cell.machine.reconcile(stated.account, stated.venue, stated.positions, stated.fills)
        cell.breaks = len(breaks)
        return json_response(comparison(cell, stated.account, stated.venue, breaks))

    @app.route("GET", "/reconcile/{venue}", summary="Compare the venue's own record with our books", query=ACCOUNT)
    async def with_venue(request: Request) -> Response:
        venue = request.params["venue"]
        if venue not in {instrument.venue for instrument in service.instruments.by_id.values()}:
            raise Problem(404, "unknown_venue", f"this stack trades at no venue {venue[:40]!r}", field="venue")
        account = request.query.get("account")
        if account is not None:
            require_account(request, account)
        cells = list(service.cells.here.values()) if account is None else [service.cells.of_account(account)]
        found: list[dict[str, Any]] = []
        report_seqs: dict[int, int] = {}
        for cell in cells:
            lines, report_seqs[cell.partition] = await reconciled(cell, request, venue, account)
            found += lines
        if account is None:
            for other in await service.cells.asked_of_others(request):
                found += other["accounts"]
                report_seqs |= {int(partition): seq for partition, seq in other["report_seq"].items()}
        found.sort(key=lambda line: line["account"])
        report_seq = report_seqs[cells[0].partition] if service.partitions == 1 else report_seqs
        matched = all(line["matched"] for line in found)
        return json_response({"venue": venue, "report_seq": report_seq, "matched": matched, "accounts": found})


async def reconciled(
    cell: "PtrcCell", request: Request, venue: str, account: str | None
) -> tuple[list[dict[str, Any]], int]:
    """Each account of a partition that is seen, against the venue's own record; and the last report of that."""
    record, report_seq = await cell.venue_record()
    known = sorted({*cell.machine.accounts(), *record.positions})
    accounts = [account] if account is not None else [name for name in known if may_see(request, name)]
    found: list[dict[str, Any]] = []
    for name in accounts:
        stated, fills = record.statement(name, venue, cell.machine.fills_since(name))
        breaks = cell.machine.reconcile(name, venue, stated, fills, report_seq=report_seq)
        found.append(comparison(cell, name, venue, breaks))
    cell.breaks = sum(len(line["breaks"]) for line in found)
    return found, report_seq


def position_lines(cell: "PtrcCell", account: str, *, lots: bool) -> list[dict[str, Any]]:
    """One line per instrument that the account ever held."""
    holdings = cell.machine.holdings_of(account)
    lines: list[dict[str, Any]] = []
    for instrument, position in cell.machine.positions_of(account).items():
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


def comparison(cell: "PtrcCell", account: str, venue: str, breaks: list[Break]) -> dict[str, Any]:
    """The outcome of a reconciliation."""
    return {
        "account": account,
        "venue": venue,
        "as_of": cell.as_of,
        "matched": not breaks,
        "fills_complete": cell.machine.holds_all_fills(account),
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


def settlement_line(service: "PtrcService", trade_day: int, instrument: str, net: Obligation) -> dict[str, Any]:
    """What one trade day obliges to in one instrument, and whether it has settled."""
    known = service.instruments.by_id.get(instrument)
    line: dict[str, Any] = {
        "symbol": instrument,
        "trade_date": None,
        "settlement_date": None,
        "state": "settled",
        "quantity": to_text(net.quantity),
        "cash": to_text(cost_to_nanos(net.cash)),
        "currency": known.settlement if known is not None else service.settings.base_currency,
    }
    if trade_day != EARLIER:
        due = settlement_day(trade_day, service.config.days_of(instrument), known)
        line["trade_date"], line["settlement_date"] = date_text(trade_day), date_text(due)
        line["state"] = "settled" if due <= service.context.clock.now() // DAY_NS else "pending"
    return line


def date_text(day: int) -> str:
    """ISO 8601 of a day since the epoch."""
    return (date(1970, 1, 1) + timedelta(days=day)).isoformat()


async def page_of_transactions(service: "PtrcService", request: Request) -> tuple[list[Transaction], str | None]:
    """Read executions from the log, from the cursor on; a page may be short, None ends the list.

    Partitions come one after the other; a cursor of several is `PARTITION:POSITION`.
    """
    account = request.query.get("account")
    if account is not None:
        require_account(request, account)
    limit = number(request, "limit", 100)
    first, last = 0, service.partitions - 1
    if account is not None:
        first = last = partition_of(account, service.partitions)
    partition, position = _place(service, request, first, last)
    rows: list[Transaction] = []
    read = 0
    while partition <= last:
        start = await service.context.bus.start(_ORDERS, partition)
        end = await service.end_of(partition)
        position = max(position, start)
        while position < end and len(rows) < limit and read < _RECORDS_PER_PAGE:
            records = await service.context.bus.read(
                _ORDERS, partition, position, min(_RECORDS_PER_READ, end - position)
            )
            if not records:
                break
            for record in records:
                position, read = record.seq + 1, read + 1
                envelope = decode(record.body)
                row = transaction(envelope, service.settings.stack, service.instruments.by_id, partition)
                if row is None or not visible(request, envelope.data.account, account):  # type: ignore[union-attr]
                    continue
                rows.append(row)
                if len(rows) == limit:
                    break
        if position < end:
            return rows, _cursor(service, partition, position)
        partition, position = partition + 1, 0
        if len(rows) == limit and partition <= last:
            return rows, _cursor(service, partition, 0)
    return rows, None


def _cursor(service: "PtrcService", partition: int, position: int) -> str:
    return str(position) if service.partitions == 1 else f"{partition}:{position}"


def _place(service: "PtrcService", request: Request, first: int, last: int) -> tuple[int, int]:
    """Where a page begins."""
    text = request.query.get("cursor")
    if text is None:
        return first, 0
    named, colon, position = text.rpartition(":")
    partition = named if colon else "0"
    fits = bool(colon) == (service.partitions > 1)
    if not (fits and partition.isascii() and partition.isdigit() and position.isascii() and position.isdigit()):
        raise bad_cursor("transaction")
    if not (len(partition) < 3 and first <= int(partition) <= last and len(position) < 19):
        raise bad_cursor("transaction")
    return int(partition), int(position)


def visible(request: Request, owner: str, account: str | None) -> bool:
    """Whether a row belongs to the page."""
    return may_see(request, owner) and account in (None, owner)
