"""The orders of one partition: its owner with all that belongs to it, and nothing of another partition's.

A process keeps the cells of the partitions that are its own; what they have in common is in `Shared`. What a cell
promises: an answer after the event is durable under its epoch; cancels and kills before everything else.
"""

import asyncio
import contextlib
import logging
import sqlite3
from dataclasses import dataclass, field
from typing import Any

import msgspec

from trade2026 import __version__
from trade2026.controls import order_log
from trade2026.controls.limits import LimitBook
from trade2026.controls.machine import Controls
from trade2026.controls.scopes import in_scope
from trade2026.domain import commands as cmd
from trade2026.domain.events import Envelope, decode
from trade2026.domain.instruments import Instruments
from trade2026.domain.market import Reference
from trade2026.domain.order_fold import OrderFold
from trade2026.domain.orders import Order, OrderSpec
from trade2026.domain.positions import Position
from trade2026.kit import tracing
from trade2026.kit.bus.port import BusCorrupt
from trade2026.kit.calls import Post
from trade2026.kit.follower import Follower
from trade2026.kit.history import HistoryReader, history_path
from trade2026.kit.http import Problem
from trade2026.kit.metrics import Counter, LatencyHistogram
from trade2026.kit.owner import Overloaded, Owner, Unavailable
from trade2026.kit.projection import snapshot_directory
from trade2026.kit.service import Context, Health
from trade2026.kit.snapshots import SnapshotStore
from trade2026.oms import spans
from trade2026.oms.entry import problem_of
from trade2026.oms.lookup import OrderLookup
from trade2026.oms.machine import OrderMachine
from trade2026.oms.refusals import BadList, ClientOrderIdReused, OrderError, SliceShort
from trade2026.oms.risk_follower import RiskFollower
from trade2026.oms.slice_requests import SliceRequests
from trade2026.oms.venue_follower import VenueFollower

log = logging.getLogger(__name__)

TOPIC = "orders.events"
ORDERS_IN_MEMORY_MAX = 500_000
"""Beyond it new orders have to wait until the history has those that are closed. An order needs 1 to 2 kB."""
EVENTS_SHOWN_MAX = 1_000
"""Of one order: a trailing stop may have very many."""
REPORTS_BEHIND_MAX = 200_000
"""Beyond it new orders have to wait until more of what the venue said has been decided."""
_EVENTS_PER_TURN = 50
_THAW_SECONDS = 0.005
"""Between two pieces of a snapshot, each of which takes up to a millisecond."""


@dataclass(frozen=True)
class Shared:
    """What the cells of a process have in common."""

    context: Context
    instruments: Instruments
    ceilings: LimitBook
    """The manifest's limits."""
    latency: LatencyHistogram
    """From receipt to durable."""
    accepted: Counter
    post: Post
    """The way to risk."""
    latched: dict[int, dict[str, cmd.Kill]] = field(default_factory=dict)
    """By partition and scope: a kill that is not logged yet holds for the next cell of the partition, too."""


