"""The risk service on a bus in memory: what it answers, records and tells others."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.waiting import until

from trade2026.controls import order_log
from trade2026.controls.limits import LimitBook, LimitSet, Tightening
from trade2026.domain import events as ev
from trade2026.domain.instruments import Instrument
from trade2026.domain.market import Reference, Trade
from trade2026.domain.orders import OrderSpec, OrderType
from trade2026.domain.shards import partition_of
from trade2026.kit.bus.memory import MemoryBus
from trade2026.kit.bus.port import TopicConfig
from trade2026.kit.clock import ManualClock
from trade2026.kit.publisher import Publisher
from trade2026.kit.service import Context
from trade2026.kit.settings import ProcessSettings, VenueSettings
from trade2026.risk import orders_seen
from trade2026.risk.machine import REFUSALS_PER_MINUTE, WouldWiden
from trade2026.risk.orders_seen import OrdersSeen
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


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path)
    await desk.start()
    yield desk
    await desk.stop()


@pytest.fixture
async def split_desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """Its order log has four partitions."""
    desk = Desk(tmp_path, partitions=4)
    await desk.start()
    yield desk
    await desk.stop()


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


async def test_a_check_counts_what_the_order_log_shows(desk: Desk) -> None:
    risk = await desk.run()
    assert codes(risk, order(2)) == set()
    await desk.order_events(accepted())
    assert risk.as_of == 0
    assert codes(risk, order(2)) == {"CREDIT_THRESHOLD"}


def keep_snapshot(orders: OrdersSeen) -> None:
    """As the archive does."""
    state = b"\n".join(order_log.slices(orders.fold, orders.controls))
    orders.snapshots.write(state, orders.fold.next_seq, "1")


async def test_a_restart_begins_with_the_snapshot_of_the_order_log_and_misses_no_alert(desk: Desk) -> None:
    risk = await desk.run()
    await desk.order_events(accepted(), ev.Killed(scope="strategy:mm", reason="runaway", by="ann"))
    await risk.look_around()
    keep_snapshot(risk.orders[0])
    await desk.order_events(ev.Killed(scope="strategy:xx", reason="runaway", by="ann"))
    again = await desk.run()
    assert again.as_of == 2
    assert codes(again, order(2)) == {"CREDIT_THRESHOLD"}
    assert sorted(again.stopped()) == ["strategy:mm", "strategy:xx"]
    assert sorted(again.log.machine.alerts) == ["killed-1", "killed-2"]
    assert again.orders[0].snapshots.unreadable == {}


@pytest.mark.parametrize(("pause", "alerts"), [(0, 1), (2 * 60 * SECOND, 0)])
async def test_refusals_of_the_same_minute_before_a_snapshot_count_after_a_restart(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, pause: int, alerts: int
) -> None:
    monkeypatch.setattr(orders_seen, "_RECORDS_PER_READ", 3)
    refused = ev.OrderRefused(order_id="o", spec=accepted().spec, reject_code="RESTRICTED", reason="listed")
    risk = await desk.run()
    await desk.order_events(*[refused] * (REFUSALS_PER_MINUTE - 1))
    desk.clock.advance(pause)
    await desk.order_events(ev.Resumed(scope="stack", reason="test", by="ann"))
    await risk.look_around()
    keep_snapshot(risk.orders[0])
    again = await desk.run()
    assert again.as_of == REFUSALS_PER_MINUTE - 1
    await desk.order_events(refused)
    await again.look_around()
    assert len(again.log.machine.alerts) == alerts


async def test_since_when_a_scope_is_stopped_is_known_also_after_a_restart(desk: Desk) -> None:
    risk = await desk.run()
    await desk.order_events(ev.Killed(scope="strategy:mm", reason="runaway", by="ann"))
    await risk.look_around()
    since = risk.stopped_since("strategy:mm")
    assert since is not None
    assert risk.stopped_since("strategy:xx") is None
    keep_snapshot(risk.orders[0])
    desk.clock.advance(SECOND)
    again = await desk.run()
    assert again.stopped_since("strategy:mm") == since
    await desk.order_events(ev.Resumed(scope="strategy:mm", reason="fixed", by="ann"))
    assert not again.orders[0].stopped_at


async def test_a_snapshot_beyond_what_was_looked_at_is_not_used(desk: Desk) -> None:
    risk = await desk.run()
    await desk.order_events(ev.Killed(scope="strategy:mm", reason="runaway", by="ann"))
    keep_snapshot(risk.orders[0])
    again = await desk.run()
    assert len(again.orders[0].snapshots.unreadable) == 1
    assert sorted(again.log.machine.alerts) == ["killed-0"]


async def test_the_first_start_records_the_limits_of_the_manifest_and_the_second_does_not(desk: Desk) -> None:
    await desk.run()
    await desk.run()
    (event,) = await desk.recorded()
    assert isinstance(event, ev.LimitsChanged)
    assert (event.version, event.by) == (2, "manifest")


async def test_a_manifest_with_other_limits_is_a_new_version(desk: Desk) -> None:
    await desk.run()
    risk = await desk.run(LimitBook(stack=LimitSet(max_order_value=5 * UNIT)))
    assert (risk.book.version, risk.book.stack.max_order_value) == (3, 5 * UNIT)


async def test_a_tightening_survives_a_restart_and_ends_in_time(desk: Desk) -> None:
    risk = await desk.run()
    await risk.tighten(tighten(10, until=desk.clock.now() + SECOND))
    risk = await desk.run()
    assert risk.book.stack.max_order_value == 10 * UNIT
    desk.clock.advance(SECOND)
    await risk.look_around()
    assert risk.book.stack.max_order_value == 100_000 * UNIT
    assert risk.log.machine.history[-1].by == "clock"


async def test_a_tightening_that_leaves_a_partition_less_than_a_lot_is_warned_of(
    split_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    risk = await split_desk.run()
    book = LimitBook(stack=LimitSet(max_gross_exposure=1, max_open_orders=3))
    counted = ["max_open_orders of stack is 3 over 4 partitions"]
    assert [text.partition(",")[0] for text in risk.warnings(book, "stack")] == counted
    monkeypatch.setattr(risk, "reference", lambda name: Reference(PRICE, PRICE, PRICE))
    assert "less than the smallest order of BTCUSDT.SIM" in " ".join(risk.warnings(book, "stack"))


async def test_a_wider_limit_is_not_recorded(desk: Desk) -> None:
    risk = await desk.run()
    before = await desk.recorded()
    with pytest.raises(WouldWiden):
        await risk.tighten(tighten(100_001))
    assert await desk.recorded() == before


async def test_a_blocked_symbol_stays_blocked_until_it_is_unblocked(desk: Desk) -> None:
    risk = await desk.run()
    await risk.block("BTCUSDT.SIM", "ann", "news")
    risk = await desk.run()
    assert risk.book.stack.restricted == ["BTCUSDT.SIM"]
    book = await risk.unblock("BTCUSDT.SIM", "ann", "over")
    assert book.stack.restricted is None


async def test_adopted_limits_hold_for_checks(desk: Desk) -> None:
    risk = await desk.run()
    book = LimitBook(version=9, stack=LimitSet(max_order_quantity=0))
    await desk.order_events(ev.LimitsAdopted(version=9, limits=msgspec.Raw(msgspec.json.encode(book))))
    assert codes(risk, order()) == {"MAX_ORDER_QUANTITY"}


async def test_a_kill_tells_order_service_and_venue_before_it_is_logged(desk: Desk) -> None:
    risk = await desk.run()
    answer = await risk.stops.kill(ev.Killed(scope="account:main", reason="runaway", by="ann"), "Bearer k")
    told = ("/kill", {"scope": "account:main", "reason": "runaway", "halt": False}, "bearer k")
    assert desk.oms.heard == [told]
    assert desk.gateway.heard == [told]
    assert answer["logged"]
    assert all(each["ok"] for each in answer["reached"].values())
    assert isinstance((await desk.recorded())[-1], ev.Killed)
    assert risk.stops.unconfirmed("account:main") == []


async def test_a_kill_holds_for_checks_before_the_order_log_shows_it(desk: Desk) -> None:
    risk = await desk.run()
    await risk.stops.kill(ev.Killed(scope="account:main", reason="runaway", by="ann"), "")
    assert codes(risk, order()) == {"KILLED"}
    assert codes(risk, order(account="other")) == set()
    await desk.order_events(ev.Killed(scope="account:main", reason="runaway", by="ann"))
    assert codes(risk, order()) == {"KILLED"}
    await desk.order_events(ev.Resumed(scope="account:main", reason="fixed", by="ann"))
    assert codes(risk, order()) == set()


async def test_who_did_not_confirm_a_kill_is_asked_again(desk: Desk) -> None:
    risk = await desk.run()
    desk.oms.status = 503
    answer = await risk.stops.kill(ev.Killed(scope="stack", reason="r", by="ann"), "")
    assert not answer["reached"]["oms"]["ok"]
    assert not risk.health()["oms"].ok
    desk.oms.status = 200
    await risk.look_around()
    assert len(desk.oms.heard) == 2
    assert len(desk.gateway.heard) == 1
    assert risk.health()["oms"].ok


async def test_a_kill_works_when_its_log_does_not(desk: Desk) -> None:
    risk = await desk.run()
    thief = desk._publisher("risk.events")
    await thief.start()
    answer = await risk.stops.kill(ev.Killed(scope="stack", reason="r", by="ann"), "")
    assert not answer["logged"]
    assert len(desk.oms.heard) == len(desk.gateway.heard) == 1
    assert not risk.health()["log"].ok


async def test_a_service_that_nobody_runs_is_reported_as_not_reached(desk: Desk) -> None:
    await desk.gateway.stop()
    risk = await desk.run()
    answer = await risk.stops.kill(ev.Killed(scope="stack", reason="r", by="ann"), "")
    assert answer["reached"]["oms"]["ok"]
    assert answer["reached"]["gateway"]["status"] == 0
    assert answer["reached"]["gateway"]["detail"]


async def test_a_resume_goes_to_both_and_ends_what_was_latched(desk: Desk) -> None:
    risk = await desk.run()
    await risk.stops.kill(ev.Killed(scope="stack", reason="r", by="ann"), "")
    await risk.stops.resume(ev.Resumed(scope="stack", reason="fixed", by="bob"), "")
    assert [path for path, _, _ in desk.oms.heard] == ["/kill", "/resume"]
    assert [path for path, _, _ in desk.gateway.heard] == ["/kill", "/resume"]
    assert codes(risk, order()) == set()
    assert risk.stopped() == {}


async def test_a_release_that_the_order_service_does_not_confirm_releases_nothing(desk: Desk) -> None:
    risk = await desk.run()
    await risk.stops.kill(ev.Killed(scope="stack", reason="r", by="ann"), "")
    desk.oms.status = 503
    answer = await risk.stops.resume(ev.Resumed(scope="stack", reason="fixed", by="bob"), "")
    assert not answer["reached"]["oms"]["ok"]
    assert not answer["logged"]
    assert codes(risk, order()) == {"KILLED"}
    assert list(risk.stopped()) == ["stack"]
    assert [path for path, _, _ in desk.gateway.heard] == ["/kill"]
    assert isinstance((await desk.recorded())[-1], ev.Killed)


async def test_a_release_that_failed_is_not_asked_for_again_behind_the_persons_back(desk: Desk) -> None:
    risk = await desk.run()
    await risk.stops.kill(ev.Killed(scope="stack", reason="r", by="ann"), "")
    desk.oms.status = 503
    await risk.stops.resume(ev.Resumed(scope="stack", reason="fixed", by="bob"), "")
    desk.oms.status = 200
    await risk.look_around()
    assert [path for path, _, _ in desk.oms.heard] == ["/kill", "/resume"]
    assert risk.health()["oms"].ok


async def test_a_kill_that_was_not_confirmed_is_still_asked_for_when_its_release_fails(desk: Desk) -> None:
    risk = await desk.run()
    desk.oms.status = 503
    await risk.stops.kill(ev.Killed(scope="stack", reason="r", by="ann"), "")
    await risk.stops.resume(ev.Resumed(scope="stack", reason="fixed", by="bob"), "")
    desk.oms.status = 200
    await risk.look_around()
    assert [path for path, _, _ in desk.oms.heard] == ["/kill", "/resume", "/kill"]


async def test_a_release_ends_the_kill_that_the_venue_had_not_confirmed(desk: Desk) -> None:
    risk = await desk.run()
    desk.gateway.status = 503
    await risk.stops.kill(ev.Killed(scope="stack", reason="r", by="ann"), "")
    await risk.stops.resume(ev.Resumed(scope="stack", reason="fixed", by="bob"), "")
    desk.gateway.status = 200
    await risk.look_around()
    assert [path for path, _, _ in desk.gateway.heard] == ["/kill", "/resume"]
    assert risk.health()["gateway"].ok


async def test_a_release_that_the_order_log_shows_ends_what_was_asked_for_before(desk: Desk) -> None:
    risk = await desk.run()
    desk.gateway.status = 503
    stop, release = ev.Killed(scope="stack", reason="r", by="ann"), ev.Resumed(scope="stack", reason="ok", by="bob")
    await risk.stops.kill(stop, "")
    desk.clock.advance(SECOND)
    await desk.order_events(stop, release)
    assert (risk.stopped(), risk.stops.unconfirmed("stack")) == ({}, [])


async def test_an_older_release_that_the_order_log_shows_late_ends_no_newer_stop(desk: Desk) -> None:
    risk = await desk.run()
    older = desk.orders.stamp(ev.Resumed(scope="stack", reason="ok", by="bob"))
    desk.clock.advance(SECOND)
    await risk.stops.kill(ev.Killed(scope="stack", reason="r", by="ann"), "")
    await desk.orders.append([older])
    await until(lambda: risk.as_of == 0, "risk has read it")
    assert list(risk.stopped()) == ["stack"]


async def test_a_kill_that_comes_while_a_release_is_asked_for_holds(desk: Desk) -> None:
    risk = await desk.run()
    await risk.stops.kill(ev.Killed(scope="stack", reason="r", by="ann"), "")
    desk.oms.may_answer.clear()
    release = asyncio.ensure_future(risk.stops.resume(ev.Resumed(scope="stack", reason="fixed", by="bob"), ""))
    await until(lambda: len(desk.oms.heard) == 2, "the release has arrived")
    again = asyncio.ensure_future(risk.stops.kill(ev.Killed(scope="stack", reason="again", by="ann"), ""))
    await until(lambda: len(desk.gateway.heard) == 2, "the kill has arrived")
    desk.oms.may_answer.set()
    await asyncio.gather(release, again)
    assert [stop.reason for stop in risk.stopped().values()] == ["again"]
    assert [path for path, _, _ in desk.gateway.heard] == ["/kill", "/kill"]


async def test_a_halt_by_the_controls_raises_one_alert_also_after_a_restart(desk: Desk) -> None:
    risk = await desk.run()
    halt = ev.Killed(scope="strategy:mm", reason="r", by="controls", halt=True, cause="repeated_execution")
    await desk.order_events(halt)
    await risk.look_around()
    risk = await desk.run()
    raised = [event for event in await desk.recorded() if isinstance(event, ev.AlertRaised)]
    assert [alert.alert_id for alert in raised] == ["halted-0"]
    await risk.acknowledge("halted-0", "ann", "seen")
    assert risk.stats()["alerts_open"] == 0


async def test_exposure_near_its_limit_raises_an_alert_once_a_day(desk: Desk) -> None:
    risk = await desk.run()
    await desk.order_events(accepted(quantity=2))
    await risk.look_around()
    await risk.look_around()
    raised = [event for event in await desk.recorded() if isinstance(event, ev.AlertRaised)]
    assert [(alert.scope, alert.severity) for alert in raised] == [("account:main", "warning")]


async def test_stale_market_data_shows_in_health(desk: Desk) -> None:
    risk = await desk.run()
    assert not risk.health()["market_data"].ok
    await desk.trade()
    assert risk.health()["market_data"].ok
    desk.clock.advance(11 * SECOND)
    assert not risk.health()["market_data"].ok


# ── several partitions of the order log ─────────────────────────────────────────────────────────

ACCOUNTS = {partition_of(account, 4): account for account in map("account{}".format, range(40))}
"""One of each partition."""


def accepted_by(account: str, quantity: int = 1) -> ev.OrderAccepted:
    return ev.OrderAccepted(order_id=f"o-{account}", spec=order(quantity, account=account), reserved_price=PRICE)


async def test_a_check_is_as_of_the_partition_of_its_account(split_desk: Desk) -> None:
    risk = await split_desk.run()
    for partition in (1, 3):
        await split_desk.order_events(accepted_by(ACCOUNTS[partition]), partition=partition)
    assert codes(risk, order(2, account=ACCOUNTS[1])) == {"CREDIT_THRESHOLD"}
    assert codes(risk, order(2, account=ACCOUNTS[2])) == set()
    assert (risk.orders_of(ACCOUNTS[1]).as_of, risk.orders_of(ACCOUNTS[2]).as_of) == (0, -1)
    assert risk.as_of == {0: -1, 1: 0, 2: -1, 3: 0}


async def test_exposure_of_the_stack_is_that_of_all_partitions(split_desk: Desk) -> None:
    risk = await split_desk.run()
    await split_desk.order_events(accepted_by(ACCOUNTS[0]))
    sold = msgspec.structs.replace(accepted_by(ACCOUNTS[2]), spec=order(3, account=ACCOUNTS[2], side="SELL"))
    await split_desk.order_events(sold, partition=2)
    found, of_one = risk.exposure("stack"), risk.exposure("account", ACCOUNTS[2])
    assert (found.open_orders, found.gross, found.net_worst) == (2, 4 * PRICE, 3 * PRICE)
    assert (of_one.open_orders, of_one.gross, of_one.net_worst) == (1, 3 * PRICE, 3 * PRICE)


async def test_a_stop_is_shown_by_all_partitions_and_told_once(split_desk: Desk) -> None:
    risk = await split_desk.run()
    stop = ev.Killed(scope="stack", reason="enough", by="ann")
    await risk.stops.kill(stop, "")
    for partition in range(3):
        await split_desk.order_events(stop, partition=partition)
    assert "stack" in risk.stops.latched, "one partition does not know of it yet"
    await split_desk.order_events(stop, partition=3)
    assert (risk.stops.latched, list(risk.stopped())) == ({}, ["stack"])
    tripped = ev.Killed(scope="strategy:mm", reason="lost", by="controls", halt=True, cause="breach")
    await split_desk.order_events(tripped, partition=2)
    await until(lambda: "strategy:mm" in risk.stops.latched, "the others are told to halt it, too")
    for partition in (0, 1, 3):
        await split_desk.order_events(msgspec.structs.replace(tripped, cause="person"), partition=partition)
    account = ev.Killed(scope=f"account:{ACCOUNTS[3]}", reason="enough", by="ann")
    await risk.stops.kill(account, "")
    await split_desk.order_events(account, partition=3)
    assert risk.stops.latched == {}, "an account's stop concerns its own partition only"
    await risk.look_around()
    assert sorted(risk.log.machine.alerts) == ["halted-1", "halted-2-1", "killed-0", "killed-3-2"]
    await split_desk.order_events(ev.Resumed(scope="stack", reason="well", by="ann"))
    assert "stack" in risk.stopped(), "one partition is released, three are not"


async def test_each_partition_begins_with_its_own_snapshot_and_misses_no_alert(split_desk: Desk) -> None:
    risk = await split_desk.run()
    for partition, account in ACCOUNTS.items():
        await split_desk.order_events(accepted_by(account), partition=partition)
    await risk.look_around()
    for orders in risk.orders[1:]:
        keep_snapshot(orders)
    refused = [ev.OrderRefused(order_id="o", spec=order(account=ACCOUNTS[3]), reject_code="RESTRICTED", reason="x")]
    await split_desk.order_events(*refused * REFUSALS_PER_MINUTE, partition=3)
    again = await split_desk.run()
    await again.look_around()
    assert again.exposure("stack").open_orders == 4
    assert [alert.scope for alert in again.log.machine.alerts.values()] == [f"account:{ACCOUNTS[3]}"]
    assert [orders.snapshots.unreadable for orders in again.orders] == [{}] * 4


MAKER = "strategy:maker"


def own(quantity: int) -> LimitSet:
    """What a strategy's manifest sets."""
    return LimitSet(max_order_quantity=quantity)


