"""How fast orders are accepted, checked, cancelled and recovered, beside what the disk and the web server can do.

Everything is measured in one run on one machine, so that the ratios mean something on any machine.
"""

import argparse
import asyncio
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.client import Latencies, closed_loop, open_loop, request_bytes
from bench.stack import ROOT, LocalStack, environment, wait_for

MANIFEST = ROOT / "manifests" / "bench.yaml"
ORDER: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "side": "BUY",
    "order_type": "LIMIT",
    "quantity": "0.01",
    "price": "45000.01",
}
BODY = json.dumps(ORDER).encode()
CONNECTIONS = (1, 16, 64)
OPEN_LOOP_RATE = 1_000
BATCH_ORDERS = 100
SENDERS = 4
EVENTS_FOR_RESTART = 1_000_000
OPEN_FOR_CANCEL_ALL = 10_000

Report = dict[str, Any]


def fdatasync_times(directory: Path, seconds: float) -> Latencies:
    """Append a page to a file and make it durable, again and again: no durable answer can be faster."""
    found = Latencies()
    page = os.urandom(4096)
    with tempfile.NamedTemporaryFile(dir=directory) as file:
        started = time.perf_counter()
        while time.perf_counter() - started < seconds:
            begin = time.perf_counter_ns()
            os.write(file.fileno(), page)
            os.fdatasync(file.fileno())
            found.ns.append(time.perf_counter_ns() - begin)
        found.seconds = time.perf_counter() - started
    return found


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_echo(closing: ExitStack) -> int:
    """Start the bare server on the same stack of libraries, and return its port."""
    port = free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "uvicorn", "bench.echo:app", "--port", str(port)),
            *("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"),
        ],
        cwd=ROOT,
        env=environment(),
    )
    closing.callback(process.wait)
    closing.callback(process.terminate)

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_for("the echo server listens", listens, 10)
    return port


async def measure_single(stack: LocalStack, echo_port: int, seconds: float) -> Report:
    """Closed loop: one order a request."""
    found: Report = {}
    ours, bare = request_bytes("POST", "/orders", BODY), request_bytes("POST", "/", BODY)
    for connections in CONNECTIONS:
        orders = await closed_loop(stack.port("oms"), ours, connections, seconds)
        echo = await closed_loop(echo_port, bare, connections, seconds)
        found[f"orders_{connections}_connections"] = {
            **orders.report(),
            "of_echo": round(orders.rate / echo.rate, 3) if echo.rate else 0.0,
        }
        found[f"echo_{connections}_connections"] = echo.report()
    return found


async def measure_batches(stack: LocalStack, seconds: float) -> Report:
    """Batches of orders by REST, then the same by WebSocket."""
    orders = [ORDER] * BATCH_ORDERS
    request = request_bytes("POST", "/orders/batch", json.dumps({"orders": orders}).encode())
    rest = await closed_loop(stack.port("oms"), request, SENDERS, seconds)
    frames = await websocket_frames(stack.port("oms"), {"op": "batch", "orders": orders}, seconds)
    return {
        name: {**each.report(), "orders_per_s": round(each.rate * BATCH_ORDERS)}
        for name, each in (("rest_batch_100", rest), ("websocket_batch_100", frames))
    }


async def websocket_frames(port: int, frame: dict[str, Any], seconds: float) -> Latencies:
    """Send a frame, wait for its answer, on several sockets."""
    from websockets.asyncio.client import connect

    found = Latencies(seconds=seconds)
    text = json.dumps({**frame, "id": 1})
    end = time.perf_counter() + seconds

    async def send() -> None:
        async with connect(f"ws://127.0.0.1:{port}/ws/orders", compression=None, max_size=None) as socket:
            while (begin := time.perf_counter()) < end:
                await socket.send(text)
                answer = await socket.recv()
                found.ns.append(int((time.perf_counter() - begin) * 1e9))
                found.failed += ("problem" if isinstance(answer, str) else b'"problem"') in answer  # type: ignore[operator]

    await asyncio.gather(*(send() for _ in range(SENDERS)))
    return found


