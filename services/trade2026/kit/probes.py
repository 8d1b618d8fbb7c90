"""The endpoints that every service has: who it is, whether it lives, is ready and well, and its numbers."""

import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from trade2026 import __version__
from trade2026.kit import docs_page, metrics
from trade2026.kit.http import App, Problem, Request, Response, json_response
from trade2026.kit.metrics import Metrics
from trade2026.kit.parameters import Parameters
from trade2026.kit.service import Health, Service

STALLED_SECONDS = 5.0
"""An event loop that has not turned for so long is not alive."""


class Heartbeat:
    """When the event loop last turned, and how late it then was; in seconds."""

    def __init__(self) -> None:
        self.beaten_at = time.monotonic()
        self.lag = 0.0

    def beat(self, due_at: float) -> None:
        """The loop turned for something that was due at `due_at` on the monotonic clock."""
        self.beaten_at = time.monotonic()
        self.lag = max(0.0, self.beaten_at - due_at)

    @property
    def age(self) -> float:
        """Seconds since the last beat."""
        return time.monotonic() - self.beaten_at


class Lifecycle:
    """Where one service is between its birth and its end.

    Args:
        peers: How the services are that it depends on; that shows in `/health` and never in readiness.
        lags: How far it is behind in each partition that it follows.
        process: The lives of all services of its process.
    """

    def __init__(
        self,
        service: Service,
        peers: Callable[[], dict[str, Health]] = dict,
        lags: Callable[[], dict[str, dict[str, float]]] = dict,
        process: "Callable[[], Iterable[Lifecycle]] | None" = None,
    ) -> None:
        self.service, self.lags, self._peers = service, lags, peers
        self.process = process or (lambda: [self])
        self.born_at = time.monotonic()
        self.started = False
        self.draining = False

    def not_ready(self) -> str:
        """Why it can't answer; empty while it can."""
        if self.draining:
            return "the service is stopping"
        ready, detail = self.service.readiness()
        if not self.started:
            return f"starting: {detail}" if detail and not ready else "starting"
        return "" if ready else detail or "not ready"

    def checks(self) -> dict[str, Health]:
        """Every dependency, and whether the service itself has started."""
        reason = self.not_ready()
        checks = {"ready": Health(not reason, reason)}
        try:
            checks.update(self.service.health())
        except Exception as error:
            checks["health"] = Health(False, f"can't be told: {type(error).__name__}: {error}")
        return checks | self._peers()


class CheckView(msgspec.Struct):
    """One dependency."""

    status: str
    detail: str


class HealthView(msgspec.Struct):
    """`status` is `ok`, or `degraded` if any check is not `ok`."""

    status: str
    checks: dict[str, CheckView]


class ProbeView(msgspec.Struct):
    """Answer of a probe: `status` is `ok`, or `failed` for the reason in `detail`."""

    status: str
    detail: str = ""
    service: str = ""
    version: str = __version__


class ServiceView(msgspec.Struct):
    """A service at a glance."""

    name: str
    title: str
    version: str
    uptime_seconds: float
    links: dict[str, str]


_LINKS = ("/health", "/livez", "/readyz", "/startupz", "/metrics", "/stats", "/docs", "/openapi.json")
_HOW_IT_IS = (200, 503)


def add_standard_routes(app: App, life: Lifecycle, heartbeat: Heartbeat, registry: Metrics) -> None:
    """Declare them; they answer before the service has started, and to everyone."""
    add_probes(app, life, heartbeat)
    add_reports(app, life, registry)


_OF: Parameters = {"of": "process: of all services that share the service's process, as a pod is asked"}


def add_probes(app: App, life: Lifecycle, heartbeat: Heartbeat) -> None:
    """Liveness, readiness, start-up; the last two also of a process with all of its services."""

    def asked(request: Request) -> list[Lifecycle]:
        of = request.query.get("of")
        if of not in (None, "process"):
            raise Problem(422, "bad_parameter", f"of is process, or left out, not {of[:80]!r}", field="of")
        return [life] if of is None else list(life.process())

    @app.route(
        "GET", "/livez", summary="Does the event loop turn?", role=None, needs_ready=False,
        response_schema=ProbeView, statuses=_HOW_IT_IS,
    )  # fmt: skip
    async def livez(request: Request) -> Response:
        age = heartbeat.age
        return _probe(life, f"the event loop has not turned for {age:.1f} s" if age > STALLED_SECONDS else "")

    @app.route(
        "GET", "/readyz", summary="Can it answer?", role=None, needs_ready=False,
        response_schema=ProbeView, statuses=_HOW_IT_IS, query=_OF,
    )  # fmt: skip
    async def readyz(request: Request) -> Response:
        return _probe(life, _told(asked(request), Lifecycle.not_ready))

    @app.route(
        "GET", "/startupz", summary="Has it recovered its state?", role=None, needs_ready=False,
        response_schema=ProbeView, statuses=_HOW_IT_IS, query=_OF,
    )  # fmt: skip
    async def startupz(request: Request) -> Response:
        return _probe(life, _told(asked(request), lambda one: "" if one.started else one.not_ready()))


