"""A follower folds each record once, knows how far behind it is, and stops between two batches."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.waiting import until

from trade2026.domain import events as ev
from trade2026.domain.events import Envelope
from trade2026.kit.bus.memory import MemoryBus
from trade2026.kit.bus.port import BusCorrupt, BusError, Record, TopicConfig
from trade2026.kit.clock import ManualClock
from trade2026.kit.follower import RECORDS_PER_BATCH_MAX, Follower
from trade2026.kit.publisher import Publisher

TOPIC = "risk.events"


class Log:
    """A topic, its writer, and what a follower has folded of it."""

    def __init__(self) -> None:
        self.bus = MemoryBus([TopicConfig(name=TOPIC)])
        self.publisher = Publisher(self.bus, TOPIC, tenant="desk", clock=ManualClock(), owner="test")
        self.seen: list[int] = []

    async def write(self, count: int) -> None:
        event = ev.Resumed(scope="stack", reason="test", by="ann")
        await self.publisher.append([self.publisher.stamp(event, offset=number) for number in range(count)])

    def fold(self, envelope: Envelope, record: Record) -> None:
        self.seen.append(record.seq)

    async def folded(self, count: int) -> None:
        await until(lambda: len(self.seen) >= count, f"{count} are folded")


@pytest.fixture
async def log() -> AsyncIterator[Log]:
    log = Log()
    await log.publisher.start()
    yield log
    await log.bus.close()


async def test_it_has_folded_all_that_was_there_when_it_has_started(log: Log) -> None:
    await log.write(3)
    follower = Follower(log.bus, TOPIC, log.fold)
    await follower.start()
    assert (log.seen, follower.caught_up, follower.lag) == ([0, 1, 2], True, 0)
    await log.write(2)
    await log.folded(5)
    await follower.stop()


async def test_it_knows_how_far_behind_it_is_while_a_batch_is_dealt_with(log: Log) -> None:
    at_work, go_on = asyncio.Event(), asyncio.Event()

    async def deal() -> None:
        at_work.set()
        await go_on.wait()

    follower = Follower(log.bus, TOPIC, log.fold, on_batch=deal)
    await follower.start()
    await log.write(2 * RECORDS_PER_BATCH_MAX + 7)
    await at_work.wait()
    assert (len(log.seen), follower.lag) == (RECORDS_PER_BATCH_MAX, RECORDS_PER_BATCH_MAX + 7)
    go_on.set()
    await log.folded(2 * RECORDS_PER_BATCH_MAX + 7)
    await follower.stop()
    assert follower.lag == 0


async def test_a_stop_waits_for_the_batch_that_was_begun(log: Log) -> None:
    at_work, go_on, dealt = asyncio.Event(), asyncio.Event(), []

    async def deal() -> None:
        at_work.set()
        await go_on.wait()
        dealt.append(len(log.seen))

    follower = Follower(log.bus, TOPIC, log.fold, on_batch=deal)
    await follower.start()
    await log.write(RECORDS_PER_BATCH_MAX + 1)
    await at_work.wait()
    stopping = asyncio.ensure_future(follower.stop())
    await asyncio.sleep(0)
    go_on.set()
    await stopping
    assert (dealt, follower.next_seq) == ([RECORDS_PER_BATCH_MAX], RECORDS_PER_BATCH_MAX)


async def test_what_it_does_not_understand_stops_it_for_good_and_is_said(log: Log) -> None:
    def refuse(envelope: Envelope, record: Record) -> None:
        raise ev.UnknownEvent("from a time to come")

    follower = Follower(log.bus, TOPIC, refuse)
    await follower.start()
    await log.write(1)
    await until(lambda: follower.error, "it says what is wrong")
    assert "from a time to come" in follower.error
    assert follower.next_seq == 0
    await follower.stop()


class Faulty:
    """A reader that fails so many times before it reads."""

    def __init__(self, errors: list[BusError]) -> None:
        self.errors, self.next_seq, self.asked = errors, 0, 0

    async def read(self, records_max: int = 1000) -> list[Record]:
        self.asked += 1
        if self.errors:
            raise self.errors.pop()
        event = ev.Resumed(scope="stack", reason="test", by="ann")
        envelope = Envelope(self.next_seq, 1, 1, 1, "desk", "ann", "", "", "", event)
        self.next_seq += 1
        return [Record(TOPIC, 0, self.next_seq - 1, ev.encode(envelope))]

    async def close(self) -> None: ...


async def test_a_log_that_cannot_be_read_just_now_is_asked_again(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trade2026.kit.follower._RETRY_SECONDS", 0)
    follower = Follower(log.bus, TOPIC, log.fold)
    await follower.start()
    follower._reader = Faulty([BusError("locked"), BusError("locked")])  # pyright: ignore[reportPrivateUsage]
    await log.write(1)
    await log.folded(2)
    assert follower.error == ""
    await follower.stop()


async def test_an_outage_is_one_line_and_it_is_well_as_soon_as_the_log_answers_though_nothing_new_comes(
    log: Log, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("trade2026.kit.follower._RETRY_SECONDS", 0.001)
    follower = Follower(log.bus, TOPIC, log.fold)
    await follower.start()
    reader = follower._reader
    assert reader is not None
    read, away, asked = reader.read, True, 0

    async def ask(records_max: int = 1000) -> list[Record]:
        nonlocal asked
        asked += 1
        if away:
            raise BusError("nobody answers")
        return await read(records_max)

    async def end(topic: str, partition: int) -> int:
        if away:
            raise BusError("nobody answers")
        return 0

    monkeypatch.setattr(reader, "read", ask)
    monkeypatch.setattr(log.bus, "end", end)
    log.bus.wake(TOPIC)
    await log.write(1)
    await until(lambda: "nobody answers" in follower.error and asked > 5, "it says that it waits, and asks again")
    away = False
    await until(lambda: not follower.error, "it is well")
    assert [line.levelname for line in caplog.records].count("WARNING") == 1
    await follower.stop()


async def test_a_log_that_is_corrupt_is_not_asked_again(log: Log) -> None:
    follower = Follower(log.bus, TOPIC, log.fold)
    await follower.start()
    follower._reader = reader = Faulty([BusCorrupt("damaged")])  # pyright: ignore[reportPrivateUsage]
    await log.write(1)
    await until(lambda: follower.error, "it says what is wrong")
    assert "damaged" in follower.error
    assert reader.asked == 1
    await follower.stop()
