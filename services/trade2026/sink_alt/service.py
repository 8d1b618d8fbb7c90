"""Alternative data: owns `alt.records`, and follows it into the lake, and into the analytics store if there is one.

What it promises: a record that was acknowledged is durable, and is in the lake exactly once, whatever is killed when;
one that does not fit is in quarantine with the reason; an answer as of a time has nothing in it that came later.

The lake is called on two threads: one writes, one reads and tidies up, so that no question delays a commit.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from trade2026 import __version__
from trade2026.domain.commands import Command
from trade2026.domain.instruments import Instruments
from trade2026.kit.http import App, Problem
from trade2026.kit.lag import Followed, Position
from trade2026.kit.own_snapshots import OwnSnapshots
from trade2026.kit.owner import Overloaded, Owner, Unavailable
from trade2026.kit.projection import snapshot_directory
from trade2026.kit.service import Context, Health, Service
from trade2026.kit.snapshots import SnapshotStore
from trade2026.sink_alt import api
from trade2026.sink_alt.machine import AltError, AltMachine
from trade2026.sink_alt.tables import FEED, RECORDS, TOPIC
from trade2026.sinks.lake import is_folder, open_lake
from trade2026.sinks.topic import (
    Destination,
    InLake,
    Measured,
    NotAnswered,
    TopicSink,
    answer_in_time,
    on_thread,
    room_elsewhere,
)
from trade2026.sinks.upkeep import Upkeep
from trade2026.stores.lake import Lake, LakeError, NoSuchTable

if TYPE_CHECKING:
    from trade2026.sink_alt.analytics import RecordsInAnalytics
    from trade2026.stores.analytics.port import Analytics

log = logging.getLogger(__name__)
T = TypeVar("T")

PENDING_MAX = 10_000
QUESTIONS_MAX = 16
"""That wait for the lake."""
_SNAPSHOT_EVENTS = 20_000
_LOOK_SECONDS = 0.05
_CLOSE_SECONDS_MAX = 2.0
"""A store that hangs is left to the end of the process."""


class SinkAltConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`config` of the service."""

    batch_seconds: float = 2.0
    """A record waits so long for others before it is stored."""
    batch_rows: int = 20_000
    """So many do not wait."""
    compact_minutes: float = 10.0
    retention_hours: int = 24
    """How far back the table can be read as it was."""


