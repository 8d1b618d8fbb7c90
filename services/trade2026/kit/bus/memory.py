"""The bus in memory, for simulation and tests: the promises of the port without disk, threads or clocks.

When an append becomes durable is the only thing that is up to the caller (`delay`), so a virtual loop and a
seed replay a run exactly. Faults are injected: `crash`, `cut_power`, `fill`, `fail_next`, `wake`.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from random import Random

from trade2026.kit.bus.port import (
    BusCorrupt,
    BusError,
    BusFull,
    BusUncertain,
    Fenced,
    Record,
    TopicConfig,
    Trimmed,
    droppable_to,
)
from trade2026.kit.bus.wake import Waiters


class MemoryBus:
    """A bus that lives as long as this object.

    Args:
        delay: Seconds until an append becomes durable, asked once per append; None: the next turn of the loop.
        rng: Decides how much of what was under way survives a `crash`.
        on_added: Told of every record's topic, partition and position when it becomes durable: in this order.
    """

    def __init__(
        self,
        topics: Iterable[TopicConfig],
        *,
        delay: Callable[[], float] | None = None,
        rng: Random | None = None,
        on_added: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self._delay = delay
        self._rng = rng or Random(0)
        self._full = False
        self._partitions = {
            (topic.name, n): _Partition(topic, n, on_added) for topic in topics for n in range(topic.partitions)
        }
        self._writers: list[_MemoryWriter] = []
        self._offsets: dict[tuple[str, str, int], int] = {}
        self._failing: dict[tuple[str, int], BusError] = {}

    async def claim(self, topic: str, partition: int, owner: str) -> "_MemoryWriter":
        """See `Bus.claim`. Raises `BusFull` while there is no room."""
        log = self._partitions[topic, partition]
        if self._full:
            raise BusFull(f"{log.label}: there is no room to claim it")
        log.epoch += 1
        writer = _MemoryWriter(self, log, owner)
        self._writers = [*(other for other in self._writers if other.alive), writer]
        return writer

    async def open_reader(self, topic: str, partition: int, from_seq: int = 0) -> "_MemoryReader":
        """See `Bus.open_reader`. Raises `BusCorrupt` beyond the end."""
        log = self._partitions[topic, partition]
        if from_seq > log.end:
            raise BusCorrupt(f"{log.label}: the log ends at {log.end} but {from_seq} was read before")
        log.take(from_seq, 0)
        return _MemoryReader(log, from_seq)

    async def read(self, topic: str, partition: int, from_seq: int, records_max: int) -> list[Record]:
        """See `Bus.read`. Raises `Trimmed`."""
        return self._partitions[topic, partition].take(from_seq, records_max)

    async def start(self, topic: str, partition: int) -> int:
        """See `Bus.start`."""
        return self._partitions[topic, partition].start

    async def end(self, topic: str, partition: int) -> int:
        """See `Bus.end`."""
        return self._partitions[topic, partition].end

    async def drop(self, topic: str, partition: int, before_seq: int) -> int:
        """See `Bus.drop`. It begins exactly where asked."""
        log = self._partitions[topic, partition]
        log.drop(droppable_to(log.label, log.end, before_seq))
        return log.start

    async def commit(self, group: str, topic: str, partition: int, next_seq: int) -> None:
        """See `Bus.commit`."""
        self._offsets[group, topic, partition] = next_seq

    async def committed(self, group: str, topic: str, partition: int) -> int:
        """See `Bus.committed`."""
        return self._offsets.get((group, topic, partition), 0)

    async def inspect(self) -> list[str]:
        """See `Bus.inspect`: nobody else keeps it."""
        return []

    async def close(self) -> None:
        """Wait for what is under way."""
        for writer in self._writers:
            await writer.close()

    def crash(self, owner: str) -> None:
        """Kill the owner's writers as a power cut would.

        Of the appends under way some first ones (by `rng`) are durable, the others never happened, and
        none is ever answered.
        """
        for writer in self._writers:
            if writer.owner == owner:
                writer.crash(self._rng)

    def cut_power(self) -> None:
        """Crash every writer, and take from topics that are not durable what was not fsynced yet."""
        for writer in self._writers:
            writer.crash(self._rng)
        for log in self._partitions.values():
            log.cut_power(self._rng)

    def fill(self, full: bool) -> None:
        """Take all room away, or give it back."""
        self._full = full

    def fail_next(self, topic: str, error: BusError, partition: int = 0) -> None:
        """The next commit of a partition fails; after `BusUncertain` it may be there all the same."""
        self._failing[topic, partition] = error

    def fail_no_more(self) -> None:
        """Forget failures that have not come to pass yet."""
        self._failing.clear()

    def records(self, topic: str, partition: int = 0) -> list[Record]:
        """All that is kept of a partition, without waiting."""
        log = self._partitions[topic, partition]
        return log.take(log.start, len(log.bodies))

    def wake(self, topic: str, partition: int = 0) -> None:
        """Wake the readers of a partition for nothing."""
        self._partitions[topic, partition].waiters.wake()


class _Partition:
    def __init__(self, config: TopicConfig, partition: int, on_added: Callable[[str, int, int], None] | None) -> None:
        self.config, self.partition = config, partition
        self._on_added = on_added
        self.label = f"{config.name}/{partition}"
        self.epoch = 0
        self.start = 0
        self.synced = 0
        """Of a topic that is not durable: what the last power cut has left is on the disk."""
        self.bodies: list[bytes] = []
        self.waiters = Waiters()
        self._sealed: deque[tuple[int, int]] = deque()
        """Records and bytes of each segment that is complete."""
        self._open_records = self._open_bytes = 0

    @property
    def end(self) -> int:
        return self.start + len(self.bodies)

    def add(self, bodies: Sequence[bytes]) -> None:
        if self._open_bytes >= self.config.segment_bytes_max:
            self._sealed.append((self._open_records, self._open_bytes))
            self._open_records = self._open_bytes = 0
            self._trim()
        if self._on_added is not None:
            for seq in range(self.end, self.end + len(bodies)):
                self._on_added(self.config.name, self.partition, seq)
        self.bodies.extend(bodies)
        self._open_records += len(bodies)
        self._open_bytes += sum(map(len, bodies))
        self.waiters.wake()

    def take(self, seq: int, records_max: int) -> list[Record]:
        if seq < self.start:
            raise Trimmed(f"{self.label}: {seq} is gone, the oldest position kept is {self.start}")
        name, partition, offset = self.config.name, self.partition, seq - self.start
        bodies = self.bodies[offset : offset + records_max]
        return [Record(name, partition, seq + n, body) for n, body in enumerate(bodies)]

    def cut_power(self, rng: Random) -> None:
        """Lose what was never fsynced."""
        if self.config.durable:
            return
        self.synced = rng.randint(max(self.synced, self.start), self.end)
        del self.bodies[self.synced - self.start :]
        self._sealed.clear()
        self._open_records, self._open_bytes = len(self.bodies), sum(map(len, self.bodies))

    def drop(self, before_seq: int) -> None:
        count = max(0, before_seq - self.start)
        for body in self.bodies[:count]:
            self._forget(len(body))
        del self.bodies[:count]
        self.start += count

    def _forget(self, size: int) -> None:
        """The oldest record, in the count of its segment."""
        if not self._sealed:
            self._open_records, self._open_bytes = self._open_records - 1, self._open_bytes - size
            return
        records, total = self._sealed.popleft()
        if records > 1:
            self._sealed.appendleft((records - 1, total - size))

    def _trim(self) -> None:
        retained_bytes_max = self.config.retention_bytes_max
        while retained_bytes_max and self._sealed and sum(size for _, size in self._sealed) > retained_bytes_max:
            records, _ = self._sealed.popleft()
            del self.bodies[:records]
            self.start += records


class _MemoryReader:
    def __init__(self, log: _Partition, from_seq: int) -> None:
        self.next_seq = from_seq
        self._log = log
        self._closed = False

    async def read(self, records_max: int = 1000) -> list[Record]:
        assert records_max > 0
        while not self._closed:
            records = self._log.take(self.next_seq, records_max)
            if records:
                self.next_seq += len(records)
                return records
            await self._log.waiters.wait()
        raise BusError(f"{self._log.label}: the reader is closed")

    async def close(self) -> None:
        self._closed = True
        self._log.waiters.wake()


class _MemoryWriter:
    def __init__(self, bus: MemoryBus, log: _Partition, owner: str) -> None:
        self.topic, self.partition = log.config.name, log.partition
        self.epoch, self.next_seq, self.owner = log.epoch, log.end, owner
        self._bus, self._log = bus, log
        self._pending: deque[tuple[Sequence[bytes], asyncio.Future[int]]] = deque()
        self._error: BusError | None = None
        self._crashed = False
        self._scheduled = False
        self._due = 0.0

    @property
    def alive(self) -> bool:
        return self._error is None and not self._crashed

    def append(self, bodies: Sequence[bytes]) -> "asyncio.Future[int]":
        assert bodies, "nothing to append"
        loop = asyncio.get_running_loop()
        future: asyncio.Future[int] = loop.create_future()
        if self._crashed:
            return future
        if self._error is not None:
            future.set_exception(_again(self._error))
            return future
        self.next_seq += len(bodies)
        self._pending.append((tuple(bodies), future))
        if self._bus._delay is not None:
            self._due = max(self._due, loop.time() + self._bus._delay())
            loop.call_at(self._due, self._make_durable, 1)
        elif not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._make_all_durable)
        return future

    async def close(self) -> None:
        if self._pending:
            await asyncio.wait([future for _, future in self._pending])
        if self._error is None:
            self._error = BusError(f"{self._log.label}: the writer is closed, nothing was written")

    def crash(self, rng: Random) -> None:
        if not self.alive:
            return
        survivors = rng.randint(0, len(self._pending))
        self._crashed = True
        for bodies, _ in list(self._pending)[:survivors]:
            if self._refusal() is None:
                self._log.add(bodies)
        self._pending.clear()

    def _make_all_durable(self) -> None:
        self._scheduled = False
        self._make_durable(len(self._pending))

    def _make_durable(self, calls: int) -> None:
        """The oldest calls: timers that are due together run in any order, appends do not."""
        for _ in range(min(calls, len(self._pending))):
            bodies, future = self._pending.popleft()
            self._error = self._error or self._refusal() or self._failure(bodies)
            if self._error is None:
                self._log.add(bodies)
            if future.done():
                continue
            if self._error is None:
                future.set_result(self._log.end - 1)
            else:
                future.set_exception(_again(self._error))

    def _refusal(self) -> BusError | None:
        if self._log.epoch != self.epoch:
            return Fenced(f"{self._log.label}: epoch {self.epoch} was fenced by epoch {self._log.epoch}")
        if self._bus._full:
            return BusFull(f"{self._log.label}: there is no room")
        return None

    def _failure(self, bodies: Sequence[bytes]) -> BusError | None:
        error = self._bus._failing.pop((self.topic, self.partition), None)
        if isinstance(error, BusUncertain) and self._bus._rng.random() < 0.5:
            self._log.add(bodies)
        return error


def _again(error: BusError) -> BusError:
    return type(error)(*error.args)
