"""The parents of one partition's accounts: their owner, what it follows, and the way to the order service."""

import asyncio
import contextlib
import logging
from functools import partial

from trade2026 import __version__
from trade2026.domain.commands import Command, StartOwner
from trade2026.domain.events import ChildReported, Envelope
from trade2026.domain.instruments import Instrument
from trade2026.domain.parents import Algo, ParentSpec
from trade2026.exeq import commands as cmd
from trade2026.exeq.machine import ExecutionMachine, ParentError
from trade2026.exeq.order_entry import TOPIC, OrderEntry
from trade2026.exeq.parents import Parent
from trade2026.exeq.reports import OrderReports
from trade2026.exeq.tape import Tape, VolumeProfile
from trade2026.kit.bus.port import BusError, Record
from trade2026.kit.follower import Follower
from trade2026.kit.http import Problem
from trade2026.kit.own_key import own_key
from trade2026.kit.own_snapshots import OwnSnapshots
from trade2026.kit.owner import Overloaded, Owner, Unavailable
from trade2026.kit.projection import snapshot_directory
from trade2026.kit.service import Context, Health
from trade2026.kit.snapshots import SnapshotStore

log = logging.getLogger(__name__)

ORDERS = "orders.events"
PARENTS_OPEN_MAX = 500
"""Of one partition."""
_TIMER_SECONDS_MAX = 0.25
_RETRY_SECONDS = 0.1
_SNAPSHOT_EVENTS = 5_000
"""Between two snapshots; more where there are so many children that writing them would take its share."""
_CHILDREN_PER_EVENT = 4
"""Children that a snapshot may write for each event since the last one."""


