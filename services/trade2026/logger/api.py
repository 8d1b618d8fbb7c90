"""The audit log over HTTP (port 8115): records, checkpoints, and the logs that processes write."""

from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from trade2026.kit.http import App, Problem, Request, Response, json_response
from trade2026.kit.parameters import LIMIT, PAGE
from trade2026.kit.queries import bad_cursor, listed_account, moment, number
from trade2026.kit.views import time_text
from trade2026.logger.machine import AuditRecord, Checkpoint, NotSigned
from trade2026.logger.search import Filters, search
from trade2026.logger.service_logs import LEVELS, LogFilters, search_logs
from trade2026.logger.store import AuditReader

if TYPE_CHECKING:
    from trade2026.logger.service import LoggerService

_WORDS = ("trace_id", "order_id", "principal", "type", "topic", "text")
RECORDS = {
    "trace_id": "only of this trace",
    "order_id": "only about this order, parent order, list, alert or strategy",
    "account": "only of this account",
    "principal": "only what this one did",
    "type": "only this type of event",
    "topic": "only of this topic",
    "text": "only with this text, in any case",
    "from": "only since this time",
    "to": "only before this time",
    **PAGE,
}
LOGS = {
    "process": "only of this process",
    "level": f"only of this level and above: {', '.join(LEVELS)}",
    "trace_id": "only with this trace",
    "text": "only with this text, in any case",
    **LIMIT,
}


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """A body is not needed; if there is one it is an empty object."""


class RecordView(msgspec.Struct):
    """An audit record. `hash` is SHA-256 over the record and the hash before it, `digest` over the event."""

    n: int
    time: str
    event_id: str
    type: str
    principal: str
    account: str
    subject: str
    trace_id: str
    causation_id: str
    what: str
    digest: str
    hash: str


class RecordsView(msgspec.Struct):
    """A page of records, newest first; `cursor` is null at the end. A page may have fewer than were asked for."""

    records: list[RecordView]
    cursor: str | None


class CheckpointView(msgspec.Struct):
    """A signed word about the chain: it had `n` records, the last with the hash `head`."""

    stack: str
    kind: str
    n: int
    head: str
    time: str
    positions: dict[str, int]
    key: str
    signature: str


class CheckpointsView(msgspec.Struct):
    """Checkpoints, newest first, and the public keys by their fingerprints."""

    checkpoints: list[CheckpointView]
    keys: dict[str, str]
    cursor: str | None


def add_routes(app: App, service: "LoggerService") -> None:
    """Every endpoint of the audit log."""

    @app.route("GET", "/records", summary="Audit records, newest first", query=RECORDS, response_schema=RecordsView)
    async def records(request: Request) -> Response:
        filters = _filters(request)
        cursor, limit = _cursor(request), number(request, "limit", 100)
        found, following = await service.read(search, filters, cursor, limit)
        return json_response(RecordsView(list(map(record_view, found)), str(following) if following else None))

    @app.route("GET", "/records/{n}", summary="One audit record", response_schema=RecordView)
    async def record(request: Request) -> Response:
        text = request.params["n"]
        n = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else -1
        found = await service.read(_one, n, request.principal.accounts)
        if found is None:
            raise Problem(404, "unknown_record", f"the audit log has no record {text[:40]!r}")
        return json_response(record_view(found))

    @app.route(
        "GET", "/checkpoints", summary="Signed checkpoints, newest first", query=PAGE, response_schema=CheckpointsView
    )
    async def checkpoints(request: Request) -> Response:
        limit = number(request, "limit", 100)
        found = await service.read(AuditReader.checkpoints, _cursor(request), limit)
        keys = await service.read(AuditReader.keys)
        cursor = str(found[-1].n) if len(found) == limit and found[-1].n else None
        return json_response(CheckpointsView(list(map(checkpoint_view, found)), keys, cursor))

    @app.route(
        "POST",
        "/checkpoints",
        summary="Sign everything up to now",
        role="admin",
        response_schema=CheckpointView,
    )
    async def checkpoint(request: Request) -> Response:
        if request.body:
            request.json(Nothing)
        assert service.writing is not None
        try:
            return json_response(checkpoint_view(await service.writing.checkpoint()))
        except NotSigned as error:
            raise Problem(503, "not_signed", str(error), retry_after=1) from error

    @app.route("GET", "/logs", summary="Lines of the processes' logs, newest first", role="risk", query=LOGS)
    async def logs(request: Request) -> Response:
        level = request.query.get("level", "")
        if level and level not in LEVELS:
            raise Problem(422, "bad_level", f"level is one of {', '.join(LEVELS)}", field="level")
        if request.principal.accounts is not None:
            raise Problem(403, "account_not_permitted", "logs are for whoever may use every account")
        asked = {name: request.query.get(name, "") for name in ("process", "trace_id", "text")}
        question = partial(search_logs, service.settings.state / "logs", LogFilters(level=level, **asked))
        found = await service.read(lambda reader, limit: question(limit), number(request, "limit", 100))
        return json_response({"lines": found})


def record_view(record: AuditRecord) -> RecordView:
    """Show a record."""
    entry = record.entry
    return RecordView(
        n=record.n,
        time=time_text(entry.ts),
        event_id=entry.event_id,
        type=entry.type,
        principal=entry.principal,
        account=entry.account,
        subject=entry.subject,
        trace_id=entry.trace_id,
        causation_id=entry.cause,
        what=entry.what,
        digest=entry.digest,
        hash=record.hash,
    )


def checkpoint_view(checkpoint: Checkpoint) -> CheckpointView:
    """Show a checkpoint."""
    made: dict[str, Any] = msgspec.structs.asdict(checkpoint)
    return CheckpointView(time=time_text(made.pop("ts")), **made)


def _one(reader: AuditReader, n: int, accounts: Collection[str] | None) -> AuditRecord | None:
    """A record, for one who may use only some accounts if a list of one of them has it."""
    if accounts is None:
        return next(iter(reader.select("n = ?", [n], 1)), None)
    named = ", ".join("?" * len(accounts))
    return next(iter(reader.select(f"n = ? AND of_account IN ({named})", [n, *accounts], 1)), None)


def _filters(request: Request) -> Filters:
    words = {name: request.query.get(name, "") for name in _WORDS}
    since, until = moment(request, "from"), moment(request, "to")
    return Filters(account=listed_account(request) or "", since=since, until=until, **words)


def _cursor(request: Request) -> int | None:
    text = request.query.get("cursor")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise bad_cursor("record")
    return int(text)
