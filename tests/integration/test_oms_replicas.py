"""Several replicas of the order service share the accounts: any takes any request, and a move loses and doubles nothing."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from one_process import free_ports
from recovering import ORDER, Desk, Hosted, accepted, status, submit, until_status
from test_oms_partitions import ACCOUNTS, PARTITIONS, listed
from tests.waiting import until
from websockets.asyncio.client import connect

from trade2026.domain import events as ev
from trade2026.domain.orders import partition_of_id
from trade2026.domain.shards import partition_of
from trade2026.kit.bus.choice import open_membership
from trade2026.kit.bus.membership import Member, Membership
from trade2026.kit.bus.membership_member import Timing
from trade2026.kit.bus.membership_memory import MemoryGroup
from trade2026.kit.process import web_server
from trade2026.oms.service import OmsService

TIMING = Timing(session_seconds=300.0, call_seconds_max=60.0)
"""No session ends because the machine is slow."""
SHORT = Timing(session_seconds=2.0, call_seconds_max=60.0)


class Replica(Hosted):
    """An order service of a group, on a port of its own."""

    def __init__(self, desk: "Replicas", number: int) -> None:
        (self.port,) = free_ports(1)
        self.name = f"orders-{number}"
        settings = msgspec.structs.replace(
            desk.settings, release=self.name, ports={**desk.settings.ports, "oms": self.port}
        )
        super().__init__(OmsService, settings, len(desk.started), desk.member)
        self._server = web_server(self.app, host="127.0.0.1", port=self.port)
        self._serving = asyncio.ensure_future(self._server.serve())

    async def start(self) -> None:
        await until(lambda: self._server.started, "it listens")
        await super().start()

    async def stop(self) -> None:
        await super().stop()
        self._server.should_exit = True
        await self._serving

    @property
    def partitions(self) -> set[int]:
        return set(self.service.cells.here)


class Replicas(Desk):
    """A desk whose order service has replicas."""

    def __init__(self, state: Path, timing: Timing = TIMING, **changed: Any) -> None:
        super().__init__(state, PARTITIONS, **changed)
        self.group = MemoryGroup(PARTITIONS, timing)

    def member(self, service: str, me: Member, partitions: int) -> Membership:
        """One of the group in memory, or of the brokers' if the bus is theirs."""
        if self.settings.bus["type"] == "embedded":
            return self.group.member(me)
        return open_membership(self.settings, service, me, partitions)

    async def start(self) -> None:
        await super().start()
        self._ticking = asyncio.ensure_future(self._keep_fresh())

    async def _keep_fresh(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            await self.tick()

    async def stop(self) -> None:
        self._ticking.cancel()
        await asyncio.gather(self._ticking, return_exceptions=True)
        await super().stop()

    async def replica(self, number: int) -> Replica:
        replica = Replica(self, number)
        self.started.append(replica)
        await replica.start()
        return replica

    async def replicas(self, count: int) -> list[Replica]:
        found = [await self.replica(number) for number in range(count)]
        await self.settled(found)
        return found

    async def settled(self, replicas: list[Replica]) -> None:
        """Every partition has one of them, and each of them knows."""

        def is_settled() -> bool:
            held = [partition for replica in replicas for partition in replica.partitions]
            knows = all(
                all(replica.service.cells.membership.whose(partition) for partition in range(PARTITIONS))
                for replica in replicas
            )
            return sorted(held) == list(range(PARTITIONS)) and knows

        async def looked() -> bool:
            for replica in replicas:
                await replica.service.cells.membership.look()
            return is_settled()

        await until(looked, "each partition has one owner")

    async def leave(self, replica: Replica) -> None:
        self.started.remove(replica)
        await replica.stop()


@pytest.fixture(params=["embedded", "kafka"])
async def moving(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Replicas]:
    """On a log in files with a group in memory, and on brokers that carry both."""
    changed: dict[str, Any] = {}
    if request.param == "kafka":
        servers = {"bootstrap_servers": request.getfixturevalue("kafka").address}
        changed = {"bus": {"type": "kafka", "kafka": servers}, "stack": f"replicas-{uuid4().hex[:8]}"}
    desk = Replicas(tmp_path, **changed)
    await desk.start()
    yield desk
    await desk.stop()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Replicas]:
    desk = Replicas(tmp_path)
    await desk.start()
    yield desk
    await desk.stop()


@pytest.fixture
async def impatient(tmp_path: Path) -> AsyncIterator[Replicas]:
    """Whose sessions end soon."""
    desk = Replicas(tmp_path, SHORT)
    await desk.start()
    yield desk
    await desk.stop()


