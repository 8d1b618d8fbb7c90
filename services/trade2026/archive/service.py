"""The archive: follows `orders.events`, `venue.reports`, `positions`, `pnl` and `exeq.events`, all partitions; owns
`history.db` (of another partition `history-3.db`) and the snapshots of the order log.

What it promises: every event is in the history exactly once, whatever is killed when; closed orders stay for
at least seven days; a snapshot of the order log is never ahead of the history.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

import msgspec

from trade2026.archive import api
from trade2026.archive.integrity import Integrity
from trade2026.archive.keeper import ORDERS, HistoryKeeper
from trade2026.archive.log_archiver import LogArchiver
from trade2026.archive.spans import WAIT_NS, OrderSpans
from trade2026.archive.traces import Traces
from trade2026.kit import tracing
from trade2026.kit.bus.archived import ArchivedBus
from trade2026.kit.followers import AsOf, as_of, health_of
from trade2026.kit.history import Histories
from trade2026.kit.http import App
from trade2026.kit.lag import Followed
from trade2026.kit.service import Context, Health, Service
from trade2026.stack.facts import TOPICS

OWNERS = {topic.name: topic.owner for topic in TOPICS}
_HOUSEKEEPING_SECONDS = 1.0
_EXPORT_SECONDS = 0.25
_DAY = 86_400 * 10**9


class ArchiveConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`config` of the service."""

    retention_days: int = 30
    """How long closed orders are kept, and their client order ids known; at least 7."""
    log_after_ns: int = 0
    """How long a record stays in the log before it moves to the lake; 0: for ever. Of `spec.bus.archiveAfter`."""


class ArchiveService(Service):
    """Order history, traces, snapshots."""

    name = "archive"
    title = "Order history"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        settings = self.settings
        self._spans = OrderSpans(since_ns=context.clock.now())
        self.keepers = [
            HistoryKeeper(context, partition, self._spans) for partition in range(settings.partitions(ORDERS))
        ]
        self.history = Histories([keeper.reader for keeper in self.keepers])
        partitions = {topic.name: topic.partitions for topic in settings.topics}
        self.traces = Traces(context.bus, self.history, partitions)
        config = msgspec.convert(settings.config.get(self.name, {}), ArchiveConfig, strict=False)
        self.retention_ns = config.retention_days * _DAY
        durable = {topic.name: topic.partitions for topic in settings.topics if topic.durable}
        self.integrity = Integrity(context.bus, durable)
        self.log_archiver = self._make_log_archiver(config.log_after_ns)
        self._tasks: list[asyncio.Task[None]] = []

    def _make_log_archiver(self, after_ns: int) -> LogArchiver | None:
        if not after_ns:
            return None
        bus, context = self.context.bus, self.context
        assert isinstance(bus, ArchivedBus), "a process opens its bus with what it has dropped behind it"
        partitions = {topic: self.settings.partitions(topic) for topic in sorted(bus.topics)}
        return LogArchiver(bus, context.clock, context.metrics, self.settings.state, partitions, after_ns)

    def routes(self, app: App) -> None:
        api.add_routes(app, self)

    async def start(self) -> None:
        for keeper in self.keepers:
            await keeper.start()
        self._tasks = [asyncio.ensure_future(self._scrub()), asyncio.ensure_future(self._keep_house())]
        if self.log_archiver is not None:
            self._tasks.append(asyncio.ensure_future(self.log_archiver.run()))
        if tracing.is_on():
            self._tasks.append(asyncio.ensure_future(self._export_spans()))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for keeper in self.keepers:
            await keeper.stop()
        self._export(self.context.clock.now() + WAIT_NS)

    async def _scrub(self) -> None:
        """Look for damage: in the durable logs all the time, in the history once a round."""
        rounds = asyncio.ensure_future(self.integrity.run())
        try:
            while True:
                await asyncio.sleep(self.integrity.round_seconds)
                for keeper in self.keepers:
                    await keeper.look_for_damage()
        finally:
            rounds.cancel()

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(_HOUSEKEEPING_SECONDS)
            for keeper in self.keepers:
                await keeper.tidy_up(self.context.clock.now() - self.retention_ns)

    async def _export_spans(self) -> None:
        """Make spans of what has been read, a moment after it happened."""
        while True:
            await asyncio.sleep(_EXPORT_SECONDS)
            self._export(self.context.clock.now())

    def _export(self, now_ns: int) -> None:
        for step in self._spans.due(now_ns):
            attributes = {"order.id": step.order_id, "event.id": step.event_id, "event.type": step.event_type}
            tracing.span(
                step.name,
                f"00-{step.trace_id}-{step.parent_id}-01",
                step.start_ns,
                step.end_ns,
                attributes,
                step.error,
                own=f"00-{step.trace_id}-{step.span_id}-01",
                service=OWNERS[step.topic],
            )

    @property
    def as_of(self) -> AsOf:
        """Position of the newest order event in the history; -1 before the first."""
        return as_of([keeper.machine.fold.next_seq for keeper in self.keepers])

    def readiness(self) -> tuple[bool, str]:
        behind = next((keeper for keeper in self.keepers if not keeper.ready), None)
        return (True, "ready") if behind is None else (False, behind.detail)

    def replaced(self) -> str:
        return _first(keeper.replaced for keeper in self.keepers)

    def followed(self) -> Iterable[Followed]:
        return [follower for keeper in self.keepers for follower in keeper.followers.values()]

    def health(self) -> dict[str, Health]:
        checks = health_of(follower for keeper in self.keepers for follower in keeper.followers.values())
        write_error = _first(keeper.write_error for keeper in self.keepers)
        snapshot_error = _first(keeper.snapshot_error for keeper in self.keepers)
        checks["history"] = Health(not write_error, write_error or _first(keeper.damage for keeper in self.keepers))
        checks["snapshots"] = Health(not snapshot_error, snapshot_error)
        checks["integrity"] = Health(not self.integrity.faults, self.integrity.summary)
        if self.log_archiver is not None:
            checks["log_archive"] = self.log_archiver.health()
        checks["disk"] = self.disk()
        return checks

    def stats(self) -> dict[str, Any]:
        return {
            "orders": sum(keeper.orders for keeper in self.keepers),
            "open_orders": sum(len(keeper.machine.fold.open) for keeper in self.keepers),
            "as_of": self.as_of,
            "spans_dropped": self._spans.dropped,
            "lag": sum(follower.lag for keeper in self.keepers for follower in keeper.followers.values()),
            "snapshot_as_of": as_of([keeper.snapshot_seq for keeper in self.keepers]),
            "integrity_rounds": self.integrity.rounds,
            "log": self.log_archiver.summary() if self.log_archiver is not None else {},
        }


def _first(said: Iterable[str]) -> str:
    """What is said of the first partition of which anything is."""
    return next(filter(None, said), "")
