"""A whole stack whose accounts lie in four partitions: every order lives in one, and whoever reads reads all."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from one_process import OneProcess
from tests.checker import check_venue, read_orders, read_partition

from trade2026.domain import events as ev
from trade2026.domain.orders import partition_of_id
from trade2026.domain.shards import partition_of
from trade2026.kit.bus.sqlite import SqliteBus
from trade2026.kit.settings import ProcessSettings
from trade2026.oms.replay import verify
from trade2026.stack.facts import TOPICS

PARTITIONS = range(4)
ACCOUNTS = {partition_of(account, len(PARTITIONS)): account for account in map("account{}".format, range(40))}
BY_ACCOUNT = {topic.name for topic in TOPICS if topic.by_account}
SERVICES = ("oms", "gateway", "normalizer", "risk", "exeq", "ptrc", "pnl", "archive", "hot_cache")


def split(settings: ProcessSettings) -> ProcessSettings:
    topics = [
        msgspec.structs.replace(topic, partitions=len(PARTITIONS) if topic.name in BY_ACCOUNT else 1)
        for topic in settings.topics
    ]
    return msgspec.structs.replace(settings, topics=topics)


def run(state: Path) -> OneProcess:
    return OneProcess(state, services=SERVICES, change=split)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[OneProcess]:
    with run(tmp_path / "state") as stack:
        yield stack


def place(stack: OneProcess, number: int, **terms: Any) -> list[str]:
    """An order of each account; their ids."""
    order_ids: list[str] = []
    for partition, account in ACCOUNTS.items():
        body = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.001", "account": account, **terms}
        answer = stack.call("oms", "POST", "/orders", {**body, "client_order_id": f"c{number}"})
        assert answer.status == 200, answer.body
        order_ids.append(answer.json["order_id"])
        assert partition_of_id(order_ids[-1]) == partition
    return order_ids


def until_status(stack: OneProcess, service: str, order_ids: list[str], status: str) -> None:
    def reached() -> bool:
        answers = [stack.call(service, "GET", f"/orders/{order_id}") for order_id in order_ids]
        return all(answer.status == 200 and answer.json["status"] == status for answer in answers)

    stack.wait_until(reached, f"in {service} all are {status}")


async def check_logs(stack: OneProcess) -> int:
    """Every partition is sound, its venue agrees, and each decision can be taken again; how many orders there are."""
    bus = SqliteBus(stack.state / "bus", stack.settings.topics)
    try:
        count = 0
        for partition in PARTITIONS:
            reports = await read_partition(bus, "venue.reports", partition)
            log = await read_orders(bus, partition)
            check_venue(log, reports)
            found = await verify(bus, stack.settings, partition)
            assert found.agrees, found.differences
            count += len(log.orders)
        return count
    finally:
        await bus.close()


def test_orders_live_in_the_partition_of_their_account_and_are_found_from_everywhere(tmp_path: Path) -> None:
    with run(tmp_path / "state") as stack:
        filled = place(stack, 0, order_type="market")
        resting = place(stack, 1, price="40000")
        for service in ("oms", "archive"):
            until_status(stack, service, filled, "Filled")
            until_status(stack, service, resting, "New")
        listed = stack.call("archive", "GET", "/orders?limit=100").json["orders"]
        assert [order["order_id"] for order in listed] == [*reversed(resting), *reversed(filled)]
        for partition, order_id in enumerate(sorted(filled)):

            def is_traced(partition: int = partition, order_id: str = order_id) -> bool:
                events = stack.call("archive", "GET", f"/trace/{order_id}").json["events"]
                places = {event["event_id"].rsplit("/", 1)[0] for event in events}
                own = {f"orders.events/{partition}", f"venue.reports/{partition}"}
                return places >= own and {place.rsplit("/", 1)[1] for place in places} == {str(partition)}

            def is_held(account: str = ACCOUNTS[partition]) -> bool:
                held = stack.call("risk", "GET", f"/positions/{account}").json
                return [position["quantity"] for position in held["positions"]] == ["0.001"]

            def is_newest(partition: int = partition, account: str = ACCOUNTS[partition]) -> bool:
                newest = stack.call("hot_cache", "GET", f"/get/position:{account}:SIM:BTCUSDT")
                if newest.status != 200:
                    return False
                told = newest.json
                return (told["value"]["quantity"], told["as_of"].split("/")[1]) == ("0.001", str(partition))

            stack.wait_until(is_traced, f"{order_id} is traced in its partition")
            stack.wait_until(is_held, f"risk knows the position of partition {partition}")
            stack.wait_until(is_newest, f"the cache has the position of partition {partition}")
        stack.wait_until(
            lambda: stack.call("risk", "GET", "/exposure").json["open_orders"] == len(resting), "risk sees what rests"
        )
    assert asyncio.run(check_logs(stack)) == 8
    with run(tmp_path / "state") as stack:
        until_status(stack, "oms", resting, "New")
        for order_id in resting:
            assert stack.call("oms", "DELETE", f"/orders/{order_id}").status == 200
        until_status(stack, "archive", resting, "Canceled")
        until_status(stack, "oms", place(stack, 2, order_type="market"), "Filled")
        assert stack.call("gateway", "GET", "/health").json["status"] == "ok"
    assert asyncio.run(check_logs(stack)) == 12


def test_a_kill_reaches_every_partition_and_its_release_too(stack: OneProcess) -> None:
    resting = place(stack, 0, price="40000")
    until_status(stack, "oms", resting, "New")
    assert stack.call("risk", "POST", "/kill", {"scope": "stack", "reason": "test"}).status == 200
    until_status(stack, "archive", resting, "Canceled")
    alerts = stack.wait_until(lambda: stack.call("risk", "GET", "/alerts").json["alerts"], "an alert is raised")
    assert [alert["scope"] for alert in alerts] == ["stack"]
    assert stack.call("risk", "POST", "/resume", {"scope": "stack", "reason": "test"}).status == 200
    until_status(stack, "oms", place(stack, 1, order_type="market"), "Filled")


def test_the_stop_of_an_account_is_where_the_account_is_and_is_released_for_good(stack: OneProcess) -> None:
    place(stack, 0, price="40000")
    for action in ("kill", "resume"):
        for scope in (f"account:{ACCOUNTS[2]}", "strategy:mm"):
            assert stack.call("risk", "POST", f"/{action}", {"scope": scope, "reason": "test"}).status == 200
        stack.wait_until(
            lambda action=action: (
                len(stack.call("risk", "GET", "/killed").json["killed"]) == (2 if action == "kill" else 0)
            ),
            f"risk sees what {action} did",
        )
    until_status(stack, "oms", place(stack, 1, order_type="market"), "Filled")

    async def stops() -> list[list[str]]:
        bus = SqliteBus(stack.state / "bus", stack.settings.topics)
        try:
            logs = [await read_partition(bus, "orders.events", partition) for partition in PARTITIONS]
        finally:
            await bus.close()
        events = [[each.data for each in log] for log in logs]
        return [
            [f"{type(e).__name__} {e.scope}" for e in log if isinstance(e, ev.Killed | ev.Resumed)] for log in events
        ]

    whole, account = ["strategy:mm"], f"account:{ACCOUNTS[2]}"
    expected = [sorted(f"{what} {scope}" for what in ("Killed", "Resumed") for scope in whole) for _ in PARTITIONS]
    expected[2] = sorted([*expected[2], f"Killed {account}", f"Resumed {account}"])
    assert [sorted(log) for log in asyncio.run(stops())] == expected, "each once, and nowhere else"


def test_parents_positions_and_profits_are_of_each_account_and_lists_have_all(stack: OneProcess) -> None:
    parents: dict[str, str] = {}
    for partition, account in ACCOUNTS.items():
        body = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.002", "algo": "TWAP", "slices": 2}
        answer = stack.call("exeq", "POST", "/parents", {**body, "duration": "1s", "account": account})
        assert answer.status == 200, answer.body
        parents[account] = answer.json["parent_id"]
        assert parents[account].startswith(f"e{partition}-")
    for account, parent_id in parents.items():

        def is_filled(parent_id: str = parent_id) -> bool:
            return stack.call("exeq", "GET", f"/parents/{parent_id}").json["status"] == "Filled"

        stack.wait_until(is_filled, f"{parent_id} of {account} is filled")
    listed = stack.call("exeq", "GET", "/parents?limit=3").json
    more = stack.call("exeq", "GET", f"/parents?limit=3&cursor={listed['cursor']}").json
    assert [each["parent_id"] for each in (*listed["parents"], *more["parents"])] == [*reversed(parents.values())]
    for service, path, key in (("ptrc", "/positions", "positions"), ("pnl", "/pnl", "accounts")):

        def has_all(service: str = service, path: str = path, key: str = key) -> bool:
            found = stack.call(service, "GET", path).json[key]
            return sorted(line["account"] for line in found) == sorted(ACCOUNTS.values())

        stack.wait_until(has_all, f"{service} has all accounts")
    for account in ACCOUNTS.values():

        def agree(account: str = account) -> bool:
            (own,) = stack.call("oms", "GET", f"/positions/{account}").json["positions"]
            (held,) = stack.call("ptrc", "GET", f"/positions/{account}").json["positions"]
            (valued,) = stack.call("pnl", "GET", f"/positions/{account}").json["positions"]
            return own["quantity"] == held["quantity"] == valued["quantity"] == "0.002"

        stack.wait_until(agree, f"all say the same of {account}")
    assert stack.call("ptrc", "GET", "/reconcile/SIM").json["matched"]
