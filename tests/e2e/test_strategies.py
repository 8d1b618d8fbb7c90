"""Strategies on a real stack: they trade, survive kill -9, are halted, released and stopped by command."""

import time
from collections import Counter
from pathlib import Path
from typing import Any

from bench.stack import wait_for
from tests.e2e.conftest import MakeStack
from tests.e2e.stack import QUICKSTART, WAIT_SECONDS, Stack

TRADERS = ("maker", "momentum", "reversion")
"""Of the quickstart, each in the account of its name."""
BROKEN = """
from trade2026.sdk import Strategy

class Broken(Strategy):
    def on_start(self):
        self.ctx.buy("0.01", 30000)

    def on_trade(self, trade):
        if self.ctx.orders and self.ctx.orders[0].status == "New":
            raise RuntimeError("out of luck")
"""


def strategies(stack: Stack) -> dict[str, dict[str, Any]]:
    """Every strategy by name."""
    return {row["name"]: row for row in stack.get("strategies", "/strategies")["strategies"]}


def orders(stack: Stack, account: str) -> list[dict[str, Any]]:
    """Every order of an account."""
    return stack.get("oms", "/orders", account=account, limit=1_000)["orders"]


def cli(stack: Stack, *words: str) -> str:
    """A command that must succeed."""
    done = stack.cli("strategy", *words)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def test_three_strategies_trade_and_are_killed_and_halted_and_no_order_is_doubled(make_stack: MakeStack) -> None:
    stack = make_stack(QUICKSTART)
    assert orders(stack, "main") == []
    for name in TRADERS:
        wait_for(f"{name} has a fill", lambda name=name: any(float(o["cum_qty"]) for o in orders(stack, name)), 120)
    check_that_a_trace_begins_with_the_decision(stack)
    for _ in range(2):
        before = strategies(stack)
        old = stack.kill_process("strategies")
        stack.wait_restarted("strategies", old)
        after = strategies(stack)
        assert {row["status"] for row in after.values()} == {"running"}, after
        assert all(after[name]["decisions"] >= before[name]["decisions"] for name in TRADERS)
        wait_for(
            "they go on", lambda now=after: strategies(stack)["maker"]["decisions"] > now["maker"]["decisions"], 60
        )
    for name in TRADERS:
        ids = Counter(order["client_order_id"] for order in orders(stack, name))
        assert set(ids.values()) == {1}
        assert all(each.startswith(f"{name}-") for each in ids)
    check_that_status_shows_them(stack)
    check_that_a_halt_holds_over_a_restart(stack)
    for name in TRADERS:
        cli(stack, "halt", name, "--reason", "the end")
    stack.http("oms").post("/orders/cancel-all", json={"reason": "the end"})
    for name in TRADERS:
        assert_positions_agree(stack, name)


def check_that_a_trace_begins_with_the_decision(stack: Stack) -> None:
    """And with what of the market it was decided on, if that is still there."""
    order = next(order for order in orders(stack, "maker") if float(order["cum_qty"]))
    kinds: list[str] = []

    def whole() -> bool:
        kinds[:] = [event["type"] for event in stack.get("archive", f"/trace/{order['order_id']}")["events"]]
        return "PnlRealized" in kinds

    wait_for("its profit or loss is archived", whole, WAIT_SECONDS)
    assert "OrderDecided" in kinds[:3], kinds
    assert kinds.index("OrderDecided") < kinds.index("OrderAccepted")


def assert_positions_agree(stack: Stack, name: str) -> None:
    """What the strategy holds is what the order service says that its account holds."""

    def agree() -> bool:
        held = {row["symbol"]: row["quantity"] for row in stack.get("oms", f"/positions/{name}")["positions"]}
        own = strategies(stack)[name]["position"]
        return {s: float(q) for s, q in held.items() if float(q)} == {s: float(q) for s, q in own.items() if float(q)}

    wait_for(f"positions of {name} agree", agree, WAIT_SECONDS)


