"""The lake over HTTP (port 8111). Prices and amounts are decimal text, times RFC 3339 with nanoseconds beside them."""

import csv
import io
from datetime import date
from typing import TYPE_CHECKING, Any

import msgspec

from trade2026.domain.instruments import UnknownInstrument
from trade2026.domain.numbers import cost_to_nanos, to_text
from trade2026.kit.http import App, Problem, Request, Response, json_response
from trade2026.kit.parameters import LIMIT
from trade2026.kit.queries import moment, number
from trade2026.kit.views import time_text
from trade2026.sink_ticks.tables import SPECS
from trade2026.sinks.topic import NotAnswered, answer_in_time
from trade2026.stores.lake import (
    Kind,
    LakeError,
    NoSuchTable,
    NoSuchVersion,
    Selection,
    TableSpec,
    TableState,
)

if TYPE_CHECKING:
    from trade2026.sink_ticks.service import SinkTicksService

ROWS_MAX = 10_000
VERSIONS_MAX = 1_000
_VERSION_MAX = 10**15
_EPOCH = date(1970, 1, 1).toordinal()
_HOURS_MAX = 24 * 36_500
_WAITING_MAX = 16
_UPKEEP_SECONDS_MAX = 3_600.0


class OptimizeRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What is optimised; everything that has many files if nothing is said."""

    table: str = ""
    symbol: str = ""
    date: str = ""


class VacuumRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Which files may go: those that no version of the last `retention_hours` needs."""

    table: str = ""
    retention_hours: int | None = None
    """At least 1: what is being written has files that no version names yet."""
    dry_run: bool = False


def add_routes(app: App, service: "SinkTicksService") -> None:
    """Every endpoint of the lake."""
    _add_questions(app, service)
    _add_upkeep(app, service)


def _add_questions(app: App, service: "SinkTicksService") -> None:
    @app.route("GET", "/catalog", summary="Tables: rows, files, days, symbols, and how far they are")
    async def catalog(request: Request) -> Response:
        states = await _asked(service, service.states())
        return json_response({"tables": [table_line(service, state) for state in states]})

    @app.route(
        "GET",
        "/catalog/{table}",
        summary="A table's columns, partitions and newest versions",
        query={"limit": "how many partitions and versions at most, the newest"},
    )
    async def table(request: Request) -> Response:
        name, limit = known_table(request.params["table"]).name, number(request, "limit", 100)
        state = await _asked(service, service.read(service.lake.state, name))
        commits = await _asked(service, service.read(service.lake.history, name, limit))
        return json_response(
            {
                **table_line(service, state),
                "columns": state.columns,
                "partitions": [
                    {
                        "date": day_text(part.day),
                        "symbol": part.symbol,
                        "rows": part.rows,
                        "files": part.files,
                        "bytes": part.bytes,
                    }
                    for part in state.parts[::-1][:limit]
                ],
                "versions": [
                    {
                        "version": commit.version,
                        "time": time_text(commit.ts),
                        "operation": commit.operation,
                        "rows": commit.rows,
                    }
                    for commit in commits
                ],
            }
        )

    @app.route(
        "GET",
        "/query/{table}",
        summary="Rows by time, as the table is or was",
        query={
            "symbol": "only of this instrument",
            "from": "a time, or nanoseconds since 1970",
            "to": "a time that is not in it, or nanoseconds since 1970",
            "version": "as the table was at this version",
            "at": "as the table was at this time",
            "format": "json (the default) or csv",
            **LIMIT,
        },
    )
    async def query(request: Request) -> Response:
        spec, wanted = known_table(request.params["table"]), _selection(service, request)
        kind = request.query.get("format", "json")
        if kind not in ("json", "csv"):
            raise Problem(422, "bad_format", "format is json or csv", field="format")
        answer = await _asked(service, service.read(service.lake.read, spec, wanted))
        lines = [row_line(spec, row) for row in answer.rows]
        if kind == "csv":
            headers = [(b"x-table-version", str(answer.version).encode())]
            return Response(as_csv(spec, lines), content_type="text/csv; charset=utf-8", headers=headers)
        return json_response({"table": spec.name, "version": answer.version, "rows": lines, "more": answer.more})


def _add_upkeep(app: App, service: "SinkTicksService") -> None:
    @app.route(
        "POST",
        "/optimize",
        summary="Make large files of small ones now; a day that is over is sorted (Z-order)",
        role="admin",
        request_schema=OptimizeRequest,
    )
    async def optimize(request: Request) -> Response:
        asked = request.json(OptimizeRequest)
        tables = await _tables(service, asked.table)
        symbol = _symbol(service, asked.symbol) if asked.symbol else None
        day = _day(asked.date) if asked.date else None
        done = await _asked(
            service, service.upkeep.optimise(tables, day=day, symbol=symbol, all_files=True), _UPKEEP_SECONDS_MAX
        )
        return json_response({"tables": done})

    @app.route(
        "POST",
        "/vacuum",
        summary="Delete the files that only old versions need",
        role="admin",
        request_schema=VacuumRequest,
    )
    async def vacuum(request: Request) -> Response:
        asked = request.json(VacuumRequest)
        hours = asked.retention_hours
        if hours is not None and not 1 <= hours <= _HOURS_MAX:
            raise Problem(
                422, "bad_retention_hours", f"retention_hours is from 1 to {_HOURS_MAX}", field="retention_hours"
            )
        tables = await _tables(service, asked.table)
        found = await _asked(service, service.upkeep.vacuum(tables, hours, dry_run=asked.dry_run), _UPKEEP_SECONDS_MAX)
        return json_response(
            {
                "dry_run": asked.dry_run,
                "retention_hours": service.upkeep.retention_hours if hours is None else hours,
                "files": {table: len(files) for table, files in found.items()},
            }
        )


