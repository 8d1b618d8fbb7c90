"""How limits that span partitions are shared out, over HTTP."""

from typing import TYPE_CHECKING

import msgspec

from trade2026.controls.slices import SLICED, SPANNING, Shortage
from trade2026.domain.numbers import to_text
from trade2026.kit.http import App, Problem, Request, Response, json_response
from trade2026.risk.slicing import View

if TYPE_CHECKING:
    from trade2026.risk.service import RiskService


class WantInput(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A partition asks for a larger slice."""

    scope: str
    field: str
    partition: int
    needed: int
    """Of money nanos, of orders and messages their number."""


class Wanted(msgspec.Struct):
    """Whether there is as much to be had: then it comes with the next events of risk."""

    granted: bool


class PartView(msgspec.Struct):
    """What one partition has."""

    partition: int
    slice: str
    used: str


class SliceView(msgspec.Struct):
    """One limit and its slices."""

    scope: str
    limit: str
    whole: str
    slices: list[PartView]


class SlicesView(msgspec.Struct):
    """Every limit that spans partitions; none where there is one partition."""

    partitions: int
    limits: list[SliceView]


def add_slices(app: App, service: "RiskService") -> None:
    """The slices, and the way to ask for a larger one."""

    @app.route("GET", "/slices", summary="How limits that span partitions are shared out", response_schema=SlicesView)
    async def slices(request: Request) -> Response:
        if request.principal.accounts is not None:
            raise Problem(403, "scope_not_permitted", f"{request.principal.name} may only ask for its accounts")
        views = [_shown(view) for view in service.sharing.views()]
        return json_response(SlicesView(len(service.orders), views))

    @app.route(
        "POST",
        "/slices",
        summary="Ask for a larger slice of a limit",
        role="trader",
        request_schema=WantInput,
        response_schema=Wanted,
    )
    async def want(request: Request) -> Response:
        wanted = request.json(WantInput)
        if request.principal.accounts is not None:
            raise Problem(403, "scope_not_permitted", f"{request.principal.name} may only ask for its accounts")
        if wanted.needed < 1:
            raise Problem(422, "not_positive", "needed is what the slice is to be, 1 or more", field="needed")
        if wanted.scope.partition(":")[0] not in SPANNING or wanted.field not in SLICED:
            raise Problem(422, "bad_scope", f"{wanted.field} of {wanted.scope} is not shared out", field="scope")
        if not 0 <= wanted.partition < len(service.orders):
            raise Problem(422, "unknown_partition", f"there are {len(service.orders)} partitions", field="partition")
        shortage = Shortage(wanted.scope, wanted.field, wanted.needed)
        return json_response(Wanted(service.sharing.want(shortage, wanted.partition)))


def _shown(view: View) -> SliceView:
    show = to_text if view.field in ("max_gross_exposure", "max_net_exposure") else str
    parts = [PartView(number, show(part.current), show(part.used)) for number, part in enumerate(view.parts)]
    return SliceView(view.scope, view.field, show(view.limit), parts)
