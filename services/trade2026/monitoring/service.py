"""The watch over the stack: asks every planned service how it is, and owns `monitoring/` with what it has seen.

What it promises: a service that is not ready for 30 s, or whose error budget burns too fast, is an alert within a
look and in the timeline of an incident; what was counted, and what was open, outlives a restart. It looks from
outside, over HTTP, and reads no topic: a stack that can't write its log is still watched.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from trade2026 import __version__
from trade2026.domain.replicas import service_of
from trade2026.kit.http import App
from trade2026.kit.projection import snapshot_directory
from trade2026.kit.service import Context, Health, Service
from trade2026.kit.snapshots import SnapshotStore
from trade2026.monitoring import api
from trade2026.monitoring.machine import Monitor, Watched
from trade2026.monitoring.scrape import look_at
from trade2026.stack.facts import BAD_REQUESTS_MIN, BURN_ALERTS, NOT_READY_SECONDS, SERVICES, UNWELL_SECONDS, Slo

log = logging.getLogger(__name__)

_SAVE_SECONDS = 60.0
_START_SECONDS = 20.0
"""Others start beside it: before this they are not judged."""


class MonitoringConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The service's `config` in the manifest."""

    look_seconds: float = 5.0
    """Between two looks at the health of a service."""
    scrape_seconds: float = 20.0
    """Between two looks at its metrics."""


class MonitoringService(Service):
    """Health and service levels of the whole stack."""

    name = "monitoring"
    title = "Health and service levels"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.config = msgspec.convert(self.settings.config.get(self.name, {}), MonitoringConfig, strict=False)
        self.monitor = Monitor(
            BURN_ALERTS,
            bad_min=BAD_REQUESTS_MIN,
            not_ready_seconds=NOT_READY_SECONDS,
            unwell_seconds=UNWELL_SECONDS,
        )
        self._store = SnapshotStore(snapshot_directory(self.settings.state, self.name), self.name)
        self._tasks: list[asyncio.Task[None]] = []
        self._shown: set[str] = set()
        self._looks = context.metrics.counter(
            "trade2026_monitoring_looks_total", "Services that were looked at", service=self.name
        )
        for severity in ("page", "ticket"):
            context.metrics.gauge(
                "trade2026_alerts", "Alerts that last", lambda s=severity: self._count(s), severity=severity
            )

    def routes(self, app: App) -> None:
        api.add_routes(app, self)

    async def start(self) -> None:
        self._watch()
        self._store.restore(self.monitor.restore)
        self._tasks = [
            asyncio.create_task(self._look_around(), name="watch over the stack"),
            asyncio.create_task(self._save_often(), name="saving what was seen"),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tasks:
            await self._save()

    def health(self) -> dict[str, Health]:
        unreadable = "; ".join(f"{name}: {reason}" for name, reason in self._store.unreadable.items())
        ended = {
            task.get_name(): Health(False, f"it has ended: {task.exception()!r}")
            for task in self._tasks
            if task.done() and not task.cancelled()
        }
        return {"snapshots": Health(not unreadable, unreadable), "disk": self.disk(), **ended}

    def stats(self) -> dict[str, Any]:
        return {
            "services": len(self.monitor.services),
            "looks": self._looks.value,
            "pages": self._count("page"),
            "tickets": self._count("ticket"),
            "incidents_open": sum(not incident.ended for incident in self.monitor.incidents),
        }

    def _count(self, severity: str) -> int:
        return sum(alert.severity == severity for alert in self.monitor.alerts.values())

    def _watch(self) -> None:
        """Watch what is planned now: `apply` may have changed it."""
        slos: dict[str, Slo] = {
            name: SERVICES[service].slo for name in self._planned() if (service := service_of(name)) in SERVICES
        }
        self.monitor.watch(slos, self.context.clock.now())
        for name in slos.keys() - self._shown:
            self._shown.add(name)
            self._show(name)

    def _show(self, name: str) -> None:
        metrics, monitor = self.context.metrics, self.monitor

        def watched(number: Callable[[Watched], int], gone: int) -> float:
            found = monitor.services.get(name)
            return number(found) if found is not None else gone  # not planned any more: nobody is to be paged

        metrics.gauge(
            "trade2026_monitored_ready",
            "Whether a service is ready",
            lambda: watched(_ready, 1),
            of=name,
            service=self.name,
        )
        metrics.gauge(
            "trade2026_monitored_unwell_checks",
            "Checks of a service's health that fail",
            lambda: watched(_unwell, 0),
            of=name,
            service=self.name,
        )

    def _planned(self) -> Iterable[str]:
        """The services that run, as the runner says; where nobody says it, all of them."""
        try:
            found = json.loads((self.settings.state / "run" / "stack.json").read_bytes())["releases"]
            return [name for services in found.values() for name in services]
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            return list(self.monitor.services) or [name for name in self.settings.ports if service_of(name) in SERVICES]

    async def _look_around(self) -> None:
        """One service after the other, spread over the time between two looks: never all at once."""
        loop = asyncio.get_running_loop()
        scraped: dict[str, float] = {}
        began = loop.time()
        while True:
            self._watch()
            names = list(self.monitor.services)
            pause = self.config.look_seconds / max(1, len(names))
            for name in names:
                due = loop.time() - scraped.get(name, -1e9) >= self.config.scrape_seconds
                if due:
                    scraped[name] = loop.time()
                await self._look(name, with_metrics=due, early=loop.time() - began < _START_SECONDS)
                await asyncio.sleep(pause)

    async def _look(self, name: str, *, with_metrics: bool, early: bool) -> None:
        under = SERVICES[service_of(name)].slo.under_ms / 1000
        try:
            look = await look_at(self.settings.url(name), under, with_metrics=with_metrics)
            self._looks.inc()
            if not (early and not look.ready):
                self.monitor.saw(name, look, self.context.clock.now())
        except Exception as error:
            log.exception("%s could not be looked at: %s", name, error)

    async def _save_often(self) -> None:
        while True:
            await asyncio.sleep(_SAVE_SECONDS)
            await self._save()

    async def _save(self) -> None:
        now = self.context.clock.now()
        try:
            await asyncio.to_thread(self._store.write, self.monitor.snapshot(), now, __version__)
        except OSError as error:
            log.warning("what was seen is not saved: %s", error)
            self._store.unreadable["newest"] = f"not written: {error}"
        else:
            self._store.unreadable.pop("newest", None)


def _ready(watched: Watched) -> int:
    return int(watched.look.ready)


def _unwell(watched: Watched) -> int:
    return len(watched.look.unwell)
