"""What a person is told of strategies: that they do not answer, have failed again, or were never stopped."""

from typing import Any

import pytest

from trade2026.cli import strategy_states

ROW = {"name": "dip", "status": "running", "reason": "", "halts": [], "account": "main", "symbols": ["BTCUSDT.SIM"]}
BROKEN = {**ROW, "status": "failed", "reason": "ZeroDivisionError: out of luck\n  at line 3", "halts": ["strategy:dip"]}
DOCUMENT = "\n---\nkind: Strategy\nmetadata: {name: dip}\n"


@pytest.fixture
def risk(stack: Any) -> Any:
    """A stack whose risk service is up, too; nothing is stopped."""
    ports = stack.state.running()["ports"]
    stack.state.write_running({"stack": "desk", "host": "127.0.0.1", "ports": {**ports, "risk": ports["oms"]}})
    stack.answers["POST /resume"] = 200, {"scope": "strategy:dip"}
    stack.answers["GET /killed"] = 200, {"killed": []}
    return stack


def silent(stack: Any, manifest: str, hosted: list[str]) -> None:
    """A stack that is up, and whose strategies listen nowhere."""
    running = stack.state.running()
    ports = running["ports"] | {"strategies": running["ports"]["risk"]}
    stack.state.write_running({**running, "ports": ports, "releases": {"strategies": hosted}})
    (stack.state.path / "manifest.yaml").write_text(manifest)
    stack.state.lock()


def test_strategies_that_do_not_answer_are_not_none(cli: Any, stack: Any) -> None:
    silent(stack, f"kind: TradingStack{DOCUMENT}", ["strategies"])
    result = cli("strategy", "list")
    assert (result.code, result.out) == (3, "")
    assert "the strategies (dip) do not answer yet: their process is starting again" in result.err


@pytest.mark.parametrize(
    ("manifest", "hosted"), [("kind: TradingStack", ["strategies"]), (f"kind: TradingStack{DOCUMENT}", [])]
)
def test_a_stack_without_strategies_has_none(cli: Any, stack: Any, manifest: str, hosted: list[str]) -> None:
    silent(stack, manifest, hosted)
    result = cli("strategy", "list")
    assert (result.code, "no strategy runs" in result.out) == (0, True)
    assert cli("strategy", "list", "--json").json == {"strategies": []}


def test_a_stack_that_is_down_is_said_so(cli: Any, stack: Any) -> None:
    silent(stack, f"kind: TradingStack{DOCUMENT}", ["strategies"])
    stack.state.unlock()
    assert cli("strategy", "list").code == 3


def test_a_release_of_one_that_fails_again_says_why_and_that_it_will(cli: Any, risk: Any) -> None:
    again = {**BROKEN, "halts": []}
    risk.answers["GET /strategies/dip"] = [(200, BROKEN), (200, BROKEN), (200, ROW), (200, again)]
    result = cli("strategy", "release", "dip", "--reason", "hope")
    assert result.code == 5
    assert "dip is released, and has failed again: ZeroDivisionError: out of luck; it will fail again" in result.err
    assert "may trade again" not in result.out


@pytest.mark.parametrize(
    ("before", "after", "stopped", "told"),
    [
        (BROKEN, ROW, True, "dip may trade again: it is running\n"),
        ({**ROW, "status": "halted", "halts": ["strategy:dip"]}, ROW, True, "dip may trade again: it is running\n"),
        ({**ROW, "status": "halted"}, {**ROW, "status": "halted", "reason": "news"}, True, "is still halted: news\n"),
        (ROW, ROW, False, "dip was not halted: it is running\n"),
        ({**ROW, "status": "stopped"}, {**ROW, "status": "stopped"}, False, "dip was not halted: it is stopped\n"),
    ],
)
def test_a_release_says_how_the_strategy_is_then(
    cli: Any,
    risk: Any,
    monkeypatch: pytest.MonkeyPatch,
    before: dict[str, Any],
    after: dict[str, Any],
    stopped: bool,
    told: str,
) -> None:
    monkeypatch.setattr(strategy_states, "_WATCH_SECONDS", 0.1)
    risk.answers["GET /strategies/dip"] = [(200, before), (200, after)]
    risk.answers["GET /killed"] = 200, {"killed": [{"scope": "strategy:dip"}] if stopped else []}
    result = cli("strategy", "release", "dip", "--reason", "reviewed")
    assert (result.code, result.err) == (0, "")
    assert result.out.endswith(told)


def test_the_defaults_in_force_are_shown_and_marked(cli: Any, stack: Any) -> None:
    shown = {**ROW, "parameters": {"trades": 30}, "defaults": {"quantity": "0.01"}, "positions": [], "orders": []}
    stack.answers["GET /strategies/dip"] = 200, shown
    assert "trades=30, quantity=0.01 (default)" in cli("strategy", "show", "dip").out
    assert cli("strategy", "show", "dip", "--json").json["defaults"] == {"quantity": "0.01"}


def test_a_backtest_of_one_that_fails_says_so_and_has_its_own_exit_code(cli: Any, tmp_path: Any) -> None:
    (tmp_path / "broken.py").write_text(
        "from trade2026.sdk import Strategy\n\n\nclass Broken(Strategy):\n    def on_start(self):\n        1 / 0\n"
    )
    result = cli("strategy", "backtest", "broken.py", "--out", "out")
    assert result.code == 5
    assert "broken has failed: ZeroDivisionError: division by zero" in result.err
    assert "STRATEGY" in result.out
