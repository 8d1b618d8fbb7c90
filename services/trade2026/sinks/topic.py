"""One topic's way into its table: wait until a batch is due, read it, commit it with its position."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, Self, TypeVar

from trade2026.domain.events import UnknownEvent, decode
from trade2026.kit.bus.port import Bus, BusError, Record, Trimmed
from trade2026.kit.clock import Clock
from trade2026.kit.dead_letters import DeadLetters
from trade2026.kit.metrics import Counter, LatencyHistogram, Metrics
from trade2026.kit.service import Health
from trade2026.sinks.machine import Feed, Intake, Unstorable, offset_names
from trade2026.stores.lake import Columns, Lake, LakeConflict, LakeError, NoSuchTable, TableSpec

log = logging.getLogger(__name__)

_BATCH_BYTES_MAX = 8 * 1024 * 1024
"""Of the log's records in one commit: what a batch needs in memory is a few times this."""
_RECORDS_PER_READ = 500
_LOOK_SECONDS = 1.0
_RETRY_SECONDS_MIN, _RETRY_SECONDS_MAX = 0.2, 10.0
_SLOW_SECONDS = 5.0
"""A store that has not answered for longer is told of."""
_START_SECONDS_MAX = _STOP_SECONDS_MAX = 5.0
"""A store that hangs holds up neither the start of its process nor its end."""
ANSWER_SECONDS_MAX = 25.0
"""That a client waits for what a store says: longer than a store of objects may take for one request."""
_GAP_TOLD_NS = 3_600 * 10**9
_KEPT_SHARE_MAX = 0.8
"""Lag beyond this share of what the log keeps is told: soon it drops what was not stored."""

T = TypeVar("T")
Call = Callable[..., Awaitable[Any]]
"""Calls a function of the store on the writer's thread."""


class NotAnswered(Exception):
    """A store has not answered in time."""


async def answer_in_time(answer: Awaitable[T], seconds_max: float | None = None) -> T:
    """What a store answers a client, who waits so long and no longer; `ANSWER_SECONDS_MAX` if nothing is said.

    Raises:
        NotAnswered: the store goes on with it, if it has begun.
    """
    within = ANSWER_SECONDS_MAX if seconds_max is None else seconds_max
    try:
        async with asyncio.timeout(within):
            return await answer
    except TimeoutError as error:
        raise NotAnswered(f"the store has not answered for {within:g} s") from error


