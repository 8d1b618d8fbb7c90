"""A stack whose cache is a Valkey server: what happens to the server costs answers of the cache, and nothing else."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench.stack import ROOT, wait_for
from tests.e2e.stack import WAIT_SECONDS, Stack
from tests.infra import require

from trade2026.local.infra.valkey import Valkey

QUICKSTART = ROOT / "manifests" / "quickstart.yaml"
CACHE = 'spec:\n  stores: {cache: {type: valkey, url: "redis://127.0.0.1:6379"}}\n'
TICK, POSITION = "tick:SIM:BTCUSDT", "position:cached:SIM:BTCUSDT"


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """Without strategies, so that only the test trades."""
    require(Valkey(tmp_path / "none"))
    manifest = tmp_path / "valkey.yaml"
    manifest.write_text(QUICKSTART.read_text().partition("\n---\n")[0].replace("spec:\n", CACHE, 1) + "\n")
    services = ["oms", "gateway", "normalizer", "hot_cache"]
    found = Stack(manifest, tmp_path / "state", services=services, with_infra=True)
    try:
        found.up()
        yield found
    finally:
        found.close()


def server_of(stack: Stack) -> int | None:
    return stack.status()["infra"][0]["pid"]


def read(stack: Stack, key: str) -> Any:
    """The value, or the status where there is none."""
    answer = stack.http("hot_cache").get(f"/get/{key}")
    return answer.json() if answer.status_code == 200 else answer.status_code


def place(found: Any) -> int:
    """Of the last trade in its topic; -1 where nobody answers."""
    return int(found["as_of"].rpartition("/")[2]) if isinstance(found, dict) else -1


def until_told_beyond(stack: Stack, behind: int) -> int:
    """Wait for a later trade than that at a place, and return its place."""
    places = [behind]

    def later() -> bool:
        places.append(place(read(stack, TICK)))
        return places[-1] > behind

    wait_for(f"a trade after {behind}", later, WAIT_SECONDS)
    return places[-1]


def trade(stack: Stack) -> None:
    order = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.5", "order_type": "MARKET", "account": "cached"}
    answer = stack.http("oms").post("/orders", json=order)
    assert answer.status_code == 200, answer.text


def holds(stack: Stack, quantity: str) -> bool:
    found = read(stack, POSITION)
    return isinstance(found, dict) and found["value"]["quantity"] == quantity


def test_a_server_that_is_killed_or_hangs_costs_answers_of_the_cache_and_nothing_else(stack: Stack) -> None:
    trade(stack)
    wait_for("the position is told", lambda: holds(stack, "0.5"), WAIT_SECONDS)
    before, server = until_told_beyond(stack, -1), server_of(stack)
    assert server is not None
    os.kill(server, signal.SIGKILL)
    trade(stack)
    wait_for("another server", lambda: server_of(stack) not in (None, server), WAIT_SECONDS)
    wait_for("the position is told", lambda: holds(stack, "1"), WAIT_SECONDS)
    before = until_told_beyond(stack, before)

    hanging = server_of(stack)
    assert hanging is not None
    os.kill(hanging, signal.SIGSTOP)
    try:
        wait_for("health says so", lambda: unwell(stack), WAIT_SECONDS)
        answer = stack.http("hot_cache").get(f"/get/{TICK}")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert stack.http("hot_cache").get("/readyz").status_code == 200
        trade(stack)
    finally:
        os.kill(hanging, signal.SIGCONT)
    wait_for("the position is told", lambda: holds(stack, "1.5"), WAIT_SECONDS)
    until_told_beyond(stack, before)
    wait_for("it is well", lambda: not unwell(stack), WAIT_SECONDS)


def unwell(stack: Stack) -> bool:
    return stack.http("hot_cache").get("/health").json()["checks"]["cache"]["status"] != "ok"
