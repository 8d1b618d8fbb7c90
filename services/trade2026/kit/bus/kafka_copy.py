"""Another bus's log, written into a partition of Kafka that nobody owns yet: same positions, same epochs, same bodies.

It is written by compare-and-append, as an owner writes, with marks instead of claims (`kafka_log` says what both are).
So what a copy that was killed leaves behind is a log as well, and the next one goes on at its end; of two that copy at
once one finds that its batch landed elsewhere, and what landed there counts for nobody.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trade2026.kit.bus.kafka_log import Tail, encode_batch, encode_mark
from trade2026.kit.bus.kafka_writer import pieces
from trade2026.kit.bus.port import BusRefused

if TYPE_CHECKING:
    from trade2026.kit.bus.kafka import KafkaPartition


@dataclass(frozen=True)
class CopyFound:
    """What is in the partition: nothing at all, or a log from `start` to before `end`.

    Attributes:
        epoch: Of its end.
        owned: A stack has claimed it after the last record.
    """

    empty: bool
    start: int = 0
    end: int = 0
    epoch: int = 0
    owned: bool = False


class KafkaCopy:
    """Writes one partition. `look` first."""

    def __init__(self, log: "KafkaPartition") -> None:
        self._log = log
        self._tail = Tail()
        self._lane = object()

    @property
    def epoch(self) -> int:
        """Of the last record or mark."""
        return self._tail.epoch

    async def look(self) -> CopyFound:
        """See what is there, and go on at its end. Raises `BusError`."""
        log = self._log
        end = await log.client.latest(log.config.name, log.partition)
        if end == 0:
            self._tail = Tail()
            return CopyFound(True)
        self._tail = tail = await log.tail_at(end)
        return CopyFound(False, await log.start(), tail.seq, tail.epoch, await log.claimed_at_end(end))

    async def mark(self, seq: int, epoch: int) -> None:
        """Say of which epoch and from which position on the next records are."""
        batch = encode_mark(seq=seq, epoch=epoch, at=self._tail.offset, ts_ms=time.time_ns() // 10**6)
        await self._land(batch, 1)
        self._tail.seq, self._tail.epoch = seq, epoch

    async def append(self, bodies: Sequence[bytes], epoch: int) -> None:
        """Write the next records, durably. Raises `BusUncertain` or `BusRefused`; after it, look again."""
        if epoch != self._tail.epoch:
            await self.mark(self._tail.seq, epoch)
        for piece in pieces(bodies):
            tail = self._tail
            batch = encode_batch(piece, seq=tail.seq, epoch=epoch, at=tail.offset, ts_ms=time.time_ns() // 10**6)
            await self._land(batch, len(piece))
            tail.seq += len(piece)

    async def finish(self, epoch: int) -> None:
        """End with the epoch of the original's last owner; from here on a durable log must not begin anew."""
        if self._tail.epoch != epoch:
            await self.mark(self._tail.seq, epoch)
        await self._log.remember()

    async def close(self) -> None:
        """Let its connection go."""
        await self._log.client.hang_up(self._lane)

    async def _land(self, batch: bytes, count: int) -> None:
        log, expected = self._log, self._tail.offset
        landed = await log.client.produce(log.config.name, log.partition, batch, self._lane)
        if landed != expected:
            raise BusRefused(
                f"{log.label}: somebody else writes there (offset {expected} was not free): stop whatever uses the "
                "topics of this stack, then start the copy again"
            )
        self._tail.offset += count
