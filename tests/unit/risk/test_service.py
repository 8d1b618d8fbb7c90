"""The risk service on a bus in memory: what it answers, records and tells others."""

import asyncio

import msgspec
import pytest
from tests.unit.risk.risk_desk import PRICE, SECOND, UNIT, Desk, accepted, codes, order, tighten
from tests.waiting import until

from trade2026.controls import order_log
from trade2026.controls.limits import LimitBook, LimitSet
from trade2026.domain import events as ev
from trade2026.domain.market import Reference
from trade2026.domain.shards import partition_of
from trade2026.risk import orders_seen
from trade2026.risk.machine import REFUSALS_PER_MINUTE, WouldWiden
from trade2026.risk.orders_seen import OrdersSeen


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