async def test_three_share_the_partitions_and_any_takes_the_order_of_any_account(desk: Replicas) -> None:
    replicas = await desk.replicas(3)
    assert sorted(len(replica.partitions) for replica in replicas) == [1, 1, 2]
    made: list[str] = []
    for number, account in enumerate(ACCOUNTS * 3):
        made.append(await accepted(replicas[number % 3], account=account))
        assert partition_of_id(made[-1]) == partition_of(account, PARTITIONS)
    for replica in replicas:
        assert await listed(replica, limit=7) == made[::-1]
        assert await listed(replica, "&account=a3") == [made[n] for n in range(len(made) - 1, -1, -1) if n % 12 == 3]
        for order_id in made[:8]:
            assert await status(replica, order_id) == "PendingNew"
    assert all(replica.service.cells.forwarded for replica in replicas)


async def test_what_is_sent_twice_to_different_replicas_is_one_order(desk: Replicas) -> None:
    replicas = await desk.replicas(3)
    for account in ACCOUNTS:
        ids = {await accepted(replica, account=account, client_order_id="once") for replica in replicas}
        assert len(ids) == 1
        other = await submit(replicas[0], account=account, client_order_id="once", quantity="0.002")
        assert (other.status_code, other.json()["code"]) == (409, "client_order_id_reused")


async def test_orders_are_changed_and_positions_told_by_any_replica(desk: Replicas) -> None:
    replicas = await desk.replicas(3)
    ids = {account: await accepted(replicas[0], account=account) for account in ACCOUNTS}
    await desk.say(*(ev.VenueAccepted(order_id=each, venue_order_id=f"v-{each}") for each in ids.values()))
    for account, order_id in ids.items():
        await until_status(replicas[1], order_id, "New")
        changed = await replicas[1].ask("PATCH", f"/orders/{order_id}", {"price": "44000"})
        assert (changed.status_code, changed.json()["status"]) == (200, "PendingReplace"), changed.text
        cancelled = await replicas[2].ask("DELETE", f"/orders/{order_id}")
        assert (cancelled.status_code, cancelled.json()["status"]) == (200, "PendingCancel"), cancelled.text
        await desk.say(desk.fill(order_id))
        await until_status(replicas[0], order_id, "Filled")
        for replica in replicas:
            (position,) = (await replica.ask("GET", f"/positions/{account}")).json()["positions"]
            assert position["quantity"] == ORDER["quantity"]
    assert (await replicas[0].ask("DELETE", "/orders/o3-777")).json()["code"] == "unknown_order"


async def test_a_refusal_by_risk_comes_whole_through_another_replica(desk: Replicas) -> None:
    replicas = await desk.replicas(3)
    assert (await replicas[0].ask("POST", "/kill", {"scope": "account:a1", "reason": "test"})).status_code == 200
    answers = [await submit(replica, account="a1") for replica in replicas]
    assert {(answer.status_code, answer.json()["reject_code"]) for answer in answers} == {(422, "KILLED")}
    assert all(answer.headers["content-type"] == "application/problem+json" for answer in answers)
    assert len({answer.json()["order_id"] for answer in answers}) == 3


async def test_a_batch_and_a_kill_of_all_reach_every_replica(desk: Replicas) -> None:
    replicas = await desk.replicas(3)
    orders = [{**ORDER, "account": account, "client_order_id": f"b-{account}"} for account in ACCOUNTS]
    orders[4] = {**ORDER, "account": "a4", "quantity": "-1"}
    results = (await replicas[0].ask("POST", "/orders/batch", {"orders": orders})).json()["results"]
    assert [result.get("client_order_id") for result in results] == [order.get("client_order_id") for order in orders]
    assert results[4]["code"] == "not_positive"
    assert (await replicas[1].ask("POST", "/orders/cancel-all", {})).json()["asked"] == len(ACCOUNTS) - 1
    assert (await replicas[2].ask("POST", "/kill", {"reason": "test"})).status_code == 200
    for account in ACCOUNTS:
        assert (await submit(replicas[0], account=account)).json()["reject_code"] == "KILLED"
    assert (await replicas[0].ask("POST", "/resume", {"reason": "over"})).status_code == 200
    for account in ACCOUNTS:
        await accepted(replicas[1], account=account)


