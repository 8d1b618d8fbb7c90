"""The owner of a partition: nothing leaves before its events are durable, and a failed commit undoes memory."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from tests.waiting import until

from trade2026.domain import events as ev
from trade2026.kit.bus.port import BusFull, Fenced, Record
from trade2026.kit.clock import ManualClock
from trade2026.kit.owner import Emit, Overloaded, Owner, Unavailable


class Say(msgspec.Struct, kw_only=True):
    """A command that is recorded as it is."""

    words: str
    ts: int = 1
    principal: str = "local"
    correlation_id: str = ""
    causation_id: str = ""
    traceparent: str = ""


class Echo:
    """Remembers what was said, in order; `refuse` raises and `ask` emits nothing."""

    def __init__(self) -> None:
        self.next_seq = 0
        self.heard: list[str] = []

    def traceparent_of(self, order_id: str) -> str:
        return ""

    def decide(self, command: Say, emit: Emit) -> list[str]:
        if command.words == "refuse":
            raise ValueError("refused")
        if command.words != "ask":
            emit(ev.Resumed(scope="stack", reason=command.words, by="x"))
        if command.words == "break":
            raise ZeroDivisionError
        return list(self.heard)

    def apply(self, envelope: ev.Envelope) -> None:
        assert isinstance(envelope.data, ev.Resumed)
        self.heard.append(envelope.data.reason)
        self.next_seq = envelope.seq + 1


class HeldWriter:
    """Keeps appends under way until the test lets them become durable or fail."""

    def __init__(self, log: list[bytes], epoch: int) -> None:
        self.topic, self.partition, self.epoch, self.next_seq = "orders.events", 0, epoch, len(log)
        self.log = log
        self.under_way: list[tuple[list[bytes], asyncio.Future[int]]] = []

    def append(self, bodies: Sequence[bytes]) -> "asyncio.Future[int]":
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.under_way.append((list(bodies), future))
        self.next_seq += len(bodies)
        return future

    def land(self) -> None:
        for bodies, future in self.under_way:
            self.log.extend(bodies)
            future.set_result(len(self.log) - 1)
        self.under_way.clear()

    def fail(self, error: Exception) -> None:
        for _, future in self.under_way:
            future.set_exception(error)
        self.under_way.clear()

    async def close(self) -> None:
        self.land()


class HeldBus:
    """Only what an owner needs of a bus."""

    def __init__(self) -> None:
        self.log: list[bytes] = []
        self.writers: list[HeldWriter] = []

    async def claim(self, topic: str, partition: int, owner: str) -> HeldWriter:
        self.writers.append(HeldWriter(self.log, len(self.writers) + 1))
        return self.writers[-1]

    async def read(self, topic: str, partition: int, from_seq: int, records_max: int) -> list[Record]:
        bodies = self.log[from_seq : from_seq + records_max]
        return [Record(topic, partition, from_seq + number, body) for number, body in enumerate(bodies)]


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def started(pending_max: int = 100) -> tuple[Owner, HeldBus]:
    bus = HeldBus()
    owner = Owner(bus, "orders.events", Echo, ManualClock(), tenant="desk", name="a", pending_max=pending_max)  # type: ignore[arg-type]
    await owner.start()
    return owner, bus


async def test_an_answer_waits_until_its_events_are_durable() -> None:
    owner, bus = await started()
    answer = owner.submit(Say(words="one"))
    await turns()
    assert owner.machine.heard == ["one"]
    assert not answer.done()
    bus.writers[-1].land()
    await turns()
    assert answer.result() == ["one"]


async def test_an_answer_that_shows_what_is_not_durable_yet_waits_too() -> None:
    owner, bus = await started()
    owner.submit(Say(words="one"))
    asked = owner.submit(Say(words="ask"))
    await turns()
    assert not asked.done()
    bus.writers[-1].land()
    await turns()
    assert asked.result() == ["one"]


async def test_a_read_sees_memory_as_it_was_asked_and_waits_until_that_is_durable() -> None:
    owner, bus = await started()
    owner.submit(Say(words="one"))
    await turns()
    read = asyncio.ensure_future(owner.read(lambda echo: list(echo.heard)))
    await turns()
    owner.submit(Say(words="two"))
    await turns()
    assert not read.done()
    bus.writers[-1].land()
    assert await read == ["one"]
    assert await owner.read(lambda echo: list(echo.heard)) == ["one", "two"]


async def test_a_read_of_what_was_not_recorded_is_unavailable() -> None:
    owner, bus = await started()
    owner.submit(Say(words="lost")).add_done_callback(asyncio.Future.exception)
    await turns()
    read = asyncio.ensure_future(owner.read(lambda echo: list(echo.heard)))
    await turns()
    bus.writers[-1].fail(BusFull("no room"))
    with pytest.raises(Unavailable):
        await read
    await turns()
    assert await owner.read(lambda echo: list(echo.heard)) == []


async def test_a_batch_has_one_answer_or_refusal_per_command_in_order() -> None:
    owner, bus = await started()
    answers = owner.submit_many([Say(words="one"), Say(words="refuse"), Say(words="two")])
    await turns()
    assert not answers.done()
    bus.writers[-1].land()
    first, refused, last = await answers
    assert (first, last) == (["one"], ["one", "two"])
    assert isinstance(refused, ValueError)
    assert owner.pending == 0


async def test_a_long_batch_is_committed_in_pieces_and_what_reduces_risk_goes_between() -> None:
    owner, bus = await started(pending_max=1_000)
    answers = owner.submit_many([Say(words=str(number)) for number in range(250)])
    await asyncio.sleep(0)
    owner.submit(Say(words="cancel"), reduces_risk=True)
    await turns()
    assert [len(bodies) for bodies, _ in bus.writers[-1].under_way] == [100, 101, 50]
    assert owner.machine.heard[100] == "cancel"
    bus.writers[-1].land()
    assert len(await answers) == 250


async def test_the_part_of_a_batch_that_was_not_recorded_is_unavailable_the_rest_is_answered() -> None:
    owner, bus = await started(pending_max=1_000)
    answers = owner.submit_many([Say(words=str(number)) for number in range(150)])
    await asyncio.sleep(0)
    bus.writers[-1].land()
    await turns()
    bus.writers[-1].fail(BusFull("no room"))
    found = await answers
    assert [isinstance(answer, Unavailable) for answer in found] == [False] * 100 + [True] * 50


async def test_a_batch_keeps_its_order_when_a_later_piece_has_nothing_to_wait_for() -> None:
    owner, bus = await started(pending_max=1_000)
    answers = owner.submit_many([*(Say(words=str(number)) for number in range(100)), *[Say(words="ask")] * 100])
    await asyncio.sleep(0)
    bus.writers[-1].land()  # who waits for it is told after the second piece is decided
    assert [len(heard) for heard in await answers] == [*range(1, 101), *[100] * 100]


async def test_an_empty_batch_is_answered_at_once() -> None:
    owner, _ = await started()
    assert await owner.submit_many([]) == []


async def test_a_decision_that_breaks_half_way_leaves_no_trace() -> None:
    owner, bus = await started()
    kept, broken, after = (owner.submit(Say(words=word)) for word in ("kept", "break", "after"))
    await turns()
    bus.writers[0].land()
    await turns()
    assert kept.result() == ["kept"]
    assert isinstance(broken.exception(), ZeroDivisionError)
    assert isinstance(after.exception(), Unavailable)
    assert (owner.ready, owner.epoch, owner.machine.heard) == (True, 2, ["kept"])


async def test_a_log_that_refuses_again_during_recovery_is_tried_again() -> None:
    owner, bus = await started()
    says: list[asyncio.Future[Any]] = []

    async def announce() -> None:
        says.append(owner.submit(Say(words="started"), reduces_risk=True))
        await says[-1]

    owner._on_started = announce  # pyright: ignore[reportPrivateUsage]
    lost = owner.submit(Say(words="lost"))
    await turns()
    bus.writers[0].fail(BusFull("no room"))
    await turns()
    bus.writers[1].fail(BusFull("no room"))
    await turns()
    assert not owner.ready
    await until(lambda: len(bus.writers) == 3 and bus.writers[2].under_way, "it is tried again")
    bus.writers[2].land()
    await turns()
    assert isinstance(lost.exception(), Unavailable)
    assert isinstance(says[0].exception(), Unavailable)
    assert (owner.ready, owner.epoch, owner.machine.heard) == (True, 3, ["started"])


async def test_a_stop_answers_what_was_accepted_and_takes_nothing_more() -> None:
    owner, bus = await started()
    accepted = owner.submit(Say(words="one"))
    stopping = asyncio.ensure_future(owner.stop())
    await turns()
    with pytest.raises(Unavailable):
        owner.submit(Say(words="late"))
    assert not stopping.done()
    bus.writers[-1].land()
    await stopping
    assert accepted.result() == ["one"]


async def test_commands_that_wait_together_are_committed_in_one_piece() -> None:
    owner, bus = await started()
    for word in ("one", "two", "three"):
        owner.submit(Say(words=word))
    await turns()
    assert [len(bodies) for bodies, _ in bus.writers[-1].under_way] == [3]


async def test_what_reduces_risk_is_decided_before_what_came_earlier() -> None:
    owner, _ = await started()
    owner.submit(Say(words="buy"))
    owner.submit(Say(words="cancel"), reduces_risk=True)
    await turns()
    assert owner.machine.heard == ["cancel", "buy"]


async def test_a_full_queue_refuses_new_commands_but_none_that_reduces_risk() -> None:
    owner, bus = await started(pending_max=2)
    owner.submit(Say(words="one"))
    owner.submit(Say(words="two"))
    with pytest.raises(Overloaded):
        owner.submit(Say(words="three"))
    owner.submit(Say(words="cancel"), reduces_risk=True)
    await turns()
    bus.writers[-1].land()
    await turns()
    assert owner.pending == 0


async def test_a_refusal_of_the_machine_is_the_answer_of_its_command_alone() -> None:
    owner, bus = await started()
    refused, taken = owner.submit(Say(words="refuse")), owner.submit(Say(words="one"))
    await turns()
    bus.writers[-1].land()
    await turns()
    assert isinstance(refused.exception(), ValueError)
    assert taken.result() == ["one"]


async def test_after_a_failed_commit_the_owner_forgets_it_and_goes_on_from_the_log() -> None:
    owner, bus = await started()
    kept = owner.submit(Say(words="kept"))
    await turns()
    bus.writers[-1].land()
    lost = owner.submit(Say(words="lost"))
    await turns()
    bus.writers[-1].fail(BusFull("no room"))
    await turns()
    assert kept.done()
    assert isinstance(lost.exception(), Unavailable)
    assert (owner.ready, owner.epoch, owner.machine.heard) == (True, 2, ["kept"])


async def test_a_fenced_owner_answers_nobody_and_does_not_claim_again() -> None:
    owner, bus = await started()
    answers: list[asyncio.Future[Any]] = [owner.submit(Say(words="zombie"))]
    await turns()
    bus.writers[-1].fail(Fenced("epoch 2 owns it"))
    await turns()
    assert isinstance(answers[0].exception(), Unavailable)
    assert (owner.ready, owner.fenced, len(bus.writers)) == (False, True, 1)
    with pytest.raises(Unavailable):
        owner.submit(Say(words="late"))
    with pytest.raises(Unavailable):
        await owner.read(lambda echo: list(echo.heard))
    await owner.stop()
    assert "another owner" in owner.detail


async def test_positions_have_no_gap_and_time_never_falls_across_owners() -> None:
    owner, bus = await started()
    for word in ("one", "two"):
        owner.submit(Say(words=word))
    await turns()
    bus.writers[-1].land()
    second = Owner(bus, "orders.events", Echo, ManualClock(5), tenant="desk", name="b")  # type: ignore[arg-type]
    await second.start()
    second.submit(Say(words="three"))
    await turns()
    bus.writers[-1].land()
    envelopes = [ev.decode(body) for body in bus.log]
    assert [envelope.seq for envelope in envelopes] == [0, 1, 2]
    assert [envelope.epoch for envelope in envelopes] == [1, 1, 2]
    assert envelopes[2].ts_init >= envelopes[1].ts_init


async def test_time_does_not_fall_behind_the_log_when_a_snapshot_holds_all_of_it() -> None:
    bus = HeldBus()

    async def say(words: str, now: int, restore: Callable[[int], Echo] | None = None) -> None:
        clock = ManualClock(now)
        owner = Owner(bus, "orders.events", Echo, clock, tenant="desk", name="a", restore=restore)  # type: ignore[arg-type]
        await owner.start()
        owner.submit(Say(words=words))
        await turns()
        bus.writers[-1].land()

    def whole(end: int) -> Echo:
        echo = Echo()
        echo.next_seq = end
        return echo

    await say("one", 900)
    await say("two", 100, whole)
    assert [ev.decode(body).ts_init for body in bus.log] == [900, 900]
