"""The log: copied from SQLite journals to Kafka, record by record, and compared in the same way."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import msgspec

from trade2026.kit.bus.kafka import KafkaBus
from trade2026.kit.bus.kafka_copy import KafkaCopy
from trade2026.kit.bus.port import Record, TopicConfig, Trimmed
from trade2026.kit.bus.sqlite import SqliteBus
from trade2026.local.migration.moves import Extent, MigrationRefused, Step, step_of

_PAGE = 2_000
"""Records that are read, written and compared at a time."""

Told = Callable[[str, int, int], None]
"""Of progress: what, how much is done, of how much."""


class _Head(msgspec.Struct, gc=False):
    epoch: int = 0


_head = msgspec.json.Decoder(_Head).decode


@dataclass(frozen=True)
class Compared:
    """A partition that is the same here and there.

    Attributes:
        records: How many were compared.
        dropped: How many of the oldest Kafka has dropped again, because their topic is bounded.
        sha256: Of the bodies, a line each.
    """

    extent: Extent
    records: int
    dropped: int
    sha256: str


def filled_partitions(root: Path) -> set[tuple[str, int]]:
    """Topics and partitions of which there is a journal under the root of an embedded bus."""
    return {
        (folder.parent.name, int(folder.name))
        for folder in root.glob("*/*")
        if folder.name.isdecimal() and any(folder.glob("segment-*.db"))
    }


async def extents_of(source: SqliteBus, topics: Sequence[TopicConfig]) -> list[Extent]:
    """What the embedded log holds. Raises `BusError`."""
    return [
        Extent(
            topic.name,
            partition,
            await source.start(topic.name, partition),
            await source.end(topic.name, partition),
            source.epoch(topic.name, partition),
            source.bytes(topic.name, partition),
            bool(topic.retention_bytes_max),
        )
        for topic in topics
        for partition in range(topic.partitions)
    ]


async def look(source: SqliteBus, target: KafkaBus, extent: Extent) -> Step:
    """What is to be done to one partition. Raises `MigrationRefused` or `BusError`."""
    found = await target.copy(extent.topic, extent.partition).look()
    seq = min(found.end, extent.end) - 1
    if not found.empty and seq >= max(found.start, extent.start):
        _require_same(await _one(source, extent, seq), await _one(target, extent, seq), extent)
    return step_of(extent, found)


async def move(source: SqliteBus, target: KafkaBus, step: Step, told: Told) -> int:
    """Copy what is missing of one partition; return how many records that were. Raises `BusError`."""
    if step.finished:
        return 0
    extent, copy = step.extent, target.copy(step.extent.topic, step.extent.partition)
    await copy.look()
    if step.begin:
        first = await source.read(extent.topic, extent.partition, extent.start, 1)
        await copy.mark(extent.start, _epoch_of(first[0].body) if first else extent.epoch)
    seq = step.from_seq
    while seq < extent.end:
        records = await source.read(extent.topic, extent.partition, seq, min(_PAGE, extent.end - seq))
        await _append(copy, records)
        seq += len(records)
        told(extent.label, seq - extent.start, extent.records)
    await copy.finish(extent.epoch)
    await copy.close()
    return seq - step.from_seq


async def _append(copy: KafkaCopy, records: Sequence[Record]) -> None:
    """Records of one epoch go together; a body that names none is of the epoch before it."""
    for epoch, some in groupby(records, lambda record: _epoch_of(record.body)):
        await copy.append([record.body for record in some], max(epoch, copy.epoch))


def _epoch_of(body: bytes) -> int:
    try:
        return _head(body).epoch
    except msgspec.DecodeError:
        return 0


async def compare(source: SqliteBus, target: KafkaBus, extent: Extent, told: Told) -> Compared:
    """Read a partition here and there, and see that each record is the same.

    Raises:
        MigrationRefused: one differs or is missing; the message says which.
        BusError
    """
    if await target.end(extent.topic, extent.partition) < extent.end:
        raise MigrationRefused(
            f"{extent.label}: on Kafka records before {extent.end} are missing: start the move again"
        )
    while True:
        start = await target.start(extent.topic, extent.partition)
        if start > extent.start and not extent.bounded:
            raise MigrationRefused(f"{extent.label}: on Kafka it begins at {start}, not at {extent.start}")
        try:
            return await _compare_from(min(max(start, extent.start), extent.end), source, target, extent, told)
        except Trimmed:
            if not extent.bounded:
                raise  # else Kafka has dropped some more of the oldest meanwhile


async def _compare_from(begin: int, source: SqliteBus, target: KafkaBus, extent: Extent, told: Told) -> Compared:
    digest, seq = hashlib.sha256(), begin
    while seq < extent.end:
        count = min(_PAGE, extent.end - seq)
        here = await source.read(extent.topic, extent.partition, seq, count)
        there = await target.read(extent.topic, extent.partition, seq, count)
        for ours, theirs in _pairs(here, there):
            _require_same(ours, theirs, extent)
            digest.update(ours.body + b"\n")
        seq += min(len(here), len(there))
        told(f"{extent.label} compared", seq - begin, extent.end - begin)
    return Compared(extent, extent.end - begin, begin - extent.start, digest.hexdigest())


def _pairs(here: Sequence[Record], there: Sequence[Record]) -> Iterator[tuple[Record, Record]]:
    assert here and there, "both have more"
    return zip(here, there, strict=False)


async def _one(bus: SqliteBus | KafkaBus, extent: Extent, seq: int) -> Record:
    (record,) = await bus.read(extent.topic, extent.partition, seq, 1)
    return record


def _require_same(ours: Record, theirs: Record, extent: Extent) -> None:
    if ours != theirs:
        raise MigrationRefused(
            f"{extent.label}: what is at {ours.seq} on Kafka is another record: these topics hold another log; name "
            "other brokers, give the stack there another name, or delete its topics"
        )


async def copy_groups(source: SqliteBus, target: KafkaBus, extents: Sequence[Extent]) -> int:
    """How far groups of consumers have come, too; return how many that are. Raises `BusError`."""
    known = {(extent.topic, extent.partition): extent for extent in extents}
    count = 0
    for group, topic, partition, next_seq in source.all_committed():
        extent = known.get((topic, partition))
        if extent is not None and extent.start <= next_seq <= extent.end:
            await target.commit(group, topic, partition, next_seq)
            count += 1
    return count
