"""The runner gives every partition of the order log to the strategies, and after a crash the same in the same order."""

from pathlib import Path
from typing import Any

import pytest
from tests.waiting import until

from trade2026.domain import events as ev
from trade2026.domain.instruments import Instruments
from trade2026.domain.market import Trade
from trade2026.domain.numbers import SCALE
from trade2026.kit.bus.memory import MemoryBus
from trade2026.kit.bus.port import TopicConfig
from trade2026.kit.clock import ManualClock
from trade2026.kit.publisher import Publisher
from trade2026.kit.snapshots import SnapshotStore
from trade2026.sdk import Parameters, Strategy
from trade2026.sdk.hosted import Definition
from trade2026.sdk.testing import BTCUSDT, EPOCH, SECOND
from trade2026.strategies import runner
from trade2026.strategies.machine import Loaded, StrategiesMachine
from trade2026.strategies.shard_log import SHARDS

NAME = "BTCUSDT.SIM"


class Buyer(Strategy[Parameters]):
    """Buys with every trade."""

    def on_trade(self, trade: Any) -> None:
        self.ctx.buy(1, 100)


class Market:
    """A bus with an order log of some partitions, and what the runner sends."""

    def __init__(self, state: Path, partitions: int) -> None:
        self.state, self.partitions = state, partitions
        names = (*runner.MARKET, runner.TOPIC, SHARDS)
        topics = [TopicConfig(name=name, durable=False) for name in names]
        self.bus = MemoryBus([TopicConfig(name=runner.ORDERS, partitions=partitions), *topics])
        self.clock = ManualClock(EPOCH)
        self.sent: list[Any] = []
        self.publishers: dict[tuple[str, int], Publisher] = {}

    def make(self) -> runner.Runner:
        definition = Definition(name="buyer", account="main", instruments=[NAME])
        loaded = {"buyer": Loaded(definition, Buyer, "code")}
        return runner.Runner(
            self.bus,
            self.clock,
            lambda: StrategiesMachine(loaded, Instruments([BTCUSDT]).by_id),
            tenant="test",
            owner="test",
            snapshots=SnapshotStore(self.state, "strategies"),
            send=lambda decision, origin: self.sent.append(decision),
            failed=lambda name, reason: None,
            partitions=self.partitions,
        )

    async def say(self, topic: str, event: Any, partition: int = 0) -> None:
        self.clock.ns += SECOND
        publisher = self.publishers.get((topic, partition))
        if publisher is None:
            publisher = Publisher(self.bus, topic, tenant="t", clock=self.clock, owner="test", partition=partition)
            await publisher.start()
            self.publishers[topic, partition] = publisher
        await publisher.publish(event)

    async def trade_and_accept(self, running: runner.Runner, number: int, partition: int) -> None:
        """A trade, the order that it leads to, and what the order service says of it."""
        await self.say(runner.TICKS, Trade(NAME, f"t{number}", 100 * SCALE, SCALE, venue_seq=number))
        await until(lambda: len(self.sent) > number, "it is sent")
        accepted = ev.OrderAccepted(
            order_id=f"o{partition}-{number}", spec=self.sent[number].spec, reserved_price=100 * SCALE
        )
        await self.say(runner.ORDERS, accepted, partition)
        await until(lambda: not running.machine.unconfirmed["buyer"], "it is confirmed")


@pytest.mark.parametrize("partitions", [1, 4])
async def test_orders_of_any_partition_reach_their_strategy_also_after_a_crash(tmp_path: Path, partitions: int) -> None:
    market = Market(tmp_path, partitions)
    last = partitions - 1
    running = market.make()
    await running.start()
    await market.trade_and_accept(running, 0, 0)
    await market.trade_and_accept(running, 1, last)
    await running._snapshot()  # pyright: ignore[reportPrivateUsage]
    await market.trade_and_accept(running, 2, last)
    cursors, orders = dict(running.machine.cursors), running.machine.hosted["buyer"].ctx.orders
    await running._cancel_tasks()  # pyright: ignore[reportPrivateUsage]
    assert cursors[runner.ORDERS if partitions == 1 else f"{runner.ORDERS}/3"] == (3 if partitions == 1 else 2)

    again = market.make()
    await again.start()
    assert again.machine.cursors == cursors
    found = again.machine.hosted["buyer"]
    assert (found.status, [order.order_id for order in found.ctx.orders]) == (
        "running", [order.order_id for order in orders],
    )  # fmt: skip
    await market.trade_and_accept(again, 3, 0)
    await again.stop()
    assert len(market.sent) == 4
