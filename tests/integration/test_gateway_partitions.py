"""A stack with four partitions: an order is answered in the partition that its id names, and the market is one."""

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from rig import MANIFEST, Rig, accepted

from trade2026.domain import events as ev
from trade2026.domain.numbers import to_nanos
from trade2026.domain.shards import partition_of
from trade2026.gateway.replay import Recording
from trade2026.gateway.service import GatewayService
from trade2026.kit.bus.port import BusCorrupt, BusUncertain
from trade2026.kit.service import Context

PRINTS = Recording("t", list(range(100)), [to_nanos(100 + row % 5) for row in range(100)], [to_nanos(50)] * 100)
REPORTS = "venue.reports"
ORDERS = "orders.events"
PARTITIONS = range(4)


def gateway(context: Context) -> GatewayService:
    return GatewayService(context, PRINTS)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    manifest = MANIFEST.replace("loop: true", "loop: true, direct_orders: true")
    found = Rig(tmp_path, "venue", manifest, partitions=len(PARTITIONS))
    yield found
    await found.close()


async def place(rig: Rig, numbers: range, price: str | None = "90") -> None:
    for partition in PARTITIONS:
        orders = [accepted(f"o{partition}-{number}", price=price) for number in numbers]
        await rig.say(ORDERS, *orders, partition=partition)


async def until_answered(rig: Rig, venue: GatewayService, position: int) -> None:
    wanted = dict.fromkeys(PARTITIONS, position)
    await rig.until(lambda: venue.owner.ready and venue.machine.orders_next == wanted, "the venue has answered")
    await venue.owner.read(lambda machine: machine.next_seq)


async def told(rig: Rig, kind: type) -> list[tuple[int, Any]]:
    """Every report of a kind, and its partition."""
    logs = [(partition, await rig.said(REPORTS, partition)) for partition in PARTITIONS]
    return [(partition, e.data) for partition, log in logs for e in log if isinstance(e.data, kind)]


async def check_each_once(rig: Rig, count: int, *, filled: int) -> None:
    accepts = Counter((partition, report.order_id) for partition, report in await told(rig, ev.VenueAccepted))
    assert accepts == {(partition, f"o{partition}-{number}"): 1 for partition in PARTITIONS for number in range(count)}
    fills = [(report.exec_id, report.order_id) for _, report in await told(rig, ev.VenueFilled)]
    assert len(dict(fills)) == len(fills)
    assert len({order_id for _, order_id in fills}) == filled


@pytest.mark.parametrize("snapshot", [True, False])
async def test_every_order_is_answered_once_where_it_lives_also_after_a_restart(rig: Rig, snapshot: bool) -> None:
    venue = await rig.start(gateway)
    await place(rig, range(3))
    await until_answered(rig, venue, 3)
    working = list(venue.machine.orders)
    await rig.stop(venue)
    for path in (rig.state / "snapshots" / "gateway").iterdir() if not snapshot else ():
        path.unlink()
    await place(rig, range(3, 5))
    again = await rig.start(gateway)
    assert again.stats()["snapshot_as_of"] == (11 if snapshot else -1)
    await until_answered(rig, again, 5)
    await check_each_once(rig, 5, filled=0)
    assert list(again.machine.orders)[:12] == working, "who came first stands first, whatever the partition"
    found = await rig.said(REPORTS, 2)
    assert {envelope.causation_id for envelope in found} == {f"{ORDERS}/2/{seq}" for seq in range(5)}
    assert [envelope.seq for envelope in found] == list(range(5))


@pytest.mark.parametrize("written", [False, True])
async def test_a_commit_that_failed_in_one_partition_answers_all_orders_once(rig: Rig, written: bool) -> None:
    venue = await rig.start(gateway)
    await place(rig, range(1), price=None)
    await until_answered(rig, venue, 1)
    rig.bus.fail_next(REPORTS, BusUncertain("lost its answer"), written=written)
    await place(rig, range(1, 4), price=None)
    await until_answered(rig, venue, 4)
    await rig.until(lambda: not rig.bus.failing, "the failure has come to pass")
    await until_answered(rig, venue, 4)
    await check_each_once(rig, 4, filled=4 * len(PARTITIONS))


async def test_a_kill_cancels_in_every_partition(rig: Rig) -> None:
    venue = await rig.start(gateway)
    await place(rig, range(2))
    await until_answered(rig, venue, 2)
    assert await venue.kill("stack", "enough", "ann") == 8
    cancels = await told(rig, ev.VenueCanceled)
    assert Counter(partition for partition, _ in cancels) == dict.fromkeys(PARTITIONS, 2)
    await rig.say(ORDERS, ev.CancelRequested(order_id="o3-0"), partition=3)
    await rig.until(lambda: venue.machine.find("o3-0").status == "canceled", "it is cancelled")


async def test_an_order_that_is_placed_here_lives_where_its_account_does(rig: Rig) -> None:
    venue = await rig.start(gateway)
    for account in ("main", "a-b~c", "~", "-x"):
        body = {"symbol": "BTCUSDT", "side": "buy", "quantity": 1, "price": 90, "account": account}
        status, answer = await rig.ask(venue, "POST", "/orders", body)
        assert status == 200, answer
    accepts = await told(rig, ev.VenueAccepted)
    assert [(partition, report.spec.account) for partition, report in accepts] == [
        (partition_of(report.spec.account, len(PARTITIONS)), report.spec.account) for _, report in accepts
    ]
    assert len(accepts) == 4


async def test_a_partition_that_ends_before_a_snapshot_is_refused_although_others_have_more(rig: Rig) -> None:
    venue = await rig.start(gateway)
    await place(rig, range(2))
    await until_answered(rig, venue, 2)
    await rig.stop(venue)
    await rig.bus.close()
    for path in (rig.state / "bus" / REPORTS / "1").iterdir():
        path.unlink()
    fresh = Rig(rig.state, "venue", partitions=len(PARTITIONS))
    report = ev.VenueCancelRejected(order_id="o0-0", reason="")
    await fresh.say(REPORTS, report, report, report, partition=0)
    with pytest.raises(BusCorrupt, match=r"venue.reports/1"):
        await fresh.start(gateway)
    await fresh.close()
