"""Strategies on a real log, in a process that is killed: what they decide is what they would have decided."""

import asyncio
import random
from math import sin
from pathlib import Path

from tests.child import Child
from tests.waiting import until

from trade2026.domain import events as ev
from trade2026.domain.events import AnyEvent, Envelope, decode, encode
from trade2026.domain.market import Trade
from trade2026.domain.numbers import SCALE
from trade2026.kit.bus.port import TopicConfig
from trade2026.kit.bus.sqlite import SqliteBus
from trade2026.sdk.testing import EPOCH

TOPICS = [
    TopicConfig(name=n, durable=n != "market.ticks") for n in ("market.ticks", "strategies.events", "strategies.shards")
]
TRADES = 3_000
PER_APPEND = 25
DECISIONS = (ev.OrderDecided, ev.OrderListDecided, ev.CancelDecided, ev.AmendDecided)
CHILD = Path(__file__).parent / "strategies_child.py"


def trades() -> list[bytes]:
    """The market: the same for every run."""
    rng, bodies = random.Random(5), []
    for n in range(TRADES):
        price = round((50_000 + 500 * sin(n / 40) + rng.randint(-90, 90)) * 100) * SCALE // 100
        trade = Trade("BTCUSDT.SIM", f"t-{n}", price, SCALE // 10, venue_seq=n + 1)
        ts = EPOCH + (n + 1) * 150_000_000
        bodies.append(encode(Envelope(n, 1, ts, ts, "test", "market", "", "", "", trade)))
    return bodies


async def run(state: Path, kills: int) -> tuple[list[AnyEvent], list[str], int, int]:
    """Deliver every trade, killing the process some times.

    Returns:
        The decisions, what left, how much of it before the last kill, and the failures.
    """
    state.mkdir()
    rng = random.Random(kills)
    bus, child = SqliteBus(state / "bus", TOPICS), Child(CHILD, state)
    bodies = trades()
    kill_at = set(rng.sample(range(PER_APPEND, TRADES // 3, PER_APPEND), kills))
    before = 0
    try:
        await child.start()
        market = await bus.claim("market.ticks", 0, "test")
        for first in range(0, TRADES, PER_APPEND):
            if first in kill_at:
                await asyncio.sleep(rng.random() * 0.1)
                child.kill()
                before = len(set((state / "sent").read_text().splitlines()))
                await child.start()
            await market.append(bodies[first : first + PER_APPEND])
            await asyncio.sleep(0)
        await until_delivered(bus)
        events = [decode(record.body).data for record in await bus.read("strategies.events", 0, 0, 1_000_000)]
    finally:
        child.kill()
        await bus.close()
    failures = sum(isinstance(event, ev.StrategyFailed) for event in events)
    sent = (state / "sent").read_text().splitlines()
    return [event for event in events if isinstance(event, DECISIONS)], sent, before, failures


async def until_delivered(bus: SqliteBus) -> None:
    """Wait until the log says that every trade was given to the strategies."""

    async def delivered() -> bool:
        for record in reversed(await bus.read("strategies.events", 0, 0, 1_000_000)):
            event = decode(record.body).data
            if isinstance(event, ev.Delivered) and (runs := [run for run in event.runs if run.topic == "market.ticks"]):
                return runs[-1].first + runs[-1].count == TRADES
        return False

    await until(delivered, "every trade is delivered")


async def test_a_killed_process_makes_the_next_hundred_decisions_of_one_that_was_not_and_each_leaves(
    tmp_path: Path,
) -> None:
    expected, all_sent, _, _ = await run(tmp_path / "whole", 0)
    found, sent, before_last_kill, failures = await run(tmp_path / "killed", 8)
    assert len(expected) - before_last_kill >= 100
    assert found == expected
    assert failures == 0
    assert set(sent) == set(all_sent)
