"""One partition of the order log as risk sees it: its orders, what they count for, and what a person must hear of.

It begins with a snapshot that the archive has made.
"""

from collections.abc import Callable

import msgspec

from trade2026.controls import order_log
from trade2026.controls.limits import LimitBook
from trade2026.controls.machine import Controls
from trade2026.domain import events as ev
from trade2026.domain.events import Envelope, decode
from trade2026.domain.instruments import Instrument
from trade2026.domain.order_fold import OrderFold
from trade2026.domain.shards import partition_of
from trade2026.kit.bus.archived import resume_position
from trade2026.kit.bus.port import Record
from trade2026.kit.follower import Follower
from trade2026.kit.projection import snapshot_directory
from trade2026.kit.service import Context
from trade2026.kit.snapshots import SnapshotStore
from trade2026.risk.machine import MINUTE_NS, Watch

ORDERS = "orders.events"
_GROUP = "risk"
_RECORDS_PER_READ = 2_000
_REFUSED = msgspec.json.encode(ev.OrderRefused.__struct_config__.tag)
"""Is in the record of every refusal: a minute may hold a million events of which none is one."""
_FILLED, _RESUMED = (msgspec.json.encode(kind.__struct_config__.tag) for kind in (ev.OrderFilled, ev.Resumed))
_ALERTS_WAITING_MAX = 10_000

OnStop = Callable[[ev.Killed | ev.Resumed, int], None]
OnChange = Callable[[ev.LimitsAdopted | ev.OrderFilled, int], None]


