"""The gateway: owns `venue.reports`, `market.raw`; follows `orders.events`; all partitions of both.

The OMS's log is its outbox: what was routed there is done here, once. Each report names the event that
caused it, so after any crash the venue goes on after the last event that it has answered.
"""

import asyncio
import logging
from collections import ChainMap
from collections.abc import Iterable
from functools import cache
from typing import Any

from trade2026 import __version__
from trade2026.domain import events as ev
from trade2026.domain.commands import Command
from trade2026.domain.events import Envelope
from trade2026.domain.instruments import Instruments
from trade2026.domain.shards import partition_name
from trade2026.gateway import api
from trade2026.gateway import commands as cmd
from trade2026.gateway.book import BookModel
from trade2026.gateway.feed import Feed, Instrumented
from trade2026.gateway.kills import Kills
from trade2026.gateway.machine import PaperVenue
from trade2026.gateway.outbox import asked_of_venue
from trade2026.gateway.recording import load_bitstamp
from trade2026.gateway.replay import Recording
from trade2026.gateway.reports import REPORTS, ReportsOwner
from trade2026.gateway.stream import MarketStream
from trade2026.gateway.venues import make_source, read_configs
from trade2026.kit.bus.port import Record
from trade2026.kit.followers import Followers
from trade2026.kit.http import App
from trade2026.kit.lag import Followed
from trade2026.kit.own_snapshots import OwnSnapshots
from trade2026.kit.owner import Unavailable
from trade2026.kit.projection import snapshot_directory
from trade2026.kit.service import Context, Health, Service
from trade2026.kit.snapshots import SnapshotStore

log = logging.getLogger(__name__)

ORDERS = "orders.events"
_PENDING_MAX = 5_000
"""Order events that may wait for durable reports before reading goes on."""
_CANCELS_PER_COMMAND = 1_000
_SNAPSHOT_REPORTS = 25_000
"""Reports between two snapshots; more where there are so many orders that writing them would take its share."""
_ORDERS_PER_REPORT = 4
"""Orders that a snapshot may write for each report since the last one."""
_HOUSEKEEPING_SECONDS = 0.25


