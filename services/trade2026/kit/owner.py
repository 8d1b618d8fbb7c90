"""The owner of a partition: takes commands, lets the machine decide, answers when the log is durable.

A decision is applied in memory at once and encoded; what waits is committed in one piece (group commit),
so the next decisions are made while the disk works. Nothing leaves before its events are durable: answers
wait, and so do reads, which see memory as it is when they are asked. If a commit fails, memory is ahead of
the log and is thrown away: the owner folds the log again, as after a crash. An owner that was fenced has
no future: it answers nobody and never writes again.
"""

import asyncio
import gc
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from trade2026.domain.events import AnyEvent, Envelope, decode, encode
from trade2026.kit.bus.port import Bus, Fenced, Writer
from trade2026.kit.clock import Clock

log = logging.getLogger(__name__)
T = TypeVar("T")

Emit = Callable[[AnyEvent], None]

COMMANDS_PER_TURN_MAX = 100
"""As many are decided, and committed in one piece, before the loop turns."""
_REPLAY_BATCH = 2_000
_RETRY_SECONDS = 0.1
_RETRY_SECONDS_MAX = 2.0


class Overloaded(Exception):
    """The queue is full: nothing was recorded, a retry is safe."""


class Unavailable(Exception):
    """The owner cannot acknowledge now; what was under way may or may not have been recorded."""


class Machine(Protocol):
    """A pure state machine: `decide` emits facts and returns the answer, `apply` folds them.

    What `decide` returns must not change afterwards: it waits until the facts are durable. `traceparent_of` is
    asked for the order or parent that an event is about, "" for neither.
    """

    @property
    def next_seq(self) -> int: ...
    def traceparent_of(self, subject: str, /) -> str: ...
    def decide(self, command: Any, emit: Emit) -> Any: ...
    def apply(self, envelope: Envelope) -> None: ...


class _Single:
    """Who waits for the answer to one command."""

    __slots__ = ("future",)

    def __init__(self, future: "asyncio.Future[Any]") -> None:
        self.future = future

    def answer(self, answers: list[Any]) -> None:
        if self.future.done():
            return
        (answer,) = answers
        if isinstance(answer, Exception):
            self.future.set_exception(answer)
        else:
            self.future.set_result(answer)


class _Batch:
    """Who waits for the answers to a batch."""

    __slots__ = ("answers", "awaited", "future")

    def __init__(self, future: "asyncio.Future[list[Any]]", awaited: int) -> None:
        self.future, self.awaited = future, awaited
        self.answers: list[Any] = [None] * awaited


class _Piece:
    """A part of a batch. One that has nothing to wait for may be answered before those in front of it."""

    __slots__ = ("batch", "first")

    def __init__(self, batch: _Batch, first: int) -> None:
        self.batch, self.first = batch, first

    def answer(self, answers: list[Any]) -> None:
        batch = self.batch
        batch.answers[self.first : self.first + len(answers)] = answers
        batch.awaited -= len(answers)
        if not batch.awaited and not batch.future.done():
            batch.future.set_result(batch.answers)


_Waiter = _Single | _Piece
_Queue = deque[tuple[Sequence[Any], _Waiter]]


