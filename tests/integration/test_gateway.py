"""The venue on a real log: every order event is answered once, whatever happens in between."""

import shutil
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rig import MANIFEST, SYMBOL, TRACE, Rig, accepted, spec

from trade2026.domain import events as ev
from trade2026.domain.numbers import to_nanos
from trade2026.gateway import service as gateway_service
from trade2026.gateway.replay import Recording
from trade2026.gateway.service import GatewayService
from trade2026.kit.bus.port import BusCorrupt, BusFull, BusUncertain
from trade2026.kit.service import Context

PRINTS = Recording("t", list(range(100)), [to_nanos(100 + row % 5) for row in range(100)], [to_nanos(50)] * 100)
"""Prices go from 100 to 104 and back, so that what rests between is filled soon."""
REPORTS = "venue.reports"
ORDERS = "orders.events"


def gateway(context: Context) -> GatewayService:
    return GatewayService(context, PRINTS)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    found = Rig(tmp_path, "venue")
    yield found
    await found.close()


@pytest.fixture
async def open_rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """Its venue takes orders from others than the OMS too."""
    found = Rig(tmp_path, "venue", MANIFEST.replace("loop: true", "loop: true, direct_orders: true"))
    yield found
    await found.close()


async def reports(rig: Rig) -> list[ev.Envelope]:
    return await rig.said(REPORTS)


async def told(rig: Rig, kind: type) -> list[Any]:
    return [envelope.data for envelope in await reports(rig) if isinstance(envelope.data, kind)]


async def trade_ids(rig: Rig) -> list[str]:
    """Of the trades that the venue has said, in that order."""
    messages: list[Any] = [envelope.data for envelope in await rig.said("market.raw")]
    return [msgspec.json.decode(message.body)["trade_id"] for message in messages if message.channel == "trades"]


async def until_answered(rig: Rig, venue: GatewayService, position: int) -> None:
    await rig.until(lambda: venue.owner.ready and venue.machine.orders_next[0] >= position, "the venue has answered")
    await venue.owner.read(lambda machine: machine.next_seq)


async def check_each_once(rig: Rig, count: int) -> None:
    """Each of the orders o0, o1, … was accepted once, and no more of it was filled than was asked for."""
    accepts = Counter(report.order_id for report in await told(rig, ev.VenueAccepted))
    assert accepts == {f"o{number}": 1 for number in range(count)}
    fills = await told(rig, ev.VenueFilled)
    assert len({fill.exec_id for fill in fills}) == len(fills)
    quantities: Counter[str] = Counter()
    for fill in fills:
        quantities[fill.order_id] += fill.last_qty
    assert all(quantity <= to_nanos(1) for quantity in quantities.values())


async def test_reports_name_the_event_that_caused_them_and_carry_its_trace(rig: Rig) -> None:
    venue = await rig.start(gateway)
    await until_answered(rig, venue, await rig.say(ORDERS, accepted("o0", price=None)))
    found = await reports(rig)
    assert [type(envelope.data).__name__ for envelope in found] == ["VenueAccepted", "VenueFilled"]
    assert {envelope.causation_id for envelope in found} == {"orders.events/0/0"}
    assert {envelope.traceparent for envelope in found} == {TRACE}


async def test_a_resting_order_is_filled_by_a_recorded_print_in_the_same_trace(rig: Rig) -> None:
    venue = await rig.start(gateway)
    await until_answered(rig, venue, await rig.say(ORDERS, accepted("o0", price="101")))

    async def fills() -> list[Any]:
        return await told(rig, ev.VenueFilled)

    (fill,) = await rig.until(fills, "a print fills the order")
    assert fill.liquidity in ("MAKER", "TAKER")
    envelope = next(found for found in await reports(rig) if found.data == fill)
    assert envelope.traceparent == TRACE
    if fill.liquidity == "MAKER":
        assert fill.source.startswith("t-")
        assert envelope.causation_id.startswith("market.raw/0/")