# ── what is asked ───────────────────────────────────────────────────────────────────────────────


def known_table(name: str) -> TableSpec:
    """The table of that name; 404 if there is none such."""
    spec = SPECS.get(name)
    if spec is None:
        raise Problem(404, "unknown_table", f"there is no table {name[:80]!r}; known: {', '.join(SPECS)}")
    return spec


async def _tables(service: "SinkTicksService", name: str) -> list[str]:
    return [known_table(name).name] if name else await _asked(service, service.read(service.lake.tables))


async def _asked(service: "SinkTicksService", answer: Any, seconds_max: float | None = None) -> Any:
    """What the lake answers, or the problem that it has. Questions beyond what it can do soon are refused."""
    if service.asking >= _WAITING_MAX:
        answer.close()
        raise Problem(503, "busy", "too many questions wait for the lake", retry_after=1)
    service.asking += 1
    try:
        return await answer_in_time(answer, seconds_max)
    except NoSuchTable as error:
        raise Problem(404, "no_rows_yet", f"{error}") from error
    except NoSuchVersion as error:
        raise Problem(404, "unknown_version", f"{error}") from error
    except (LakeError, NotAnswered) as error:
        raise Problem(503, "lake_unavailable", f"{error}", retry_after=5) from error
    finally:
        service.asking -= 1


def _selection(service: "SinkTicksService", request: Request) -> Selection:
    symbol = request.query.get("symbol")
    version = number(request, "version", -1, least=0, most=_VERSION_MAX)
    at_ns = moment(request, "at")
    if version >= 0 and at_ns is not None:
        raise Problem(422, "bad_at", "give version or at, not both", field="at")
    return Selection(
        symbol=_symbol(service, symbol) if symbol is not None else None,
        from_ns=moment(request, "from"),
        to_ns=moment(request, "to"),
        limit=number(request, "limit", 1_000, most=ROWS_MAX),
        version=version if version >= 0 else None,
        at_ns=at_ns,
    )


def _symbol(service: "SinkTicksService", name: str) -> str:
    """As it is written in the table; an instrument that the stack no longer has keeps its whole name."""
    try:
        return service.instruments.resolve(name).instrument_id
    except UnknownInstrument:
        if "." in name:
            return name
        raise Problem(
            404, "unknown_symbol", f"the stack has no {name[:80]!r}; say SYMBOL.VENUE for what it had", field="symbol"
        ) from None


def _day(text: str) -> int:
    try:
        return date.fromisoformat(text).toordinal() - _EPOCH
    except ValueError:
        raise Problem(422, "bad_date", "date is a day such as 2026-01-31", field="date") from None


# ── what is answered ────────────────────────────────────────────────────────────────────────────


def table_line(service: "SinkTicksService", state: TableState) -> dict[str, Any]:
    """A table at a glance."""
    sink = service.sinks.get(state.name)
    intake = sink.intake if sink is not None else None
    days = [part.day for part in state.parts]
    return {
        "table": state.name,
        "topic": sink.topic if sink is not None else None,
        "version": state.version,
        "rows": sum(part.rows for part in state.parts),
        "files": sum(part.files for part in state.parts),
        "bytes": sum(part.bytes for part in state.parts),
        "symbols": sorted({part.symbol for part in state.parts}),
        "first_date": day_text(min(days)) if days else None,
        "last_date": day_text(max(days)) if days else None,
        "stored_to": sink.stored_to if sink is not None else None,
        "lag": sink.lag if sink is not None else None,
        "late": intake.late if intake is not None else None,
        "lost": intake.lost if intake is not None else None,
    }


def row_line(spec: TableSpec, row: dict[str, Any]) -> dict[str, Any]:
    """A row for a person and for a program: amounts as decimal text."""
    line = {column.name: _shown(row[column.name], column.kind) for column in spec.columns}
    return {"time": time_text(row[spec.time]), **line}


def as_csv(spec: TableSpec, lines: list[dict[str, Any]]) -> bytes:
    """The lines with a heading; the levels of a book are not in it."""
    names = ["time", *(column.name for column in spec.columns if column.kind is not Kind.LEVELS)]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue().encode()


def day_text(day: int) -> str:
    """A day as `2026-01-31`."""
    return date.fromordinal(_EPOCH + day).isoformat()


def _shown(value: Any, kind: Kind) -> Any:
    if value is None:
        return None
    if kind is Kind.DATE:
        return day_text(value)
    if kind is Kind.AMOUNT:
        return to_text(value)
    if kind is Kind.COST:
        return to_text(cost_to_nanos(value))
    if kind is Kind.LEVELS:
        return [[to_text(price), to_text(quantity)] for price, quantity in value]
    return value
