"""Symbols pass from process to process: none is traded by two, none for long by nobody, and no order stays behind."""

import asyncio
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

import msgspec
import pytest_asyncio
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
from trade2026.sdk.testing import BTCUSDT, EPOCH, SECOND
from trade2026.strategies import runner
from trade2026.strategies.loading import StrategySettings, load
from trade2026.strategies.machine import Loaded, StrategiesMachine
from trade2026.strategies.shard_log import SHARDS, ShardLog, is_claimed

SYMBOLS = [msgspec.structs.replace(BTCUSDT, symbol=f"{name}USDT", base=name) for name in "ABCDEF"]
NAMES = [symbol.instrument_id for symbol in SYMBOLS]
PROCESSES = 4


class Buyer(Strategy[Parameters]):
    """Buys what is traded."""

    def on_trade(self, trade: Any) -> None:
        self.ctx.buy(1, 100, trade.instrument)


class NoClaims(ShardLog):
    """Those of a version that knew of none."""

    async def start(self) -> None:
        pass

    async def keep(self, strategy: str, instruments: Collection[str]) -> None:
        pass

    async def claim(self, strategy: str, instruments: Collection[str]) -> dict[int, frozenset[str]]:
        return {}


class Desk:
    """A bus, processes of one strategy, and an order service that takes each order once.

    Attributes:
        open: Client order id and instrument of every order that works.
        traded: By instrument, the processes that have sent orders of it, one after the other.
        twice: Orders that were sent while another process had one open in the same instrument.
    """

    def __init__(self, state: Path) -> None:
        self.state = state
        topics = [TopicConfig(name=name, durable=False) for name in (*runner.MARKET, runner.ORDERS)]
        topics += [TopicConfig(name=name, partitions=PROCESSES) for name in (runner.TOPIC, SHARDS)]
        self.bus, self.clock = MemoryBus(topics), ManualClock(EPOCH)
        self.running: dict[int, runner.Runner] = {}
        self.open: dict[str, str] = {}
        self.traded: dict[str, list[int]] = {}
        self.ids: set[str] = set()
        self.twice: list[str] = []
        self.specs: dict[str, Any] = {}
        self.answers = True
        self._late: list[tuple[int, Any]] = []
        self._number = 0

    async def begin(self) -> None:
        self.orders, self.ticks = (
            Publisher(self.bus, topic, tenant="t", clock=self.clock, owner="test")
            for topic in (runner.ORDERS, runner.TICKS)
        )
        await self.orders.start()
        await self.ticks.start()

    def loaded(self, number: int, shards: int) -> dict[str, Loaded]:
        settings = StrategySettings(
            name="buyer", account="main", instruments=NAMES, module=f"{__name__}:Buyer", shards=shards
        )
        return {"buyer": load(settings, SYMBOLS, number)} if number < shards else {}

    def of(self, number: int, shards: int) -> list[str]:
        """The instruments of a process, as one of so many."""
        return sorted(self.loaded(number, shards)["buyer"].definition.instruments)

    async def start(self, number: int, shards: int, *, is_older: bool = False) -> runner.Runner:
        """Begin a process, as one of so many; or as one of an older version, which claims nothing."""
        loaded = self.loaded(number, shards)
        assert not any(one.trouble for one in loaded.values())
        made = self.running[number] = runner.Runner(
            self.bus,
            self.clock,
            lambda: StrategiesMachine(loaded, Instruments(SYMBOLS).by_id, number),
            tenant="test",
            owner="test",
            snapshots=SnapshotStore(self.state / str(number), "strategies"),
            send=lambda decision, origin: self._send(number, decision),
            failed=lambda name, reason: None,
            shard=number,
            shards=PROCESSES,
        )
        if is_older:
            made.handover.claims = NoClaims(self.bus, number, PROCESSES, tenant="test", clock=self.clock, owner="older")
        await made.start()
        return made

    async def stop(self, number: int) -> None:
        await self.running.pop(number).stop()

    async def kill(self, number: int) -> None:
        """As `kill -9` does: nothing is written any more."""
        await self.running.pop(number)._cancel_tasks()  # pyright: ignore[reportPrivateUsage]

    def _send(self, number: int, decision: Any) -> None:
        self._late.append((number, decision))
        if self.answers:
            self.answer()

    def answer(self) -> None:
        """The order service takes what was sent to it."""
        sent, self._late = self._late, []
        for number, decision in sent:
            if isinstance(decision, ev.OrderDecided):
                self._accept(number, decision.spec)
            elif isinstance(decision, ev.CancelDecided) and decision.client_order_id in self.open:
                self.open.pop(decision.client_order_id)
                self._say(ev.OrderCanceled(order_id=f"o-{decision.client_order_id}", reason="asked"))

    def _accept(self, number: int, spec: Any) -> None:
        if spec.client_order_id in self.ids:
            return  # the same order again: the first answer
        self.ids.add(spec.client_order_id)
        self.specs[spec.instrument] = spec
        others = [each for each, name in self.open.items() if name == spec.instrument]
        prefix = spec.client_order_id.rpartition("-")[0]
        self.twice += [f"{spec.client_order_id} beside {each}" for each in others if each.rpartition("-")[0] != prefix]
        self.open[spec.client_order_id] = spec.instrument
        holders = self.traded.setdefault(spec.instrument, [])
        if holders[-1:] != [number]:
            holders.append(number)
        order_id = f"o-{spec.client_order_id}"
        self._say(ev.OrderAccepted(order_id=order_id, spec=spec, reserved_price=100 * SCALE))

    def _say(self, event: Any) -> None:
        self.orders.append([self.orders.stamp(event)])

    async def trade_all(self) -> None:
        """Every symbol trades once."""
        for name in NAMES:
            self._number += 1
            self.clock.ns += SECOND
            await self.ticks.publish(Trade(name, f"t{self._number}", 100 * SCALE, SCALE, venue_seq=self._number))
        await asyncio.sleep(0)

    async def until_all_trade(self, shards: int) -> None:
        """Each symbol is traded by the process that is to."""
        of = {name: number for number in range(shards) for name in self.of(number, shards)}

        def begun() -> bool:
            return all(
                number in self.running
                and self.running[number].machine.hosted["buyer"].status == "running"
                and not self.running[number].handover.waiting
                for number in range(shards)
            )

        await until(begun, "all of them trade")
        before = set(self.open)
        await self.trade_all()
        await until(
            lambda: {name for each, name in self.open.items() if each not in before} == {*NAMES},
            "each symbol is traded",
        )
        assert {name: holders[-1] for name, holders in self.traded.items()} == of

    async def until_seen(self) -> None:
        """Every process has been given each trade and each event of the order log, and what it decided is written."""
        ends = {runner.TICKS: self.ticks.next_seq, runner.ORDERS: self.orders.next_seq}
        await until(
            lambda: all(
                each.machine.cursors[topic] >= end and not each._uncommitted  # pyright: ignore[reportPrivateUsage]
                for each in self.running.values()
                for topic, end in ends.items()
            ),
            "all have seen all",
        )

    async def end(self) -> None:
        for number in list(self.running):
            await self.stop(number)


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """A desk on which no symbol may ever be traded by two processes at once."""
    made = Desk(tmp_path)
    await made.begin()
    yield made
    await made.end()
    assert made.twice == []


