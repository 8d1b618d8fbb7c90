"""By the log alone: that symbols which processes of a strategy share were handed over, and no order doubled or lost."""

from collections.abc import Sequence
from typing import Any

Events = Sequence[dict[str, Any]]
"""As `trade2026 events tail --from 0 --json` prints them."""

_CLOSED = ("OrderCanceled", "OrderExpired", "OrderRejected")


def accepted(orders: Events, strategy: str) -> list[dict[str, Any]]:
    """The specs of the orders of a strategy that were accepted."""
    found = (each["data"]["spec"] for each in orders if each["type"] == "OrderAccepted")
    return [spec for spec in found if spec.get("strategy") == strategy]


def process_of(spec: dict[str, Any]) -> str:
    """How the ids of a process begin: `maker`, `maker.1` …"""
    return str(spec["client_order_id"]).rpartition("-")[0]


def check_handovers(orders: Events, strategy: str) -> dict[str, list[str]]:
    """That no symbol is traded while another process has an order open in it; returns who has traded each in turn."""
    open_: dict[str, tuple[str, str]] = {}
    traded: dict[str, list[str]] = {}
    for each in orders:
        kind, data = each["type"], each["data"]
        if kind == "OrderAccepted" and data["spec"].get("strategy") == strategy:
            instrument, process = data["spec"]["instrument"], process_of(data["spec"])
            others = {name for name, where in open_.values() if where == instrument} - {process}
            assert not others, f"{instrument} is traded by {process} at {each['seq']}, and {others} has orders open"
            open_[data["order_id"]] = process, instrument
            turns = traded.setdefault(instrument, [])
            if turns[-1:] != [process]:
                turns.append(process)
        elif kind in _CLOSED or (kind == "OrderFilled" and not float(data.get("leaves_qty", 0))):
            open_.pop(data["order_id"], None)
    return traded


def check_orders(orders: Events, logs: dict[str, Events], strategy: str) -> None:
    """That each decision has one answer.

    Args:
        logs: Of each process, by how its ids begin.
    """
    kinds = ("OrderAccepted", "OrderRefused")
    specs = [each["data"]["spec"] for each in orders if each["type"] in kinds]
    names = [spec["client_order_id"] for spec in specs if spec.get("strategy") == strategy]
    assert len(names) == len({*names}), "an order was doubled"
    decided: set[str] = set()
    for process, log in logs.items():
        mine = [each["data"]["spec"]["client_order_id"] for each in log if each["type"] == "OrderDecided"]
        assert all(name.startswith(f"{process}-") for name in mine)
        refused = {f"{process}-{each['data']['number']}" for each in log if each["type"] == "DecisionRefused"}
        decided |= {*mine} - refused
    assert decided <= {*names}, f"decided and never seen: {sorted(decided - {*names})[:5]}"
    assert {*names} <= decided, f"seen and never decided: {sorted({*names} - decided)[:5]}"


def check_halt(orders: Events, strategy: str) -> None:
    """That the halt is the event after the execution that broke the limit, and no order came after it."""
    (halt,) = [each for each in orders if each["data"].get("scope") == f"strategy:{strategy}"]
    fills = [
        each["seq"] for each in orders if each["type"] == "OrderFilled" and each["data"].get("strategy") == strategy
    ]
    assert halt["seq"] == max(seq for seq in fills if seq < halt["seq"]) + 1
    later = [each for each in orders if each["seq"] > halt["seq"]]
    assert not accepted(later, strategy), "an order was accepted after the halt"
