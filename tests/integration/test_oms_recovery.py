"""What the order service promised it keeps: over restarts, failed commits, zombies, and forgetting."""

import shutil
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from recovering import ORDER, PRICE, UNIT, Desk, Hosted, accepted, status, submit, until_status
from tests.waiting import until

from trade2026.controls.limits import LimitBook, LimitSet, Tightening, ceiling_of, in_force
from trade2026.domain import events as ev
from trade2026.kit.bus.port import BusCorrupt
from trade2026.kit.bus.writer import SqliteWriter
from trade2026.oms import lookup
from trade2026.oms.replay import verify


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path)
    await desk.start()
    yield desk
    await desk.stop()


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed orders leave memory as soon as the history has them."""
    monkeypatch.setattr(lookup, "CLOSED_KEPT", 0)


# ── restarts ────────────────────────────────────────────────────────────────────────────────────────


async def test_what_was_acknowledged_is_there_after_a_crash(desk: Desk) -> None:
    oms = await desk.oms()
    open_order, filled = await accepted(oms), await accepted(oms, client_order_id="c1")
    await desk.say(ev.VenueAccepted(order_id=filled, venue_order_id="v1"), desk.fill(filled))
    await until_status(oms, filled, "Filled")
    before = [(await oms.ask("GET", path)).json() for path in (f"/orders/{filled}", "/positions/main", "/orders")]

    again = await desk.oms()
    after = [(await again.ask("GET", path)).json() for path in (f"/orders/{filled}", "/positions/main", "/orders")]
    assert after[0] == before[0]
    assert after[1]["positions"] == before[1]["positions"]
    assert after[2] == before[2]
    assert await status(again, open_order) == "PendingNew"
    assert again.service.cells.here[0].owner.epoch == oms.service.cells.here[0].owner.epoch + 1


async def test_reports_that_came_while_it_was_away_are_decided_once(desk: Desk) -> None:
    oms = await desk.oms()
    order_id = await accepted(oms, quantity="0.003")
    await desk.say(desk.fill(order_id))
    await until_status(oms, order_id, "PartiallyFilled")
    await oms.service.stop()
    await desk.say(desk.fill(order_id))
    again = await desk.oms()
    await desk.say(desk.fill(order_id))
    await until_status(again, order_id, "Filled")
    fills = [envelope.data for envelope in await desk.log() if isinstance(envelope.data, ev.OrderFilled)]
    assert [fill.exec_id for fill in fills] == ["x1", "x2", "x3"]


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("archived", [False, True])
async def test_a_client_order_id_keeps_its_first_answer(desk: Desk, restarted: bool, archived: bool) -> None:
    oms = await desk.oms()
    first = (await submit(oms, client_order_id="c1")).json()
    await desk.say(desk.fill(first["order_id"]))
    await until_status(oms, first["order_id"], "Filled")
    if archived:
        await desk.archived()
        await until(lambda: not oms.service.cells.here[0].owner.machine.fold.orders, "the closed order has left memory")
    if restarted:
        oms = await desk.oms()
    again, other = await submit(oms, client_order_id="c1"), await submit(oms, client_order_id="c1", quantity="0.002")
    assert (again.status_code, again.json()["order_id"]) == (200, first["order_id"])
    assert (other.status_code, other.json()["code"]) == (409, "client_order_id_reused")
    assert sum(isinstance(envelope.data, ev.OrderAccepted) for envelope in await desk.log()) == 1


# ── snapshots ───────────────────────────────────────────────────────────────────────────────────────


async def traded(desk: Desk) -> Any:
    """An order service with a log: closed and open orders, a kill, a tightened limit."""
    oms = await desk.oms()
    for number in range(6):
        order_id = await accepted(oms, client_order_id=f"c{number}")
        if number % 2:
            await desk.say(desk.fill(order_id))
            await until_status(oms, order_id, "Filled")
    await oms.ask("POST", "/kill", {"scope": "strategy:mm", "reason": "runaway"})
    return oms


def snapshots(desk: Desk) -> list[Path]:
    return sorted((desk.state / "snapshots" / "oms").glob("*.snapshot"))


async def begun_at(desk: Desk) -> tuple[Any, int]:
    """Start an order service; also return where its replay began."""
    made: list[int] = []
    oms = await desk.oms()
    cell = oms.service.cells.here[0]
    await oms.stop()
    desk.started.remove(oms)
    end = len(await desk.log())
    restored = cell._restored(end)
    made.append(restored.next_seq if restored is not None else 0)
    return await desk.oms(), made[0]


async def test_a_restart_begins_with_the_snapshot_and_knows_the_same(desk: Desk) -> None:
    before = await traded(desk)
    await desk.archived()
    expected = before.service.cells.here[0].owner.machine.controls.snapshot()
    end = len(await desk.log())
    oms, begin = await begun_at(desk)
    assert begin == end
    machine = oms.service.cells.here[0].owner.machine
    assert machine.controls.snapshot() == expected
    assert sorted(machine.fold.orders) == ["o0-0", "o0-2", "o0-4"]
    assert list(machine.controls.kills) == ["strategy:mm"]


async def test_a_damaged_snapshot_means_the_one_before(desk: Desk) -> None:
    before = await traded(desk)
    await desk.archived()
    first = len(await desk.log())
    await accepted(before)
    await desk.archived()
    newest = snapshots(desk)[-1]
    newest.write_bytes(newest.read_bytes()[:-9] + b"corrupted")
    expected = before.service.cells.here[0].owner.machine.controls.snapshot()
    oms, begin = await begun_at(desk)
    assert begin == first
    assert oms.service.cells.here[0].owner.machine.controls.snapshot() == expected
    assert newest.name in oms.service.cells.here[0].snapshots.unreadable


async def test_without_any_whole_snapshot_the_log_is_replayed_whole(desk: Desk) -> None:
    before = await traded(desk)
    await desk.archived()
    for path in snapshots(desk):
        path.write_bytes(b"{}")
    expected = before.service.cells.here[0].owner.machine.controls.snapshot()
    oms, begin = await begun_at(desk)
    assert begin == 0
    assert oms.service.cells.here[0].owner.machine.controls.snapshot() == expected
    assert len(oms.service.cells.here[0].owner.machine.fold.orders) == 6


async def test_a_snapshot_that_the_history_does_not_cover_is_not_used(desk: Desk) -> None:
    await traded(desk)
    await desk.archived()
    with desk.history() as history:
        history.execute("UPDATE positions SET next_seq = 1 WHERE topic = 'orders.events'")
    history.close()
    oms, begin = await begun_at(desk)
    assert begin == 0
    assert len(oms.service.cells.here[0].owner.machine.fold.orders) == 6


async def test_a_history_that_was_lost_is_built_again_and_nothing_is_missing(desk: Desk) -> None:
    await traded(desk)
    await desk.archived()
    shutil.rmtree(desk.state / "archive")
    oms, _ = await begun_at(desk)
    await desk.archived()
    listed = (await oms.ask("GET", "/orders")).json()["orders"]
    assert [order["order_id"] for order in listed] == [f"o0-{number}" for number in range(5, -1, -1)]
    with desk.history() as history:
        assert history.execute("SELECT count(*) FROM orders").fetchone() == (6,)
    history.close()


@pytest.mark.parametrize("history", ["whole", "lost", "damaged"])
async def test_a_log_that_was_lost_is_refused_and_no_empty_book_begins(desk: Desk, history: str) -> None:
    await traded(desk)
    await desk.archived()
    for hosted in desk.started:
        await hosted.stop()
    desk.started.clear()
    shutil.rmtree(desk.state / "bus" / "orders.events")
    if history == "lost":
        shutil.rmtree(desk.state / "archive")
    elif history == "damaged":
        (desk.state / "archive" / "history.db").write_bytes(b"nonsense")
    with pytest.raises(BusCorrupt, match=r"orders.events/0: it was here before, .*`trade2026 restore`"):
        await desk.oms()
    shutil.rmtree(desk.state / "bus")
    with pytest.raises(BusCorrupt, match=r"orders.events(/0)? ends at 0, .*`trade2026 restore`"):
        await desk.oms()
    desk.started.clear()


# ── orders that have left memory ────────────────────────────────────────────────────────────────────


async def forgotten(desk: Desk, oms: Any) -> str:
    """An order that was cancelled, archived, and has left memory."""
    order_id = await accepted(oms, quantity="0.003")
    await desk.say(ev.VenueAccepted(order_id=order_id, venue_order_id="v"), desk.fill(order_id))
    await until_status(oms, order_id, "PartiallyFilled")
    await oms.ask("DELETE", f"/orders/{order_id}")
    await desk.say(ev.VenueCanceled(order_id=order_id))
    await until_status(oms, order_id, "Canceled")
    await desk.archived()
    await until(
        lambda: order_id not in oms.service.cells.here[0].owner.machine.fold.orders, f"{order_id} has left memory"
    )
    return order_id


@pytest.mark.usefixtures("forgetful")
async def test_an_order_that_has_left_memory_is_shown_with_its_history(desk: Desk) -> None:
    oms = await desk.oms()
    shown = (await oms.ask("GET", f"/orders/{await forgotten(desk, oms)}")).json()
    assert (shown["status"], shown["cum_qty"]) == ("Canceled", "0.001")
    assert [event["type"] for event in shown["history"]] == [
        "OrderAccepted", "OrderOpened", "OrderFilled", "CancelRequested", "OrderCanceled",
    ]  # fmt: skip


@pytest.mark.usefixtures("forgetful")
async def test_a_change_of_an_order_that_has_left_memory_says_that_it_is_closed(desk: Desk) -> None:
    oms = await desk.oms()
    order_id = await forgotten(desk, oms)
    for method, path, body, expected in (
        ("DELETE", f"/orders/{order_id}", None, (409, "order_closed")),
        ("PATCH", f"/orders/{order_id}", {"quantity": "0.002"}, (409, "order_closed")),
        ("DELETE", "/orders/o0-999", None, (404, "unknown_order")),
        ("PATCH", "/orders/o0-999", {"quantity": "0.002"}, (404, "unknown_order")),
    ):
        answer = await oms.ask(method, path, body)
        assert (answer.status_code, answer.json()["code"]) == expected


@pytest.mark.usefixtures("forgetful")
async def test_a_late_fill_of_an_order_that_has_left_memory_counts(desk: Desk) -> None:
    oms = await desk.oms()
    order_id = await forgotten(desk, oms)
    await desk.say(desk.fill(order_id), ev.VenueCancelRejected(order_id=order_id, reason="too late"))

    async def counted() -> bool:
        return (await oms.ask("GET", "/positions/main")).json()["positions"][0]["quantity"] == "0.002"

    await until(counted, "the late fill counts")
    again = await desk.oms()
    await desk.say(desk.fill(order_id))
    await until(lambda: again.service.cells.here[0].owner.machine.find(order_id) is not None, "the order is back")
    shown = (await again.ask("GET", f"/orders/{order_id}")).json()
    assert (shown["status"], shown["cum_qty"]) == ("Canceled", "0.003")
    await desk.archived()
    with desk.history() as history:
        (body,) = history.execute("SELECT body FROM orders").fetchone()
    history.close()
    assert msgspec.json.decode(body)["cum_qty"] == 3 * UNIT // 1000
    assert (await verify(desk.venue_bus, desk.settings)).agrees


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize("status_asked", [None, "open", "closed", "Filled", "PendingNew"])
async def test_a_list_has_every_order_once_wherever_it_is(desk: Desk, status_asked: str | None) -> None:
    oms = await desk.oms()
    expected: list[str] = []
    for number in range(13):
        order_id = await accepted(oms)
        filled = number % 3 != 0
        if filled:
            await desk.say(desk.fill(order_id))
            await until_status(oms, order_id, "Filled")
        if status_asked is None or filled == (status_asked in ("closed", "Filled")):
            expected.insert(0, order_id)
        if number == 8:
            await desk.archived()
            await until(
                lambda: len(oms.service.cells.here[0].owner.machine.fold.orders) == 3, "closed orders have left memory"
            )
    seen: list[str] = []
    cursor: str | None = None
    while True:
        query = "&".join(
            f"{name}={value}" for name, value in (("status", status_asked), ("cursor", cursor)) if value is not None
        )
        page = (await oms.ask("GET", f"/orders?limit=2&{query}")).json()
        assert len(page["orders"]) <= 2
        seen += [order["order_id"] for order in page["orders"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert seen == expected


@pytest.mark.usefixtures("forgetful")
async def test_a_history_that_cannot_be_read_refuses_only_what_needs_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    oms = await desk.oms()
    gone, kept = await forgotten(desk, oms), await accepted(oms)

    def locked(*_: object) -> Any:
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(oms.service.cells.here[0].history, "_rows", locked)
    named = await submit(oms, client_order_id="new")
    assert (named.status_code, named.json()["code"]) == (503, "history_unreadable")
    assert (await oms.ask("GET", f"/orders/{gone}")).status_code == 503
    assert (await submit(oms)).status_code == 200
    assert (await oms.ask("DELETE", f"/orders/{kept}")).status_code == 200
    assert (await oms.ask("GET", "/health")).json()["checks"]["history"]["status"] == "failed"
    monkeypatch.undo()
    assert (await submit(oms, client_order_id="new")).status_code == 200


# ── when the log refuses ────────────────────────────────────────────────────────────────────────────


async def test_a_commit_that_fails_is_undone_and_serving_goes_on(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    oms = await desk.oms()
    kept = await accepted(oms)
    write, failures = SqliteWriter._write, [sqlite3.OperationalError("disk I/O error")]

    def fail_once(writer: SqliteWriter, group: Any) -> None:
        if writer.topic == "orders.events" and failures:
            raise failures.pop()
        write(writer, group)

    monkeypatch.setattr(SqliteWriter, "_write", fail_once)
    lost = await submit(oms, client_order_id="lost")
    assert (lost.status_code, lost.headers["retry-after"]) == (503, "1")
    await until(lambda: oms.service.cells.here[0].owner.ready, "the owner has recovered")
    again = await accepted(oms, client_order_id="lost")
    assert (kept, again) == ("o0-0", "o0-1")
    await desk.say(desk.fill(kept))
    await until_status(oms, kept, "Filled")
    assert sum(isinstance(envelope.data, ev.OrderAccepted) for envelope in await desk.log()) == 2


@pytest.mark.parametrize("halt", [False, True])
async def test_a_stop_that_is_not_logged_refuses_only_its_scope_and_holds_until_its_release_is_logged(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, halt: bool
) -> None:
    oms = await desk.oms()
    write, failing = SqliteWriter._write, [True]

    def fail_once(writer: SqliteWriter, group: Any) -> None:
        if writer.topic == "orders.events" and failing:
            failing.clear()
            raise sqlite3.OperationalError("disk I/O error")
        write(writer, group)

    async def later() -> None:
        """The log is not asked again during this test."""

    monkeypatch.setattr(SqliteWriter, "_write", fail_once)
    monkeypatch.setattr(oms.service.cells.here[0], "_log_latched", later)
    killed = await oms.ask("POST", "/kill", {"scope": "account:main", "reason": "runaway", "halt": halt})
    assert (killed.status_code, killed.json()["code"]) == (503, "latched_not_logged")
    await until(lambda: oms.service.cells.here[0].owner.ready, "the owner has recovered")

    assert (await submit(oms, account="other")).status_code == 200
    failing.append(True)
    release = {"scope": "account:main", "reason": "fixed"}
    assert (await oms.ask("POST", "/resume", release)).status_code == 503
    await until(lambda: oms.service.cells.here[0].owner.ready, "the owner has recovered")
    refused = await submit(oms)
    assert (refused.status_code, refused.json()["code"]) == (503, "halted" if halt else "killed")
    reducing = await submit(oms, reduce_only=True)
    assert reducing.status_code == (422 if halt else 503)  # there is no position to reduce
    assert "kills" in (await oms.ask("GET", "/health")).json()["checks"]

    assert (await oms.ask("POST", "/resume", release)).status_code == 200
    assert (await submit(oms)).status_code == 200
    assert "kills" not in (await oms.ask("GET", "/health")).json()["checks"]


async def test_a_zombie_answers_nobody_says_so_and_never_writes_again(desk: Desk) -> None:
    zombie = await desk.oms()
    order_id = await accepted(zombie)
    owner = await desk.oms()
    refused = await submit(zombie)
    assert refused.status_code == 503
    await until(lambda: zombie.service.cells.here[0].owner.fenced, "the zombie knows")
    assert (await zombie.ask("GET", f"/orders/{order_id}")).status_code == 503
    health = (await zombie.ask("GET", "/health")).json()
    assert "another owner" in health["checks"]["log"]["detail"]
    assert (await zombie.ask("GET", "/readyz")).status_code == 503
    await accepted(owner)
    log = await desk.log()
    assert [envelope.epoch for envelope in log] == sorted(envelope.epoch for envelope in log)
    assert sum(isinstance(envelope.data, ev.OrderAccepted) for envelope in log) == 2


# ── kills and limits ────────────────────────────────────────────────────────────────────────────────


async def test_a_kill_holds_over_restarts_and_manifests_until_a_person_resumes_it(desk: Desk) -> None:
    oms = await desk.oms()
    await oms.ask("POST", "/kill", {"scope": "account:main", "reason": "runaway"})
    await desk.archived()
    desk.limited(LimitBook(account_default=LimitSet(max_open_orders=50)))
    oms = await desk.oms()
    refused = await submit(oms)
    assert (refused.status_code, refused.json()["reject_code"]) == (422, "KILLED")
    assert (await oms.ask("POST", "/resume", {"scope": "account:main"})).status_code == 422
    assert (await oms.ask("POST", "/resume", {"scope": "account:main", "reason": "fixed"})).status_code == 200
    assert (await submit(oms)).status_code == 200
    oms = await desk.oms()
    assert (await submit(oms)).status_code == 200


async def test_a_kill_without_a_reason_says_so_and_only_orders_are_counted_as_orders(desk: Desk) -> None:
    oms = await desk.oms()
    cancelled = await accepted(oms)
    legs = [{**ORDER, "side": side} for side in ("buy", "sell")]
    assert (await oms.ask("POST", "/orders/list", {"kind": "OTO", "orders": legs})).status_code == 200
    assert (await oms.ask("DELETE", f"/orders/{cancelled}")).status_code == 200
    assert (await oms.ask("POST", "/kill", {"scope": "account:main"})).status_code == 200
    refused = (await submit(oms)).json()
    assert "account:main was killed by local: no reason given" in refused["detail"]
    metrics = (await oms.ask("GET", "/metrics")).text
    assert 'trade2026_orders_total{service="oms"} 4\n' in metrics


async def test_a_kill_that_did_not_reach_it_arrives_by_the_risk_log_and_a_release_is_not_undone(desk: Desk) -> None:
    stop = ev.Killed(scope="account:main", reason="runaway", by="ann")
    over = ev.Killed(scope="account:other", reason="was over soon", by="ann")
    await desk.risk.publish(stop)
    await desk.risk.publish(over)
    await desk.risk.publish(ev.Resumed(scope="account:other", reason="fixed", by="ann"))
    oms = await desk.oms()
    await until(
        lambda: "account:main" in oms.service.cells.here[0].owner.machine.controls.kills, "the kill has arrived"
    )
    assert "account:other" not in oms.service.cells.here[0].owner.machine.controls.kills
    await oms.ask("POST", "/resume", {"scope": "account:main", "reason": "fixed"})
    oms = await desk.oms()
    assert (await submit(oms)).status_code == 200


async def tightened(desk: Desk, **limits: Any) -> None:
    """The risk service says that limits of the stack are tighter, until the manifest changes them."""
    ceilings = msgspec.json.decode(desk.settings.risk, type=LimitBook)
    wanted = LimitSet(**limits)
    ceiling = ceiling_of(ceilings, "stack", wanted)
    tightening = Tightening(scope="stack", limits=wanted, by="ann", reason="thin", ceiling=ceiling)
    book = msgspec.structs.replace(in_force(ceilings, [tightening], desk.clock.now()), version=9)
    change = ev.LimitsChanged(version=9, limits=msgspec.Raw(msgspec.json.encode(book)), by="ann", reason="thin")
    await desk.risk.publish(change, principal="ann")


async def adoptions(desk: Desk) -> int:
    return sum(isinstance(envelope.data, ev.LimitsAdopted) for envelope in await desk.log())


async def test_limits_are_adopted_when_they_have_changed_and_only_then(desk: Desk) -> None:
    await desk.oms()
    assert await adoptions(desk) == 1
    oms = await desk.oms()
    assert await adoptions(desk) == 1
    await tightened(desk, max_order_quantity=UNIT // 2000)
    await until(lambda: oms.service.cells.here[0].owner.machine.controls.book.tightened, "the tightening has arrived")
    await until(lambda: oms.service.cells.here[0].owner.pending == 0, "it is durable")
    assert await adoptions(desk) == 2
    refused = await submit(oms)
    assert (refused.status_code, refused.json()["reject_code"]) == (422, "MAX_ORDER_QUANTITY")
    oms = await desk.oms()
    assert (await submit(oms)).status_code == 422
    assert await adoptions(desk) == 2


async def test_a_tightening_ends_when_the_manifest_changes_its_ceiling_and_not_before(desk: Desk) -> None:
    desk.limited(LimitBook(stack=LimitSet(max_order_quantity=UNIT)))
    oms = await desk.oms()
    await tightened(desk, max_order_quantity=UNIT // 2000)
    await until(lambda: oms.service.cells.here[0].owner.machine.controls.book.tightened, "the tightening has arrived")
    desk.limited(LimitBook(stack=LimitSet(max_order_quantity=UNIT, max_open_orders=100)))
    oms = await desk.oms()
    assert (await submit(oms)).status_code == 422
    desk.limited(LimitBook(stack=LimitSet(max_order_quantity=2 * UNIT, max_open_orders=100)))
    oms = await desk.oms()
    assert (await submit(oms)).status_code == 200


# ── replay ──────────────────────────────────────────────────────────────────────────────────────────


async def test_a_replay_takes_every_decision_as_it_was_recorded(desk: Desk) -> None:
    desk.limited(
        LimitBook(account_default=LimitSet(max_open_orders=4), accounts={"other": LimitSet(max_position=UNIT // 1000)})
    )
    oms = await traded(desk)
    listed = {"kind": "OCO", "orders": [{**order, "client_order_id": f"l{n}"} for n, order in enumerate(LIST)]}
    await oms.ask("POST", "/orders/list", listed)
    await oms.ask("PATCH", "/orders/o0-0", {"quantity": "0.002"})
    await submit(oms)
    await submit(oms)
    await oms.ask("POST", "/orders/cancel-all", {"reason": "make room"})
    await released(oms, desk)
    found = await verify(desk.venue_bus, desk.settings)
    assert found.differences == []
    assert found.events == len(await desk.log())
    assert found.decisions >= 15


async def released(oms: Hosted, desk: Desk) -> None:
    """Of the children of one list one is released, and one is not: it would exceed a position of 0.001."""
    legs = [
        {**LIST[0], "client_order_id": "e", "account": "other"},
        {**LIST[0], "client_order_id": "x", "account": "other", "side": "sell"},
        {**LIST[0], "client_order_id": "m", "account": "other"},
    ]
    entry, left, refused = (await oms.ask("POST", "/orders/list", {"kind": "OTO", "orders": legs})).json()["orders"]
    await desk.say(desk.fill(entry["order_id"]))
    await until_status(oms, left["order_id"], "PendingNew")
    assert await status(oms, refused["order_id"]) == "Rejected"


async def test_a_replay_says_what_would_be_decided_otherwise(desk: Desk) -> None:
    await traded(desk)
    changed = [msgspec.structs.replace(each, multiplier=2 * UNIT) for each in desk.settings.instruments]
    desk.settings = msgspec.structs.replace(desk.settings, instruments=changed)
    assert not (await verify(desk.venue_bus, desk.settings)).agrees


LIST = [
    {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.001", "price": str(price)}
    for price in (PRICE // UNIT - 10, PRICE // UNIT - 20)
]


@pytest.mark.parametrize(
    ("terms", "field"),
    [({}, "quantity"), ({"quantity": "0.0005"}, "quantity"), ({"price": "0"}, "price")],
)
async def test_an_amendment_that_says_nothing_or_hides_more_than_all_is_refused(
    desk: Desk, terms: dict[str, str], field: str
) -> None:
    oms = await desk.oms()
    order_id = await accepted(oms, order_type="ICEBERG", display_quantity="0.001", quantity="0.002")
    refused = await oms.ask("PATCH", f"/orders/{order_id}", terms)
    assert (refused.status_code, refused.json()["field"]) == (422, field)
    assert (await oms.ask("PATCH", f"/orders/{order_id}", {"quantity": "0.001"})).status_code == 200
