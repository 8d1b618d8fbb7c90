"""`kubectl scale strat` on a real cluster: symbols pass from process to process while orders flow."""

import json
from typing import Any

from e2e.beside import Operator
from e2e.cluster import Cluster, wait_for
from e2e.desk import Desk, manifest
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
PROCESSES = ["sharer", "sharer.1", "sharer.2"]
"""How the ids of their orders begin."""


def test_a_strategy_scales_by_its_symbols_and_back_and_no_order_is_doubled_or_lost(
    cluster: Cluster, namespace: str, operator: Operator
) -> None:
    desk = Desk(cluster, namespace)
    operator.start("one")
    stack = manifest()
    stack["spec"]["instruments"] = [{**stack["spec"]["instruments"][0], "symbol": symbol} for symbol in SYMBOLS]
    desk.kubectl("apply", "-f", "-", given=stack)
    desk.kubectl("apply", "-f", "-", given=SHARER)
    desk.until("Ready")
    _until_runs(desk, 1)
    said = desk.kubectl("scale", "strat", "sharer", "--replicas=4", check=False)
    assert desk.get("strat", "sharer")["spec"]["replicas"] == 1, said
    pod = desk.pods()["desk-0"]

    desk.kubectl("scale", "strat", "sharer", "--replicas=3")
    _until_runs(desk, 3)
    _until_trades(desk, {*PROCESSES})
    desk.kubectl("delete", "pod", "desk-strategies-1", "--grace-period=0", "--force")
    _until_runs(desk, 3)
    _until_trades(desk, {*PROCESSES})
    desk.kubectl("scale", "strat", "sharer", "--replicas=1")
    _until_runs(desk, 1)
    _until_trades(desk, {"sharer"}, len(SYMBOLS))

    desk.kubectl("scale", "strat", "sharer", "--replicas=2")
    _until_runs(desk, 2)
    desk.kubectl("patch", "strat", "sharer", "--type=merge", "-p", _breaking(desk))
    desk.kubectl("wait", "--for=jsonpath={.status.stage}=Halted", "strat/sharer", "--timeout=180s")
    assert desk.pods()["desk-0"] == pod
    _check(desk)
    desk.kubectl("delete", "strat", "sharer", "--timeout=120s")


def _breaking(desk: Desk) -> str:
    """Quotes that are executed at once, and hardly any executions allowed."""
    rate = {"maxExecutions": {"count": 1, "per": "1h"}}
    return json.dumps({"spec": {"risk": rate, "parameters": {"every": "200ms", "half_spread_bps": "-5"}}})


def _until_runs(desk: Desk, replicas: int) -> None:
    def runs() -> bool:
        found = desk.get("strat", "sharer")
        status = found.get("status", {})
        ready = [each["status"] for each in status.get("conditions", []) if each["type"] == "Ready"]
        is_new = status.get("observedGeneration") == found["metadata"]["generation"]
        return is_new and ready == ["True"] and status.get("replicas") == replicas

    wait_for(f"it runs in {replicas} processes", runs)


def _until_trades(desk: Desk, processes: set[str], symbols: int = 1) -> None:
    """Each of these processes sends orders from now on, in so many symbols."""
    begin = len(_events(desk, "orders.events"))

    def trades() -> bool:
        new = accepted(_events(desk, "orders.events")[begin:], "sharer")
        return all(
            len({each["instrument"] for each in new if process_of(each) == name}) >= symbols for name in processes
        )

    wait_for(f"{sorted(processes)} trade", trades)


def _events(desk: Desk, topic: str, partition: int = 0) -> list[dict[str, Any]]:
    words = [
        "exec",
        "-n",
        desk.namespace,
        "desk-0",
        "-c",
        "orders",
        "--",
        "python3",
        "-m",
        "trade2026",
        "events",
        "tail",
    ]
    where = ["--topic", topic, "--partition", str(partition), "--from", "0", "--json"]
    said = desk.cluster.kubectl(*words, *where, "--state-dir", "/var/lib/trade2026")
    return [json.loads(line) for line in said.splitlines()]


def _check(desk: Desk) -> None:
    orders = _events(desk, "orders.events")
    logs = {name: _events(desk, "strategies.events", number) for number, name in enumerate(PROCESSES)}
    turns = check_handovers(orders, "sharer")
    assert turns.keys() == {f"{symbol}.SIM" for symbol in SYMBOLS}
    assert {process for each in turns.values() for process in each} == {*PROCESSES}
    check_orders(orders, logs, "sharer")
    check_halt(orders, "sharer")
