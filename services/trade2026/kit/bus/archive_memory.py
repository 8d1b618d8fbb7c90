"""An archive in memory, for simulation and tests."""

from collections.abc import Sequence

from trade2026.domain.shards import partition_name
from trade2026.kit.bus.archived import ArchiveConflict, Extent
from trade2026.kit.bus.port import Record, TopicPartition


class MemoryArchive:
    """See `Archive`."""

    def __init__(self) -> None:
        self._records: dict[TopicPartition, list[Record]] = {}

    async def extent(self, topic: str, partition: int) -> Extent | None:
        """See `Archive.extent`."""
        records = self._records.get((topic, partition))
        return Extent(records[0].seq, records[-1].seq + 1) if records else None

    async def read(self, topic: str, partition: int, from_seq: int, records_max: int) -> list[Record]:
        """See `Archive.read`."""
        records = self._records.get((topic, partition), [])
        index = from_seq - records[0].seq if records else -1
        return records[index : index + records_max] if index >= 0 else []

    def records(self, topic: str, partition: int) -> list[Record]:
        """All that it holds of a partition, without waiting."""
        return list(self._records.get((topic, partition), []))

    async def write(self, records: Sequence[Record]) -> Extent:
        """See `Archive.write`."""
        place = (records[0].topic, records[0].partition)
        held = self._records.setdefault(place, [])
        if held and records[0].seq != held[-1].seq + 1:
            raise ArchiveConflict(f"{partition_name(*place)}: {records[0].seq} does not follow {held[-1].seq}")
        held.extend(records)
        return Extent(held[0].seq, held[-1].seq + 1)
