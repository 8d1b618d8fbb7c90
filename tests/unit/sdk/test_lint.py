"""The check of a strategy's source."""

from pathlib import Path

import pytest

from trade2026.sdk import examples
from trade2026.sdk.lint import check


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
