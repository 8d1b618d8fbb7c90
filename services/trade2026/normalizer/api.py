"""Bars and data quality over HTTP (port 8091). Prices and amounts are decimal text."""

import csv
import io
from typing import TYPE_CHECKING, Any

import msgspec

from trade2026.domain.instruments import Instrument
from trade2026.domain.market import Bar
from trade2026.domain.numbers import cost_to_nanos, to_text
from trade2026.kit.http import App, Problem, Request, Response, json_response
from trade2026.kit.parameters import LIMIT, PAGE
from trade2026.kit.queries import NEWEST_FIRST, bad_cursor, direction, moment, number
from trade2026.kit.views import time_text
from trade2026.marketdata.bars import BarSpec

if TYPE_CHECKING:
    from trade2026.normalizer.service import NormalizerService

_POSITION_MAX = 10**18


def add_routes(app: App, service: "NormalizerService") -> None:
    """Every endpoint of the normalizer."""

    @app.route(
        "GET",
        "/bars/{venue}/{symbol}/{interval}",
        summary="Closed bars, oldest first, or newest first with order=desc",
        query={
            "from": "a time, or nanoseconds since 1970: bars that begin then or later",
            "to": "a time, or nanoseconds since 1970: bars that begin before it",
            "order": "asc (the default) or desc: by time",
            "format": "json (the default) or csv",
            **PAGE,
        },
        produces=("application/json", "text/csv"),
    )
    async def bars(request: Request) -> Response:
        instrument, interval = _instrument(service, request), _interval(service, request)
        kind = request.query.get("format", "json")
        if kind not in ("json", "csv"):
            raise Problem(422, "bad_format", "format is json or csv", field="format")
        page, cursor = _page(service, request, instrument.instrument_id, interval)
        lines = [bar_line(bar, service.fold.is_uncertain(bar)) for bar in page]
        if kind == "csv":
            headers = [(b"x-next-cursor", str(cursor).encode())] if cursor is not None else []
            return Response(as_csv(lines), content_type="text/csv; charset=utf-8", headers=headers)
        return json_response(
            {
                "instrument": instrument.instrument_id,
                "interval": interval,
                "bars": lines,
                "cursor": str(cursor) if cursor is not None else None,
            }
        )

    @app.route("GET", "/quality", summary="What happened to the messages of each venue and instrument")
    async def quality(request: Request) -> Response:
        return json_response({"venues": [venue_line(service, venue) for venue in service.fold.venues]})

    @app.route(
        "GET",
        "/gaps/{venue}/{symbol}",
        summary="Between which times the market is not known, newest first",
        query=LIMIT,
    )
    async def gaps(request: Request) -> Response:
        name = _instrument(service, request).instrument_id
        newest = service.fold.gaps.get(name, [])[-number(request, "limit", 100) :]
        found = [
            {
                "from": time_text(gap.ts_from),
                "to": time_text(gap.ts_to),
                "first": gap.first,
                "last": gap.last,
                "reason": gap.reason,
            }
            for gap in reversed(newest)
        ]
        return json_response({"instrument": name, "gaps": found})


def bar_line(bar: Bar, uncertain: bool) -> dict[str, Any]:
    """A bar as clients read it."""
    return {
        "time": time_text(bar.ts_open),
        "end": time_text(bar.ts_close),
        "open": to_text(bar.open),
        "high": to_text(bar.high),
        "low": to_text(bar.low),
        "close": to_text(bar.close),
        "volume": to_text(bar.volume),
        "value": to_text(cost_to_nanos(bar.value)),
        "trades": bar.trades,
        "missing": bar.missing,
        "shifted": bar.shifted,
        "uncertain": uncertain,
    }


def as_csv(lines: list[dict[str, Any]]) -> bytes:
    """Bars with a line of names before them."""
    text = io.StringIO()
    names = list(bar_line(Bar("", "", 0, 0, 0, 0, 0, 0, 0, 0, 0), False))
    writer = csv.DictWriter(text, names, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows({**line, "uncertain": str(line["uncertain"]).lower()} for line in lines)
    return text.getvalue().encode()


def venue_line(service: "NormalizerService", venue: str) -> dict[str, Any]:
    """The quality of a venue's messages."""
    machine = service.fold.venues[venue]
    lines: list[dict[str, Any]] = []
    for name in machine.lanes:
        counts, quality = machine.counts(name)
        found = msgspec.to_builtins(quality)
        total = found.pop("delay_ns_sum")
        found["delay_ns_mean"] = total // counts.received if counts.received else 0
        lines.append({"instrument": name, **msgspec.to_builtins(counts), **found})
    return {"venue": venue, "unreadable": machine.unreadable, "instruments": lines}


def _instrument(service: "NormalizerService", request: Request) -> Instrument:
    venue = request.params["venue"].upper()
    name = f"{request.params['symbol'].upper().removesuffix(f'.{venue}')}.{venue}"
    found = service.instruments.by_id.get(name)
    if found is None:
        known = ", ".join(service.instruments.by_id)
        raise Problem(404, "unknown_symbol", f"this stack has no {name[:80]!r}; it has {known}", field="symbol")
    return found


def _interval(service: "NormalizerService", request: Request) -> str:
    known = [BarSpec.parse(text).name for text in service.rules.intervals]
    try:
        spec = BarSpec.parse(request.params["interval"])
    except ValueError as error:
        raise Problem(422, "bad_interval", f"{error}; there are {', '.join(known)}", field="interval") from error
    if spec.name not in known:
        raise Problem(404, "unknown_interval", f"there are bars of {', '.join(known)}", field="interval")
    return spec.name


def _page(
    service: "NormalizerService", request: Request, instrument: str, interval: str
) -> tuple[list[Bar], int | None]:
    """A page of bars, and the cursor of the next (None after the last)."""
    begin, end = moment(request, "from"), moment(request, "to")
    if begin is not None and end is not None and begin >= end:
        raise Problem(422, "bad_to", "to is later than from: no bar begins between them", field="to")
    newest_first = direction(request) == NEWEST_FIRST
    cursor = number(request, "cursor", -1, least=0, most=_POSITION_MAX)
    limit = number(request, "limit", 100)
    kept = service.kept.get((instrument, interval), ())
    if cursor >= 0 and (not kept or cursor > kept[-1][0]):
        raise bad_cursor("page")
    found = [
        (seq, bar)
        for seq, bar in (reversed(kept) if newest_first else kept)
        if (cursor < 0 or (seq < cursor if newest_first else seq > cursor))
        and (begin is None or begin <= bar.ts_open)
        and (end is None or bar.ts_open < end)
    ]
    page = found[:limit]
    return [bar for _, bar in page], page[-1][0] if len(found) > limit else None