class SinkAltService(Service):
    """Sources and their records."""

    name = "sink-alt"
    title = "Alternative data"

    def __init__(self, context: Context, lake: Lake | None = None) -> None:
        super().__init__(context)
        settings = self.settings
        self.config = msgspec.convert(settings.config.get(self.name, {}), SinkAltConfig, strict=False)
        venue = settings.venues[0].name if settings.venues else None
        self.instruments = Instruments(settings.instruments, venue)
        self.owner = Owner(
            context.bus,
            TOPIC,
            AltMachine,
            context.clock,
            tenant=settings.stack,
            name=f"{settings.release}-sink-alt-{context.instance}",
            pending_max=PENDING_MAX,
            restore=self._restored,
        )
        self.snapshots = SnapshotStore(snapshot_directory(settings.state, self.name), self.name)
        self.kept = OwnSnapshots(self.snapshots, "alternative data")
        hours = self.config.retention_hours
        self.lake = lake or open_lake(settings, "alternative", names=[RECORDS.name], retention_hours=hours)
        self._writer = ThreadPoolExecutor(1, "alternative-writer")
        self._reader = ThreadPoolExecutor(1, "alternative-reader")
        self.sinks = {"lake": self._sink("lake", InLake(self.lake), self._writer, on_disk=is_folder(settings))}
        self.analytics: RecordsInAnalytics | None = None
        self._analytics_writer = ThreadPoolExecutor(1, "analytics-writer")
        self._analytics_reader = ThreadPoolExecutor(1, "analytics-reader")
        if named := settings.stores.get("analytics"):
            self._add_analytics(named)
        self.upkeep = Upkeep(
            self.lake,
            context.clock,
            self.read,
            {RECORDS.name: RECORDS},
            compact_seconds=self.config.compact_minutes * 60,
            retention_hours=hours,
        )
        self.asking = 0
        """Questions that wait for an answer."""
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def machine(self) -> AltMachine:
        """Sources and quarantine; another object after a recovery."""
        return self.owner.machine

    def routes(self, app: App) -> None:
        api.add_routes(app, self)

    async def start(self) -> None:
        await self.owner.start()
        for sink in self.sinks.values():
            await sink.start()
        self._tasks = [
            asyncio.create_task(self.upkeep.run(), name="upkeep of alternative data"),
            asyncio.create_task(self._keep_snapshots(), name="snapshots of alternative data"),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.kept.keep_last(self.owner)
        await self.owner.stop()
        await asyncio.gather(*(sink.stop() for sink in self.sinks.values()))
        if self.analytics is not None:
            with contextlib.suppress(NotAnswered):
                await answer_in_time(on_thread(self._analytics_writer, self.analytics.close), _CLOSE_SECONDS_MAX)
        for thread in (self._writer, self._reader, self._analytics_writer, self._analytics_reader):
            thread.shutdown(wait=False, cancel_futures=True)

    def readiness(self) -> tuple[bool, str]:
        return self.owner.ready and bool(self._tasks), self.owner.detail

    def followed(self) -> Iterable[Followed]:
        opened = [sink.stored_to for sink in self.sinks.values() if sink.opened]
        return [Position(TOPIC, 0, min(opened))] if opened else []

    def replaced(self) -> str:
        return f"{TOPIC}: {self.owner.detail}" if self.owner.fenced else ""

    def health(self) -> dict[str, Health]:
        checks = {"log": Health(self.owner.ready, self.owner.detail)}
        for name, sink in self.sinks.items():
            stored, kept = sink.health().values()
            checks |= {name: stored, f"{name}_kept": kept}
        waiting = len(self.machine.quarantine)
        return checks | {
            "quarantine": Health(
                True, f"{waiting} records do not fit: GET /sources/NAME/quarantine" if waiting else ""
            ),
            "snapshots": self.kept.health(),
            "upkeep": self.upkeep.health(),
            "disk": self.disk(),
        }

    def stats(self) -> dict[str, Any]:
        machine = self.machine
        return {
            "sources": len(machine.sources),
            "records": sum(source.accepted for source in machine.sources.values()),
            "in_quarantine": len(machine.quarantine),
            "quarantined": sum(source.quarantined for source in machine.sources.values()),
            "events": machine.next_seq,
            "epoch": self.owner.epoch,
            "stored_to": {name: sink.stored_to for name, sink in self.sinks.items()},
            "rows": {name: sink.measured.rows.value for name, sink in self.sinks.items()},
            "lag": max(sink.lag for sink in self.sinks.values()),
        }

    # ── commands ────────────────────────────────────────────────────────────────────────────

    async def ask(self, *commands: Command) -> list[Any]:
        """Hand commands to the owner; return the machine's answers, each of which may be an `AltError`.

        Raises:
            Problem: none of them, or not all, is known to be recorded.
        """
        room = self.disk()
        if not room.ok:
            raise Problem(503, "disk_low", room.detail, retry_after=5)
        if __version__ not in self.settings.allowed_versions:
            raise Problem(503, "version_not_allowed", f"{__version__} is not a version of this release", retry_after=30)
        try:
            answers = await self.owner.submit_many(commands)
        except Overloaded as error:
            raise Problem(429, "overloaded", str(error), retry_after=1) from error
        except Unavailable as error:
            raise Problem(503, "not_acknowledged", str(error), retry_after=1) from error
        for answer in answers:
            if isinstance(answer, Unavailable):
                raise Problem(503, "not_acknowledged", str(answer), retry_after=1) from answer
            if isinstance(answer, Exception) and not isinstance(answer, AltError):
                raise answer
        return answers

    # ── questions ───────────────────────────────────────────────────────────────────────────

    async def read(self, question: Any, *args: Any, **named: Any) -> Any:
        """Ask the lake on the reader's thread."""
        return await on_thread(self._reader, question, *args, **named)

    async def answer(self, question: Any, *args: Any) -> Any:
        """Ask the lake for a client.

        Raises:
            NoSuchTable: nothing was ever stored.
            Problem: too many wait, or the lake can't be read.
        """
        if self.asking >= QUESTIONS_MAX:
            raise Problem(503, "busy", "too many questions wait for the lake", retry_after=1)
        self.asking += 1
        try:
            return await answer_in_time(self.read(question, *args))
        except NoSuchTable:
            raise
        except (LakeError, NotAnswered) as error:
            raise Problem(503, "lake_unavailable", f"{error}", retry_after=5) from error
        finally:
            self.asking -= 1

    async def answer_from_analytics(self, question: Callable[["Analytics"], T]) -> T:
        """Ask the analytics store for a client.

        Raises:
            Problem: there is none, too many wait, or it can't do that.
        """
        if self.analytics is None:
            raise Problem(404, "no_analytics", "this stack has no analytics store; see spec.stores.analytics")
        if self.asking >= QUESTIONS_MAX:
            raise Problem(503, "busy", "too many questions wait for the store", retry_after=1)
        from trade2026.stores.analytics.port import AnalyticsError, Lacking, QueryRefused

        analytics = self.analytics
        self.asking += 1
        try:
            return await answer_in_time(on_thread(self._analytics_reader, lambda: question(analytics.answers())))
        except (QueryRefused, Lacking) as error:
            raise Problem(422, "query_refused", f"{error}"[:500], field="query") from error
        except (AnalyticsError, OSError, NotAnswered) as error:
            raise Problem(503, "analytics_unavailable", f"{error}", retry_after=5) from error
        finally:
            self.asking -= 1

    async def stored(self, store: str, seq: int, seconds_max: float) -> None:
        """Wait until a record is stored.

        Raises:
            Problem: 503 if it is not in time.
        """
        sink = self.sinks[store]
        deadline = asyncio.get_running_loop().time() + seconds_max
        while sink.stored_to <= seq:
            if asyncio.get_running_loop().time() > deadline:
                detail = f"record {seq} is not in the {store} yet, which is at {sink.stored_to}; {sink.error}"
                raise Problem(503, "not_stored_yet", detail.removesuffix("; "), retry_after=1)
            await asyncio.sleep(_LOOK_SECONDS)

    # ── inside ──────────────────────────────────────────────────────────────────────────────

    def _restored(self, end: int) -> AltMachine | None:
        """From the newest snapshot that can be read."""

        self.snapshots.refuse_lost_end(TOPIC, end)
        return self.kept.restored(AltMachine, end)

    async def _keep_snapshots(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            if self.owner.ready and self.machine.next_seq - self.kept.next_seq >= _SNAPSHOT_EVENTS:
                await self.kept.keep(self.owner)

    def _add_analytics(self, named: dict[str, Any]) -> None:
        from trade2026.sink_alt.analytics import RecordsInAnalytics, StoreConfig

        config = msgspec.convert(named, StoreConfig)
        self.analytics = RecordsInAnalytics(config, self.settings.state / "analytics", self.settings.stack)
        self.sinks["analytics"] = self._sink(
            "analytics", self.analytics, self._analytics_writer, on_disk=config.type == "embedded"
        )

    def _sink(self, store: str, destination: Destination, thread: ThreadPoolExecutor, *, on_disk: bool) -> TopicSink:
        metrics, labels = self.context.metrics, {"service": self.name, "table": FEED.spec.name}
        sink = TopicSink(
            self.context.bus,
            destination,
            self.context.clock,
            FEED,
            call=partial(on_thread, thread),
            room=self.disk if on_disk else room_elsewhere,
            measured=Measured.of(metrics, store, **labels),
            batch_rows=self.config.batch_rows,
            batch_seconds=self.config.batch_seconds,
        )
        metrics.gauge(f"trade2026_{store}_lag_records", "In the log and not stored", lambda: sink.lag, **labels)
        return sink
