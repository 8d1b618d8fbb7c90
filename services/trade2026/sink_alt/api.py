"""Alternative data over HTTP (port 8112): sources, records, quarantine, and answers as of a time."""

import re
from typing import TYPE_CHECKING, Any

import msgspec

from trade2026.kit.http import App, Problem, Request, Response, json_response
from trade2026.kit.parameters import PAGE
from trade2026.kit.queries import bad_cursor, moment, number
from trade2026.sink_alt import commands as cmd
from trade2026.sink_alt.machine import QUARANTINED, AltError, AltMachine, Outcome, Source
from trade2026.sink_alt.record_input import (
    QUESTIONS_MAX,
    RECORD_BYTES_MAX,
    RECORDS_MAX,
    ROWS_MAX,
    SCHEMA_BYTES_MAX,
    STORES,
    BatchInput,
    JoinInput,
    RecordInput,
    SourceInput,
    SqlInput,
    WhichInput,
    read_record,
    read_symbol,
    read_time,
    source_name,
)
from trade2026.sink_alt.tables import RECORDS
from trade2026.sink_alt.views import quarantined_view, record_view, sources_view
from trade2026.stores.lake import NoSuchTable, Selection

if TYPE_CHECKING:
    from trade2026.sink_alt.service import SinkAltService

BODY_BYTES_MAX = 4 * 1024 * 1024
STORED_SECONDS_MAX = 15.0
QUERY_SECONDS_MAX = 10.0
_CURSOR = re.compile(r"(-?\d{1,19})_(-?\d{1,19})_(\d{1,19})_(\d{1,19})", re.ASCII).fullmatch
_SEQ_MAX = 2**63 - 1
_SEQ = {"seq": "the place in the log of a record that the answer must have: waits until it is stored"}


def add_routes(app: App, service: "SinkAltService") -> None:
    """Every endpoint."""
    _add_sources(app, service)
    _add_records(app, service)
    _add_quarantine(app, service)
    _add_questions(app, service)


def _add_sources(app: App, service: "SinkAltService") -> None:
    @app.route(
        "POST",
        "/sources",
        summary="Register a source, or a compatible new version of its schema",
        request_schema=SourceInput,
        role="admin",
        body_bytes_max=2 * SCHEMA_BYTES_MAX,
    )
    async def register(request: Request) -> Response:
        given = request.json(SourceInput)
        schema = msgspec.json.encode(msgspec.json.decode(given.schema))
        if len(schema) > SCHEMA_BYTES_MAX:
            detail = f"a schema has at most {SCHEMA_BYTES_MAX} bytes"
            raise Problem(422, "schema_too_large", detail, field="schema")
        name = source_name(given.name)
        command = cmd.RegisterSource(source=name, schema=schema, about=given.about[:512], **_common(request, name))
        _done(*await service.ask(command))
        (registered,) = sources_view(service.machine, [command.source])
        return json_response(registered)

    @app.route("GET", "/sources", summary="Every source, by name", query=PAGE)
    async def sources(request: Request) -> Response:
        limit, cursor = number(request, "limit", 100), request.query.get("cursor", "")
        names = sorted(name for name in service.machine.sources if name > cursor)
        page = sources_view(service.machine, names[:limit])
        return json_response({"sources": page, "cursor": names[limit - 1] if len(names) > limit else None})

    @app.route("GET", "/sources/{name}", summary="A source with every version of its schema")
    async def source(request: Request) -> Response:
        (known,) = sources_view(service.machine, [_known(service, request).name], versions=True)
        return json_response(known)


def _add_records(app: App, service: "SinkAltService") -> None:
    @app.route(
        "POST",
        "/sources/{name}/records",
        summary="Keep a record: durable when answered, idempotent by record_id",
        request_schema=RecordInput,
        role="trader",
        body_bytes_max=2 * RECORD_BYTES_MAX,
    )
    async def keep(request: Request) -> Response:
        given, source = request.json(RecordInput), _known(service, request).name
        command = read_record(given, source, service.instruments, request.received_ns, **_whose(request, source))
        (answer,) = await service.ask(command)
        outcome: Outcome = _done(answer)
        if outcome.status == QUARANTINED:
            place, _, reason = outcome.reasons[0].partition(": ")
            detail = f"{place}: {reason}; the record waits in quarantine"
            told = {"record_id": outcome.record_id, "seq": outcome.seq, "reasons": outcome.reasons}
            raise Problem(422, "quarantined", detail, field=place, **told)
        return json_response(outcome)

    @app.route(
        "POST",
        "/sources/{name}/records/batch",
        summary="Keep up to 1,000 records; each has its own answer, in order",
        request_schema=BatchInput,
        role="trader",
        body_bytes_max=BODY_BYTES_MAX,
    )
    async def keep_batch(request: Request) -> Response:
        return await _keep_batch(service, request)


