"""The bus of one machine: each partition is a folder of SQLite files, shared by the processes that use it.

A partition's segments are `segment-<first position>.db`. A row of `frames` holds everything that was
committed together (one fsync), so a frame is there as a whole or not at all. The `owner` row lies in the
same file, and an append is one statement that inserts only while the epoch is still ours: a fenced owner
can't write, whenever it wakes up. Rolling seals the old segment and takes the epoch to the new one.

What this trades away: the files must be on a local disk (no network file system), and an owner that is
stopped (SIGSTOP) in the middle of a commit holds the file's lock until it goes on or is killed.
"""

import asyncio
from collections.abc import Iterable
from pathlib import Path

from trade2026.kit.bus.offsets import Offsets
from trade2026.kit.bus.partition import Cursor, Partition
from trade2026.kit.bus.port import BusCorrupt, BusError, Record, TopicConfig, droppable_to
from trade2026.kit.bus.writer import SqliteWriter


class SqliteBus:
    """A bus in a folder. Every process has its own object on the same folder; one event loop per object.

    Args:
        root: The folder; made when it is missing.
        topics: What there is. All processes must say the same.
    """

    def __init__(self, root: Path, topics: Iterable[TopicConfig]) -> None:
        self._partitions = {
            (topic.name, n): Partition(root / topic.name / str(n), topic, n)
            for topic in topics
            for n in range(topic.partitions)
        }
        self._offsets = Offsets(root / "offsets.db")
        self._writers: list[SqliteWriter] = []

    async def claim(self, topic: str, partition: int, owner: str) -> "SqliteWriter":
        """See `Bus.claim`. Raises `BusFull`, `BusUncertain` (e.g. the file stays locked) or `BusCorrupt`."""
        log = self._partitions[topic, partition]
        segment, epoch, next_seq = await asyncio.to_thread(log.claim, owner)
        writer = SqliteWriter(log, segment, owner, epoch, next_seq)
        self._writers = [*(other for other in self._writers if not other.closed), writer]
        log.wakes.notify()
        return writer

    async def open_reader(self, topic: str, partition: int, from_seq: int = 0) -> "SqliteReader":
        """See `Bus.open_reader`. Raises `BusCorrupt` beyond the end: what was read before is gone."""
        log = self._partitions[topic, partition]
        end = log.end()
        if from_seq > end:
            raise BusCorrupt(
                f"{log.label}: the log ends at {end} but {from_seq} was read before: it has lost its end; "
                f"restore {log.folder} from a backup, or rebuild what was derived from it"
            )
        if from_seq < log.start():
            raise log.trimmed(from_seq)
        log.wakes.listen()
        return SqliteReader(log, from_seq)

    async def read(self, topic: str, partition: int, from_seq: int, records_max: int) -> list[Record]:
        """See `Bus.read`. Raises `Trimmed` or `BusCorrupt`."""
        return Cursor(self._partitions[topic, partition], from_seq).take(records_max)

    async def start(self, topic: str, partition: int) -> int:
        """See `Bus.start`."""
        return self._partitions[topic, partition].start()

    async def end(self, topic: str, partition: int) -> int:
        """See `Bus.end`."""
        return self._partitions[topic, partition].end()

    async def drop(self, topic: str, partition: int, before_seq: int) -> int:
        """See `Bus.drop`. Whole segments go. Raises `BusFull` or `BusUncertain`, too."""
        log = self._partitions[topic, partition]
        await asyncio.to_thread(log.drop, droppable_to(log.label, log.end(), before_seq))
        return log.start()

    def epoch(self, topic: str, partition: int) -> int:
        """Of a partition's last owner; 0 if nobody ever claimed it."""
        return self._partitions[topic, partition].epoch()

    def bytes(self, topic: str, partition: int) -> int:
        """What a partition takes on the disk."""
        return self._partitions[topic, partition].bytes()

    def all_committed(self) -> list[tuple[str, str, int, int]]:
        """Group, topic, partition and next position of everything that was committed."""
        return self._offsets.all()

    async def commit(self, group: str, topic: str, partition: int, next_seq: int) -> None:
        """See `Bus.commit`. Raises `BusFull` or `BusUncertain`."""
        durable = self._partitions[topic, partition].config.durable
        await asyncio.to_thread(self._offsets.commit, group, topic, partition, next_seq, durable)

    async def committed(self, group: str, topic: str, partition: int) -> int:
        """See `Bus.committed`."""
        return await asyncio.to_thread(self._offsets.committed, group, topic, partition)

    async def inspect(self) -> list[str]:
        """See `Bus.inspect`: segments that are gone although nobody dropped them."""
        return [fault for log in self._partitions.values() for fault in log.faults()]

    async def close(self) -> None:
        """Write what waits, then let every file go. Idempotent."""
        for writer in self._writers:
            await writer.close()
        for log in self._partitions.values():
            log.close()
        self._offsets.close()


class SqliteReader:
    def __init__(self, log: Partition, from_seq: int) -> None:
        self.next_seq = from_seq
        self._log = log
        self._cursor = Cursor(log, from_seq)
        self._closed = False

    async def read(self, records_max: int = 1000) -> list[Record]:
        assert records_max > 0
        while not self._closed:
            records = self._cursor.take(records_max)
            if records:
                self.next_seq = self._cursor.next_seq
                return records
            await self._log.wakes.waiters.wait()
        raise BusError(f"{self._log.label}: the reader is closed")

    async def close(self) -> None:
        self._closed = True
        self._log.wakes.waiters.wake()
