"""Compare-and-append against a broker of ours that delays, doubles and forgets: what counts is one gapless log."""

import asyncio
import struct
from random import Random
from typing import Any

import msgspec
import pytest

from trade2026.domain.events import Envelope, encode
from trade2026.domain.market import Trade
from trade2026.kit.bus.kafka import KafkaPartition
from trade2026.kit.bus.kafka_client import Fetched
from trade2026.kit.bus.kafka_copy import CopyFound, KafkaCopy
from trade2026.kit.bus.kafka_log import Skips, decode_batches, encode_batch, encode_claim
from trade2026.kit.bus.kafka_writer import KafkaWriter
from trade2026.kit.bus.port import BusCorrupt, BusRefused, BusUncertain, Fenced, TopicConfig, Trimmed

CONFIG = TopicConfig(name="orders.events")
TRADE = Trade(instrument="BTCUSDT.SIM", trade_id="1", price=1, quantity=1)


class Broker:
    """One partition, in memory; each request may be late, be lost on the way, or lose its answer."""

    def __init__(self, rng: Random, trouble: float) -> None:
        self.batches: list[bytes] = []
        self.end = 0
        self._rng, self._trouble = rng, trouble
        self._late: list[asyncio.Task[None]] = []

    async def produce(self, topic: str, partition: int, batch: bytes, lane: object) -> int:
        await self._pause()
        if self._rng.random() < self._trouble:
            if self._rng.random() < 0.7:
                self._late.append(asyncio.ensure_future(self._land_later(batch)))
            raise BusUncertain("no answer")
        offset = self.land(batch)
        await self._pause()
        if self._rng.random() < self._trouble:
            raise BusUncertain("the answer was lost")
        return offset

    def land(self, batch: bytes) -> int:
        offset = self.end
        self.batches.append(struct.pack(">q", offset) + batch[8:])
        self.end += struct.unpack(">i", batch[23:27])[0] + 1
        return offset

    async def fetch(self, topic: str, partition: int, offset: int, bytes_max: int, **_: Any) -> Fetched:
        await self._pause()
        return Fetched(b"".join(self.batches), self.end, 0, offset > self.end)

    async def earliest(self, topic: str, partition: int) -> int:
        return 0

    async def latest(self, topic: str, partition: int) -> int:
        await self._pause()
        return self.end

    async def hang_up(self, lane: object) -> None:
        pass

    async def begun(self, topic: str, partition: int) -> bool:
        return self.end > 0

    async def begin(self, topic: str, partition: int) -> None:
        pass

    async def _land_later(self, batch: bytes) -> None:
        for _ in range(self._rng.randint(0, 12)):
            await self._pause()
        self.land(batch)
        if self._rng.random() < 0.3:
            self.land(batch)  # sent twice by a client that got no answer

    async def _pause(self) -> None:
        for _ in range(self._rng.randint(0, 3)):
            await asyncio.sleep(0)

    async def settle(self) -> None:
        await asyncio.gather(*self._late)


def counted(broker: Broker) -> list[tuple[int, int, bytes]]:
    """Position, epoch and body of what counts, judged record by record."""
    return [
        (batch.seq + n, batch.epoch, body)
        for batch in decode_batches(b"".join(broker.batches), 0, "log")
        if batch.at == batch.offset and batch.seq >= 0
        for n, body in enumerate(batch.bodies)
    ]


