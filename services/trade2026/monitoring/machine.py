"""What of the stack is unwell: from what services say of themselves to burn rates, alerts and incidents.

Pure: time comes with each look. The same objectives and thresholds are in the Prometheus rules (`rules`).
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import msgspec

from trade2026.monitoring.budget import Budget

INCIDENTS_MAX = 200
TIMELINE_MAX = 100
LATENCY, ANSWERS = "latency", "answers"
_NS = 10**9


class Objectives(Protocol):
    """A service's objectives, as its facts have them."""

    @property
    def objective(self) -> float: ...
    @property
    def answers(self) -> float: ...
    @property
    def under_ms(self) -> float: ...
    @property
    def window_days(self) -> int: ...


class Burning(Protocol):
    """When a burn rate is an alert, as the facts have it."""

    @property
    def severity(self) -> str: ...
    @property
    def rate(self) -> float: ...
    @property
    def long_seconds(self) -> int: ...
    @property
    def short_seconds(self) -> int: ...


class Counts(msgspec.Struct, frozen=True):
    """What a service has counted since it started: requests, those that were slow, and those answered with 5xx."""

    requests: int
    slow: int
    failed: int


class Look(msgspec.Struct, frozen=True):
    """What one look at a service has shown. `counts` is None if its metrics were not asked for, or not had."""

    ready: bool
    unwell: dict[str, str] = {}
    """Of `/health`: what is not well, and why."""
    detail: str = ""
    counts: Counts | None = None


class Alert(msgspec.Struct, frozen=True):
    """Something that a person must see. `key` names it while it lasts."""

    key: str
    service: str
    severity: str
    what: str
    since: int


class Moment(msgspec.Struct, frozen=True):
    """A line of an incident's timeline."""

    ts: int
    what: str


class Incident(msgspec.Struct):
    """From the first alert of a service to the end of its last. `severity` is the worst that it had."""

    id: int
    service: str
    severity: str
    why: str
    began: int
    ended: int = 0
    timeline: list[Moment] = []

    def tell(self, ts: int, what: str) -> None:
        """Add a line; the last one that there is room for says so."""
        if len(self.timeline) < TIMELINE_MAX:
            self.timeline.append(Moment(ts, what if len(self.timeline) < TIMELINE_MAX - 1 else "and more of it"))


class Watched:
    """One service."""

    def __init__(self, name: str, slo: Objectives) -> None:
        self.name, self.slo = name, slo
        self.look = Look(True)
        self.looked_at = 0
        self.budgets = {
            LATENCY: Budget(slo.objective, slo.window_days),
            ANSWERS: Budget(slo.answers, slo.window_days),
        }
        self.not_ready_since = 0
        self.unwell_since = 0
        self.restarts = 0


class Kept(msgspec.Struct):
    """What outlives a restart: counts by the hour and the minute, alerts that last, incidents."""

    budgets: dict[str, dict[str, list[tuple[int, int, int]]]]
    alerts: list[Alert]
    incidents: list[Incident]
    next_id: int


