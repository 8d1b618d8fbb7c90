"""Order entry and the check, with the order service and risk in processes of their own and nothing else."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.client import Latencies, closed_loop, open_loop, request_bytes, run_loop
from bench.floors import CpuMeter
from bench.stack import ROOT, LocalStack, read_log

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
PIPELINED = 32
OPEN_FOR_CANCEL_ALL = 10_000
ORDERS_PER_ROW_MAX = 400_000
"""Without an archive all orders stay in memory, and above 500,000 new ones are refused."""
_WARM_SECONDS = 0.5

Report = dict[str, Any]
Add = Callable[[Report], None]


def on_kafka(folder: Path) -> Path:
    """The same manifest with its log on a broker of this machine, written into a folder."""
    manifest = folder / "kafka.yaml"
    bus = '  bus: {type: kafka, kafka: {bootstrapServers: "127.0.0.1:9092"}}\n'
    manifest.write_text(MANIFEST.read_text().rstrip("\n") + "\n" + bus)
    return manifest


def measure_singles(stack: LocalStack, echo: tuple[int, int], seconds: float, add: Add) -> None:
    """One order a request, then the check; `echo` is the port and process id of the bare server."""
    for connections in CONNECTIONS:
        add(run_loop(measure_single(stack, echo, connections, seconds)))
    add(run_loop(measure_open_loop(stack, seconds)))
    add(run_loop(measure_check(stack, seconds)))


def measure_batches(stack: LocalStack, seconds: float, add: Add) -> None:
    """Many orders a frame."""
    frame = {"op": "batch", "orders": [ORDER] * BATCH_ORDERS}
    add(run_loop(measure_socket(stack, f"websocket_batch_{BATCH_ORDERS}", frame, BATCH_ORDERS, 1, seconds)))


def measure_rest(stack: LocalStack, seconds: float, add: Add) -> None:
    """Batches over REST, orders that follow each other on a socket, one command for many orders."""
    add(run_loop(measure_rest_batches(stack, seconds)))
    frame = {"op": "submit", "order": ORDER}
    add(run_loop(measure_socket(stack, "websocket_single", frame, 1, PIPELINED, seconds)))
    add(measure_cancel_all(stack))


async def measure_single(stack: LocalStack, echo: tuple[int, int], connections: int, seconds: float) -> Report:
    """Closed loop, one order a request, then the echo in the same way: the ratio holds on any machine."""
    counted = (seconds + _WARM_SECONDS) / seconds
    meter = CpuMeter(stack.pids())
    orders = await closed_loop(
        stack.port("oms"), request_bytes("POST", "/orders", BODY), connections, seconds, warm=_WARM_SECONDS
    )
    cpu = meter.us_per(len(orders.ns) * counted)
    port, pid = echo
    meter = CpuMeter({"echo": pid})
    bare = await closed_loop(port, request_bytes("POST", "/", BODY), connections, seconds, warm=_WARM_SECONDS)
    echo_cpu = meter.us_per(len(bare.ns) * counted)
    return {
        f"orders_{connections}": {
            **orders.report(),
            "of_echo": round(orders.rate / bare.rate, 3) if bare.rate else 0.0,
            "cpu_us": cpu,
        },
        f"echo_{connections}": {**bare.report(), "cpu_us": echo_cpu, "services": ["echo"]},
    }


async def measure_open_loop(stack: LocalStack, seconds: float) -> Report:
    """Orders leave on schedule; latency counts from the scheduled time, so a stall is not hidden."""
    meter = CpuMeter(stack.pids())
    found = await open_loop(stack.port("oms"), request_bytes("POST", "/orders", BODY), OPEN_LOOP_RATE, seconds)
    return {f"open_loop_{OPEN_LOOP_RATE}": {**found.report(), "cpu_us": meter.us_per(len(found.ns))}}


async def measure_rest_batches(stack: LocalStack, seconds: float) -> Report:
    """Batches over a few connections."""
    body = json.dumps({"orders": [ORDER] * BATCH_ORDERS}).encode()
    meter = CpuMeter(stack.pids())
    found = await closed_loop(stack.port("oms"), request_bytes("POST", "/orders/batch", body), SENDERS, seconds)
    orders = len(found.ns) * BATCH_ORDERS
    cpu = meter.us_per(orders * (seconds + _WARM_SECONDS) / seconds)
    return {
        f"rest_batch_{BATCH_ORDERS}": {
            **found.report(),
            "orders_per_s": round(found.rate * BATCH_ORDERS),
            "cpu_us": cpu,
        }
    }


async def measure_socket(
    stack: LocalStack, name: str, frame: dict[str, Any], orders: int, under_way: int, seconds: float
) -> Report:
    """Frames over a few WebSockets, `under_way` of them at once on each, until `ORDERS_PER_ROW_MAX`."""
    from websockets.asyncio.client import connect

    found = Latencies(seconds=seconds)
    text = json.dumps({**frame, "id": 1})
    meter = CpuMeter(stack.pids())
    end = time.perf_counter() + seconds

    async def talk() -> None:
        url = f"ws://127.0.0.1:{stack.port('oms')}/ws/orders"
        async with connect(url, compression=None, max_size=None, proxy=None) as socket:
            begun: list[float] = []
            for _ in range(under_way):
                begun.append(time.perf_counter())
                await socket.send(text)
            while begun:
                answer = await socket.recv(decode=False)
                now = time.perf_counter()
                found.ns.append(int((now - begun.pop(0)) * 1e9))
                found.failed += b'"problem"' in answer or b'"code"' in answer
                if now < end and len(found.ns) * orders < ORDERS_PER_ROW_MAX:
                    begun.append(now)
                    await socket.send(text)

    await asyncio.gather(*(talk() for _ in range(SENDERS)))
    found.seconds = time.perf_counter() - end + seconds
    count = len(found.ns) * orders
    return {
        name: {**found.report(), "orders_per_s": round(count / found.seconds), "cpu_us": meter.us_per(count)},
    }


async def measure_check(stack: LocalStack, seconds: float) -> Report:
    """Risk's `/check`, one after the other."""
    meter = CpuMeter(stack.pids())
    found = await closed_loop(stack.port("risk"), request_bytes("POST", "/check", BODY), 1, seconds)
    cpu = meter.us_per(len(found.ns) * (seconds + _WARM_SECONDS) / seconds)
    return {"check": {**found.report(), "cpu_us": cpu}}


def place(stack: LocalStack, count: int, order: dict[str, Any] = ORDER) -> None:
    """Place orders in batches of a thousand."""
    for begin in range(0, count, 1_000):
        size = min(1_000, count - begin)
        answer = stack.call("oms", "POST", "/orders/batch", {"orders": [order] * size}, timeout=60)
        assert answer.status == 200, answer
        results = answer.json()["results"]
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
    return {
        f"cancel_all_{OPEN_FOR_CANCEL_ALL}": {
            **found.report(),
            "seconds": round(seconds, 3),
            "asked": len(times),
        }
    }