class OrderCell:
    """Orders of the accounts of one partition."""

    def __init__(self, shared: Shared, partition: int) -> None:
        self.shared, self.partition, self.context = shared, partition, shared.context
        settings, bus, clock = self.context.settings, self.context.bus, self.context.clock
        self.owner = Owner(
            bus,
            TOPIC,
            self._machine,
            clock,
            tenant=settings.stack,
            name=f"{settings.release}-{self.context.instance}",
            partition=partition,
            restore=self._restored,
            on_started=self._started,
        )
        self.snapshots = SnapshotStore(snapshot_directory(settings.state, "oms", partition), "oms")
        self.partitions = settings.partitions(TOPIC)
        self.risk = RiskFollower(bus, self.owner, clock, shared.ceilings, self.partitions)
        self.slices = SliceRequests(settings, self.owner, self.risk, shared.post)
        self.history = HistoryReader(history_path(settings.state, partition), partition)
        self.orders = OrderLookup(self.owner, self.history, clock)
        self.reports = VenueFollower(bus, self.owner, self.orders, clock)
        self.latched = shared.latched.setdefault(partition, {})
        """Scopes killed here whose event is not durable yet: memory first, the log after."""
        self._unlogged = dict(self.latched)
        """Of these, the ones that the log has refused: asked again until it takes them."""
        self._logging: asyncio.Task[None] | None = None
        self._thawing: asyncio.Task[None] | None = None

    @property
    def fenced(self) -> bool:
        """Whether another process has claimed the partition."""
        return self.owner.fenced

    def readiness(self) -> tuple[bool, str]:
        """Whether the log is folded, and how far it is if not."""
        return self.owner.ready, self.owner.detail

    # ── life ────────────────────────────────────────────────────────────────────────────────

    def _machine(self) -> OrderMachine:
        return OrderMachine(Controls(LimitBook(), self.shared.instruments.by_id), self.partition)

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
                f"{TOPIC}/{self.partition} ends at {end}, but the history has its events to {archived}: the log has "
                "lost its end; put a backup back with `trade2026 restore`, or begin anew with another --state-dir"
            )
        self.snapshots.refuse_lost_end(TOPIC, end)
        machine = self.snapshots.restore(make, next_seq_max=archived)
        self.history.relied_on = machine.next_seq if machine is not None else 0
        return machine

    async def start(self) -> None:
        """Claim the partition, fold its log, and follow venues and limits."""
        await self.owner.start()
        await self.reports.start()
        await self.risk.start()

    async def _started(self) -> None:
        """After every recovery: say who owns the log now, under which code and configuration."""
        if self._thawing is not None:
            self._thawing.cancel()
        self._thawing = asyncio.ensure_future(_thaw(self.owner.machine.fold))
        await self.owner.submit(
            cmd.StartOwner(
                ts=self.context.clock.now(),
                owner=self.owner.name,
                epoch=self.owner.epoch,
                code_version=__version__,
                config_hash=self.context.settings.config_hash,
            ),
            reduces_risk=True,
        )
        await self.risk.claimed()
        if self.reports.is_following:
            await self.reports.start()

    async def stop(self) -> None:
        """Answer what was accepted, then let the partition go."""
        if self._thawing is not None:
            self._thawing.cancel()
        if self._logging is not None:
            self._logging.cancel()
        await self.slices.stop()
        await self.reports.stop()
        await self.risk.stop()
        await self.owner.stop()
        self.history.close()

    def tick(self, now: int) -> None:
        """What is due: orders expire, a kill that the log has refused is asked again, closed orders leave memory."""
        fold = self.owner.machine.fold
        if self.owner.ready and fold.expiries and fold.expiries[0][0] <= now:
            self._follow(cmd.PassTime(ts=now, principal="clock"))
        if self._unlogged and self.owner.ready and (self._logging is None or self._logging.done()):
            self._logging = asyncio.ensure_future(self._log_latched())
        self.orders.forget()

    def observe(self, ranges: dict[str, Reference], now: int) -> None:
        """The market has moved: orders that wait for it may be triggered."""
        held = self.owner.machine.fold.held
        for instrument, reference in ranges.items():
            if held.get(instrument):
                self._follow(
                    cmd.ObserveMarket(
                        ts=now,
                        principal="market",
                        causation_id=reference.source,
                        instrument=instrument,
                        reference=reference,
                    )
                )

    def _follow(self, command: cmd.Command) -> None:
        try:
            future = self.owner.submit(command, reduces_risk=True)
        except Unavailable:
            return  # the owner is recovering: it begins again after what its log holds
        future.add_done_callback(_say_what_failed)

    @property
    def followed(self) -> list[Follower]:
        """What it follows, for the lag."""
        return [*self.reports.followed, *self.risk.followed]

    def health(self) -> dict[str, Health]:
        """What the cell depends on, by name."""
        checks = {
            "log": Health(self.owner.ready, self.owner.detail),
            "history": Health(not self.orders.error, self.orders.error),
        }
        if self._unlogged:
            checks["kills"] = Health(False, f"latched, but not logged yet: {', '.join(self._unlogged)}")
        if self.reports.is_following:
            checks["venue_reports"] = Health(not self.reports.error, self.reports.error)
        checks["risk_events"] = Health(not self.risk.error, self.risk.error)
        return checks

    # ── commands ────────────────────────────────────────────────────────────────────────────

    def admit(self, *specs: OrderSpec) -> None:
        """Refuse what would add risk while this cell may not take it; nothing is recorded, a retry is safe."""
        for scope, kill in self.latched.items() if self.latched else ():
            if any(in_scope(scope, spec) and not (kill.halt and spec.reduce_only) for spec in specs):
                word = "halted" if kill.halt else "killed"
                raise Problem(503, word, f"{scope} is being {word}: {kill.reason}", retry_after=5)
        is_known = self.owner.machine.controls.book.partitions == self.partitions
        if not is_known and not all(spec.reduce_only for spec in specs):
            raise Problem(503, "limits_not_known", "this partition's part of the limits is not recorded", retry_after=1)
        if len(self.owner.machine.fold.orders) > ORDERS_IN_MEMORY_MAX:
            raise Problem(429, "history_behind", "the order history cannot follow; wait until it has", retry_after=5)
        if self.reports.lag > REPORTS_BEHIND_MAX:
            raise Problem(
                429, "reports_behind", f"{self.reports.lag} reports of the venue wait for a decision", retry_after=1
            )

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
        if self.partitions > 1 and isinstance(command, cmd.AddsExposure):
            command.may_wait = True
        try:
            answer = await self._queued(command, reduces_risk=reduces_risk)
        except SliceShort as short:
            answer = await self._after_waiting(command, short)
        now = self.context.clock.now()
        self.shared.latency.observe_ns(now - command.ts)
        self.shared.accepted.value += _orders_in(command)
        if tracing.is_on():
            spans.acknowledged(command, answer, now, in_request=in_request, caller=caller)
        return answer

    def _queued(self, command: cmd.Command, *, reduces_risk: bool = False) -> "asyncio.Future[Any]":
        try:
            return self.owner.submit(command, reduces_risk=reduces_risk)
        except Overloaded as error:
            raise Problem(429, "overloaded", str(error), retry_after=1) from error
        except Unavailable as error:
            raise Problem(503, "not_ready", str(error), retry_after=1) from error

    async def _after_waiting(self, command: cmd.Command, short: SliceShort) -> Any:
        """Decide again while the partition's part of a limit may become larger, at last for good."""
        assert isinstance(command, cmd.AddsExposure)
        loop = asyncio.get_running_loop()
        end = loop.time() + self.slices.seconds_max
        while loop.time() < end and await self.slices.more(short.shortage):
            try:
                return await self._queued(command)
            except SliceShort as again:  # others were faster
                short = again
        return await self._queued(msgspec.structs.replace(command, may_wait=False))

    async def submit_many(self, commands: list[cmd.Command]) -> list[Any]:
        """Hand a batch to the owner; each answer is an order or the exception that its command met."""
        if self.partitions > 1:
            for command in commands:
                if isinstance(command, cmd.SubmitOrder):
                    command.may_wait = True
        try:
            future = self.owner.submit_many(commands)
        except Overloaded as error:
            raise Problem(429, "overloaded", str(error), retry_after=1) from error
        except Unavailable as error:
            raise Problem(503, "not_ready", str(error), retry_after=1) from error
        answers = await future
        waiting = {place: answer for place, answer in enumerate(answers) if isinstance(answer, SliceShort)}
        if waiting:
            found = await asyncio.gather(
                *(self._after_waiting(commands[place], short) for place, short in waiting.items()),
                return_exceptions=True,
            )
            for place, answer in zip(waiting, found, strict=True):
                if isinstance(answer, BaseException) and not isinstance(answer, Problem | OrderError | Unavailable):
                    raise answer
                answers[place] = answer
        now = self.context.clock.now()
        for command, answer in zip(commands, answers, strict=True):
            if not isinstance(answer, Exception):
                self.shared.latency.observe_ns(now - command.ts)
                self.shared.accepted.inc(_orders_in(command))
                if tracing.is_on():
                    spans.acknowledged(command, answer, now, in_request=False)
        return answers

    def answered_before(self, spec: OrderSpec) -> Order | None:
        """The order that this client order id named before it left memory."""
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
            raise problem_of(error) from error
        except Unavailable as error:
            raise Problem(503, "history_unreadable", str(error), retry_after=1) from error

    # ── kills ───────────────────────────────────────────────────────────────────────────────

    def latch(self, command: cmd.Kill) -> None:
        """Refuse new orders of a scope from now on, whatever the log says."""
        self.latched[command.scope] = command

    async def log_kill(self, command: cmd.Kill) -> int:
        """Log and cancel what is latched; the latch holds even if the log cannot be written.

        Returns:
            How many orders were asked to be cancelled.

        Raises:
            Problem: 503 `latched_not_logged`.
        """
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
                await self.log_kill(command)

    def stopped(self) -> set[str]:
        """Every scope that is killed or halted here."""
        controls = self.owner.machine.controls
        return {*controls.kills, *controls.halts, *self.latched}

    async def resume(self, command: cmd.Resume) -> None:
        """Release a kill or halt; what the log refuses is not released."""
        scope = command.scope
        latched, unlogged = self.latched.get(scope), self._unlogged.pop(scope, None)
        try:
            await self.submit(command)
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
            found.extend(decode(record.body) for record in await self.context.bus.read(TOPIC, self.partition, seq, 1))
        return found

    async def positions(self, account: str) -> tuple[dict[str, Position], int]:
        """Every position that the account ever had, by instrument, and the event that they are as of."""
        return await self.owner.read(lambda machine: (machine.positions(account), machine.next_seq - 1))


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
