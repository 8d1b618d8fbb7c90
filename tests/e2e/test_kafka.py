"""The quickstart on Apache Kafka and QuestDB: the same stack with another bus and another store, through kills of the
owner of the log, of its broker and of the store."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from bench.stack import ROOT, open_bus, wait_for
from tests.checker import Broken, read_orders
from tests.checker_kafka import read_raw
from tests.e2e.load import Load
from tests.e2e.stack import ORDER, WAIT_SECONDS, Stack
from tests.infra import require

from trade2026.local.infra.kafka import Kafka
from trade2026.local.infra.questdb import QuestDb

KAFKA = ROOT / "manifests" / "kafka.yaml"
ACCOUNTS = ("alpha", "beta")
SERVICES = ["oms", "gateway", "normalizer", "risk", "ptrc", "pnl", "questdb_writer"]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """With a broker of its own, because it is killed; without strategies, so that only the test trades."""
    require(Kafka(tmp_path / "none"))
    require(QuestDb(tmp_path / "none"))
    manifest = tmp_path / "kafka.yaml"
    manifest.write_text(KAFKA.read_text().partition("\n---\n")[0] + "\n")
    stack = Stack(manifest, tmp_path / "state", services=SERVICES, with_infra=True)
    try:
        stack.up()
        yield stack
    finally:
        stack.close()


def component(stack: Stack, name: str) -> dict[str, Any]:
    return next(each for each in stack.status()["infra"] if each["name"] == name)


async def kill(stack: Stack, name: str) -> None:
    """Kill a component, and wait until another one runs in its place."""
    pid = component(stack, name)["pid"]
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    if name == "kafka":
        await asyncio.to_thread(wait_for, "the OMS says that it is not ready", lambda: not_ready(stack), WAIT_SECONDS)
    await asyncio.to_thread(
        wait_for, f"another {name}", lambda: component(stack, name)["pid"] not in (None, pid), WAIT_SECONDS
    )


async def check_log(stack: Stack, told: dict[tuple[str, str], str]) -> int:
    """Every order that a client was told is in the log, once, under that id. Returns how many events there are."""
    bus = open_bus(stack.state_dir)
    try:
        log = await read_orders(bus)
    finally:
        await bus.close()
    log.require(told.values())
    ours = {(order.spec.account, order.spec.client_order_id): order_id for order_id, order in log.orders.items()}
    wrong = [f"{key} was told {value}, not {ours.get(key)}" for key, value in told.items() if ours.get(key) != value]
    if wrong:
        raise Broken("clients were told other orders than those of the log", wrong)
    return len(log.envelopes)


async def test_a_killed_owner_and_a_killed_broker_lose_nothing_that_was_acknowledged(stack: Stack) -> None:
    price = float(stack.get("gateway", "/ticker/BTCUSDT")["last"])
    async with Load(stack.url("oms"), stack.url("oms", scheme="ws"), ACCOUNTS, price, seed=1) as load:

        async def answered(more: int) -> None:
            goal = len(load.ledger.orders) + more
            await asyncio.to_thread(
                wait_for, f"{more} more orders", lambda: len(load.ledger.orders) >= goal, WAIT_SECONDS
            )

        await answered(30)
        killed = stack.kill_process("orders")
        await asyncio.to_thread(stack.wait_restarted, "orders", killed)
        await answered(30)

        await kill(stack, "kafka")
        await asyncio.to_thread(stack.wait_ready)
        await answered(30)

        await kill(stack, "questdb")
        await answered(30)
        load.check()
        await load.end()
    await asyncio.to_thread(wait_for, "every service is well again", lambda: all_well(stack), WAIT_SECONDS)
    answer = stack.http("oms").post("/orders", json={**ORDER, "client_order_id": "after", "account": "alpha"})
    assert answer.status_code == 200, answer.text
    events = await check_log(stack, dict(load.ledger.orders))
    raw = await asyncio.to_thread(read_raw, component(stack, "kafka")["address"], "quickstart.orders.events")
    assert len(raw.bodies) >= events > 0
    assert raw.epochs[-1] >= 3, "two owners before it"
    check_store(stack, {*load.ledger.orders.values(), answer.json()["order_id"]})
    check_end_with_a_store_that_hangs(stack)


def check_end_with_a_store_that_hangs(stack: Stack) -> None:
    """`down` gives up what does not answer, and leaves nothing behind."""
    hanging = component(stack, "questdb")["pid"]
    os.kill(hanging, signal.SIGSTOP)
    down = stack.cli("down")
    assert down.returncode == 0, down.stdout + down.stderr
    assert not psutil.pid_exists(hanging)


def check_store(stack: Stack, told: set[str]) -> None:
    """Every order that a client was told is in the time series, and each of them once."""
    assert stack.http("questdb_writer").post("/flush").status_code == 200
    wait_for("all is written", lambda: not stack.get("questdb_writer", "/stats")["lag"], WAIT_SECONDS)
    assert stack.http("questdb_writer").post("/flush").status_code == 200
    found = stack.get("questdb", "/exec", query="SELECT order_id FROM orders")["dataset"]
    orders = [order_id for (order_id,) in found]
    assert len(orders) == len(set(orders)) and told <= set(orders)
    store = f"http://{component(stack, 'questdb')['address']}"
    [[same]] = httpx.get(f"{store}/exec", params={"query": "SELECT count() FROM orders"}).json()["dataset"]
    assert same >= len(orders), "QuestDB is behind it"


def not_ready(stack: Stack) -> bool:
    answer = stack.http("oms").get("/readyz")
    return answer.status_code == 503


def all_well(stack: Stack) -> bool:
    answers = {name: stack.http(name).get("/health") for name in SERVICES}
    unwell = {name: answer.text for name, answer in answers.items() if answer.status_code != 200}
    print(unwell)
    return not unwell
