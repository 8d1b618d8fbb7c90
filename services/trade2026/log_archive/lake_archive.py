"""The archive of the log as a table of the lake: a record is a row, and its position travels with it."""

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from trade2026.domain.shards import partition_name
from trade2026.kit.bus.archived import ArchiveConflict, Extent
from trade2026.kit.bus.port import BusCorrupt, BusError, Record, TopicPartition
from trade2026.kit.identity import ConfigurationError
from trade2026.kit.stamps import made_at
from trade2026.stores.lake import Column, Kind, Lake, LakeConflict, LakeError, NoSuchTable, Selection, TableSpec

TABLE = TableSpec(
    "records",
    (
        Column("date", Kind.DATE),
        Column("partition", Kind.TEXT),
        Column("seq", Kind.INTEGER),
        Column("ts_init", Kind.INTEGER),
        Column("body", Kind.TEXT),
    ),
    order=("seq",),
    cluster=("seq",),
    partition="partition",
    dated_by_time=False,
)
VERSIONS_HOURS = 24
"""How far back versions of the table are kept: rows are only ever added."""
_PAGE = 5_000
"""Records that are read at a time: to open the table takes longer than to read so many."""
_PAGES_MAX = 4
"""That are kept, one of a partition."""
_DAMAGED = re.compile(r"Parquet|does not exist|[Nn]ot found|No such file|deserializ|Invalid JSON")
"""In what the library says of a file that is torn or gone, and not of a store that is away."""
_DAY_NS = 86_400 * 10**9


class LakeArchive:
    """See `Archive`.

    Args:
        open_lake: Called when the lake is first needed.
    """

    def __init__(self, open_lake: Callable[[], Lake]) -> None:
        self._open_lake = open_lake
        self._lake: Lake | None = None
        self._pages: dict[TopicPartition, list[Record]] = {}
        """Of some partitions, what was read last: most of it is asked for next."""

    async def extent(self, topic: str, partition: int) -> Extent | None:
        """See `Archive.extent`."""
        return await asyncio.to_thread(self._extent, topic, partition)

    async def read(self, topic: str, partition: int, from_seq: int, records_max: int) -> list[Record]:
        """See `Archive.read`."""
        if records_max == 1:  # no run through the log: what is there now is meant
            return await asyncio.to_thread(self._read, topic, partition, from_seq, 1)
        page = self._pages.get((topic, partition), [])
        index = from_seq - page[0].seq if page else -1
        if not 0 <= index < len(page):
            count = max(records_max, _PAGE)
            page, index = await asyncio.to_thread(self._read, topic, partition, from_seq, count), 0
            self._keep(topic, partition, page)
        return page[index : index + records_max]

    async def write(self, records: Sequence[Record]) -> Extent:
        """See `Archive.write`."""
        return await asyncio.to_thread(self._write, records)

    def _keep(self, topic: str, partition: int, page: list[Record]) -> None:
        self._pages.pop((topic, partition), None)
        if len(self._pages) >= _PAGES_MAX:
            del self._pages[next(iter(self._pages))]
        self._pages[topic, partition] = page

    @property
    def _opened(self) -> Lake:
        if self._lake is None:
            self._lake = self._open_lake()
        return self._lake

    def _extent(self, topic: str, partition: int) -> Extent | None:
        first, end = _offset_names(topic, partition)
        with _told(partition_name(topic, partition)):
            offsets = self._opened.offsets(TABLE.name, [first, end])
        return Extent(offsets[first], offsets[end]) if end in offsets else None

    def _read(self, topic: str, partition: int, from_seq: int, count: int) -> list[Record]:
        wanted = Selection(
            equal={TABLE.partition: _partition_text(topic, partition)},
            from_ns=from_seq,
            to_ns=from_seq + count,
            limit=count,
        )
        with _told(partition_name(topic, partition)):
            try:
                rows = self._opened.read(TABLE, wanted).rows
            except NoSuchTable:
                return []
        records = [Record(topic, partition, row["seq"], row["body"].encode()) for row in rows]
        for seq, record in enumerate(records, from_seq):
            if record.seq != seq:  # what follows a gap is no answer, nor is what is there twice
                return records[: seq - from_seq]
        return records

    def _write(self, records: Sequence[Record]) -> Extent:
        topic, partition, begin = records[0].topic, records[0].partition, records[0].seq
        first, end = _offset_names(topic, partition)
        held = self._extent(topic, partition)
        if held is not None and held.next_seq != begin:
            raise ArchiveConflict(f"{partition_name(topic, partition)}: {begin} does not follow {held.next_seq - 1}")
        times = [made_at(record.body) for record in records]
        columns = {
            "date": [ts // _DAY_NS for ts in times],
            "partition": [_partition_text(topic, partition)] * len(records),
            "seq": [record.seq for record in records],
            "ts_init": times,
            "body": [record.body.decode() for record in records],
        }
        offsets = {end: records[-1].seq + 1} | ({} if held else {first: begin})
        with _told(partition_name(topic, partition)):
            self._opened.append(TABLE, columns, offsets)
        return Extent(held.first if held else begin, records[-1].seq + 1)


def _partition_text(topic: str, partition: int) -> str:
    """It becomes the name of a folder, so without a slash."""
    return f"{topic}-{partition}"


def _offset_names(topic: str, partition: int) -> tuple[str, str]:
    """Where a partition begins in the archive, and where it goes on."""
    name = partition_name(topic, partition)
    return f"{name} first", name


@contextmanager
def _told(label: str) -> Iterator[None]:
    """Errors of the lake in the words of the bus."""
    try:
        yield
    except LakeConflict as error:
        raise ArchiveConflict(f"{label}: {error}") from error
    except LakeError as error:
        if _DAMAGED.search(str(error)):
            raise BusCorrupt(
                f"{label}: what the log has dropped can't be read in the lake any more, for its folder `log` is damaged "
                f"({error}): put it back from a backup"
            ) from error
        raise BusError(f"{label}: the lake, which has what the log has dropped, does not answer: {error}") from error
    except ConfigurationError as error:
        raise BusError(f"{label}: the lake, which has what the log has dropped, does not answer: {error}") from error
    except ImportError as error:
        raise BusError(
            f"{label}: the lake, which has what the log has dropped, needs `pip install trade2026[data]`"
        ) from error
