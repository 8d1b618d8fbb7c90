"""What must hold, and whether it does: each goal names a row, a figure in it and a bound."""

from collections.abc import Callable
from typing import Any, NamedTuple

Report = dict[str, dict[str, Any]]


class Goal(NamedTuple):
    """`figure` is read from the row; it is reached at most, or at least, at `bound`."""

    text: str
    row: str
    figure: Callable[[dict[str, Any]], float]
    bound: float
    unit: str
    at_least: bool = False
    quiet: bool = True
    """It depends on what else the machine does: a miss beside other load says little."""


class Verdict(NamedTuple):
    """What became of a goal in one run."""

    goal: Goal
    value: float
    reached: bool


def _of(name: str) -> Callable[[dict[str, Any]], float]:
    return lambda row: row[name]


GOALS = (
    Goal("single orders, of the echo's rate", "orders_64", lambda row: 100 * row["of_echo"], 50, "%", True, False),
    Goal("single orders", "orders_64", _of("rate_per_s"), 3_000, "/s", True),
    Goal("1,000 orders/s open loop, p50", "open_loop_1000", _of("p50_ms"), 3, "ms"),
    Goal("1,000 orders/s open loop, p99", "open_loop_1000", _of("p99_ms"), 15, "ms"),
    Goal("orders by REST batch", "rest_batch_100", _of("orders_per_s"), 20_000, "/s", True),
    Goal("orders by WebSocket batch", "websocket_batch_100", _of("orders_per_s"), 20_000, "/s", True),
    Goal("/check closed loop, p50", "check", _of("p50_ms"), 0.5, "ms"),
    Goal("risk check, CPU", "check_in_process", _of("us"), 10, "µs", quiet=False),
    Goal("order decision with its fold, CPU", "decide_and_apply", _of("us"), 25, "µs", quiet=False),
    Goal("growth of memory from 100,000 to 1,000,000 orders", "memory_1000000", _of("growth"), 1.5, "×", quiet=False),
    Goal("restart with a million events", "restart", _of("seconds"), 5, "s"),
    Goal("normalizer, CPU", "normalize", _of("ticks_per_s"), 100_000, "/s", True, quiet=False),
    Goal("market data into the lake, CPU", "lake", _of("ticks_per_s"), 100_000, "/s", True, quiet=False),
    Goal("ticks into the time-series store, CPU", "store", _of("ticks_per_s"), 100_000, "/s", True, quiet=False),
    Goal("from a trade to its order's acknowledgement, p50", "trade_to_acknowledgement", _of("p50_ms"), 5, "ms"),
    Goal("from a trade to its order's acknowledgement, p99", "trade_to_acknowledgement", _of("p99_ms"), 25, "ms"),
    Goal("memory of every process of the quickstart", "footprint", _of("mib_all"), 600, "MiB", quiet=False),
    Goal("CPU of every process of the quickstart", "footprint", lambda row: 100 * row["cores_all"], 20, "%"),
    Goal("start of the quickstart", "footprint", _of("seconds"), 10, "s"),
    Goal("restart with a million events after kill -9", "restart_after_kill", _of("seconds"), 5, "s"),
    Goal("restart with a million orders that are closed", "restart_closed", _of("seconds"), 5, "s"),
    Goal("on Kafka, 1,000 orders/s open loop, p50", "kafka_open_loop_1000", _of("p50_ms"), 6, "ms"),
    Goal("on Kafka, 1,000 orders/s open loop, p99", "kafka_open_loop_1000", _of("p99_ms"), 25, "ms"),
)


def judge(report: Report) -> list[Verdict]:
    """Return the goals that this run has measured."""
    found: list[Verdict] = []
    for goal in GOALS:
        if goal.row in report:
            value = goal.figure(report[goal.row])
            found.append(Verdict(goal, value, value >= goal.bound if goal.at_least else value <= goal.bound))
    return found


def goal_line(verdict: Verdict) -> str:
    """One goal for a person."""
    goal = verdict.goal
    sign = "✓" if verdict.reached else "✗"
    bound = f"{'at least' if goal.at_least else 'at most'} {goal.bound:,g} {goal.unit}"
    hint = "  (alone on a quiet machine?)" if goal.quiet and not verdict.reached else ""
    return f"{sign} {goal.text:<50} {verdict.value:>12,.2f} {goal.unit:<3} {bound}{hint}"


def row_line(name: str, row: dict[str, Any]) -> str:
    """One measurement for a person."""
    shown = {
        "us": "{:.2f} µs of CPU",
        "ticks_per_s": "{:,} ticks/s",
        "mib_all": "{} MiB",
        "cores_all": "{:.3f} cores",
        "rate_per_s": "{:>7,}/s",
        "orders_per_s": "{:,} orders/s",
        "p50_ms": "p50 {:.3f}",
        "p99_ms": "p99 {:.3f} ms",
        "of_echo": "{:.0%} of echo",
        "asked": "{:,} orders",
        "events": "{:,} events",
        "open_orders": "{:,} open orders",
        "seconds": "{:.2f} s",
        "to_fill_p50_ms": "to fill p50 {:.1f}",
        "to_fill_p99_ms": "p99 {:.1f} ms",
        "drained_seconds": "drained in {:.1f} s",
        "mib": "MiB {}",
        "growth": "{:.2f} × of a tenth",
        "highest_tried": "(tried up to {:,}/s)",
    }
    parts = [text.format(row[key]) for key, text in shown.items() if row.get(key) is not None]
    if row.get("cpu_us"):
        parts.append("CPU µs each: " + " ".join(f"{who} {us:g}" for who, us in row["cpu_us"].items()))
    if row.get("cores"):
        parts.append("cores: " + " ".join(f"{who} {cores:g}" for who, cores in row["cores"].items()))
    if row.get("lag_max"):
        parts.append("lag ≤ " + " ".join(f"{who} {lag:,}" for who, lag in row["lag_max"].items()))
    if row.get("failed"):
        parts.append(f"{row['failed']} FAILED")
    return f"{name:<22} " + "  ".join(parts)