def add_reports(app: App, life: Lifecycle, registry: Metrics) -> None:
    """Who it is, how it is, its numbers."""
    service = life.service
    registry.gauge(
        "trade2026_lag_events",
        "Events that are in the log and that the service has not folded yet",
        lambda: _lag(life),
        service=service.name,
    )

    registry.merged(
        "trade2026_request_seconds",
        "From head to answer, over all routes but probes; what another replica has sent on is counted by that one",
        lambda: (route.latency for route in app.routes if route.role),
        service=service.name,
    )

    registry.counted(
        "trade2026_request_errors_total",
        "Of those, answered that the service can't (5xx)",
        lambda: sum(route.errors for route in app.routes if route.role),
        service=service.name,
    )

    @app.route("GET", "/", summary="Name, version, links", role=None, needs_ready=False, response_schema=ServiceView)
    async def root(request: Request) -> Response:
        links = {link.strip("/"): link for link in _LINKS}
        return json_response(ServiceView(service.name, service.title, __version__, _uptime(life), links))

    @app.route(
        "GET", "/health", summary="Each dependency and why; 503 if one is not well", role=None, needs_ready=False,
        response_schema=HealthView, statuses=_HOW_IT_IS,
    )  # fmt: skip
    async def health(request: Request) -> Response:
        checks = life.checks()
        ok = all(check.ok for check in checks.values())
        view = HealthView(
            "ok" if ok else "degraded",
            {name: CheckView("ok" if check.ok else "failed", check.detail) for name, check in checks.items()},
        )
        return json_response(view, 200 if ok else 503)

    @app.route("GET", "/stats", summary="Counters that a person wants to see", role=None, needs_ready=False)
    async def stats(request: Request) -> Response:
        return json_response(
            {
                "service": service.name,
                "version": __version__,
                "uptime_seconds": _uptime(life),
                "ready": not life.not_ready(),
                "requests": _requests(app),
                "follows": life.lags(),
            }
            | _own_stats(service)
        )

    @app.route(
        "GET", "/docs", summary="This service's endpoints, to read and to try", role=None, needs_ready=False,
        produces=("text/html",),
    )  # fmt: skip
    async def docs(request: Request) -> Response:
        return docs_page.page()

    @app.route(
        "GET", "/metrics", summary="OpenMetrics", role=None, needs_ready=False, produces=(metrics.CONTENT_TYPE.partition(";")[0],)
    )  # fmt: skip
    async def show_metrics(request: Request) -> Response:
        return Response(registry.text(service.name).encode(), content_type=metrics.CONTENT_TYPE)


def _told(lives: list[Lifecycle], failure: Callable[[Lifecycle], str]) -> str:
    """Why not: the one's reason, or those of each of several."""
    reasons = {one.service.name: reason for one in lives if (reason := failure(one))}
    return "; ".join(reasons.values() if len(lives) == 1 else (f"{name}: {why}" for name, why in reasons.items()))


def _probe(life: Lifecycle, failure: str) -> Response:
    view = ProbeView("failed" if failure else "ok", failure, life.service.name)
    return json_response(view, 503 if failure else 200)


def _lag(life: Lifecycle) -> float:
    """How far a service is behind what it follows; 0 for one that follows nothing."""
    return life.service.stats().get("lag", 0) if life.started else 0


def _uptime(life: Lifecycle) -> float:
    return round(time.monotonic() - life.born_at, 3)


def _requests(app: App) -> int:
    """Of the service's own routes: probes are not what a person counts."""
    return sum(answers.value for route in app.routes if route.role for answers in route.answers.values())


def _own_stats(service: Service) -> dict[str, Any]:
    try:
        return service.stats()
    except Exception as error:
        raise Problem(503, "no_stats", f"can't be told: {type(error).__name__}: {error}", retry_after=1) from error