def measure_in_process(seconds: float) -> Report:
    """CPU time of the pure parts, in this process: a check, and a decision with its fold."""
    import msgspec

    from trade2026.controls.limits import LimitBook
    from trade2026.controls.machine import Controls
    from trade2026.domain import commands as cmd
    from trade2026.domain import events as ev
    from trade2026.domain.orders import OrderSpec, OrderType
    from trade2026.kit.settings import ProcessSettings
    from trade2026.oms.machine import OrderMachine
    from trade2026.stack.manifest import load
    from trade2026.stack.planner import plan

    release = plan(load(MANIFEST)).release("orders")
    assert release is not None
    settings = msgspec.convert({**release.settings, "risk": msgspec.Raw(b"{}")}, ProcessSettings)
    book = msgspec.convert(release.settings["risk"], LimitBook)
    controls = Controls(book, {each.instrument_id: each for each in settings.instruments})
    machine = OrderMachine(controls)
    spec = OrderSpec(
        client_order_id="x",
        account="main",
        instrument=settings.instruments[0].instrument_id,
        side="BUY",
        order_type=OrderType.LIMIT,
        quantity=10_000_000,
        price=45_000_010_000_000,
    )
    now = time.time_ns()

    def emit(event: ev.AnyEvent) -> None:
        machine.apply(ev.Envelope(machine.next_seq, 1, now, now, "bench", "local", "", "", "", event))

    def check(number: int) -> None:
        assert controls.check(spec, None, now + number * 10_000) is None

    def decide(number: int) -> None:
        named = msgspec.structs.replace(spec, client_order_id=f"c{number}")
        order = machine.decide(cmd.SubmitOrder(ts=now + number * 10_000, spec=named), emit)
        assert not order.reject_code, order.reason

    return {
        "controls_check": {"cpu_us": cpu_microseconds(check, seconds)},
        "decide_and_apply": {"cpu_us": cpu_microseconds(decide, seconds)},
    }


def cpu_microseconds(work: Callable[[int], None], seconds: float) -> float:
    """CPU time of one call, averaged."""
    calls = 0
    for number in range(1_000):
        work(number)
    calls = 1_000
    begin, started = time.process_time_ns(), time.perf_counter()
    while time.perf_counter() - started < seconds:
        for number in range(calls, calls + 500):
            work(number)
        calls += 500
    return round((time.process_time_ns() - begin) / 1_000 / (calls - 1_000), 2)


def place(stack: LocalStack, count: int) -> None:
    """Place open orders in batches."""
    for begin in range(0, count, 1_000):
        size = min(1_000, count - begin)
        answer = stack.call("oms", "POST", "/orders/batch", {"orders": [ORDER] * size}, timeout=60)
        results = answer.json()["results"]
        assert answer.status == 200, answer
        assert all("order_id" in result for result in results), results[0]


def measure_cancel_all(stack: LocalStack) -> Report:
    """Cancel every open order; times of the single cancels come from the log."""
    stack.call("oms", "POST", "/orders/cancel-all", {"reason": "before the measurement"}, timeout=120)
    place(stack, OPEN_FOR_CANCEL_ALL)
    first = stack.call("oms", "GET", "/stats").json()["events"]
    begin = time.perf_counter()
    answer = stack.call("oms", "POST", "/orders/cancel-all", {"reason": "measurement"}, timeout=120)
    seconds = time.perf_counter() - begin
    assert answer.status == 200, answer
    times = [
        envelope.ts_init - envelope.ts_event
        for envelope in read_log(stack.state_dir, "orders.events", first)
        if type(envelope.data).__name__ in ("CancelRequested", "OrderCanceled")
    ]
    found = Latencies(seconds, times)
    return {"cancel_all_10000": {**found.report(), "seconds": round(seconds, 3), "asked": answer.json()["asked"]}}


def open_bus(state_dir: Path) -> Any:
    """The bus of a stack, to be read beside it."""
    from trade2026.kit.bus.sqlite import SqliteBus
    from trade2026.kit.settings import load

    return SqliteBus(state_dir / "bus", load(state_dir / "run" / "orders.json").topics)


def read_log(state_dir: Path, topic: str, from_seq: int = 0) -> list[Any]:
    """Every envelope of a topic from a position on, read from the stack's files."""
    from trade2026.domain.events import decode

    async def read() -> list[Any]:
        bus = open_bus(state_dir)
        position, found = from_seq, []
        try:
            while records := await bus.read(topic, 0, position, 5_000):
                found += [decode(record.body) for record in records]
                position = records[-1].seq + 1
        finally:
            await bus.close()
        return found

    return asyncio.run(read())


def measure_restart(stack: LocalStack) -> Report:
    """Stop and start with a long log: how long until the last service is ready."""
    while (events := stack.call("oms", "GET", "/stats").json()["events"]) < EVENTS_FOR_RESTART:
        place(stack, min(100_000, EVENTS_FOR_RESTART - events + 1_000))
    stack.down()
    seconds = stack.up()
    again = stack.call("oms", "GET", "/stats").json()["events"]
    return {"restart": {"events": again, "seconds": round(seconds, 2), "events_per_s": round(again / seconds)}}