class Monitor:
    """All services.

    Args:
        burn_alerts: When a burn rate is an alert.
        bad_min: Bad requests in the long window below which none is.
        not_ready_seconds, unwell_seconds: How long something lasts before it is an alert.
    """

    def __init__(
        self, burn_alerts: Sequence[Burning], *, bad_min: int, not_ready_seconds: float, unwell_seconds: float
    ) -> None:
        self.burn_alerts, self.bad_min = burn_alerts, bad_min
        self.not_ready_ns, self.unwell_ns = int(not_ready_seconds * _NS), int(unwell_seconds * _NS)
        self.services: dict[str, Watched] = {}
        self.alerts: dict[str, Alert] = {}
        self.incidents: deque[Incident] = deque(maxlen=INCIDENTS_MAX)
        self._open: dict[str, Incident] = {}
        self._next_id = 1

    def watch(self, slos: Mapping[str, Objectives], ts: int) -> None:
        """From now on these are the services of the stack: what is not planned any more is no incident."""
        for name in self.services.keys() - slos.keys():
            del self.services[name]
            for alert in [alert for alert in self.alerts.values() if alert.service == name]:
                self._ends(alert, ts, "it is not planned any more")
        for name, slo in slos.items():
            if name not in self.services:
                self.services[name] = Watched(name, slo)

    def saw(self, name: str, look: Look, ts: int) -> None:
        """Take a look at a service, and see what begins and ends with it."""
        watched = self.services.get(name)
        if watched is None:
            return
        watched.look, watched.looked_at = look, ts
        watched.not_ready_since = 0 if look.ready else watched.not_ready_since or ts
        watched.unwell_since = 0 if look.ready and not look.unwell else watched.unwell_since or ts
        if look.counts is not None:
            self._count(watched, look.counts, ts)
        found = {alert.key: alert for alert in self._found(watched, ts)}
        for key, alert in found.items():
            if key not in self.alerts:
                self._begins(alert, ts)
        for alert in [alert for alert in self.alerts.values() if alert.service == name and alert.key not in found]:
            self._ends(alert, ts, "is over")
        self._close(name, ts)

    def _count(self, watched: Watched, counts: Counts, ts: int) -> None:
        now = ts // _NS
        again = watched.budgets[LATENCY].observe(now, counts.requests, counts.slow)
        watched.budgets[ANSWERS].observe(now, counts.requests, counts.failed)
        if again:
            watched.restarts += 1
            if incident := self._open.get(watched.name):
                incident.tell(ts, f"{watched.name} has started again")

    def _found(self, watched: Watched, ts: int) -> Iterator[Alert]:
        name, look = watched.name, watched.look
        if watched.not_ready_since and ts - watched.not_ready_since >= self.not_ready_ns:
            yield Alert(_not_ready(name), name, "page", f"not ready: {look.detail}", ts)
        elif watched.unwell_since and ts - watched.unwell_since >= self.unwell_ns:
            why = "; ".join(f"{check}: {detail}" for check, detail in look.unwell.items()) or look.detail
            yield Alert(_unwell(name), name, "ticket", f"unwell: {why}", ts)
        for slo, budget in watched.budgets.items():
            for burning in self.burn_alerts:
                if (rate := self._burns(budget, burning, ts)) is not None:
                    key = f"{name} {slo} burns {burning.rate:g} over {burning.long_seconds}"
                    hours = burning.long_seconds // 3_600
                    what = f"{slo}: the error budget burns {rate:.1f} times too fast (over {hours} h)"
                    yield Alert(key, name, burning.severity, what, ts)

    def _burns(self, budget: Budget, burning: Burning, ts: int) -> float | None:
        now = ts // _NS
        long = budget.burn(now, burning.long_seconds)
        if long <= burning.rate or budget.burn(now, burning.short_seconds) <= burning.rate:
            return None
        return long if budget.sums(now, burning.long_seconds)[1] >= self.bad_min else None

    def _begins(self, alert: Alert, ts: int) -> None:
        self.alerts[alert.key] = alert
        incident = self._open.get(alert.service)
        if incident is None:
            incident = Incident(self._next_id, alert.service, alert.severity, alert.what, ts)
            self._next_id += 1
            self.incidents.append(incident)
            self._open[alert.service] = incident
        elif alert.severity == "page":
            incident.severity = "page"
        incident.tell(ts, f"{alert.severity}: {alert.what}")

    def _ends(self, alert: Alert, ts: int, why: str) -> None:
        del self.alerts[alert.key]
        if incident := self._open.get(alert.service):
            incident.tell(ts, f"{why}: {alert.what}")
        self._close(alert.service, ts)

    def _close(self, service: str, ts: int) -> None:
        """End the incident of a service that has no alert any more."""
        if service in self._open and all(alert.service != service for alert in self.alerts.values()):
            self._open.pop(service).ended = ts

    def snapshot(self) -> bytes:
        """What outlives a restart."""
        budgets = {
            name: {
                f"{slo} {ring.step_seconds}": list(ring.filled())
                for slo, budget in watched.budgets.items()
                for ring in (budget.fine, budget.coarse)
            }
            for name, watched in self.services.items()
        }
        return msgspec.json.encode(Kept(budgets, list(self.alerts.values()), list(self.incidents), self._next_id))

    def restore(self, snapshot: bytes) -> None:
        """Go on from a snapshot; services that are not watched are left out."""
        kept = msgspec.json.decode(snapshot, type=Kept)
        for name, rings in kept.budgets.items():
            if (watched := self.services.get(name)) is None:
                continue
            for slo, budget in watched.budgets.items():
                for ring in (budget.fine, budget.coarse):
                    for step, total, bad in rings.get(f"{slo} {ring.step_seconds}", ()):
                        ring.add(step * ring.step_seconds, total, bad)
        self.incidents.extend(kept.incidents)
        self._next_id = kept.next_id
        for incident in self.incidents:
            if not incident.ended and incident.service in self.services:
                self._open[incident.service] = incident
            elif not incident.ended:
                incident.ended = incident.timeline[-1].ts
        self.alerts = {alert.key: alert for alert in kept.alerts if alert.service in self._open}
        for watched in self.services.values():  # what has lasted long enough goes on: it does not begin again
            if alert := self.alerts.get(_not_ready(watched.name)):
                watched.not_ready_since = alert.since - self.not_ready_ns
            if alert := self.alerts.get(_unwell(watched.name)):
                watched.unwell_since = alert.since - self.unwell_ns


def _not_ready(service: str) -> str:
    return f"{service} not ready"


def _unwell(service: str) -> str:
    return f"{service} unwell"
