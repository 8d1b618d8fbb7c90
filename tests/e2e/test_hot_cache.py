"""The cache of a running stack: values as they move, and none lost or older in silence after kill -9."""

import json
from typing import Any

from bench.stack import wait_for
from tests.e2e.conftest import MakeStack
from tests.e2e.stack import WAIT_SECONDS, Stack
from websockets.sync.client import connect

TICK, BOOK, POSITION = "tick:SIM:BTCUSDT", "book:SIM:BTCUSDT", "position:cached:SIM:BTCUSDT"


def get(stack: Stack, *keys: str) -> list[Any]:
    answer = stack.http("hot_cache").post("/mget", json={"keys": keys})
    assert answer.status_code == 200, answer.text
    return answer.json()["values"]


def place(found: dict[str, Any]) -> int:
    """The position in the log that a value is as of."""
    return int(found["as_of"].rpartition("/")[2])


def test_values_follow_the_stack_and_after_kill_9_none_is_lost_or_older(make_stack: MakeStack) -> None:
    stack = make_stack()
    order = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.5", "order_type": "MARKET", "account": "cached"}
    assert stack.http("oms").post("/orders", json=order).status_code == 200
    wait_for("the fill is told", lambda: get(stack, POSITION, "pnl:cached")[1], WAIT_SECONDS)
    with connect(stack.url("hot_cache", "/ws/keys", scheme="ws")) as socket:
        socket.send(json.dumps({"op": "subscribe", "prefixes": ["tick:", POSITION]}))
        assert json.loads(socket.recv(timeout=WAIT_SECONDS))["op"] == "subscribe"
        seen = [json.loads(socket.recv(timeout=WAIT_SECONDS)) for _ in range(10)]
    ticks = [place(message) for message in seen if message["key"] == TICK]
    assert ticks == sorted(ticks)
    assert len(ticks) > 5
    before = get(stack, TICK, BOOK, POSITION, "pnl:cached")
    stack.wait_restarted("data", stack.kill_process("data"))
    after = get(stack, TICK, BOOK, POSITION, "pnl:cached")
    assert all(place(new) >= place(old) for old, new in zip(before, after, strict=True))
    assert after[2]["value"] == before[2]["value"]
    assert after[2]["restored"] is True
    wait_for("the market is live again", lambda: "restored" not in get(stack, TICK)[0], WAIT_SECONDS)
    assert stack.get("oms", "/positions/cached")["positions"][0]["quantity"] == after[2]["value"]["quantity"]
