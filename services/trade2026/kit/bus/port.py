"""What a bus promises, whichever it is: ordered partitions, one fenced writer each, readers that are woken.

Backends: `memory` (simulation, tests), `sqlite` (one machine), `kafka` (a cluster). All pass one contract suite under
`tests/contract`.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import msgspec


class BusError(Exception):
    """Base of what a bus can answer instead of "durable"."""


class Fenced(BusError):
    """Another owner has claimed the partition since: nothing was written, and never will be."""


class BusFull(BusError):
    """No room: nothing was written."""


class BusUncertain(BusError):
    """It may or may not have been written; the owner must read its log again before it goes on."""


class BusCorrupt(BusError):
    """Records that were durable are damaged or gone; the message says where and what to do."""


class Trimmed(BusError):
    """The position asked for is older than what is retained."""


class BusRefused(BusError):
    """The log can't be used as things are, and waiting does not help: a person must change what the message says."""


TopicPartition = tuple[str, int]
"""A topic and one of its partitions."""


def droppable_to(label: str, end: int, before_seq: int) -> int:
    """Where a log may begin at the latest when it is dropped before a position: its last record stays.

    Raises:
        BusCorrupt: the position lies beyond the end.
    """
    if before_seq > end:
        raise BusCorrupt(f"{label}: the log ends at {end}, nothing is dropped before {before_seq}: it has lost its end")
    return max(0, min(before_seq, end - 1))


class TopicConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How a topic is kept. `durable` decides whether an append is fsynced before it is acknowledged."""

    name: str
    partitions: int = 1
    grows: bool = False
    """Each partition is somebody's by its number, so a log that has fewer gets the missing ones, and more do no harm."""
    durable: bool = True
    segment_bytes_max: int = 256 * 1024 * 1024
    retention_bytes_max: int = 0
    """0 keeps everything; otherwise whole old segments are dropped beyond this."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record as it lies in the log: `body` is the JSON of an envelope."""

    topic: str
    partition: int
    seq: int
    body: bytes


class Writer(Protocol):
    """The one writer of a partition, at one epoch."""

    topic: str
    partition: int
    epoch: int
    next_seq: int
    """The position that the next appended record gets."""

    def append(self, bodies: Sequence[bytes]) -> "asyncio.Future[int]":
        """Append records in one piece, in order; returns at once.

        All records of one call become visible together or not at all, up to 24 MiB of them; a bus may write more in
        several pieces, in order, of which a crash leaves the first. Calls are pipelined: what waits
        while an fsync runs is committed together with the next (group commit). `next_seq` is advanced
        at once.

        Returns:
            A future of the last position, done when the records are durable and were accepted under
            this epoch. It raises `Fenced`, `BusFull` or `BusUncertain`; after any of them the writer is
            dead and every later append fails in the same way.
        """
        ...

    async def close(self) -> None:
        """Wait for what is under way, then let go. Idempotent."""
        ...


class Reader(Protocol):
    """Follows one partition."""

    next_seq: int

    async def read(self, records_max: int = 1000) -> list[Record]:
        """Return the next records, at least one; waits to be woken when there is none."""
        ...

    async def close(self) -> None: ...


class Bus(Protocol):
    """Ordered, durable, replayable partitions."""

    async def claim(self, topic: str, partition: int, owner: str) -> Writer:
        """Become the partition's owner: raises the epoch by one and fences every earlier writer."""
        ...

    async def open_reader(self, topic: str, partition: int, from_seq: int = 0) -> Reader:
        """Follow a partition from a position. Raises `Trimmed` if it is older than what is kept."""
        ...

    async def read(self, topic: str, partition: int, from_seq: int, records_max: int) -> list[Record]:
        """Return what is there now, up to `records_max`; never waits."""
        ...

    async def start(self, topic: str, partition: int) -> int:
        """The oldest position kept."""
        ...

    async def end(self, topic: str, partition: int) -> int:
        """The position after the last durable record."""
        ...

    async def drop(self, topic: str, partition: int, before_seq: int) -> int:
        """Let everything before a position go, for ever; return where the partition begins now.

        That may be earlier than asked, never later: a bus drops in pieces as large as it keeps them, and the
        last record stays, because the next owner goes on after it in time. Whoever owns the partition is not
        disturbed, positions and epochs go on as if nothing had happened, and who reads before the beginning
        gets `Trimmed`. Idempotent; a crash leaves the beginning where it was or where it will be.

        Raises:
            BusCorrupt: the position lies beyond the end: what was read up to there is gone. Nothing is dropped.
            BusRefused: it may not be dropped here; the message says what to change.
            BusError: nobody knows whether it was dropped; ask again.
        """
        ...

    async def commit(self, group: str, topic: str, partition: int, next_seq: int) -> None:
        """Remember durably how far a group of consumers has come."""
        ...

    async def committed(self, group: str, topic: str, partition: int) -> int:
        """Where the group goes on; 0 at first."""
        ...

    async def inspect(self) -> list[str]:
        """How topics are kept differently than they should be, for a person; raises `BusRefused` if it loses records.

        What was dropped on purpose is as it should be.
        """
        ...

    async def close(self) -> None: ...