@pytest.mark.parametrize("snapshot", [True, False])
async def test_a_restart_goes_on_after_the_last_event_that_was_answered(rig: Rig, snapshot: bool) -> None:
    venue = await rig.start(gateway)
    await until_answered(rig, venue, await rig.say(ORDERS, *(accepted(f"o{n}", price="90") for n in range(5))))
    working = dict(venue.machine.orders)
    await rig.stop(venue)
    if not snapshot:
        shutil.rmtree(rig.state / "snapshots")
    await rig.say(ORDERS, *(accepted(f"o{n}", price="90") for n in range(5, 8)))
    again = await rig.start(gateway)
    assert again.stats()["snapshot_as_of"] == (4 if snapshot else -1)
    await until_answered(rig, again, 8)
    assert {name: order.spec for name, order in working.items()}.items() <= {
        name: order.spec for name, order in again.machine.orders.items()
    }.items()
    await check_each_once(rig, 8)


async def test_a_process_that_was_thought_dead_can_write_no_more(rig: Rig) -> None:
    zombie = await rig.start(gateway)
    await until_answered(rig, zombie, await rig.say(ORDERS, accepted("o0", price="90")))
    heir = await rig.start(gateway)
    await until_answered(rig, heir, await rig.say(ORDERS, *(accepted(f"o{n}", price="90") for n in range(1, 20))))
    await rig.until(lambda: not zombie.owner.ready, "the zombie has noticed")
    status, health = await rig.ask(zombie, "GET", "/health")
    assert (status, health["checks"]["reports_log"]["status"]) == (503, "failed")
    assert (await rig.ask(heir, "GET", "/health"))[0] == 200
    await check_each_once(rig, 20)


@pytest.mark.parametrize("written", [False, True])
async def test_a_commit_that_failed_answers_every_order_all_the_same_and_only_once(rig: Rig, written: bool) -> None:
    venue = await rig.start(gateway)
    await until_answered(rig, venue, await rig.say(ORDERS, accepted("o0", price="90")))
    rig.bus.fail_next(REPORTS, BusUncertain("lost its answer") if written else BusFull("no room"), written=written)
    await rig.say(ORDERS, *(accepted(f"o{n}", price="90") for n in range(1, 6)))
    await until_answered(rig, venue, await rig.say(ORDERS, accepted("o6", price=None)))
    await rig.until(lambda: not rig.bus.failing, "the failure has come to pass")
    await until_answered(rig, venue, 7)
    await check_each_once(rig, 7)
    assert (await rig.ask(venue, "GET", "/health"))[0] == 200


async def test_the_same_order_told_twice_is_taken_once_even_after_a_restart(rig: Rig) -> None:
    venue = await rig.start(gateway)
    await until_answered(rig, venue, await rig.say(ORDERS, accepted("o0", price="90"), accepted("o1", price=None)))
    await rig.say(ORDERS, accepted("o0", price="90"), accepted("o1", price=None))
    await rig.stop(venue)
    again = await rig.start(gateway)
    await until_answered(rig, again, await rig.say(ORDERS, accepted("o0", price="90"), accepted("o2", price="90")))
    await check_each_once(rig, 3)


async def test_cancels_and_amendments_are_answered_too(rig: Rig) -> None:
    venue = await rig.start(gateway)
    end = await rig.say(
        ORDERS,
        accepted("o0", price="90"),
        ev.ReplaceRequested(order_id="o0", quantity=to_nanos(2), price=to_nanos(91)),
        ev.CancelRequested(order_id="o0"),
        ev.CancelRequested(order_id="o0"),
        ev.CancelRequested(order_id="nobody"),
        ev.CancelRequested(order_id="o0", routed=False),
    )
    await until_answered(rig, venue, end - 1)
    assert [type(envelope.data).__name__ for envelope in await reports(rig)] == [
        "VenueAccepted",
        "VenueReplaced",
        "VenueCanceled",
        "VenueCancelRejected",
        "VenueCancelRejected",
    ]


# ── snapshots ───────────────────────────────────────────────────────────────────────────────────


def snapshots(rig: Rig) -> list[Path]:
    return sorted((rig.state / "snapshots" / "gateway").glob("*.snapshot"))


