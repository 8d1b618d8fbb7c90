"""A risk service on a bus in memory, with a clock and peers around it."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
from tests.waiting import until

from trade2026.controls.limits import LimitBook, LimitSet, Tightening
from trade2026.domain import events as ev
from trade2026.domain.instruments import Instrument
from trade2026.domain.market import Trade
from trade2026.domain.orders import OrderSpec, OrderType
from trade2026.kit.bus.memory import MemoryBus
from trade2026.kit.bus.port import TopicConfig
from trade2026.kit.clock import ManualClock
from trade2026.kit.publisher import Publisher
from trade2026.kit.service import Context
from trade2026.kit.settings import ProcessSettings, VenueSettings
from trade2026.risk.service import RiskService

UNIT = 10**9
SECOND = 10**9
PRICE = 45_000 * UNIT
OTHER_TOPICS = [TopicConfig(name=name) for name in ("risk.events", "market.ticks", "market.books")]
CEILINGS = LimitBook(
    stack=LimitSet(max_order_value=100_000 * UNIT), account_default=LimitSet(max_gross_exposure=100_000 * UNIT)
)


class Counter:
    def inc(self, n: int = 1) -> None: ...


class NoMetrics:
    def counter(self, *args: Any, **labels: Any) -> Counter:
        return Counter()


class Peer:
    """A service that answers every POST and remembers what it was told."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.heard: list[tuple[str, dict[str, Any], str]] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        body = await reader.readexactly(int(headers["content-length"]))
        self.heard.append((head.split()[1], msgspec.json.decode(body), headers.get("authorization", "")))
        await self.may_answer.wait()
        writer.write(f"HTTP/1.1 {self.status} X\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}".encode())
        writer.close()


class Desk:
    """A risk service with the bus, clock and peers around it."""

    def __init__(self, state: Path, partitions: int = 1) -> None:
        self.topics = [TopicConfig(name="orders.events", partitions=partitions), *OTHER_TOPICS]
        self.bus, self.clock, self.state = MemoryBus(self.topics), ManualClock(), state
        self.oms, self.gateway = Peer(), Peer()
        self.ports: dict[str, int] = {}
        self.partitions = [self._publisher("orders.events", partition) for partition in range(partitions)]
        self.orders = self.partitions[0]
        self.ticks = self._publisher("market.ticks")
        self.risk: RiskService | None = None

    def _publisher(self, topic: str, partition: int = 0) -> Publisher:
        return Publisher(self.bus, topic, tenant="desk", clock=self.clock, owner="test", partition=partition)

    async def start(self) -> None:
        self.ports = {"oms": await self.oms.start(), "gateway": await self.gateway.start(), "risk": 0}
        for orders in self.partitions:
            await orders.start()
        await self.ticks.start()

    async def run(self, ceilings: LimitBook = CEILINGS) -> RiskService:
        """Start the service, or start it again as a new process would."""
        if self.risk is not None:
            await self.risk.stop()
        settings = ProcessSettings(
            stack="desk",
            release="orders",
            services=["risk"],
            config_hash="h",
            allowed_versions=[],
            instruments=[
                Instrument(
                    symbol="BTCUSDT", venue="SIM", base="BTC", quote="USDT", settlement="USDT", tick_size=1, lot_size=1
                )
            ],
            venues=[VenueSettings(name="SIM", type="replay")],
            topics=self.topics,
            ports=self.ports,
            risk=msgspec.Raw(msgspec.json.encode(ceilings)),
            state_dir=str(self.state),
        )
        self.risk = RiskService(Context(settings, self.bus, self.clock, NoMetrics()))  # type: ignore[arg-type]
        await self.risk.start()
        return self.risk

    async def stop(self) -> None:
        if self.risk is not None:
            await self.risk.stop()
        await self.oms.stop()
        await self.gateway.stop()

    async def order_events(self, *events: ev.AnyEvent, partition: int = 0) -> None:
        for event in events:
            await self.partitions[partition].publish(event)
        await until(self._is_read, "risk has read them")

    def _is_read(self) -> bool:
        written = [orders.next_seq for orders in self.partitions]
        return self.risk is None or [orders.fold.next_seq for orders in self.risk.orders] == written

    async def trade(self, price: int = PRICE) -> None:
        await self.ticks.publish(Trade("BTCUSDT.SIM", "t", price, UNIT))
        await until(
            lambda: self.risk is not None and self.risk.reference("BTCUSDT.SIM") is not None, "risk has read it"
        )

    async def recorded(self) -> list[ev.AnyEvent]:
        records = await self.bus.read("risk.events", 0, 0, 1_000)
        return [ev.decode(record.body).data for record in records]


def order(quantity: int = 1, **terms: Any) -> OrderSpec:
    values = {"client_order_id": "c", "account": "main", "instrument": "BTCUSDT.SIM", "side": "BUY", "price": PRICE}
    return OrderSpec(**(values | {"order_type": OrderType.LIMIT, "quantity": quantity * UNIT} | terms))


def accepted(order_id: str = "o1", quantity: int = 1) -> ev.OrderAccepted:
    return ev.OrderAccepted(order_id=order_id, spec=order(quantity, client_order_id=order_id), reserved_price=PRICE)


def codes(risk: RiskService, spec: OrderSpec) -> set[str]:
    return {check.code for check in risk.explain(spec, risk.context.clock.now()) if not check.passed}


def tighten(value: int, until: int = 0) -> Tightening:
    limits = LimitSet(max_order_value=value * UNIT)
    return Tightening(scope="stack", limits=limits, by="ann", reason="thin", until=until)
