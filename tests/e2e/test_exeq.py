"""A parent on a real stack goes on after kill -9 of its process, and no child is doubled."""

from collections import Counter
from typing import Any

from bench.stack import wait_for
from tests.e2e.conftest import MakeStack
from tests.e2e.stack import WAIT_SECONDS, Stack

PARENT = {
    "symbol": "BTCUSDT",
    "side": "buy",
    "quantity": "3",
    "algo": "twap",
    "duration": "300s",
    "slices": 300,
    "account": "worked",
}


def parent(stack: Stack, parent_id: str) -> dict[str, Any]:
    return stack.get("exeq", f"/parents/{parent_id}")


def test_a_half_done_parent_goes_on_after_kill_9(make_stack: MakeStack) -> None:
    stack = make_stack()
    answer = stack.http("exeq").post("/parents", json=PARENT)
    assert answer.status_code == 200, answer.text
    parent_id = answer.json()["parent_id"]
    for _ in range(3):
        known = len(parent(stack, parent_id)["children"])
        wait_for("more children", lambda n=known: len(parent(stack, parent_id)["children"]) > n + 1, WAIT_SECONDS)
        stack.wait_restarted("risk", stack.kill_process("risk"))
    known = len(parent(stack, parent_id)["children"])
    wait_for("it goes on", lambda: len(parent(stack, parent_id)["children"]) > known, WAIT_SECONDS)
    assert stack.http("exeq").post(f"/parents/{parent_id}/cancel").status_code == 200
    wait_for("it has ended", lambda: parent(stack, parent_id)["status"] == "Canceled", WAIT_SECONDS)
    ended = parent(stack, parent_id)
    orders = stack.get("oms", "/orders", account="worked", limit=1_000)["orders"]
    assert set(Counter(order["client_order_id"] for order in orders).values()) == {1}
    assert {order["client_order_id"] for order in orders} <= {child["client_order_id"] for child in ended["children"]}
    assert all(order["leaves_qty"] == "0" or order["status"] == "Canceled" for order in orders)
    assert (
        sum(float(order["cum_qty"]) for order in orders) == float(ended["cum_qty"])
        or abs(sum(float(order["cum_qty"]) for order in orders) - float(ended["cum_qty"])) < 1e-9
    )
