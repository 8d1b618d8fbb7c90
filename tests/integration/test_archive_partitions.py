"""The archive of a stack with four partitions: a history for each, and answers as of one."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from rig import Rig, accepted, spec

from trade2026.archive.service import ArchiveService
from trade2026.domain import events as ev
from trade2026.domain.shards import partition_of
from trade2026.kit.history import HistoryReader, history_path

ORDERS = "orders.events"
PARTITIONS = range(4)
ACCOUNTS = {partition_of(account, len(PARTITIONS)): account for account in map("account{}".format, range(40))}
ORDERS_EACH = 6


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    found = Rig(tmp_path, "projections", partitions=len(PARTITIONS))
    yield found
    await found.close()


async def place(rig: Rig, numbers: range) -> list[str]:
    """Orders in turn in every partition; their ids, newest first."""
    order_ids: list[str] = []
    for number in numbers:
        for partition, account in ACCOUNTS.items():
            order_ids.insert(0, f"o{partition}-{number}")
            await rig.say(ORDERS, accepted(order_ids[0], account=account), partition=partition)
    return order_ids


async def until_read(rig: Rig, archive: ArchiveService, position: int) -> None:
    wanted = dict.fromkeys(PARTITIONS, position - 1)
    await rig.until(lambda: archive.readiness()[0] and archive.as_of == wanted, "all of it is in the history")


async def listed(rig: Rig, archive: ArchiveService, query: str) -> tuple[list[list[str]], int]:
    """The ids on every page, and the last status."""
    pages: list[list[str]] = []
    cursor = ""
    while True:
        status, page = await rig.ask(archive, "GET", f"/orders?{query}{cursor}")
        assert status == 200, page
        pages.append([order["order_id"] for order in page["orders"]])
        if page["cursor"] is None:
            return pages, status
        cursor = f"&cursor={page['cursor']}"


async def test_orders_of_all_partitions_are_listed_newest_first_page_by_page(rig: Rig) -> None:
    archive: ArchiveService = await rig.start(ArchiveService)
    order_ids = await place(rig, range(ORDERS_EACH))
    await until_read(rig, archive, ORDERS_EACH)
    for limit in (1, 5, 24, 100):
        pages, _ = await listed(rig, archive, f"limit={limit}")
        assert [order_id for page in pages for order_id in page] == order_ids
        assert all(len(page) == limit for page in pages[:-1])
    of_one, _ = await listed(rig, archive, f"limit=4&account={ACCOUNTS[2]}")
    assert of_one == [["o2-5", "o2-4", "o2-3", "o2-2"], ["o2-1", "o2-0"]]
    for cursor in ("o9-0", "o0-99", "o0-1,o0-2", "x"):
        assert (await rig.ask(archive, "GET", f"/orders?cursor={cursor}"))[0] == 422


async def test_each_partition_goes_on_from_its_own_history_and_snapshot(rig: Rig) -> None:
    archive: ArchiveService = await rig.start(ArchiveService)
    await place(rig, range(2))
    await until_read(rig, archive, 2)
    await rig.stop(archive)
    for partition in PARTITIONS:
        name = f"oms-{partition}" if partition else "oms"
        assert len(list((rig.state / "snapshots" / name).glob("*.snapshot"))) == 1
        reader = HistoryReader(history_path(rig.state, partition), partition)
        assert [order.order_id for order in reader.list()[0]] == [f"o{partition}-1", f"o{partition}-0"]
        reader.close()
    order_ids = await place(rig, range(2, 4))
    again: ArchiveService = await rig.start(ArchiveService)
    assert again.stats()["snapshot_as_of"] == dict.fromkeys(PARTITIONS, 1)
    await until_read(rig, again, 4)
    assert (await listed(rig, again, "limit=8"))[0][0] == order_ids
    assert (await rig.ask(again, "GET", "/health"))[0] == 200


async def test_a_trace_is_drawn_from_the_partition_of_the_order_and_names_it(rig: Rig) -> None:
    archive: ArchiveService = await rig.start(ArchiveService)
    account = ACCOUNTS[3]
    decided = ev.OrderDecided(strategy="s", number=0, spec=spec("o3-0", account=account))
    await rig.say("strategies.events", decided)
    await rig.say(ORDERS, accepted("o3-0", account=account), partition=3, reference="strategies.events/0/0")
    report = ev.VenueAccepted(order_id="o3-0", venue_order_id="v", spec=spec("o3-0", account=account))
    await rig.say("venue.reports", report, partition=3, reference=f"{ORDERS}/3/0")
    await rig.say("venue.reports", ev.VenueAccepted(order_id="o0-0", venue_order_id="v"), partition=0)

    async def traced() -> Any:
        status, trace = await rig.ask(archive, "GET", "/trace/o3-0")
        return trace if status == 200 and len(trace["events"]) == 3 else None

    trace = await rig.until(traced, "the trace is whole")
    assert [event["event_id"] for event in trace["events"]] == [
        "strategies.events/0/0",
        f"{ORDERS}/3/0",
        "venue.reports/3/0",
    ]
    assert (await rig.ask(archive, "GET", "/trace/o1-0"))[0] == 404


async def test_what_is_damaged_is_made_again_for_that_partition_only(rig: Rig) -> None:
    archive: ArchiveService = await rig.start(ArchiveService)
    order_ids = await place(rig, range(2))
    await until_read(rig, archive, 2)
    await rig.stop(archive)
    history_path(rig.state, 2).write_bytes(b"noise" * 5_000)
    again: ArchiveService = await rig.start(ArchiveService)
    await until_read(rig, again, 2)
    assert (await listed(rig, again, "limit=100"))[0] == [order_ids]
    assert sorted(path.name for path in (rig.state / "archive").glob("*.damaged")) == ["history-2.db.damaged"]
