"""What lies in a partition on Kafka, and what of it counts.

Compare-and-append: each record says at which offset its writer expects it (`at`), and *counts only if it landed
exactly there*. A writer has one append under way at a time, sent as one batch that the broker appends as a whole,
so a batch counts or it does not, and the broker's answer (the offset) tells the writer which. A claim is a record of
its own with the next epoch; the first with that epoch counts wherever it landed, and from there on whatever an
earlier owner has under way lands elsewhere than it expected: it counts for nobody, for ever, also when its writer
slept meanwhile. Nothing of this rests on the broker's transactions or on producer ids.

A log that was copied from another bus has *marks* in the place of claims. A mark is written as records are, counts as
they do, and says of which epoch and from which position on the records after it are: so a copy keeps the positions and
epochs of its original, also of one whose beginning was dropped.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from trade2026.kit.bus.kafka_headers import Header, describe, size_of
from trade2026.kit.bus.port import BusCorrupt

BATCH_OVERHEAD_BYTES = 61
RECORD_OVERHEAD_BYTES = 100
"""Upper bound of what a record takes beside its body and what describes it: lengths, and our three headers."""


class Batch(msgspec.Struct, frozen=True, gc=False):
    """Records that landed together. Claims and marks have no bodies; one that does not count has them all the same."""

    offset: int
    """Of its first record."""
    next_offset: int
    epoch: int
    """0: not of our making, such as a control record."""
    seq: int
    """Position of the first body, or of the one that comes after a mark; -1 for a claim."""
    at: int
    """Where its writer expected it; -1 for a claim."""
    bodies: list[bytes]

    @property
    def counts(self) -> bool:
        """Whether it is part of the log; a claim is judged by `Tail`."""
        return self.seq >= 0 and self.at == self.offset

    @property
    def is_claim(self) -> bool:
        return self.seq < 0 and self.epoch > 0


class Tail(msgspec.Struct):
    """What is known of a log up to an offset: its owner's epoch and the next position."""

    offset: int = 0
    epoch: int = 0
    seq: int = 0

    def take(self, batch: Batch) -> None:
        """Go on over a batch. Call it with every batch, in order."""
        if batch.counts:
            self.epoch, self.seq = batch.epoch, batch.seq + len(batch.bodies)
        elif batch.is_claim and batch.epoch == self.epoch + 1:
            self.epoch = batch.epoch
        self.offset = batch.next_offset


class Skips:
    """How far offset and position are apart, as far as it was seen: what does not count takes offsets too."""

    def __init__(self) -> None:
        self._seqs: list[int] = [0]
        self._skipped: list[int] = [0]

    def learn(self, seq: int, offset: int) -> None:
        """The record at a position lies at an offset."""
        skipped = offset - seq
        index = bisect_right(self._seqs, seq) - 1
        if self._skipped[index] == skipped:
            return
        if index + 1 < len(self._seqs) and self._skipped[index + 1] == skipped:
            self._seqs[index + 1] = seq
        elif self._seqs[index] == seq:
            self._skipped[index] = skipped
        else:
            self._seqs.insert(index + 1, seq)
            self._skipped.insert(index + 1, skipped)

    def learn_start(self, seq: int, offset: int) -> None:
        """The oldest position kept lies at an offset: before it, if the log is the copy of one without its beginning."""
        self._skipped[0] = min(self._skipped[0], offset - seq)

    def offset_of(self, seq: int) -> int:
        """Where to look for a position: there or before it, never after."""
        return seq + self._skipped[bisect_right(self._seqs, seq) - 1]


def encode_batch(bodies: Sequence[bytes], *, seq: int, epoch: int, at: int, ts_ms: int) -> bytes:
    """One batch for the broker: a record a body, each with headers by which any reader can judge and sort it."""
    described = [describe(body) for body in bodies]
    size = BATCH_OVERHEAD_BYTES + sum(map(len, bodies)) + RECORD_OVERHEAD_BYTES * len(bodies)
    builder = _builder(size + sum(size_of(key, headers) for key, headers in described))
    by = str(epoch).encode()
    for n, (body, (key, about)) in enumerate(zip(bodies, described, strict=True)):
        headers: list[Header] = [("seq", b"%d" % (seq + n)), ("epoch", by), ("at", b"%d" % (at + n)), *about]
        added = builder.append(n, ts_ms, key, body, headers)
        assert added is not None, "the batch was measured too small"
    return bytes(builder.build())


