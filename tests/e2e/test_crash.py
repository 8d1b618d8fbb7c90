"""`kill -9` at any moment, under load: nothing that was acknowledged is lost or doubled, and every fold agrees.

`CRASH_ROUNDS` (20) and `CRASH_SEED` choose how often and in which order.
"""

import asyncio
import os
import random
import signal
import time

import pytest
from tests.e2e.conftest import MakeStack
from tests.e2e.load import Load
from tests.e2e.stack import Stack
from tests.e2e.verify import verify, verify_log

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "20"))
SEED = int(os.environ.get("CRASH_SEED", time.time_ns() % 1_000_000))
ACCOUNTS = ("alpha", "beta", "gamma")
_CALM_SECONDS = (0.2, 1.2)
"""Between everything ready and the next kill."""


class Chaos:
    """Kills parts of a stack at random, and brings back what does not come back by itself."""

    def __init__(self, stack: Stack, seed: int) -> None:
        self.stack, self.random = stack, random.Random(seed)
        self.releases = sorted(stack.pids())
        self.deck: list[str] = []

    def strike(self) -> str:
        """Kill something, wait until the stack is ready again, and return what it was."""
        if not self.deck:  # every kind comes once before any comes again
            self.deck = [
                *self.releases,
                "runner",
                "everything but the runner",
                "a pair",
                "a sleeper",
                "again and again",
            ]
            self.random.shuffle(self.deck)
        kind = self.deck.pop()
        match kind:
            case "runner":
                self.stack.kill_runner()
                self.stack.up()
                return kind
            case "everything but the runner":
                victims = self.releases
            case "a pair":
                victims = self.random.sample(self.releases, 2)
            case "a sleeper":  # it holds still for a while, as on a machine that swaps, and then dies
                victims = [self.random.choice(self.releases)]
                self.stack.kill_process(victims[0], signal.SIGSTOP)
                time.sleep(self.random.uniform(0.05, 1.0))
            case "again and again":  # also while it recovers
                victims = [self.random.choice(self.releases)]
                for _ in range(2):
                    old = self.stack.kill_process(victims[0])
                    self.stack.wait_started(victims[0], old)
                    time.sleep(self.random.uniform(0.2, 0.8))
            case _:
                victims = [kind]
        pids = self.stack.pids()
        for victim in victims:
            os.kill(pids[victim], signal.SIGKILL)
        for victim in victims:
            self.stack.wait_restarted(victim, pids[victim])
        self.stack.wait_ready()
        return f"{kind}: {', '.join(victims)}"


@pytest.mark.timeout(max(600, ROUNDS * 60))
async def test_nothing_acknowledged_is_lost_or_doubled_by_kill_9_under_load(make_stack: MakeStack) -> None:
    stack = await asyncio.to_thread(make_stack)
    print(f"CRASH_SEED={SEED} CRASH_ROUNDS={ROUNDS}")
    price = float(stack.get("gateway", "/ticker/BTCUSDT")["last"])
    chaos = Chaos(stack, SEED)
    async with Load(stack.url("oms"), stack.url("oms", scheme="ws"), ACCOUNTS, price, seed=SEED) as load:
        for number in range(ROUNDS):
            await asyncio.sleep(chaos.random.uniform(*_CALM_SECONDS))
            started = time.monotonic()
            struck = await asyncio.to_thread(chaos.strike)
            recovered = time.monotonic()
            load.check()
            log = await asyncio.to_thread(verify, stack, load.ledger, ACCOUNTS)
            print(
                f"{number + 1:3}. {struck}: ready again after {recovered - started:.1f} s; "
                f"{len(log.envelopes):,} events, {len(log.fills):,} fills, checked in {time.monotonic() - recovered:.1f} s"
            )
        await load.end()
        load.check()
    log = await asyncio.to_thread(verify, stack, load.ledger, ACCOUNTS)
    await asyncio.to_thread(stack.down)
    await verify_log(stack, load.ledger.orders)
    print(
        f"{len(load.ledger.orders):,} orders were acknowledged, {load.ledger.retries:,} requests were repeated; "
        f"{dict(sorted(load.ledger.answers.items()))}"
    )
    assert log.fills, "nothing was executed: the load proves nothing"
    assert load.ledger.answers["submit 200"] > ROUNDS
