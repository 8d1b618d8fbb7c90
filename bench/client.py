"""A small HTTP/1.1 client over raw sockets: one request in flight per connection, no work that would be measured too."""

import asyncio
import gc
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass
class Latencies:
    """Times of one run, in ns."""

    seconds: float = 0.0
    ns: list[int] = field(default_factory=list)
    failed: int = 0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.ns) / self.seconds if self.seconds else 0.0

    def quantile_ms(self, q: float) -> float:
        """A quantile in milliseconds (nearest rank)."""
        if not self.ns:
            return float("nan")
        ordered = sorted(self.ns)
        return ordered[min(len(ordered) - 1, int(q * len(ordered)))] / 1e6

    def report(self) -> dict[str, Any]:
        """Rate and quantiles for the table."""
        return {
            "rate_per_s": round(self.rate),
            "p50_ms": round(self.quantile_ms(0.5), 3),
            "p99_ms": round(self.quantile_ms(0.99), 3),
            "p999_ms": round(self.quantile_ms(0.999), 3),
            "answers": len(self.ns),
            "failed": self.failed,
        }


def request_bytes(method: str, path: str, body: bytes) -> bytes:
    """One request, ready to send."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Connection(asyncio.Protocol):
    """One keep-alive connection. `on_answer(connection, status, body)` is called for each answer."""

    def __init__(self, on_answer: Callable[["Connection", int, bytes], None]) -> None:
        self.on_answer = on_answer
        self.started = 0
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._body_end = -1
        self._body_start = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]

    def send(self, request: bytes, started: int) -> None:
        """Send a request whose latency counts from `started`."""
        assert self._transport is not None
        self.started = started
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if self._body_end < 0:
            head_end = self._buffer.find(b"\r\n\r\n")
            if head_end < 0:
                return
            head = self._buffer[:head_end].lower()
            at = head.find(b"content-length:")
            if at < 0:
                raise ValueError(f"an answer without content-length: {head!r}")
            end = head.find(b"\r\n", at)
            length = int(head[at + 15 : end if end > 0 else len(head)])
            self._body_start, self._body_end = head_end + 4, head_end + 4 + length
        if len(self._buffer) < self._body_end:
            return
        status, body = int(self._buffer[9:12]), self._buffer[self._body_start : self._body_end]
        self._buffer, self._body_end = self._buffer[self._body_end :], -1
        self.on_answer(self, status, body)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self.on_answer(self, 0, b"")

    def close(self) -> None:
        """Let the connection go. Idempotent."""
        if self._transport is not None:
            self._transport.close()


async def connect(port: int, count: int, on_answer: Callable[[Connection, int, bytes], None]) -> list[Connection]:
    """Open connections to a port of this machine."""
    loop = asyncio.get_running_loop()
    pairs = [await loop.create_connection(lambda: Connection(on_answer), "127.0.0.1", port) for _ in range(count)]
    return [protocol for _, protocol in pairs]


async def closed_loop(port: int, request: bytes, connections: int, seconds: float, *, warm: float = 0.5) -> Latencies:
    """Each connection sends its next request when it has the answer to the last.

    Args:
        warm: Seconds before counting begins.
    """
    found, finished = Latencies(), asyncio.get_running_loop().create_future()
    clock = time.perf_counter_ns
    begin = clock() + int(warm * 1e9)
    end = begin + int(seconds * 1e9)
    left = connections

    def answered(connection: Connection, status: int, body: bytes) -> None:
        nonlocal left
        now = clock()
        if begin <= connection.started and now <= end:
            if status == 200:
                found.ns.append(now - connection.started)
            else:
                found.failed += 1
        if now < end and status:
            connection.send(request, clock())
            return
        left -= 1
        if not left and not finished.done():
            finished.set_result(None)

    opened = await connect(port, connections, answered)
    with _without_gc():
        for connection in opened:
            connection.send(request, clock())
        await asyncio.wait_for(finished, warm + seconds + 30)
    for connection in opened:
        connection.close()
    found.seconds = seconds
    return found


async def open_loop(port: int, request: bytes, rate: int, seconds: float, *, connections: int = 64) -> Latencies:
    """Requests leave on schedule whatever the answers do; latency counts from the scheduled time.

    A thread keeps the time, because the event loop's timers know only milliseconds. A request that finds no
    free connection waits, and its waiting counts.
    """
    loop = asyncio.get_running_loop()
    found, finished = Latencies(), loop.create_future()
    clock = time.perf_counter_ns
    total = int(rate * seconds)
    free: deque[Connection] = deque()
    waiting: deque[int] = deque()
    answers = 0

    def answered(connection: Connection, status: int, body: bytes) -> None:
        nonlocal answers
        answers += 1
        if status == 200:
            found.ns.append(clock() - connection.started)
        else:
            found.failed += 1
        if waiting and status:
            connection.send(request, waiting.popleft())
        else:
            free.append(connection)
        if answers == total and not finished.done():
            finished.set_result(None)

    def due(scheduled: int) -> None:
        if free:
            free.popleft().send(request, scheduled)
        else:
            waiting.append(scheduled)

    def keep_time() -> None:
        step = 1_000_000_000 // rate
        for number in range(total):
            scheduled = begin + number * step
            rest = scheduled - clock()
            if rest > 0:
                time.sleep(rest / 1e9)
            loop.call_soon_threadsafe(due, scheduled)

    opened = await connect(port, connections, answered)
    free.extend(opened)
    with _without_gc():
        begin = clock() + 50_000_000
        pacer = threading.Thread(target=keep_time, daemon=True)
        pacer.start()
        await asyncio.wait_for(finished, seconds + 60)
    found.seconds = (clock() - begin) / 1e9
    pacer.join()
    for connection in opened:
        connection.close()
    return found


def run_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the fast loop."""
    import uvloop

    return uvloop.run(work)


class _without_gc:
    """No collection pause of ours in the numbers of others."""

    def __enter__(self) -> None:
        gc.collect()
        gc.disable()

    def __exit__(self, *_: object) -> None:
        gc.enable()
