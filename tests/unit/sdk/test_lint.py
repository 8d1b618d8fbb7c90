"""The check of a strategy's source."""

from pathlib import Path
from typing import Any

import pytest

from trade2026.sdk import examples
from trade2026.sdk.lint import CALLBACKS, check, doubts


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import time", "the time is ctx.now"),
        ("from datetime import datetime", "ctx.time"),
        ("import random", "randomness is ctx.random"),
        ("import numpy.random", "ctx.random"),
        ("import numpy as np\nx = np.random.rand()", "ctx.random"),
        ("import threading", "no threads"),
        ("import socket", "outside world"),
        ("import requests", "outside world"),
        ("from trade2026.kit import clock", "imports trade2026.sdk"),
        ("open('x')", "no files"),
        ("print(1)", "ctx.log"),
        ("eval('1')", "code is not made"),
        ("hash('a')", "another one in a replay"),
        ("().__class__.__bases__", "leads out"),
        ("def f():\n    global x", "on self"),
        ("async def f(): ...", "answers at once"),
        ("def f(:", "is no Python"),
    ],
)
def test_what_would_break_a_replay_is_found(source: str, said: str) -> None:
    assert any(said in finding.message for finding in check(source))


@pytest.mark.parametrize("path", sorted(Path(examples.__file__).parent.glob("*.py")), ids=lambda path: path.stem)
def test_the_worked_strategies_pass(path: Path) -> None:
    assert check(path.read_text()) == []


def test_a_finding_says_where() -> None:
    assert str(check("x = 1\nimport os")[0]) == "line 2: os must not be imported: it may reach the outside world"


# ── doubts ──────────────────────────────────────────────────────────────────────────────────────────


def doubted(body: str) -> list[str]:
    source = "from trade2026.sdk import Strategy\nclass Mine(Strategy):\n" + body
    names: dict[str, Any] = {"__name__": "mine"}
    exec(source, names)
    return [str(finding) for finding in doubts(names["Mine"], source)]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("on_trad", "line 4: nobody calls on_trad(): did you mean on_trade?"),
        ("onTrade", "line 4: nobody calls onTrade(): did you mean on_trade?"),
        ("on_orders", "line 4: nobody calls on_orders(): did you mean on_order?"),
        ("on_candle", "line 4: nobody calls on_candle(): the platform calls on_start, on_stop, on_trade, on_quote, "),
    ],
)
def test_a_method_that_looks_like_a_callback_and_is_none_is_doubted(name: str, told: str) -> None:
    (found,) = doubted(f"    def on_start(self): pass\n    def {name}(self, what): pass\n")
    assert found.startswith(told)


def test_a_class_without_a_callback_is_doubted() -> None:
    assert doubted("    def warm_up(self): return 3\n") == [
        f"line 2: Mine does nothing: it has none of {', '.join(CALLBACKS)}"
    ]


def test_a_method_that_the_class_calls_itself_is_none_of_our_business() -> None:
    assert doubted("    def on_trade(self, trade): self.on_trades(trade)\n    def on_trades(self, trade): pass\n") == []
    assert doubted("    def on_bar(self, bar): self.once()\n    def once(self): pass\n    def one(self): pass\n") == []
