"""Moves old records from the log to the lake, and then drops them where orders are written.

A record is dropped when it is older than the manifest says, when snapshots cover it (both that are kept: the newer one
may turn out to be unreadable), and when the lake has it, which is read back and compared first. So a kill between
any two steps loses nothing: what is in the lake is not written there again, and what is not yet dropped is later.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trade2026.domain.shards import partition_name
from trade2026.kit.bus.archived import ArchivedBus, Extent
from trade2026.kit.bus.port import BusError, Record, TopicPartition
from trade2026.kit.clock import Clock
from trade2026.kit.metrics import Metrics
from trade2026.kit.projection import snapshot_directory
from trade2026.kit.service import Health
from trade2026.kit.snapshots import SnapshotStore
from trade2026.kit.stamps import made_at

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fold:
    """Who folds a topic, and must be able to begin after what is dropped of it."""

    name: str
    may_be_missing: bool = False
    """It counts where it has ever kept a snapshot."""
    of_all_partitions: bool = False
    """It has one snapshot, which says how far it is in each partition."""

    def store(self, state: Path, partition: int) -> SnapshotStore:
        """Where its snapshots are."""
        return SnapshotStore(
            snapshot_directory(state, self.name, 0 if self.of_all_partitions else partition), self.name
        )


FOLDS: Mapping[str, tuple[Fold, ...]] = {
    "orders.events": (Fold("oms"), Fold("ptrc", may_be_missing=True), Fold("pnl", may_be_missing=True)),
    "venue.reports": (Fold("gateway", of_all_partitions=True),),
    "exeq.events": (Fold("exeq"),),
}
ROUND_SECONDS = 30.0
_RECORDS = 20_000
"""Moved at once: fewer are left where they are, so that the lake's files are of a good size."""
_BYTES_MAX = 16 * 1024 * 1024
_RECORDS_PER_READ = 1_000
_STRIDE = 7_919
"""A prime: from one record to the next that is looked at in the lake."""
PAUSE_SECONDS = 0.2
"""Between two batches, so that a long move takes a small share of a core."""


