"""`/exec` and `/exp` as QuestDB answers them (port 9000): the same request works when QuestDB itself is behind it."""

import time
from collections.abc import Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from trade2026.kit.http import App, Problem, Request, Response, json_response
from trade2026.stores.timeseries.port import Answer, QueryRefused

if TYPE_CHECKING:
    from trade2026.questdb_writer.service import QuestDbWriterService

ROWS_MAX = 100_000
"""Of one answer; who wants more asks for it in parts."""
_QUERY = {
    "query": "one SELECT in QuestDB's SQL, percent-encoded",
    "limit": "how many rows, or the first and the last of them: 10 or 11,20",
    "count": "true: count all rows that the query has",
    "nm": "true: leave the query and the columns out",
    "cols": "only these columns, by commas",
    "timings": "true: how long it took, in nanoseconds",
    "explain": "true: how it was run",
    "quoteLargeNum": "true: 64-bit integers as text",
    "fmt": "of /exp: csv",
    "delimiter": "of /exp: instead of a comma",
    "filename": "of /exp: what a browser calls it",
    "src": "who asks; not used",
    "version": "of the answer; not used",
    "timeout": "not used: the service has one",
}


class ColumnView(msgspec.Struct):
    """A column of an answer; `type` is in QuestDB's words."""

    name: str
    type: str


class ExecView(msgspec.Struct, omit_defaults=True):
    """An answer, or, with status 400, an `error` and its `position` in the query."""

    query: str = ""
    columns: list[ColumnView] = []
    timestamp: int = -1
    dataset: list[list[Any]] = []
    count: int = 0
    timings: dict[str, int] = {}
    explain: dict[str, bool] = {}
    error: str = ""
    position: int = 0


class _Range:
    """Which rows of an answer are meant: `skip` of them are left out, then come at most `rows`."""

    def __init__(self, text: str) -> None:
        parts = text.split(",") if text else []
        numbers = [int(part) if part.strip().isdigit() and len(part) < 19 else -1 for part in parts]
        if len(numbers) > 2 or any(number < 0 for number in numbers):
            raise QueryRefused("limit is a number of rows, or the first and the last of them: 10 or 11,20")
        first, last = (1, numbers[0]) if len(numbers) == 1 else (max(1, numbers[0]), numbers[1]) if numbers else (1, 0)
        self.is_given = bool(numbers)
        self.skip = first - 1
        self.rows = min(max(0, last - self.skip), ROWS_MAX) if numbers else ROWS_MAX


def add_routes(app: App, service: "QuestDbWriterService") -> None:
    """QuestDB's two ways to ask."""

    @app.route(
        "GET",
        "/exec",
        summary="Answer a query as JSON",
        query=_QUERY,
        response_schema=ExecView,
        statuses=(200, 400),
    )
    async def execute(request: Request) -> Response:
        return await _answered(service, request, _json)

    @app.route(
        "GET",
        "/exp",
        summary="Answer a query as CSV",
        query=_QUERY,
        response_schema=ExecView,
        statuses=(200, 400),
        produces=("text/csv", "application/json"),
    )
    async def export(request: Request) -> Response:
        return await _answered(service, request, _csv)


async def _answered(service: "QuestDbWriterService", request: Request, show: Any) -> Response:
    if request.principal.accounts is not None:
        raise Problem(403, "account_not_permitted", "a query reads every account; ask /query/{table} on port 8090")
    sql = request.query.get("query", "")
    if not sql.strip():
        return json_response({"query": sql, "error": "empty query", "position": 0}, 400)
    try:
        return await service.query(_answer, service, request, sql, show)
    except QueryRefused as error:
        return json_response({"query": sql, "error": str(error), "position": error.position}, 400)


def _answer(service: "QuestDbWriterService", request: Request, sql: str, show: Any) -> Response:
    """Ask and encode; in a thread of its own."""
    wanted = _Range(request.query.get("limit", ""))
    began = time.monotonic_ns()
    store, seconds = service.store, service.config.query_seconds_max
    assert store is not None
    answer = store.ask(sql, rows_max=wanted.rows, skip=wanted.skip, seconds_max=seconds)
    if answer.more and wanted.rows == ROWS_MAX:
        raise QueryRefused(f"the answer has more than {ROWS_MAX} rows; add LIMIT, or ask for parts with limit=")
    executed = time.monotonic_ns() - began
    count = wanted.skip + len(answer.rows)
    counted = time.monotonic_ns()
    if wanted.is_given and request.query.get("count") == "true":
        count = store.count(sql, seconds_max=seconds)
    timings = {"compiler": 0, "execute": executed, "count": time.monotonic_ns() - counted}
    return show(request, sql, _chosen(answer, request.query.get("cols", "")), count, timings)


def _chosen(answer: Answer, columns: str) -> Answer:
    if not columns:
        return answer
    names = [name.strip() for name in columns.split(",")]
    if missing := [name for name in names if name not in answer.names]:
        raise QueryRefused(f"column not found: '{missing[0]}'")
    places = [list(answer.names).index(name) for name in names]
    rows = [tuple(row[place] for place in places) for row in answer.rows]
    timestamp = places.index(answer.timestamp) if answer.timestamp in places else -1
    return Answer(names, [answer.types[place] for place in places], rows, timestamp, answer.more)


def _json(request: Request, sql: str, answer: Answer, count: int, timings: dict[str, int]) -> Response:
    asked = request.query
    quoted = asked.get("quoteLargeNum") == "true"
    plain = [[_shown(value, quoted and kind == "LONG") for value, kind in _typed(row, answer)] for row in answer.rows]
    body: dict[str, Any] = {}
    if asked.get("nm") != "true":
        body = {
            "query": sql,
            "columns": [{"name": name, "type": kind} for name, kind in zip(answer.names, answer.types, strict=True)],
            "timestamp": answer.timestamp,
        }
    body |= {"dataset": plain, "count": count}
    if asked.get("timings") == "true":
        body["timings"] = {"authentication": 0, **timings}
    if asked.get("explain") == "true":
        body["explain"] = {"jitCompiled": False}
    return Response(msgspec.json.encode(body), content_type="application/json; charset=utf-8")


def _csv(request: Request, sql: str, answer: Answer, count: int, timings: dict[str, int]) -> Response:
    asked = request.query
    if asked.get("fmt", "csv") != "csv":
        raise QueryRefused("fmt is csv")
    mark = asked.get("delimiter", ",")
    if len(mark) != 1 or mark in '"\r\n':
        raise QueryRefused("delimiter is one character")
    lines = [] if asked.get("nm") == "true" else [mark.join(map(_quoted, answer.names))]
    lines += [mark.join(_cell(_shown(value, False)) for value in row) for row in answer.rows]
    name = "".join(c for c in asked.get("filename", "query") if c.isalnum() or c in "-_.") or "query"
    return Response(
        ("\r\n".join(lines) + "\r\n").encode(),
        content_type="text/csv; charset=utf-8",
        headers=[
            (
                b"content-disposition",
                f'attachment; filename="{name.removesuffix(".csv")}.csv"'.encode("latin-1", "replace"),
            )
        ],
    )


def _typed(row: Sequence[Any], answer: Answer) -> Any:
    return zip(row, answer.types, strict=True)


def _shown(value: Any, quoted: bool) -> Any:
    if isinstance(value, datetime):
        return f"{value.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"
    if isinstance(value, date):
        return f"{value.isoformat()}T00:00:00.000Z"
    if isinstance(value, int) and not isinstance(value, bool) and (quoted or not -(2**63) <= value < 2**64):
        return str(value)
    return value


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return _quoted(value) if isinstance(value, str) else str(value)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
