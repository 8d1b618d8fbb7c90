"""Parents over HTTP (port 8095): begin, watch, pause, resume, amend, cancel."""

from typing import TYPE_CHECKING

import msgspec

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
from trade2026.kit.lists import Lines, List
from trade2026.kit.pages import PARENTS
from trade2026.kit.parameters import ACCOUNT, PAGE
from trade2026.kit.queries import listed_account, may_see, number, require_account

if TYPE_CHECKING:
    from trade2026.exeq.cell import ExeqCell
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
        cell, parent = await service.accept(spec, request.principal.name, request.traceparent, now)
        return _shown(cell, parent)


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
        body, (cell, parent) = request.json(AmendParentInput), _visible(service, request)
        instrument = service.instruments.by_id[parent.spec.instrument]
        end_at = moment(body.end_at, "end_at")
        command = cmd.AmendParent(
            ts=request.received_ns,
            principal=request.principal.name,
            parent_id=parent.parent_id,
            quantity=steps(body.quantity, instrument.lot_size, "off_lot", "quantity") or None,
            price=limit_amended(body.price, instrument.tick_size),
            end_at=end_at or None,
            weights=await cell.weights_left(parent, request.received_ns, end_at),
            child_quantity_max=steps(body.child_quantity_max, instrument.lot_size, "off_lot", "child_quantity_max")
            or None,
            participation_bps=participation(body.participation_max) or None,
        )
        return await change(cell, request, command)

    @app.route("POST", "/parents/{parent_id}/pause", summary="Cancel what works, begin nothing", role="trader")
    async def pause(request: Request) -> Response:
        reason, (cell, parent) = _reason(request), _visible(service, request)
        return await change(
            cell,
            request,
            cmd.PauseParent(
                ts=request.received_ns, principal=request.principal.name, parent_id=parent.parent_id, reason=reason
            ),
        )

    @app.route("POST", "/parents/{parent_id}/resume", summary="Go on, and catch up within bounds", role="trader")
    async def resume(request: Request) -> Response:
        _reason(request)
        cell, parent = _visible(service, request)
        return await change(
            cell,
            request,
            cmd.ResumeParent(ts=request.received_ns, principal=request.principal.name, parent_id=parent.parent_id),
        )

    @app.route("POST", "/parents/{parent_id}/cancel", summary="Cancel what works and end the parent", role="trader")
    async def cancel(request: Request) -> Response:
        reason, (cell, parent) = _reason(request), _visible(service, request)
        return await change(
            cell,
            request,
            cmd.CancelParent(
                ts=request.received_ns, principal=request.principal.name, parent_id=parent.parent_id, reason=reason
            ),
        )

    async def change(cell: "ExeqCell", request: Request, command: cmd.ParentCommand) -> Response:
        reduces_risk = isinstance(command, cmd.PauseParent | cmd.CancelParent)
        await cell.ask(command, reduces_risk=reduces_risk)
        return _shown(*_visible(service, request))


def add_questions(app: App, service: "ExeqService") -> None:
    """Parents, and how far they are."""

    @app.route(
        "GET", "/parents", summary="Parents, newest first", query={**ACCOUNT, "status": "open or closed", **PAGE}
    )
    async def listing(request: Request) -> Response:
        account, limit = listed_account(request), number(request, "limit", 100)
        status = request.query.get("status")
        if status is not None and status not in _STATUSES:
            raise Problem(422, "bad_status", "status is open or closed", field="status")

        async def own(partition: int, begin: str | None, limit: int) -> tuple[Lines, str | None]:
            return _page(service.cells.here[partition], account, status, begin, limit)

        def count(partition: int) -> int:
            return len(service.cells.here[partition].machine.parents)

        found, after = await List(service.cells, "parents", PARENTS, own, count).answer(request, limit, account)
        return json_response({"parents": found, "cursor": after})

    @app.route(
        "GET",
        "/parents/{parent_id}",
        summary="A parent with its children, progress and benchmarks so far",
        response_schema=ParentView,
    )
    async def show(request: Request) -> Response:
        return _shown(*_visible(service, request))


def _shown(cell: "ExeqCell", parent: Parent) -> Response:
    return json_response(parent_view(parent, cell.tape.get(parent.spec.instrument), children=True))


def _visible(service: "ExeqService", request: Request) -> tuple["ExeqCell", Parent]:
    """The parent with its cell; for one of another's account the same 404 as for none, so that ids tell nothing."""
    parent_id = request.params["parent_id"]
    cell = service.cell_of_parent(parent_id)
    parent = cell.machine.parents.get(parent_id)
    if parent is None or not may_see(request, parent.spec.account):
        raise unknown(parent_id)
    return cell, parent


def unknown(parent_id: str) -> Problem:
    """The answer to an id that names no parent."""
    return Problem(404, "unknown_parent", f"there is no parent {parent_id[:40]!r} here; see GET /parents")


def _page(
    cell: "ExeqCell", account: str | None, status: str | None, begin: str | None, limit: int
) -> tuple[Lines, str | None]:
    """The newest parents of a partition, or those before one."""
    found: list[Parent] = []
    beyond = begin is None
    for parent in reversed(cell.machine.parents.values()):
        asked = status is None or (status == "open") == (parent.status not in ENDED)
        if beyond and asked and account in (None, parent.spec.account):
            found.append(parent)
        beyond = beyond or parent.parent_id == begin
        if len(found) > limit:
            break
    page = found[:limit]
    lines = [msgspec.to_builtins(parent_view(parent, cell.tape.get(parent.spec.instrument))) for parent in page]
    return lines, page[-1].parent_id if len(found) > limit else None


def _reason(request: Request) -> str:
    return (request.json(ReasonInput).reason if request.body else "")[:REASON_MAX]
