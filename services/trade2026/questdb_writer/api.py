"""Writing rows, reading tables, flushing, over HTTP (port 8090)."""

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from trade2026.domain.numbers import NumberError, to_nanos
from trade2026.kit.http import App, Problem, Request, Response, json_response
from trade2026.kit.parameters import LIMIT
from trade2026.kit.queries import NEWEST_FIRST, direction, number, require_account
from trade2026.kit.views import time_text
from trade2026.stores.timeseries.port import Answer, StoreError, TableStats
from trade2026.stores.timeseries.schema import TABLES, TIMESTAMP, Column, Kind, Row, Table, misfit

if TYPE_CHECKING:
    from trade2026.questdb_writer.service import QuestDbWriterService
    from trade2026.stores.timeseries.port import QueryableStore

ROWS_PER_WRITE_MAX = 10_000
ROWS_PER_READ_MAX = 10_000
_BODY_BYTES_MAX = 4 * 1024 * 1024
_EQUAL = ("symbol", "account", "strategy", "order_id", "interval", "name")
_QUERY = {
    **LIMIT,
    "since": "RFC 3339: not before this",
    "until": "RFC 3339: before this",
    "order": "asc (default) or desc, by time",
    **{name: f"only rows with this {name}" for name in _EQUAL},
}


class OneRow(msgspec.Struct, forbid_unknown_fields=True):
    """A row of a table: values by column; without `timestamp` it is that of now."""

    table: str
    row: dict[str, Any]


class ManyRows(msgspec.Struct, forbid_unknown_fields=True):
    """Rows of one table."""

    table: str
    rows: list[dict[str, Any]]


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """A body is not needed; if there is one it is an empty object."""


class WrittenView(msgspec.Struct):
    """So many rows are durable."""

    written: int


class TableView(msgspec.Struct):
    """A table: where its rows come from, what it holds, and for how long."""

    name: str
    about: str
    topic: str
    rows: int
    first: str
    last: str
    retention_days: int
    keys: list[str]
    columns: dict[str, str]


def add_routes(app: App, service: "QuestDbWriterService") -> None:
    """Every endpoint of the writer, but for those that speak as QuestDB does."""

    @app.route(
        "POST",
        "/write",
        summary="Write a row; answered when it is durable",
        role="trader",
        request_schema=OneRow,
        response_schema=WrittenView,
    )
    async def write(request: Request) -> Response:
        body = request.json(OneRow)
        return await _written(service, request, body.table, [body.row])

    @app.route(
        "POST",
        "/write/batch",
        summary="Write rows of one table, all or none",
        role="trader",
        request_schema=ManyRows,
        response_schema=WrittenView,
        body_bytes_max=_BODY_BYTES_MAX,
    )
    async def write_batch(request: Request) -> Response:
        body = request.json(ManyRows)
        if len(body.rows) > ROWS_PER_WRITE_MAX:
            raise Problem(422, "too_many_rows", f"at most {ROWS_PER_WRITE_MAX} rows at once", field="rows")
        return await _written(service, request, body.table, body.rows)

    @app.route("POST", "/flush", summary="Answer when everything that was read so far is durable", role="trader")
    async def flush(request: Request) -> Response:
        if request.body:
            request.json(Nothing)
        assert service.writing is not None
        waiting = service.writing.collector.size
        await _durable(service.writing.flush())
        return json_response({"rows": waiting})

    @app.route("GET", "/tables", summary="Every table, and what is in it")
    async def tables(request: Request) -> Response:
        store = _store(service)
        stats = await service.query(store.tables)
        return json_response({"tables": [_table_view(service, table, stats[name]) for name, table in TABLES.items()]})

    @app.route("GET", "/query/{table}", summary="Rows of a table in order of time", query=_QUERY)
    async def query(request: Request) -> Response:
        table = _table(request.params["table"], "table")
        equal = {name: value for name in _EQUAL if (value := request.query.get(name)) is not None}
        for name in equal:
            if table.column(name) is None:
                raise Problem(422, "unknown_column", f"{table.name} has no column {name}", field=name)
        _require_accounts(request, table, equal)
        order = direction(request)
        answer = await service.query(
            _store(service).scan,
            table.name,
            equal=equal,
            since_ns=_time(request, "since"),
            until_ns=_time(request, "until"),
            limit=number(request, "limit", 100, most=ROWS_PER_READ_MAX),
            newest_first=order == NEWEST_FIRST,
        )
        return json_response({"table": table.name, "rows": _by_name(answer), "more": answer.more})


