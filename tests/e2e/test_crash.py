"""`kill -9` at any moment, under load: nothing that was acknowledged is lost or doubled, and every fold agrees.

`CRASH_ROUNDS` (20) and `CRASH_SEED` choose how often and in which order.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from bench.stack import ROOT, environment, wait_for
from tests.e2e.conftest import MakeStack
from tests.e2e.load import Load
from tests.e2e.stack import ORDER, WAIT_SECONDS, Stack, free_port_offset
from tests.e2e.verify import Known, verify, verify_log

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
    chaos, known = Chaos(stack, SEED), Known()
    async with Load(stack.url("oms"), stack.url("oms", scheme="ws"), ACCOUNTS, price, seed=SEED) as load:
        for number in range(ROUNDS):
            await asyncio.sleep(chaos.random.uniform(*_CALM_SECONDS))
            started = time.monotonic()
            struck = await asyncio.to_thread(chaos.strike)
            recovered = time.monotonic()
            load.check()
            log = await asyncio.to_thread(verify, stack, load.ledger, ACCOUNTS, known)
            print(
                f"{number + 1:3}. {struck}: ready again after {recovered - started:.1f} s; "
                f"{len(log.envelopes):,} events, {len(log.fills):,} fills, checked in {time.monotonic() - recovered:.1f} s"
            )
        await load.end()
        load.check()
    log = await asyncio.to_thread(verify, stack, load.ledger, ACCOUNTS, known)
    await asyncio.to_thread(stack.down)
    whole = await verify_log(stack, load.ledger.orders)
    assert whole.envelopes[: len(log.envelopes)] == log.envelopes, "what was read before has changed"
    print(
        f"{len(load.ledger.orders):,} orders were acknowledged, {load.ledger.retries:,} requests were repeated; "
        f"{dict(sorted(load.ledger.answers.items()))}"
    )
    assert log.fills, "nothing was executed: the load proves nothing"
    assert load.ledger.answers["submit 200"] > ROUNDS


def test_a_stopped_owner_that_wakes_up_after_another_has_claimed_its_log_is_fenced(
    stack: Stack, tmp_path: Path
) -> None:
    before = stack.submit(client_order_id="before").json()["order_id"]
    zombie = stopped_between_writes(stack, "oms", "orders.events")
    with another_instance(stack, "oms", tmp_path) as url, ThreadPoolExecutor() as pool, httpx.Client() as client:
        sleeping = pool.submit(stack.submit, client_order_id="asked-while-it-slept")
        during = client.post(f"{url}/orders", json={**ORDER, "client_order_id": "during"}, timeout=30)
        assert during.status_code == 200, during.text
        os.kill(zombie, signal.SIGCONT)
        answer = sleeping.result(timeout=WAIT_SECONDS)
        assert answer.status_code == 503, answer.text
        assert "Retry-After" in answer.headers
        for _ in range(3):  # nor does it ever come to believe in itself again
            assert stack.submit(client_order_id="to-the-zombie").status_code == 503
        assert stack.http("oms").get("/readyz").status_code == 503
        assert stack.http("oms").get(f"/orders/{before}").status_code == 503
        again = client.post(f"{url}/orders", json={**ORDER, "client_order_id": "asked-while-it-slept"}, timeout=30)
        assert again.status_code == 200, again.text
        told = {
            "before": before,
            "during": during.json()["order_id"],
            "asked-while-it-slept": again.json()["order_id"],
        }
    log = asyncio.run(verify_log(stack, {("main", name): order_id for name, order_id in told.items()}))
    assert {order.spec.client_order_id for order in log.orders.values()} == told.keys()
    assert log.envelopes[-1].epoch == 2


def stopped_between_writes(stack: Stack, service: str, topic: str) -> int:
    """Stop a service's process; one that sleeps with the log's lock keeps every other out until it is killed."""
    while True:
        pid = stack.kill_process(stack.release_of(service), signal.SIGSTOP)
        newest = max((stack.state_dir / "bus" / topic / "0").glob("segment-*.db"))
        with contextlib.closing(sqlite3.connect(newest, timeout=1, isolation_level=None)) as log:
            try:
                log.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                os.kill(pid, signal.SIGCONT)
            else:
                log.execute("ROLLBACK")
                return pid
        time.sleep(0.05)


@contextlib.contextmanager
def another_instance(stack: Stack, service: str, tmp_path: Path) -> Iterator[str]:
    """A second process for the release of a service, on ports of its own and the same state; yields the service's URL."""
    release = stack.release_of(service)
    settings = json.loads((stack.state_dir / "run" / f"{release}.json").read_text())
    offset, claim = free_port_offset(stack.manifest)
    settings["ports"] = {name: port - stack.port_offset + offset for name, port in settings["ports"].items()}
    path = tmp_path / "another.json"
    path.write_text(json.dumps(settings))
    url = f"http://127.0.0.1:{settings['ports'][service]}"
    with (tmp_path / "another.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "trade2026", "serve", "--settings", str(path)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, env=environment(),
        )  # fmt: skip
    try:
        wait_for(f"another {release} is ready", lambda: is_ready(url, process, tmp_path / "another.log"), WAIT_SECONDS)
        yield url
    finally:
        process.terminate()
        process.wait(30)
        claim.close()


def is_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> bool:
    """Whether a service says that it is ready; fails the test when its process has ended."""
    assert process.poll() is None, log.read_text()
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False