async def test_from_one_to_three_processes_and_back_no_symbol_is_traded_twice_or_by_nobody(desk: Desk) -> None:
    await desk.start(0, 1)
    await desk.until_all_trade(1)
    first = dict(desk.open)
    # New processes come up while the old one still trades everything, as in a cluster.
    await desk.start(2, 3)
    await desk.start(1, 3)
    await desk.trade_all()
    await until(lambda: len(desk.ids) == 2 * len(NAMES), "the old process trades until it lets go")
    assert desk.running[1].handover.waiting == {"buyer": f"process 0 still trades {', '.join(desk.of(1, 3))} of it"}
    await desk.stop(0)
    await desk.start(0, 3)
    await desk.until_all_trade(3)
    moved = {each for each, name in first.items() if desk.traded[name][-1] != 0}
    assert moved and not moved & desk.open.keys(), "orders of symbols that move are cancelled before they move"
    # Two go, whoever comes last; the one that stays ends what they have left.
    await desk.stop(0)
    await desk.start(0, 1)
    await desk.trade_all()
    await desk.kill(1)
    await desk.stop(2)
    for number in (1, 2):
        await desk.start(number, 1)  # an heir has nothing to run
    await desk.until_all_trade(1)
    assert not [each for each in desk.open if each.startswith("buyer.")]
    assert not any([await is_claimed(desk.bus, number) for number in range(1, PROCESSES)])


async def test_a_process_that_is_killed_goes_on_with_its_own_symbols_and_nobody_else_takes_them(desk: Desk) -> None:
    for number in range(3):
        await desk.start(number, 3)
    await desk.until_all_trade(3)
    await desk.kill(1)
    before = len(desk.ids)
    await desk.trade_all()
    await until(lambda: len(desk.ids) == before + 4, "the others go on")
    await desk.start(1, 3)
    await desk.until_all_trade(3)
    assert {name: len(holders) for name, holders in desk.traded.items()} == dict.fromkeys(NAMES, 1)


