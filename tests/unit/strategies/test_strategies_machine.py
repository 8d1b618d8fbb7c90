"""All strategies as one machine: what was delivered and decided is recorded, and a replay decides the same."""

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trade2026.domain import events as ev
from trade2026.domain.events import Envelope, decode, encode
from trade2026.domain.market import Trade as Print
from trade2026.domain.numbers import SCALE
from trade2026.domain.shards import partition_name
from trade2026.sdk import Parameters, Strategy, Timer, Trade
from trade2026.sdk.hosted import Definition
from trade2026.sdk.testing import BTCUSDT, EPOCH, SECOND
from trade2026.strategies.machine import CLOCK, Delivery, Loaded, Parked, Replayed, StrategiesMachine

ORDERS, TICKS = "orders.events", "market.ticks"
DECISIONS = (ev.OrderDecided, ev.CancelDecided)


class Trader(Strategy[Parameters]):
    """Buys at some prices, cancels at others, and now and then because of the time or by chance."""

    def __init__(self) -> None:
        self.seen = 0

    def on_start(self) -> None:
        self.ctx.timer("beat", every="3s")

    def on_stop(self) -> None:
        self.ctx.cancel_all()

    def on_trade(self, trade: Trade) -> None:
        self.seen += 1
        if trade.price % 3 == 0 or self.ctx.random.random() < 0.1:
            self.ctx.buy(1 + self.seen % 3, trade.price - 1)
        elif trade.price % 5 == 0 and self.ctx.orders:
            self.ctx.cancel(self.ctx.orders[0])
        elif trade.price == 113:
            raise RuntimeError("unlucky")

    def on_timer(self, timer: Timer) -> None:
        if self.ctx.orders:
            self.ctx.cancel(self.ctx.orders[-1])


class Fickle(Trader):
    """Decides by what is not its own."""

    mood = 0

    def on_trade(self, trade: Trade) -> None:
        Fickle.mood += 1
        if Fickle.mood % 4 == 0:
            self.ctx.buy(1, trade.price)


def loaded(make: type = Trader, *names: str, code: str = "c1") -> dict[str, Loaded]:
    """Strategies of a class."""
    return {
        name: Loaded(Definition(name=name, account="main", instruments=["BTCUSDT.SIM"]), make, code)
        for name in names or ("ann",)
    }


class World:
    """A machine with the logs around it, in memory."""

    def __init__(self, strategies: dict[str, Loaded], partitions: int = 1) -> None:
        self.strategies = strategies
        self.partitions = partitions
        self.machine = StrategiesMachine(strategies, {"BTCUSDT.SIM": BTCUSDT})
        self.now = EPOCH
        self.topics: dict[tuple[str, int], list[bytes]] = {(ORDERS, n): [] for n in range(partitions)} | {
            (TICKS, 0): []
        }
        self.log: list[ev.AnyEvent] = []
        self.snapshot = (b"", 0)

    def begin(self) -> None:
        for name in self.machine.to_end:
            self.log += self.machine.end(name, self.now, "gone", self.machine.hosted[name].definition.instruments)
        for name in self.machine.to_begin:
            self.log += self.machine.begin(name, self.now, [])

    def publish(self, topic: str, event: Any, partition: int = 0) -> None:
        """A record is written and delivered."""
        self.now += SECOND
        seq = len(self.topics[topic, partition])
        body = encode(Envelope(seq, 1, self.now, self.now, "test", "local", "", "", "", event))
        self.topics[topic, partition].append(body)
        self.log += self.machine.deliver(topic, partition, seq, body, decode(body))

    def trade(self, price: int) -> None:
        number = len(self.topics[TICKS, 0]) + 1
        self.publish(TICKS, Print("BTCUSDT.SIM", f"t{number}", price * SCALE, SCALE, venue_seq=number))

    def accept(self) -> None:
        """The order service takes the oldest order that it has not taken yet."""
        for decision in self.machine.to_send():
            if isinstance(decision, ev.OrderDecided):
                number = sum(len(self.topics[ORDERS, n]) for n in range(self.partitions))
                order_id, partition = f"o0-{number}", number % self.partitions
                accepted = ev.OrderAccepted(order_id=order_id, spec=decision.spec, reserved_price=0)
                self.publish(ORDERS, accepted, partition)
                return

    def wait(self) -> None:
        self.now += 4 * SECOND
        self.log += self.machine.pass_time(self.now)

    def save(self) -> None:
        self.log += self.machine.flush()
        self.snapshot = (self.machine.save(), len(self.log))

    def crash(self, strategies: dict[str, Loaded] | None = None, lost: bool = False) -> None:
        """Everything but the logs and the snapshot is gone; what was delivered and not recorded is given again."""
        self.strategies = strategies or self.strategies
        self.machine = StrategiesMachine(self.strategies, {"BTCUSDT.SIM": BTCUSDT})
        state, at = self.snapshot
        if state:
            self.machine.restore(state)
        for event in self.log[at:]:
            runs = event.runs if isinstance(event, ev.Delivered | ev.StrategyWarmed) else None
            self.machine.replay(event, self.read(runs, lost) if runs is not None else None)
        self.machine.settle()
        for (topic, partition), bodies in self.topics.items():
            for seq in range(self.machine.cursors.get(partition_name(topic, partition), 0), len(bodies)):
                self.log += self.machine.deliver(topic, partition, seq, bodies[seq], decode(bodies[seq]))

    def read(self, runs: list[ev.Run], lost: bool) -> Replayed:
        found = Replayed([], {}, "they are gone" if lost else "")
        for run in runs:
            if run.topic == CLOCK:
                found.deliveries.append(Delivery(CLOCK, 0, run.first))
                continue
            found.cursors[partition_name(run.topic, run.partition)] = run.first + run.count
            for seq in range(run.first, run.first + run.count):
                if not lost or run.topic == ORDERS:
                    body = self.topics[run.topic, run.partition][seq]
                    found.deliveries.append(Delivery(run.topic, run.partition, seq, body, decode(body)))
        return found

    @property
    def decisions(self) -> list[ev.AnyEvent]:
        return [event for event in self.log if isinstance(event, DECISIONS)]


