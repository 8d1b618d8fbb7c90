"""The way of a trade through a running stack: venue, market data, strategy, order service, venue, fill, position.

Every step is read from the log afterwards, by who caused what; only the acknowledgement, which no log has, is what the
strategies' process has measured itself.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.client import Latencies
from bench.entry import Report
from bench.floors import CpuMeter
from bench.stack import ROOT, LocalStack, read_log, wait_for

MANIFEST = ROOT / "bench" / "desk.yaml"
QUICKSTART = ROOT / "manifests" / "quickstart.yaml"
_WARM_SECONDS = 3.0
_SAMPLE_SECONDS = 0.5
_SETTLE_SECONDS_MAX = 30.0
_ON_THE_WAY = ("oms", "gateway", "risk", "ptrc", "pnl")


def measure_journey(where: Path, port_offset: int, seconds: float) -> Report:
    """Steps of all orders that trades led to within some seconds, at 500 trades a second."""
    manifest = where / "desk.yaml"
    strategies = QUICKSTART.read_text().split("\n---\n")[1:]
    manifest.write_text("\n---\n".join([MANIFEST.read_text(), *strategies]))
    with LocalStack(manifest, where / "journey", port_offset=port_offset) as stack:
        wait_for("orders are sent", lambda: stack.call("strategies", "GET", "/stats").json()["p50_ms"], 60)
        time.sleep(_WARM_SECONDS)
        begin, meter = time.time_ns(), CpuMeter(stack.pids())
        lags = _lags(stack, seconds)
        end, reaction = time.time_ns(), stack.call("strategies", "GET", "/stats").json()
        took = (end - begin) / 1e9
        cores = {name: round(us / 1e6, 3) for name, us in meter.us_per(took).items() if name != "client"}
        wait_for("the log up to here is folded", lambda: _folded(stack), _SETTLE_SECONDS_MAX)
        rows = {name: _row(ns, took) for name, ns in steps(stack.state_dir, begin, end).items()}
    acknowledged = {
        "rate_per_s": rows["step_order"]["rate_per_s"],
        "p50_ms": reaction["p50_ms"],
        "p99_ms": reaction["p99_ms"],
        "cores": cores,
        "lag_max": lags,
    }
    return {**rows, "trade_to_acknowledgement": acknowledged}


def _lags(stack: LocalStack, seconds: float) -> dict[str, int]:
    """How many events each service was behind at most."""
    found: dict[str, int] = {}
    names = [service["name"] for release in stack.status()["releases"] for service in release["services"]]
    deadline = time.monotonic() + seconds
    while True:
        for name in names:
            if (lag := stack.call(name, "GET", "/stats").json().get("lag")) is not None:
                found[name] = max(found.get(name, 0), lag)
        if time.monotonic() >= deadline:
            return found
        time.sleep(min(_SAMPLE_SECONDS, max(0.0, deadline - time.monotonic())))


def _folded(stack: LocalStack) -> bool:
    """Whether those that the steps are read from have caught up; stores write in batches and are never at the end."""
    lags = _lags(stack, 0)
    return not any(lags.get(name, 0) for name in _ON_THE_WAY)


def _row(ns: list[int], seconds: float) -> dict[str, Any]:
    found = Latencies(seconds, ns)
    return {
        "rate_per_s": round(len(ns) / seconds),
        "p50_ms": round(found.quantile_ms(0.5), 3),
        "p99_ms": round(found.quantile_ms(0.99), 3),
    }


def steps(state: Path, begin: int, end: int) -> dict[str, list[int]]:
    """How long each step took, for what happened in this time (ns); a step is named by where it ends."""
    found: dict[str, list[int]] = {name: [] for name in ("tick", "decision", "order", "venue", "fill", "position")}
    ticks: dict[str, int] = {}
    for envelope, place in _within(state, "market.ticks", begin, end):
        ticks[place] = envelope.ts_init
        found["tick"].append(envelope.ts_init - envelope.ts_event)
    decided: dict[str, int] = {}
    for envelope, _ in _within(state, "strategies.events", begin, end):
        if type(envelope.data).__name__ == "OrderDecided" and (cause := ticks.get(envelope.causation_id)):
            found["decision"].append(envelope.ts_init - cause)
            decided[envelope.data.spec.client_order_id] = envelope.ts_init
    accepted, filled = {}, {}
    for envelope, place in _within(state, "orders.events", begin, end):
        kind = type(envelope.data).__name__
        if kind == "OrderAccepted" and (cause := decided.get(envelope.data.spec.client_order_id)):
            found["order"].append(envelope.ts_init - cause)
            accepted[place] = envelope.ts_init
        elif kind == "OrderFilled":
            filled[place] = envelope
    reports: dict[str, int] = {}
    for envelope, place in _within(state, "venue.reports", begin, end):
        if cause := accepted.pop(envelope.causation_id, 0):
            found["venue"].append(envelope.ts_init - cause)
        reports[place] = envelope.ts_init
    found["fill"] = [e.ts_init - cause for e in filled.values() if (cause := reports.get(e.causation_id))]
    for envelope, _ in _within(state, "positions", begin, end):
        if cause := filled.get(envelope.causation_id):
            found["position"].append(envelope.ts_init - cause.ts_init)
    return {f"step_{name}": ns for name, ns in found.items() if ns}


def _within(state: Path, topic: str, begin: int, end: int) -> Iterator[tuple[Any, str]]:
    for envelope in read_log(state, topic):
        if begin <= envelope.ts_init < end:
            yield envelope, f"{topic}/0/{envelope.seq}"