async def test_snapshots_are_made_while_it_runs_and_bound_a_restart(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_service, "_SNAPSHOT_REPORTS", 10)
    venue = await rig.start(gateway)
    await until_answered(rig, venue, await rig.say(ORDERS, *(accepted(f"o{n}", price="90") for n in range(30))))
    await rig.until(lambda: venue.stats()["snapshot_as_of"] >= 20, "a snapshot is made")
    assert snapshots(rig)
    assert (await rig.ask(venue, "GET", "/health"))[1]["checks"]["snapshots"]["status"] == "ok"


async def test_a_snapshot_that_cannot_be_read_is_told_and_costs_nothing_but_time(rig: Rig) -> None:
    venue = await rig.start(gateway)
    await until_answered(rig, venue, await rig.say(ORDERS, *(accepted(f"o{n}", price="90") for n in range(5))))
    await rig.stop(venue)
    (path,) = snapshots(rig)
    path.write_bytes(path.read_bytes()[:-3] + b"\x00\x00\x00")
    again = await rig.start(gateway)
    health = (await rig.ask(again, "GET", "/health"))[1]["checks"]["snapshots"]
    assert health["status"] == "failed"
    assert "checksum" in health["detail"]
    assert len(again.machine.orders) == 5
    await until_answered(rig, again, await rig.say(ORDERS, accepted("o5", price="90")))
    await check_each_once(rig, 6)


async def test_reports_that_end_before_a_snapshot_are_refused_with_what_to_do(rig: Rig) -> None:
    venue = await rig.start(gateway)
    await until_answered(rig, venue, await rig.say(ORDERS, accepted("o0", price="90")))
    await rig.stop(venue)
    (path,) = snapshots(rig)
    path.rename(path.with_name(f"{10**6:020d}.snapshot"))
    with pytest.raises(BusCorrupt, match=r"venue.reports ends at 1, but .* events to 1000000: .*`trade2026 restore`"):
        await rig.start(gateway)


# ── what it must not guess ──────────────────────────────────────────────────────────────────────


async def test_an_event_that_it_does_not_understand_stops_it_and_health_says_where(rig: Rig) -> None:
    venue = await rig.start(gateway)
    await until_answered(rig, venue, await rig.say(ORDERS, accepted("o0", price="90")))
    await rig.say_newer(ORDERS)
    await rig.say(ORDERS, accepted("o2", price="90"))

    async def told() -> Any:
        status, health = await rig.ask(venue, "GET", "/health")
        check = health["checks"]["orders_log"]
        return status == 503 and check["status"] == "failed" and check["detail"]

    detail = await rig.until(told, "health says so")
    assert "stopped at 1" in detail
    assert "OrderTeleported" in detail
    assert venue.machine.orders_next == {0: 1}
    assert venue.machine.find("o2") is None


async def test_market_data_that_was_lost_is_made_again_behind_what_filled_orders(rig: Rig) -> None:
    venue = await rig.start(gateway)
    await until_answered(rig, venue, await rig.say(ORDERS, accepted("o0", price="101")))
    await rig.until(lambda: venue.machine.executions, "the order is filled")
    await rig.stop(venue)
    last = venue.machine.last_print.get(SYMBOL)
    await rig.bus.close()
    shutil.rmtree(rig.state / "bus" / "market.raw")
    rig._publishers.clear()
    fresh = Rig(rig.state, "venue")
    again = await fresh.start(gateway)
    await fresh.until(lambda: again.feed is not None and again.feed.published > 1, "the market goes on")
    if last is not None:
        ids = await trade_ids(fresh)
        assert last not in ids
    await fresh.close()


async def test_a_version_that_the_release_does_not_allow_takes_no_orders(rig: Rig) -> None:
    rig.settings = msgspec.structs.replace(rig.settings, allowed_versions=["9.9.9"])
    venue = await rig.start(gateway)
    await until_answered(rig, venue, await rig.say(ORDERS, accepted("o0", price="90")))
    (report,) = await told(rig, ev.VenueRejected)
    assert "9.9.9" in report.reason
    status, health = await rig.ask(venue, "GET", "/health")
    assert (status, health["checks"]["version"]["status"]) == (503, "failed")
    assert (await rig.ask(venue, "GET", "/readyz"))[0] == 200