def measure_chain(state: Path, port_offset: int, rate: int, seconds: float) -> Report:
    """Every service at a steady rate: does any of them fall behind?"""
    with LocalStack(MANIFEST, state, port_offset=port_offset) as stack:
        order = {**ORDER, "order_type": "MARKET", "quantity": "0.001"}
        del order["price"]
        wait_for(
            "the market is known",
            lambda: stack.call("oms", "POST", "/orders", order).status == 200,
            30,
        )
        lags: dict[str, list[int]] = {name: [] for name in ("oms", "risk", "gateway", "ptrc", "pnl", "archive")}

        def sample() -> dict[str, int]:
            return {name: stack.call(name, "GET", "/stats").json().get("lag", 0) for name in lags}

        async def run() -> Latencies:
            loading = asyncio.ensure_future(
                open_loop(
                    stack.port("oms"), request_bytes("POST", "/orders", json.dumps(order).encode()), rate, seconds
                )
            )
            while not loading.done():
                for name, lag in (await asyncio.to_thread(sample)).items():
                    lags[name].append(lag)
                await asyncio.wait([loading], timeout=0.5)
            return await loading

        acknowledged = run_loop(run())
        drained = time.perf_counter()

        def settled() -> bool:
            return not any(sample().values()) and not stack.call("oms", "GET", "/stats").json()["open_orders"]

        wait_for("every service has caught up", settled, 60)
        to_fill = Latencies(seconds, fill_times(state))
        return {
            "chain": {
                **acknowledged.report(),
                "to_fill_p50_ms": round(to_fill.quantile_ms(0.5), 3),
                "to_fill_p99_ms": round(to_fill.quantile_ms(0.99), 3),
                "drained_seconds": round(time.perf_counter() - drained, 2),
                "lag_max": {name: max(values, default=0) for name, values in lags.items()},
            }
        }


def fill_times(state: Path) -> list[int]:
    """From the acceptance of each order to the record of its first fill, ns."""
    accepted: dict[str, int] = {}
    times: list[int] = []
    for envelope in read_log(state, "orders.events"):
        kind = type(envelope.data).__name__
        if kind == "OrderAccepted":
            accepted[envelope.data.order_id] = envelope.ts_init
        elif kind == "OrderFilled" and (begin := accepted.pop(envelope.data.order_id, 0)):
            times.append(envelope.ts_init - begin)
    return times


def run_loop(work: Any) -> Any:
    """Run a coroutine on the fast loop."""
    import uvloop

    return uvloop.run(work)


def measure(options: argparse.Namespace) -> Report:
    """Everything that was asked for."""
    seconds = 2.0 if options.quick else 10.0
    report: Report = {}

    def add(found: Report) -> None:
        report.update(found)
        for name, values in found.items():
            print(line(name, values), flush=True)

    with ExitStack() as closing:
        where = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="trade2026-bench-", dir=options.dir)))
        add({"fdatasync_4096_bytes": fdatasync_times(where, min(seconds, 3.0)).report()})
        add(measure_in_process(min(seconds, 3.0)))
        echo_port = start_echo(closing)
        offset = options.port_offset
        stack = LocalStack(MANIFEST, where / "state", port_offset=offset, services=["oms", "risk"])
        with stack:
            add(run_loop(measure_single(stack, echo_port, seconds)))
            order = request_bytes("POST", "/orders", BODY)
            paced = run_loop(open_loop(stack.port("oms"), order, OPEN_LOOP_RATE, seconds))
            add({"open_loop_1000_per_s": paced.report()})
            add(run_loop(measure_batches(stack, seconds)))
            check = run_loop(closed_loop(stack.port("risk"), request_bytes("POST", "/check", BODY), 1, seconds))
            add({"check_1_connection": check.report()})
            add(measure_cancel_all(stack))
            if options.full:
                add(measure_restart(stack))
        if options.chain or options.full:
            add(measure_chain(where / "chain", offset, options.chain_rate, 3 * seconds))
    return report


def line(name: str, values: Report) -> str:
    """One row of the table."""
    shown = {
        "rate_per_s": "{:>9,}/s",
        "orders_per_s": "{:>9,} orders/s",
        "p50_ms": "p50 {:>8.3f} ms",
        "p99_ms": "p99 {:>8.3f} ms",
        "of_echo": "{:.0%} of echo",
        "cpu_us": "{:>9.2f} µs of CPU",
        "seconds": "{:.2f} s",
        "events": "{:,} events",
        "to_fill_p50_ms": "to fill p50 {:.1f} ms",
        "to_fill_p99_ms": "p99 {:.1f} ms",
        "drained_seconds": "drained in {:.1f} s",
        "lag_max": "lag at most {}",
    }
    parts = [text.format(values[key]) for key, text in shown.items() if key in values]
    if values.get("failed"):
        parts.append(f"{values['failed']} FAILED")
    return f"{name:<26} " + "  ".join(parts)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2 s a measurement instead of 10")
    parser.add_argument("--full", action="store_true", help="also the restart with a million events, and the chain")
    parser.add_argument("--chain", action="store_true", help="also every service at a steady rate")
    parser.add_argument("--chain-rate", type=int, default=500, help="orders a second in the chain")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    parser.add_argument("--port-offset", type=int, default=20_000)
    parser.add_argument("--dir", type=Path, help="where the state lies; the disk that is measured")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "services"))
    report = measure(options)
    if options.json:
        machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
        options.json.write_text(json.dumps({"machine": machine, "measured": report}, indent=2) + "\n")
    failed = [name for name, values in report.items() if values.get("failed")]
    if failed:
        raise SystemExit(f"answers other than 200 in: {', '.join(failed)}")
