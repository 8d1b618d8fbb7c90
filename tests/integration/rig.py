"""One service on a real log: the test is its only neighbour, and writes what the others would write."""

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from tests.waiting import until

from trade2026.domain import events as ev
from trade2026.domain.events import Envelope, decode
from trade2026.domain.numbers import to_nanos
from trade2026.domain.orders import OrderSpec, OrderType
from trade2026.kit.access import Access
from trade2026.kit.bus.port import BusError, Writer
from trade2026.kit.bus.sqlite import SqliteBus
from trade2026.kit.clock import WallClock
from trade2026.kit.http import App
from trade2026.kit.identity import Keyring
from trade2026.kit.metrics import Metrics
from trade2026.kit.probes import Heartbeat, Lifecycle, add_standard_routes
from trade2026.kit.publisher import Publisher
from trade2026.kit.service import Context, Service
from trade2026.kit.settings import ProcessSettings
from trade2026.stack.facts import TOPICS
from trade2026.stack.manifest import loads
from trade2026.stack.planner import plan

SYMBOL = "BTCUSDT.SIM"
_BY_ACCOUNT = {topic.name for topic in TOPICS if topic.by_account}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

MANIFEST = """
apiVersion: trade2026.io/v1alpha1
kind: TradingStack
metadata: {name: rig}
spec:
  venues:
    - {name: SIM, type: replay, config: {scale: 1, speed: 1, loop: true, gap_seconds_max: 0.02}}
  instruments:
    - {symbol: BTCUSDT, venue: SIM, tickSize: "0.01", lotSize: "0.001", makerFeeBps: 1, takerFeeBps: 5}
"""


class FlakyBus:
    """A SQLite bus whose next append to a topic can be told to fail, as if it were or were not written."""

    def __init__(self, root: Path, settings: ProcessSettings) -> None:
        self._bus = SqliteBus(root, settings.topics)
        self.failing: dict[str, tuple[BusError, bool]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)

    def fail_next(self, topic: str, error: BusError, *, written: bool = False) -> None:
        """The next append fails; with `written` it is in the log all the same."""
        self.failing[topic] = (error, written)

    async def claim(self, topic: str, partition: int, owner: str) -> "_FlakyWriter":
        return _FlakyWriter(self, await self._bus.claim(topic, partition, owner))


class _FlakyWriter:
    def __init__(self, bus: FlakyBus, writer: Writer) -> None:
        self._bus, self._writer, self._error = bus, writer, None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    def append(self, bodies: Sequence[bytes]) -> "asyncio.Future[int]":
        error, written = self._bus.failing.pop(self._writer.topic, (self._error, False))
        if error is None:
            return self._writer.append(bodies)
        self._error = error
        failed: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if written:
            self._writer.append(bodies).add_done_callback(lambda _: failed.set_exception(error))
        else:
            failed.set_exception(error)
        return failed


