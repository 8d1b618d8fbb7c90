"""What a shell completes."""

import os
import socket
import subprocess
import sys
from typing import Any

import pytest


def asked_as_bash_does(line: str) -> dict[str, str]:
    """The environment of a command that is to complete: the words, and which of them is being typed."""
    return {"_TRADE2026_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}


@pytest.fixture
def complete(cli: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    def complete(line: str) -> list[str]:
        with monkeypatch.context() as patched:
            for name, value in asked_as_bash_does(line).items():
                patched.setenv(name, value)
            done = cli()
        assert done.err == ""
        return done.out.split()

    return complete


def test_a_shell_is_answered_by_the_command_itself() -> None:
    command = [sys.executable, "-c", "from trade2026.cli import main; main()"]
    environment = os.environ | asked_as_bash_does("trade2026 order submit BTCUSDT s")
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert (done.stdout.split(), done.stderr) == (["sell"], "")


def test_ids_accounts_and_scopes_of_the_stack_are_completed(stack: Any, complete: Any) -> None:
    stack.answers["GET /orders?limit=100"] = (
        200,
        {"orders": [{"order_id": "o0-1", "account": "desk"}, {"order_id": "x"}]},
    )
    stack.answers["GET /orders?limit=100&status=open"] = (200, {"orders": [{"order_id": "o0-1"}]})
    stack.answers["GET /pnl"] = (200, {"accounts": [{"account": "main"}, {"account": "alpha"}]})
    assert complete("trade2026 order show o") == ["o0-1"]
    assert complete("trade2026 order cancel ") == ["o0-1"]
    assert complete("trade2026 positions ") == ["alpha", "desk", "main"]
    assert complete("trade2026 kill --scope account:a") == ["account:alpha"]


def test_strategies_and_symbols_of_the_stack_are_completed_and_no_word_that_a_shell_would_cut(
    stack: Any, complete: Any
) -> None:
    stack.answers["GET /pnl"] = (200, {"accounts": [{"account": "m a i n"}, {"account": "m#1"}, {"account": "m-2"}]})
    stack.answers["GET /strategies"] = (200, {"strategies": [{"name": "maker"}, {"name": "momentum"}]})
    stack.answers["GET /instruments"] = (200, {"instruments": [{"symbol": "BTCUSDT.SIM"}]})
    assert complete("trade2026 positions m") == ["m-2"]
    assert complete("trade2026 strategy halt ma") == ["maker"]
    assert complete("trade2026 kill --scope strategy:mo") == ["strategy:momentum"]
    assert complete("trade2026 order submit B") == ["BTCUSDT.SIM"]


def test_names_from_the_code_are_completed_without_a_stack(complete: Any) -> None:
    assert complete("trade2026 events tail --topic v") == ["venue.reports"]
    assert complete("trade2026 order submit BTCUSDT s") == ["sell"]
    assert "max_order_value=" in complete("trade2026 limits tighten max_o")


def test_parent_orders_are_completed(stack: Any, complete: Any) -> None:
    stack.answers["GET /parents?limit=100"] = (200, {"parents": [{"parent_id": "e0-1"}, {"parent_id": "e0-0"}]})
    stack.answers["GET /parents?limit=100&status=open"] = (200, {"parents": [{"parent_id": "e0-1"}]})
    assert complete("trade2026 parent show e") == ["e0-1", "e0-0"]
    assert complete("trade2026 parent cancel ") == ["e0-1"]
    assert complete("trade2026 parent submit BTCUSDT buy 1 --algo V") == ["VWAP"]


def test_a_stack_that_does_not_answer_offers_nothing(stack: Any, complete: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens there
        ports = stack.state.running()["ports"] | {"oms": taken.getsockname()[1]}
        stack.state.write_running({"stack": "desk", "host": "127.0.0.1", "ports": ports})
        assert complete("trade2026 order show ") == []
