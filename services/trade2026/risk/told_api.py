"""Limits of strategies' own manifests, over HTTP: from whoever keeps the stack, while it runs."""

import hmac
from typing import TYPE_CHECKING

import msgspec

from trade2026.controls.limits import LimitSet
from trade2026.kit.bus.port import BusError
from trade2026.kit.http import App, Problem, Request, Response, json_response
from trade2026.kit.own_key import own_authorization

if TYPE_CHECKING:
    from trade2026.risk.service import RiskService

_TEXT_MAX = 512


class ToldInput(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The limits of a strategy's manifest as the planner writes them: nanos, nanoseconds, basis points; {}: none."""

    limits: LimitSet
    reason: str


class ToldView(msgspec.Struct):
    """Limits that were told of a strategy."""

    strategy: str
    limits: LimitSet
    enforced: bool
    """Every partition of the order log decides by them."""


class ToldViews(msgspec.Struct):
    """Of every strategy of which some were told."""

    strategies: list[ToldView]


def add_told(app: App, service: "RiskService") -> None:
    """What was told, and telling."""

    @app.route(
        "GET",
        "/limits/strategies",
        summary="Limits that strategies' own manifests have told the running stack",
        response_schema=ToldViews,
    )
    async def told(request: Request) -> Response:
        if request.principal.accounts is not None:
            raise Problem(403, "scope_not_permitted", f"{request.principal.name} may only ask for its accounts")
        return json_response(ToldViews([_view(service, name) for name in sorted(service.book.told)]))

    @app.route(
        "PUT",
        "/limits/strategies/{name}",
        summary="Tell the limits of a strategy's own manifest; with the stack's own key only",
        role="risk",
        request_schema=ToldInput,
        response_schema=ToldView,
    )
    async def tell(request: Request) -> Response:
        ours, shown = own_authorization(), request.headers.get(b"authorization", b"").decode("latin-1")
        if not ours or not hmac.compare_digest(ours.encode(), shown.encode()):
            raise Problem(403, "not_the_stacks_own", "a person changes the limits of a strategy in its manifest")
        body, name = request.json(ToldInput), request.params["name"]
        try:
            await service.tell(name, body.limits, request.principal.name, body.reason[:_TEXT_MAX])
        except BusError as error:
            raise Problem(503, "not_recorded", f"the change is not confirmed: {error}", retry_after=1) from error
        return json_response(_view(service, name))


def _view(service: "RiskService", name: str) -> ToldView:
    return ToldView(name, service.book.told.get(name, LimitSet()), service.is_enforced(name))
