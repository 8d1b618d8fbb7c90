"""An embedded stack that has traded is moved to Kafka and QuestDB, killed on the way, and goes on there as it was."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import pytest
import yaml
from bench.stack import ROOT, environment, open_bus, wait_for
from tests.checker import ORDERS
from tests.checker_kafka import read_raw
from tests.e2e.stack import QUIET, WAIT_SECONDS, Stack

from trade2026.local.infra.component import Component
from trade2026.local.migration import journal
from trade2026.stores.timeseries.questdb_http import QuestDbSettings
from trade2026.stores.timeseries.questdb_store import set_aside

SECONDS_MAX = 150
_LAST_TOPIC = "market.ticks/0: "
"""Told when this part of the log is begun: the rest, and all rows, are missing then."""


@pytest.fixture
def name() -> str:
    """Of the stack, and so of its topics: brokers are shared."""
    return f"t{uuid4().hex[:12]}"


@pytest.fixture
def here(tmp_path: Path, name: str) -> Iterator[Stack]:
    manifest = tmp_path / "here.yaml"
    manifest.write_text(QUIET.read_text().replace("name: quickstart", f"name: {name}"))
    stack = Stack(manifest, tmp_path / "here")
    yield stack
    stack.close()


@pytest.fixture
def there(here: Stack, tmp_path: Path, kafka: Component, questdb: Component) -> Iterator[Stack]:
    """The same on servers; Valkey is left out, its cache is a fold."""
    set_aside(QuestDbSettings(url=f"http://{questdb.address}"))
    servers = {"spec": {"bus": {"type": "kafka", "kafka": {"bootstrapServers": kafka.address}}}}
    servers["spec"]["stores"] = {"timeseries": {"type": "questdb", "url": f"http://{questdb.address}"}}
    manifest = tmp_path / "there.yaml"
    stack_of = yaml.safe_load(here.manifest.read_text())
    stack_of["spec"] |= servers["spec"]
    manifest.write_text(yaml.safe_dump(stack_of))
    stack = Stack(manifest, tmp_path / "there")
    yield stack
    stack.close()


def words(here: Stack, there: Stack, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "trade2026", "migrate", "-f", str(there.manifest), "--from", str(here.state_dir)),
        *("--to", str(there.state_dir), *more),
    ]


def migrate(here: Stack, there: Stack, *more: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        words(here, there, *more), capture_output=True, text=True, timeout=SECONDS_MAX, cwd=ROOT, env=environment()
    )


def kill_in_the_middle(here: Stack, there: Stack) -> None:
    process = subprocess.Popen(
        words(here, there), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=ROOT, env=environment()
    )
    assert process.stderr is not None
    said: list[str] = []
    for line in process.stderr:
        said.append(line)
        if line.startswith(_LAST_TOPIC):
            break
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=SECONDS_MAX)
    assert any(line.startswith(_LAST_TOPIC) for line in said), said


def image(stack: Stack) -> dict[str, Any]:
    """What a trader sees of it. Unrealized P&L moves with the market, so it is left out."""

    def cli(*asked: str) -> Any:
        done = stack.cli(*asked, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    pnl = stack.get("pnl", "/pnl/alpha")
    return {
        "orders": cli("order", "list", "--account", "alpha"),
        "position": [(each["symbol"], each["quantity"]) for each in stack.get("ptrc", "/positions/alpha")["positions"]],
        "realized": (pnl["realized"], pnl["fees"]),
        "limits": cli("limits"),
        # Since when is told to the millisecond by who has seen it, and after a restart by its alert.
        "killed": [{k: v for k, v in stop.items() if k != "since"} for stop in stack.get("risk", "/killed")["killed"]],
    }


def trade(stack: Stack) -> None:
    """A fill, an order that rests, a limit that was tightened, an account that is halted."""
    filled = stack.submit(account="alpha", price=60_000)
    assert filled.status_code == 200, filled.text
    stack.wait_status(filled.json()["order_id"], "Filled")
    rests = stack.submit(account="alpha", price=30_000)
    stack.wait_status(rests.json()["order_id"], "New")
    tightened = (
        "limits",
        "tighten",
        "max_order_value=900",
        "--scope",
        "account:alpha",
        "--until",
        "2040-01-01T00:00:00Z",
    )
    for asked in ((*tightened, "--reason", "x"), ("kill", "--halt", "--scope", "account:beta", "--reason", "lunch")):
        done = stack.cli(*asked)
        assert done.returncode == 0, done.stderr
    wait_for("the fill is in the positions", lambda: stack.get("ptrc", "/positions/alpha")["positions"], WAIT_SECONDS)


def series_of(folder: Path) -> dict[str, int]:
    with duckdb.connect(folder / "timeseries" / "series.duckdb", read_only=True) as store:
        return {
            name: store.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0]
            for name in ("orders", "fills", "positions", "pnl", "risk_events")
        }


async def log_of(stack: Stack, topic: str) -> list[bytes]:
    bus = open_bus(stack.state_dir)
    try:
        return [record.body for record in await bus.read(topic, 0, 0, 1_000_000)]
    finally:
        await bus.close()


def test_a_moved_stack_is_as_it_was_and_trades_on(here: Stack, there: Stack, kafka: Component, name: str) -> None:
    here.up()
    running = migrate(here, there)
    assert running.returncode == 1 and "Stop it with `trade2026 down --state-dir" in running.stderr
    trade(here)
    before = image(here)
    here.down()
    kept = series_of(here.state_dir)
    journals = {topic: asyncio.run(log_of(here, topic)) for topic in (ORDERS, "risk.events", "venue.reports")}

    kill_in_the_middle(here, there)
    assert not journal.read(there.state_dir)["finished"]
    early = there.cli("up", "-f", str(there.manifest))
    assert early.returncode == 1 and "is not finished: go on with `trade2026 migrate" in early.stderr
    done = migrate(here, there, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    total = sum(each["records"] for each in result["log"])
    assert 0 < result["moved"]["records"] < total == sum(each["compared"] for each in result["log"])

    there.up()
    assert image(there) == before
    for topic, bodies in journals.items():
        raw = read_raw(kafka.address, f"{name}.{topic}")
        assert raw.bodies[: len(bodies)] == bodies
    for asked in (("replay", "--verify"), ("audit", "verify")):
        verified = there.cli(*asked)
        assert verified.returncode == 0, verified.stdout + verified.stderr
    check_rows(there, kept)

    halted = there.submit(account="beta")
    assert halted.json()["reject_code"] == "HALTED"
    newest = max(int(order["order_id"].rpartition("-")[2]) for order in before["orders"]["orders"])
    answer = there.submit(account="alpha", price=60_000)
    assert answer.status_code == 200, answer.text
    assert int(answer.json()["order_id"].rpartition("-")[2]) > newest
    there.wait_status(answer.json()["order_id"], "Filled")
    there.down()

    again = migrate(here, there)
    assert again.returncode == 0, again.stderr
    assert "a stack has been up on what was moved" in again.stderr
    assert asyncio.run(log_of(here, ORDERS)) == journals[ORDERS], "there is a way back"


def check_rows(stack: Stack, kept: dict[str, int]) -> None:
    """No row is lost, and none is there twice, now that the sink has gone on."""
    keys = {"orders": "order_id", "fills": "exec_id", "positions": "exec_id", "pnl": "exec_id", "risk_events": "seq"}
    for name, key in keys.items():
        query = f"SELECT count(), count_distinct({key}) FROM {name}"
        [[rows, distinct]] = stack.get("questdb", "/exec", query=query)["dataset"]
        assert rows == distinct and rows >= kept[name] > 0, (name, rows, distinct, kept[name])
