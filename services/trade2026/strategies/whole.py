"""A strategy as one, of what each of the processes says that share its symbols. Pure."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

_WORST_FIRST = ("failed", "halted", "starting", "stopped", "running")
_SUMS = ("decisions", "open_orders", "shards")
_AMOUNTS = ("pnl", "drawdown")
_NOTHING: dict[str, Any] = {"symbols": [], "position": {}, **dict.fromkeys(_SUMS, 0), **dict.fromkeys(_AMOUNTS, "0")}
"""Of a process that does not answer."""


def whole(views: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One view of a strategy: the worst status with its reason, sums of what adds up, all symbols."""
    first, wanted = views[0], max(view["shards_wanted"] for view in views)
    here = sum(view["shards"] for view in views)
    if here < wanted:
        why = f"{here} of the {wanted} processes that share its symbols answer"
        views = [*views, {**first, "status": "starting", "reason": why, **_NOTHING}]
    elif len(views) == 1:
        return first
    worst = min(views, key=lambda view: _WORST_FIRST.index(view["status"]))
    return {
        **first,
        "status": worst["status"],
        "reason": worst["reason"],
        "symbols": [symbol for view in views for symbol in view["symbols"]],
        "halts": sorted({halt for view in views for halt in view["halts"]}),
        "position": {symbol: held for view in views for symbol, held in view["position"].items()},
        **{name: sum(view[name] for view in views) for name in _SUMS},
        **{name: str(sum((Decimal(view[name]) for view in views), Decimal(0))) for name in _AMOUNTS},
        "last_signal_time": max(view["last_signal_time"] for view in views),
        "time": max(view["time"] for view in views),
    }


def whole_details(views: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The same with positions and orders of all."""
    lists = {name: [each for view in views for each in view[name]] for name in ("positions", "orders")}
    return {**whole(views), **lists}


def together(answers: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Every strategy, by name, of what each process says of those that it runs."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for answer in answers:
        for view in answer:
            by_name.setdefault(view["name"], []).append(view)
    return [whole(by_name[name]) for name in sorted(by_name)]
