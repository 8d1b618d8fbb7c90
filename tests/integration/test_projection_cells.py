"""Positions and P&L of accounts that are spread over several partitions, each a fold of its own."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from rig import SYMBOL, Rig, filled, spec

from trade2026.domain import events as ev
from trade2026.domain.market import Trade
from trade2026.domain.numbers import to_nanos
from trade2026.domain.shards import partition_of
from trade2026.pnl.service import PnlService
from trade2026.ptrc.service import PtrcService

P = 4
ORDERS = "orders.events"
ACCOUNTS = [f"a{number}" for number in range(8)]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    found = Rig(tmp_path, "projections", partitions=P)
    yield found
    await found.close()


async def trade(rig: Rig) -> None:
    """Each account buys as much as its number says, twice."""
    for number, account in enumerate(ACCOUNTS * 2):
        fill = filled(number, str(number % len(ACCOUNTS) + 1), "100", account=account)
        await rig.say(ORDERS, fill, partition=partition_of(account, P))


async def until_folded(rig: Rig, service: Any) -> None:
    async def is_folded() -> bool:
        ends = {partition: await rig.bus.end(ORDERS, partition) for partition in range(P)}
        cells = service.cells.here
        folded = {partition: cell.as_of + 1 for partition, cell in cells.items()} == ends
        return folded and all(cell.projection.is_told for cell in cells.values())

    await rig.until(is_folded, "all partitions are folded, and what follows is published")


@pytest.mark.parametrize("make", [PtrcService, PnlService])
async def test_every_account_is_told_from_its_own_partition_and_a_list_has_them_all(rig: Rig, make: Any) -> None:
    service = await rig.start(make)
    await trade(rig)
    await until_folded(rig, service)
    for number, account in enumerate(ACCOUNTS):
        (line,) = (await rig.ask(service, "GET", f"/positions/{account}"))[1]["positions"]
        assert line["quantity"] == str(2 * (number + 1))
    listing, key = ("/positions", "positions") if make is PtrcService else ("/pnl", "accounts")
    _, found = await rig.ask(service, "GET", listing)
    assert sorted(line["account"] for line in found[key]) == ACCOUNTS
    assert {int(partition) for partition in found["as_of"]} == set(range(P))
    topic = "positions" if make is PtrcService else "pnl"
    for partition in range(P):
        own = [account for account in ACCOUNTS if partition_of(account, P) == partition]
        told = [envelope.data.account for envelope in await rig.said(topic, partition)]  # type: ignore[union-attr]
        assert sorted(told) == sorted(own * 2)


@pytest.mark.parametrize("make", [PtrcService, PnlService])
async def test_a_restart_and_a_fold_from_nothing_tell_the_same_and_publish_nothing_twice(rig: Rig, make: Any) -> None:
    service = await rig.start(make)
    await trade(rig)
    await until_folded(rig, service)
    listing = "/positions" if make is PtrcService else "/pnl"
    before = await rig.ask(service, "GET", listing)
    topic = "positions" if make is PtrcService else "pnl"
    published = [len(await rig.said(topic, partition)) for partition in range(P)]
    await rig.stop(service)
    for path in (rig.state / "snapshots").glob(f"{service.name}*"):
        for each in path.iterdir():
            each.unlink()
    again = await rig.start(make)
    await until_folded(rig, again)
    assert await rig.ask(again, "GET", listing) == before
    assert [len(await rig.said(topic, partition)) for partition in range(P)] == published


async def test_prices_mark_accounts_of_every_partition(rig: Rig) -> None:
    pnl = await rig.start(PnlService)
    await trade(rig)
    await until_folded(rig, pnl)
    price = Trade(instrument=SYMBOL, trade_id="t", price=to_nanos("110"), quantity=1, ts_recv=rig.clock.now())
    await rig.say("market.ticks", price)

    async def marked() -> bool:
        _, found = await rig.ask(pnl, "GET", "/pnl")
        expected = {account: str(20 * (number + 1)) for number, account in enumerate(ACCOUNTS)}
        return {line["account"]: line["unrealized"] for line in found["accounts"]} == expected

    await rig.until(marked, "all are marked at 110")


@pytest.mark.parametrize("limit", [1, 3, 1_000])
async def test_every_execution_is_in_the_report_once_page_by_page(rig: Rig, limit: int) -> None:
    ptrc = await rig.start(PtrcService)
    await trade(rig)
    await until_folded(rig, ptrc)
    rows: list[dict[str, str]] = []
    cursor = ""
    while cursor is not None:
        target = f"/reports/transactions?limit={limit}" + (f"&cursor={cursor}" if cursor else "")
        status, page = await rig.ask(ptrc, "GET", target)
        assert status == 200
        rows += page["transactions"]
        cursor = page["cursor"]
    assert sorted(row["trading_venue_transaction_id"] for row in rows) == sorted(f"SIM-{n}" for n in range(16))
    assert len({row["transaction_reference_number"] for row in rows}) == 16
    _, one = await rig.ask(ptrc, "GET", "/reports/transactions?account=a3")
    assert [row["trading_venue_transaction_id"] for row in one["transactions"]] == ["SIM-3", "SIM-11"]
    for wrong in ("5", "9:0", "x", "0:", ":1"):
        assert (await rig.ask(ptrc, "GET", f"/reports/transactions?cursor={wrong}"))[1]["code"] == "bad_cursor"


async def test_books_of_all_partitions_are_reconciled_with_the_venue(rig: Rig) -> None:
    ptrc = await rig.start(PtrcService)
    for number, account in enumerate(ACCOUNTS):
        partition = partition_of(account, P)
        fill = filled(number, "1", "100", account=account)
        order = spec(str(number), account=account, quantity=to_nanos("1"))
        accept = ev.VenueAccepted(order_id=fill.order_id, venue_order_id="v", spec=order)
        done = ev.VenueFilled(
            order_id=fill.order_id, exec_id=fill.exec_id, last_qty=fill.last_qty, last_px=fill.last_px
        )
        end = await rig.say("venue.reports", accept, done, partition=partition)
        opened = ev.OrderOpened(order_id=fill.order_id, report_seq=end - 2)
        own = filled(number, "1", "100", account=account, report_seq=end - 1)
        await rig.say(ORDERS, opened, *([own] if account != "a5" else []), partition=partition)
    await until_folded(rig, ptrc)
    _, answer = await rig.ask(ptrc, "GET", "/reconcile/SIM")
    assert [line["account"] for line in answer["accounts"]] == [each for each in ACCOUNTS if each != "a5"]
    _, alone = await rig.ask(ptrc, "GET", "/reconcile/SIM?account=a1")
    assert (alone["matched"], len(alone["accounts"])) == (True, 1)
