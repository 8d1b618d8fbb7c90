"""The tables of the time-series store, declared once: every backend makes its own DDL of them.

Amounts are exact in the log; here they are 64-bit floats, as in every time-series database. A row is a tuple in
the order of the columns. `TIMESTAMP` is given in nanoseconds since the epoch and kept in microseconds; a
`DOUBLE` that is an `amount` is given in nanos (an integer), any other as a float. None is a missing value.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Any

Row = tuple[Any, ...]

DAY_NS = 86_400 * 10**9
TIMESTAMP = "timestamp"
"""The designated timestamp of every table: its rows are sorted by it, and retention goes by it."""


class Kind(StrEnum):
    """Column types, in QuestDB's words."""

    SYMBOL = "SYMBOL"
    VARCHAR = "VARCHAR"
    DOUBLE = "DOUBLE"
    LONG = "LONG"
    TIMESTAMP = "TIMESTAMP"


@dataclass(frozen=True)
class Column:
    """One column. `amount` says that its values are given in nanos."""

    name: str
    kind: Kind
    amount: bool = False


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        keys: Two rows with the same values in these columns are one: the later written wins. They are never None,
            and the designated timestamp is always among them.
        topic: Where its rows come from; empty for a table that only clients write.
        retention_days: Older rows are dropped, unless the manifest says otherwise; 0 keeps everything.
    """

    name: str
    about: str
    columns: tuple[Column, ...]
    keys: tuple[str, ...]
    topic: str = ""
    retention_days: int = 0

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of the columns."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def key_places(self) -> tuple[int, ...]:
        """Where the keys are in a row."""
        return tuple(self.names.index(name) for name in self.keys)

    def column(self, name: str) -> Column | None:
        """The column of that name, if there is one."""
        return next((column for column in self.columns if column.name == name), None)


def _columns(text: str) -> tuple[Column, ...]:
    """Read `name KIND` pairs; `AMOUNT` is a DOUBLE that is given in nanos."""
    found: list[Column] = []
    for part in text.split(","):
        name, kind = part.split()
        found.append(Column(name, Kind.DOUBLE, amount=True) if kind == "AMOUNT" else Column(name, Kind(kind)))
    return tuple(found)


TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        Table(
            "ticks",
            "every trade of the market",
            _columns(
                "timestamp TIMESTAMP, symbol SYMBOL, trade_id VARCHAR, side SYMBOL, price AMOUNT, quantity AMOUNT,"
                "venue_seq LONG, ts_recv TIMESTAMP, ts_source TIMESTAMP, seq LONG"
            ),
            keys=("timestamp", "symbol", "trade_id"),
            topic="market.ticks",
            retention_days=7,
        ),
        Table(
            "quotes",
            "the best bid and ask of every book",
            _columns(
                "timestamp TIMESTAMP, symbol SYMBOL, bid AMOUNT, bid_quantity AMOUNT, ask AMOUNT, ask_quantity AMOUNT,"
                "venue_seq LONG, seq LONG"
            ),
            keys=("timestamp", "symbol", "seq"),
            topic="market.books",
            retention_days=2,
        ),
        Table(
            "bars",
            "bars of every kind; `timestamp` is when one opens",
            _columns(
                "timestamp TIMESTAMP, symbol SYMBOL, interval SYMBOL, open AMOUNT, high AMOUNT, low AMOUNT,"
                "close AMOUNT, volume AMOUNT, value DOUBLE, trades LONG, missing LONG, shifted LONG,"
                "ts_close TIMESTAMP, seq LONG"
            ),
            keys=("timestamp", "symbol", "interval", "seq"),
            topic="market.bars",
            retention_days=90,
        ),
        Table(
            "orders",
            "one row an order, as it is now; `timestamp` is when it came",
            _columns(
                "timestamp TIMESTAMP, order_id VARCHAR, client_order_id VARCHAR, account SYMBOL, symbol SYMBOL,"
                "side SYMBOL, order_type SYMBOL, time_in_force SYMBOL, status SYMBOL, quantity AMOUNT,"
                "leaves_qty AMOUNT, cum_qty AMOUNT, avg_px AMOUNT, price AMOUNT, stop_price AMOUNT, strategy SYMBOL,"
                "trader SYMBOL, desk SYMBOL, client SYMBOL, algo SYMBOL, parent_order_id VARCHAR, list_id VARCHAR,"
                "venue_order_id VARCHAR, reject_code SYMBOL, reason VARCHAR, updated_at TIMESTAMP, seq LONG"
            ),
            keys=("timestamp", "order_id"),
            topic="orders.events",
        ),
        Table(
            "fills",
            "every execution",
            _columns(
                "timestamp TIMESTAMP, exec_id VARCHAR, order_id VARCHAR, client_order_id VARCHAR, account SYMBOL,"
                "symbol SYMBOL, side SYMBOL, quantity AMOUNT, price AMOUNT, fee DOUBLE, liquidity SYMBOL,"
                "cum_qty AMOUNT, leaves_qty AMOUNT, strategy SYMBOL, trader SYMBOL, desk SYMBOL, client SYMBOL, seq LONG"
            ),
            keys=("timestamp", "exec_id", "order_id"),
            topic="orders.events",
        ),
        Table(
            "positions",
            "a position after each fill that changed it",
            _columns(
                "timestamp TIMESTAMP, account SYMBOL, symbol SYMBOL, strategy SYMBOL, quantity AMOUNT,"
                "open_cost DOUBLE, realized DOUBLE, fees DOUBLE, order_id VARCHAR, exec_id VARCHAR, as_of LONG, seq LONG"
            ),
            keys=("timestamp", "account", "symbol", "strategy", "exec_id"),
            topic="positions",
        ),
        Table(
            "pnl",
            "what each fill realised, and the totals after it",
            _columns(
                "timestamp TIMESTAMP, account SYMBOL, symbol SYMBOL, strategy SYMBOL, currency SYMBOL,"
                "realized DOUBLE, fee DOUBLE, total_realized DOUBLE, total_fees DOUBLE, order_id VARCHAR,"
                "exec_id VARCHAR, as_of LONG, seq LONG"
            ),
            keys=("timestamp", "account", "symbol", "strategy", "exec_id"),
            topic="pnl",
        ),
        Table(
            "risk_events",
            "alerts, stops and changed limits",
            _columns(
                "timestamp TIMESTAMP, type SYMBOL, scope SYMBOL, severity SYMBOL, message VARCHAR, principal SYMBOL,"
                "alert_id VARCHAR, limits_version LONG, seq LONG"
            ),
            keys=("timestamp", "seq"),
            topic="risk.events",
        ),
        Table(
            "metrics",
            "numbers that clients write, such as risk metrics",
            _columns("timestamp TIMESTAMP, name SYMBOL, value DOUBLE, account SYMBOL, symbol SYMBOL, strategy SYMBOL"),
            keys=("timestamp", "name", "account", "symbol", "strategy"),
            retention_days=90,
        ),
    )
}


_INTEGER_MAX = 2**63
_FLOAT_MAX = sys.float_info.max
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - answers are in UTC without a zone


def misfit(table: Table, row: Row) -> str:
    """Why a row doesn't fit its table; empty if it does."""
    if len(row) != len(table.columns):
        return f"{len(row)} values for {len(table.columns)} columns"
    for column, value in zip(table.columns, row, strict=True):
        if value is None:
            if column.name == TIMESTAMP:
                return "it has no timestamp"
            continue
        if column.kind in (Kind.SYMBOL, Kind.VARCHAR):
            fits = isinstance(value, str) and _is_unicode(value)
        elif column.kind is Kind.DOUBLE and not column.amount:
            fits = isinstance(value, int | float) and abs(value) <= _FLOAT_MAX
        else:
            fits = isinstance(value, int) and -_INTEGER_MAX <= value < _INTEGER_MAX
        if not fits:
            return f"{column.name}: {str(value)[:80]!r} is no {column.kind} of 64 bits"
        if column.name == TIMESTAMP and int(value) <= 0:
            return f"its timestamp {value} is not after 1970"
    return ""


def _is_unicode(text: str) -> bool:
    """Half a surrogate pair can't be written anywhere."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_given(table: Table, answered: Row) -> Row:
    """A row as a store answers it, as it would be written again."""
    found: list[Any] = []
    for column, value in zip(table.columns, answered, strict=True):
        if value is not None and column.kind is Kind.TIMESTAMP:
            value = (value - EPOCH) // timedelta(microseconds=1) * 1000
        elif value is not None and column.amount:
            value = round(value * 10**9)
        found.append(value)
    return tuple(found)


def newest_by_key(table: Table, rows: Sequence[Row]) -> Sequence[Row]:
    """Of rows with the same keys only the last; as given where there are none."""
    if len({row[0] // 1000 for row in rows}) == len(rows):
        return rows
    places = table.key_places
    time_place, others = places[0], places[1:]
    keyed = {(row[time_place] // 1000, *(row[place] for place in others)): row for row in rows}
    return rows if len(keyed) == len(rows) else list(keyed.values())