steps = st.lists(st.sampled_from(["accept", "wait", "save", *range(100, 114)]), max_size=50)


def act(world: World, step: str | int) -> None:
    world.trade(step) if isinstance(step, int) else getattr(world, step)()


@settings(max_examples=80, deadline=None)
@given(steps, st.sets(st.integers(0, 50), max_size=3), st.sampled_from([1, 4]))
def test_after_any_crash_the_decisions_are_those_of_an_uninterrupted_run(
    taken: list[str | int], crashes: set[int], partitions: int
) -> None:
    whole, crashed = (World(loaded(Trader, "ann", "bob"), partitions) for _ in range(2))
    for world in (whole, crashed):
        world.begin()
    for number, step in enumerate(taken):
        # Topics of one market arrive in any order after a crash: only what was recorded has its order for sure.
        if number in crashes:
            crashed.log += crashed.machine.flush()
            crashed.crash()
        act(whole, step)
        act(crashed, step)
    assert crashed.decisions == whole.decisions
    assert {n: h.status for n, h in crashed.machine.hosted.items()} == {
        n: h.status for n, h in whole.machine.hosted.items()
    }


def test_nothing_is_recorded_until_a_decision_needs_it() -> None:
    world = World(loaded())
    world.begin()
    world.log.clear()
    world.machine.hosted["ann"].ctx.random.seed(3)
    world.trade(101)
    world.trade(104)
    assert world.log == []
    world.trade(102)
    delivered, decided = world.log
    assert isinstance(delivered, ev.Delivered)
    assert [(run.topic, run.first, run.count) for run in delivered.runs] == [(TICKS, 0, 3)]
    assert isinstance(decided, ev.OrderDecided)


def test_a_strategy_that_decides_otherwise_in_a_replay_is_failed_and_what_is_recorded_stands() -> None:
    world = World(loaded(Fickle))
    world.begin()
    for price in range(100, 112):
        world.trade(price)
    before = list(world.decisions)
    Fickle.mood = 2
    world.crash()
    hosted = world.machine.hosted["ann"]
    assert hosted.status == "failed"
    assert "must come from ctx" in hosted.reason
    assert world.decisions == before
    decided = {event.spec.client_order_id for event in before if isinstance(event, ev.OrderDecided)}
    assert {order.client_order_id for order in hosted.ctx.orders} == decided


def test_a_strategy_whose_market_data_is_lost_waits_for_a_person_and_keeps_its_orders() -> None:
    world = World(loaded())
    world.begin()
    for price in (102, 105, 108):
        world.trade(price)
        world.accept()
    count = len(world.machine.hosted["ann"].ctx.orders)
    world.crash(lost=True)
    hosted = world.machine.hosted["ann"]
    assert (hosted.status, len(hosted.ctx.orders)) == ("failed", count)
    world.publish(ORDERS, ev.Killed(scope="strategy:ann", reason="it failed", by="strategies"))
    world.publish(ORDERS, ev.Resumed(scope="strategy:ann", reason="reviewed", by="ann"))
    assert world.machine.to_begin == ["ann"]
    world.begin()
    world.trade(111)
    assert isinstance(world.log[-1], ev.OrderDecided)
    assert hosted.status == "running"


