"""A stack on a broker that hangs, that is gone for a while, and whose disk is full: it says so, waits, and goes on."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from bench.stack import wait_for
from tests.checker_kafka import read_raw
from tests.e2e.load import Load
from tests.e2e.stack import ORDER, WAIT_SECONDS, Stack
from tests.e2e.test_kafka import ACCOUNTS, KAFKA, check_log, not_ready
from tests.infra import started
from tests.integration.small_disk import SmallDisk

from trade2026.local.infra.component import Component
from trade2026.local.infra.kafka import Kafka

SERVICES = ["oms", "gateway", "normalizer", "risk", "ptrc"]
ANSWER_SECONDS_MAX = 30.0
"""A refusal comes after one request to the broker, which is given up after 5 s; a slow machine may take longer."""


class OnSmallDisk(Kafka):
    """A broker whose log may be given no room."""

    def __init__(self, folder: Path, disk: SmallDisk) -> None:
        super().__init__(folder)
        self._disk = disk

    @property
    def data(self) -> Path:
        return self._disk.path / "data"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    made = SmallDisk(tmp_path / "disk")
    yield made
    made.close()


@pytest.fixture
def broker(tmp_path: Path, disk: SmallDisk) -> Iterator[Component]:
    """Not the stack's: nobody starts it again but the test."""
    component = started(OnSmallDisk(tmp_path / "kafka", disk))
    yield component
    component.kill()


@pytest.fixture
def stack(tmp_path: Path, broker: Component) -> Iterator[Stack]:
    text = KAFKA.read_text().partition("\n---\n")[0]
    manifest = tmp_path / "kafka.yaml"
    manifest.write_text(text.replace("127.0.0.1:9092", broker.address) + "\n")
    stack = Stack(manifest, tmp_path / "state", services=SERVICES)
    try:
        stack.up()
        yield stack
    finally:
        stack.close()


def unwell(stack: Stack) -> dict[str, str]:
    answers = {name: stack.http(name).get("/health") for name in SERVICES}
    return {name: answer.text for name, answer in answers.items() if answer.status_code != 200}


def until_all_well(stack: Stack) -> None:
    with suppress(TimeoutError):
        wait_for("every service is well again", lambda: not unwell(stack), WAIT_SECONDS)
    assert not unwell(stack)


def refused_in_time(stack: Stack) -> None:
    """An order is answered before long, and with nothing that could be taken for an acceptance."""
    begun = time.monotonic()
    answer = stack.http("oms").post("/orders", json={**ORDER, "account": "alpha"}, timeout=ANSWER_SECONDS_MAX)
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) >= 1
    assert time.monotonic() - begun < ANSWER_SECONDS_MAX


def tells_the_truth(stack: Stack) -> None:
    """The process lives, takes no orders, and says why."""
    assert stack.http("oms").get("/livez").status_code == 200
    health = stack.http("oms").get("/health").json()
    assert health["status"] == "degraded"
    assert health["checks"]["ready"]["status"] == "failed", health


async def test_a_slow_a_missing_and_a_full_broker_cost_time_and_no_order(
    stack: Stack, broker: Component, disk: SmallDisk
) -> None:
    price = float(stack.get("gateway", "/ticker/BTCUSDT")["last"])
    async with Load(stack.url("oms"), stack.url("oms", scheme="ws"), ACCOUNTS, price, seed=2) as load:

        async def wait(what: str, condition: Callable[[], bool]) -> None:
            await asyncio.to_thread(wait_for, what, condition, WAIT_SECONDS)

        @asynccontextmanager
        async def trouble(what: str) -> AsyncIterator[None]:
            """Orders before it, refusals in it, orders after it."""
            goal = len(load.ledger.orders) + 20
            await wait("orders before", lambda: len(load.ledger.orders) >= goal)
            yield
            await asyncio.to_thread(stack.wait_ready)
            goal = len(load.ledger.orders) + 20
            await wait(f"orders after {what}", lambda: len(load.ledger.orders) >= goal)
            load.check()

        async def seen() -> None:
            await wait("the OMS says that it is not ready", lambda: not_ready(stack))
            await asyncio.to_thread(refused_in_time, stack)
            await asyncio.to_thread(tells_the_truth, stack)

        async with trouble("a broker that hung"):
            broker.pause()
            await seen()
            broker.go_on()
        async with trouble("a broker that was gone"):
            await asyncio.to_thread(broker.kill)
            await seen()
            await asyncio.to_thread(broker.start)
        assert disk.real or os.environ.get("CI") != "true", "CI can mount a small disk"
        if disk.real:
            async with trouble("a full disk"):
                disk.leave(0)
                await seen()
                disk.release()
                await asyncio.to_thread(broker.kill)  # it has ended, as a rule: whoever keeps it starts it again
                await asyncio.to_thread(broker.start)
        await load.end()
    await asyncio.to_thread(until_all_well, stack)
    events = await check_log(stack, dict(load.ledger.orders))
    raw = await asyncio.to_thread(read_raw, broker.address, "quickstart.orders.events")
    assert len(raw.bodies) >= events > 0
    log = (stack.state_dir / "logs" / "projections.log").read_text()
    told = log.count("waits at")
    assert 0 < told < 40, f"one line an outage and topic, not one each half second: {told}"
