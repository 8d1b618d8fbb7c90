"""Parents over HTTP (port 8095): begin, watch, pause, resume, amend, cancel."""

from typing import TYPE_CHECKING

from trade2026.domain.parents import ENDED
from trade2026.exeq import commands as cmd
from trade2026.exeq.parent_input import (
    AmendParentInput,
    ParentInput,
    ReasonInput,
    limit_amended,
    moment,
    participation,
    steps,
)
from trade2026.exeq.parents import Parent
from trade2026.exeq.views import ParentView, parent_view
from trade2026.kit.http import App, Problem, Request, Response, json_response
from trade2026.kit.parameters import ACCOUNT, PAGE
from trade2026.kit.queries import bad_cursor, listed_account, may_see, number, require_account

if TYPE_CHECKING:
    from trade2026.exeq.service import ExeqService

REASON_MAX = 512
_TEXT_MAX = 64
_STATUSES = ("open", "closed")


def add_routes(app: App, service: "ExeqService") -> None:
    """Every endpoint of the execution."""
    add_questions(app, service)
    add_changes(app, service)

    @app.route(
        "POST",
        "/parents",
        summary="Work a parent order: TWAP, VWAP; MARKET, LIMIT and STOP pass through as one child",
        request_schema=ParentInput,
        response_schema=ParentView,
        role="trader",
    )
    async def accept(request: Request) -> Response:
        now = request.received_ns
        key = request.headers.get(b"idempotency-key", b"").decode("latin-1")
        if len(key) > _TEXT_MAX or not key.isprintable():
            detail = f"Idempotency-Key has at most {_TEXT_MAX} printable characters"
            raise Problem(422, "bad_text", detail, field="Idempotency-Key")
        spec = service.reader.read(request.json(ParentInput), key or service.unique_id(now), now)
        require_account(request, spec.account)
        parent = await service.accept(spec, request.principal.name, request.traceparent, now)
        return _shown(service, parent)


def add_changes(app: App, service: "ExeqService") -> None:
    """Pause, resume, amend, cancel."""

    @app.route(
        "PATCH",
        "/parents/{parent_id}",
        summary="Amend a parent: the rest is planned anew",
        request_schema=AmendParentInput,
        response_schema=ParentView,
        role="trader",
    )
    async def amend(request: Request) -> Response:
        body, parent = request.json(AmendParentInput), _visible(service, request)
        instrument = service.instruments.by_id[parent.spec.instrument]
        end_at = moment(body.end_at, "end_at")
        command = cmd.AmendParent(
            ts=request.received_ns,
            principal=request.principal.name,
            parent_id=parent.parent_id,
            quantity=steps(body.quantity, instrument.lot_size, "off_lot", "quantity") or None,
            price=limit_amended(body.price, instrument.tick_size),
            end_at=end_at or None,
            weights=await service.weights_left(parent, request.received_ns, end_at),
            child_quantity_max=steps(body.child_quantity_max, instrument.lot_size, "off_lot", "child_quantity_max")
            or None,
            participation_bps=participation(body.participation_max) or None,
        )
        return await change(request, command)

    @app.route("POST", "/parents/{parent_id}/pause", summary="Cancel what works, begin nothing", role="trader")
    async def pause(request: Request) -> Response:
        reason, parent = _reason(request), _visible(service, request)
        return await change(
            request,
            cmd.PauseParent(
                ts=request.received_ns, principal=request.principal.name, parent_id=parent.parent_id, reason=reason
            ),
        )

    @app.route("POST", "/parents/{parent_id}/resume", summary="Go on, and catch up within bounds", role="trader")
    async def resume(request: Request) -> Response:
        _reason(request)
        parent = _visible(service, request)
        return await change(
            request,
            cmd.ResumeParent(ts=request.received_ns, principal=request.principal.name, parent_id=parent.parent_id),
        )

    @app.route("POST", "/parents/{parent_id}/cancel", summary="Cancel what works and end the parent", role="trader")
    async def cancel(request: Request) -> Response:
        reason, parent = _reason(request), _visible(service, request)
        return await change(
            request,
            cmd.CancelParent(
                ts=request.received_ns, principal=request.principal.name, parent_id=parent.parent_id, reason=reason
            ),
        )

    async def change(request: Request, command: cmd.ParentCommand) -> Response:
        reduces_risk = isinstance(command, cmd.PauseParent | cmd.CancelParent)
        await service.ask(command, reduces_risk=reduces_risk)
        return _shown(service, _visible(service, request))


def add_questions(app: App, service: "ExeqService") -> None:
    """Parents, and how far they are."""

    @app.route(
        "GET", "/parents", summary="Parents, newest first", query={**ACCOUNT, "status": "open or closed", **PAGE}
    )
    async def listing(request: Request) -> Response:
        account, limit = listed_account(request), number(request, "limit", 100)
        status, cursor = request.query.get("status"), request.query.get("cursor")
        if status is not None and status not in _STATUSES:
            raise Problem(422, "bad_status", "status is open or closed", field="status")
        parents = service.owner.machine.parents
        if cursor is not None and cursor not in parents:
            raise bad_cursor("parent")
        found, beyond = [], cursor is None
        for parent in reversed(parents.values()):
            asked = status is None or (status == "open") == (parent.status not in ENDED)
            if beyond and asked and account in (None, parent.spec.account):
                found.append(parent)
            beyond = beyond or parent.parent_id == cursor
            if len(found) > limit:
                break
        page = found[:limit]
        return json_response(
            {
                "parents": [parent_view(parent, service.tape.get(parent.spec.instrument)) for parent in page],
                "cursor": page[-1].parent_id if len(found) > limit else None,
            }
        )

    @app.route(
        "GET",
        "/parents/{parent_id}",
        summary="A parent with its children, progress and benchmarks so far",
        response_schema=ParentView,
    )
    async def show(request: Request) -> Response:
        return _shown(service, _visible(service, request))


def _shown(service: "ExeqService", parent: Parent) -> Response:
    return json_response(parent_view(parent, service.tape.get(parent.spec.instrument), children=True))


def _visible(service: "ExeqService", request: Request) -> Parent:
    """The parent; for one of another's account the same 404 as for none, so that ids tell nothing."""
    parent_id = request.params["parent_id"]
    parent = service.owner.machine.parents.get(parent_id)
    if parent is None or not may_see(request, parent.spec.account):
        raise Problem(404, "unknown_parent", f"there is no parent {parent_id[:40]!r} here; see GET /parents")
    return parent


def _reason(request: Request) -> str:
    return (request.json(ReasonInput).reason if request.body else "")[:REASON_MAX]
