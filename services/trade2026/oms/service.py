"""The OMS: owns `orders.events`; follows `venue.reports`, `risk.events` and the market.

What it promises: 200 after the event is durable under our epoch; cancels and kills before everything
else; new orders refused when the market is stale, the disk nearly full, or the version not allowed.
"""

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Iterable
from functools import partial
from typing import Any

import msgspec

from trade2026 import __version__
from trade2026.controls import order_log
from trade2026.controls.limits import LimitBook
from trade2026.controls.machine import Controls
from trade2026.controls.scopes import in_scope
from trade2026.domain import commands as cmd
from trade2026.domain import events as ev
from trade2026.domain.events import Envelope, decode
from trade2026.domain.instruments import Instruments
from trade2026.domain.market import Reference
from trade2026.domain.order_fold import OrderFold
from trade2026.domain.orders import Order, OrderSpec
from trade2026.domain.positions import Position
from trade2026.kit import tracing
from trade2026.kit.bus.port import BusCorrupt, Record
from trade2026.kit.follower import Follower
from trade2026.kit.history import HistoryReader, history_path
from trade2026.kit.http import App, Problem
from trade2026.kit.lag import Followed
from trade2026.kit.owner import Overloaded, Owner, Unavailable
from trade2026.kit.projection import snapshot_directory
from trade2026.kit.reference import ReferenceCache
from trade2026.kit.service import Context, Health, Service
from trade2026.kit.snapshots import SnapshotStore
from trade2026.oms import api, spans
from trade2026.oms.entry import problem_of
from trade2026.oms.lookup import OrderLookup
from trade2026.oms.machine import OrderMachine
from trade2026.oms.order_input import OrderInput, OrderReader, _step
from trade2026.oms.refusals import BadList, ClientOrderIdReused
from trade2026.oms.risk_follower import RiskFollower
from trade2026.oms.stream import EventStream

log = logging.getLogger(__name__)

TOPIC = "orders.events"
REPORTS = "venue.reports"
_TIMER_SECONDS = 0.25
ORDERS_IN_MEMORY_MAX = 500_000
"""Beyond it new orders have to wait until the history has those that are closed. An order needs 1 to 2 kB."""

EVENTS_SHOWN_MAX = 1_000
"""Of one order: a trailing stop may have very many."""
_EVENTS_PER_TURN = 50
_THAW_SECONDS = 0.005
"""Between two pieces of a snapshot, each of which takes up to a millisecond."""
REPORTS_BEHIND_MAX = 200_000
"""Beyond it new orders have to wait until more of what the venue said has been decided."""


