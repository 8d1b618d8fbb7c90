"""The order service with its accounts spread over several partitions, all of them in one process."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from recovering import ORDER, Desk, Hosted, accepted, status, submit, until_status
from tests.waiting import until

from trade2026.domain import events as ev
from trade2026.domain.orders import number_of, partition_of_id
from trade2026.domain.shards import partition_of

PARTITIONS = 4
ACCOUNTS = [f"a{number}" for number in range(12)]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path, PARTITIONS)
    await desk.start()
    yield desk
    await desk.stop()


@pytest.fixture
async def oms(desk: Desk) -> Hosted:
    return await desk.oms()


async def listed(oms: Hosted, query: str = "", limit: int = 1_000) -> list[str]:
    """The ids of all orders that a list has, page by page."""
    found: list[str] = []
    cursor = ""
    while True:
        answer = await oms.ask("GET", f"/orders?limit={limit}{query}" + (f"&cursor={cursor}" if cursor else ""))
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += [order["order_id"] for order in page["orders"]]
        if page["cursor"] is None:
            return found
        cursor = page["cursor"]


async def test_the_orders_of_an_account_are_in_its_partition_and_their_ids_say_so(desk: Desk, oms: Hosted) -> None:
    ids = {account: await accepted(oms, account=account) for account in ACCOUNTS}
    assert {partition_of_id(order_id) for order_id in ids.values()} == set(range(PARTITIONS))
    for account, order_id in ids.items():
        partition = partition_of(account, PARTITIONS)
        assert partition_of_id(order_id) == partition
        envelopes = await desk.log(partition)
        found = [one.data for one in envelopes if getattr(one.data, "order_id", "") == order_id]
        assert [type(event) for event in found] == [ev.OrderAccepted]
        shown = (await oms.ask("GET", f"/orders/{order_id}")).json()
        assert (shown["account"], shown["history"][0]["event_id"].split("/")[1]) == (account, str(partition))


async def test_each_venue_report_reaches_the_order_of_its_partition(desk: Desk, oms: Hosted) -> None:
    ids = {account: await accepted(oms, account=account) for account in ACCOUNTS}
    await desk.say(*(desk.fill(order_id) for order_id in ids.values()))
    for account, order_id in ids.items():
        await until_status(oms, order_id, "Filled")
        (position,) = (await oms.ask("GET", f"/positions/{account}")).json()["positions"]
        assert position["quantity"] == ORDER["quantity"]


@pytest.mark.parametrize("limit", [1, 2, 5, 1_000])
async def test_lists_of_all_accounts_come_newest_first_page_by_page(oms: Hosted, limit: int) -> None:
    made = [await accepted(oms, account=ACCOUNTS[n % len(ACCOUNTS)]) for n in range(17)]
    assert await listed(oms, limit=limit) == made[::-1]
    assert await listed(oms, "&status=open", limit) == made[::-1]
    assert await listed(oms, "&status=Filled", limit) == []
    assert await listed(oms, "&account=a3", limit) == [made[15], made[3]]


@pytest.mark.parametrize("cursor", ["o4-0", "o0-999", "o0-0,o0-1", "x", "o1-", "o1-0,", "o-1-3"])
async def test_a_cursor_that_no_list_has_given_is_refused_or_an_honest_beginning(oms: Hosted, cursor: str) -> None:
    made = [await accepted(oms, account=account) for account in ACCOUNTS]
    answer = await oms.ask("GET", f"/orders?cursor={cursor}")
    if cursor == "o1-":
        found = [order["order_id"] for order in answer.json()["orders"]]
        assert found == [order_id for order_id in reversed(made) if partition_of_id(order_id) == 1]
    else:
        assert (answer.status_code, answer.json()["code"]) == (422, "bad_cursor")


async def test_a_batch_is_answered_in_its_order_whatever_partitions_it_reaches(oms: Hosted) -> None:
    orders = [{**ORDER, "account": account, "client_order_id": f"b-{account}"} for account in ACCOUNTS]
    orders[5] = {**ORDER, "quantity": "-1"}
    answer = await oms.ask("POST", "/orders/batch", {"orders": orders})
    results = answer.json()["results"]
    assert results[5]["code"] == "not_positive"
    for account, result in zip(ACCOUNTS, results, strict=True):
        if account != ACCOUNTS[5]:
            assert result["client_order_id"] == f"b-{account}"
            assert partition_of_id(result["order_id"]) == partition_of(account, PARTITIONS)


async def test_the_same_client_order_id_is_another_order_in_another_account(oms: Hosted) -> None:
    ids = [await accepted(oms, account=account, client_order_id="same") for account in ACCOUNTS]
    assert len(set(ids)) == len(ACCOUNTS)
    assert [await accepted(oms, account=account, client_order_id="same") for account in ACCOUNTS] == ids


async def test_an_order_is_cancelled_by_its_id_alone(desk: Desk, oms: Hosted) -> None:
    ids = [await accepted(oms, account=account) for account in ACCOUNTS]
    await desk.say(*(ev.VenueAccepted(order_id=order_id, venue_order_id=f"v-{order_id}") for order_id in ids))
    for order_id in ids:
        await until_status(oms, order_id, "New")
    assert (await oms.ask("DELETE", f"/orders/{ids[3]}")).json()["status"] == "PendingCancel"
    assert [await status(oms, order_id) for order_id in ids].count("PendingCancel") == 1
    for unknown in ("o9-0", "o0-77", "x"):
        assert (await oms.ask("DELETE", f"/orders/{unknown}")).json()["code"] == "unknown_order"


async def test_what_concerns_all_accounts_reaches_every_partition(desk: Desk, oms: Hosted) -> None:
    for account in ACCOUNTS:
        await accepted(oms, account=account)
    assert (await oms.ask("POST", "/orders/cancel-all", {})).json()["asked"] == len(ACCOUNTS)
    assert (await oms.ask("POST", "/kill", {"reason": "test"})).status_code == 200
    for account in ACCOUNTS:
        answer = await submit(oms, account=account)
        assert (answer.status_code, answer.json()["reject_code"]) == (422, "KILLED")
    assert (await oms.ask("POST", "/resume", {"reason": "over"})).status_code == 200
    for account in ACCOUNTS:
        await accepted(oms, account=account)


async def test_a_kill_of_an_account_stops_no_other(oms: Hosted) -> None:
    assert (await oms.ask("POST", "/kill", {"scope": "account:a1", "reason": "test"})).status_code == 200
    answers = {account: (await submit(oms, account=account)).status_code for account in ACCOUNTS}
    assert [account for account, code in answers.items() if code != 200] == ["a1"]
    killed = {p for p, cell in oms.service.cells.here.items() if cell.owner.machine.controls.kills}
    assert killed == {partition_of("a1", PARTITIONS)}


async def test_stops_and_limits_that_risk_tells_hold_in_every_partition(desk: Desk, oms: Hosted) -> None:
    await desk.risk.publish(ev.Killed(scope="symbol:BTCUSDT.SIM", reason="news", by="ann"))
    cells = oms.service.cells.here.values()
    await until(
        lambda: all("symbol:BTCUSDT.SIM" in cell.owner.machine.controls.kills for cell in cells), "all have heard it"
    )


async def test_all_is_there_after_a_crash(desk: Desk, oms: Hosted) -> None:
    ids = [await accepted(oms, account=account, client_order_id=f"c-{account}") for account in ACCOUNTS]
    again = await desk.oms()
    assert await listed(again) == ids[::-1]
    assert [await accepted(again, account=account, client_order_id=f"c-{account}") for account in ACCOUNTS] == ids
    answer = await submit(oms, account="a1")
    assert answer.status_code == 503, "the older one is fenced in every partition before it answers"


async def test_orders_number_from_nought_in_each_partition(oms: Hosted) -> None:
    ids = [await accepted(oms, account=account) for account in ACCOUNTS]
    for partition in range(PARTITIONS):
        numbers = [number_of(order_id) for order_id in ids if partition_of_id(order_id) == partition]
        assert numbers == list(range(len(numbers)))