async def test_a_halt_reaches_every_process_with_one_event(desk: Desk) -> None:
    for number in range(3):
        await desk.start(number, 3)
    await desk.until_all_trade(3)
    count = len(desk.ids)
    desk._say(ev.Killed(scope="strategy:buyer", reason="loss", by="limits", halt=True, cause="limit"))  # pyright: ignore
    halted = desk.orders.next_seq
    await until(
        lambda: all(each.machine.cursors[runner.ORDERS] >= halted - 1 for each in desk.running.values()), "it is read"
    )
    await until(lambda: all(each.machine.hosted["buyer"].halted for each in desk.running.values()), "all are halted")
    await desk.trade_all()
    await desk.until_seen()
    assert len(desk.ids) == count


async def test_two_that_want_the_same_symbols_at_once_do_not_wait_for_each_other(desk: Desk) -> None:
    # One of the old arrangement comes back beside the new one.
    await asyncio.gather(desk.start(0, 1), desk.start(1, 3), desk.start(2, 3))
    await until(
        lambda: any(
            not each.handover.waiting and each.machine.hosted["buyer"].status == "running"
            for each in desk.running.values()
        ),
        "one of them trades",
    )
    await desk.trade_all()
    await desk.until_seen()
    assert desk.ids, "who got them trades them"


async def test_an_order_that_was_under_way_when_its_process_ended_is_found_and_cancelled(desk: Desk) -> None:
    await desk.start(0, 2)
    await desk.start(1, 2)
    await desk.until_all_trade(2)
    desk.answers = False
    await desk.trade_all()
    await until(lambda: len(desk._late) == len(NAMES), "all are decided, none has arrived")  # pyright: ignore
    await desk.kill(1)
    late = [each for each in desk._late if each[0] == 1]  # pyright: ignore
    desk._late = [each for each in desk._late if each[0] == 0]  # pyright: ignore
    desk.answers = True
    desk.answer()
    await desk.stop(0)
    await desk.start(1, 1)
    await desk.start(0, 1)
    await until(lambda: not desk.running[0].handover.waiting, "its symbols are let go")
    desk._late = late  # what was still in the network arrives at last
    desk.answer()
    await desk.until_all_trade(1)
    assert not [each for each in desk.open if each.startswith("buyer.")]


async def test_while_the_first_process_is_of_a_version_that_claims_nothing_it_trades_all(desk: Desk) -> None:
    await desk.start(0, 1, is_older=True)
    await desk.until_all_trade(1)
    await desk.start(1, 3)
    await desk.start(2, 3)
    await desk.trade_all()
    await until(lambda: len(desk.ids) == 2 * len(NAMES), "the first trades all")
    assert desk.running[1].handover.waiting == {"buyer": "process 0 has not claimed its symbols yet"}
    await desk.kill(0)
    await desk.start(0, 3)
    await desk.until_all_trade(3)


async def test_what_an_older_version_had_begun_is_claimed_by_the_next_before_anybody_comes(desk: Desk) -> None:
    await desk.start(0, 1, is_older=True)
    await desk.trade_all()
    await until(lambda: len(desk.open) == len(NAMES), "all are traded")
    for each in list(desk.open):  # nothing works just now
        del desk.open[each]
        desk._say(ev.OrderCanceled(order_id=f"o-{each}", reason="by hand"))  # pyright: ignore
    await desk.kill(0)
    first = await desk.start(0, 1)
    assert first.handover.claims.mine.of("buyer") == {*NAMES}
    assert first.machine.hosted["buyer"].status == "running"
    await desk.start(1, 2)
    await desk.trade_all()
    assert desk.running[1].handover.waiting == {"buyer": f"process 0 still trades {', '.join(desk.of(1, 2))} of it"}
    await desk.stop(0)
    await desk.start(0, 2)
    await desk.until_all_trade(2)


async def test_an_order_that_a_person_has_placed_holds_up_no_handover(desk: Desk) -> None:
    await desk.start(0, 1)
    await desk.until_all_trade(1)
    for name in NAMES:
        by_hand = msgspec.structs.replace(desk.specs[name], client_order_id=f"by-hand-{name}")
        desk._say(ev.OrderAccepted(order_id=f"o-{name}", spec=by_hand, reserved_price=100 * SCALE))  # pyright: ignore
    await desk.stop(0)
    await asyncio.gather(*(desk.start(number, 3) for number in (2, 1, 0)))
    await desk.until_all_trade(3)
