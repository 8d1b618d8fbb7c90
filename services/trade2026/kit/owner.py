"""The owner of a partition: takes commands, lets the machine decide, answers when the log is durable.

A decision is applied in memory at once and encoded; what waits is committed in one piece (group commit),
so the next decisions are made while the disk works. Nothing leaves before its events are durable: answers
wait, and so do reads (`barrier`). If a commit fails, memory is ahead of the log and is thrown away: the
owner folds the log again, as after a crash.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from trade2026.domain.events import AnyEvent, Envelope, decode, encode
from trade2026.kit.bus.port import Bus, BusError, Fenced, Writer
from trade2026.kit.clock import Clock

log = logging.getLogger(__name__)

Emit = Callable[[AnyEvent], None]

_DECISIONS_PER_TURN = 128
_REPLAY_BATCH = 2_000


class Overloaded(Exception):
    """The queue is full: nothing was recorded, a retry is safe."""


class Unavailable(Exception):
    """The owner cannot acknowledge now; what was under way may or may not have been recorded."""


class Machine(Protocol):
    """A pure state machine: `decide` emits facts and returns the answer, `apply` folds them."""

    @property
    def next_seq(self) -> int: ...
    def traceparent_of(self, order_id: str) -> str: ...
    def decide(self, command: Any, emit: Emit) -> Any: ...
    def apply(self, envelope: Envelope) -> None: ...


class Owner:
    """One partition's owner.

    Args:
        machine: Makes an empty machine, or one restored from a snapshot; called again after a failed commit.
        pending_max: Commands that may wait for durability; beyond it new ones are refused, those that
            reduce risk are not.
    """

    def __init__(
        self,
        bus: Bus,
        topic: str,
        machine: Callable[[], Machine],
        clock: Clock,
        *,
        tenant: str,
        name: str,
        partition: int = 0,
        pending_max: int = 20_000,
        on_started: Callable[[], Any] | None = None,
    ) -> None:
        self.bus, self.topic, self.partition, self.clock = bus, topic, partition, clock
        self.tenant, self.name, self.pending_max = tenant, name, pending_max
        self.machine: Any = machine()
        self.ready = False
        self.detail = "not started"
        self.commits = 0
        self._make_machine = machine
        self._on_started = on_started
        self._writer: Writer | None = None
        self._urgent: deque[tuple[Any, asyncio.Future[Any]]] = deque()
        self._normal: deque[tuple[Any, asyncio.Future[Any]]] = deque()
        self._waiting = 0
        self._scheduled = False
        self._idle = asyncio.Event()
        self._last_commit: asyncio.Future[int] | None = None
        self._bodies: list[bytes] = []
        self._command: Any = None
        self._ts_init = 0
        self._stopping = False
        self._recovery: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Claim the partition, fold its log to the end, and be ready."""
        self.detail = "claiming the log"
        self._writer = await self.bus.claim(self.topic, self.partition, self.name)
        end = self._writer.next_seq
        machine = self.machine
        while machine.next_seq < end:
            records = await self.bus.read(self.topic, self.partition, machine.next_seq, _REPLAY_BATCH)
            assert records, f"{self.topic} ends at {machine.next_seq}, not {end}"
            for record in records:
                envelope = decode(record.body)
                machine.apply(envelope)
                self._ts_init = envelope.ts_init
            self.detail = f"replayed {machine.next_seq} of {end} events"
            await asyncio.sleep(0)
        self.ready, self.detail = True, "ready"
        if self._on_started is not None:
            await self._on_started()

    @property
    def epoch(self) -> int:
        """Of our claim; 0 before it."""
        return self._writer.epoch if self._writer else 0

    @property
    def pending(self) -> int:
        """Commands that wait for a decision or for durability."""
        return self._waiting

    def submit(self, command: Any, *, reduces_risk: bool = False) -> asyncio.Future[Any]:
        """Queue a command; the future holds the machine's answer once its events are durable.

        Raises:
            Overloaded: too many wait (never for a command that reduces risk).
            Unavailable: the owner is recovering or stopping.
        """
        if not self.ready or self._stopping:
            raise Unavailable(self.detail)
        if self._waiting >= self.pending_max and not reduces_risk:
            raise Overloaded(f"{self._waiting} commands are waiting, the most is {self.pending_max}")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        (self._urgent if reduces_risk else self._normal).append((command, future))
        self._waiting += 1
        self._idle.clear()
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._turn)
        return future

    async def barrier(self) -> None:
        """Wait until all that memory shows now is durable: a read must not show what a crash could undo."""
        if self._last_commit is not None and not self._last_commit.done():
            try:
                await asyncio.shield(self._last_commit)
            except BusError as error:
                raise Unavailable(str(error)) from error

    async def stop(self) -> None:
        """Answer what was accepted, then let the log go."""
        self._stopping = True
        if self._recovery is not None:
            self._recovery.cancel()
        if self._waiting and self.ready:
            await self._idle.wait()
        self.ready, self.detail = False, "stopped"
        if self._writer is not None:
            await self._writer.close()

    # ── the turn ────────────────────────────────────────────────────────────────────────────

    def _turn(self) -> None:
        self._scheduled = False
        if not self.ready:
            return
        answered: list[tuple[asyncio.Future[Any], Any]] = []
        for _ in range(_DECISIONS_PER_TURN):
            if self._urgent:
                command, future = self._urgent.popleft()
            elif self._normal:
                command, future = self._normal.popleft()
            else:
                break
            self._command = command
            try:
                answered.append((future, self.machine.decide(command, self._emit)))
            except Exception as error:
                answered.append((future, error))
        self._commit(answered)
        if (self._urgent or self._normal) and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _emit(self, event: AnyEvent) -> None:
        writer, command = self._writer, self._command
        assert writer is not None
        self._ts_init = ts_init = max(self.clock.now(), self._ts_init)
        order_id = getattr(event, "order_id", "")
        envelope = Envelope(
            self.machine.next_seq,
            writer.epoch,
            getattr(command, "ts_report", 0) or command.ts,
            ts_init,
            self.tenant,
            command.principal,
            order_id or command.correlation_id,
            command.causation_id,
            self.machine.traceparent_of(order_id) or command.traceparent,
            event,
        )
        self.machine.apply(envelope)
        self._bodies.append(encode(envelope))

    def _commit(self, answered: list[tuple[asyncio.Future[Any], Any]]) -> None:
        if self._bodies:
            assert self._writer is not None
            bodies, self._bodies = self._bodies, []
            self.commits += 1
            self._last_commit = self._writer.append(bodies)
        last = self._last_commit
        if last is None or last.done():
            self._settle(last, answered)
        else:
            last.add_done_callback(lambda done: self._settle(done, answered))

    def _settle(self, done: "asyncio.Future[int] | None", answered: list[tuple[asyncio.Future[Any], Any]]) -> None:
        error = None
        if done is not None:
            error = Unavailable("the owner was stopped") if done.cancelled() else done.exception()
        self._waiting -= len(answered)
        for future, answer in answered:
            if future.done():
                continue
            if error is not None:
                future.set_exception(Unavailable(f"not acknowledged: {error}"))
            elif isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        if error is not None:
            self._fail(error)
        if not self._waiting:
            self._idle.set()

    def _fail(self, error: BaseException) -> None:
        if not self.ready:
            return
        self.ready, self.detail = False, f"the log refused a commit: {error}"
        log.error("%s: %s", self.topic, self.detail)
        waiting = [*self._urgent, *self._normal]
        self._urgent.clear()
        self._normal.clear()
        self._waiting -= len(waiting)
        for _, future in waiting:
            if not future.done():
                future.set_exception(Unavailable(self.detail))
        if not isinstance(error, Fenced) and not self._stopping:
            self._recovery = asyncio.ensure_future(self._recover())

    async def _recover(self) -> None:
        """Memory is ahead of the log: forget it, and begin again as after a crash."""
        delay = 0.1
        while not self._stopping:
            try:
                if self._writer is not None:
                    await self._writer.close()
                self._bodies.clear()
                self._last_commit = None
                self.machine = self._make_machine()
                await self.start()
                return
            except BusError as error:
                self.ready, self.detail = False, f"recovering: {error}"
                await asyncio.sleep(delay)
                delay = min(2 * delay, 2.0)
