"""Strategies on a real cluster, one desk for all tests, and the command line: what a person does, as its page says."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.beside import Operator, logs
from e2e.cluster import Cluster, wait_for
from e2e.desk import Desk, manifest
from e2e.sharer import (
    PROCESSES,
    SHARER,
    STRATEGIES,
    SYMBOLS,
    breaking,
    check,
    events_of,
    until_runs,
    until_trades,
)
from tests.e2e.test_docs import ROOT, blocks, missing

PAGE = ROOT / "docs" / "how-to" / "cluster-commands.md"
PAGE_SECONDS_MAX = 400
ACCEPTED, REFUSED = 200, 422
BREAKER = {
    "apiVersion": "trade2026.io/v1alpha1",
    "kind": "Strategy",
    "metadata": {"name": "breaker"},
    "spec": {
        "source": {"class": "trade2026.sdk.examples.market_making:MarketMaking"},
        "symbols": ["BTCUSDT"],
        "account": "breaker",
        "parameters": {"every": "200ms", "half_spread_bps": "0"},
        "risk": {"maxExecutions": {"count": 1, "per": "1h"}},
    },
}
SHY = {
    **BREAKER,
    "metadata": {"name": "shy"},
    "spec": {**BREAKER["spec"], "mode": "shadow", "risk": {"maxOrderQuantity": "0.01"}},
}
"""Sends nothing itself; what others send in its name is held to its limits."""
_NEXT = "--next block--"


@pytest.fixture(scope="module")
def trading(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, Operator]]:
    """Where the desk of all tests here is to be: a namespace that is called as on the page."""
    for crd in sorted((ROOT / "crds").glob("*.yaml")):
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(crd))
    cluster.kubectl("create", "namespace", "trading")
    cluster.kubectl("label", "namespace", "trading", "pod-security.kubernetes.io/enforce=restricted")
    operator, desk = (
        Operator(cluster, "trading", tmp_path_factory.mktemp("operator") / "operator.log"),
        Desk(cluster, "trading"),
    )
    try:
        operator.start("first")
        yield desk, operator
    finally:
        operator.kill()
        for each in desk.kubectl("get", "ts,strat", "--output=name", check=False).split():
            patch = '{"metadata":{"finalizers":null}}'
            desk.kubectl("patch", each, "--type=merge", "-p", patch, check=False)
        cluster.remove_namespace("trading")


def stack() -> dict[str, Any]:
    """The quickstart with an instrument for each symbol that is shared."""
    found = manifest()
    found["spec"]["instruments"] = [{**found["spec"]["instruments"][0], "symbol": symbol} for symbol in SYMBOLS]
    return found


def strategy(desk: Desk, name: str) -> dict[str, Any]:
    return desk.get("strat", name).get("status", {})


def test_strategies_run_halt_pause_and_go_and_commands_reach_the_desk(
    trading: tuple[Desk, Operator], cluster: Cluster, tmp_path: Path
) -> None:
    desk, operator = trading
    desk.kubectl("apply", "-f", "-", given=BREAKER)
    wait_for("it says that its stack is missing", lambda: "TradingStack" in json.dumps(strategy(desk, "breaker")))
    desk.kubectl("apply", "-f", "-", given=stack())
    desk.until("Ready")
    pods, restarts = desk.pods(), desk.restarts()
    desk.kubectl("wait", "--for=jsonpath={.status.stage}=Halted", "strat/breaker", "--timeout=180s")
    assert "executed more than 1 times" in strategy(desk, "breaker")["haltedReason"]
    assert _events_between(desk) == 1, "the halt is the event after the execution that broke the limit"

    _run_the_page(cluster, tmp_path)
    _limits_come_change_and_go(desk)
    assert pods["desk-0"] == desk.pods()["desk-0"], "strategies come and go, and the desk's pod stays"
    assert restarts["desk-0"] == desk.restarts()["desk-0"], "their limits are told to processes that run"

    # Another operator runs on with what runs; a reconcile, a restart or another manifest releases nothing.
    process = desk.get("statefulset", "desk-strategies")["metadata"]["uid"]
    operator.kill()
    operator.start("second")
    desk.kubectl("patch", "strat", "breaker", "--type=merge", "-p", '{"spec":{"parameters":{"every":"500ms"}}}')
    wait_for("it is told", lambda: strategy(desk, "breaker")["observedGeneration"] == 2)
    wait_for("its process is new", lambda: _ready_reason(desk) == "Halted")
    assert strategy(desk, "breaker")["stage"] == "Halted"
    assert desk.get("statefulset", "desk-strategies")["metadata"]["uid"] == process
    desk.kubectl("delete", "strat", "breaker", "--timeout=120s")
    wait_for("its pod is gone", lambda: set(desk.pods()) == {"desk-0"})
    assert desk.pods()["desk-0"] == pods["desk-0"] and desk.restarts()["desk-0"] == restarts["desk-0"]
    assert desk.order(1) == 200


def test_a_strategy_scales_by_its_symbols_and_back_and_no_order_is_doubled_or_lost(
    trading: tuple[Desk, Operator],
) -> None:
    desk, operator = trading
    logs.append(operator.log)
    desk.kubectl("apply", "-f", "-", given=stack())
    desk.until("Ready")
    before = len(events_of(desk, STRATEGIES))
    desk.kubectl("apply", "-f", "-", given=SHARER)
    until_runs(desk, 1)
    said = desk.kubectl("scale", "strat", "sharer", "--replicas=4", check=False)
    assert desk.get("strat", "sharer")["spec"]["replicas"] == 1, said
    pod = desk.pods()["desk-0"]

    desk.kubectl("scale", "strat", "sharer", "--replicas=3")
    until_runs(desk, 3)
    until_trades(desk, {*PROCESSES})
    desk.kubectl("delete", "pod", "desk-strategies-1", "--grace-period=0", "--force")
    until_runs(desk, 3)
    until_trades(desk, {*PROCESSES})
    desk.kubectl("scale", "strat", "sharer", "--replicas=1")
    until_runs(desk, 1)
    until_trades(desk, {"sharer"}, len(SYMBOLS))

    desk.kubectl("scale", "strat", "sharer", "--replicas=2")
    until_runs(desk, 2)
    desk.kubectl("patch", "strat", "sharer", "--type=merge", "-p", breaking())
    desk.kubectl("wait", "--for=jsonpath={.status.stage}=Halted", "strat/sharer", "--timeout=180s")
    assert desk.pods()["desk-0"] == pod
    check(desk, before)
    desk.kubectl("delete", "strat", "sharer", "--timeout=120s")


def _limits_come_change_and_go(desk: Desk) -> None:
    """Each order is decided by what the strategy's manifest says then."""
    desk.kubectl("apply", "-f", "-", given=SHY)
    desk.kubectl("wait", "--for=condition=LimitsEnforced", "strat/shy", "--timeout=60s")
    assert desk.order(11, quantity="0.02", strategy="shy") == REFUSED
    assert desk.order(12, quantity="0.01", strategy="shy") == desk.order(13, quantity="0.02") == ACCEPTED
    change = '{"spec":{"risk":{"maxOrderQuantity":"0.02"}}}'
    desk.kubectl("patch", "strat", "shy", "--type=merge", "-p", change)
    wait_for("others are enforced", lambda: _enforced_generation(desk) == 2)
    assert desk.order(14, quantity="0.02", strategy="shy") == ACCEPTED
    assert desk.order(15, quantity="0.03", strategy="shy") == REFUSED
    # One that does not fit any more ends, and its orders go before it.
    desk.kubectl("patch", "strat", "shy", "--type=merge", "-p", '{"spec":{"symbols":["NONE"]}}')
    wait_for("it has ended", lambda: strategy(desk, "shy").get("stage") == "Pending")
    desk.kubectl("delete", "strat", "shy", "--timeout=120s")
    assert desk.order(16, quantity="0.03", strategy="shy") == ACCEPTED


