"""A fold of the order log that answers questions and publishes what follows from each fill.

Recovery: the newest snapshot, then the tail of the log. An event is published once per fill: what the own
topic holds already, by its `as_of`, is not published again.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from trade2026 import __version__
from trade2026.domain.events import AnyEvent, Envelope
from trade2026.kit.bus.port import BusError, Fenced, Record
from trade2026.kit.follower import Follower
from trade2026.kit.publisher import Publisher
from trade2026.kit.service import Context, Health
from trade2026.kit.snapshots import SnapshotStore

log = logging.getLogger(__name__)

TOPIC = "orders.events"
_SNAPSHOT_EVENTS = 50_000
_SNAPSHOT_NS = 60 * 10**9
_RETRY_SECONDS_MAX = 2.0
_APPENDS_MAX = 4
"""Under way while the fold is behind: it need not wait for the topic, but goes on, a few batches at most."""

Waiting = list[tuple[AnyEvent, Envelope]]
"""What is to be published, each with its cause, in the order of the log."""


class Fold(Protocol):
    """A pure fold of the order log."""

    next_seq: int
    last_fill_seq: int
    """Position of the newest fill that it holds; -1 before the first."""

    def apply(self, envelope: Envelope) -> AnyEvent | None:
        """Fold the next event; what it returns is to be published."""
        ...

    def snapshot(self) -> bytes: ...
    def restore(self, snapshot: bytes) -> None: ...


class Projection:
    """Keeps one fold at the end of the log.

    Args:
        make: Makes an empty fold.
        publishes: The topic of what follows from fills; claimed by this process.
    """

    def __init__(
        self, context: Context, name: str, make: Callable[[], Any], publishes: str, *, owner: str = ""
    ) -> None:
        self.context, self.name, self.publishes = context, name, publishes
        self.machine: Any = make()
        self.detail = "not started"
        self.publish_error = ""
        self.replaced = ""
        """Which other process publishes instead: this one is of no use any more."""
        self.published = 0
        self._make = make
        self._owner = owner or f"{context.settings.release}-{name}"
        self._store = SnapshotStore(snapshot_directory(context.settings.state, name), name)
        self._follower: Follower | None = None
        self._publisher: Publisher | None = None
        self._published_as_of = -1
        self._waiting: Waiting = []
        self._under_way: deque[tuple[asyncio.Future[int], Waiting]] = deque()
        """Appends that are not known to be written, the oldest first; `_waiting` comes after them."""
        self._snapshot_seq = 0
        self._snapshot_ts = context.clock.now()

    async def start(self) -> None:
        """Recover, then follow in the background."""
        self.detail = f"claiming {self.publishes}"
        await self._claim()
        self._restore(await self.context.bus.end(TOPIC, 0))
        self._follower = Follower(
            self.context.bus, TOPIC, self._fold, from_seq=self.machine.next_seq, on_batch=self._batch_folded
        )
        await self._follower.start()
        self.detail = "ready"

    async def stop(self) -> None:
        """Stop between two batches, and keep a snapshot for a quick start."""
        if self._follower is not None:
            await self._follower.stop()
            await self._finish_appends()
            if self.machine.next_seq > self._snapshot_seq and not self._waiting and not self._under_way:
                await self._snapshot()
        if self._publisher is not None:
            await self._publisher.stop()

    @property
    def as_of(self) -> int:
        """Position of the newest event that answers contain; -1 before the first."""
        return self.machine.next_seq - 1

    def readiness(self) -> tuple[bool, str]:
        """Whether the log is folded, and how far it is."""
        if self._follower is None:
            return False, self.detail
        return self._follower.caught_up, self._follower.error or self._follower.progress

    def health(self) -> dict[str, Health]:
        """The log that is followed, the topic that is written, the snapshots."""
        error = self._follower.error if self._follower is not None else self.detail
        unreadable = "; ".join(f"{name}: {reason}" for name, reason in self._store.unreadable.items())
        return {
            "log": Health(not error, error or f"as of {self.as_of}, {self.lag} behind"),
            self.publishes: Health(not self.publish_error, self.publish_error),
            "snapshots": Health(not unreadable, unreadable),
        }

    @property
    def lag(self) -> int:
        """Events known to exist that are not folded yet."""
        return self._follower.lag if self._follower is not None else 0

    def stats(self) -> dict[str, Any]:
        """Progress in numbers."""
        return {
            "as_of": self.as_of,
            "lag": self.lag,
            "published": self.published,
            "snapshot_as_of": self._snapshot_seq - 1,
        }

    def _restore(self, end: int) -> None:
        snapshot = self._store.load(next_seq_max=end)
        if snapshot is None:
            return
        machine = self._make()
        try:
            machine.restore(snapshot.state)
        except Exception as error:
            log.warning("%s: the snapshot at %s does not fit: %s", self.name, snapshot.header.next_seq, error)
            self._store.unreadable[f"at {snapshot.header.next_seq}"] = str(error)
            return
        if machine.last_fill_seq > self._published_as_of:
            # The topic lost its newest records (it is not fsynced): only a full replay makes them again.
            log.warning("%s: %s ends before the snapshot, folding from the start", self.name, self.publishes)
            return
        self.machine, self._snapshot_seq = machine, machine.next_seq

    def _fold(self, envelope: Envelope, record: Record) -> None:
        event = self.machine.apply(envelope)
        if event is not None and record.seq > self._published_as_of:
            self._waiting.append((event, envelope))

    async def _batch_folded(self) -> None:
        await self._publish(_APPENDS_MAX if self.lag else 0)
        now = self.context.clock.now()
        behind = self.machine.next_seq - self._snapshot_seq
        if behind >= _SNAPSHOT_EVENTS or (behind and now - self._snapshot_ts >= _SNAPSHOT_NS):
            await self._publish(0)  # what a snapshot contains is not folded again, so it must be published
            await self._snapshot()

    async def _publish(self, appends_max: int) -> None:
        """Append what waits; the log is not read on until at most so many appends are under way."""
        delay = 0.1
        while self._waiting or self._under_way:
            if self._waiting:
                self._append()
            try:
                await self._appended(appends_max)
                self.publish_error = ""
                return
            except Fenced as error:
                self._take_back()
                self.replaced = self.publish_error = f"another process owns {self.publishes}: {error}"
                raise
            except BusError as error:
                self._take_back()
                self.publish_error = f"{self.publishes} cannot be written: {error}"
                log.warning("%s: %s", self.name, self.publish_error)
                await asyncio.sleep(delay)
                delay = min(2 * delay, _RETRY_SECONDS_MAX)
                await self._claim_again()

    def _append(self) -> None:
        assert self._publisher is not None
        envelopes = [
            self._publisher.stamp(
                event,
                offset=offset,
                ts_event=cause.ts_event,
                correlation_id=cause.correlation_id,
                causation_id=f"{TOPIC}/0/{cause.seq}",
                traceparent=cause.traceparent,
                principal=cause.principal,
            )
            for offset, (event, cause) in enumerate(self._waiting)
        ]
        self._under_way.append((self._publisher.append(envelopes), self._waiting))
        self._waiting = []

    async def _appended(self, appends_max: int) -> None:
        """Wait until at most so many appends are under way. Raises what the oldest failed with."""
        while self._under_way:
            future, published = self._under_way[0]
            if not future.done() and len(self._under_way) <= appends_max:
                return
            await asyncio.shield(future)  # a stop must not leave unknown whether it was written
            self._under_way.popleft()
            self.published += len(published)
            self._published_as_of = published[-1][1].seq

    def _take_back(self) -> None:
        """After one append has failed those behind it fail, too: all of it waits again."""
        again: Waiting = []
        for future, events in self._under_way:
            future.add_done_callback(_retrieved)
            again += events
        self._under_way.clear()
        self._waiting = again + self._waiting

    async def _finish_appends(self) -> None:
        """Learn what became of appends that a stop has overtaken."""
        try:
            await self._appended(0)
        except BusError as error:
            self._take_back()
            log.warning("%s: %s cannot be written: %s", self.name, self.publishes, error)

    async def _claim(self) -> None:
        publisher = Publisher(
            self.context.bus,
            self.publishes,
            tenant=self.context.settings.stack,
            clock=self.context.clock,
            owner=self._owner,
        )
        await publisher.start()
        self._publisher = publisher
        last = publisher.last
        self._published_as_of = getattr(last.data, "as_of", -1) if last is not None else -1

    async def _claim_again(self) -> None:
        """After a failed append some of it may be there: learn from the topic what is not."""
        try:
            if self._publisher is not None:
                await self._publisher.stop()
            await self._claim()
        except Fenced:
            raise
        except BusError as error:
            self.publish_error = str(error)
            return
        self._waiting = [(event, cause) for event, cause in self._waiting if cause.seq > self._published_as_of]
        if not self._waiting:
            self.publish_error = ""

    async def _snapshot(self) -> None:
        machine = self.machine
        state, next_seq = machine.snapshot(), machine.next_seq
        self._snapshot_ts = self.context.clock.now()
        try:
            await asyncio.to_thread(self._store.write, state, next_seq, __version__)
        except OSError as error:
            log.warning("%s: no snapshot at %s: %s", self.name, next_seq, error)
            self._store.unreadable["newest"] = f"not written: {error}"
            return
        self._store.unreadable.pop("newest", None)
        self._snapshot_seq = next_seq


def _retrieved(done: "asyncio.Future[int]") -> None:
    """Its error is known from the append before it."""
    if not done.cancelled():
        done.exception()


def snapshot_directory(state: Path, name: str) -> Path:
    """Where the snapshots of a fold lie in a stack's state directory."""
    return state / "snapshots" / name