async def on_thread(thread: Executor, function: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """Call on a thread; what has begun is finished there, even if nobody waits any more."""
    return await asyncio.get_running_loop().run_in_executor(thread, partial(function, *args, **named))


def room_elsewhere() -> Health:
    """The room of a store that needs none of this machine's disk."""
    return Health(True)


class Destination(Protocol):
    """Where rows are kept together with the position in the topic that they reach to."""

    failures: tuple[type[Exception], ...]
    """What it raises when the same may work later."""

    def offsets(self, table: str, names: Sequence[str]) -> dict[str, int]:
        """The positions that were written; those that never were are left out."""
        ...

    def newest_day(self, table: str) -> int:
        """Of the rows in the table, days since 1970; 0 where that is not known."""
        ...

    def append(self, spec: TableSpec, columns: Columns, offsets: Mapping[str, int]) -> object:
        """Write rows and positions, so that writing them again changes nothing or is refused."""
        ...


class InLake:
    """A lake as a destination."""

    failures: tuple[type[Exception], ...] = (LakeError,)

    def __init__(self, lake: Lake) -> None:
        self.lake = lake

    def offsets(self, table: str, names: Sequence[str]) -> dict[str, int]:
        return self.lake.offsets(table, names)

    def newest_day(self, table: str) -> int:
        try:
            return max((part.day for part in self.lake.state(table).parts), default=0)
        except NoSuchTable:
            return 0

    def append(self, spec: TableSpec, columns: Columns, offsets: Mapping[str, int]) -> object:
        return self.lake.append(spec, columns, offsets)


@dataclass(frozen=True)
class Measured:
    """What is counted of one table."""

    rows: Counter
    commits: Counter
    late: Counter
    lost: Counter
    commit_seconds: LatencyHistogram

    @classmethod
    def of(cls, metrics: Metrics, store: str, **labels: str) -> Self:
        """As the metrics of a store, `trade2026_STORE_…`."""
        return cls(
            rows=metrics.counter(f"trade2026_{store}_rows_total", "Rows stored", **labels),
            commits=metrics.counter(f"trade2026_{store}_commits_total", "Batches stored", **labels),
            late=metrics.counter(f"trade2026_{store}_late_rows_total", "Rows of an earlier day", **labels),
            lost=metrics.counter(f"trade2026_{store}_lost_records_total", "Dropped before they were stored", **labels),
            commit_seconds=metrics.histogram(f"trade2026_{store}_commit_seconds", "A batch's commit", **labels),
        )


class TopicSink:
    """Follows one topic.

    Args:
        call: Calls the destination.
        room: How the disk is: below the floor nothing is written, and the log keeps what it can.
        dead: Where a record is put of which there is no row; without it the sink stops there.
    """

    def __init__(
        self,
        bus: Bus,
        store: Destination,
        clock: Clock,
        feed: Feed,
        *,
        call: Call,
        room: Callable[[], Health],
        measured: Measured,
        batch_rows: int,
        batch_seconds: float,
        dead: DeadLetters | None = None,
    ) -> None:
        self.bus, self.store, self.clock, self.feed = bus, store, clock, feed
        self._failures = (BusError, *store.failures)
        self.batch_rows, self.batch_seconds = batch_rows, batch_seconds
        self.measured = measured
        self.intake: Intake | None = None
        self.error = ""
        """Why nothing is stored; empty while all is well."""
        self.stopped = ""
        """Why nothing will be stored any more."""
        self.opened = False
        """The table was asked once how far it is."""
        self.end_seen = 0
        self.start_seen = 0
        self.stored_to = 0
        """The position after the last stored record."""
        self.stored_at = 0
        """When the last batch was stored (ns)."""
        self._committed = 0
        """The position that the table says, as far as is known here: `stored_to`, less what came since without rows."""
        self._lost = self._late = 0
        """As counted in the last commit."""
        self._gap, self._gap_at = "", 0
        self._call, self._room, self._dead = call, room, dead
        self._asked_at = 0.0
        """When the store was asked what it has not answered yet (monotonic, s); 0 while it is asked nothing."""
        self._tried, self._ending = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def topic(self) -> str:
        """What it follows."""
        return self.feed.topic

    @property
    def lag(self) -> int:
        """Records in the log that are not stored."""
        return max(0, self.end_seen - self.stored_to) if self.opened else 0

    async def start(self) -> None:
        """Learn where to go on, and go on in the background. A store that can't be read is asked again there."""
        self._task = asyncio.create_task(self._run(), name=f"{self.topic} to {self.feed.spec.name}")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_START_SECONDS_MAX):
                await self._tried.wait()

    async def stop(self) -> None:
        """Store what is in the log, a batch at most, then end. What a store that hangs was asked for is left to it."""
        self._ending.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_STOP_SECONDS_MAX)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def health(self) -> dict[str, Health]:
        """Whether it stores, and whether the log keeps what is to be stored."""
        fault = self.stopped or self.error or self._slow()
        return {
            self.topic: Health(not fault, fault or f"stored to {self.stored_to}, {self.lag} behind"),
            f"{self.topic} kept": self._kept(),
        }

    def _slow(self) -> str:
        waited = time.monotonic() - self._asked_at if self._asked_at else 0.0
        return f"the store has not answered for {waited:.0f} s; {self.lag} behind" if waited > _SLOW_SECONDS else ""

    def _kept(self) -> Health:
        if self._gap and self.clock.now() - self._gap_at < _GAP_TOLD_NS:
            return Health(False, self._gap)
        kept = self.end_seen - self.start_seen
        if self.start_seen and self.lag > kept * _KEPT_SHARE_MAX:
            return Health(
                False, f"{self.lag} of the {kept} records that the log keeps are not stored: it drops them soon"
            )
        lost = self.intake.lost if self.intake is not None else 0
        return Health(True, f"{lost} records were lost before they were stored, ever" if lost else "")

    async def _run(self) -> None:
        delay = _RETRY_SECONDS_MIN
        while not self.stopped:
            try:
                if self.intake is None:
                    await self._open()
                    self._tried.set()
                await self._due()
                room = self._room()
                if room.ok:
                    await self._store()
                self.error = "" if room.ok else f"waits at {self.stored_to}: {room.detail}"
                if not room.ok:
                    await self._pause(_LOOK_SECONDS)
                delay = _RETRY_SECONDS_MIN
            except self._failures as error:
                self._failed(error)
                await self._look()
                await self._pause(delay)
                delay = min(2 * delay, _RETRY_SECONDS_MAX)
            except Exception as error:
                self.stopped = f"stopped at {self.stored_to}: {error}"
                log.exception("%s: %s", self.topic, self.stopped)
            finally:
                self._tried.set()
            if self._ending.is_set():
                return

    async def _open(self) -> None:
        """What the table says, not what this process remembers: an append that failed may be there all the same."""
        table, topic = self.feed.spec.name, self.topic
        offsets = await self._ask(self.store.offsets, table, offset_names(topic))
        newest_day = await self._ask(self.store.newest_day, table)
        begin, end = await self.bus.start(topic, 0), await self.bus.end(topic, 0)
        intake = Intake(self.feed, offsets, newest_day, begin)
        if intake.next_seq > end:
            log.warning("%s ends at %s, stored is to %s: it has lost its end", topic, end, intake.next_seq)
            intake.rewind_to(end)
        elif intake.next_seq < self._committed:
            self._told_gap(f"the table was taken away, and is made again from record {intake.next_seq} on")
        self.start_seen, self.end_seen = begin, end
        self.intake, self.opened = intake, True
        self.stored_to = self._committed = intake.next_seq
        self._lost, self._late = intake.lost, intake.late

    async def _see(self) -> None:
        """Where the log begins and ends now."""
        self.start_seen, self.end_seen = await self.bus.start(self.topic, 0), await self.bus.end(self.topic, 0)

    async def _look(self) -> None:
        """Know how far it is behind also while nothing can be stored: the log does not keep all of it for ever."""
        with contextlib.suppress(BusError):
            await self._see()

    async def _due(self) -> None:
        """Wait until enough records have come, or the first of them has waited long enough."""
        waiting_since: float | None = None
        loop = asyncio.get_running_loop()
        while not self._ending.is_set():
            await self._see()
            if self.end_seen > self.stored_to:
                now = loop.time()
                waiting_since = now if waiting_since is None else waiting_since
                if self.end_seen - self.stored_to >= self.batch_rows or now - waiting_since >= self.batch_seconds:
                    return
            await self._pause(min(_LOOK_SECONDS, self.batch_seconds / 4))

    async def _pause(self, seconds: float) -> None:
        """Wait, but not longer than until the end."""
        try:
            async with asyncio.timeout(seconds):
                await self._ending.wait()
        except TimeoutError:
            return

    async def _store(self) -> None:
        """Store everything that is in the log now; once the end has come, one batch."""
        self.end_seen = end = await self.bus.end(self.topic, 0)
        while self.stored_to < end:
            await self._fill(end)
            await self._commit()
            if self._ending.is_set():
                return

    async def _fill(self, end: int) -> None:
        assert self.intake is not None
        size = 0
        while self.intake.next_seq < end and size < _BATCH_BYTES_MAX and len(self.intake.rows) < self.batch_rows:
            most = min(_RECORDS_PER_READ, self.batch_rows - len(self.intake.rows))
            try:
                records = await self.bus.read(self.topic, 0, self.intake.next_seq, most)
            except Trimmed:
                self._skip(await self.bus.start(self.topic, 0))
                continue
            for record in records:
                self._take(record)
                size += len(record.body)
            await asyncio.sleep(0)

    def _take(self, record: Record) -> None:
        assert self.intake is not None
        try:
            self.intake.take(decode(record.body))
        except (UnknownEvent, Unstorable) as error:
            if self._dead is None:
                raise
            log.warning("%s: put down at %d: %s", self.topic, record.seq, error)
            self._dead.put(record, str(error))
            self.intake.pass_over()

    def _skip(self, start: int) -> None:
        assert self.intake is not None
        first = self.intake.next_seq
        gone = self.intake.skip_to(start)
        self._told_gap(f"{gone} records from {first} on were dropped by the log before they were stored")

    def _told_gap(self, gap: str) -> None:
        self._gap, self._gap_at = gap, self.clock.now()
        log.error("%s: %s", self.topic, gap)

    async def _commit(self) -> None:
        intake = self.intake
        assert intake is not None
        if intake.rows:  # without any, the position moves with the next
            begun = self.clock.now()
            await self._ask(self.store.append, self.feed.spec, intake.columns(), intake.offsets())
            self.stored_at = self.clock.now()
            self._measure(intake, self.stored_at - begun)
            intake.rows = []
            self._committed = intake.next_seq
        self.stored_to = intake.next_seq

    async def _ask(self, question: Callable[..., Any], *args: Any) -> Any:
        """Ask the store, and keep an eye on the log meanwhile: it may hang for long."""
        self._asked_at = time.monotonic()
        answer = asyncio.ensure_future(self._call(question, *args))
        try:
            while not (await asyncio.wait([answer], timeout=_LOOK_SECONDS))[0]:
                await self._look()
            return answer.result()
        finally:
            self._asked_at = 0.0
            answer.cancel()

    def _measure(self, intake: Intake, took_ns: int) -> None:
        measured = self.measured
        measured.commit_seconds.observe_ns(took_ns)
        measured.commits.inc()
        measured.rows.inc(len(intake.rows))
        measured.late.inc(intake.late - self._late)
        measured.lost.inc(intake.lost - self._lost)
        self._lost, self._late = intake.lost, intake.late

    def _failed(self, error: Exception) -> None:
        self.intake = None
        again = "another process has stored it" if isinstance(error, LakeConflict) else str(error)
        self.error = f"not stored, tried again: {again}"
        log.warning("%s: %s", self.topic, self.error)
