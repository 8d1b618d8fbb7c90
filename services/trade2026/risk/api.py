"""Risk over HTTP (port 8103). Amounts are decimal text, times RFC 3339 UTC."""

from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from trade2026.controls.limits import LIMIT_SCOPES, LimitSet, Tightening
from trade2026.controls.machine import Check
from trade2026.controls.scopes import NAME_MAX, BadScope, resolve_scope
from trade2026.domain.events import Killed, Resumed
from trade2026.domain.instruments import Instrument, UnknownInstrument
from trade2026.domain.numbers import Amount, to_text
from trade2026.domain.orders import HELD_TYPES, OrderSpec, OrderType
from trade2026.kit.bus.port import BusError
from trade2026.kit.http import App, Problem, Request, Response, json_response
from trade2026.kit.parameters import LIMIT, PAGE
from trade2026.kit.queries import bad_cursor, may_see, number, require_account, require_scope
from trade2026.kit.views import position_view, time_text
from trade2026.risk.limits_input import read_limits, read_time, show_book
from trade2026.risk.machine import Alert, WouldWiden
from trade2026.risk.slices_api import add_slices
from trade2026.risk.told_api import add_told

if TYPE_CHECKING:
    from trade2026.risk.service import RiskService

_TEXT_MAX = 512
_TYPES = {name.replace("_", ""): OrderType(name) for name in OrderType.__members__}
_PRICED = (OrderType.LIMIT, OrderType.STOP_LIMIT, OrderType.ICEBERG)
_EXPOSURE_KINDS = ("account", "strategy", "instrument", "trader", "desk", "client")
_MEDIUM_BPS, _HIGH_BPS = 7_000, 9_000