async def test_limits_that_a_strategys_manifest_tells_hold_until_it_tells_others_also_after_a_restart(
    desk: Desk,
) -> None:
    risk = await desk.run()
    spec = order(2, strategy="maker")
    await risk.tell("maker", own(UNIT), "platform", "it was applied")
    assert risk.book.strategies["maker"] == own(UNIT) and not risk.is_enforced("maker")
    await adopted(desk, risk.book)
    assert risk.is_enforced("maker") and "MAX_ORDER_QUANTITY" in codes(risk, spec)
    risk = await desk.run()
    assert risk.book.strategies["maker"] == own(UNIT)
    await risk.tell("maker", own(3 * UNIT), "platform", "it was changed")
    await adopted(desk, risk.book)
    assert "MAX_ORDER_QUANTITY" not in codes(risk, spec)
    version = risk.book.version
    await risk.tell("maker", own(3 * UNIT), "platform", "it was looked at")
    assert risk.book.version == version
    await risk.tell("maker", LimitSet(), "platform", "it was deleted")
    assert "maker" not in risk.book.strategies and not risk.book.told
    changes = [each for each in await desk.recorded() if isinstance(each, ev.LimitsChanged)]
    assert [(each.by, each.reason) for each in changes][-3:] == [
        ("platform", "it was applied"), ("platform", "it was changed"), ("platform", "it was deleted"),
    ]  # fmt: skip


