"""What the watch has seen, over HTTP (port 8116): for programs, and on a page for people."""

from typing import TYPE_CHECKING, Any

import msgspec

from trade2026.kit.http import App, Request, Response, json_response
from trade2026.kit.parameters import LIMIT
from trade2026.kit.queries import number
from trade2026.kit.views import time_text
from trade2026.monitoring.machine import Alert, Incident, Watched
from trade2026.monitoring.page import page
from trade2026.stack.facts import BURN_ALERTS

if TYPE_CHECKING:
    from trade2026.monitoring.service import MonitoringService

_WINDOWS = sorted({window for alert in BURN_ALERTS for window in (alert.long_seconds, alert.short_seconds)})


class WatchedView(msgspec.Struct):
    """A service as it was seen last."""

    service: str
    ready: bool
    detail: str
    unwell: dict[str, str]
    looked_at: str
    restarts_seen: int
    alerts: int


class SloView(msgspec.Struct):
    """An objective: `budget_left` is 1 when nothing was used, below 0 when it is missed; `burn` by window."""

    service: str
    slo: str
    objective: float
    under_ms: float | None
    window_days: int
    requests: int
    bad: int
    budget_left: float
    burn: dict[str, float]


class AlertView(msgspec.Struct):
    """Something that a person must see: `page` at once, `ticket` in working hours."""

    service: str
    severity: str
    what: str
    since: str


class MomentView(msgspec.Struct):
    """A line of a timeline."""

    time: str
    what: str


class IncidentView(msgspec.Struct):
    """From the first alert of a service to the end of its last; `ended` is empty while it lasts."""

    id: int
    service: str
    severity: str
    why: str
    began: str
    ended: str
    timeline: list[MomentView]


def add_routes(app: App, service: "MonitoringService") -> None:
    """Every endpoint of the watch."""

    @app.route("GET", "/services", summary="Every service as it was seen last")
    async def services(request: Request) -> Response:
        return json_response({"services": service_views(service)})

    @app.route("GET", "/slos", summary="Objectives, error budgets and burn rates of every service")
    async def slos(request: Request) -> Response:
        now = service.context.clock.now() // 10**9
        found = [view for watched in service.monitor.services.values() for view in slo_views(watched, now)]
        return json_response({"slos": found})

    @app.route("GET", "/alerts", summary="Alerts that last")
    async def alerts(request: Request) -> Response:
        return json_response({"alerts": list(map(alert_view, service.monitor.alerts.values()))})

    @app.route("GET", "/incidents", summary="What began, ended and why, newest first", query=LIMIT)
    async def incidents(request: Request) -> Response:
        newest = list(reversed(service.monitor.incidents))[: number(request, "limit", 50)]
        return json_response({"incidents": list(map(incident_view, newest))})

    @app.route("GET", "/page", summary="All of it on one page", role=None, produces=("text/html",))
    async def show_page(request: Request) -> Response:
        return page()


def service_views(service: "MonitoringService") -> list[WatchedView]:
    """Show every service."""
    alerts = service.monitor.alerts.values()
    return [
        WatchedView(
            watched.name,
            watched.look.ready and bool(watched.looked_at),
            watched.look.detail if watched.looked_at else "not looked at yet",
            watched.look.unwell,
            time_text(watched.looked_at),
            watched.restarts,
            sum(alert.service == watched.name for alert in alerts),
        )
        for watched in service.monitor.services.values()
    ]


def slo_views(watched: Watched, now_seconds: int) -> list[SloView]:
    """Show the objectives of a service."""
    found: list[SloView] = []
    for slo, budget in watched.budgets.items():
        total, bad = budget.sums(now_seconds, budget.window_seconds)
        found.append(
            SloView(
                service=watched.name,
                slo=slo,
                objective=budget.objective,
                under_ms=watched.slo.under_ms if slo == "latency" else None,
                window_days=watched.slo.window_days,
                requests=total,
                bad=bad,
                budget_left=round(budget.left(now_seconds), 4),
                burn={str(window): round(budget.burn(now_seconds, window), 3) for window in _WINDOWS},
            )
        )
    return found


def alert_view(alert: Alert) -> AlertView:
    """Show an alert."""
    return AlertView(alert.service, alert.severity, alert.what, time_text(alert.since))


def incident_view(incident: Incident) -> IncidentView:
    """Show an incident."""
    made: dict[str, Any] = {name: getattr(incident, name) for name in ("id", "service", "severity", "why")}
    timeline = [MomentView(time_text(moment.ts), moment.what) for moment in incident.timeline]
    return IncidentView(began=time_text(incident.began), ended=time_text(incident.ended), timeline=timeline, **made)