# ── stopping ────────────────────────────────────────────────────────────────────────────────────


async def test_a_kill_holds_at_once_although_the_log_cannot_be_written_and_its_cancels_follow(rig: Rig) -> None:
    venue = await rig.start(gateway)
    await until_answered(rig, venue, await rig.say(ORDERS, accepted("o0", price="90")))
    rig.bus.fail_next(REPORTS, BusFull("no room"))
    status, answer = await rig.ask(venue, "POST", "/kill", {"scope": "account:main", "reason": "runs away"})
    assert status in (200, 503), answer
    await until_answered(rig, venue, await rig.say(ORDERS, accepted("o1", price="90")))
    await rig.until(lambda: not venue.machine.orders, "what worked is cancelled")
    await rig.stop(venue)
    again = await rig.start(gateway)
    await until_answered(rig, again, await rig.say(ORDERS, accepted("o2", price="90")))
    refused = await told(rig, ev.VenueRejected)
    assert [report.order_id for report in refused] == ["o1", "o2"]
    assert {report.reject_code for report in refused} == {"KILLED"}
    status, answer = await rig.ask(again, "POST", "/resume", {"scope": "account:main", "reason": "fixed"})
    assert (status, answer["released"]) == (200, True)


async def test_a_halt_at_the_venue_lets_reduce_only_orders_pass_and_says_halted_to_others(rig: Rig) -> None:
    venue = await rig.start(gateway)
    body = {"scope": "account:main", "reason": "lunch", "halt": True}
    assert (await rig.ask(venue, "POST", "/kill", body))[0] == 200
    told_first, told_then = accepted("o0", price="90"), accepted("o1", price="90", reduce_only=True)
    await until_answered(rig, venue, await rig.say(ORDERS, told_first, told_then))
    (refused,) = await told(rig, ev.VenueRejected)
    assert (refused.order_id, refused.reject_code) == ("o0", "HALTED")
    assert [report.order_id for report in await told(rig, ev.VenueAccepted)] == ["o1"]


async def test_health_names_what_is_stopped_and_is_unwell_only_if_nothing_can_trade(rig: Rig) -> None:
    venue = await rig.start(gateway)

    async def kills(scope: str, **more: Any) -> tuple[int, str]:
        assert (await rig.ask(venue, "POST", "/kill", {"scope": scope, "reason": "test", **more}))[0] == 200
        status, health = await rig.ask(venue, "GET", "/health")
        return status, health["checks"]["kills"]["detail"]

    assert await kills("account:main") == (200, "stopped at the venue: account:main killed")
    assert (await kills("stack", halt=True))[0] == 200
    assert await kills("instrument:BTCUSDT") == (
        503,
        "stopped at the venue: account:main killed, stack halted, instrument:BTCUSDT.SIM killed",
    )


async def test_an_order_expires_at_the_venue_although_the_oms_is_silent(rig: Rig) -> None:
    venue = await rig.start(gateway)
    soon = rig.clock.now() + 300_000_000
    order = accepted("o0", price="90", time_in_force="GTD", expire_at=soon)
    await until_answered(rig, venue, await rig.say(ORDERS, order))

    async def canceled() -> list[Any]:
        return await told(rig, ev.VenueCanceled)

    (report,) = await rig.until(canceled, "the order expires")
    assert report.expired


# ── what people see ─────────────────────────────────────────────────────────────────────────────


async def test_orders_past_the_oms_are_refused_unless_the_venue_is_open_to_them(rig: Rig) -> None:
    venue = await rig.start(gateway)
    order = {"symbol": "BTCUSDT", "side": "buy", "quantity": "1", "client_order_id": "mine"}
    status, problem = await rig.ask(venue, "POST", "/orders", order)
    assert (status, problem["code"]) == (403, "direct_orders_off")
    assert venue.machine.next_seq == 0