async def test_a_websocket_takes_orders_of_every_account_and_a_stream_tells_all_events(desk: Replicas) -> None:
    replicas = await desk.replicas(3)
    begin = ",".join(f"{partition}:0" for partition in range(PARTITIONS))
    base = f"ws://127.0.0.1:{replicas[0].port}"
    async with connect(f"{base}/ws/orders") as entry, connect(f"{base}/ws/events?from={begin}") as stream:
        for number, account in enumerate(ACCOUNTS):
            await entry.send(json.dumps({"op": "submit", "id": number, "order": {**ORDER, "account": account}}))
        answers = [json.loads(await asyncio.wait_for(entry.recv(), 60)) for _ in ACCOUNTS]
        ids = [answer["result"]["order_id"] for answer in answers]
        assert [answer["id"] for answer in answers] == list(range(len(ACCOUNTS)))
        batch = [{**ORDER, "account": account} for account in ACCOUNTS]
        await entry.send(json.dumps({"op": "batch", "id": "b", "orders": batch}))
        ids += [result["order_id"] for result in json.loads(await asyncio.wait_for(entry.recv(), 60))["result"]]
        await entry.send(json.dumps({"op": "cancel", "id": "c", "order_id": ids[0]}))
        cancelled = json.loads(await asyncio.wait_for(entry.recv(), 60))
        assert cancelled["result"]["order_id"] == ids[0]
        told: set[str] = set()
        while len(told) < len(ids):
            event = json.loads(await asyncio.wait_for(stream.recv(), 60))
            if event["type"] == "OrderAccepted":
                told.add(event["data"]["order_id"])
                assert event["event_id"].split("/")[1] == str(partition_of_id(event["data"]["order_id"]))
        assert told == set(ids)


class Load:
    """Clients that send orders without a pause to whichever replica there is, and remember what they were told."""

    def __init__(self, replicas: list[Replica]) -> None:
        self.replicas = replicas
        self.told: dict[str, str] = {}
        """Client order id → order id."""
        self.refused: Counter[str] = Counter()
        self._going = True
        self._tasks = [asyncio.ensure_future(self._send(number)) for number in range(4)]

    async def _send(self, client: int) -> None:
        sent = 0
        while self._going:
            sent += 1
            account = ACCOUNTS[(sent + client) % len(ACCOUNTS)]
            await self._until_taken(client + sent, account, f"{client}-{sent}")

    async def _until_taken(self, turn: int, account: str, name: str) -> None:
        """The same id again and again, as a careful client does, wherever it may be asked."""
        while True:
            turn += 1
            replica = self.replicas[turn % len(self.replicas)]
            answer = await submit(replica, account=account, client_order_id=name)
            if answer.status_code == 200:
                self.told[f"{account}/{name}"] = answer.json()["order_id"]
                return
            assert answer.status_code in (429, 503), answer.text
            self.refused[answer.json()["code"]] += 1
            await asyncio.sleep(0.01)

    async def taken(self, account: str, name: str) -> None:
        """One order more, until it is taken."""
        await self._until_taken(0, account, name)

    async def end(self) -> None:
        self._going = False
        await asyncio.gather(*self._tasks)


async def check_that_the_log_has_what_was_told(desk: Replicas, load: Load) -> int:
    """Each order that was told is there once, under its id, and no epoch goes back."""
    found: dict[str, str] = {}
    for partition in range(PARTITIONS):
        epoch = 0
        for seq, envelope in enumerate(await desk.log(partition)):
            assert (envelope.seq, envelope.epoch >= epoch) == (seq, True)
            epoch = envelope.epoch
            if isinstance(envelope.data, ev.OrderAccepted):
                spec = envelope.data.spec
                key = f"{spec.account}/{spec.client_order_id}"
                assert key not in found, f"{key} became two orders"
                assert partition_of(spec.account, PARTITIONS) == partition
                found[key] = envelope.data.order_id
    assert {key: found.get(key) for key in load.told} == load.told
    return len(found)


async def test_from_one_replica_to_three_and_back_under_load_nothing_is_lost_or_doubled(moving: Replicas) -> None:
    desk = moving
    replicas = await desk.replicas(1)
    load = Load(list(replicas))
    await until(lambda: len(load.told) > 50, "orders are taken")
    for number in (1, 2):
        replicas.append(await desk.replica(number))
        await desk.settled(replicas)
        load.replicas = list(replicas)
        before = len(load.told)
        await until(lambda before=before: len(load.told) > before + 50, "orders are taken")
    assert sorted(len(replica.partitions) for replica in replicas) == [1, 1, 2]
    for _ in range(2):
        leaving = replicas.pop(0)
        load.replicas = list(replicas)
        await desk.leave(leaving)
        await desk.settled(replicas)
        before = len(load.told)
        await until(lambda before=before: len(load.told) > before + 50, "orders are taken")
    await load.end()
    assert replicas[0].partitions == set(range(PARTITIONS))
    orders = await check_that_the_log_has_what_was_told(desk, load)
    assert orders == len(load.told), "each client asked until it was told"
    assert set(await listed(replicas[0])) == set(load.told.values())


