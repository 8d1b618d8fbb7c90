"""The services behind the order path, on one bus: what they answer, and what a restart leaves unchanged."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.checker import check_derived, compare_positions, read_orders

from trade2026.archive import api as archive_api
from trade2026.archive.service import ArchiveService
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
from trade2026.pnl import api as pnl_api
from trade2026.pnl.service import PnlService
from trade2026.ptrc import api as ptrc_api
from trade2026.ptrc.service import PtrcService

UNIT = 10**9
TOPICS = [
    *(TopicConfig(name=name) for name in ("orders.events", "venue.reports", "risk.events")),
    *(TopicConfig(name=name, durable=False) for name in ("positions", "pnl", "market.ticks", "market.books")),
]
BTC = Instrument(
    symbol="BTCUSDT", venue="SIM", base="BTC", quote="USDT", settlement="USDT", tick_size=UNIT, lot_size=1
)  # fmt: skip


class Desk:
    """A bus, an order log that the test writes, and the services that follow it."""

    def __init__(self, state: Path) -> None:
        self.bus, self.clock, self.orders = MemoryBus(TOPICS), ManualClock(), 0
        settings = ProcessSettings(
            stack="desk", release="projections", services=[], config_hash="", allowed_versions=[], instruments=[BTC],
            venues=[VenueSettings(name="SIM", type="replay")], topics=TOPICS, ports={}, state_dir=str(state),
        )  # fmt: skip
        self.context = Context(settings, self.bus, self.clock, SimpleNamespace())  # type: ignore[arg-type]
        self.log = self.publisher("orders.events", "oms")
        self.reports = self.publisher("venue.reports", "gateway")

    def publisher(self, topic: str, owner: str) -> Publisher:
        return Publisher(self.bus, topic, tenant="desk", clock=self.clock, owner=owner)

    async def open(self) -> None:
        await self.log.start()
        await self.reports.start()

    async def trade(self, side: Any, quantity: int, price: int, strategy: str = "") -> str:
        """One order that fills whole; returns its id."""
        order_id, self.orders = f"o0-{self.orders}", self.orders + 1
        self.clock.advance(UNIT)
        spec = OrderSpec(
            client_order_id=f"c{order_id}", account="main", instrument="BTCUSDT.SIM", side=side,
            order_type=OrderType.LIMIT, quantity=quantity, price=price, strategy=strategy,
        )  # fmt: skip
        trace = {"correlation_id": order_id, "traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}
        accepted = await self.log.publish(ev.OrderAccepted(order_id=order_id, spec=spec, reserved_price=price), **trace)
        self.clock.advance(1)
        cause = f"orders.events/0/{accepted}"
        report = await self.reports.publish(
            ev.VenueFilled(order_id=order_id, exec_id=f"x{order_id}", last_qty=quantity, last_px=price),
            causation_id=cause, **trace,
        )  # fmt: skip
        self.clock.advance(1)
        fill = ev.OrderFilled(
            order_id=order_id, exec_id=f"x{order_id}", account="main", instrument="BTCUSDT.SIM", side=side,
            last_qty=quantity, last_px=price, fee=UNIT * UNIT, cum_qty=quantity, leaves_qty=0,
            cum_cost=quantity * price, strategy=strategy, report_seq=report,
        )  # fmt: skip
        await self.log.publish(fill, causation_id=f"venue.reports/0/{report}", **trace)
        self.clock.advance(1)
        return order_id


@pytest.fixture
async def desk(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path)
    await desk.open()
    await desk.trade("BUY", 3 * UNIT, 100 * UNIT)
    await desk.trade("SELL", UNIT, 110 * UNIT, "mm")
    return desk


async def test_positions_of_both_services_agree_with_the_log_as_of_the_same_event(desk: Desk) -> None:
    ptrc, pnl = PtrcService(desk.context), PnlService(desk.context)
    await ptrc.start()
    await pnl.start()
    log = await read_orders(desk.bus)
    lines = ptrc_api.position_lines(ptrc, "main", lots=True)
    compare_positions(log, {"account": "main", "as_of": ptrc.projection.as_of, "positions": lines}, "ptrc")
    held = pnl.machine.positions_of("main")
    lines = [pnl_api.position_line(pnl.machine, name, position) for name, position in held.items()]
    compare_positions(log, {"account": "main", "as_of": pnl.projection.as_of, "positions": lines}, "pnl")
    assert ptrc.projection.as_of == pnl.projection.as_of == 3
    await ptrc.stop()
    await pnl.stop()


async def test_a_restart_publishes_each_fill_once(desk: Desk) -> None:
    for _ in range(3):
        ptrc, pnl = PtrcService(desk.context), PnlService(desk.context)
        await ptrc.start()
        await pnl.start()
        await ptrc.stop()
        await pnl.stop()
        await desk.trade("BUY", UNIT, 90 * UNIT)
    log = await read_orders(desk.bus)
    assert len(await check_derived(desk.bus, log, "positions")) == 4
    assert len(await check_derived(desk.bus, log, "pnl")) == 4


async def test_the_market_moves_the_unrealized_part(desk: Desk) -> None:
    ticks = desk.publisher("market.ticks", "gateway")
    await ticks.start()
    await ticks.publish(Trade("BTCUSDT.SIM", "t1", 120 * UNIT, UNIT))
    pnl = PnlService(desk.context)
    await pnl.start()
    shown = pnl_api.account_view(pnl.machine, "main")
    assert (shown["realized"], shown["unrealized"], shown["fees"], shown["total"]) == ("10", "40", "2", "48")
    assert [line["strategy"] for line in shown["by_strategy"]] == ["", "mm"]
    await pnl.stop()


async def test_a_statement_is_compared_and_the_missing_execution_named(desk: Desk) -> None:
    ptrc = PtrcService(desk.context)
    await ptrc.start()
    statement = ptrc_api.Statement(
        account="main",
        venue="SIM",
        positions=[ptrc_api.StatedPosition("BTCUSDT", "3")],
        fills=[ptrc_api.StatedExecution(exec_id="xo0-0")],
    )
    answer = ptrc_api.compare(ptrc, statement)
    (found,) = answer["breaks"]
    assert (found["our_quantity"], found["venue_quantity"], found["explained"]) == ("2", "3", True)
    assert found["causes"] == [{"kind": "unknown_fill", "exec_id": "xo0-1", "quantity": "1"}]
    await ptrc.stop()


async def test_a_trace_tells_an_orders_life_on_every_topic_in_order(desk: Desk) -> None:
    ptrc, pnl, archive = PtrcService(desk.context), PnlService(desk.context), ArchiveService(desk.context)
    for service in (ptrc, pnl, archive):
        await service.start()
    events = await archive_api.events_of(archive, "o0-0", 100)
    assert [topic for topic, _ in events] == ["orders.events", "venue.reports", "orders.events", "positions", "pnl"]
    line = archive_api.trace_line(*events[2])
    assert (line["event_id"], line["type"], line["causation_id"]) == (
        "orders.events/0/1",
        "OrderFilled",
        "venue.reports/0/0",
    )
    assert line["data"]["last_px"] == "100"
    for service in (pnl, ptrc, archive):
        await service.stop()


async def test_a_restarted_archive_goes_on_and_leaves_a_snapshot_of_the_order_log(desk: Desk) -> None:
    for expected in (4, 6):
        archive = ArchiveService(desk.context)
        await archive.start()
        assert archive.reader.next_seq() == expected
        assert archive.stats()["orders"] == expected // 2
        await archive.stop()
        snapshot = archive.snapshots.load()
        assert snapshot is not None
        assert snapshot.header.next_seq == expected
        await desk.trade("BUY", UNIT, 90 * UNIT)


async def test_an_archive_whose_log_was_replaced_refuses_to_start(desk: Desk) -> None:
    archive = ArchiveService(desk.context)
    await archive.start()
    await archive.stop()
    desk.bus._partitions["orders.events", 0].bodies.clear()
    archive = ArchiveService(desk.context)
    with pytest.raises(RuntimeError, match="the log was replaced"):
        await archive.start()
    await archive.stop()
