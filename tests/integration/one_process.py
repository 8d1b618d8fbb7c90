"""Every service of a stack in a thread of the test's process: real sockets, a real log on the disk.

The tests are the clients; they speak HTTP by hand where a library would not send what they want to send.
"""

import asyncio
import importlib
import json
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from trade2026.domain.events import Envelope, OwnerStarted, decode
from trade2026.kit import process
from trade2026.kit.bus.sqlite import SqliteBus
from trade2026.kit.settings import ProcessSettings
from trade2026.log_archive.opening import open_bus
from trade2026.stack.facts import SERVICES
from trade2026.stack.manifest import loads
from trade2026.stack.planner import plan

SECONDS_MAX = 60.0
"""Longest wait for anything; a slow machine must not fail a test."""

MANIFEST = """
apiVersion: trade2026.io/v1alpha1
kind: TradingStack
metadata: {name: edges}
spec:
  venues:
    - {name: SIM, type: replay, config: {scale: 56, speed: 1200, loop: true, direct_orders: true}}
  instruments:
    - {symbol: BTCUSDT, venue: SIM, tickSize: "0.01", lotSize: "0.00001"}
    - {symbol: ETHUSDT, venue: SIM, tickSize: "0.01", lotSize: "0.001"}
  risk:
    limits: {priceCollar: 50%, passiveCollar: 90%}
"""

ORDER = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.001", "price": "45000"}


_NOBODY = ("venue", "clock", "market", "risk", "manifest")