async def _keep_batch(service: "SinkAltService", request: Request) -> Response:
    given, source = request.json(BatchInput).records, _known(service, request).name
    if not 1 <= len(given) <= RECORDS_MAX:
        raise Problem(422, "bad_records", f"a batch has 1 to {RECORDS_MAX} records", field="records")
    commands = [
        read_record(
            record, source, service.instruments, request.received_ns, f"records[{place}].", **_whose(request, source)
        )
        for place, record in enumerate(given)
    ]
    results: list[Any] = []
    for record, answer in zip(given, await service.ask(*commands), strict=True):
        if isinstance(answer, AltError):
            refused = {"record_id": record.record_id, "status": "refused", "code": answer.code}
            results.append({**refused, "reasons": [str(answer)]})
        else:
            results.append(msgspec.to_builtins(answer))
    counts = dict.fromkeys(("accepted", "quarantined", "refused"), 0)
    for result in results:
        counts[result["status"]] += 1
    seq = max((result["seq"] for result in results if "seq" in result), default=None)
    return json_response({**counts, "seq": seq, "results": results})


def _add_quarantine(app: App, service: "SinkAltService") -> None:
    @app.route(
        "GET", "/sources/{name}/quarantine", summary="Records that do not fit, and why, oldest first", query=PAGE
    )
    async def listing(request: Request) -> Response:
        source, limit = _known(service, request).name, number(request, "limit", 100)
        after = number(request, "cursor", -1, least=0, most=_SEQ_MAX)
        found = [each for (name, _), each in service.machine.quarantine.items() if name == source and each[0] > after]
        page = [quarantined_view(*each) for each in found[:limit]]
        return json_response({"records": page, "cursor": str(found[limit - 1][0]) if len(found) > limit else None})

    @app.route(
        "POST",
        "/sources/{name}/quarantine/release",
        summary="Look at records in quarantine again: those that fit the newest schema are kept",
        request_schema=WhichInput,
        role="admin",
    )
    async def release(request: Request) -> Response:
        source, which = _which(service, request)
        common = _common(request, source)
        answers = await service.ask(
            *(cmd.ReleaseRecord(source=source, record_id=each, **common) for each in which.record_ids)
        )
        outcomes = [_done(answer) for answer in answers if not _is_gone(answer)]
        left = [outcome for outcome in outcomes if outcome.status == QUARANTINED]
        return json_response({"released": len(outcomes) - len(left), "left": left})

    @app.route(
        "POST",
        "/sources/{name}/quarantine/discard",
        summary="Give records in quarantine up",
        request_schema=WhichInput,
        role="admin",
    )
    async def discard(request: Request) -> Response:
        source, which = _which(service, request)
        common = _common(request, source)
        answers = await service.ask(
            *(
                cmd.DiscardRecord(source=source, record_id=each, reason=which.reason[:512], **common)
                for each in which.record_ids
            )
        )
        return json_response(
            {"discarded": sum(1 for answer in answers if not _is_gone(answer) and _done(answer) is None)}
        )


def _add_questions(app: App, service: "SinkAltService") -> None:
    @app.route(
        "GET",
        "/sources/{name}/records",
        summary="Records in the order in which they became known",
        query={
            "symbol": "only about this one",
            "from": "known since this time, or nanoseconds since 1970",
            "to": "known before this time, or nanoseconds since 1970",
            **_SEQ,
            **PAGE,
        },
    )
    async def records(request: Request) -> Response:
        source, limit = _known(service, request).name, number(request, "limit", 100)
        equal = {"source": source}
        if (symbol := request.query.get("symbol")) is not None:
            equal["symbol"] = read_symbol(service.instruments, symbol, "symbol")
        wanted = Selection(
            from_ns=moment(request, "from"),
            to_ns=moment(request, "to"),
            limit=limit,
            equal=equal,
            after=_place(request),
        )
        await _wait(service, request, "lake")
        stored_to = service.sinks["lake"].stored_to
        try:
            answer = await service.answer(service.lake.read, RECORDS, wanted)
        except NoSuchTable:
            return json_response({"records": [], "cursor": None, "stored_to": stored_to})
        last = answer.rows[-1] if answer.more else None
        cursor = None if last is None else "_".join(str(last[name]) for name in RECORDS.order)
        return json_response(
            {"records": [record_view(row) for row in answer.rows], "cursor": cursor, "stored_to": stored_to}
        )

    @app.route(
        "POST",
        "/sources/{name}/join",
        summary="For each (symbol, time): the latest record that was known then",
        request_schema=JoinInput,
        body_bytes_max=BODY_BYTES_MAX,
        query=_SEQ,
    )
    async def join(request: Request) -> Response:
        given, source = request.json(JoinInput), _known(service, request).name
        if not 1 <= len(given.rows) <= QUESTIONS_MAX:
            raise Problem(422, "bad_rows", f"1 to {QUESTIONS_MAX} rows at once", field="rows")
        if given.store not in STORES:
            raise Problem(422, "bad_store", f"store is {' or '.join(STORES)}", field="store")
        asked = [
            (
                read_symbol(service.instruments, row.symbol, f"rows[{place}].symbol"),
                read_time(row.time, f"rows[{place}].time"),
            )
            for place, row in enumerate(given.rows)
        ]
        await _wait(service, request, given.store)
        stored_to = service.sinks[given.store].stored_to
        found = await _latest(service, given.store, source, asked)
        rows = [
            {"symbol": symbol, "time": row.time, "record": None if each is None else record_view(each)}
            for row, (symbol, _), each in zip(given.rows, asked, found, strict=True)
        ]
        return json_response({"rows": rows, "stored_to": stored_to})

    @app.route(
        "POST",
        "/sql",
        summary="Ask the analytics store in ClickHouse's SQL; nothing can be changed",
        request_schema=SqlInput,
        query=_SEQ,
    )
    async def sql(request: Request) -> Response:
        given = request.json(SqlInput)
        if not 1 <= given.limit <= ROWS_MAX:
            raise Problem(422, "bad_limit", f"limit is from 1 to {ROWS_MAX}", field="limit")
        await _wait(service, request, "analytics")
        answer = await service.answer_from_analytics(
            lambda store: store.ask(given.query, rows_max=given.limit, seconds_max=QUERY_SECONDS_MAX)
        )
        return json_response({"names": answer.names, "types": answer.types, "rows": answer.rows, "more": answer.more})