class CheckInput(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An order that is not sent. Amounts are numbers or decimal strings."""

    symbol: str
    side: str
    quantity: Amount
    price: Amount | None = None
    stop_price: Amount | None = None
    order_type: str | None = None
    account: str | None = None
    strategy: str = ""
    trader: str = ""
    desk: str = ""
    client: str = ""
    reduce_only: bool = False


class CheckView(msgspec.Struct):
    """The answer to a check: `as_of` is the position in the order log that it knew."""

    approved: bool
    risk_level: str
    reason: str
    checks: list[Check]
    as_of: int


class TightenInput(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Limits to be made tighter; names as in the manifest."""

    limits: dict[str, Any]
    reason: str
    scope: str = "stack"
    until: str | None = None


class StopInput(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a kill or resume applies to, e.g. `stack`, `account:main`, `strategy:mm`, `venue:SIM`."""

    reason: str = ""
    scope: str = "stack"
    halt: bool = False


class ReasonInput(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Why."""

    reason: str = ""


class NoteInput(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What the person who has seen an alert says about it."""

    note: str = ""


def add_routes(app: App, service: "RiskService") -> None:
    """Every endpoint of risk."""
    add_questions(app, service)
    add_limits(app, service)
    add_stops(app, service)
    add_alerts(app, service)
    add_slices(app, service)
    add_told(app, service)


def add_questions(app: App, service: "RiskService") -> None:
    """The pre-trade check, exposure and positions."""

    @app.route(
        "POST",
        "/check",
        summary="What an order would meet",
        request_schema=CheckInput,
        response_schema=CheckView,
        inline=True,
    )
    async def check(request: Request) -> Response:
        spec = read_order(service, request.json(CheckInput))
        require_account(request, spec.account)
        return json_response(judge(service.explain(spec, request.received_ns), service.orders_of(spec.account).as_of))

    @app.route(
        "GET",
        "/exposure",
        summary="Exposure on demand",
        query={"scope": "firm (the default), account:X, strategy:X, trader:X, client:X …"},
    )
    async def exposure(request: Request) -> Response:
        scope = request.query.get("scope", "firm")
        kind, _, name = scope.partition(":")
        if scope not in ("firm", "stack") and (kind not in _EXPOSURE_KINDS or not name):
            raise Problem(422, "bad_scope", f"scope is firm, or {', '.join(_EXPOSURE_KINDS)} with :NAME", field="scope")
        allowed = request.principal.accounts
        if kind == "account":
            require_account(request, name)
        elif allowed is not None:
            raise Problem(
                403, "scope_not_permitted", f"{request.principal.name} may only ask for its accounts", field="scope"
            )
        found = service.exposure(kind, name)
        shown: dict[str, Any] = {
            field: to_text(getattr(found, field)) for field in ("gross", "net", "net_worst", "reserved", "daily_pnl")
        }
        return json_response({"scope": scope, "as_of": service.as_of, **shown, "open_orders": found.open_orders})

    @app.route("GET", "/positions/{account}", summary="Positions of an account as the limits see them, as of an event")
    async def positions(request: Request) -> Response:
        account = require_account(request, request.params["account"])
        orders = service.orders_of(account)
        found = [position_view(name, held) for name, held in orders.controls.positions(account).items()]
        return json_response({"account": account, "as_of": orders.as_of, "positions": found})


def add_limits(app: App, service: "RiskService") -> None:
    """Limits: show, tighten, block a symbol."""

    @app.route("GET", "/limits", summary="The limits in force")
    async def limits(request: Request) -> Response:
        return json_response(visible_limits(request, show_book(service.book)))

    @app.route(
        "GET",
        "/limits/history",
        summary="Versions of the limits, newest first",
        query={**LIMIT, "before": "only versions below this one"},
    )
    async def history(request: Request) -> Response:
        most = number(request, "limit", 100)
        before = number(request, "before", 2**62, most=2**62)
        found = [each for each in reversed(service.log.machine.history) if each.version < before]
        cursor = found[most - 1].version if len(found) > most else None
        shown = [
            {"at": time_text(each.ts), "by": each.by, "reason": each.reason}
            | visible_limits(request, show_book(each.limits))
            for each in found[:most]
        ]
        return json_response({"versions": shown, "before": cursor})

    @app.route(
        "POST",
        "/limits/tighten",
        summary="Make limits tighter; `warnings` say which will refuse more than is meant",
        request_schema=TightenInput,
        role="risk",
    )
    async def tighten(request: Request) -> Response:
        body = request.json(TightenInput)
        wanted = Tightening(
            scope=require_scope(request.principal, limit_scope(service, body.scope)),
            limits=named_limits(service, read_limits(body.limits)),
            by=request.principal.name,
            reason=a_reason(body.reason),
            until=read_time(body.until, request.received_ns),
        )
        try:
            book = await service.tighten(wanted)
        except WouldWiden as error:
            raise Problem(409, "would_widen", str(error), field="limits", fields=error.fields) from error
        except BusError as error:
            not_recorded(error)
        return json_response(show_book(book) | {"warnings": service.warnings(book, wanted.scope)})

    @app.route("POST", "/symbols/{symbol}/block", summary="Refuse a symbol", request_schema=ReasonInput, role="risk")
    async def block(request: Request) -> Response:
        instrument = known(service, request.params["symbol"]).instrument_id
        reason = a_reason(request.json(ReasonInput).reason)
        require_scope(request.principal, "stack")
        try:
            return json_response(show_book(await service.block(instrument, request.principal.name, reason)))
        except BusError as error:
            not_recorded(error)

    @app.route("POST", "/symbols/{symbol}/unblock", summary="End a block", request_schema=ReasonInput, role="risk")
    async def unblock(request: Request) -> Response:
        instrument = known(service, request.params["symbol"]).instrument_id
        reason = a_reason(request.json(ReasonInput).reason)
        require_scope(request.principal, "stack")
        try:
            book = await service.unblock(instrument, request.principal.name, reason)
        except BusError as error:
            not_recorded(error)
        if instrument in (book.stack.restricted or []):
            raise Problem(
                409, "restricted_by_manifest", f"the manifest restricts {instrument}; change it there", field="symbol"
            )
        return json_response(show_book(book))


def add_stops(app: App, service: "RiskService") -> None:
    """The kill switch."""

    @app.route(
        "POST",
        "/kill",
        summary="Stop trading in a scope, everywhere, at once",
        request_schema=StopInput,
        role="risk",
        needs_ready=False,
    )
    async def kill(request: Request) -> Response:
        body = request.json(StopInput)
        stop = Killed(
            scope=require_scope(request.principal, stop_scope(service, body.scope)),
            reason=body.reason[:_TEXT_MAX] or "no reason given",
            by=request.principal.name,
            halt=body.halt,
        )
        answer = await service.stops.kill(stop, authorization(request))
        if not any(told["ok"] for told in answer["reached"].values()):
            raise Problem(
                503,
                "kill_not_delivered",
                "neither the order service nor the venue confirmed; it is asked again every second: try them directly",
                retry_after=1,
                **answer,
            )
        return json_response(answer)

    @app.route("POST", "/resume", summary="Release a kill or halt", request_schema=StopInput, role="risk")
    async def resume(request: Request) -> Response:
        body = request.json(StopInput)
        release = Resumed(
            scope=require_scope(request.principal, stop_scope(service, body.scope)),
            reason=a_reason(body.reason),
            by=request.principal.name,
        )
        answer = await service.stops.resume(release, authorization(request))
        if not answer["reached"]["oms"]["ok"]:
            detail = answer.pop("detail")
            raise Problem(503, "resume_not_delivered", f"not released, ask again: {detail}", retry_after=1, **answer)
        return json_response(answer)

    @app.route("GET", "/killed", summary="Kills and halts in force")
    async def killed(request: Request) -> Response:
        found = [
            {
                "scope": stop.scope,
                "halt": stop.halt,
                "reason": stop.reason,
                "by": stop.by,
                "cause": stop.cause,
                "since": time_text(since) if (since := service.stopped_since(scope)) is not None else None,
                "unconfirmed_by": service.stops.unconfirmed(stop.scope),
            }
            for scope, stop in sorted(service.stopped().items())
            if concerns(request, scope)
        ]
        return json_response({"as_of": service.as_of, "killed": found})


def add_alerts(app: App, service: "RiskService") -> None:
    """Alerts: list, acknowledge."""

    @app.route(
        "GET",
        "/alerts",
        summary="Alerts, newest first",
        query={"open": "true: only those that nobody has acknowledged", **PAGE},
    )
    async def alerts(request: Request) -> Response:
        most = number(request, "limit", 100)
        found = [alert for alert in reversed(service.log.machine.alerts.values()) if concerns(request, alert.scope)]
        if request.query.get("open") == "true":
            found = [alert for alert in found if not alert.acknowledged_by]
        cursor = request.query.get("cursor")
        if cursor is not None:
            place = next((place for place, alert in enumerate(found) if alert.alert_id == cursor), None)
            if place is None:
                raise bad_cursor("alert")
            found = found[place + 1 :]
        page = found[:most]
        after = page[-1].alert_id if len(found) > most else None
        return json_response({"alerts": [alert_view(alert) for alert in page], "cursor": after})

    @app.route("POST", "/alerts/{id}/ack", summary="Acknowledge an alert", request_schema=NoteInput, role="risk")
    async def acknowledge(request: Request) -> Response:
        alert = service.log.machine.alerts.get(request.params["id"])
        if alert is None or not concerns(request, alert.scope):
            raise Problem(404, "unknown_alert", f"there is no alert {request.params['id'][:80]!r}")
        note = request.json(NoteInput).note if request.body else ""
        try:
            await service.acknowledge(alert.alert_id, request.principal.name, note[:_TEXT_MAX])
        except BusError as error:
            not_recorded(error)
        return json_response(alert_view(alert))


def concerns(request: Request, scope: str) -> bool:
    """Whether a scope is the business of whoever asks: other people's accounts, strategies and desks are not."""
    kind, _, name = scope.partition(":")
    return (
        kind in ("stack", "instrument", "venue")
        or request.principal.accounts is None
        or (kind == "account" and may_see(request, name))
    )


def visible_limits(request: Request, shown: dict[str, Any]) -> dict[str, Any]:
    """Limits without those of scopes that do not concern whoever asks."""
    if request.principal.accounts is None:
        return shown
    limits = dict(shown["limits"])
    for name in ("strategies", "traders", "desks"):
        limits.pop(name, None)
    if "accounts" in limits:
        limits["accounts"] = {name: each for name, each in limits["accounts"].items() if may_see(request, name)}
    tightened = [each for each in shown["tightened"] if concerns(request, each["scope"])]
    return {**shown, "limits": limits, "tightened": tightened}


def judge(checks: list[Check], as_of: int) -> CheckView:
    """Sum up verdicts: the level says how near the nearest limit would be."""
    broken = next((check for check in checks if not check.passed), None)
    if broken is not None:
        return CheckView(False, "blocked", f"{broken.code}: {broken.message}", checks, as_of)
    nearest = max(checks, key=lambda check: check.used_bps)
    used = nearest.used_bps
    level = "high" if used >= _HIGH_BPS else "medium" if used >= _MEDIUM_BPS else "low"
    reason = f"{nearest.rule} of {nearest.scope} would be used by {used / 100:.0f} %" if used else "no limit is near"
    return CheckView(True, level, reason, checks, as_of)


def read_order(service: "RiskService", order: CheckInput) -> OrderSpec:
    """Return the spec of an order to be checked.

    Raises:
        Problem: 422 with the field and what to do.
    """
    side = order.side.upper()
    if side != "BUY" and side != "SELL":
        raise Problem(422, "bad_side", f"side is buy or sell, not {order.side[:20]!r}", field="side")
    price, stop_price = amount(order.price, "price"), amount(order.stop_price, "stop_price")
    if order.order_type is None:
        order_type = OrderType.LIMIT if price else OrderType.MARKET
    else:
        found = _TYPES.get(order.order_type.upper().replace("_", "").replace("-", ""))
        if found is None:
            raise Problem(422, "bad_order_type", f"order_type is one of {', '.join(OrderType)}", field="order_type")
        order_type = found
    if (order_type in _PRICED) != bool(price):
        needs = "needs a price" if order_type in _PRICED else "has no price"
        raise Problem(422, "bad_price", f"a {order_type} order {needs}", field="price")
    if (order_type in HELD_TYPES) != bool(stop_price):
        needs = "needs a stop_price" if order_type in HELD_TYPES else "has no stop_price"
        raise Problem(422, "bad_stop_price", f"a {order_type} order {needs}", field="stop_price")
    quantity, instrument = amount(order.quantity, "quantity"), known(service, order.symbol)
    require_step(quantity, instrument.lot_size, "off_lot", "quantity")
    require_step(price, instrument.tick_size, "off_tick", "price")
    require_step(stop_price, instrument.tick_size, "off_tick", "stop_price")
    return OrderSpec(
        client_order_id="",
        account=order.account or service.settings.default_account,
        instrument=instrument.instrument_id,
        side=side,
        order_type=order_type,
        quantity=quantity,
        price=price,
        stop_price=stop_price,
        reduce_only=order.reduce_only,
        strategy=order.strategy,
        trader=order.trader,
        desk=order.desk,
        client=order.client,
    )


def require_step(nanos: int, step: int, code: str, field: str) -> None:
    """Refuse what the order service would not even record: an amount between two steps."""
    if nanos % step:
        raise Problem(422, code, f"{field} {to_text(nanos)} is no multiple of {to_text(step)}", field=field)


def amount(value: Amount | None, field: str) -> int:
    """Return a positive amount in nanos, 0 where none was given."""
    if value is None:
        return 0
    if value.error is not None:
        raise Problem(422, value.error.fault, f"{field}: {value.error}", field=field)
    if value <= 0:
        raise Problem(422, "not_positive", f"{field} must be above zero, not {to_text(value)}", field=field)
    return int(value)


def known(service: "RiskService", symbol: str, field: str = "symbol") -> Instrument:
    """Return the instrument of a symbol, or raise the 422 that lists what is known."""
    try:
        return service.instruments.resolve(symbol)
    except UnknownInstrument as error:
        raise Problem(422, "unknown_symbol", str(error), field=field) from error


def limit_scope(service: "RiskService", scope: str) -> str:
    """Return a scope that limits are kept for; an instrument's by its full id."""
    kind, _, name = scope.partition(":")
    good = bool(name) and len(name) <= NAME_MAX and name.isprintable()
    if scope != "stack" and (kind not in LIMIT_SCOPES or not good):
        words = ", ".join(f"{each}:NAME" for each in LIMIT_SCOPES if each != "stack")
        raise Problem(422, "bad_scope", f"scope is stack, {words}", field="scope")
    return f"instrument:{known(service, name).instrument_id}" if kind == "instrument" else scope


def stop_scope(service: "RiskService", scope: str) -> str:
    """Return a scope that can be stopped; an instrument's by its full id."""
    try:
        return resolve_scope(scope, service.instruments, service.stopped())
    except BadScope as error:
        raise Problem(422, "bad_scope", str(error), field="scope") from error


def named_limits(service: "RiskService", limits: LimitSet) -> LimitSet:
    """Return limits whose lists name instruments by their full ids.

    Raises:
        Problem: 422 for what this stack does not have: a typo would restrict nothing.
    """
    found: dict[str, Any] = {}
    for field in ("allowed_instruments", "restricted"):
        names = getattr(limits, field)
        if names is not None:
            found[field] = sorted({known(service, name, f"limits.{field}").instrument_id for name in names})
    venues = {instrument.venue for instrument in service.instruments.by_id.values()}
    for name in limits.allowed_venues or ():
        if name not in venues:
            detail = f"{name!r} is no venue of this stack; it has {', '.join(sorted(venues))}"
            raise Problem(422, "unknown_venue", detail, field="limits.allowed_venues")
    return msgspec.structs.replace(limits, **found)


def a_reason(text: str) -> str:
    """Return the reason of a change; nobody changes limits without one."""
    if not text.strip():
        raise Problem(422, "missing_field", "say why: give a reason", field="reason")
    return text[:_TEXT_MAX]


def authorization(request: Request) -> str:
    """The caller's own key, to act on its behalf elsewhere."""
    return request.headers.get(b"authorization", b"").decode("latin-1")


def not_recorded(error: BusError) -> NoReturn:
    """Say that a change may not have been recorded."""
    raise Problem(503, "not_recorded", f"the change is not confirmed: {error}", retry_after=1) from error


def alert_view(alert: Alert) -> dict[str, Any]:
    """Show an alert."""
    return {
        "id": alert.alert_id,
        "at": time_text(alert.ts),
        "severity": alert.severity,
        "scope": alert.scope,
        "message": alert.message,
        "acknowledged_by": alert.acknowledged_by or None,
        "note": alert.note,
    }
