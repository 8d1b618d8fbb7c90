"""A venue's statement as it is uploaded, JSON or CSV, checked and turned into what is compared."""

import csv
import io

import msgspec

from trade2026.domain.instruments import Instruments, UnknownInstrument
from trade2026.domain.numbers import NumberError, to_nanos
from trade2026.kit.http import Problem, Request
from trade2026.ptrc.reconciliation import StatedFill

STATEMENT_LINES_MAX = 10_000
STATEMENT_BYTES_MAX = 4 * 1024 * 1024
_COLUMNS = ("exec_id", "symbol", "side", "quantity", "price")


class StatedPosition(msgspec.Struct, forbid_unknown_fields=True):
    """A line of a venue's statement; `quantity` is signed decimal text."""

    symbol: str
    quantity: str


class StatedExecution(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """An execution that a venue states; symbol, side, quantity and price are compared when they are given."""

    exec_id: str
    symbol: str = ""
    side: str = ""
    quantity: str = ""
    price: str = ""


class Statement(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What a venue says an account holds, and which executions it knows; at least one of both."""

    account: str
    venue: str
    positions: list[StatedPosition] | None = None
    """One that is left out is stated as flat; without the list only executions are compared."""
    fills: list[StatedExecution] | None = None


class Stated(msgspec.Struct, frozen=True):
    """A statement in nanos."""

    account: str
    venue: str
    positions: dict[str, int] | None
    fills: list[StatedFill] | None


def read_statement(request: Request, instruments: Instruments) -> Stated:
    """Read the statement of a request.

    Raises:
        Problem: 415, 422 with the field; the message says what to do.
    """
    content_type = request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    statement = _of_csv(request) if content_type == b"text/csv" else request.json(Statement)
    if statement.positions is None and statement.fills is None:
        raise Problem(422, "empty_statement", "state positions, fills, or both", field="positions")
    if max(len(statement.positions or ()), len(statement.fills or ())) > STATEMENT_LINES_MAX:
        raise Problem(422, "statement_size", f"a statement has at most {STATEMENT_LINES_MAX} lines of a kind")
    positions: dict[str, int] | None = None
    if statement.positions is not None:
        positions = {}
        for line in statement.positions:
            instrument = _instrument_id(instruments, line.symbol, statement.venue)
            if instrument in positions:
                raise Problem(422, "duplicate_symbol", f"{line.symbol} is stated twice", field="positions")
            positions[instrument] = _nanos(line.quantity, "positions")
    fills = None
    if statement.fills is not None:
        fills = [_stated_fill(instruments, fill, statement.venue) for fill in statement.fills]
    return Stated(statement.account, statement.venue, positions, fills)


def _of_csv(request: Request) -> Statement:
    """Lines with an `exec_id` are executions, those without are positions; the header names the columns."""
    account, venue = request.query.get("account", ""), request.query.get("venue", "")
    for name, value in (("account", account), ("venue", venue)):
        if not value:
            raise Problem(422, "missing_field", f"a CSV statement needs ?account=…&venue=…: give {name}", field=name)
    try:
        reader = csv.reader(io.StringIO(request.body.decode("utf-8-sig"), newline=""), strict=True)
        rows = [row for row in reader if any(cell.strip() for cell in row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise Problem(422, "malformed_csv", f"this is no CSV in UTF-8: {error}") from error
    header = [name.strip().lower() for name in rows[0]] if rows else []
    unknown = [name for name in header if name not in _COLUMNS]
    if unknown or len(set(header)) != len(header) or not {"symbol", "quantity"} <= set(header):
        raise Problem(
            422, "bad_header", f"the first line names symbol, quantity and what else of {', '.join(_COLUMNS)}"
        )
    positions: list[StatedPosition] = []
    fills: list[StatedExecution] = []
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(header):
            raise Problem(422, "bad_line", f"line {number} has {len(row)} cells, the header {len(header)}")
        cells = {name: cell.strip() for name, cell in zip(header, row, strict=True)}
        if cells.get("exec_id"):
            fills.append(StatedExecution(**cells))
        elif cells.get("side"):
            raise Problem(422, "bad_line", f"line {number}: a position is signed and has no side")
        else:
            positions.append(StatedPosition(cells["symbol"], cells["quantity"]))
    return Statement(
        account=account,
        venue=venue,
        positions=positions if positions or "exec_id" not in header else None,
        fills=fills if "exec_id" in header else None,
    )


def _stated_fill(instruments: Instruments, fill: StatedExecution, venue: str) -> StatedFill:
    """Read an execution of a statement; side and quantity come together."""
    quantity = _nanos(fill.quantity, "fills") if fill.quantity else 0
    price = _nanos(fill.price, "fills") if fill.price else 0
    side = fill.side.upper()
    if side not in ("", "BUY", "SELL") or quantity < 0 or bool(quantity) != bool(side):
        raise Problem(422, "bad_fill", "give side BUY or SELL with a positive quantity, or neither", field="fills")
    if not fill.exec_id:
        raise Problem(422, "bad_fill", "an execution has an exec_id", field="fills")
    instrument = _instrument_id(instruments, fill.symbol, venue) if fill.symbol else ""
    return StatedFill(fill.exec_id, instrument, quantity if side == "BUY" else -quantity, price)


def _instrument_id(instruments: Instruments, symbol: str, venue: str) -> str:
    """`SYMBOL.VENUE` for a symbol of the statement's venue."""
    try:
        instrument = instruments.resolve(symbol if "." in symbol else f"{symbol}.{venue}")
    except UnknownInstrument as error:
        raise Problem(422, "unknown_symbol", str(error), field="symbol") from error
    if instrument.venue != venue:
        raise Problem(422, "other_venue", f"{symbol} is not an instrument of {venue}", field="symbol")
    return instrument.instrument_id


def _nanos(text: str, field: str) -> int:
    """An amount of a statement."""
    try:
        return to_nanos(text)
    except NumberError as error:
        raise Problem(422, error.fault, str(error), field=field) from error