def encode_claim(owner: str, epoch: int, ts_ms: int) -> bytes:
    """A batch with a claim alone."""
    builder = _builder(BATCH_OVERHEAD_BYTES + RECORD_OVERHEAD_BYTES + len(owner))
    headers: list[Header] = [("kind", b"claim"), ("epoch", b"%d" % epoch), ("owner", owner.encode())]
    builder.append(0, ts_ms, None, None, headers)
    return bytes(builder.build())


def encode_mark(*, seq: int, epoch: int, at: int, ts_ms: int) -> bytes:
    """A batch with a mark alone."""
    builder = _builder(BATCH_OVERHEAD_BYTES + RECORD_OVERHEAD_BYTES)
    headers: list[Header] = [
        ("kind", b"mark"),
        ("seq", b"%d" % seq),
        ("epoch", b"%d" % epoch),
        ("at", b"%d" % at),
    ]
    builder.append(0, ts_ms, None, None, headers)
    return bytes(builder.build())


def encode_key(key: str, ts_ms: int) -> bytes:
    """A batch with one record that is a key alone."""
    builder = _builder(BATCH_OVERHEAD_BYTES + RECORD_OVERHEAD_BYTES + len(key))
    builder.append(0, ts_ms, key.encode(), b"", [])
    return bytes(builder.build())


def decode_keys(data: bytes, from_offset: int, label: str) -> dict[int, str]:
    """Keys by their offsets, of what a broker sent from an offset on. Raises `BusCorrupt`."""
    memory, found = MemoryRecords(data), dict[int, str]()
    while memory.has_next():
        raw = memory.next_batch()
        assert raw is not None
        if not raw.validate_crc():
            raise BusCorrupt(f"{label}: the batch before offset {raw.next_offset} is damaged (its checksum differs)")
        found.update({record.offset: (record.key or b"").decode() for record in raw if record.offset >= from_offset})
    return found


def decode_batches(data: bytes, from_offset: int, label: str) -> Iterator[Batch]:
    """What a broker sent, from an offset on; a batch that begins before it is cut there.

    Raises:
        BusCorrupt: a checksum differs.
    """
    memory = MemoryRecords(data)
    while memory.has_next():
        raw = memory.next_batch()
        assert raw is not None
        if raw.next_offset <= from_offset:
            continue
        if not raw.validate_crc():
            raise BusCorrupt(f"{label}: the batch before offset {raw.next_offset} is damaged (its checksum differs)")
        yield _batch(raw, from_offset)


def valid_records(batches: Iterable[Batch], seq: int, label: str) -> list[bytes]:
    """The bodies that count, from a position on; earlier ones are passed over.

    Raises:
        BusCorrupt: one is missing.
    """
    found: list[bytes] = []
    for batch in batches:
        if not batch.counts:
            continue
        expected = seq + len(found)
        if batch.seq > expected:
            raise BusCorrupt(f"{label}: {expected} is missing, the next record there is {batch.seq}")
        found.extend(batch.bodies[expected - batch.seq :])
    return found


def _batch(raw: Any, from_offset: int) -> Batch:
    """Its first record speaks for all: they landed together, and in the order in which they were made."""
    records = [record for record in raw if record.offset >= from_offset]
    first = records[0]
    headers = dict(first.headers)
    epoch = int(headers.get("epoch") or 0)
    end = raw.next_offset
    if "at" not in headers:
        return Batch(first.offset, end, epoch if headers.get("kind") == b"claim" else 0, -1, -1, [])
    seq, at = int(headers["seq"]), int(headers["at"])
    bodies = [] if headers.get("kind") == b"mark" else [record.value or b"" for record in records]
    return Batch(first.offset, end, epoch, seq, at, bodies)


def _builder(size: int) -> Any:
    return DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=size,
    )