@dataclass
class Answer:
    """What came back for one request."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """Of a problem document; empty for another answer."""
        return self.json.get("code", "") if "problem+json" in self.headers.get("content-type", "") else ""


class OneProcess:
    """A running stack.

    Args:
        state: Its state directory.
        keys_file: Of bearer keys; empty leaves it open.
        change: Changes the settings before the start.
        key: That `call` sends if it is told no other.
        disk: A `SmallDisk`, where the state lies on one.
    """

    def __init__(
        self,
        state: Path,
        *,
        keys_file: str = "",
        services: Iterable[str] = SERVICES,
        change: Callable[[ProcessSettings], ProcessSettings] = lambda settings: settings,
        key: str = "",
        disk: Any = None,
    ) -> None:
        state.mkdir(parents=True, exist_ok=True)  # as the runner does: without it the disk counts as full
        self.state, self.key, self.disk = state, key, disk
        self.services = list(services)
        self.settings = change(settings_of(state, self.services, keys_file))
        self.hosted: dict[str, Any] = {}
        self.apps: dict[str, Any] = {}
        """By service, with its routes."""
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="stack", daemon=True)
        self._error: BaseException | None = None

    def __enter__(self) -> "OneProcess":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Run until everything is ready."""
        self._thread.start()
        for service in self.services:
            self.wait_until(lambda service=service: self.answers(service), f"{service} is ready")
        if {"oms", "gateway"} <= set(self.services):
            self.wait_until(self._knows_the_market, "the order service knows a price")

    def fail_to_start(self) -> None:
        """Run, and wait until it has given up."""
        self._thread.start()
        self._thread.join(SECONDS_MAX)
        if self._thread.is_alive():
            self.stop()
            raise AssertionError("the stack started")
        assert self._error is not None

    def stop(self) -> None:
        """Drain. Idempotent."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(SECONDS_MAX)
        assert not self._thread.is_alive(), "the stack did not stop"

    def _knows_the_market(self) -> bool:
        oms = self.hosted["oms"]
        return all(oms.references.get(instrument) for instrument in oms.instruments.by_id)

    def answers(self, service: str) -> bool:
        """Whether a service is ready."""
        assert self._error is None, f"the stack has ended: {self._error!r}"
        try:
            return self.call(service, "GET", "/readyz").status == 200
        except OSError:
            return False

    def wait_until(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait for a condition, and return what it returned."""
        deadline = time.monotonic() + SECONDS_MAX
        while not (found := condition()):
            assert time.monotonic() < deadline, f"not within {SECONDS_MAX} s: {what}"
            time.sleep(0.02)
        return found

    def call(
        self,
        service: str,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Ask once. A body that is not bytes is sent as JSON."""
        raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = {"Host": f"127.0.0.1:{self.settings.ports[service]}", "Connection": "close"}
        if body is not None:
            lines |= {"Content-Type": "application/json", "Content-Length": str(len(raw))}
        bearer = self.key if key is None else key
        if bearer:
            lines["Authorization"] = f"Bearer {bearer}"
        lines |= headers or {}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return self.send(service, f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + raw)

    def send(self, service: str, raw: bytes) -> Answer:
        """Send bytes as they are, and read the answer until the service closes or has said its length."""
        with closing(self.connect(service)) as connection:
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(raw)  # where it is refused before all was sent, the answer says why
            return read_answer(connection)

    def connect(self, service: str) -> socket.socket:
        """A connection to a service."""
        return socket.create_connection(("127.0.0.1", self.settings.ports[service]), SECONDS_MAX)

    def events(self, topic: str = "orders.events") -> list[Envelope]:
        """The whole log of a topic, read beside the services."""

        async def read() -> list[Envelope]:
            bus = SqliteBus(self.state / "bus", self.settings.topics)
            try:
                records = await bus.read(topic, 0, await bus.start(topic, 0), 10_000_000)
            finally:
                await bus.close()
            return [decode(record.body) for record in records]

        return asyncio.run(read())

    def run_inside(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Do something in the loop of the services."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(SECONDS_MAX)

    def decisions(self) -> int:
        """How much was decided for clients: events that neither the venue nor the clock has caused."""
        asked = [event for topic in ("orders.events", "risk.events") for event in self.events(topic)]
        return sum(event.principal not in _NOBODY and not isinstance(event.data, OwnerStarted) for event in asked)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._error = error

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        bus = self.disk.bus(self.settings) if self.disk is not None else None
        factories = [self._factory(name) for name in self.services]
        code = await process.serve(self.settings, factories, bus, stop=self._stop, open_bus=open_bus)
        assert code == 0, "the stack did not end well"

    def _factory(self, name: str) -> Callable[[Any], Any]:
        module, _, attribute = SERVICES[name].factory.partition(":")
        make = getattr(importlib.import_module(module), attribute)

        def factory(context: Any) -> Any:
            if self.disk is not None and not self.disk.real:
                context.free_bytes = self.disk.free_bytes
            service = self.hosted[name] = make(context)
            add_routes = service.routes

            def routes(app: Any) -> None:
                self.apps[name] = app
                add_routes(app)

            service.routes = routes
            return service

        return factory


def settings_of(state: Path, services: list[str], keys_file: str = "") -> ProcessSettings:
    """One process's settings with all that the plan tells its several processes."""
    merged: dict[str, Any] = {}
    for release in plan(loads(MANIFEST)).releases:
        for name, value in release.settings.items():
            if name == "config":
                merged[name] = {**merged.get(name, {}), **value}
            elif name == "venues" and any(venue["config"] for venue in merged.get(name, [])):
                pass
            elif value or name not in merged:
                merged[name] = value
    merged.pop("peers", None)  # they all live in this process
    merged |= {"release": "all", "services": services, "state_dir": str(state), "keys_file": keys_file}
    merged |= {"ports": dict(zip(merged["ports"], free_ports(len(merged["ports"])), strict=True)), "free_bytes_min": 0}
    return msgspec.json.decode(json.dumps(merged), type=ProcessSettings)


def free_ports(count: int) -> list[int]:
    """Ports that nobody has at this moment."""
    holders = [socket.socket() for _ in range(count)]
    try:
        for holder in holders:
            holder.bind(("127.0.0.1", 0))
        return [holder.getsockname()[1] for holder in holders]
    finally:
        for holder in holders:
            holder.close()


def read_answer(connection: socket.socket) -> Answer:
    """One answer; status 0 if the service closed without any."""
    data = b""
    while b"\r\n\r\n" not in data:
        try:
            more = connection.recv(65536)
        except ConnectionResetError:
            more = b""
        if not more:
            return Answer(0, {}, data)
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    wanted = int(headers.get("content-length", 0)) if first.split(" ")[1] != "101" else 0
    while len(body) < wanted:
        try:
            more = connection.recv(65536)
        except ConnectionResetError:
            break
        if not more:
            break
        body += more
    return Answer(int(first.split(" ")[1]), headers, body)
