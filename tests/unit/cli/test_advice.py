"""What a person is told beside the answer: whose name is nobody's, what still holds, what to do."""

from pathlib import Path
from typing import Any

import pytest

MANIFESTS = Path(__file__).parents[3] / "manifests"
QUICKSTART = str(MANIFESTS / "quickstart.yaml")


@pytest.mark.parametrize("quantity", ["-1", "-0.5", "-.5"])
@pytest.mark.parametrize("what", ["order", "parent"])
def test_a_negative_quantity_is_no_option_but_a_mistake_that_is_explained(cli: Any, what: str, quantity: str) -> None:
    result = cli(what, "submit", "BTCUSDT", "buy", quantity)
    assert result.code == 2
    assert f"a quantity is above 0, not {quantity}" in result.err


def test_an_account_that_has_not_traded_has_no_positions_and_no_profit(cli: Any, stack: Any) -> None:
    stack.answers["GET /positions/nobody"] = 200, {"account": "nobody", "positions": []}
    stack.answers["GET /pnl/nobody"] = 404, {"detail": "it has not traded", "status": 404, "code": "unknown_account"}
    for command, told in (("positions", "nobody has no positions"), ("pnl", "nobody has no profit or loss")):
        result = cli(command, "nobody")
        assert (result.code, result.err) == (0, "")
        assert told in result.out
    assert cli("pnl", "nobody", "--json").json == {"account": "nobody", "by_symbol": []}


@pytest.mark.parametrize(
    ("scope", "halt", "told"),
    [
        ("stack", False, ["account:main is released, but may not trade yet", "stack is killed (by ann: prices)"]),
        ("strategy:mm", True, ["account:main may trade again", "strategy:mm is halted (by ann: prices)"]),
    ],
)
def test_a_release_names_the_stops_that_still_hold(
    cli: Any, stack: Any, scope: str, halt: bool, told: list[str]
) -> None:
    ports = stack.state.running()["ports"]
    stack.state.write_running({"stack": "desk", "host": "127.0.0.1", "ports": {**ports, "risk": ports["oms"]}})
    stop = {"scope": scope, "halt": halt, "by": "ann", "reason": "prices"}
    stack.answers["POST /resume"] = 200, {"scope": "account:main"}
    held = {**stop, "scope": "account:main"}
    stack.answers["GET /killed"] = [(200, {"killed": [stop, held]}), (200, {"killed": [stop]})]
    result = cli("resume", "--scope", "account:main", "--reason", "looked at it")
    assert result.code == 0
    assert all(line in result.out for line in told)
    again = cli("resume", "--scope", "account:main", "--reason", "x", "--json").json
    assert (again["still_stopped"], again["was_stopped"]) == ([stop], False)


def test_a_release_of_what_is_not_stopped_says_so(cli: Any, stack: Any) -> None:
    ports = stack.state.running()["ports"]
    stack.state.write_running({"stack": "desk", "host": "127.0.0.1", "ports": {**ports, "risk": ports["oms"]}})
    stack.answers["POST /resume"] = 200, {"scope": "account:mian"}
    stack.answers["GET /killed"] = 200, {"killed": []}
    stack.answers["GET /orders?account=mian&limit=1"] = 200, {"orders": []}
    stack.answers["GET /pnl"] = 200, {"accounts": [{"account": "main"}]}
    result = cli("resume", "--scope", "account:mian", "--reason", "looked at it")
    assert result.code == 0
    assert result.out.startswith(
        "account:mian was not stopped: nothing is released\nis the name right? No account 'mian'"
    )
    assert "did you mean 'main'?" in result.out


@pytest.mark.parametrize(
    ("scope", "told"),
    [
        ("account:mian", "is the name right? No account 'mian' is defined here or has orders; did you mean 'main'?"),
        (
            "strategy:makr",
            "is the name right? No strategy 'makr' is defined here or has orders; did you mean 'maker'?",
        ),
        ("account:main", ""),
        ("account:old", ""),
        ("strategy:maker", ""),
        ("strategy:by-hand", ""),
        ("strategy:stopped", ""),
        ("trader:nobody", ""),
        ("stack", ""),
    ],
)
def test_a_kill_is_done_and_says_whose_name_is_nobodys(cli: Any, stack: Any, scope: str, told: str) -> None:
    (stack.state.path / "manifest.yaml").write_text(Path(QUICKSTART).read_text())
    stack.answers["POST /kill"] = 200, {"scope": scope}
    stack.answers["GET /pnl"] = 200, {"accounts": [{"account": "main"}]}
    stack.answers["GET /orders?account=mian&limit=1"] = 200, {"orders": []}
    stack.answers["GET /orders?account=old&limit=1"] = 200, {"orders": [{"order_id": "o0-1"}]}
    stack.answers["GET /orders?limit=1000"] = 200, {"orders": [{"strategy": "by-hand"}, {}]}
    stack.answers["GET /strategies"] = 200, {"strategies": [{"name": "stopped"}]}
    result = cli("kill", "--scope", scope, "--reason", "test")
    assert (result.code, f"{scope} is killed" in result.out) == (0, True)
    assert ("is the name right?" in result.out) == bool(told)
    assert told in result.out
    assert cli("kill", "--scope", scope, "--reason", "test", "--json").json["known"] is not bool(told)


def test_whose_name_it_is_can_stay_open_but_the_kill_is_done(cli: Any, stack: Any) -> None:
    stack.answers["POST /kill"] = 200, {"scope": "account:mian"}
    result = cli("kill", "--scope", "account:mian", "--reason", "test")
    assert (result.code, "is the name right?" in result.out) == (0, False)


@pytest.mark.parametrize(
    ("account", "others", "told"), [("mian", [], True), ("mian", ["o0-1"], False), ("main", [], False)]
)
def test_the_first_order_of_a_new_account_is_told(
    cli: Any, stack: Any, account: str, others: list[str], told: bool
) -> None:
    (stack.state.path / "manifest.yaml").write_text(Path(QUICKSTART).read_text())
    stack.answers["POST /orders"] = 200, {"order_id": "o0-2", "status": "PendingNew"}
    orders = [{"order_id": each} for each in ["o0-2", *others]]
    stack.answers[f"GET /orders?account={account}&limit=2"] = 200, {"orders": orders}
    result = cli("order", "submit", "BTCUSDT", "buy", "1", "--account", account)
    assert result.out == "o0-2 PendingNew\n"
    assert result.err == ("note: 'mian' is a new account; did you mean 'main'?\n" if told else "")


def test_a_release_says_that_it_could_not_ask_what_else_is_stopped_and_where(cli: Any, stack: Any) -> None:
    stack.answers["POST /resume"] = 200, {"scope": "account:main"}
    risk = f"risk of desk at 127.0.0.1:{stack.state.running()['ports']['risk']} is not listening"
    result = cli("resume", "--scope", "account:main", "--reason", "looked at it")
    assert result.code == 0
    assert "account:main is released (by oms)" in result.out
    assert "may trade again" not in result.out
    assert risk in result.out
    told = cli("resume", "--scope", "account:main", "--reason", "x", "--json").json
    assert (told["still_stopped"], told["by"]) == (None, "oms")
    assert len(told["failures"]) == 2
    assert all(risk in failure for failure in told["failures"])
