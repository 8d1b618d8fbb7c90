"""The stores of a stack with four partitions: each account's events count once, whichever partition they are in."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rig import Rig, accepted, filled

from trade2026.domain import events as ev
from trade2026.domain.shards import partition_of
from trade2026.hot_cache.service import HotCacheService
from trade2026.kit.service import Service
from trade2026.questdb_writer.service import QuestDbWriterService

ORDERS = "orders.events"
PARTITIONS = range(4)
ACCOUNTS = {partition_of(account, len(PARTITIONS)): account for account in map("account{}".format, range(40))}


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    found = Rig(tmp_path, "data", partitions=len(PARTITIONS))
    yield found
    await found.close()


async def trade(rig: Rig, number: int, *, close: bool) -> None:
    """An order in every partition, which is filled; or that stays open."""
    for partition, account in ACCOUNTS.items():
        order_id = f"o{partition}-{number}"
        fill = msgspec.structs.replace(filled(number, "1", "100", account=account), order_id=order_id)
        fill = msgspec.structs.replace(fill, exec_id=f"SIM-{partition}-{number}", leaves_qty=0 if close else 5)
        await rig.say(
            ORDERS, accepted(order_id, account=account), ev.OrderOpened(order_id=order_id), fill, partition=partition
        )


async def until_read(rig: Rig, service: Service, count: int) -> None:
    def read() -> bool:
        positions = [one.next_seq for one in service.followed() if one.topic == ORDERS]
        return positions == [count] * len(PARTITIONS)

    await rig.until(read, "every partition is read")


async def test_the_newest_values_are_of_the_partition_of_the_account_also_after_a_restart(rig: Rig) -> None:
    service = await rig.start(HotCacheService)
    await trade(rig, 0, close=True)
    await until_read(rig, service, 3)
    await rig.stop(service)
    await trade(rig, 1, close=True)
    service = await rig.start(HotCacheService)
    for partition, account in ACCOUNTS.items():
        status, found = await rig.ask(service, "GET", f"/get/position:{account}:SIM:BTCUSDT")
        assert (status, found["value"]["quantity"]) == (200, "2")
        assert found["as_of"] == f"{ORDERS}/{partition}/5"
        _, pnl = await rig.ask(service, "GET", f"/get/pnl:{account}")
        assert pnl["as_of"] == f"{ORDERS}/{partition}/5"
    assert (await rig.ask(service, "GET", "/health"))[1]["checks"][ORDERS]["status"] == "ok"


async def test_rows_of_every_partition_are_written_once_also_after_a_restart(rig: Rig) -> None:
    async def rows(service: Any, query: str) -> list[list[Any]]:
        assert (await rig.ask(service, "POST", "/flush"))[0] == 200
        status, body = await rig.ask(service, "GET", f"/exec?query={query.replace(' ', '%20')}", port="questdb")
        assert status == 200, body
        return body["dataset"]

    service = await rig.start(QuestDbWriterService)
    await trade(rig, 0, close=False)
    await until_read(rig, service, 3)
    assert service.stats()["open_orders"] == len(PARTITIONS)
    await rig.stop(service)
    await trade(rig, 1, close=True)
    service = await rig.start(QuestDbWriterService)
    for partition in PARTITIONS:
        await rig.say(ORDERS, ev.OrderCanceled(order_id=f"o{partition}-0", reason="user"), partition=partition)
    await until_read(rig, service, 7)
    assert await rows(service, "SELECT count() FROM fills") == [[8]]
    found = await rows(service, "SELECT order_id, account, status FROM orders ORDER BY order_id")
    assert found == [
        [f"o{partition}-{number}", ACCOUNTS[partition], ("Canceled", "Filled")[number]]
        for partition in PARTITIONS
        for number in (0, 1)
    ]
    assert service.stats()["open_orders"] == 0