class ExeqCell:
    """See `Cell`.

    Args:
        instruments: By id.
        profile: When in the day an instrument trades.
    """

    def __init__(
        self, context: Context, instruments: dict[str, Instrument], profile: VolumeProfile, partition: int
    ) -> None:
        self.context, self.settings, self.partition = context, context.settings, partition
        settings = self.settings
        self.instruments, self.profile = instruments, profile
        self.owner = Owner(
            context.bus,
            TOPIC,
            self._machine,
            context.clock,
            tenant=settings.stack,
            name=f"{settings.release}-exeq-{context.instance}",
            partition=partition,
            restore=self._restored,
            on_started=self._started,
        )
        self.snapshots = SnapshotStore(snapshot_directory(settings.state, "exeq", partition), "exeq")
        self.kept = OwnSnapshots(self.snapshots, "the parents")
        self.tape = Tape(context.bus)
        self.entry = OrderEntry(settings.addresses("oms"), own_key(), self.owner, self._report)
        self._orders: Follower | None = None
        self._reports: OrderReports | None = None
        self._news: list[ChildReported] = []
        """Of the batch of order events that is being read."""
        self._timer: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._accepting = 0
        self._stopping = False
        self._attaching = asyncio.Lock()

    @property
    def machine(self) -> ExecutionMachine:
        """The parents; another object after a recovery."""
        return self.owner.machine

    def _machine(self) -> ExecutionMachine:
        return ExecutionMachine(self.instruments, self.partition)

    def _restored(self, end: int) -> ExecutionMachine | None:
        """From the newest snapshot that can be read."""

        self.snapshots.refuse_lost_end(TOPIC, end)
        return self.kept.restored(self._machine, end)

    async def start(self) -> None:
        """See `Cell.start`."""
        await self.owner.start()
        self.entry.start(await self.owner.read(ExecutionMachine.unacknowledged))
        self._timer = asyncio.create_task(self._tick(), name="parents")

    async def _started(self) -> None:
        """After every recovery: say who owns the log, and go on where it ends."""
        now = self.context.clock.now()
        start = StartOwner(
            ts=now,
            owner=self.owner.name,
            epoch=self.owner.epoch,
            code_version=__version__,
            config_hash=self.settings.config_hash,
        )
        await self.owner.submit(start, reduces_risk=True)
        async with self._attaching:
            await self._let_go()
        if self.machine.open:
            await self._attach()

    async def _attach(self) -> None:
        """Follow the market and the orders, which nobody needs while no parent is open. Idempotent."""
        async with self._attaching:
            machine = self.machine
            worked = {parent.spec.instrument for parent in machine.open.values()}
            # What nobody worked for is no use any more: only differences count, within one parent.
            await self.tape.open({name: seen for name, seen in machine.markets.items() if name in worked})
            if self._orders is None:
                await self._follow_orders()

    async def _detach(self) -> None:
        """Follow nothing while no parent is open."""
        async with self._attaching:
            if not (self.machine.open or self._accepting):
                await self._let_go()

    async def _let_go(self) -> None:
        await self.tape.close()
        if self._orders is not None:
            orders, self._orders = self._orders, None
            await orders.stop()

    async def _follow_orders(self) -> None:
        """From the last news of a child on; before the first parent from the end."""
        machine, bus = self.machine, self.context.bus
        self._news = []
        self._reports = OrderReports(machine.parents)
        begin = machine.orders_seq + 1 if machine.open else await bus.end(ORDERS, self.partition)
        self._orders = Follower(
            bus,
            ORDERS,
            self._on_order,
            partition=self.partition,
            from_seq=begin,
            on_batch=partial(self._record_news, machine),
        )
        await self._orders.start()

    async def stop(self) -> None:
        """See `Cell.stop`."""
        self._stopping = True  # a cancel alone may be lost in what is awaited just then
        self._wake.set()
        if self._timer is not None:
            self._timer.cancel()
            await asyncio.gather(self._timer, return_exceptions=True)
        await self.entry.stop()
        await self._let_go()
        await self.kept.keep_last(self.owner)
        await self.owner.stop()

    @property
    def fenced(self) -> bool:
        """See `Cell.fenced`."""
        return self.owner.fenced

    @property
    def followed(self) -> list[Follower]:
        """What it follows, for the lag."""
        return [part for part in (self._orders, self.tape.followed) if part is not None]

    def readiness(self) -> tuple[bool, str]:
        """See `Cell.readiness`."""
        return self.owner.ready and self._timer is not None, self.owner.detail

    def health(self) -> dict[str, Health]:
        """See `Cell.health`."""
        orders_error = self._orders.error if self._orders is not None else ""
        return {
            "log": Health(self.owner.ready, self.owner.detail),
            "orders_log": Health(not orders_error, orders_error),
            "order_entry": Health(not self.entry.detail, self.entry.detail),
            "market_data": Health(not self.tape.error, self.tape.error),
            "snapshots": self.kept.health(),
        }

    @property
    def lag(self) -> int:
        """Records of the order log that are not read yet."""
        return self._orders.lag if self._orders is not None else 0

    # ── commands ────────────────────────────────────────────────────────────────────────────

    async def accept(self, spec: ParentSpec, principal: str, traceparent: str, now: int) -> Parent:
        """Begin a parent.

        Raises:
            Problem: it was refused, or can't be taken now.
        """
        if len(self.machine.open) >= PARENTS_OPEN_MAX:
            raise Problem(429, "too_many_open", f"{PARENTS_OPEN_MAX} parents are open, that is the most", retry_after=5)
        self._accepting += 1
        try:
            await self._attach()
            command = cmd.AcceptParent(
                ts=now,
                principal=principal,
                traceparent=traceparent,
                spec=spec,
                weights=await self._weights(
                    spec, max(now, spec.start_at), spec.end_at or max(now, spec.start_at) + spec.duration, spec.slices
                ),
                market=self.tape.get(spec.instrument),
            )
            return self.machine.parents[await self.ask(command)]
        finally:
            self._accepting -= 1

    async def weights_left(self, parent: Parent, now: int, end_at: int) -> tuple[int, ...]:
        """Return the recorded volume of what is left of a parent's time, in as many parts as it has slices left."""
        left = max(1, len(parent.slices) - parent.next_slice)
        return await self._weights(parent.spec, max(now, parent.slices[0].due), end_at or parent.end_at, left)

    async def _weights(self, spec: ParentSpec, begin: int, end: int, parts: int) -> tuple[int, ...]:
        if spec.algo is not Algo.VWAP or spec.profile or end <= begin:
            return ()
        return await self.profile.weights(spec.instrument, begin, end, parts)

    async def ask(self, command: Command, *, reduces_risk: bool = False) -> str:
        """Hand a command to the owner; return the parent's id once it is durable.

        Raises:
            Problem: it was refused, or can't be taken now.
        """
        try:
            answer = await self.owner.submit(command, reduces_risk=reduces_risk)
        except ParentError as error:
            raise Problem(error.status, error.code, str(error)) from error
        except Overloaded as error:
            raise Problem(429, "overloaded", str(error), retry_after=1) from error
        except Unavailable as error:
            raise Problem(503, "not_acknowledged", str(error), retry_after=1) from error
        self._look()
        return answer

    def _look(self) -> None:
        """Something was decided: there may be something to send, or to wait for."""
        self._wake.set()
        self.entry.wake()

    async def _report(self, report: ChildReported) -> None:
        """Record what the order service has answered."""
        await self.owner.submit(self._command(report), reduces_risk=True)
        self._look()

    def _command(self, report: ChildReported) -> cmd.ReportChild:
        parent = self.machine.parents.get(report.parent_id)
        market = self.tape.get(parent.spec.instrument) if parent is not None else None
        cause = f"{ORDERS}/{self.partition}/{report.orders_seq}" if report.orders_seq >= 0 else ""
        now = self.context.clock.now()
        return cmd.ReportChild(ts=now, principal="orders", causation_id=cause, report=report, market=market)

    # ── what it follows ─────────────────────────────────────────────────────────────────────

    def _on_order(self, envelope: Envelope, record: Record) -> None:
        assert self._reports is not None
        news = self._reports.read(envelope)
        if news is not None:
            self._news.append(news)

    async def _record_news(self, machine: ExecutionMachine) -> None:
        """Record the batch; the log is not read on until this has worked, or the owner has begun again."""
        while self._news and self.owner.machine is machine:
            try:
                commands = [self._command(news) for news in self._news]
                answers = await self.owner.submit_many(commands, reduces_risk=True)
            except Unavailable as error:
                answers = [error]
            for answer in answers:
                if isinstance(answer, Exception) and not isinstance(answer, Unavailable):
                    raise answer
            if not any(isinstance(answer, Unavailable) for answer in answers):
                self._news = []
                self._look()
                return
            await asyncio.sleep(_RETRY_SECONDS)

    async def _tick(self) -> None:
        """Let time pass for the parents when something is due."""
        while not self._stopping:
            self._wake.clear()
            try:
                wait = await self._pass_time()
                await self._snapshot_if_due()
            except (Overloaded, Unavailable, BusError) as error:
                log.warning("%s: time could not pass: %s", TOPIC, error)
                wait = _RETRY_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wake.wait()

    async def _snapshot_if_due(self) -> None:
        since = self.machine.next_seq - self.kept.next_seq
        if since < _SNAPSHOT_EVENTS:
            return
        if since * _CHILDREN_PER_EVENT >= sum(len(parent.children) for parent in self.machine.parents.values()):
            await self.kept.keep(self.owner)

    async def _pass_time(self) -> float | None:
        """Do what is due; return for how many seconds nothing will be, None while no parent is open."""
        await (self._attach() if self.machine.open else self._detach())
        due, now = self.machine.next_due(), self.context.clock.now()
        if due is not None and due <= now:
            await self.owner.submit(cmd.PassTime(ts=now, principal="clock", markets=self.tape.markets))
            self._look()
            return 0.0
        if not self.machine.open:
            return None
        return _TIMER_SECONDS_MAX if due is None else min(_TIMER_SECONDS_MAX, (due - now) / 1e9)