async def test_what_a_strategys_manifest_does_not_set_is_as_the_stack_says(desk: Desk) -> None:
    risk = await desk.run(LimitBook(strategy_default=LimitSet(max_order_quantity=9, max_open_orders=5)))
    await risk.tell("maker", own(3), "platform", "it was applied")
    assert risk.book.strategies["maker"] == LimitSet(max_order_quantity=3, max_open_orders=5)
    assert risk.book.of("strategy", "taker") == LimitSet(max_order_quantity=9, max_open_orders=5)


async def test_what_a_person_has_tightened_stands_when_the_strategys_manifest_goes_and_comes_again(desk: Desk) -> None:
    risk = await desk.run()
    await risk.tell("maker", own(9), "platform", "it was applied")
    tight = Tightening(scope=MAKER, limits=own(2), by="ann", reason="thin")
    await risk.tighten(tight)
    await risk.tell("maker", LimitSet(), "platform", "it was deleted")
    assert risk.book.strategies["maker"] == own(2)
    risk = await desk.run()
    await risk.tell("maker", own(9), "platform", "it was applied")
    assert risk.book.strategies["maker"] == own(2)
    assert [each.by for each in risk.book.tightened] == ["ann"]
    await risk.tell("maker", own(8), "platform", "a person has changed that limit in the manifest")
    assert risk.book.strategies["maker"] == own(8)


async def test_what_is_told_can_not_widen_what_is_tightened_for_a_time(desk: Desk) -> None:
    risk = await desk.run()
    await risk.tighten(Tightening(scope=MAKER, limits=own(2), by="ann", reason="r", until=desk.clock.now() + SECOND))
    for limits in (own(9), own(8), LimitSet()):
        await risk.tell("maker", limits, "platform", "it was applied")
        assert risk.book.strategies["maker"] == own(2)


async def adopted(desk: Desk, book: LimitBook) -> None:
    """The order service has recorded them."""
    limits = msgspec.Raw(msgspec.json.encode(book))
    await desk.order_events(ev.LimitsAdopted(version=book.version, limits=limits))