class OrdersSeen:
    """Folds one partition of the order log.

    Args:
        ceilings: The limits until the log says others.
        instruments: By instrument id.
        on_stop: Told of each kill and release, and when (ns) it was written.
        on_change: Told of each execution and of each adoption of limits, and when (ns), once all before was read.
    """

    def __init__(
        self,
        context: Context,
        partition: int,
        ceilings: LimitBook,
        instruments: dict[str, Instrument],
        on_stop: OnStop,
        on_change: OnChange = lambda event, ts: None,
    ) -> None:
        self.bus, self.partition = context.bus, partition
        self.controls = Controls(ceilings, instruments)
        self.fold = OrderFold(self.controls)
        self.alerts_waiting: list[tuple[ev.AlertRaised, str]] = []
        """What is not recorded yet, each with the event that it follows from."""
        self.trips: dict[str, tuple[ev.Killed, int]] = {}
        """By scope: what this partition has halted by itself since the snapshot, and when (ns)."""
        self.stopped_at: dict[str, int] = {}
        """When (ns) what is stopped now was, by scope, of what the log said since the snapshot."""
        self.follower: Follower | None = None
        self._ceilings, self._instruments = ceilings, instruments
        self._on_stop, self._on_change = on_stop, on_change
        state, self._partitions = context.settings.state, context.settings.partitions(ORDERS)
        self.snapshots = SnapshotStore(snapshot_directory(state, "oms", partition), "oms")
        """Of the order log, made by the archive."""
        self._watch = Watch(partition)
        self._looked_at = 0
        self._live_from: int | None = None
        """The first event that was told of as it came."""

    async def start(self) -> None:
        """Fold to the end of the partition, then go on in the background."""
        await self._restore()
        self.follower = Follower(
            self.bus,
            ORDERS,
            self._on_order,
            partition=self.partition,
            from_seq=self.fold.next_seq,
            on_batch=self._after_batch,
        )
        await self.follower.start()

    async def stop(self) -> None:
        """Stop between two batches."""
        if self.follower is not None:
            await self.follower.stop()

    @property
    def as_of(self) -> int:
        """Position of the newest event that answers contain; -1 before the first."""
        return self.fold.next_seq - 1

    @property
    def is_live(self) -> bool:
        """Whether all that was there at the start has been read: what comes now happens now."""
        return self.follower is not None and self.follower.caught_up

    @property
    def newest(self) -> str:
        """The id of the newest event."""
        return f"{ORDERS}/{self.partition}/{self.as_of}"

    def raise_later(self, alert: ev.AlertRaised, cause: str) -> None:
        """An alert is to be recorded, because of an event."""
        if len(self.alerts_waiting) < _ALERTS_WAITING_MAX:
            self.alerts_waiting.append((alert, cause))

    async def executions(
        self, since: int, records_max: int
    ) -> tuple[list[tuple[int, ev.OrderFilled | ev.Resumed]], int]:
        """Read back what was executed and released before anything was told of as it came, newest first.

        Args:
            since: As far back as this (ns).
            records_max: And no further than so many records, of whichever kind.

        Returns:
            Each event with its time, and from when on (ns) they are complete: 0 if there is nothing before.
        """
        found: list[tuple[int, ev.OrderFilled | ev.Resumed]] = []
        oldest = await self.bus.start(ORDERS, self.partition)
        position = end = self._live_from if self._live_from is not None else self.fold.next_seq
        reached = 0 if position == oldest == 0 else since
        while position > oldest:
            begin = max(oldest, position - _RECORDS_PER_READ)
            bodies = await self._read(begin, position)
            for body in reversed(bodies):
                if _FILLED in body or _RESUMED in body:
                    envelope = decode(body)
                    if isinstance(envelope.data, ev.OrderFilled | ev.Resumed):
                        found.append((envelope.ts_init, envelope.data))
            position, reached = begin, decode(bodies[0]).ts_init
            if reached < since or end - position >= records_max:
                return found, max(reached, since)
        return found, reached if oldest else 0

    async def remember(self, next_seq: int) -> None:
        """Keep durably up to where every alert was raised."""
        if next_seq > self._looked_at and not self.alerts_waiting:
            await self.bus.commit(_GROUP, ORDERS, self.partition, next_seq)
            self._looked_at = next_seq

    def _on_order(self, envelope: Envelope, record: Record) -> None:
        self.fold.apply(envelope)
        data = envelope.data
        if self._live_from is None and self.is_live:
            self._live_from = envelope.seq
        if isinstance(data, ev.LimitsAdopted | ev.OrderFilled) and self.is_live:
            self._on_change(data, envelope.ts_init)
        if isinstance(data, ev.Killed | ev.Resumed):
            self.stopped_at.pop(data.scope, None)
            if isinstance(data, ev.Killed):
                self.stopped_at[data.scope] = envelope.ts_init
            if isinstance(data, ev.Killed) and data.cause != "person":
                self.trips[data.scope] = (data, envelope.ts_init)
            self._on_stop(data, envelope.ts_init)
            if not self._is_ours_to_tell(data):
                return
        alert = self._watch.look(envelope, self.fold.orders.get(getattr(data, "order_id", "")))
        if alert is not None:
            self.raise_later(alert, f"{record.topic}/{record.partition}/{record.seq}")

    def _is_ours_to_tell(self, event: ev.Killed | ev.Resumed) -> bool:
        """A person's stop is in the log of every partition and told once; what was tripped is where it happened."""
        kind, _, name = event.scope.partition(":")
        home = partition_of(name, self._partitions) if kind == "account" else 0
        return home == self.partition or (isinstance(event, ev.Killed) and event.cause != "person")

    async def _after_batch(self) -> None:
        self.fold.forget_closed(self.fold.next_seq)

    async def _restore(self) -> None:
        """Begin with a snapshot that lies before what was looked at: no alert of the rest may be missed."""

        def make(state: bytes) -> tuple[OrderFold, Controls]:
            controls = Controls(self._ceilings, self._instruments)
            fold = OrderFold(controls)
            order_log.restore(state, fold, controls)
            return fold, controls

        committed = await self.bus.committed(_GROUP, ORDERS, self.partition)
        looked_at = min(committed, await self.bus.end(ORDERS, self.partition))
        restored = self.snapshots.restore(make, next_seq_max=looked_at)
        if restored is not None:
            self.fold, self.controls = restored
            await self._recount(self.fold.next_seq)
        self._looked_at = looked_at

    async def _recount(self, end: int) -> None:
        """Look again at the last minute before a snapshot: how often was refused in it is in no snapshot."""
        refusals: list[Envelope] = []
        position, since = end, 0
        while position > 0:
            begin = await resume_position(self.bus, ORDERS, self.partition, max(0, position - _RECORDS_PER_READ))
            found = await self._read(begin, position)
            since = since or decode(found[-1]).ts_init - MINUTE_NS
            likely = [decode(body) for body in found if _REFUSED in body]
            refusals[:0] = [envelope for envelope in likely if isinstance(envelope.data, ev.OrderRefused)]
            if decode(found[0]).ts_init < since or len(found) < _RECORDS_PER_READ:
                break
            position = begin
        for envelope in refusals:
            self._watch.look(envelope)

    async def _read(self, begin: int, end: int) -> list[bytes]:
        found: list[bytes] = []
        while (position := begin + len(found)) < end:
            records = await self.bus.read(ORDERS, self.partition, position, end - position)
            assert records, f"{ORDERS}/{self.partition} has no {position}, though it goes on to {end}"
            found += [record.body for record in records]
        return found