class LogArchiver:
    """Moves what is due, again and again.

    Args:
        partitions: Of each topic that is archived.
        after_ns: How long a record stays in the log at least.
        records: Moved at once.
    """

    def __init__(
        self,
        bus: ArchivedBus,
        clock: Clock,
        metrics: Metrics,
        state: Path,
        partitions: Mapping[str, int],
        after_ns: int,
        *,
        records: int = _RECORDS,
    ) -> None:
        self.bus, self.clock, self.state = bus, clock, state
        self.places = [(topic, partition) for topic, count in partitions.items() for partition in range(count)]
        self.after_ns, self.records = after_ns, records
        self.round_seconds, self.pause_seconds = ROUND_SECONDS, PAUSE_SECONDS
        self.archived: dict[TopicPartition, Extent] = {}
        """What the lake has, as far as it was asked."""
        self.begins: dict[TopicPartition, int] = {}
        """Where the log begins."""
        self.covered_to: dict[TopicPartition, int] = {}
        """Up to where snapshots cover it, as of the last round."""
        self.errors: dict[TopicPartition, str] = {}
        self._compared: dict[TopicPartition, int] = {}
        self._looked_at: dict[TopicPartition, int] = {}
        self._moved = {
            topic: metrics.counter("trade2026_log_archived_records_total", "Records moved to the lake", topic=topic)
            for topic in partitions
        }

    async def run(self) -> None:
        """Do what is due until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self.round_seconds)

    async def look(self) -> None:
        """Once through all partitions; what fails is tried again in the next round."""
        for place in self.places:
            try:
                await self._move(*place)
                self.errors.pop(place, None)
            except BusError as error:
                self.errors[place] = str(error)
                log.warning("%s is archived later: %s", partition_name(*place), error)
            except Exception as error:
                self.errors[place] = f"{partition_name(*place)} can't be archived: {error!r}"
                log.exception(self.errors[place])

    def health(self) -> Health:
        """Whether the last round did what was due."""
        return Health(not self.errors, "; ".join(self.errors.values()))

    def summary(self) -> dict[str, dict[str, int]]:
        """By partition: where the log begins, what the lake has, up to where snapshots cover it."""
        return {
            f"{topic}/{partition}": {
                "begins": self.begins.get((topic, partition), 0),
                "archived_to": extent.next_seq if (extent := self.archived.get((topic, partition))) else 0,
                "covered_to": self.covered_to.get((topic, partition), 0),
            }
            for topic, partition in self.places
        }

    async def _move(self, topic: str, partition: int) -> None:
        place, kept = (topic, partition), self.bus.kept
        self.begins[place] = start = await kept.start(topic, partition)
        self.covered_to[place] = covered = await asyncio.to_thread(self.covered, topic, partition)
        if covered - start < self.records and not start:
            return
        due = min(covered, await self._first_young(topic, partition, start))
        if due - start < self.records and not start:
            return
        extent = await self.bus.archive.extent(topic, partition) or Extent(start, start)
        if start:
            await self._look_into_the_lake(place, start)
        if not extent.first <= start <= extent.next_seq:
            raise BusError(
                f"{partition_name(topic, partition)} begins at {start} and the lake has {extent.first} to "
                f"{extent.next_seq - 1} of it: put the lake's folder `log` back from a backup; nothing is dropped"
            )
        while due - extent.next_seq >= self.records:
            batch = await self._read(topic, partition, extent.next_seq)
            extent = self.archived[place] = await self.bus.archive.write(batch)
            self._moved[topic].inc(len(batch))
            await asyncio.sleep(self.pause_seconds)
        self.archived[place] = extent
        if due - start >= self.records:
            await self._drop(place, min(due, extent.next_seq))

    async def _look_into_the_lake(self, place: TopicPartition, start: int) -> None:
        """Read a record that only the lake has, another one each time: what is lost or damaged there is found in time.

        Raises:
            BusError: it is.
        """
        self._looked_at[place] = seq = (self._looked_at.get(place, 0) + _STRIDE) % start
        await self.bus.read(*place, seq, 1)

    def covered(self, topic: str, partition: int) -> int:
        """Up to where everyone on this machine who folds a partition can begin after it."""
        stores = [(fold, fold.store(self.state, partition)) for fold in FOLDS[topic]]
        return min(
            store.covered(topic, partition)
            for fold, store in stores
            if not fold.may_be_missing or store.directory.is_dir()
        )

    async def _first_young(self, topic: str, partition: int, start: int) -> int:
        """The first record that is too young to go; times never decrease in a partition."""
        oldest = self.clock.now() - self.after_ns
        low, high = start, await self.bus.kept.end(topic, partition)
        while low < high:
            middle = (low + high) // 2
            (record,) = await self.bus.kept.read(topic, partition, middle, 1)
            low, high = (middle + 1, high) if made_at(record.body) < oldest else (low, middle)
        return low

    async def _read(self, topic: str, partition: int, from_seq: int) -> list[Record]:
        """The next batch, smaller where records are large."""
        found: list[Record] = []
        size = 0
        while len(found) < self.records and size < _BYTES_MAX:
            count = min(_RECORDS_PER_READ, self.records - len(found))
            records = await self.bus.kept.read(topic, partition, from_seq + len(found), count)
            found += records
            size += sum(len(record.body) for record in records)
        return found

    async def _drop(self, place: TopicPartition, before_seq: int) -> None:
        """Drop what the lake has, once it was compared."""
        compared = max(self._compared.get(place, 0), self.begins[place])
        while compared < before_seq:
            compared = await self._compare(place, compared, before_seq)
            self._compared[place] = compared
        begins = await self.bus.drop(*place, before_seq)
        if begins > self.begins[place]:
            log.info("%s begins at %d now: what was before is in the lake", partition_name(*place), begins)
        self.begins[place] = begins

    async def _compare(self, place: TopicPartition, from_seq: int, before_seq: int) -> int:
        """Compare some records with what the lake has of them; return where to go on.

        Raises:
            BusError: they differ.
        """
        ours = await self.bus.kept.read(*place, from_seq, min(_RECORDS_PER_READ, before_seq - from_seq))
        theirs = await self.bus.archive.read(*place, from_seq, len(ours))
        if not ours or ours[: len(theirs)] != theirs or not theirs:
            raise BusError(
                f"{partition_name(*place)}: what the lake has from {from_seq} on is not what the log has; nothing is "
                "dropped: see which is damaged (`trade2026 replay --verify`), and put it back from a backup"
            )
        await asyncio.sleep(0)
        return from_seq + len(theirs)