async def test_a_paper_order_is_placed_once_and_shown_with_what_became_of_it(open_rig: Rig) -> None:
    rig = open_rig
    venue = await rig.start(gateway)
    order = {"symbol": "BTCUSDT", "side": "buy", "quantity": "1", "client_order_id": "mine"}
    first = await rig.ask(venue, "POST", "/orders", order)
    assert first[0] == 200
    assert first[1]["status"] == "filled"
    assert await rig.ask(venue, "POST", "/orders", order) == first
    assert (await rig.ask(venue, "POST", "/orders", {**order, "quantity": "2"}))[0] == 409


async def test_the_market_is_shown_as_it_is_published(rig: Rig) -> None:
    venue = await rig.start(gateway)
    await rig.until(lambda: venue.feed is not None and venue.feed.published > 5, "trades are published")
    ticker = (await rig.ask(venue, "GET", "/ticker/BTCUSDT"))[1]
    book = (await rig.ask(venue, "GET", "/book/BTCUSDT?depth=3"))[1]
    trades = (await rig.ask(venue, "GET", "/trades/BTCUSDT?limit=5"))[1]["trades"]
    assert float(ticker["bid"]) < float(ticker["ask"])
    assert (len(book["bids"]), len(book["asks"]), len(trades)) == (3, 3, 5)
    assert trades[0]["ts"] >= trades[-1]["ts"]
    assert trades[0]["ts_source"].startswith("1970-01-01")
    assert (await rig.ask(venue, "GET", "/ticker/NOPE"))[0] == 404


async def test_a_replay_that_runs_once_ends_and_health_says_so_while_orders_are_still_answered(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "venue", MANIFEST.replace("loop: true", "loop: false"))
    try:
        short = Recording("t", [0, 1, 2], [to_nanos(100)] * 3, [to_nanos(1)] * 3)
        venue = await rig.start(lambda context: GatewayService(context, short))
        await rig.until(lambda: venue.feed.finished, "the replay ends")
        status, health = await rig.ask(venue, "GET", "/health")
        assert (status, health["checks"]["market_data"]["detail"]) == (503, "the replay has ended; set loop: true")
        assert (await rig.ask(venue, "GET", "/readyz"))[0] == 200
        await until_answered(rig, venue, await rig.say(ORDERS, accepted("o0", price=None)))
        assert await told(rig, ev.VenueFilled)
    finally:
        await rig.close()


async def test_a_synthetic_venue_trades_without_a_recording(tmp_path: Path) -> None:
    config = "type: synthetic, config: {seed: 3, price: 100, trades_per_second: 100}"
    manifest = MANIFEST.replace("type: replay, config: {scale: 1, speed: 1, loop: true, gap_seconds_max: 0.02}", config)
    assert config in manifest
    rig = Rig(tmp_path, "venue", manifest)
    try:
        venue = await rig.start(GatewayService)
        await rig.until(lambda: venue.feed.published > 20, "trades are published")
        await until_answered(rig, venue, await rig.say(ORDERS, accepted("o0", price=None)))
        assert await told(rig, ev.VenueFilled)
        assert (await rig.ask(venue, "GET", "/replay"))[1]["replays"][0]["type"] == "synthetic"
        ids = await trade_ids(rig)
        await rig.stop(venue)
        again = await rig.start(GatewayService)
        await rig.until(lambda: again.feed.published > 5, "the market goes on")
        after = await trade_ids(rig)
        assert after[: len(ids)] == ids
        assert len(set(after)) == len(after)
    finally:
        await rig.close()


async def test_many_orders_in_one_event_are_reported_together(rig: Rig) -> None:
    venue = await rig.start(gateway)
    legs = [ev.ListedOrder(order_id=f"o{n}", spec=spec(f"o{n}", price="90"), role="oco") for n in range(3)]
    end = await rig.say(ORDERS, ev.OrderListAccepted(list_id="l", kind="OCO", orders=legs))
    await until_answered(rig, venue, end)
    await check_each_once(rig, 3)
