"""A run is judged by what it measured, and says plainly what was not reached."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]


def load() -> Any:
    spec = importlib.util.spec_from_file_location("bench_goals", ROOT / "bench" / "goals.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_goals"] = module
    spec.loader.exec_module(module)
    return module


goals = load()


def test_only_what_was_measured_is_judged() -> None:
    found = goals.judge({"check": {"p50_ms": 0.1}, "orders_64": {"of_echo": 0.4, "rate_per_s": 5_000}})
    assert [verdict.reached for verdict in found] == [False, True, True]


def test_a_miss_is_marked_and_says_the_bound() -> None:
    (verdict,) = goals.judge({"check": {"p50_ms": 0.7}})
    line = goals.goal_line(verdict)
    assert line.startswith("✗")
    assert "at most 0.5 ms" in line
    assert "quiet machine" in line


def test_a_row_shows_its_figures_and_its_failures() -> None:
    row = {"rate_per_s": 1234, "p50_ms": 0.5, "cpu_us": {"client": 9.5, "orders": 30.0}, "failed": 2}
    line = goals.row_line("orders_1", row)
    assert "1,234/s" in line and "p50 0.500" in line and "orders 30" in line and "2 FAILED" in line