async def _latest(
    service: "SinkAltService", store: str, source: str, asked: list[tuple[str, int]]
) -> list[dict[str, Any] | None]:
    equal = {"source": source}
    if store == "lake":
        try:
            return await service.answer(service.lake.latest, RECORDS, "symbol", asked, equal)
        except NoSuchTable:
            return [None] * len(asked)
    from trade2026.sink_alt.analytics import RECORDS_TABLE, row_as_mapping

    rows = await service.answer_from_analytics(lambda store: store.latest(RECORDS_TABLE, "symbol", asked, equal))
    return [None if row is None else row_as_mapping(row) for row in rows]


# ── what is asked ───────────────────────────────────────────────────────────────────────────────


def _known(service: "SinkAltService", request: Request) -> Source:
    machine: AltMachine = service.machine
    source = machine.sources.get(request.params["name"])
    if source is None:
        detail = f"there is no source {request.params['name'][:64]!r}; register its schema first: POST /sources"
        raise Problem(404, "unknown_source", detail)
    return source


def _whose(request: Request, source: str) -> dict[str, Any]:
    """Who asks, and what it is about: the source is also the key of the record on Kafka."""
    return {
        "principal": request.principal.name,
        "correlation_id": source,
        "causation_id": request.causation_id,
        "traceparent": request.traceparent,
    }


def _common(request: Request, source: str) -> dict[str, Any]:
    return {"ts": request.received_ns, **_whose(request, source)}


def _done(answer: Any) -> Any:
    """The answer; the problem that it is for a refusal."""
    if isinstance(answer, AltError):
        retry_after = 30 if answer.status == 429 else None
        raise Problem(answer.status, answer.code, str(answer), field=answer.field or None, retry_after=retry_after)
    return answer


def _is_gone(answer: Any) -> bool:
    """Somebody else was quicker."""
    return isinstance(answer, AltError) and answer.code == "not_in_quarantine"


def _which(service: "SinkAltService", request: Request) -> tuple[str, WhichInput]:
    """The source, and which of its records are meant; 404 for one that is not in quarantine."""
    which = request.json(WhichInput) if request.body else WhichInput()
    source = _known(service, request).name
    there = [record_id for name, record_id in service.machine.quarantine if name == source]
    for record_id in which.record_ids:
        if (source, record_id) not in service.machine.quarantine:
            detail = f"{source} has no {record_id[:64]!r} in quarantine"
            raise Problem(404, "not_in_quarantine", detail, field="record_ids")
    return source, WhichInput(which.record_ids or there, which.reason)


def _place(request: Request) -> tuple[int, ...] | None:
    cursor = request.query.get("cursor")
    if cursor is None:
        return None
    found = _CURSOR(cursor)
    place = tuple(map(int, found.groups())) if found is not None else ()
    if not place or max(map(abs, place)) > _SEQ_MAX:
        raise bad_cursor("record")
    return place


async def _wait(service: "SinkAltService", request: Request, store: str) -> None:
    if store not in service.sinks:
        raise Problem(404, "no_analytics", "this stack has no analytics store; see spec.stores.analytics")
    seq = number(request, "seq", -1, least=0, most=_SEQ_MAX)
    if seq >= service.machine.next_seq:
        raise Problem(422, "bad_seq", f"the log ends at {service.machine.next_seq - 1}", field="seq")
    if seq >= 0:
        await service.stored(store, seq, STORED_SECONDS_MAX)
