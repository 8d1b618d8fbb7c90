"""Parents on a real order service and venue; the time of the parents is the test's, and so are the crashes."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from one_process import OneProcess
from rig import FlakyBus, Rig

from trade2026.domain import events as ev
from trade2026.exeq.service import TOPIC, ExeqService
from trade2026.kit.addresses import Addresses
from trade2026.kit.bus.port import BusUncertain
from trade2026.kit.clock import ManualClock

SECOND = 10**9
TWAP = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.01", "algo": "twap", "duration": "10s"}


class Desk(Rig):
    """Execution beside a running stack, on the same log."""

    def __init__(self, scratch: Path, stack: OneProcess) -> None:
        super().__init__(scratch, "risk")
        self.clock = ManualClock(time.time_ns())  # type: ignore[assignment]
        self.settings = stack.settings
        self.stack = stack
        self.bus = FlakyBus(stack.state / "bus", stack.settings)

    async def begin(self, service: ExeqService, **terms: Any) -> str:
        status, parent = await self.ask(service, "POST", "/parents", TWAP | terms)
        assert status == 200, parent
        return parent["parent_id"]

    async def parent(self, service: ExeqService, parent_id: str) -> dict[str, Any]:
        status, parent = await self.ask(service, "GET", f"/parents/{parent_id}")
        assert status == 200, parent
        return parent

    async def until_children(self, service: ExeqService, parent_id: str, count: int, status: str = "") -> None:
        async def reached() -> bool:
            children = (await self.parent(service, parent_id))["children"]
            return len(children) >= count and all(not status or c["status"] == status for c in children)

        try:
            await self.until(reached, f"{count} children are {status or 'there'}")
        except AssertionError:
            raise AssertionError(
                f"{count} children are not {status}: {await self.parent(service, parent_id)}"
            ) from None

    async def until_status(self, service: ExeqService, parent_id: str, status: str) -> dict[str, Any]:
        async def reached() -> Any:
            parent = await self.parent(service, parent_id)
            return parent if parent["status"] == status else None

        return await self.until(reached, f"{parent_id} is {status}")

    async def orders(self, account: str) -> list[dict[str, Any]]:
        answer = await asyncio.to_thread(self.stack.call, "oms", "GET", f"/orders?account={account}&limit=1000")
        return answer.json["orders"]

    async def crash(self, service: ExeqService) -> None:
        """End it where it is: nothing is drained, and what it would still write is fenced by the next one."""
        self.services.remove(service)
        entry = service.cells.here[0].entry
        entry._tasks = [task for task in entry._tasks if task.cancel()]
        if service.cells.here[0]._timer is not None:
            service.cells.here[0]._timer.cancel()
        await service.cells.here[0]._let_go()


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneProcess]:
    services = ("oms", "gateway", "normalizer", "risk", "archive")
    with OneProcess(tmp_path_factory.mktemp("market"), services=services) as running:
        yield running


@pytest.fixture
async def desk(tmp_path: Path, market: OneProcess) -> AsyncIterator[Desk]:
    made = Desk(tmp_path, market)
    yield made
    await made.close()


async def test_a_twap_is_worked_to_its_end(desk: Desk) -> None:
    service = await desk.start(ExeqService)
    parent_id = await desk.begin(service, account="twap")
    for count in range(1, 11):
        await desk.until_children(service, parent_id, count, "Filled")
        desk.clock.advance(SECOND)
    parent = await desk.until_status(service, parent_id, "Filled")
    assert (parent["cum_qty"], parent["leaves_qty"]) == ("0.01", "0")
    orders = await desk.orders("twap")
    assert [order["quantity"] for order in orders] == ["0.001"] * 10
    assert {order["parent_order_id"] for order in orders} == {parent_id}
    benchmarks = parent["benchmarks"]
    assert set(benchmarks) == {"arrival", "twap", "vwap"}
    assert all(float(row["price"]) > 0 and row["slippage_bps"] is not None for row in benchmarks.values())
    assert (await desk.ask(service, "GET", "/parents?status=open"))[1]["parents"] == []
    await desk.until(
        lambda: service.cells.here[0].tape._follower is None, "nothing is followed while nothing is worked"
    )


@pytest.mark.parametrize("moment", ["before the child is sent", "before the answer is recorded"])
async def test_a_half_done_parent_goes_on_after_a_crash_and_no_child_is_doubled(desk: Desk, moment: str) -> None:
    account = moment.replace(" ", "-")
    service = await desk.start(ExeqService)
    parent_id = await desk.begin(service, account=account)
    for life in range(1, 5):
        await desk.until_children(service, parent_id, life, "Filled")
        stopped = asyncio.Event()

        async def never(*_: Any, stopped: asyncio.Event = stopped) -> bool:
            stopped.set()
            await asyncio.sleep(3_600)
            return False

        if moment == "before the child is sent":
            service.cells.here[0].entry._send_child = never  # type: ignore[method-assign]
        else:
            service.cells.here[0].entry.report = never
            service.cells.here[0]._record_news = never  # type: ignore[method-assign]
        desk.clock.advance(SECOND)
        await desk.until(stopped.is_set, "the child is about to leave")
        if moment == "before the answer is recorded":

            async def taken(count: int = life + 1) -> bool:
                return len(await desk.orders(account)) == count

            await desk.until(taken, "the order service has the child")
        await desk.crash(service)
        service = await desk.start(ExeqService)
    for count in range(5, 11):
        await desk.until_children(service, parent_id, count, "Filled")
        desk.clock.advance(SECOND)
    parent = await desk.until_status(service, parent_id, "Filled")
    orders = await desk.orders(account)
    assert set(Counter(order["client_order_id"] for order in orders).values()) == {1}
    assert sum(float(order["cum_qty"]) for order in orders) == pytest.approx(float(parent["quantity"]))


async def test_a_restart_begins_with_a_snapshot_and_folds_only_what_came_after(desk: Desk) -> None:
    service = await desk.start(ExeqService)
    parent_id = await desk.begin(service, account="snapshot", slices=3)
    await desk.until_children(service, parent_id, 1, "Filled")
    desk.services.remove(service)
    cell = service.cells.here[0]
    await service.stop()
    kept = cell.machine.next_seq

    again = await desk.start(ExeqService)
    assert again.stats()["snapshot_as_of"] == kept - 1
    for count in (2, 3):
        desk.clock.advance(4 * SECOND)
        await desk.until_children(again, parent_id, count, "Filled")
    await desk.until_status(again, parent_id, "Filled")
    before = await desk.parent(again, parent_id)
    await desk.crash(again)

    last = await desk.start(ExeqService)
    assert last.stats()["snapshot_as_of"] == kept - 1
    assert await desk.parent(last, parent_id) == before
    assert len(await desk.orders("snapshot")) == 3


async def test_a_log_that_may_have_lost_its_end_is_read_again(desk: Desk) -> None:
    service = await desk.start(ExeqService)
    parent_id = await desk.begin(service, account="flaky")
    await desk.until_children(service, parent_id, 1, "Filled")
    for written in (True, False):
        desk.bus.fail_next(TOPIC, BusUncertain("the disk is gone"), written=written)
        desk.clock.advance(SECOND)
        await desk.until(lambda: not desk.bus.failing, "it has failed")
        await desk.until(lambda: service.cells.here[0].owner.ready, "it has recovered")
    for _ in range(10):
        await desk.until_children(service, parent_id, 2, "Filled")
        desk.clock.advance(SECOND)
    await desk.until(lambda: not service.cells.here[0].machine.open, "it has ended")
    orders = await desk.orders("flaky")
    assert set(Counter(order["client_order_id"] for order in orders).values()) == {1}


async def test_a_pause_a_resume_an_amendment_and_a_cancel(desk: Desk) -> None:
    service = await desk.start(ExeqService)
    parent_id = await desk.begin(service, account="changed", price="30000")
    await desk.until_children(service, parent_id, 1, "New")
    assert (await desk.ask(service, "POST", f"/parents/{parent_id}/pause", {"reason": "news"}))[0] == 200
    await desk.until_children(service, parent_id, 1, "Canceled")
    desk.clock.advance(SECOND)
    assert (await desk.parent(service, parent_id))["reason"] == "news"
    assert (await desk.ask(service, "PATCH", f"/parents/{parent_id}", {"quantity": "0.02"}))[0] == 200
    assert (await desk.ask(service, "POST", f"/parents/{parent_id}/resume"))[0] == 200
    await desk.until_children(service, parent_id, 2)
    status, _ = await desk.ask(service, "POST", f"/parents/{parent_id}/cancel")
    assert status == 200
    await desk.until_status(service, parent_id, "Canceled")
    assert {order["status"] for order in await desk.orders("changed")} == {"Canceled"}
    status, problem = await desk.ask(service, "POST", f"/parents/{parent_id}/resume")
    assert (status, problem["code"]) == (409, "parent_ended")
    assert (await desk.ask(service, "POST", f"/parents/{parent_id}/cancel"))[0] == 200


async def test_an_amendment_to_a_price_of_0_takes_the_limit_away_and_what_works_with_it_is_cancelled(
    desk: Desk,
) -> None:
    service = await desk.start(ExeqService)
    parent_id = await desk.begin(service, account="free", price="30000")
    await desk.until_children(service, parent_id, 1, "New")
    status, shown = await desk.ask(service, "PATCH", f"/parents/{parent_id}", {"price": "0"})
    assert (status, shown.get("price", "")) == (200, "")
    await desk.until_children(service, parent_id, 2)

    async def withdrawn() -> bool:
        first, *_ = (await desk.parent(service, parent_id))["children"]
        return first["status"] == "Canceled"

    await desk.until(withdrawn, "the first child, which had the old terms, is cancelled")
    status, problem = await desk.ask(service, "PATCH", f"/parents/{parent_id}", {"price": "-1"})
    assert (status, problem["code"]) == (422, "not_positive")
    status, problem = await desk.ask(service, "PATCH", f"/parents/{parent_id}", {"participation_max": "0%"})
    assert (status, problem["code"]) == (422, "bad_share"), "no limit is not a limit of nothing"


async def test_a_child_that_was_never_sent_is_withdrawn(desk: Desk) -> None:
    service = await desk.start(ExeqService)
    entry = service.cells.here[0].entry
    entry.where, where = Addresses(lambda: ["http://127.0.0.1:1"]), entry.where
    first = await desk.begin(service, account="withdrawn")
    await desk.until(lambda: service.cells.here[0].entry.detail, "the order service does not answer")
    assert not service.health()["order_entry"].ok
    second = await desk.begin(service, account="withdrawn")
    for parent_id in (first, second):
        assert (await desk.ask(service, "POST", f"/parents/{parent_id}/cancel"))[0] == 200
    entry.where = where
    for parent_id in (first, second):
        await desk.until(
            lambda parent_id=parent_id: parent_id not in service.cells.here[0].machine.open, "it has ended"
        )
    (child,) = (await desk.parent(service, second))["children"]
    assert (child["status"], child["reason"]) == ("Canceled", "withdrawn before it was sent")
    assert [order["client_order_id"] for order in await desk.orders("withdrawn")] == [f"{first}-0"]


async def test_a_refused_child_says_why(desk: Desk) -> None:
    service = await desk.start(ExeqService)
    parent_id = await desk.begin(service, account="refused", algo="limit", price="1000000", duration=None)
    parent = await desk.until_status(service, parent_id, "Rejected")
    assert "above the reference" in parent["reason"]


async def test_a_vwap_takes_the_recorded_volume(desk: Desk) -> None:
    service = await desk.start(ExeqService)
    parent_id = await desk.begin(service, account="vwap", algo="vwap", quantity="1", duration="24h", slices=24)
    planned = service.cells.here[0].machine.parents[parent_id].slices
    amounts = [b.target - a.target for a, b in pairwise(planned)]
    assert planned[-1].target == 10**9
    assert len(set(amounts)) > 1, "the market has not traded all day"
    assert (await desk.ask(service, "POST", f"/parents/{parent_id}/cancel"))[0] == 200


BAD = [
    ({"algo": "pov"}, "bad_algo"),
    ({"side": "up"}, "bad_side"),
    ({"symbol": "NOPE"}, "unknown_symbol"),
    ({"quantity": "-1"}, "not_positive"),
    ({"quantity": "0.000001"}, "off_lot"),
    ({"quantity": "1e-12"}, "too_many_decimals"),
    ({"duration": "soon"}, "bad_duration"),
    ({"duration": "400d"}, "bad_time"),
    ({"duration": None}, "missing_field"),
    ({"end_at": "2030-01-01T00:00:00Z"}, "missing_field"),
    ({"duration": None, "end_at": "2001-01-01T00:00:00Z"}, "bad_time"),
    ({"start_at": "yesterday"}, "bad_time"),
    ({"start_at": "2030-01-01T00:00:00"}, "bad_time"),
    ({"start_at": "9999-12-31T23:59:59-01:00"}, "bad_time"),
    ({"slices": 0}, "bad_slices"),
    ({"slices": 1_000, "duration": "1s"}, "bad_time"),
    ({"volume_profile": [1]}, "unexpected_field"),
    ({"algo": "vwap", "volume_profile": []}, "bad_profile"),
    ({"algo": "vwap", "volume_profile": [0]}, "bad_profile"),
    ({"participation_max": "101%"}, "bad_share"),
    ({"participation_max": "0%"}, "bad_share"),
    ({"catch_up": "often"}, "bad_share"),
    ({"stop_price": "1"}, "bad_stop_price"),
    ({"algo": "market"}, "unexpected_field"),
    ({"algo": "limit", "duration": None}, "missing_field"),
    ({"algo": "stop", "duration": None}, "bad_stop_price"),
    ({"algo": "market", "duration": None, "price": "1"}, "unexpected_field"),
    ({"account": "a/b"}, "bad_text"),
    ({"client_order_id": "x" * 65}, "bad_text"),
    ({"extra": 1}, "unknown_field"),
]


@pytest.mark.parametrize(("terms", "code"), BAD, ids=[f"{code}-{n}" for n, (_, code) in enumerate(BAD)])
async def test_what_is_wrong_with_a_request_is_said(desk: Desk, terms: dict[str, Any], code: str) -> None:
    service = await desk.start(ExeqService)
    before = service.cells.here[0].machine.next_seq
    status, problem = await desk.ask(service, "POST", "/parents", TWAP | terms)
    assert (status, problem["code"]) == (422, code), problem
    assert service.cells.here[0].machine.next_seq == before


async def test_what_happened_is_in_the_log(desk: Desk) -> None:
    service = await desk.start(ExeqService)
    parent_id = await desk.begin(service, account="log", algo="market", duration=None, client_order_id="mine")
    assert parent_id == await desk.begin(service, account="log", algo="market", duration=None, client_order_id="mine")
    await desk.until_status(service, parent_id, "Filled")

    async def whole() -> Any:  # what is shown may be ahead of what is durable
        own = [e.data for e in await desk.said(TOPIC) if getattr(e.data, "parent_id", "") == parent_id]
        kinds = [type(event) for event in own]
        return kinds if kinds[-1] is ev.ParentEnded else None

    kinds = await desk.until(whole, "its end is in the log")
    assert kinds[:3] == [ev.ParentAccepted, ev.SliceReached, ev.ChildDecided]
    status, problem = await desk.ask(service, "POST", "/parents", TWAP | {"account": "log", "client_order_id": "mine"})
    assert (status, problem["code"]) == (409, "client_order_id_reused")


async def test_a_parent_is_one_trace_from_its_request_to_the_fills_of_its_children(desk: Desk) -> None:
    service = await desk.start(ExeqService)
    parent_id = await desk.begin(service, account="trace", slices=2)
    await desk.until_children(service, parent_id, 1, "Filled")
    desk.clock.advance(5 * SECOND)
    await desk.until_status(service, parent_id, "Filled")

    async def traced(subject: str) -> dict[str, Any]:
        async def all_of_it() -> Any:
            answer = await asyncio.to_thread(desk.stack.call, "archive", "GET", f"/trace/{subject}?limit=10000")
            done = answer.status == 200 and sum(event["type"] == "OrderFilled" for event in answer.json["events"])
            return answer.json if done == (2 if subject == parent_id else 1) else None

        return await desk.until(all_of_it, f"the archive knows all of {subject}")

    whole = await traced(parent_id)
    kinds = Counter(event["type"] for event in whole["events"])
    assert kinds["ParentAccepted"] == 1
    assert kinds["ChildDecided"] == kinds["OrderAccepted"] == kinds["VenueAccepted"] == 2
    own = [e for e in await desk.said(TOPIC) if getattr(e.data, "parent_id", "") == parent_id]
    assert {e.traceparent[3:35] for e in own} == {whole["trace_id"]}
    assert {order["trace_id"] for order in await desk.orders("trace")} == {whole["trace_id"]}
    child = (await desk.parent(service, parent_id))["children"][1]
    part = await traced(child["order_id"])
    assert part["trace_id"] == whole["trace_id"]
    by_type = {event["type"]: event for event in part["events"]}
    assert by_type["OrderAccepted"]["causation_id"] == by_type["ChildDecided"]["event_id"]
    assert by_type["ChildDecided"]["data"]["number"] == 1


async def test_a_cause_that_is_no_decision_about_the_order_is_not_shown_with_it(desk: Desk) -> None:
    """Whoever sends an order says what caused it: that must not open the log of others."""
    service = await desk.start(ExeqService)
    parent_id = await desk.begin(service, account="theirs", algo="market", duration=None)
    await desk.until_status(service, parent_id, "Filled")
    (decided,) = [
        e for e in await desk.said(TOPIC) if isinstance(e.data, ev.ChildDecided) and e.data.parent_id == parent_id
    ]
    order = {"symbol": "BTCUSDT", "side": "buy", "quantity": 0.001, "price": 30_000, "account": "ours"}
    headers = {"Causation-Id": f"{TOPIC}/0/{decided.seq}"}
    placed = await asyncio.to_thread(desk.stack.call, "oms", "POST", "/orders", order, headers=headers)

    async def shown() -> Any:
        answer = await asyncio.to_thread(desk.stack.call, "archive", "GET", f"/trace/{placed.json['order_id']}")
        return answer.json if answer.status == 200 else None

    events = (await desk.until(shown, "the archive knows it"))["events"]
    assert events[0]["causation_id"] == f"{TOPIC}/0/{decided.seq}"
    assert "ChildDecided" not in {event["type"] for event in events}