async def _written(
    service: "QuestDbWriterService", request: Request, name: str, values: list[dict[str, Any]]
) -> Response:
    table = _table(name, "table")
    if table.topic and not request.principal.may("admin"):
        raise Problem(
            403, "role_needed", f"{name} is written from {table.topic}; only an admin adds rows", field="table"
        )
    now = service.context.clock.now()
    rows = [row_of(table, given, now, f"rows[{place}]") for place, given in enumerate(values)]
    for given in values:
        _require_accounts(request, table, given)
    assert service.writing is not None
    if service.writing.full:
        raise Problem(429, "overloaded", "too many rows wait to be written", retry_after=1)
    if rows:
        await _durable(service.writing.collector.add(name, rows))
    return json_response(WrittenView(len(rows)))


async def _durable(written: "asyncio.Future[None] | Any") -> None:
    try:
        await (asyncio.shield(written) if isinstance(written, asyncio.Future) else written)
    except StoreError as error:
        raise Problem(503, "unavailable", f"it is not known to be written: {error}", retry_after=1) from error


def row_of(table: Table, values: dict[str, Any], now_ns: int, place: str) -> Row:
    """A row as the store takes it.

    Raises:
        Problem: 422 for a column that is not there, or a value that is none of it.
    """
    for name in values:
        if table.column(name) is None:
            raise Problem(422, "unknown_column", f"{table.name} has no column {name!r}", field=f"{place}.{name}"[:80])
    values = {TIMESTAMP: now_ns, **values}
    row = tuple(_value(column, values.get(column.name), f"{place}.{column.name}") for column in table.columns)
    if reason := misfit(table, row):
        raise Problem(422, "bad_row", reason, field=place)
    return row


def _value(column: Column, value: Any, place: str) -> Any:
    try:
        if value is None:
            return "" if column.kind in (Kind.SYMBOL, Kind.VARCHAR) else None
        if column.kind is Kind.TIMESTAMP and isinstance(value, str):
            return time_ns(value)
        if column.amount:
            return int(to_nanos(str(value)))
        if column.kind is Kind.DOUBLE:
            return float(value)
    except (NumberError, ValueError, TypeError, OverflowError) as error:
        raise Problem(422, "bad_value", f"{str(value)[:80]!r} is no {column.kind}: {error}", field=place) from error
    return value


def time_ns(text: str) -> int:
    """Nanoseconds since the epoch of an RFC 3339 time. Raises `ValueError`."""
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("a time needs its zone, e.g. 2013-11-25T10:00:00Z")
    return round(time.timestamp() * 10**6) * 1000


def _time(request: Request, name: str) -> int:
    text = request.query.get(name)
    if text is None:
        return 0
    try:
        return max(0, time_ns(text.replace(" ", "+") if "T" in text else text))
    except (ValueError, OverflowError) as error:
        raise Problem(
            422, f"bad_{name}", f"{name} is an RFC 3339 time such as 2013-11-25T10:00:00Z", field=name
        ) from error


def _table(name: str, field: str) -> Table:
    table = TABLES.get(name)
    if table is None:
        raise Problem(404, "unknown_table", f"there is no table {name[:80]!r}; known: {', '.join(TABLES)}", field=field)
    return table


def _require_accounts(request: Request, table: Table, values: dict[str, Any]) -> None:
    """Whoever may use some accounts only sees, and writes, rows of those."""
    if request.principal.accounts is None or table.column("account") is None:
        return
    account = values.get("account")
    if not isinstance(account, str):
        raise Problem(403, "account_not_permitted", "name one of your accounts: account", field="account")
    require_account(request, account)


def _store(service: "QuestDbWriterService") -> "QueryableStore":
    assert service.store is not None
    return service.store


def _table_view(service: "QuestDbWriterService", table: Table, stats: TableStats) -> TableView:
    return TableView(
        table.name,
        table.about,
        table.topic,
        stats.rows,
        time_text(stats.first_ns),
        time_text(stats.last_ns),
        service.config.retention_days.get(table.name, table.retention_days),
        list(table.keys),
        {column.name: column.kind.value for column in table.columns},
    )


def _by_name(answer: Answer) -> list[dict[str, Any]]:
    return [
        {
            name: f"{value.isoformat(timespec='microseconds')}Z" if isinstance(value, datetime) else value
            for name, value in zip(answer.names, row, strict=True)
        }
        for row in answer.rows
    ]
