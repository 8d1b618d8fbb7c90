"""A bus of which old records lie in an archive: whoever reads sees one log, from its first record on.

So dropping the beginning of a partition (`Bus.drop`) takes nothing from anybody: a replay from the beginning, a
follower that was away for a month, the events of an old order are slower then, and the same. A log that was never
dropped costs nothing: the archive is not even opened.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from trade2026.domain.shards import partition_name
from trade2026.kit.bus.port import Bus, BusError, Reader, Record, TopicPartition, Trimmed, Writer


@dataclass(frozen=True)
class Extent:
    """What an archive holds of a partition, without a gap; `next_seq` is not in it."""

    first: int
    next_seq: int


class ArchiveConflict(BusError):
    """Somebody else has written to the archive's partition meanwhile: nothing was written."""


class Archive(Protocol):
    """Keeps records as they were; all its implementations pass `tests/contract/test_log_archive.py`."""

    async def extent(self, topic: str, partition: int) -> Extent | None:
        """What it holds; None if that is nothing. Raises `BusError` if nobody knows now."""
        ...

    async def read(self, topic: str, partition: int, from_seq: int, records_max: int) -> list[Record]:
        """The records from a position on, none if it has not that one. Raises `BusError` if it can't be read now."""
        ...

    async def write(self, records: Sequence[Record]) -> Extent:
        """Keep the next records of one partition durably, all of them or none; return what it holds then.

        Raises:
            ArchiveConflict: they do not follow what is there.
            BusError: they may or may not be kept; `extent` says.
        """
        ...


class ArchivedBus:
    """A bus, and what it has dropped.

    Args:
        kept: Where records are written, and read while they are there.
        topics: Those of which the archive may hold the beginning.
    """

    def __init__(self, kept: Bus, archive: Archive, topics: Collection[str]) -> None:
        self.kept, self.archive, self.topics = kept, archive, frozenset(topics)
        self._firsts: dict[TopicPartition, int] = {}
        """Where an archived partition begins, which never changes."""

    async def claim(self, topic: str, partition: int, owner: str) -> Writer:
        """See `Bus.claim`."""
        return await self.kept.claim(topic, partition, owner)

    async def open_reader(self, topic: str, partition: int, from_seq: int = 0) -> Reader:
        """See `Bus.open_reader`. Raises `Trimmed` for what is not in the archive either."""
        if topic not in self.topics:
            return await self.kept.open_reader(topic, partition, from_seq)
        reader = _ArchivedReader(self, topic, partition, from_seq)
        await reader.open()
        return reader

    async def read(self, topic: str, partition: int, from_seq: int, records_max: int) -> list[Record]:
        """See `Bus.read`. Raises `Trimmed` for what is not in the archive either."""
        try:
            return await self.kept.read(topic, partition, from_seq, records_max)
        except Trimmed:
            if topic not in self.topics:
                raise
        return await self.read_archived(topic, partition, from_seq, records_max)

    async def read_archived(self, topic: str, partition: int, from_seq: int, records_max: int) -> list[Record]:
        """What was dropped, at least one record. Raises `Trimmed` if the archive has not got it."""
        records = await self.archive.read(topic, partition, from_seq, records_max)
        if not records:
            extent, start = await self.archive.extent(topic, partition), await self.kept.start(topic, partition)
            raise _gone(topic, partition, from_seq, start, extent)
        return records

    async def start(self, topic: str, partition: int) -> int:
        """See `Bus.start`. It may have to ask the archive.

        Raises:
            Trimmed: what was dropped is not in the archive: a log without its beginning must not pass for a whole one.
        """
        start = await self.kept.start(topic, partition)
        if start == 0 or topic not in self.topics:
            return start
        place = (topic, partition)
        if place not in self._firsts:
            extent = await self.archive.extent(topic, partition)
            if extent is None or extent.next_seq < start:
                raise _gone(topic, partition, start - 1, start, extent)
            self._firsts[place] = extent.first
        return min(start, self._firsts[place])

    async def end(self, topic: str, partition: int) -> int:
        """See `Bus.end`."""
        return await self.kept.end(topic, partition)

    async def drop(self, topic: str, partition: int, before_seq: int) -> int:
        """See `Bus.drop`. Only what the archive holds may go. Raises `BusError` otherwise."""
        if topic in self.topics:
            start, extent = await self.kept.start(topic, partition), await self.archive.extent(topic, partition)
            if before_seq > start and (extent is None or not extent.first <= start <= before_seq <= extent.next_seq):
                raise BusError(
                    f"{partition_name(topic, partition)}: {start} to {before_seq - 1} is not dropped: "
                    f"the archive has {_in_words(extent)}"
                )
        return await self.kept.drop(topic, partition, before_seq)

    async def commit(self, group: str, topic: str, partition: int, next_seq: int) -> None:
        """See `Bus.commit`."""
        await self.kept.commit(group, topic, partition, next_seq)

    async def committed(self, group: str, topic: str, partition: int) -> int:
        """See `Bus.committed`."""
        return await self.kept.committed(group, topic, partition)

    async def inspect(self) -> list[str]:
        """See `Bus.inspect`."""
        return await self.kept.inspect()

    async def close(self) -> None:
        """Let the log go; the archive holds nothing open."""
        await self.kept.close()


def _gone(topic: str, partition: int, seq: int, start: int, extent: Extent | None) -> Trimmed:
    return Trimmed(
        f"{partition_name(topic, partition)}: the log begins at {start} and the lake has {_in_words(extent)} of it: {seq} is gone; "
        "put the lake's folder `log` back from a backup"
    )


def _in_words(extent: Extent | None) -> str:
    return f"{extent.first} to {extent.next_seq - 1}" if extent is not None else "nothing"


def kept_of(bus: Bus) -> Bus:
    """Of a bus, what is written to: its partitions begin where they do there."""
    return bus.kept if isinstance(bus, ArchivedBus) else bus


async def resume_position(bus: Bus, topic: str, partition: int, position: int) -> int:
    """Where a follower goes on that may miss what is gone: at its position, or where the topic begins by now.

    Nothing but the bus is asked while the position is there.
    """
    try:
        await bus.read(topic, partition, position, 1)
    except Trimmed:
        return max(position, await bus.start(topic, partition))
    return position


class _ArchivedReader:
    """Reads in the archive until the log has what comes next; back in it, should the log be dropped meanwhile."""

    def __init__(self, bus: ArchivedBus, topic: str, partition: int, from_seq: int) -> None:
        self.next_seq = from_seq
        self._bus, self._topic, self._partition = bus, topic, partition
        self._kept: Reader | None = None
        self._closed = False

    async def open(self) -> None:
        """Begin. Raises `Trimmed` or `BusCorrupt`."""
        try:
            self._kept = await self._bus.kept.open_reader(self._topic, self._partition, self.next_seq)
        except Trimmed:
            await self._bus.read_archived(self._topic, self._partition, self.next_seq, 1)

    async def read(self, records_max: int = 1000) -> list[Record]:
        while not self._closed:
            if self._kept is None and await self._bus.kept.start(self._topic, self._partition) <= self.next_seq:
                await self.open()
            if self._kept is None:
                records = await self._bus.read_archived(self._topic, self._partition, self.next_seq, records_max)
                self.next_seq = records[-1].seq + 1
                return records
            try:
                records = await self._kept.read(records_max)
            except Trimmed:
                await self._let_go()
                continue
            self.next_seq = self._kept.next_seq
            return records
        raise BusError(f"{partition_name(self._topic, self._partition)}: the reader is closed")

    async def close(self) -> None:
        self._closed = True
        await self._let_go()

    async def _let_go(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            await kept.close()
