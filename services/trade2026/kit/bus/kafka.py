"""The bus of a cluster: Apache Kafka, written by compare-and-append (`kafka_log` says what counts, and why).

What this trades away: an owner has one append under way at a time, so a commit costs a round trip; group commit
collects what waits meanwhile. An append of more than about 24 MiB takes several batches, which become visible one by one.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable

from trade2026.kit.bus.kafka_client import KafkaClient
from trade2026.kit.bus.kafka_copy import KafkaCopy
from trade2026.kit.bus.kafka_log import Batch, Skips, Tail, decode_batches, encode_claim, valid_records
from trade2026.kit.bus.kafka_settings import KafkaSettings
from trade2026.kit.bus.kafka_topics import BEGUN, lost_log
from trade2026.kit.bus.kafka_writer import KafkaWriter
from trade2026.kit.bus.port import (
    BusCorrupt,
    BusError,
    BusRefused,
    BusUncertain,
    Fenced,
    Record,
    TopicConfig,
    Trimmed,
    droppable_to,
)

_FETCH_BYTES = 1024 * 1024
_FETCH_BYTES_MIN = 16 * 1024
_RECORD_BYTES_GUESS = 600
_LOOK_BACK = 16
_LOOK_BACK_GROWTH = 8
_CLAIM_ATTEMPTS_MAX = 20
_LOOK_SECONDS = 0.02
_VISIBLE_SECONDS_MAX = 5.0


class KafkaBus:
    """A bus on Kafka brokers. Every process has its own object; one event loop per object.

    Args:
        topics: What there is; those that are missing there are made. All processes must say the same.
    """

    def __init__(self, settings: KafkaSettings, topics: Iterable[TopicConfig]) -> None:
        configs = list(topics)
        self._client = KafkaClient(settings, configs)
        self._partitions = {
            (config.name, n): KafkaPartition(self._client, config, n)
            for config in configs
            for n in range(config.partitions)
        }
        self._writers: list[KafkaWriter] = []
        self._readers: list[KafkaReader] = []

    async def claim(self, topic: str, partition: int, owner: str) -> KafkaWriter:
        """See `Bus.claim`. Raises `BusUncertain` (no answer), `BusRefused` or `BusCorrupt`."""
        log = self._partitions[topic, partition]
        writer = KafkaWriter(log, await log.claim(owner))
        self._writers = [*(other for other in self._writers if not other.closed), writer]
        return writer

    async def open_reader(self, topic: str, partition: int, from_seq: int = 0) -> "KafkaReader":
        """See `Bus.open_reader`. Raises `BusCorrupt` beyond the end: what was read before is gone."""
        log = self._partitions[topic, partition]
        await log.locate()
        end = await log.end()
        if from_seq > end:
            raise BusCorrupt(
                f"{log.label}: the log ends at {end} but {from_seq} was read before: it has lost its end; "
                "restore it from a replica, or rebuild what was derived from it"
            )
        if from_seq < end:
            await log.read(from_seq, 1)
        reader = KafkaReader(log, from_seq)
        self._readers = [*(other for other in self._readers if not other.closed), reader]
        return reader

    async def read(self, topic: str, partition: int, from_seq: int, records_max: int) -> list[Record]:
        """See `Bus.read`. Raises `Trimmed` or `BusCorrupt`."""
        return await self._partitions[topic, partition].read(from_seq, records_max)

    async def start(self, topic: str, partition: int) -> int:
        """See `Bus.start`."""
        return await self._partitions[topic, partition].start()

    async def end(self, topic: str, partition: int) -> int:
        """See `Bus.end`."""
        return await self._partitions[topic, partition].end()

    async def drop(self, topic: str, partition: int, before_seq: int) -> int:
        """See `Bus.drop`. Raises `BusRefused` if the brokers don't allow it."""
        return await self._partitions[topic, partition].drop(before_seq)

    async def commit(self, group: str, topic: str, partition: int, next_seq: int) -> None:
        """See `Bus.commit`. Kafka keeps the offset, so its own tools show the lag, and the position as a note."""
        log = self._partitions[topic, partition]
        await log.locate()
        offset = log.skips.offset_of(next_seq)
        await self._client.commit(group, topic, partition, offset, str(next_seq))

    async def committed(self, group: str, topic: str, partition: int) -> int:
        """See `Bus.committed`."""
        return int(await self._client.committed(group, topic, partition) or 0)

    def copy(self, topic: str, partition: int) -> KafkaCopy:
        """What writes another bus's log into a partition that nobody owns yet."""
        return KafkaCopy(self._partitions[topic, partition])

    async def inspect(self) -> list[str]:
        """See `Bus.inspect`. Raises `BusRefused` where acknowledged records could be lost."""
        return await self._client.inspect()

    async def close(self) -> None:
        """Write what waits, then let every connection go. Idempotent."""
        for writer in self._writers:
            await writer.close()
        for reader in self._readers:
            await reader.close()
        await self._client.close()