def check_that_status_shows_them(stack: Stack) -> None:
    """What a newcomer looks at first: they run, and what they have earned moves."""

    def shown() -> dict[str, Any]:
        return {row["name"]: row for row in stack.status()["strategies"]}

    assert {shown()[name]["account"] for name in TRADERS} == set(TRADERS)
    for name in TRADERS:
        before = shown()[name]["pnl"]
        wait_for(f"the P&L of {name} moves", lambda name=name, was=before: shown()[name]["pnl"] != was, WAIT_SECONDS)
    assert "maker" in stack.cli("status").stdout


def check_that_a_halt_holds_over_a_restart(stack: Stack) -> None:
    """Until a named person releases it."""
    assert "is the name right?" in cli(stack, "halt", "marker", "--reason", "a slip")
    assert "is the name right?" not in cli(stack, "halt", "maker", "--reason", "news")
    wait_for("it is halted", lambda: strategies(stack)["maker"]["status"] == "halted", WAIT_SECONDS)
    count = len(orders(stack, "maker"))
    decided = strategies(stack)["maker"]["decisions"]
    stack.wait_restarted("strategies", stack.kill_process("strategies"))
    maker = strategies(stack)["maker"]
    assert (maker["status"], maker["reason"]) == ("halted", "news")
    time.sleep(2)
    assert len(orders(stack, "maker")) == count
    cli(stack, "release", "maker", "--reason", "over")
    wait_for("it quotes again", lambda: strategies(stack)["maker"]["decisions"] > decided, WAIT_SECONDS)


def test_a_strategy_that_fails_is_killed_with_its_orders_and_mended_by_another_file(
    make_stack: MakeStack, tmp_path: Path
) -> None:
    stack = make_stack()
    assert "no strategy runs" in cli(stack, "list")
    path = tmp_path / "broken.py"
    path.write_text("import time\n" + BROKEN)
    refused = stack.cli("strategy", "run", str(path))
    assert refused.returncode != 0
    assert "the time is ctx.now" in refused.stderr
    path.write_text(BROKEN)
    stack.cli(
        "strategy", "run", str(path), "--account", "lucky"
    )  # it may have failed by the time that this is answered
    wait_for("it has failed", lambda: strategies(stack)["broken"]["status"] == "failed", 60)
    assert "out of luck" in strategies(stack)["broken"]["reason"]
    wait_for("its order is cancelled", lambda: [o["status"] for o in orders(stack, "lucky")] == ["Canceled"], 60)
    path.write_text(BROKEN.partition("        if")[0] + '        self.ctx.buy("1000")\n')
    cli(stack, "run", str(path), "--account", "lucky")
    assert strategies(stack)["broken"]["status"] == "halted"
    cli(stack, "release", "broken", "--reason", "mended")
    wait_for("it runs", lambda: strategies(stack)["broken"]["status"] == "running", WAIT_SECONDS)
    refused_all = "orders were refused: MAX_ORDER_QUANTITY"
    wait_for("what it is refused is said", lambda: refused_all in strategies(stack)["broken"]["reason"], WAIT_SECONDS)
    assert refused_all in cli(stack, "list")
    slip = stack.cli("strategy", "run", str(path), "--account", "lucky", "--param", "quantity=1")
    assert "nothing was changed: its parameters are wrong" in slip.stderr
    assert strategies(stack)["broken"]["status"] == "running"
    path.write_text(BROKEN.replace('raise RuntimeError("out of luck")', "while True:\n                pass"))
    stack.cli("strategy", "run", str(path), "--account", "lucky")
    wait_for("it is ended", lambda: "did not return" in strategies(stack)["broken"]["reason"], 60)
    over = {"Canceled", "Rejected"}
    wait_for("its orders are cancelled", lambda: {o["status"] for o in orders(stack, "lucky")} == over, 60)
    cli(stack, "stop", "broken")
    assert "strategies" not in stack.pids()
    assert "no strategy" in stack.cli("strategy", "stop", "broken").stderr
