"""The owner's end of a partition on Kafka: one append under way at a time, what waits meanwhile goes with the next."""

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from trade2026.kit.bus.files import again
from trade2026.kit.bus.kafka_log import Tail, encode_batch
from trade2026.kit.bus.kafka_topics import APPEND_BYTES_MAX
from trade2026.kit.bus.port import BusCorrupt, BusError, BusFull, BusUncertain, Fenced

if TYPE_CHECKING:
    from trade2026.kit.bus.kafka import KafkaPartition

_BATCH_BYTES_MAX = 4 * 1024 * 1024
"""What waits is sent together up to this; a larger append goes alone."""

_PIECE_BYTES_MAX = 24 * 1024 * 1024
"""The most in one batch; what describes the records needs room, too."""
_ABOUT_BYTES = 300
"""What describes a record, as a rule."""

_Append = tuple["asyncio.Future[int]", Sequence[bytes], int]
"""Future, bodies, bytes."""


def pieces(bodies: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """What of an append is sent in one batch: mostly all of it."""
    first = size = 0
    for n, body in enumerate(bodies):
        size += len(body) + _ABOUT_BYTES
        if size > _PIECE_BYTES_MAX and n > first:
            yield bodies[first:n]
            first, size = n, len(body) + _ABOUT_BYTES
    yield bodies[first:] if first else bodies


class KafkaWriter:
    """Appends by comparing: a batch that did not land where this writer expected it does not count."""

    def __init__(self, log: "KafkaPartition", tail: Tail) -> None:
        self.topic, self.partition = log.config.name, log.partition
        self.epoch, self.next_seq = tail.epoch, tail.seq
        self.closed = False
        self._log = log
        self._tail = tail
        self._lane = object()
        self._waiting: deque[_Append] = deque()
        self._error: BusError | None = None
        self._sending: asyncio.Task[None] | None = None

    def append(self, bodies: Sequence[bytes]) -> "asyncio.Future[int]":
        assert bodies, "nothing to append"
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if self._error is not None:
            future.set_exception(again(self._error))
            return future
        self.next_seq += len(bodies)
        self._waiting.append((future, bodies, sum(map(len, bodies))))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send(), name=f"log {self._log.label}")
        return future

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            if self._error is None:
                self._error = BusError(f"{self._log.label}: the writer is closed, nothing was written")
        if self._sending is not None:
            await asyncio.wait([self._sending])
        await self._log.client.hang_up(self._lane)

    async def _send(self) -> None:
        group: list[_Append] = []
        try:
            while self._waiting:
                group = self._next_group()
                bodies = group[0][1] if len(group) == 1 else [body for _, each, _ in group for body in each]
                await self._append(bodies)
                self._acknowledge(group)
        except Exception as error:
            failed = error if isinstance(error, BusError) else BusUncertain(f"{self._log.label}: {error!r}")
            self._refuse([*group, *self._waiting], failed)
        except BaseException:
            self._refuse([*group, *self._waiting], BusUncertain(f"{self._log.label}: the writer was stopped"))
            raise

    def _next_group(self) -> list[_Append]:
        group = [self._waiting.popleft()]
        size = group[0][2]
        while self._waiting and size + self._waiting[0][2] <= _BATCH_BYTES_MAX:
            size += self._waiting[0][2]
            group.append(self._waiting.popleft())
        return group

    async def _append(self, bodies: Sequence[bytes]) -> None:
        """Send as one batch; what is too large for one is sent in several, in order."""
        for piece in pieces(bodies):
            await self._append_piece(piece)

    async def _append_piece(self, bodies: Sequence[bytes]) -> None:
        """Send until it counts: in front of us may be what counts for nobody, never an append of another owner."""
        tail = self._tail
        while True:
            batch = encode_batch(bodies, seq=tail.seq, epoch=self.epoch, at=tail.offset, ts_ms=time.time_ns() // 10**6)
            if len(batch) > APPEND_BYTES_MAX:
                raise BusFull(f"{self._log.label}: a batch of {len(batch)} bytes, the most is {APPEND_BYTES_MAX}")
            landed = await self._log.client.produce(self.topic, self.partition, batch, self._lane)
            if landed == tail.offset:
                tail.offset += len(bodies)
                tail.seq += len(bodies)
                return
            if landed < tail.offset:
                raise BusCorrupt(
                    f"{self._log.label}: the log ended at offset {landed}, but {tail.offset} was acknowledged: "
                    "a broker has lost its end"
                )
            await self._log.fold(tail, landed)
            if tail.epoch != self.epoch:
                raise Fenced(
                    f"{self._log.label}: another owner has claimed it since epoch {self.epoch}; nothing was written"
                )
            tail.offset = landed + len(bodies)

    def _acknowledge(self, group: list[_Append]) -> None:
        self._log.durable_seq = self._tail.seq
        seq = self._tail.seq - 1 - sum(len(bodies) for _, bodies, _ in group)
        for future, bodies, _ in group:
            seq += len(bodies)
            if not future.done():
                future.set_result(seq)
        group.clear()

    def _refuse(self, appends: list[_Append], error: BusError) -> None:
        self._error = error
        self._waiting.clear()
        for future, _, _ in appends:
            if not future.done():
                future.set_exception(again(error))