async def test_one_that_is_cut_off_loses_its_accounts_to_the_others_and_answers_nobody(impatient: Replicas) -> None:
    desk = impatient
    replicas = await desk.replicas(3)
    load = Load(replicas[1:])
    await until(lambda: len(load.told) > 30, "orders are taken")
    held = set(replicas[0].partitions)
    account = next(account for account in ACCOUNTS if partition_of(account, PARTITIONS) in held)
    desk.group.cut_off("orders-0")
    await desk.settled(replicas[1:])
    await load.taken(account, "after the move")
    answer = await submit(replicas[0], account=account, client_order_id="to the zombie")
    assert answer.status_code == 503
    await load.end()
    await check_that_the_log_has_what_was_told(desk, load)
    desk.group.mend("orders-0")
    load.replicas = replicas
    await load.taken(account, "to the zombie")


async def test_one_whose_log_another_claims_behind_its_back_answers_nobody_and_takes_it_again(desk: Replicas) -> None:
    replicas = await desk.replicas(2)
    (mine, *_) = sorted(replicas[0].partitions)
    account = next(account for account in ACCOUNTS if partition_of(account, PARTITIONS) == mine)
    await accepted(replicas[1], account=account)
    await desk.venue_bus.claim("orders.events", mine, "intruder")
    refused = await submit(replicas[1], account=account, client_order_id="c")
    assert (refused.status_code, refused.json()["code"]) in ((503, "not_acknowledged"), (503, "not_ready"))

    async def is_taken() -> bool:
        return (await submit(replicas[1], account=account, client_order_id="c")).status_code == 200

    await until(is_taken, "it is ours again")
    log = await desk.log(mine)
    assert sum(isinstance(one.data, ev.OrderAccepted) and one.data.spec.client_order_id == "c" for one in log) == 1


async def test_a_kill_of_all_stops_who_can_be_reached_and_says_that_one_could_not(desk: Replicas) -> None:
    replicas = await desk.replicas(3)
    gone = min(replicas, key=lambda replica: len(replica.partitions))
    others = [replica for replica in replicas if replica is not gone]
    (lost,) = gone.partitions
    gone._server.should_exit = True
    await gone._serving
    answer = await others[0].ask("POST", "/kill", {"reason": "test"})
    assert answer.status_code == 503, "one may still trade"
    killed = {p for replica in others for p, cell in replica.service.cells.here.items() if cell.stopped()}
    assert killed == set(range(PARTITIONS)) - {lost}


async def test_a_kill_that_was_sent_on_for_what_is_elsewhere_by_now_is_not_said_to_be_done(desk: Replicas) -> None:
    replicas = await desk.replicas(2)
    mine, theirs = sorted(replicas[0].partitions), sorted(replicas[1].partitions)

    async def kill(hop: str) -> int:
        answer = await replicas[0]._client.post("/kill", json={"reason": "test"}, headers={"x-trade2026-hop": hop})
        return answer.status_code

    assert await kill(",".join(map(str, mine))) == 200
    assert await kill(",".join(map(str, [*mine, theirs[0]]))) == 503
    assert await kill("nonsense") == 400


async def test_what_is_latched_and_not_logged_holds_for_the_next_cell_of_the_partition(desk: Replicas) -> None:
    replicas = await desk.replicas(2)
    mine = min(replicas[0].partitions)
    account = next(account for account in ACCOUNTS if partition_of(account, PARTITIONS) == mine)
    await desk.venue_bus.claim("orders.events", mine, "intruder")
    answer = await replicas[0].ask("POST", "/kill", {"scope": f"account:{account}", "reason": "test"})
    assert (answer.status_code, answer.json()["code"]) in ((503, "latched_not_logged"), (503, "not_ready"))

    async def is_killed() -> bool:
        refused = await submit(replicas[0], account=account)
        assert refused.status_code != 200, "what was latched lets nothing through"
        return refused.json().get("reject_code") == "KILLED"

    await until(is_killed, "the next cell has logged it")


async def test_a_head_request_is_answered_by_whoever_has_the_account(desk: Replicas) -> None:
    replicas = await desk.replicas(2)
    for account in ACCOUNTS:
        assert (await replicas[0].ask("HEAD", f"/positions/{account}")).status_code == 200
