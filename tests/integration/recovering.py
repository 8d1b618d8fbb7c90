"""An order service and an archive on a real log on the disk, in the test's own event loop.

The venue is the test: it writes `venue.reports` and the prices itself, so every fill is where it says. A process
that dies is one that is let go of without being stopped.
"""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
from one_process import settings_of
from tests.waiting import until

from trade2026.archive.service import ArchiveService
from trade2026.controls.limits import LimitBook
from trade2026.domain import events as ev
from trade2026.domain.market import Trade
from trade2026.domain.orders import partition_of_id
from trade2026.kit.bus.choice import open_bus
from trade2026.kit.bus.membership import EmbeddedMembership, Member, Membership
from trade2026.kit.clock import WallClock
from trade2026.kit.http import App
from trade2026.kit.memory import UNLIMITED
from trade2026.kit.metrics import Metrics
from trade2026.kit.probes import Heartbeat, Lifecycle, add_standard_routes
from trade2026.kit.publisher import Publisher
from trade2026.kit.service import Context
from trade2026.kit.settings import ProcessSettings
from trade2026.oms.service import OmsService
from trade2026.stack.facts import TOPICS

UNIT = 10**9
PRICE = 45_000 * UNIT
ORDER = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.001", "price": "45000"}


def split(settings: ProcessSettings, partitions: int) -> ProcessSettings:
    """The same stack with so many partitions of the topics that are keyed by account."""
    keyed = {topic.name for topic in TOPICS if topic.by_account}
    topics = [
        msgspec.structs.replace(topic, partitions=partitions if topic.name in keyed else 1) for topic in settings.topics
    ]
    return msgspec.structs.replace(settings, topics=topics)


def alone(service: str, me: Member, partitions: int) -> Membership:
    """It has no other replica."""
    return EmbeddedMembership(me, partitions)


class Hosted:
    """One service with its routes, on a bus of its own, as in a process of its own."""

    def __init__(
        self,
        make: Callable[[Context], Any],
        settings: ProcessSettings,
        number: int,
        membership: Callable[[str, Member, int], Membership] = alone,
    ) -> None:
        self.bus = open_bus(settings)
        self.free_bytes = 10**12
        self.memory = UNLIMITED
        clock = WallClock()
        context = Context(
            settings,
            self.bus,
            clock,
            Metrics(clock),
            f"test-{number}",
            lambda _: self.free_bytes,
            membership,
            lambda: self.memory,
        )
        self.service: Any = make(context)
        self.life = Lifecycle(self.service)
        self.app = App(self.service.name, now=clock.now, gate=self.life.not_ready)
        add_standard_routes(self.app, self.life, Heartbeat(), context.metrics)
        self.service.routes(self.app)
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app, client=("127.0.0.1", 1)), base_url="http://127.0.0.1"
        )

    async def start(self) -> None:
        await self.service.start()
        self.life.started = True

    async def stop(self) -> None:
        await self.service.stop()
        await self._client.aclose()
        await self.bus.close()

    async def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return await self._client.request(method, path, json=body)


class Desk:
    """The processes of a stack, the venue, and what the test wants to know of them."""

    def __init__(self, state: Path, partitions: int = 1, **changed: Any) -> None:
        settings = msgspec.structs.replace(settings_of(state, ["oms", "archive"]), **changed)
        self.settings = split(settings, partitions)
        self.state = state
        self.started: list[Hosted] = []
        self.clock = WallClock()
        self.venue_bus = open_bus(self.settings)
        self.reports = [self._publisher("venue.reports", partition) for partition in range(partitions)]
        self.ticks = self._publisher("market.ticks")
        self.risk = self._publisher("risk.events")
        self.executions = 0

    def _publisher(self, topic: str, partition: int = 0) -> Publisher:
        return Publisher(self.venue_bus, topic, tenant="edges", clock=self.clock, owner="test", partition=partition)

    async def start(self) -> None:
        for publisher in (*self.reports, self.ticks, self.risk):
            await publisher.start()
        await self.tick()

    async def tick(self) -> None:
        """A trade, so that the price is fresh."""
        now = self.clock.now()
        await self.ticks.publish(Trade(instrument="BTCUSDT.SIM", trade_id="1", price=PRICE, quantity=UNIT, ts_recv=now))

    def limited(self, book: LimitBook) -> None:
        """Another manifest: its limits hold for services that start from here on."""
        self.settings = msgspec.structs.replace(self.settings, risk=msgspec.Raw(msgspec.json.encode(book)))

    async def oms(self) -> Hosted:
        """Start an order service; the one before is not told."""
        return await self._run(OmsService)

    async def archived(self) -> None:
        """Run an archive until it has written and kept all that there is."""
        archive = await self._run(ArchiveService)
        await archive.stop()
        self.started.remove(archive)

    async def _run(self, make: Callable[[Context], Any]) -> Hosted:
        hosted = Hosted(make, self.settings, len(self.started))
        self.started.append(hosted)
        await hosted.start()
        return hosted

    async def stop(self) -> None:
        for hosted in reversed(self.started):
            await hosted.stop()
        await self.venue_bus.close()

    async def say(self, *reports: ev.ReportEvent) -> None:
        """The venue reports, each in the partition of its order."""
        for publisher in self.reports:
            own = [report for report in reports if partition_of_id(report.order_id) == publisher.partition]
            if own:
                await publisher.append([publisher.stamp(report, offset=n) for n, report in enumerate(own)])

    def fill(self, order_id: str, quantity: int = UNIT // 1000, price: int = PRICE) -> ev.VenueFilled:
        self.executions += 1
        return ev.VenueFilled(order_id=order_id, exec_id=f"x{self.executions}", last_qty=quantity, last_px=price)

    async def log(self, partition: int = 0) -> list[ev.Envelope]:
        """The whole order log of a partition."""
        records = await self.venue_bus.read("orders.events", partition, 0, 10**7)
        return [ev.decode(record.body) for record in records]

    def history(self) -> sqlite3.Connection:
        return sqlite3.connect(self.state / "archive" / "history.db")


async def submit(oms: Hosted, **terms: Any) -> httpx.Response:
    return await oms.ask("POST", "/orders", {**ORDER, **terms})


async def accepted(oms: Hosted, **terms: Any) -> str:
    answer = await submit(oms, **terms)
    assert answer.status_code == 200, answer.text
    return answer.json()["order_id"]


async def status(oms: Hosted, order_id: str) -> str:
    return (await oms.ask("GET", f"/orders/{order_id}")).json()["status"]


async def until_status(oms: Hosted, order_id: str, wanted: str) -> None:
    async def has_it() -> bool:
        return await status(oms, order_id) == wanted

    await until(has_it, f"{order_id} is {wanted}")