class Owner:
    """One partition's owner.

    Args:
        machine: Makes an empty machine, or one restored from a snapshot; called again after a failed commit.
        restore: Gets the position at which the log ends, and returns a machine from a snapshot that is not
            beyond it; None begins with the whole log.
        pending_max: Commands that may wait for durability; beyond it new ones are refused, those that
            reduce risk are not.
        on_started: Awaited after every recovery, when commands are taken already.
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
        restore: Callable[[int], Machine | None] | None = None,
        on_started: Callable[[], Any] | None = None,
    ) -> None:
        self.bus, self.topic, self.partition, self.clock = bus, topic, partition, clock
        self.tenant, self.name, self.pending_max = tenant, name, pending_max
        self.machine: Any = machine()
        self.ready = False
        self.fenced = False
        """Another owner has claimed the partition: this one is of no use any more."""
        self.detail = "not started"
        self.commits = 0
        self.taken = 0
        """Commands that were taken, since the start."""
        self.submissions = 0
        """The same, a batch counted as one."""
        self._make_machine = machine
        self._restore = restore
        self._on_started = on_started
        self._writer: Writer | None = None
        self._urgent: _Queue = deque()
        self._normal: _Queue = deque()
        self._waiting = 0
        self._scheduled = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._last_commit: asyncio.Future[int] | None = None
        self._bodies: list[bytes] = []
        self._emitted = 0
        self._command: Any = None
        self._ts_init = 0
        self._stopping = False
        self._recovery: asyncio.Task[None] | None = None

    @property
    def epoch(self) -> int:
        """Of our claim; 0 before it."""
        return self._writer.epoch if self._writer else 0

    @property
    def pending(self) -> int:
        """Commands that wait for a decision or for durability."""
        return self._waiting

    # ── asking ──────────────────────────────────────────────────────────────────────────────

    def submit(self, command: Any, *, reduces_risk: bool = False) -> asyncio.Future[Any]:
        """Queue a command; the future holds the machine's answer once its events are durable.

        Raises:
            Overloaded: too many wait (never for a command that reduces risk).
            Unavailable: the owner is recovering or stopping.
        """
        self._admit(1, reduces_risk)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        (self._urgent if reduces_risk else self._normal).append(((command,), _Single(future)))
        self._schedule()
        return future

    def submit_many(self, commands: Sequence[Any], *, reduces_risk: bool = False) -> asyncio.Future[list[Any]]:
        """Queue commands that are independent of each other; the future holds all answers, in order.

        Each answer is the machine's, or the exception that its command met. Up to `COMMANDS_PER_TURN_MAX`
        are committed in one piece; a longer batch is cut, and others get their turn between the pieces.

        Raises:
            Overloaded, Unavailable: as `submit`; no command of the batch was taken.
        """
        self._admit(len(commands), reduces_risk)
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        if not commands:
            future.set_result([])
            return future
        batch = _Batch(future, len(commands))
        queue = self._urgent if reduces_risk else self._normal
        for first in range(0, len(commands), COMMANDS_PER_TURN_MAX):
            queue.append((commands[first : first + COMMANDS_PER_TURN_MAX], _Piece(batch, first)))
        self._schedule()
        return future

    async def read(self, question: Callable[[Any], T]) -> T:
        """Ask the machine now; return what it answers once all that it could see is durable.

        Args:
            question: Gets the machine. What it returns must not change afterwards: copy what lives on.

        Raises:
            Unavailable: the owner is not ready, or what the answer has seen was not recorded.
        """
        if not self.ready:
            raise Unavailable(self.detail)
        answer, last = question(self.machine), self._last_commit
        if last is None:
            return answer
        if not last.done():
            await asyncio.wait([last])
        if last.cancelled() or (error := last.exception()) is not None:
            raise Unavailable(f"not answered: {'the owner was stopped' if last.cancelled() else error}")
        return answer

    def _admit(self, count: int, reduces_risk: bool) -> None:
        if not self.ready or self._stopping:
            raise Unavailable("stopping" if self.ready else self.detail)
        if not reduces_risk and self._waiting and self._waiting + count > self.pending_max:
            raise Overloaded(f"{self._waiting} commands are waiting, the most is {self.pending_max}")
        self._waiting += count
        self.taken += count
        self.submissions += 1

    def _schedule(self) -> None:
        self._idle.clear()
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._turn)

    # ── life ────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Claim the partition, fold its log to the end, and be ready."""
        await self._claim_and_fold()
        self.ready, self.detail = True, "ready"
        if self._on_started is not None:
            await self._on_started()

    async def _claim_and_fold(self) -> None:
        self.detail = "claiming the log"
        self._writer = await self.bus.claim(self.topic, self.partition, self.name)
        end = self._writer.next_seq
        restored = self._restore(end) if self._restore is not None else None
        if restored is not None:
            self.machine = restored
        machine = self.machine
        assert machine.next_seq <= end, f"the machine is at {machine.next_seq}, {self.topic} ends at {end}"
        while machine.next_seq < end:
            records = await self.bus.read(self.topic, self.partition, machine.next_seq, _REPLAY_BATCH)
            assert records, f"{self.topic} ends at {machine.next_seq}, not {end}"
            for record in records:
                envelope = decode(record.body)
                machine.apply(envelope)
                self._ts_init = envelope.ts_init
            self.detail = f"replayed {machine.next_seq} of {end} events"
            if len(records) == _REPLAY_BATCH:
                gc.freeze()  # what was folded lives on: the collector need not look at it again and again
            await asyncio.sleep(0)
        if restored is not None and end:  # the last record may be older than the snapshot: its time still binds us
            last = await self.bus.read(self.topic, self.partition, end - 1, 1)
            self._ts_init = max(self._ts_init, decode(last[-1].body).ts_init)

    async def stop(self) -> None:
        """Answer what was accepted, then let the log go."""
        self._stopping = True
        if self._recovery is not None:
            self._recovery.cancel()
            await asyncio.gather(self._recovery, return_exceptions=True)
        await self._idle.wait()
        self.ready = False
        if not self.fenced:
            self.detail = "stopped"
        if self._writer is not None:
            await self._writer.close()

    # ── the turn ────────────────────────────────────────────────────────────────────────────

    def _turn(self) -> None:
        self._scheduled = False
        if not self.ready:
            return
        answered: list[tuple[_Waiter, list[Any]]] = []
        room = COMMANDS_PER_TURN_MAX
        broken: Exception | None = None
        while room > 0 and broken is None and (queue := self._urgent or self._normal):
            commands, waiter = queue.popleft()
            room -= len(commands)
            answers: list[Any] = []
            for command in commands:
                if broken is None:
                    broken = self._decide(command, answers)
                else:
                    answers.append(Unavailable(f"not decided: {broken!r}"))
            answered.append((waiter, answers))
        self._commit(answered)
        if broken is not None:
            self._fail(broken)
        elif self._urgent or self._normal:
            self._schedule()

    def _decide(self, command: Any, answers: list[Any]) -> Exception | None:
        """Decide one command. Returns what broke the machine: a refusal emits nothing and breaks nothing."""
        self._command = command
        bodies, emitted = len(self._bodies), self._emitted
        try:
            answers.append(self.machine.decide(command, self._emit))
        except Exception as error:
            answers.append(error)
            if self._emitted != emitted:
                del self._bodies[bodies:]
                log.exception("%s: a decision broke half-way: %r", self.topic, command)
                return error
        return None

    def _emit(self, event: AnyEvent) -> None:
        writer, command = self._writer, self._command
        assert writer is not None
        self._emitted += 1
        self._ts_init = ts_init = max(self.clock.now(), self._ts_init)
        subject = getattr(event, "order_id", "") or getattr(event, "parent_id", "")
        envelope = Envelope(
            self.machine.next_seq,
            writer.epoch,
            getattr(command, "ts_report", 0) or command.ts,
            ts_init,
            self.tenant,
            command.principal,
            subject or command.correlation_id,
            command.causation_id,
            self.machine.traceparent_of(subject) or command.traceparent,
            event,
        )
        self.machine.apply(envelope)
        self._bodies.append(encode(envelope))

    def _commit(self, answered: list[tuple[_Waiter, list[Any]]]) -> None:
        writer = self._writer
        assert writer is not None
        if self._bodies:
            bodies, self._bodies = self._bodies, []
            self.commits += 1
            self._last_commit = writer.append(bodies)
        last = self._last_commit
        if last is None or last.done():
            self._settle(last, writer, answered)
        else:
            last.add_done_callback(lambda done: self._settle(done, writer, answered))

    def _settle(
        self, done: "asyncio.Future[int] | None", writer: Writer, answered: list[tuple[_Waiter, list[Any]]]
    ) -> None:
        error = None
        if done is not None:
            error = Unavailable("the owner was stopped") if done.cancelled() else done.exception()
        for waiter, answers in answered:
            self._waiting -= len(answers)
            waiter.answer(answers if error is None else _refused(answers, f"not acknowledged: {error}"))
        if error is not None and writer is self._writer:
            self._fail(error)
        if not self._waiting:
            self._idle.set()

    # ── when the log refuses ────────────────────────────────────────────────────────────────

    def _fail(self, error: BaseException) -> None:
        if not self.ready:
            return
        self.ready, self.fenced = False, isinstance(error, Fenced)
        self.detail = f"another owner has the log: {error}" if self.fenced else f"begins again from its log: {error!r}"
        log.error("%s: %s", self.topic, self.detail)
        waiting = [*self._urgent, *self._normal]
        self._urgent.clear()
        self._normal.clear()
        for commands, waiter in waiting:
            self._waiting -= len(commands)
            waiter.answer(_refused(commands, self.detail))
        if not self._waiting:
            self._idle.set()
        recovering = self._recovery is not None and not self._recovery.done()
        if not (self.fenced or self._stopping or recovering):
            self._recovery = asyncio.ensure_future(self._recover())

    async def _recover(self) -> None:
        """Memory is ahead of the log: forget it, and begin again as after a crash."""
        delay = _RETRY_SECONDS
        while not (self.ready or self.fenced or self._stopping):
            try:
                if self._writer is not None:
                    await self._writer.close()
                self._bodies.clear()
                self._last_commit = None
                self.machine = self._make_machine()
                await self.start()
            except Exception as error:
                self._fail(error)  # if it was ready already, those who wait must hear of it
                if not self.fenced:
                    self.detail = f"recovering: {error!r}"
                    log.warning("%s: %s", self.topic, self.detail)
            if not self.ready:
                await asyncio.sleep(delay)
                delay = min(2 * delay, _RETRY_SECONDS_MAX)


def _refused(answers: Sequence[Any], detail: str) -> list[Any]:
    return [Unavailable(detail) for _ in answers]
