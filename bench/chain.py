"""The whole stack: an order from its acceptance to its fill, how far each service falls behind, memory, restart."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.client import Latencies, open_loop, request_bytes, run_loop
from bench.entry import MANIFEST, ORDER, Report, place
from bench.floors import CpuMeter, resident_bytes
from bench.stack import LocalStack, read_log, wait_for

FOLLOWERS = ("oms", "risk", "gateway", "ptrc", "pnl", "archive")
EVENTS_FOR_RESTART = 1_000_000
ORDERS_FOR_MEMORY = 1_000_000
RATES = (500, 1_000, 1_500, 2_000, 3_000, 4_000)
LAG_SECONDS_MAX = 1.0
"""A rate is sustained while no service is further behind than the events of so long."""
_EVENTS_PER_ORDER = 3
_MARKET = {name: value for name, value in ORDER.items() if name != "price"} | {"order_type": "MARKET"}
_MARKET["quantity"] = "0.001"
_STOP = {**ORDER, "order_type": "STOP_LIMIT", "stop_price": "90000", "price": "90000", "quantity": "0.001"}
_SETTLE_SECONDS_MAX = 300


def measure_chain(state: Path, port_offset: int, rates: tuple[int, ...], seconds: float) -> Report:
    """MARKET orders at a steady rate, each rate in turn until the stack falls behind."""
    found: Report = {}
    with LocalStack(MANIFEST, state, port_offset=port_offset) as stack:
        wait_for("the market is known", lambda: stack.call("oms", "POST", "/orders", _MARKET).status == 200, 60)
        sustained = 0
        for rate in rates:
            row = _chain_at(stack, rate, seconds)
            found[f"chain_{rate}"] = row
            if not row["bounded"]:
                break
            sustained = rate
        found["chain_sustained"] = {"rate_per_s": sustained, "highest_tried": rate}
    return found


def _chain_at(stack: LocalStack, rate: int, seconds: float) -> dict[str, Any]:
    first = stack.call("oms", "GET", "/stats").json()["events"]
    lags: dict[str, list[int]] = {name: [] for name in FOLLOWERS}
    meter = CpuMeter(stack.pids())

    def sample() -> dict[str, int]:
        return {name: stack.call(name, "GET", "/stats").json().get("lag", 0) for name in FOLLOWERS}

    async def run() -> Latencies:
        body = json.dumps(_MARKET).encode()
        loading = asyncio.ensure_future(
            open_loop(stack.port("oms"), request_bytes("POST", "/orders", body), rate, seconds)
        )
        while not loading.done():
            for name, lag in (await asyncio.to_thread(sample)).items():
                lags[name].append(lag)
            await asyncio.wait([loading], timeout=0.5)
        return await loading

    acknowledged = run_loop(run())
    cpu = meter.us_per(len(acknowledged.ns))
    drained = time.perf_counter()

    def settled() -> bool:
        return not any(sample().values()) and not stack.call("oms", "GET", "/stats").json()["open_orders"]

    wait_for("every service has caught up", settled, _SETTLE_SECONDS_MAX)
    behind = time.perf_counter() - drained
    fills = Latencies(seconds, fill_times(stack.state_dir, first))
    lag_max = {name: max(values, default=0) for name, values in lags.items()}
    allowed = rate * _EVENTS_PER_ORDER * LAG_SECONDS_MAX
    return {
        **acknowledged.report(),
        "to_fill_p50_ms": round(fills.quantile_ms(0.5), 3),
        "to_fill_p99_ms": round(fills.quantile_ms(0.99), 3),
        "drained_seconds": round(behind, 2),
        "lag_max": lag_max,
        "bounded": max(lag_max.values()) <= allowed and acknowledged.seconds < seconds * 1.2,
        "cpu_us": cpu,
    }


def fill_times(state: Path, from_seq: int) -> list[int]:
    """From the acceptance of each order to the record of its first fill, ns."""
    accepted: dict[str, int] = {}
    times: list[int] = []
    for envelope in read_log(state, "orders.events", from_seq):
        kind = type(envelope.data).__name__
        if kind == "OrderAccepted":
            accepted[envelope.data.order_id] = envelope.ts_init
        elif kind == "OrderFilled" and (begin := accepted.pop(envelope.data.order_id, 0)):
            times.append(envelope.ts_init - begin)
    return times


def measure_memory(state: Path, port_offset: int) -> Report:
    """A million orders that come and go: what the order service holds at a tenth of them and at the end; a restart.

    They wait for a stop price that is never reached, so that no venue is needed, and are cancelled in scopes.
    """
    with LocalStack(MANIFEST, state, port_offset=port_offset, services=["oms", "risk", "archive"]) as stack:
        pids, sizes = stack.pids(), {}

        def archived() -> bool:
            return stack.call("archive", "GET", "/stats").json()["lag"] < 50_000

        begin = time.perf_counter()
        for done in range(0, ORDERS_FOR_MEMORY, 10_000):
            place(stack, 10_000, _STOP)
            answer = stack.call("oms", "POST", "/orders/cancel-all", {"reason": "measurement"}, timeout=120)
            assert answer.status == 200, answer
            wait_for("the archive follows", archived, _SETTLE_SECONDS_MAX)
            if done + 10_000 in (ORDERS_FOR_MEMORY // 10, ORDERS_FOR_MEMORY):
                sizes[done + 10_000] = {name: resident_bytes(pid) >> 20 for name, pid in pids.items()}
        seconds = time.perf_counter() - begin
        kept = stack.call("oms", "GET", "/stats").json()["orders_in_memory"]
        _wait_for_archive(stack)
        restart = _restart(stack, stack.kill_all)
    tenth, whole = sizes[ORDERS_FOR_MEMORY // 10], sizes[ORDERS_FOR_MEMORY]
    return {
        "memory_1000000": {
            "mib_at_100000": tenth,
            "mib": whole,
            "growth": round(whole["orders"] / tenth["orders"], 2),
            "orders_in_memory": kept,
            "seconds": round(seconds, 1),
        },
        "restart_closed": restart,
    }


def measure_restart(state: Path, port_offset: int) -> Report:
    """Start with a million events in the log, after a stop and after `kill -9`: how long until all services are ready."""
    with LocalStack(MANIFEST, state, port_offset=port_offset) as stack:
        while (events := stack.call("oms", "GET", "/stats").json()["events"]) < EVENTS_FOR_RESTART:
            place(stack, min(100_000, EVENTS_FOR_RESTART - events + 1_000))
        _wait_for_archive(stack)
        return {"restart_after_kill": _restart(stack, stack.kill_all), "restart": _restart(stack, stack.down)}


def _wait_for_archive(stack: LocalStack) -> None:
    wait_for(
        "the archive has followed",
        lambda: not stack.call("archive", "GET", "/stats").json()["lag"],
        _SETTLE_SECONDS_MAX,
    )


def _restart(stack: LocalStack, end: Callable[[], None]) -> dict[str, Any]:
    end()
    seconds = stack.up()
    stats = stack.call("oms", "GET", "/stats").json()
    return {"events": stats["events"], "open_orders": stats["open_orders"], "seconds": round(seconds, 2)}