class Rig:
    """A state directory, a bus on it, and services that come and go.

    Args:
        release: Whose settings the services get.
        partitions: Of the topics that are split by account.
    """

    def __init__(self, state: Path, release: str, manifest: str = MANIFEST, partitions: int = 1) -> None:
        found = plan(loads(manifest)).release(release)
        assert found is not None
        raw = {**found.settings, "state_dir": str(state), "peers": {}, "free_bytes_min": 0}
        for topic in raw["topics"]:
            topic["partitions"] = partitions if topic["name"] in _BY_ACCOUNT else 1
        self.settings = msgspec.json.decode(json.dumps(raw), type=ProcessSettings)
        self.state, self.clock = state, WallClock()
        self.bus = FlakyBus(state / "bus", self.settings)
        self.services: list[Service] = []
        self._apps: dict[tuple[int, str], App] = {}
        self._publishers: dict[tuple[str, int], Publisher] = {}
        self._lives = 0

    async def start(self, make: Callable[[Context], Service]) -> Any:
        """Start a service as a new process would."""
        self._lives += 1
        metrics = Metrics(self.clock)
        context = Context(self.settings, self.bus, self.clock, metrics, instance=str(self._lives))  # type: ignore[arg-type]
        service = make(context)
        life = Lifecycle(service)
        app, *others = (
            App(
                service.name,
                access=Access(Keyring("", "127.0.0.1")),
                metrics=metrics,
                now=self.clock.now,
                gate=life.not_ready,
            )
            for _ in ("", *service.other_ports)
        )
        add_standard_routes(app, life, Heartbeat(), metrics)
        service.routes(app)
        self._apps[id(service), ""] = app
        for port, other in zip(service.other_ports, others, strict=True):
            service.other_routes(port, other)
            self._apps[id(service), port] = other
        self.services.append(service)
        await service.start()
        life.started = True
        return service

    async def stop(self, service: Service) -> None:
        """Stop a service as a drain does."""
        self.services.remove(service)
        await service.stop()

    async def close(self) -> None:
        """Stop everything."""
        for service in list(self.services):
            await self.stop(service)
        for publisher in self._publishers.values():
            await publisher.stop()
        await self.bus.close()

    async def say(
        self, topic: str, *events: Any, traceparent: str = TRACE, reference: str = "", partition: int = 0
    ) -> int:
        """Write what the owner of a topic would write; returns the position after it."""
        publisher = self._publishers.get((topic, partition))
        if publisher is None:
            bus: Any = self.bus
            publisher = Publisher(bus, topic, tenant="rig", clock=self.clock, owner="test", partition=partition)
            await publisher.start()
            self._publishers[topic, partition] = publisher
        await publisher.append(
            [
                publisher.stamp(
                    event,
                    offset=offset,
                    traceparent=traceparent,
                    correlation_id=getattr(event, "order_id", ""),
                    causation_id=reference,
                )
                for offset, event in enumerate(events)
            ]
        )
        return publisher.next_seq

    async def say_newer(self, topic: str) -> None:
        """Write what only a later version understands."""
        publisher = self._publishers[topic, 0]
        assert publisher._writer is not None
        await publisher._writer.append([b'{"seq":%d,"data":{"type":"OrderTeleported"}}' % publisher.next_seq])

    async def said(self, topic: str, partition: int = 0) -> list[Envelope]:
        """The whole log of a partition of a topic."""
        start, end = await self.bus.start(topic, partition), await self.bus.end(topic, partition)
        records = await self.bus.read(topic, partition, start, max(1, end - start)) if end > start else []
        return [decode(record.body) for record in records]

    async def until(self, condition: Callable[[], Any], what: str = "it happens") -> Any:
        """Wait for a condition, which may be a coroutine function."""
        return await until(condition, what)

    async def ask(
        self,
        service: Service,
        method: str,
        target: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        port: str = "",
    ) -> tuple[int, Any]:
        """Ask a service as a client does; the status and the JSON (or text) of the answer."""
        raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        parts = urlsplit(target)
        headers = [(b"host", b"127.0.0.1")]
        if body is not None:
            headers += [(b"content-length", b"%d" % len(raw)), (b"content-type", content_type.encode())]
        scope = {
            "type": "http",
            "method": method,
            "path": parts.path,
            "query_string": parts.query.encode(),
            "headers": headers,
        }
        status, answer = 0, b""

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": raw, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            nonlocal status, answer
            status = message.get("status", status)
            answer += message.get("body", b"")

        await self._apps[id(service), port](scope, receive, send)
        try:
            return status, json.loads(answer)
        except ValueError:
            return status, answer.decode()


def spec(name: str, side: Any = "BUY", quantity: str = "1", price: str | None = "100", **terms: Any) -> OrderSpec:
    """An order: MARKET without a price."""
    return OrderSpec(
        client_order_id=name,
        account=terms.pop("account", "main"),
        instrument=SYMBOL,
        side=side,
        order_type=OrderType.MARKET if price is None else OrderType.LIMIT,
        quantity=to_nanos(quantity),
        price=0 if price is None else to_nanos(price),
        **terms,
    )


def accepted(order_id: str, **terms: Any) -> ev.OrderAccepted:
    """What the OMS says of an order that it takes."""
    order = spec(order_id, **terms)
    return ev.OrderAccepted(order_id=order_id, spec=order, reserved_price=order.price)


def filled(number: int, signed: str, price: str, **terms: Any) -> ev.OrderFilled:
    """What the OMS says of an execution."""
    quantity = to_nanos(signed)
    return ev.OrderFilled(
        order_id=f"o{number}",
        exec_id=f"SIM-{number}",
        account=terms.pop("account", "main"),
        instrument=SYMBOL,
        side="BUY" if quantity > 0 else "SELL",
        last_qty=abs(quantity),
        last_px=to_nanos(price),
        cum_qty=abs(quantity),
        leaves_qty=0,
        cum_cost=abs(quantity) * to_nanos(price),
        **terms,
    )