def _enforced_generation(desk: Desk) -> int:
    (found,) = [each for each in strategy(desk, "shy")["conditions"] if each["type"] == "LimitsEnforced"]
    return int(found["observedGeneration"]) if found["status"] == "True" else 0


def _ready_reason(desk: Desk) -> str:
    (found,) = [each for each in strategy(desk, "breaker")["conditions"] if each["type"] == "Ready"]
    return str(found["reason"])


def _events_between(desk: Desk) -> int:
    """From the execution that broke the limit to the halt, in the log of the order service."""
    events = events_of(desk, "orders.events")
    (halt,) = [each for each in events if each["data"].get("scope") == "strategy:breaker"]
    before = [each for each in events if each["seq"] < halt["seq"] and "last_qty" in each["data"]]
    return int(halt["seq"]) - int(before[-1]["seq"])


def _run_the_page(cluster: Cluster, tmp_path: Path) -> None:
    """Every command of it as written, in one shell."""
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, code in {
        "trade2026": "from trade2026.cli import main; main()",
        "kubectl-trade2026": "from trade2026.cli import kubectl_plugin; kubectl_plugin()",
    }.items():
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{code}" "$@"\n')
        (programs / name).chmod(0o755)
    environment = cluster.environment() | {"PYTHONPATH": str(ROOT / "services"), "NO_COLOR": "1"}
    found = list(blocks(PAGE.read_text()))
    done = subprocess.run(
        ["bash", "-exo", "pipefail", "-c", f"\necho {_NEXT}\n".join(block.code for block in found)],
        cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=PAGE_SECONDS_MAX, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"the page ended with {done.returncode}:\n{done.stdout}"
    for block, said in zip(found, done.stdout.split(f"\n{_NEXT}\n"), strict=True):
        lost = missing(block.output, said)
        assert not lost, f"{PAGE.name}:{block.line} did not print {lost!r} but:\n{said}"
