"""A strategy whose symbols several processes share: what its test waits for, and what it reads in the logs."""

import json
from typing import Any

from e2e.cluster import wait_for
from e2e.desk import Desk
from tests.shared_symbols import accepted, check_halt, check_handovers, check_orders, process_of

SYMBOLS = ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
SHARER = {
    "apiVersion": "trade2026.io/v1alpha1",
    "kind": "Strategy",
    "metadata": {"name": "sharer"},
    "spec": {
        "source": {"class": "trade2026.sdk.examples.quoting:Quoting"},
        "symbols": SYMBOLS,
        "account": "sharer",
        "parameters": {"every": "200ms", "half_spread_bps": "20"},
        "risk": {"maxExecutions": {"count": 100_000, "per": "1h"}},
    },
}
STRATEGIES = "strategies.events"
PROCESSES = ["sharer", "sharer.1", "sharer.2"]
"""How the ids of their orders begin."""


def breaking() -> str:
    """Quotes that are executed at once, and hardly any executions allowed."""
    rate = {"maxExecutions": {"count": 1, "per": "1h"}}
    return json.dumps({"spec": {"risk": rate, "parameters": {"every": "200ms", "half_spread_bps": "-5"}}})


def until_runs(desk: Desk, replicas: int) -> None:
    """As its newest manifest says, in so many processes."""

    def runs() -> bool:
        found = desk.get("strat", "sharer")
        status = found.get("status", {})
        ready = [each["status"] for each in status.get("conditions", []) if each["type"] == "Ready"]
        is_new = status.get("observedGeneration") == found["metadata"]["generation"]
        return is_new and ready == ["True"] and status.get("replicas") == replicas

    wait_for(f"it runs in {replicas} processes", runs)


def until_trades(desk: Desk, processes: set[str], symbols: int = 1) -> None:
    """Each of these processes sends orders from now on, in so many symbols."""
    begin = len(events_of(desk, "orders.events"))

    def trades() -> bool:
        new = accepted(events_of(desk, "orders.events")[begin:], "sharer")
        return all(
            len({each["instrument"] for each in new if process_of(each) == name}) >= symbols for name in processes
        )

    wait_for(f"{sorted(processes)} trade", trades)


def events_of(desk: Desk, topic: str, partition: int = 0) -> list[dict[str, Any]]:
    """All that is in the log."""
    words = ["exec", "-n", desk.namespace, "desk-0", "-c", "orders", "--", "python3", "-m", "trade2026"]
    tail = ["events", "tail", "--topic", topic, "--partition", str(partition), "--from", "0", "--json"]
    said = desk.cluster.kubectl(*words, *tail, "--state-dir", "/var/lib/trade2026")
    return [json.loads(line) for line in said.splitlines()]


def check(desk: Desk, before: int) -> None:
    """That its symbols were handed over, and that no order is doubled or lost.

    Args:
        before: How many events strategies before it have in the log of its first process.
    """
    orders = events_of(desk, "orders.events")
    logs = {name: events_of(desk, STRATEGIES, number) for number, name in enumerate(PROCESSES)}
    logs[PROCESSES[0]] = logs[PROCESSES[0]][before:]
    turns = check_handovers(orders, "sharer")
    assert turns.keys() == {f"{symbol}.SIM" for symbol in SYMBOLS}
    assert {process for each in turns.values() for process in each} == {*PROCESSES}
    check_orders(orders, logs, "sharer")
    check_halt(orders, "sharer")