class KafkaPartition:
    """One partition: where things are in it, and who owns it."""

    def __init__(self, client: KafkaClient, config: TopicConfig, partition: int) -> None:
        self.client, self.config, self.partition = client, config, partition
        self.label = f"{config.name}/{partition}"
        self.skips = Skips()
        self._located = False
        self._oldest_seq = 0
        """The oldest position kept, as it was when that was looked up."""
        self._begun = False
        """Known to be remembered as begun."""
        self.durable_seq = 0
        """One past the last record that this process was told is durable: the log can end at no less."""

    async def claim(self, owner: str) -> Tail:
        """Append a claim of the next epoch until one counts; return the log as it is then."""
        try:
            end = await self.client.latest(self.config.name, self.partition)
            await self._require_begun(end)
            tail = await self.tail_at(end)
            for _ in range(_CLAIM_ATTEMPTS_MAX):
                epoch = tail.epoch + 1
                claim = encode_claim(owner, epoch, time.time_ns() // 10**6)
                landed = await self.client.produce(self.config.name, self.partition, claim, 0)
                await self.fold(tail, landed)
                ours = tail.epoch == epoch - 1
                await self.fold(tail, landed + 1)
                if ours:
                    if tail.seq < self.durable_seq:
                        raise BusCorrupt(f"{self.label}: it ended at {self.durable_seq}, and now at {tail.seq}")
                    await self.remember()
                    return tail
        except (BusCorrupt, BusRefused, BusUncertain):
            raise
        except BusError as error:
            raise BusUncertain(f"{self.label}: not claimed: {error}") from error
        raise BusUncertain(f"{self.label}: not claimed: {_CLAIM_ATTEMPTS_MAX} others were faster")

    async def _require_begun(self, end: int) -> None:
        """A durable log that is empty must be new: the old one may be in somebody's snapshots."""
        name, client = self.config.name, self.client
        if self.config.durable and not end and (self._begun or await client.begun(name, self.partition)):
            raise lost_log(client.topic(name), client.topic(BEGUN.name))

    async def remember(self) -> None:
        """See to it that a durable log is known as begun: it must not begin anew when it is gone."""
        if not self.config.durable or self._begun:
            return
        if not await self.client.begun(self.config.name, self.partition):
            await self.client.begin(self.config.name, self.partition)
        self._begun = True

    async def fold(self, tail: Tail, end: int) -> None:
        """Take into a tail what lies between it and an offset."""
        async for batch in self._batches(tail.offset, end):
            if batch.offset != tail.offset:
                break
            tail.take(batch)
        if tail.offset < end:  # a record after it lets one be dropped, and we have written none
            raise Fenced(f"{self.label}: others have written and dropped what was at offset {tail.offset}")

    async def tail_at(self, end: int) -> Tail:
        """Look back from an offset for the last record that counts, then go on over the claims after it."""
        back = _LOOK_BACK
        start = await self.client.earliest(self.config.name, self.partition)
        while True:
            begin = max(start, end - back)
            tail = Tail(begin)
            counted = False
            async for batch in self._batches(begin, end):
                if batch.counts and not counted:
                    tail, counted = Tail(batch.offset, batch.epoch, batch.seq), True
                tail.take(batch)
            if counted or begin == 0:
                tail.offset = end
                return tail
            if begin == start:
                start = await self.client.earliest(self.config.name, self.partition)
                if begin == start:
                    raise BusCorrupt(f"{self.label}: of what is left from offset {start} to {end} nothing counts")
                end = await self.client.latest(self.config.name, self.partition)  # it was dropped just now
            back *= _LOOK_BACK_GROWTH

    async def claimed_at_end(self, end: int) -> bool:
        """Whether somebody has claimed the log since its last record."""
        start = await self.client.earliest(self.config.name, self.partition)
        claimed, begin = False, max(start, end - _LOOK_BACK)
        async for batch in self._batches(begin, end):
            claimed = batch.is_claim or (claimed and not batch.counts)
        return claimed

    async def _batches(self, offset: int, end: int) -> AsyncIterator[Batch]:
        """What lies between two offsets; a reader may have to wait a moment for what was acknowledged just now."""
        deadline = asyncio.get_running_loop().time() + _VISIBLE_SECONDS_MAX
        while offset < end:
            found = await self._fetch(offset, _FETCH_BYTES)
            if not found:
                if asyncio.get_running_loop().time() > deadline:
                    raise BusError(f"{self.label}: offset {offset} is not there, though the log ended at {end}")
                await asyncio.sleep(_LOOK_SECONDS)
                offset = max(offset, await self.client.earliest(self.config.name, self.partition))
            for batch in found or []:
                if batch.offset >= end:
                    return
                offset = batch.next_offset
                yield batch

    async def _fetch(self, offset: int, bytes_max: int) -> list[Batch] | None:
        """None: the offset is not there."""
        fetched = await self.client.fetch(self.config.name, self.partition, offset, bytes_max)
        if fetched.out_of_range:
            return None
        batches = list(decode_batches(fetched.data, offset, self.label))
        self.learn(batches)
        return batches

    def learn(self, batches: list[Batch]) -> None:
        """Remember where positions are."""
        for batch in batches:
            if batch.counts:
                self.skips.learn(batch.seq, batch.offset)

    async def locate(self) -> None:
        """Learn once where the oldest position lies. In a log that is empty there is nothing to learn yet."""
        if self._located:
            return
        offset = start = await self.client.earliest(self.config.name, self.partition)
        end = await self.client.latest(self.config.name, self.partition)
        while offset < end:
            batches = await self._fetch(offset, _FETCH_BYTES_MIN)
            if not batches:
                return  # dropped or not visible in this moment: asked again the next time
            if (first := next((batch for batch in batches if batch.counts), None)) is not None:
                self.skips.learn_start(first.seq, first.offset)
                self._oldest_seq = first.seq
                break
            offset = batches[-1].next_offset
        self._located = end > start

    async def start(self) -> int:
        """The oldest position kept."""
        offset = await self.client.earliest(self.config.name, self.partition)
        if offset == 0:
            await self.locate()
            return self._oldest_seq
        async for batch in self._batches(offset, await self.client.latest(self.config.name, self.partition)):
            if batch.counts:
                return batch.seq
        return await self.end()

    async def end(self) -> int:
        """The position after the last record."""
        return (await self.tail_at(await self.client.latest(self.config.name, self.partition))).seq

    async def read(self, seq: int, records_max: int) -> list[Record]:
        """What is there now."""
        await self.locate()
        if seq < self._oldest_seq:
            await self.require_kept(seq)
        offset = self.skips.offset_of(seq)
        bytes_max = min(max(records_max * _RECORD_BYTES_GUESS, _FETCH_BYTES_MIN), _FETCH_BYTES)
        bodies: list[bytes] = []
        while len(bodies) < records_max:
            batches = await self._fetch(offset, bytes_max)
            if batches is None and not bodies:
                await self.require_kept(seq)
                start = await self.client.earliest(self.config.name, self.partition)
                if offset < start:  # only what counts for nobody was dropped in front of it
                    offset = start
                    continue
            if not batches:
                break
            bodies += valid_records(batches, seq + len(bodies), self.label)
            offset = batches[-1].next_offset
            if not bodies:
                offset = max(offset, self.skips.offset_of(seq))
        return self.records(seq, bodies[:records_max])

    async def drop(self, before_seq: int) -> int:
        """Delete the beginning, and never the last record: it says the epoch and the position."""
        seq, start = droppable_to(self.label, await self.end(), before_seq), await self.start()
        if seq <= start:
            return start
        await self.client.delete_before(self.config.name, self.partition, await self._offset_of(seq))
        return await self.start()

    async def _offset_of(self, seq: int) -> int:
        """Where a record lies that is there."""
        await self.locate()
        start = await self.client.earliest(self.config.name, self.partition)
        offset = max(start, self.skips.offset_of(seq))
        async for batch in self._batches(offset, await self.client.latest(self.config.name, self.partition)):
            if batch.counts and batch.seq + len(batch.bodies) > seq:
                return batch.offset + max(0, seq - batch.seq)
        raise BusError(f"{self.label}: {seq} is not found now")

    async def require_kept(self, seq: int) -> None:
        """Raise `Trimmed` if a position is gone."""
        start = await self.start()
        if seq < start:
            raise Trimmed(f"{self.label}: {seq} is gone, the oldest position kept is {start}")

    def records(self, seq: int, bodies: list[bytes]) -> list[Record]:
        name, partition = self.config.name, self.partition
        return [Record(name, partition, seq + n, body) for n, body in enumerate(bodies)]


class KafkaReader:
    """Asks for what comes after the last record; the broker answers when there is something."""

    def __init__(self, log: KafkaPartition, from_seq: int) -> None:
        self.next_seq = from_seq
        self.closed = False
        self._log = log
        self._offset = log.skips.offset_of(from_seq)
        self._fetched: deque[bytes] = deque()
        """Bodies from `next_seq` on."""
        self._fetching: asyncio.Task[None] | None = None
        self._lane = object()

    async def read(self, records_max: int = 1000) -> list[Record]:
        assert records_max > 0
        while not self.closed:
            if self._fetched:
                bodies = [self._fetched.popleft() for _ in range(min(records_max, len(self._fetched)))]
                records = self._log.records(self.next_seq, bodies)
                self.next_seq += len(bodies)
                return records
            if self._fetching is None:
                self._fetching = asyncio.create_task(self._fetch(), name=f"read {self._log.label}")
            fetching = self._fetching
            await asyncio.wait([fetching])  # a reader that is cancelled leaves the question for the next
            self._fetching = None if self._fetching is fetching else self._fetching
            if not fetching.cancelled():
                fetching.result()
        raise BusError(f"{self._log.label}: the reader is closed")

    async def close(self) -> None:
        self.closed = True
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])
        await self._log.client.hang_up(self._lane)

    async def _fetch(self) -> None:
        log = self._log
        fetched = await log.client.fetch(
            log.config.name, log.partition, self._offset, _FETCH_BYTES, lane=self._lane, wait=True
        )
        if fetched.out_of_range:
            await log.require_kept(self.next_seq)
            if self._offset < fetched.start:  # only what counts for nobody was dropped in front of it
                self._offset = fetched.start
                return
            raise BusCorrupt(f"{log.label}: the log ends before offset {self._offset}, which was read before")
        batches = list(decode_batches(fetched.data, self._offset, log.label))
        if not batches:
            return
        log.learn(batches)
        self._fetched.extend(valid_records(batches, self.next_seq + len(self._fetched), log.label))
        self._offset = batches[-1].next_offset
