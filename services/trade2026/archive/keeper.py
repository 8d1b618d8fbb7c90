"""Keeps the history of one partition: what all topics say of its accounts, and the snapshots of its order log."""

import asyncio
import logging
import sqlite3
from functools import partial

from trade2026 import __version__
from trade2026.archive.machine import HistoryMachine, order_ids_of
from trade2026.archive.spans import OrderSpans
from trade2026.archive.store import HistoryFenced, HistoryStore, IndexRow, fault_of, is_damaged, set_aside
from trade2026.controls import order_log
from trade2026.domain.events import Envelope
from trade2026.kit import tracing
from trade2026.kit.bus.archived import resume_position
from trade2026.kit.bus.port import BusError, Record
from trade2026.kit.follower import Follower
from trade2026.kit.history import HistoryReader, history_path
from trade2026.kit.projection import snapshot_directory
from trade2026.kit.service import Context
from trade2026.kit.snapshots import SnapshotStore

log = logging.getLogger(__name__)

ORDERS = "orders.events"
FOLLOWED = (ORDERS, "venue.reports", "positions", "pnl", "exeq.events")
_SNAPSHOT_EVENTS = 50_000
"""Between two snapshots; more where there are so many orders that writing them would take its share."""
_ORDERS_PER_EVENT = 4
"""Orders that a snapshot may write for each event since the last one."""
_SNAPSHOT_NS = 60 * 10**9
_ORDERS_PRUNED_MAX = 500
_RETRY_SECONDS_MIN = 0.1
_RETRY_SECONDS_MAX = 5.0


