"""Bars of the recorded week from a running stack."""

from typing import Any

from bench.stack import wait_for
from tests.e2e.conftest import MakeStack
from tests.e2e.stack import WAIT_SECONDS, Stack


def bars(stack: Stack, **query: Any) -> list[dict[str, Any]]:
    return stack.get("normalizer", "/bars/SIM/BTCUSDT/1s", limit=1_000, **query)["bars"]


def test_bars_of_the_recorded_week_are_answered_and_go_on_after_kill_9(make_stack: MakeStack) -> None:
    stack = make_stack()
    wait_for("some bars are complete", lambda: len(bars(stack)) > 3, WAIT_SECONDS)
    known = bars(stack)
    stack.wait_restarted("venue", stack.kill_process("venue"))
    wait_for("the bars go on", lambda: len(bars(stack)) > len(known) + 3, WAIT_SECONDS)
    again = bars(stack)
    assert again[: len(known)] == known
    ends = [bar["end"] for bar in again]
    assert ends == sorted(set(ends))
    assert all(float(bar["low"]) <= float(bar["open"]) <= float(bar["high"]) for bar in again)
    assert 40_000 < float(again[0]["open"]) < 60_000
    assert sum(bar["trades"] for bar in again) > 0
    (venue,) = stack.get("normalizer", "/quality")["venues"]
    assert venue["venue"] == "SIM"
    assert venue["instruments"][0]["received"] > 0