def test_other_code_begins_with_what_the_other_one_remembered_and_its_orders() -> None:
    world = World(loaded())
    world.begin()
    for price in (102, 105):
        world.trade(price)
        world.accept()
    world.save()
    world.trade(108)
    world.crash(loaded(code="c2"))
    assert world.machine.to_begin == ["ann"]
    world.begin()
    hosted = world.machine.hosted["ann"]
    assert hosted.status == "running"
    assert hosted.strategy.seen == 2  # type: ignore[attr-defined]
    assert hosted.ctx.order("ann-0") is not None
    numbers = [decision.number for decision in world.decisions]  # type: ignore[union-attr]
    assert len(set(numbers)) == len(numbers)


def test_a_strategy_that_is_not_defined_any_more_ends_and_has_its_orders_cancelled_and_comes_back_as_it_was() -> None:
    world = World(loaded(Trader, "ann", "bob"))
    world.begin()
    world.trade(102)
    world.accept()
    world.accept()
    world.save()
    world.crash(loaded(Trader, "bob"))
    assert world.machine.to_end == ["ann"]
    world.begin()
    stopped, cancel = [e for e in world.log if getattr(e, "strategy", "") == "ann"][-2:]
    assert isinstance(stopped, ev.StrategyStopped)
    assert isinstance(cancel, ev.CancelDecided)
    assert world.machine.to_end == []
    world.save()
    world.crash(loaded(Trader, "ann", "bob"))
    assert world.machine.to_begin == ["ann"]
    assert world.machine.hosted["ann"].strategy.seen == 1  # type: ignore[attr-defined]


def test_a_failure_is_recorded_once_and_holds_over_a_crash() -> None:
    world = World(loaded())
    world.begin()
    world.trade(113)
    world.trade(113)
    world.crash()
    failures = [event for event in world.log if isinstance(event, ev.StrategyFailed)]
    assert len(failures) == 1
    assert "unlucky" in failures[0].reason
    assert world.machine.hosted["ann"].status == "failed"
    assert world.machine.to_begin == []


def test_a_decision_that_was_not_answered_is_sent_again_and_no_other() -> None:
    world = World(loaded())
    world.begin()
    world.trade(102)
    world.accept()
    world.trade(105)
    world.crash()
    assert [decision.number for decision in world.machine.to_send()] == [1, 2]
    world.accept()
    assert [decision.number for decision in world.machine.to_send()] == [1]
    world.publish(ORDERS, ev.CancelRequested(order_id="o0-0"))
    assert world.machine.to_send() == []


def test_what_the_order_service_refused_is_part_of_the_log() -> None:
    world = World(loaded())
    world.begin()
    world.trade(102)
    refused = ev.DecisionRefused(strategy="ann", number=0, code="off_tick", reason="off the tick", ts=world.now)
    world.log += world.machine.refuse(refused)
    world.crash()
    order = world.machine.hosted["ann"].ctx.order("ann-0")
    assert order is not None
    assert (order.status, order.reject_code) == ("Rejected", "off_tick")
    assert world.machine.to_send() == []


def test_a_strategy_that_cannot_be_loaded_is_parked() -> None:
    definition = Definition(name="ann", account="main", instruments=["BTCUSDT.SIM"], parameters={"x": 1})
    world = World({"ann": Loaded(definition, Parked, "", "ann.py has no strategy")})
    world.begin()
    world.trade(102)
    assert world.log == []
    assert world.machine.to_begin == []


@pytest.mark.parametrize("partitions", [1, 4])
def test_a_snapshot_and_the_tail_equal_a_full_replay(partitions: int) -> None:
    world = World(loaded(), partitions)
    world.begin()
    for price in (102, 103, 105, 110, 108):
        world.trade(price)
        world.accept()
    world.save()
    world.trade(111)
    world.log += world.machine.flush()
    full, short = copy.copy(world), copy.copy(world)
    full.snapshot = (b"", 0)
    full.crash()
    short.crash()
    assert full.machine.save() == short.machine.save() == world.machine.save()


def test_a_damaged_snapshot_is_refused() -> None:
    with pytest.raises(msgspec.MsgspecError):
        World(loaded()).machine.restore(b'{"cursors": 3}')
