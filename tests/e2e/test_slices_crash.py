"""`kill -9` of risk and of the order service while they share out a limit: all partitions together never exceed it.

`SLICE_ROUNDS` (4) and `CRASH_SEED` choose how often and in which order.
"""

import asyncio
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.stack import open_bus, wait_for
from tests.checker import read_orders
from tests.checker_limits import over_spanning_limits
from tests.e2e.load import Load
from tests.e2e.stack import QUIET, WAIT_SECONDS, Stack

from trade2026.controls.limits import LimitBook, LimitSet
from trade2026.domain import events as ev
from trade2026.domain.shards import partition_of
from trade2026.kit.bus.port import Bus

ROUNDS = int(os.environ.get("SLICE_ROUNDS", "4"))
SEED = int(os.environ.get("CRASH_SEED", time.time_ns() % 1_000_000))
P = 3
ACCOUNTS = ("delta", "beta", "alpha")
"""One in each partition."""
BOOK = LimitBook(stack=LimitSet(max_open_orders=30))


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    text = QUIET.read_text()
    before, named, rest = text.partition("    limits:\n")
    assert named and "bus:" not in text
    limit = f"      maxOpenOrders: {BOOK.stack.max_open_orders}\n"
    manifest = tmp_path / "three.yaml"
    manifest.write_text(f"{before}{named}{limit}{rest}".replace("spec:\n", f"spec:\n  bus: {{partitions: {P}}}\n", 1))
    stack = Stack(manifest, tmp_path / "state", services=["oms", "gateway", "normalizer", "risk"])
    try:
        stack.up()
        yield stack
    finally:
        stack.close()


@pytest.mark.timeout(max(600, ROUNDS * 60))
async def test_the_partitions_together_keep_a_limit_whoever_is_killed_while_it_is_shared_out(stack: Stack) -> None:
    print(f"CRASH_SEED={SEED} SLICE_ROUNDS={ROUNDS}")
    chance = random.Random(SEED)
    price = float(stack.get("gateway", "/ticker/BTCUSDT")["last"])
    async with Load(stack.url("oms"), stack.url("oms", scheme="ws"), ACCOUNTS, price, seed=SEED) as load:
        for number in range(ROUNDS):
            goal = len(load.ledger.orders) + 30
            await asyncio.to_thread(wait_for, "more orders", lambda g=goal: len(load.ledger.orders) >= g, WAIT_SECONDS)
            await asyncio.sleep(chance.random())
            release = ("risk", "orders")[number % 2]
            killed = stack.kill_process(release)
            if chance.random() < 0.3:
                stack.kill_process({"risk": "orders", "orders": "risk"}[release])
            await asyncio.to_thread(stack.wait_restarted, release, killed)
            await asyncio.to_thread(stack.wait_ready)
        load.check()
        await load.end()
    bus = open_bus(stack.state_dir)
    try:
        logs = [await read_orders(bus, partition) for partition in range(P)]
        grants = await granted(bus)
    finally:
        await bus.close()
    told = {(life.spec.account, life.spec.client_order_id): name for log in logs for name, life in log.orders.items()}
    assert all(told[key] == order_id for key, order_id in load.ledger.orders.items())
    assert over_spanning_limits([log.envelopes for log in logs], BOOK) == []
    refused = [each for log in logs for each in log.envelopes if isinstance(each.data, ev.OrderRefused)]
    assert {each.data.reject_code for each in refused} >= {"MAX_OPEN_ORDERS"}, "the limit was never reached"
    assert grants > ROUNDS, "nothing was shared out"
    assert {partition_of(account, P) for account in ACCOUNTS} == set(range(P))
    print(f"{len(told)} orders, {len(refused)} refused, {grants} grants, {load.ledger.retries} retries")


async def granted(bus: Bus) -> int:
    records = await bus.read("risk.events", 0, 0, 100_000)
    return sum(1 for record in records if isinstance(ev.decode(record.body).data, ev.SlicesGranted))
