"""The bars that a strategy is given are those of the normalizer, and those that are made for it are the same."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from trade2026.backtest.market import Market
from trade2026.domain import events as ev
from trade2026.domain.events import Envelope
from trade2026.domain.instruments import Instruments
from trade2026.domain.market import Bar, Trade
from trade2026.gateway.recording import load_bitstamp
from trade2026.gateway.replay import Recording, Replay
from trade2026.kit.bus.memory import MemoryBus
from trade2026.kit.bus.port import TopicConfig
from trade2026.kit.clock import ManualClock
from trade2026.kit.publisher import Publisher
from trade2026.kit.snapshots import SnapshotStore
from trade2026.normalizer.machine import BadPrintRule, Rules
from trade2026.sdk import Bar as Told
from trade2026.sdk import Parameters, Strategy
from trade2026.sdk.hosted import Definition, Hosted
from trade2026.sdk.testing import BTCUSDT, EPOCH, SECOND
from trade2026.strategies import runner
from trade2026.strategies.machine import Loaded, StrategiesMachine
from trade2026.strategies.shard_log import SHARDS

INTERVALS = ("10s", "1m", "100tick", "10volume", "100000dollar")
NAME = "BTCUSDT.SIM"


class Keeper(Strategy[Parameters]):
    """Keeps the bars that it is given."""

    def __init__(self) -> None:
        self.kept: list[Told] = []
        self.warm = 0

    def bars(self) -> tuple[str, ...]:
        return INTERVALS

    def warm_up(self) -> int:
        return 5

    def warm_up_bars(self) -> int:
        return 3

    def on_bar(self, bar: Told) -> None:
        self.kept.append(bar)
        self.warm += self.ctx.warming


def keeper(*told: str) -> Hosted:
    return Hosted(Keeper, Definition(name="keeper", account="main", instruments=[NAME], bars=list(told)), [BTCUSDT])


@pytest.fixture(scope="module")
def day() -> list[tuple[int, Trade]]:
    """Some hours of the recorded week."""
    whole = load_bitstamp()
    recording = Recording(whole.name, whole.seconds[:4_000], whole.prices[:4_000], whole.quantities[:4_000])
    replay, times = Replay(recording, BTCUSDT, loop=False), recording.source_times()
    return [(ts, replay.trade_at(row)) for row, ts in enumerate(times)]


def test_bars_that_are_made_for_a_strategy_are_those_of_the_normalizer(day: list[tuple[int, Trade]]) -> None:
    rules = Rules(intervals=INTERVALS, bad_prints=BadPrintRule(deviations=0))
    market, given, made = Market("test", [BTCUSDT], rules, 7), keeper(*INTERVALS), keeper()
    for hosted in (given, made):
        hosted.start(day[0][0])

    def tell(told: list[tuple[str, Envelope]]) -> None:
        for _, envelope in told:
            given.deliver(envelope)
            made.deliver(envelope)

    for ts, trade in day:
        while 0 < (due := market.next_due) <= ts:
            tell(market.pass_time(due))
        tell(market.trade(ts, trade)[2])
    kept: list[list[Told]] = [hosted.strategy.kept for hosted in (given, made)]  # type: ignore[attr-defined]
    for name in INTERVALS:
        told, folded = ([bar for bar in bars if bar.interval == name] for bars in kept)
        assert len(told) > 10, name
        assert told == folded[: len(told)], name
        assert len(folded) - len(told) <= 1, name


async def test_a_strategy_that_begins_has_seen_the_bars_that_it_wants_and_goes_on_with_the_next(tmp_path: Path) -> None:
    topics = [TopicConfig(name=name, durable=False) for name in (runner.ORDERS, *runner.MARKET, runner.TOPIC, SHARDS)]
    bus, clock = MemoryBus(topics), ManualClock(EPOCH)
    loaded = {"keeper": Loaded(keeper(*INTERVALS).definition, Keeper, "code")}

    def make() -> runner.Runner:
        return runner.Runner(
            bus,
            clock,
            lambda: StrategiesMachine(loaded, Instruments([BTCUSDT]).by_id),
            tenant="test",
            owner="test",
            snapshots=SnapshotStore(tmp_path, "strategies"),
            send=lambda decision: None,
            failed=lambda name, reason: None,
        )

    bars = Publisher(bus, runner.BARS, tenant="test", clock=clock, owner="normalizer")
    await bars.start()

    async def say(number: int, interval: str) -> None:
        clock.ns = EPOCH + number * SECOND
        await bars.publish(Bar(NAME, interval, number, number + 1, 1, 1, 1, 1, 1, 1, 1), ts_event=clock.ns)

    for number in range(40):
        await say(number, INTERVALS[number % 5])
    running = make()
    await running.start()
    strategy: Any = running.machine.hosted["keeper"].strategy
    assert strategy.warm == len(strategy.kept)
    assert Counter(bar.interval for bar in strategy.kept) == dict.fromkeys(INTERVALS, 3)
    await say(40, "1m")
    async with asyncio.timeout(60):
        while strategy.kept[-1].ts_open != 40:
            await asyncio.sleep(0.01)
    kept = list(strategy.kept)
    await running._snapshot()
    for task in running._tasks:
        task.cancel()
    again = make()
    await again.start()
    restored: Any = again.machine.hosted["keeper"].strategy
    assert restored.kept == kept
    await again.stop()
    assert ev.StrategyWarmed in {type(ev.decode(record.body).data) for record in bus.records(runner.TOPIC)}
