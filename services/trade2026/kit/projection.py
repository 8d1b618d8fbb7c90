"""A fold of a topic that answers questions and publishes what follows from each record.

Recovery: the newest snapshot, then the tail of the topic. What follows from a record is published once: what the
own topics hold already is not published again.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from trade2026 import __version__
from trade2026.domain.events import AnyEvent, Envelope
from trade2026.kit.bus.port import Record
from trade2026.kit.follower import Follower
from trade2026.kit.outlet import Outlet
from trade2026.kit.publisher import Publisher
from trade2026.kit.service import Context, Health
from trade2026.kit.snapshots import SnapshotStore

log = logging.getLogger(__name__)

ORDERS = "orders.events"
_SNAPSHOT_EVENTS = 50_000
_SNAPSHOT_NS = 60 * 10**9
_APPENDS_MAX = 4
"""Under way while the fold is behind: it need not wait for its topics, but goes on, a few batches at most."""


class Fold(Protocol):
    """A pure fold of a topic."""

    next_seq: int

    def apply(self, envelope: Envelope) -> Sequence[tuple[int, AnyEvent]]:
        """Fold the next record; what it returns is to be published, each with when it happened (ns)."""
        ...

    def last_seq(self, topic: str) -> int:
        """Position of the newest record from which something followed for a topic; -1 before the first."""
        ...

    def snapshot(self) -> bytes: ...
    def restore(self, snapshot: bytes) -> None: ...


class Projection:
    """Keeps one fold at the end of a topic.

    Args:
        make: Makes an empty fold.
        publishes: The topics of what follows, each with the types of its events; claimed by this process.
        follows: The topic that is folded.
        partition: Of it, and of the topics that are published.
    """

    def __init__(
        self,
        context: Context,
        name: str,
        make: Callable[[], Any],
        publishes: dict[str, tuple[type, ...]],
        *,
        follows: str = ORDERS,
        partition: int = 0,
    ) -> None:
        self.context, self.name, self.follows, self.partition = context, name, follows, partition
        self.machine: Any = make()
        self.detail = "not started"
        self.outlets = {
            topic: Outlet(lambda topic=topic: self._publisher(topic), follows, partition) for topic in publishes
        }
        self._outlet_of = {kind: self.outlets[topic] for topic, kinds in publishes.items() for kind in kinds}
        self._make = make
        self._store = SnapshotStore(snapshot_directory(context.settings.state, name, partition), name)
        self._follower: Follower | None = None
        self._snapshot_seq = 0
        self._snapshot_ts = context.clock.now()

    def _publisher(self, topic: str) -> Publisher:
        settings, clock = self.context.settings, self.context.clock
        owner = f"{settings.release}-{self.name}"
        return Publisher(
            self.context.bus, topic, tenant=settings.stack, clock=clock, owner=owner, partition=self.partition
        )

    async def start(self) -> None:
        """Recover, then follow in the background."""
        bus = self.context.bus
        end = await bus.end(self.follows, self.partition)
        for topic, outlet in self.outlets.items():
            self.detail = f"claiming {topic}"
            await outlet.claim(end)
        self._restore(end)
        self._follower = Follower(
            bus,
            self.follows,
            self._fold,
            partition=self.partition,
            from_seq=self.machine.next_seq,
            on_batch=self._batch_folded,
        )
        await self._follower.start()
        self.detail = "ready"

    async def stop(self) -> None:
        """Stop between two batches, and keep a snapshot for a quick start."""
        if self._follower is not None:
            await self._follower.stop()
            for outlet in self.outlets.values():
                await outlet.finish()
            if self.machine.next_seq > self._snapshot_seq and self.is_told:
                await self._snapshot()
        for outlet in self.outlets.values():
            await outlet.close()

    @property
    def followed(self) -> Follower | None:
        """The topic as it is followed; None before that."""
        return self._follower

    @property
    def as_of(self) -> int:
        """Position of the newest record that answers contain; -1 before the first."""
        return self.machine.next_seq - 1

    @property
    def replaced(self) -> str:
        """Which other process publishes instead, if one does."""
        return next((outlet.replaced for outlet in self.outlets.values() if outlet.replaced), "")

    @property
    def is_told(self) -> bool:
        """Whether all that followed from what is folded is published."""
        return all(outlet.is_done for outlet in self.outlets.values())

    def readiness(self) -> tuple[bool, str]:
        """Whether the topic is folded, and how far it is."""
        if self._follower is None:
            return False, self.detail
        return self._follower.caught_up, self._follower.error or self._follower.progress

    def health(self) -> dict[str, Health]:
        """The topic that is followed, the topics that are written, the snapshots."""
        error = self._follower.error if self._follower is not None else self.detail
        unreadable = "; ".join(f"{name}: {reason}" for name, reason in self._store.unreadable.items())
        return {
            "log": Health(not error, error or f"as of {self.as_of}, {self.lag} behind"),
            **{topic: Health(not outlet.error, outlet.error) for topic, outlet in self.outlets.items()},
            "snapshots": Health(not unreadable, unreadable),
        }

    @property
    def lag(self) -> int:
        """Records known to exist that are not folded yet."""
        return self._follower.lag if self._follower is not None else 0

    def stats(self) -> dict[str, Any]:
        """Progress in numbers."""
        return {
            "as_of": self.as_of,
            "lag": self.lag,
            "published": sum(outlet.published for outlet in self.outlets.values()),
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
        for topic, outlet in self.outlets.items():
            if machine.last_seq(topic) > outlet.told_seq:
                # The topic lost its newest records (it is not fsynced): only a full replay makes them again.
                log.warning("%s: %s ends before the snapshot, folding from the start", self.name, topic)
                return
        self.machine, self._snapshot_seq = machine, machine.next_seq

    def _fold(self, envelope: Envelope, record: Record) -> None:
        for ts_event, event in self.machine.apply(envelope):
            self._outlet_of[type(event)].add(ts_event, event, envelope)

    async def _batch_folded(self) -> None:
        await self._publish(_APPENDS_MAX if self.lag else 0)
        now = self.context.clock.now()
        behind = self.machine.next_seq - self._snapshot_seq
        if behind >= _SNAPSHOT_EVENTS or (behind and now - self._snapshot_ts >= _SNAPSHOT_NS):
            await self._publish(0)  # what a snapshot contains is not folded again, so it must be published
            await self._snapshot()

    async def _publish(self, appends_max: int) -> None:
        """Publish what waits; the topic is not read on until at most so many appends are under way."""
        end = self.machine.next_seq
        for outlet in self.outlets.values():
            outlet.send()  # all of them before any is waited for: they are written side by side
        for outlet in self.outlets.values():
            await outlet.write(end, appends_max)

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


def totals(stats: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The numbers of several projections as those of one; of one alone they are its own."""
    every = list(stats)
    if len(every) == 1:
        return every[0]
    names = every[0] if every else ()
    return {name: sum(one[name] for one in every) for name in names if not name.endswith("as_of")}


def snapshot_directory(state: Path, name: str, partition: int = 0) -> Path:
    """Where the snapshots of the fold of one partition lie in a stack's state directory."""
    return state / "snapshots" / (f"{name}-{partition}" if partition else name)