class OmsService(Service):
    """Order management for every account of the stack."""

    name = "oms"
    title = "Order management"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        settings = self.settings
        venue = settings.venues[0].name if settings.venues else None
        self.instruments = Instruments(settings.instruments, venue)
        self.reader = OrderReader(self.instruments, settings.default_account)
        self.book = msgspec.json.decode(settings.risk, type=LimitBook)
        self.owner = Owner(
            context.bus,
            TOPIC,
            self._machine,
            context.clock,
            tenant=settings.stack,
            name=f"{settings.release}-{context.instance}",
            restore=self._restored,
            on_started=self._started,
        )
        self.snapshots = SnapshotStore(snapshot_directory(settings.state, "oms"), "oms")
        self.risk = RiskFollower(context.bus, self.owner, context.clock, self.book)
        self.references = ReferenceCache(on_trades=self._on_trades)
        self.history = HistoryReader(history_path(settings.state))
        self.orders = OrderLookup(self.owner, self.history, context.clock)
        self.stream = EventStream(context.bus, TOPIC, self.orders.account_of)
        self.latency = context.metrics.histogram(
            "trade2026_order_ack_seconds", "From receipt to durable", service="oms"
        )
        self.accepted = context.metrics.counter("trade2026_orders_total", "Orders decided", service="oms")
        self.latched: dict[str, cmd.Kill] = {}
        """Scopes killed here whose event is not durable yet: memory first, the log after."""
        self._unlogged: dict[str, cmd.Kill] = {}
        """Of these, the ones that the log has refused: asked again until it takes them."""
        self._logging: asyncio.Task[None] | None = None
        self.has_market = bool(settings.venues)
        self._reports: Follower | None = None
        self._timer: asyncio.Task[None] | None = None
        self._said: list[tuple[Envelope, Record]] = []
        """Reports of the batch that is being read."""
        self._reporting: asyncio.Future[list[Any]] | None = None
        """Answers to the batch before."""
        self._room = Health(True)
        self._thawing: asyncio.Task[None] | None = None
        self._unique = 0

    def _machine(self) -> OrderMachine:
        return OrderMachine(Controls(LimitBook(), self.instruments.by_id))

    def _restored(self, end: int) -> OrderMachine | None:
        """From the newest snapshot that the history covers: what has left memory must be found there."""

        def make(state: bytes) -> OrderMachine:
            machine = self._machine()
            order_log.restore(state, machine.fold, machine.controls)
            return machine

        try:
            archived = self.history.next_seq()
        except sqlite3.Error as error:
            self.snapshots.refuse_lost_end(TOPIC, end)
            log.warning("the history cannot be read, so no snapshot is used: %s", error)
            return None
        if archived > end:
            raise BusCorrupt(
                f"{TOPIC} ends at {end}, but the history has its events to {archived}: the log has lost its end; "
                "put a backup back with `trade2026 restore`, or begin anew with another --state-dir"
            )
        self.snapshots.refuse_lost_end(TOPIC, end)
        machine = self.snapshots.restore(make, next_seq_max=archived)
        self.history.relied_on = machine.next_seq if machine is not None else 0
        return machine

    def routes(self, app: App) -> None:
        api.add_routes(app, self)

    async def start(self) -> None:
        if __version__ not in self.settings.allowed_versions:
            log.warning("version %s is not in %s: new orders are refused", __version__, self.settings.allowed_versions)
        self._room = self.disk()
        await self.owner.start()
        await self.references.follow(self.context.bus)
        await self._follow_reports()
        await self.risk.start()
        self._timer = asyncio.ensure_future(self._tick())

    async def _started(self) -> None:
        """After every recovery: say who owns the log now, under which code and configuration."""
        if self._thawing is not None:
            self._thawing.cancel()
        self._thawing = asyncio.ensure_future(_thaw(self.owner.machine.fold))
        now = self.context.clock.now()
        self._unique = now
        await self.owner.submit(
            cmd.StartOwner(
                ts=now,
                owner=self.owner.name,
                epoch=self.owner.epoch,
                code_version=__version__,
                config_hash=self.settings.config_hash,
            ),
            reduces_risk=True,
        )
        await self.risk.adopt()
        if self._reports is not None:
            await self._reports.stop()
            await self._follow_reports()

    async def _follow_reports(self) -> None:
        self._said = []
        machine = self.owner.machine
        self._reports = Follower(
            self.context.bus,
            REPORTS,
            self._on_report,
            from_seq=self.owner.machine.fold.report_seq + 1,
            on_batch=partial(self._decide_reports, machine),
        )
        await self._reports.start()

    async def stop(self) -> None:
        for task in (self._timer, self._thawing):
            if task is not None:
                task.cancel()
        for part in (self._reports, self.risk, self.references):
            if part is not None:
                await part.stop()
        await self.owner.stop()

    def readiness(self) -> tuple[bool, str]:
        return self.owner.ready and self._timer is not None, self.owner.detail

    def replaced(self) -> str:
        return f"{TOPIC}: {self.owner.detail}" if self.owner.fenced else ""

    def followed(self) -> Iterable[Followed]:
        return [part for part in (self._reports, *self.risk.followed, *self.references.followed) if part is not None]

    def health(self) -> dict[str, Health]:
        age = self.references.age(self.context.clock.now())
        limit = self.book.reference_age_ns_max
        market = Health(True, "") if age is not None and age < limit else Health(False, "no fresh trades")
        checks = {
            "log": Health(self.owner.ready, self.owner.detail),
            "disk": self._room,
            "history": Health(not self.orders.error, self.orders.error),
            "version": Health(__version__ in self.settings.allowed_versions, f"running {__version__}"),
        }
        if self._unlogged:
            checks["kills"] = Health(False, f"latched, but not logged yet: {', '.join(self._unlogged)}")
        if self._needs_market():
            checks["market_data"] = market
        for name, follower in (("venue_reports", self._reports), ("risk_events", self.risk)):
            if follower is not None:
                checks[name] = Health(not follower.error, follower.error)
        return checks

    def stats(self) -> dict[str, Any]:
        fold = self.owner.machine.fold
        return {
            "orders": fold.order_count,
            "open_orders": len(fold.open),
            "orders_in_memory": len(fold.orders),
            "events": fold.next_seq,
            "epoch": self.owner.epoch,
            "pending": self.owner.pending,
            "commits": self.owner.commits,
            "lag": self._reports.lag if self._reports is not None else 0,
            "listeners": self.stream.listeners,
            "p50_ms": self._milliseconds(0.5),
            "p99_ms": self._milliseconds(0.99),
        }

    def _milliseconds(self, quantile: float) -> float | None:
        value = self.latency.quantile(quantile, window=True)
        return round(value / 1e6, 3) if value else None

    # ── commands ────────────────────────────────────────────────────────────────────────────

    async def submit(
        self, command: cmd.Command, *, reduces_risk: bool = False, in_request: bool = False, caller: str = ""
    ) -> Any:
        """Hand a command to the owner and return its answer once it is durable.

        Args:
            in_request: The command's trace is that of one HTTP request.
            caller: Context of whoever sent it over a WebSocket.

        Raises:
            Problem: 429 or 503 for overload and recovery: it was not taken.
            OrderError, Unavailable: what the command met.
        """
        try:
            future = self.owner.submit(command, reduces_risk=reduces_risk)
        except Overloaded as error:
            raise Problem(429, "overloaded", str(error), retry_after=1) from error
        except Unavailable as error:
            raise Problem(503, "not_ready", str(error), retry_after=1) from error
        answer = await future
        now = self.context.clock.now()
        self.latency.observe_ns(now - command.ts)
        self.accepted.value += _orders_in(command)
        if tracing.is_on():
            spans.acknowledged(command, answer, now, in_request=in_request, caller=caller)
        return answer

    async def submit_many(self, commands: list[cmd.Command]) -> list[Any]:
        """Hand a batch to the owner; each answer is an order or the exception that its command met."""
        try:
            future = self.owner.submit_many(commands)
        except Overloaded as error:
            raise Problem(429, "overloaded", str(error), retry_after=1) from error
        except Unavailable as error:
            raise Problem(503, "not_ready", str(error), retry_after=1) from error
        answers = await future
        now = self.context.clock.now()
        for command, answer in zip(commands, answers, strict=True):
            if not isinstance(answer, Exception):
                self.latency.observe_ns(now - command.ts)
                self.accepted.inc(_orders_in(command))
                if tracing.is_on():
                    spans.acknowledged(command, answer, now, in_request=False)
        return answers

    def admit(self, *specs: OrderSpec) -> None:
        """Refuse what would add risk while we may not take it; nothing is recorded, a retry is safe."""
        if not self._room.ok:
            raise Problem(503, "disk_low", self._room.detail, retry_after=5)
        if __version__ not in self.settings.allowed_versions:
            raise Problem(503, "version_not_allowed", f"{__version__} is not a version of this release", retry_after=30)
        for scope, kill in self.latched.items() if self.latched else ():
            if any(in_scope(scope, spec) and not (kill.halt and spec.reduce_only) for spec in specs):
                word = "halted" if kill.halt else "killed"
                raise Problem(503, word, f"{scope} is being {word}: {kill.reason}", retry_after=5)
        if len(self.owner.machine.fold.orders) > ORDERS_IN_MEMORY_MAX:
            raise Problem(429, "history_behind", "the order history cannot follow; wait until it has", retry_after=5)
        if self._reports is not None and self._reports.lag > REPORTS_BEHIND_MAX:
            raise Problem(
                429, "reports_behind", f"{self._reports.lag} reports of the venue wait for a decision", retry_after=1
            )

    def spec(self, order: OrderInput, now: int, idempotency_key: str = "") -> OrderSpec:
        """Return the spec of an input; an order without an id gets one that nobody else has."""
        if order.client_order_id or idempotency_key:
            return self.reader.read(order, idempotency_key, now)
        self._unique += 1
        return self.reader.read(order, f"t{self._unique:x}", now)

    def check_steps(self, instrument_id: str, terms: dict[str, int]) -> None:
        """Refuse new terms that are off the tick or the lot."""
        instrument = self.instruments.by_id[instrument_id]
        for name, value in terms.items():
            step, code = (instrument.lot_size, "off_lot") if name == "quantity" else (instrument.tick_size, "off_tick")
            _step(value, step, code, name)

    def reference(self, instrument: str) -> Reference | None:
        """What the market last said, for the decision and the log."""
        return self.references.get(instrument)

    def answered_before(self, spec: OrderSpec) -> Order | None:
        """The order that this client order id named before it left memory."""
        if spec.client_order_id.startswith("t") and spec.client_order_id == f"t{self._unique:x}":
            return None
        try:
            return self.orders.answered_before(spec)
        except ClientOrderIdReused as error:
            raise problem_of(error) from error
        except Unavailable as error:
            raise Problem(503, "history_unreadable", str(error), retry_after=1) from error

    async def list_answered_before(self, specs: list[OrderSpec]) -> list[Order] | None:
        """The orders of a list that was answered before, if memory may no longer have all of them."""
        try:
            return await self.orders.list_answered_before(specs)
        except (ClientOrderIdReused, BadList) as error:
            raise api.problem_of(error) from error
        except Unavailable as error:
            raise Problem(503, "history_unreadable", str(error), retry_after=1) from error

    async def kill(self, scope: str, reason: str, by: str, *, halt: bool = False) -> int:
        """Latch, then log, then cancel; the latch holds even if the log cannot be written."""
        command = cmd.Kill(ts=self.context.clock.now(), principal=by, scope=scope, reason=reason, halt=halt)
        self.latched[scope] = command
        return await self._log_kill(command)

    async def _log_kill(self, command: cmd.Kill) -> int:
        scope = command.scope
        try:
            asked = await self.submit(command, reduces_risk=True)
        except (Problem, Unavailable) as error:
            if self.latched.get(scope) is command:
                self._unlogged[scope] = command
            detail = f"latched: new orders are refused; its orders are cancelled when the log can be written ({error})"
            raise Problem(503, "latched_not_logged", detail, retry_after=1, scope=scope) from error
        if self.latched.get(scope) is command:
            del self.latched[scope]
        return asked

    async def _log_latched(self) -> None:
        """Bring to the log what it refused before."""
        for scope, command in list(self._unlogged.items()):
            if self._unlogged.get(scope) is not command:
                continue  # released meanwhile, or being released
            del self._unlogged[scope]
            with contextlib.suppress(Problem):
                await self._log_kill(command)

    def stopped(self) -> set[str]:
        """Every scope that is killed or halted here."""
        controls = self.owner.machine.controls
        return {*controls.kills, *controls.halts, *self.latched}

    async def resume(self, scope: str, reason: str, by: str) -> None:
        """Release a kill or halt; only a named person does, and what the log refuses is not released."""
        latched, unlogged = self.latched.get(scope), self._unlogged.pop(scope, None)
        try:
            await self.submit(cmd.Resume(ts=self.context.clock.now(), principal=by, scope=scope, reason=reason))
        except (Problem, Unavailable):
            if unlogged is not None:
                self._unlogged.setdefault(scope, unlogged)
            raise
        if latched is not None and self.latched.get(scope) is latched:
            del self.latched[scope]
        self.risk.released(scope)

    # ── questions ───────────────────────────────────────────────────────────────────────────

    async def events_of(self, order: Order) -> list[Envelope]:
        """The order's events, read from the log: all, or its first and the newest of many."""
        found: list[Envelope] = []
        for place, seq in enumerate([*order.seqs[:1], *order.seqs[1:][-EVENTS_SHOWN_MAX:]]):
            if place % _EVENTS_PER_TURN == _EVENTS_PER_TURN - 1:
                await asyncio.sleep(0)
            found.extend(decode(record.body) for record in await self.context.bus.read(TOPIC, 0, seq, 1))
        return found

    async def positions(self, account: str) -> tuple[dict[str, Position], int]:
        """Every position that the account ever had, by instrument, and the event that they are as of."""
        return await self.owner.read(lambda machine: (machine.positions(account), machine.next_seq - 1))

    # ── what it follows ─────────────────────────────────────────────────────────────────────

    def _on_report(self, envelope: Envelope, record: Record) -> None:
        self._said.append((envelope, record))

    async def _decide_reports(self, machine: OrderMachine) -> None:
        """Have what the venue said decided; the batch before must be durable before more is read.

        Only by the machine for which it was read: after a recovery the log may lack reports before these.
        """
        said, self._said = self._said, []
        commands = [await self._report_command(envelope, record) for envelope, record in said]
        if machine is not self.owner.machine:
            return
        before = self._reporting
        try:
            self._reporting = self.owner.submit_many(commands, reduces_risk=True)
        except Unavailable:
            return  # the owner is recovering: it begins again after the last report that its log holds
        self._reporting.add_done_callback(_say_which_failed)
        if before is not None:
            await asyncio.wait([before])

    async def _report_command(self, envelope: Envelope, record: Record) -> cmd.Command:
        report: ev.ReportEvent = envelope.data  # type: ignore[assignment]
        return cmd.ApplyReport(
            ts=self.context.clock.now(),
            ts_report=envelope.ts_event,
            principal="venue",
            causation_id=f"{record.topic}/{record.partition}/{record.seq}",
            report=report,
            report_seq=record.seq,
            recalled=await self.orders.recalled(report.order_id),
        )

    def _follow(self, command: cmd.Command) -> None:
        try:
            future = self.owner.submit(command, reduces_risk=True)
        except Unavailable:
            return  # the owner is recovering: it begins again after the last report that its log holds
        future.add_done_callback(_say_what_failed)

    async def _on_trades(self, ranges: dict[str, Reference]) -> None:
        fold = self.owner.machine.fold
        for instrument, reference in ranges.items():
            if fold.held.get(instrument):
                self._follow(
                    cmd.ObserveMarket(
                        ts=self.context.clock.now(),
                        principal="market",
                        causation_id=reference.source,
                        instrument=instrument,
                        reference=reference,
                    )
                )

    def _needs_market(self) -> bool:
        return self.has_market

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TIMER_SECONDS)
            now = self.context.clock.now()
            fold = self.owner.machine.fold
            if self.owner.ready and fold.expiries and fold.expiries[0][0] <= now:
                self._follow(cmd.PassTime(ts=now, principal="clock"))
            self._room = self.disk()
            if self._unlogged and self.owner.ready and (self._logging is None or self._logging.done()):
                self._logging = asyncio.ensure_future(self._log_latched())
            self.orders.forget()


async def _thaw(fold: OrderFold) -> None:
    """Decode, beside everything else, what a snapshot has left: a kill of all must not wait for it one day."""
    more = True
    while more:
        more = fold.thaw_some()
        await asyncio.sleep(_THAW_SECONDS)


def _orders_in(command: cmd.Command) -> int:
    """How many orders a command brings; cancels, kills and the like are none."""
    if isinstance(command, cmd.SubmitOrder):
        return 1
    return len(command.specs) if isinstance(command, cmd.SubmitList) else 0


def _say_what_failed(done: "asyncio.Future[Any]") -> None:
    if not done.cancelled() and (error := done.exception()) is not None and not isinstance(error, Unavailable):
        log.error("a followed event could not be decided: %r", error)


def _say_which_failed(done: "asyncio.Future[list[Any]]") -> None:
    for answer in done.result() if not done.cancelled() else ():
        if isinstance(answer, Exception) and not isinstance(answer, Unavailable):
            log.error("a report could not be decided: %r", answer)