class HistoryKeeper:
    """The writer of one partition's history.

    Args:
        spans: Gets every event that is new to the history.
    """

    def __init__(self, context: Context, partition: int, spans: OrderSpans) -> None:
        self.context, self.settings, self.partition = context, context.settings, partition
        state = self.settings.state
        self.path = history_path(state, partition)
        self.instruments = {instrument.instrument_id: instrument for instrument in self.settings.instruments}
        self.machine = HistoryMachine(self.instruments)
        self.reader = HistoryReader(self.path, partition)
        self.snapshots = SnapshotStore(snapshot_directory(state, "oms", partition), "oms")
        self.followers: dict[str, Follower] = {}
        self.replaced = ""
        """Which other archive writes this history now; empty while none does."""
        self.write_error = ""
        self.snapshot_error = ""
        self.snapshot_seq = 0
        self.damage = ""
        """What was once found damaged and made again; empty if nothing ever was."""
        self._spans = spans
        self._store: HistoryStore | None = None
        self._index: dict[str, list[IndexRow]] = {topic: [] for topic in FOLLOWED}
        self._detail = "not started"
        self._snapshot_ts = context.clock.now()
        self._repair: asyncio.Task[None] | None = None
        self._fault = ""
        """Why the history must be made again; empty once the damaged one is put aside."""

    async def start(self) -> None:
        """Bring the history to the end of every topic, then keep it there."""
        self._detail = "opening the history"
        self._store = self._open()
        try:
            await self._catch_up()
        except sqlite3.DatabaseError as error:
            if not is_damaged(error):
                raise
            self._fault = str(error)
            await self._make_again()

    async def stop(self) -> None:
        """Stop between two batches, and keep a snapshot for a quick start."""
        if self._repair is not None:
            self._repair.cancel()
        for follower in self.followers.values():
            await follower.stop()
        if self._store is not None:
            if self.ready and self.machine.written_to >= self.machine.fold.next_seq > self.snapshot_seq:
                await self._snapshot()
            self._store.close()
        self.reader.close()

    @property
    def ready(self) -> bool:
        """Whether the history has all that there was when it began."""
        return self._detail == "ready"

    @property
    def detail(self) -> str:
        """How far it is, for a person."""
        follower = self.followers.get(ORDERS) if not self.ready else None
        return follower.progress if follower is not None else self._detail

    @property
    def orders(self) -> int:
        """How many orders it holds, nearly."""
        return self._store.orders() if self._store is not None and self.ready else 0

    async def tidy_up(self, before_ts: int) -> None:
        """Lag, what fsync does best beside the loop, and orders that closed before a time (ns)."""
        await self._measure_lag()
        try:
            assert self._store is not None
            await asyncio.to_thread(self._store.checkpoint)
            self._store.prune(before_ts, _ORDERS_PRUNED_MAX)
        except sqlite3.DatabaseError as error:
            if is_damaged(error):
                self._begin_again(str(error))
            log.warning("the history was not tidied up: %s", error)

    async def look_for_damage(self) -> None:
        """Look at every page of the history; make it again if one is damaged."""
        fault = await asyncio.to_thread(fault_of, self.path)
        if fault:
            self._begin_again(fault)

    def _open(self) -> HistoryStore:
        try:
            return HistoryStore(self.path)
        except sqlite3.DatabaseError as error:
            if not is_damaged(error):
                raise
            self._put_aside(str(error))
            return HistoryStore(self.path)

    async def _catch_up(self) -> None:
        assert self._store is not None
        self._restore(self._store.next_seq(ORDERS))
        for topic in FOLLOWED:
            self._detail = f"following {topic}"
            await self._follow(topic)
        self._detail = "ready"

    def _put_aside(self, fault: str) -> None:
        self.damage = (
            f"the history was damaged ({fault}) and is made again from the log; the old file is kept beside it"
        )
        log.error("%s: %s", set_aside(self.path), self.damage)

    def _begin_again(self, fault: str) -> None:
        """Make the history again; nobody is told anything from it meanwhile. Idempotent."""
        if self._repair is None or self._repair.done():
            self._detail = "the history is damaged and is made again from the log"
            self._fault = fault
            self._repair = asyncio.ensure_future(self._repaired())

    async def _repaired(self) -> None:
        delay = _RETRY_SECONDS_MIN
        while True:
            try:
                await self._make_again()
                return
            except HistoryFenced as error:
                self.replaced = str(error)
                return
            except Exception as error:
                if isinstance(error, sqlite3.DatabaseError) and is_damaged(error):
                    self._fault = str(error)
                self.write_error = f"the history was damaged and can't be made again yet: {error!r}"
                log.exception(self.write_error)
                await asyncio.sleep(delay)
                delay = min(2 * delay, _RETRY_SECONDS_MAX)

    async def _make_again(self) -> None:
        for follower in self.followers.values():
            await follower.stop()
        self.followers = {}
        if self._store is not None:
            self._store.close()
        self.reader.close()
        if self._fault:  # an attempt that broke off goes on with what it has
            self._put_aside(self._fault)
            self._fault = ""
        self._index = {topic: [] for topic in FOLLOWED}
        self._store = self._open()
        await self._catch_up()
        self.write_error = ""

    async def _follow(self, topic: str) -> None:
        assert self._store is not None
        bus, position = self.context.bus, self._store.next_seq(topic)
        end = await bus.end(topic, self.partition)
        if position > end:
            if self._durable(topic):
                raise RuntimeError(
                    f"{topic} ends at {end}, but {self.path} has its events to {position}: the log has lost its end, or is "
                    "another one; put a backup back with `trade2026 restore`, or move the history away and it is made again"
                )
            self._store.rewind(topic, end)
            position = end
        position = await resume_position(bus, topic, self.partition, position)
        if topic == ORDERS:
            # What is written already is folded once more: it lies between the snapshot and the history's end.
            position = self.machine.fold.next_seq
        follower = Follower(
            bus,
            topic,
            self._fold_order if topic == ORDERS else self._fold_other,
            partition=self.partition,
            from_seq=position,
            on_batch=partial(self._write, topic),
        )
        self.followers[topic] = follower
        await follower.start()

    def _durable(self, topic: str) -> bool:
        return next((config.durable for config in self.settings.topics if config.name == topic), True)

    def _fold_order(self, envelope: Envelope, record: Record) -> None:
        missing = self.machine.needs(envelope.data)
        if missing and self._store is not None:
            try:
                order = self._store.order(missing)
            except sqlite3.DatabaseError as error:
                if is_damaged(error):
                    self._begin_again(str(error))
                raise
            if order is not None:
                self.machine.fold.recall(order)
        if record.seq >= self.machine.written_to:
            self._fold_other(envelope, record)
        self.machine.apply(envelope)

    def _fold_other(self, envelope: Envelope, record: Record) -> None:
        rows = self._index[record.topic]
        for order_id in order_ids_of(envelope):
            rows.append(IndexRow(order_id, record.topic, record.partition, record.seq))
        if tracing.is_on():
            self._spans.add(record.topic, envelope, record.partition)

    async def _write(self, topic: str) -> None:
        """Write the batch; the topic is not read on until this has worked."""
        delay = _RETRY_SECONDS_MIN
        while True:
            try:
                self._write_once(topic)
                self.write_error = ""
                break
            except HistoryFenced as error:
                self.replaced = str(error)
                raise
            except sqlite3.DatabaseError as error:
                if is_damaged(error):
                    if not self.ready:
                        raise
                    self._begin_again(str(error))
                    await asyncio.Event().wait()  # until this follower is stopped for a new one
                self.write_error = f"the history cannot be written: {error}"
                log.warning(self.write_error)
                await asyncio.sleep(delay)
                delay = min(2 * delay, _RETRY_SECONDS_MAX)
        if topic == ORDERS:
            await self._snapshot_if_due()

    def _write_once(self, topic: str) -> None:
        assert self._store is not None
        next_seq, index, machine = self.followers[topic].next_seq, self._index[topic], self.machine
        if topic != ORDERS:
            self._store.write(topic, next_seq, index)
        else:
            if next_seq > machine.written_to:
                self._store.write(topic, next_seq, index, machine.changed.values())
            machine.written()
        index.clear()

    async def _measure_lag(self) -> None:
        for topic, follower in self.followers.items():
            try:
                await follower.measure_lag()
            except BusError as error:
                log.warning("the end of %s is not known: %s", topic, error)

    def _restore(self, written_to: int) -> None:
        """Begin with the newest snapshot that the history covers; without one, with the whole log."""

        def make(state: bytes) -> HistoryMachine:
            machine = HistoryMachine(self.instruments, written_to)
            order_log.restore(state, machine.fold, machine.controls)
            return machine

        restored = self.snapshots.restore(make, next_seq_max=written_to)
        self.machine = restored or HistoryMachine(self.instruments, written_to)
        self.snapshot_seq = self.machine.fold.next_seq

    async def _snapshot_if_due(self) -> None:
        fold = self.machine.fold
        behind = fold.next_seq - self.snapshot_seq
        overdue = self.context.clock.now() - self._snapshot_ts >= _SNAPSHOT_NS
        if behind >= max(_SNAPSHOT_EVENTS, len(fold.orders) // _ORDERS_PER_EVENT) or (behind and overdue):
            await self._snapshot()

    async def _snapshot(self) -> None:
        """Keep the fold of the order log, once the history up to it is on the disk.

        The order log is not read on meanwhile; everyone else has their turn between two slices.
        """
        assert self._store is not None
        machine = self.machine
        next_seq = machine.fold.next_seq
        assert machine.written_to >= next_seq, "a snapshot is never ahead of the history"
        self._snapshot_ts = self.context.clock.now()
        try:
            pieces: list[bytes | memoryview] = []
            for piece in order_log.slices(machine.fold, machine.controls):
                pieces.append(piece)
                await asyncio.sleep(0)
            await asyncio.to_thread(self._keep_snapshot, pieces, next_seq)
        except OSError as error:
            self.snapshot_error = f"no snapshot at {next_seq}: {error}"
            log.warning(self.snapshot_error)
            return
        self.snapshot_error = ""
        self.snapshot_seq = next_seq

    def _keep_snapshot(self, pieces: list[bytes | memoryview], next_seq: int) -> None:
        assert self._store is not None
        self._store.make_durable()
        self.snapshots.write(b"\n".join(pieces), next_seq, __version__)