class GatewayService(Service):
    """Market data and paper execution for every venue of type replay or synthetic."""

    name = "gateway"
    title = "Venues and market data"

    def __init__(self, context: Context, recording: Recording | None = None) -> None:
        super().__init__(context)
        settings = self.settings
        self.configs = read_configs(settings.venues)
        ours = [instrument for instrument in settings.instruments if instrument.venue in self.configs]
        self.instruments = Instruments(ours, next(iter(self.configs), None))
        path = settings.state / "gateway" / "kills.json" if settings.state_dir else None
        self.kills = Kills(path)
        self.version_fault = ""
        """Why no order is taken, whatever the kills say: half-deployed can't trade."""
        if __version__ not in settings.allowed_versions:
            self.version_fault = f"it runs {__version__}, this release has {' or '.join(settings.allowed_versions)}"
            log.error("new orders are refused at the venue: %s", self.version_fault)
        self.stream = MarketStream(self.instruments)
        self.feed: Feed | None = None
        self.owner_name = f"{settings.release}-{context.instance}"
        self.partitions = settings.partitions(ORDERS)
        self.owner = ReportsOwner(
            context.bus,
            self._make_venue,
            context.clock,
            partitions=self.partitions,
            restore=self._restored,
            tenant=settings.stack,
            name=self.owner_name,
            on_started=self._started,
        )
        self.snapshots = SnapshotStore(snapshot_directory(settings.state, self.name), self.name)
        self.kept = OwnSnapshots(self.snapshots, "the venue", _positions)
        self.acted = context.metrics.counter("trade2026_venue_orders_total", "Order events acted on", service="gateway")
        self._recording = recording
        self._orders: Followers | None = None
        self._last: asyncio.Future[Any] | None = None
        self._housekeeper: asyncio.Task[None] | None = None
        self._ready = False
        self._unique = 0
        self._killing: set[asyncio.Task[int]] = set()

    def _make_venue(self) -> PaperVenue:
        refused = {"stack": cmd.Kill(self.version_fault)} if self.version_fault else {}
        # A live view, because kills are latched later; it is only read, and ChainMap is typed for more.
        kills = ChainMap(refused, self.kills)  # type: ignore[arg-type]
        return PaperVenue(self.instruments.by_id, kills, self.partitions)

    def _restored(self, ends: list[int]) -> PaperVenue | None:
        """From the newest snapshot that can be read; its position is how many reports it contains."""

        self.snapshots.refuse_lost_end(REPORTS, sum(ends))
        venue = self.kept.restored(self._make_venue, sum(ends))
        for partition, reports in enumerate(venue.reports if venue is not None else ()):
            self.snapshots.refuse_lost(f"{REPORTS}/{partition}", ends[partition], reports.next_seq)
        return venue

    def routes(self, app: App) -> None:
        api.add_routes(app, self)

    async def start(self) -> None:
        self._unique = self.context.clock.now()
        sources = await asyncio.to_thread(self._sources)
        await self.owner.start()
        self.feed = Feed(
            self.context.bus,
            self.context.clock,
            tenant=self.settings.stack,
            owner=self.owner_name,
            instruments=sources,
            stream=self.stream,
            observe=self._act,
            may_publish=lambda: self.owner.ready and self.owner.pending < _PENDING_MAX,
        )
        await self.feed.start(self.machine.last_print)
        await self._follow_orders()
        self.feed.run()
        self._housekeeper = asyncio.ensure_future(self._keep_house())
        self._ready = True

    def _sources(self) -> list[Instrumented]:
        recording = cache(load_bitstamp) if self._recording is None else lambda: self._recording
        found: list[Instrumented] = []
        for instrument in self.instruments.by_id.values():
            config = self.configs[instrument.venue]
            source = make_source(config, instrument, recording)  # type: ignore[arg-type]
            found.append(Instrumented(source, BookModel(instrument, config.seed)))
        return found

    async def _follow_orders(self) -> None:
        self._orders = Followers(
            self.context.bus,
            ORDERS,
            self._on_order_event,
            from_seqs=self.machine.orders_next,
            on_batch=self._wait_for_reports,
        )
        await self._orders.start()

    async def _started(self) -> None:
        """After every recovery: what is killed stays killed, and the orders go on after the last answer."""
        for scope in list(self.kills):
            task = asyncio.ensure_future(self._cancel_scope(scope))
            self._killing.add(task)
            task.add_done_callback(self._killing.discard)
        if self._orders is not None:
            await self._orders.stop()
            self._show_books()
            await self._follow_orders()

    def _show_books(self) -> None:
        """The venue was made again from its log: an order must not find it empty until the next print."""
        for item in self.feed.instruments.values() if self.feed is not None else ():
            if item.view.book is not None:
                self._act(cmd.ObserveBook(ts=self.context.clock.now(), principal="market", book=item.view.book))

    async def _keep_house(self) -> None:
        """Orders expire although nothing trades, and a restart need not read many reports."""
        while True:
            await asyncio.sleep(_HOUSEKEEPING_SECONDS)
            self.kills.keep_again()
            if not self.owner.ready:
                continue
            now, machine = self.context.clock.now(), self.machine
            if machine.expires_by(now):
                self._act(cmd.ExpireOrders(ts=now, principal="clock"))
            orders = len(machine.orders) + len(machine.closed)
            if machine.next_seq - self.kept.next_seq >= max(_SNAPSHOT_REPORTS, orders // _ORDERS_PER_REPORT):
                await self.kept.keep(self.owner)

    async def stop(self) -> None:
        self._ready = False
        if self._housekeeper is not None:
            self._housekeeper.cancel()
            await asyncio.gather(self._housekeeper, return_exceptions=True)
        if self._orders is not None:
            await self._orders.stop()
        if self.feed is not None:
            await self.feed.stop()
        for task in self._killing:
            task.cancel()
        await self.kept.keep_last(self.owner)
        await self.owner.stop()

    @property
    def machine(self) -> PaperVenue:
        """The venue's state; after a failed commit it is another object."""
        return self.owner.machine

    def readiness(self) -> tuple[bool, str]:
        if not self.owner.ready:
            return False, f"{REPORTS}: {self.owner.detail}"
        if self._orders is not None and not self._ready:
            return False, self._orders.progress
        return self._ready, "ready" if self._ready else "reading the recording"

    def replaced(self) -> str:
        if self.owner.fenced:
            return f"{REPORTS}: {self.owner.detail}"
        return self.feed.error if self.feed is not None and self.feed.fenced else ""

    def followed(self) -> Iterable[Followed]:
        return self._orders.each.values() if self._orders is not None else ()

    def health(self) -> dict[str, Health]:
        checks = {
            "reports_log": Health(self.owner.ready, self.owner.detail),
            "version": Health(not self.version_fault, self.version_fault or f"running {__version__}"),
            "disk": self.disk(),
        }
        if self._orders is not None:
            checks["orders_log"] = Health(not self._orders.error, self._orders.error)
        if self.feed is not None and self.feed.instruments:
            ended = "the replay has ended; set loop: true" if self.feed.finished else ""
            checks["market_data"] = Health(not self.feed.error and not ended, self.feed.error or ended)
        checks["snapshots"] = self.kept.health()
        if self.kills:
            stopped = (f"{scope} {'halted' if kill.halt else 'killed'}" for scope, kill in self.kills.items())
            checks["kills"] = Health(not self._all_killed(), f"stopped at the venue: {', '.join(stopped)}")
        if self.kills.unkept:
            why = f"a restart would not know what is stopped now, tried again: {self.kills.unkept}"
            checks["kills_file"] = Health(False, why)
        return checks

    def _all_killed(self) -> bool:
        """Whether nothing can trade; to stop less is a person's decision, and no illness."""
        killed = {scope for scope, kill in self.kills.items() if not kill.halt}
        return bool(killed) and all(
            not killed.isdisjoint(("stack", f"venue:{item.venue}", f"instrument:{item.instrument_id}"))
            for item in self.instruments.by_id.values()
        )

    def stats(self) -> dict[str, Any]:
        machine = self.machine
        return {
            "working_orders": len(machine.orders),
            "accepted": machine.accepted,
            "executions": machine.executions,
            "reports": machine.next_seq,
            "snapshot_as_of": self.kept.next_seq - 1,
            "orders_next": sum(machine.orders_next.values()),
            "lag": self._orders.lag if self._orders is not None else 0,
            "pending": self.owner.pending,
            "trades_published": self.feed.published if self.feed is not None else 0,
            "listeners": len(self.stream.listeners),
            "listeners_dropped": self.stream.dropped,
            "killed_scopes": len(self.kills),
        }

    # ── orders from the log ─────────────────────────────────────────────────────────────────

    def _on_order_event(self, envelope: Envelope, record: Record) -> None:
        event = envelope.data
        if isinstance(event, ev.Resumed):
            self.kills.release_older(event.scope, envelope.ts_init)
            return
        command = asked_of_venue(event)
        if command is None:
            return
        command.ts = self.context.clock.now()
        command.principal = "venue"
        command.correlation_id = envelope.correlation_id
        command.causation_id = f"{record.topic}/{record.partition}/{record.seq}"
        command.traceparent = envelope.traceparent
        self.acted.inc(1)
        self._act(command)

    def _act(self, command: Command) -> None:
        """Hand a command to the venue, behind all that came before it."""
        try:
            self._last = self.owner.submit(command, reduces_risk=True)
        except Unavailable:
            return  # recovering: it begins again after the last event that its log has answered
        self._last.add_done_callback(_say_what_failed)

    async def _wait_for_reports(self) -> None:
        if self.owner.pending > _PENDING_MAX and self._last is not None:
            await asyncio.wait([self._last])

    # ── what people ask ─────────────────────────────────────────────────────────────────────

    def unique(self) -> str:
        """A client order id that nobody else has."""
        self._unique += 1
        return f"{self._unique:x}"

    async def kill(self, scope: str, reason: str, by: str, *, halt: bool = False) -> int:
        """Refuse new orders of a scope from this moment, and cancel what works there unless it is a halt.

        Returns:
            How many orders were cancelled.
        """
        kept = None
        try:
            self.kills.latch(scope, cmd.Kill(reason, by, self.context.clock.now(), halt))
        except OSError as error:
            kept = error
        log.warning("%s was stopped at the venue by %s: %s", scope, by, reason)
        cancelled = await self._cancel_scope(scope)
        if kept is not None:
            log.error("the kill of %s holds, but would not survive a restart: %s", scope, kept)
        return cancelled

    async def _cancel_scope(self, scope: str) -> int:
        kill = self.kills.latched.get(scope)
        if kill is None or kill.halt:
            return 0
        cancelled = 0
        working = self.machine.in_scope(scope)
        for first in range(0, len(working), _CANCELS_PER_COMMAND):
            command = cmd.CancelMany(
                ts=self.context.clock.now(),
                principal=kill.by,
                order_ids=working[first : first + _CANCELS_PER_COMMAND],
                reason=f"{scope} was killed at the venue: {kill.reason}",
            )
            cancelled += await self.owner.submit(command, reduces_risk=True)
        return cancelled

    def resume(self, scope: str, reason: str, by: str) -> bool:
        """Let a scope trade again; returns whether it was stopped here."""
        log.warning("%s was released at the venue by %s: %s", scope, by, reason)
        return self.kills.release(scope)


def _positions(venue: PaperVenue) -> dict[str, int]:
    return {partition_name(REPORTS, number): reports.next_seq for number, reports in enumerate(venue.reports)}


def _say_what_failed(done: "asyncio.Future[Any]") -> None:
    if not done.cancelled() and (error := done.exception()) is not None and not isinstance(error, Unavailable):
        log.error("the venue could not decide: %r", error)