@pytest.mark.parametrize("seed", range(40))
async def test_whatever_the_network_does_the_log_is_gapless_and_holds_every_acknowledged_record(seed: int) -> None:
    rng = Random(seed)
    broker = Broker(rng, trouble=rng.choice((0.0, 0.05, 0.3)))
    acknowledged: dict[int, bytes] = {}
    refused: set[bytes] = set()

    async def own(name: int) -> None:
        log = KafkaPartition(broker, CONFIG, 0)  # type: ignore[arg-type]
        for life in range(4):
            try:
                writer = KafkaWriter(log, await log.claim(f"owner {name}"))
            except BusUncertain:
                continue
            appends: list[tuple[list[bytes], asyncio.Future[int]]] = []
            for n in range(rng.randint(1, 12)):
                bodies = [b"%d/%d/%d/%d" % (name, life, n, i) for i in range(rng.randint(1, 4))]
                appends.append((bodies, writer.append(bodies)))
                for _ in range(rng.randint(0, 6)):
                    await asyncio.sleep(0)
            await asyncio.gather(*(append for _, append in appends), return_exceptions=True)
            await writer.close()
            for bodies, append in appends:
                error = append.exception()
                assert error is None or isinstance(error, Fenced | BusUncertain), error
                if error is None:
                    first = append.result() - len(bodies) + 1
                    acknowledged.update({first + i: body for i, body in enumerate(bodies)})
                elif isinstance(error, Fenced):
                    refused.update(bodies)

    await asyncio.gather(*(own(name) for name in range(3)))
    await broker.settle()
    log = counted(broker)
    assert [seq for seq, _, _ in log] == list(range(len(log)))
    assert [epoch for _, epoch, _ in log] == sorted(epoch for _, epoch, _ in log)
    found = {seq: body for seq, _, body in log}
    assert acknowledged.items() <= found.items()
    assert not refused & set(found.values()), "fenced means never written"
    assert len({body for _, _, body in log}) == len(log), "nothing counts twice"
    partition = KafkaPartition(broker, CONFIG, 0)  # type: ignore[arg-type]
    for begin in {0, len(log) // 2, max(len(log) - 1, 0)}:
        records = await partition.read(begin, 10_000)
        assert [(record.seq, record.body) for record in records] == [(seq, body) for seq, _, body in log[begin:]]
    assert await partition.end() == len(log)


async def test_a_log_that_lost_its_end_is_called_damaged() -> None:
    broker = Broker(Random(0), 0.0)
    log = KafkaPartition(broker, CONFIG, 0)  # type: ignore[arg-type]
    writer = KafkaWriter(log, await log.claim("oms"))
    await writer.append([b"a", b"b"])
    broker.batches.pop()
    broker.end -= 2
    with pytest.raises(BusCorrupt, match="a broker has lost its end"):
        await writer.append([b"c"])
    with pytest.raises(BusCorrupt, match="it ended at 2, and now at 0"):
        await log.claim("oms again")


def test_a_damaged_batch_is_never_read() -> None:
    whole = encode_batch([b"abc", b"def"], seq=0, epoch=1, at=0, ts_ms=0)
    (batch,) = decode_batches(whole, 0, "log")
    assert (batch.counts, batch.seq, batch.epoch, batch.bodies) == (True, 0, 1, [b"abc", b"def"])
    broken = bytearray(whole)
    broken[-10] ^= 1
    with pytest.raises(BusCorrupt, match="its checksum differs"):
        list(decode_batches(bytes(broken), 0, "log"))


def test_whatever_describes_a_record_its_batch_has_room_for_it() -> None:
    events = [TRADE, msgspec.structs.replace(TRADE, instrument="x" * 3_000)]
    bodies = [
        encode(Envelope(0, 1, 1, 1, "desk", "local", about, "", trace, event))
        for event in events
        for about in ("", "order " * 500)
        for trace in ("", "00-" + "a" * 5_000)
    ]
    (batch,) = decode_batches(encode_batch(bodies * 20, seq=0, epoch=1, at=0, ts_ms=0), 0, "log")
    assert batch.bodies == bodies * 20


def test_a_claim_holds_no_record() -> None:
    (claim,) = decode_batches(encode_claim("oms", 3, 0), 0, "log")
    assert (claim.is_claim, claim.counts, claim.epoch, claim.bodies) == (True, False, 3, [])


@pytest.mark.parametrize("seed", range(20))
def test_a_guess_is_never_behind_the_position_and_exact_where_it_was_seen(seed: int) -> None:
    rng = Random(seed)
    offsets, offset = [], 0
    for _ in range(200):
        offset += 1 + (rng.random() < 0.1) * rng.randint(1, 5)
        offsets.append(offset)
    skips = Skips()
    for _ in range(60):
        seq = rng.randrange(200)
        skips.learn(seq, offsets[seq])
        assert skips.offset_of(seq) == offsets[seq]
        assert all(skips.offset_of(n) <= offsets[n] for n in range(200))


async def copied(broker: Broker, bodies: list[bytes], *, first: int, epoch: int) -> None:
    copy = KafkaCopy(KafkaPartition(broker, CONFIG, 0))  # type: ignore[arg-type]
    assert (await copy.look()).empty
    await copy.mark(first, epoch)
    for body in bodies:
        await copy.append([body], epoch)
    await copy.finish(epoch)


async def test_a_copy_begins_at_the_position_of_its_original_and_its_next_owner_goes_on_there() -> None:
    broker = Broker(Random(0), 0.0)
    await copied(broker, [b"a", b"b"], first=1_000_000, epoch=7)
    log = KafkaPartition(broker, CONFIG, 0)  # type: ignore[arg-type]
    assert (await log.start(), await log.end()) == (1_000_000, 1_000_002)
    writer = KafkaWriter(log, await log.claim("oms"))
    assert (writer.epoch, writer.next_seq) == (8, 1_000_002)
    assert await writer.append([b"c"]) == 1_000_002
    for begin in range(3):
        fresh = KafkaPartition(broker, CONFIG, 0)  # type: ignore[arg-type]
        found = await fresh.read(1_000_000 + begin, 10)
        assert [(record.seq - 1_000_000, record.body) for record in found] == [(0, b"a"), (1, b"b"), (2, b"c")][begin:]
    with pytest.raises(Trimmed, match="999999 is gone, the oldest position kept is 1000000"):
        await log.read(999_999, 1)


async def test_a_copy_that_was_ended_is_gone_on_with_at_its_end() -> None:
    broker = Broker(Random(0), 0.0)
    copy = KafkaCopy(KafkaPartition(broker, CONFIG, 0))  # type: ignore[arg-type]
    await copy.look()
    await copy.mark(5, 2)
    await copy.append([b"a", b"b"], 2)
    again = KafkaCopy(KafkaPartition(broker, CONFIG, 0))  # type: ignore[arg-type]
    assert await again.look() == CopyFound(False, 5, 7, 2, False)
    await again.append([b"c"], 4)
    await again.finish(9)
    assert [(seq, epoch) for seq, epoch, _ in counted(broker)] == [(5, 2), (6, 2), (7, 4)]
    assert await again.look() == CopyFound(False, 5, 8, 9, False)
    await KafkaPartition(broker, CONFIG, 0).claim("oms")  # type: ignore[arg-type]
    assert await again.look() == CopyFound(False, 5, 8, 10, True)


async def test_of_two_that_copy_at_once_one_is_refused_and_counts_for_nobody() -> None:
    broker = Broker(Random(0), 0.0)
    first, second = (KafkaCopy(KafkaPartition(broker, CONFIG, 0)) for _ in range(2))  # type: ignore[arg-type]
    for copy in (first, second):
        await copy.look()
    await first.mark(0, 1)
    await first.append([b"a"], 1)
    with pytest.raises(BusRefused, match="somebody else writes there"):
        await second.mark(0, 1)
    assert [body for _, _, body in counted(broker)] == [b"a"]
