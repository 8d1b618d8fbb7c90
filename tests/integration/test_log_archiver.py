"""A stack whose old records move to the lake: nobody who reads it sees a difference, whatever was lost beside it."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from one_process import OneProcess

from trade2026.archive.log_archiver import FOLDS, LogArchiver
from trade2026.kit.bus.archived import ArchivedBus
from trade2026.kit.bus.kafka import KafkaBus
from trade2026.kit.bus.kafka_settings import KafkaSettings
from trade2026.kit.bus.port import Record, TopicConfig
from trade2026.kit.clock import WallClock
from trade2026.kit.metrics import Metrics
from trade2026.kit.projection import snapshot_directory
from trade2026.kit.settings import ProcessSettings
from trade2026.kit.snapshots import SnapshotStore
from trade2026.local.infra.kafka import Kafka
from trade2026.log_archive.lake_archive import LakeArchive
from trade2026.log_archive.opening import ARCHIVED, open_bus
from trade2026.oms.replay import verify
from trade2026.stack.facts import TOPICS
from trade2026.stores.delta import DeltaLake

SERVICES = ("oms", "gateway", "normalizer", "risk", "exeq", "ptrc", "pnl", "archive", "hot_cache")
ORDERS = "orders.events"
_POSITION = ("symbol", "quantity", "average_price", "realized", "fees")


def small(settings: ProcessSettings) -> ProcessSettings:
    """Small segments, and nothing is too young to go."""
    topics = [
        msgspec.structs.replace(topic, segment_bytes_max=8_000 if topic.name in ARCHIVED else topic.segment_bytes_max)
        for topic in settings.topics
    ]
    config = {**settings.config, "archive": {"log_after_ns": 1}}
    return msgspec.structs.replace(settings, topics=topics, config=config)


def run(state: Path) -> OneProcess:
    return OneProcess(state, services=SERVICES, change=small)


def trade(stack: OneProcess, life: int) -> list[str]:
    """Orders that fill, rest, are cancelled and refused, and a parent; the ids of the orders."""
    order_ids: list[str] = []

    def send(number: int, **terms: Any) -> str:
        body = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.001", "client_order_id": f"c{life}-{number}"}
        answer = stack.call("oms", "POST", "/orders", {**body, **terms})
        assert answer.status in (200, 422), answer.body
        order_ids.append(answer.json["order_id"])
        return order_ids[-1]

    for number in range(12):
        send(number, side="sell" if number % 3 == 2 else "buy", order_type="market")
    resting = [send(20 + number, price="40000") for number in range(4)]
    send(30, price="1")
    assert stack.call("oms", "DELETE", f"/orders/{resting[0]}").status == 200
    parent = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.002", "algo": "TWAP", "slices": 2, "duration": "1s"}
    parent_id = stack.call("exeq", "POST", "/parents", parent).json["parent_id"]

    def done() -> bool:
        statuses = [stack.call("oms", "GET", f"/orders/{order_id}").json["status"] for order_id in order_ids]
        return (
            statuses[:12] == ["Filled"] * 12
            and statuses[12:] == ["Canceled", "New", "New", "New", "Rejected"]
            and stack.call("exeq", "GET", f"/parents/{parent_id}").json["status"] == "Filled"
        )

    stack.wait_until(done, "everything has come to its end")
    return order_ids


def settled(stack: OneProcess) -> dict[str, Any]:
    """What every service says once all have read the whole log."""

    async def ends() -> int:
        bus = open_bus(stack.settings)
        try:
            return await bus.end(ORDERS, 0)
        finally:
            await bus.close()

    end = asyncio.run(ends())

    def all_there() -> bool:
        asked = [stack.call(name, "GET", "/stats").json for name in ("ptrc", "pnl", "archive")]
        return all(stats["as_of"] == end - 1 for stats in asked)

    stack.wait_until(all_there, "every projection is at the end of the log")
    transactions: list[Any] = []
    cursor: str | None = "0"
    while cursor is not None:
        page = stack.call("ptrc", "GET", f"/reports/transactions?limit=1000&cursor={cursor}").json
        transactions += page["transactions"]
        cursor = page["cursor"]
    orders = stack.call("archive", "GET", "/orders?limit=1000").json["orders"]
    held = {name: stack.call(name, "GET", "/positions/main").json["positions"] for name in ("oms", "ptrc", "pnl")}
    return {
        "orders": orders,
        "open": sorted(one["order_id"] for one in stack.call("oms", "GET", "/orders?status=open").json["orders"]),
        "positions": {
            name: [tuple(line[key] for key in _POSITION) for line in positions] for name, positions in held.items()
        },
        "transactions": transactions,
        "trace": stack.call("archive", "GET", f"/trace/{orders[-1]['order_id']}").json["events"],
    }


def look(stack: OneProcess, records: int = 10) -> LogArchiver:
    """One round of the archiver, which moves also what would be too little otherwise."""
    archiver: LogArchiver = stack.hosted["archive"].log_archiver
    archiver.records = records
    stack.run_inside(archiver.look())
    assert archiver.health().ok, archiver.health().detail
    return archiver


def read_log(settings: ProcessSettings, topic: str) -> tuple[int, list[Record]]:
    """Where the log itself begins, and all that was ever in it."""

    async def read() -> tuple[int, list[Record]]:
        bus = open_bus(settings)
        try:
            found: list[Record] = []
            while more := await bus.read(topic, 0, len(found), 1_000):
                found += more
            return await bus.kept.start(topic, 0), found
        finally:
            await bus.close()

    return asyncio.run(read())


def begins_at(stack: OneProcess) -> int:
    """Where the log of orders itself begins."""
    return read_log(stack.settings, ORDERS)[0]


def damage_newest(state: Path) -> None:
    for folder in (state / "snapshots").iterdir():
        newest = max(folder.glob("*.snapshot"), default=None)
        if newest is not None:
            newest.write_bytes(newest.read_bytes()[:-3] + b"xxx")


def remove_all(state: Path) -> None:
    shutil.rmtree(state / "snapshots")
    shutil.rmtree(state / "archive")


HARMS: list[Callable[[Path], None]] = [lambda state: None, damage_newest, remove_all]


def test_a_rebuild_from_archive_snapshot_and_log_equals_the_state(tmp_path: Path) -> None:
    state = tmp_path / "state"
    before: dict[str, list[Record]] = {}
    for life in range(3):  # each end of a life leaves a snapshot
        with run(state) as stack:
            trade(stack, life)
            settled(stack)
            if life == 2:
                before = {topic: read_log(stack.settings, topic)[1] for topic in ARCHIVED}
                archiver = look(stack)
                told = settled(stack)
                summary = stack.call("archive", "GET", "/stats").json["log"]
    for topic in ARCHIVED:
        begins, records = read_log(stack.settings, topic)
        assert 0 < begins <= archiver.covered(topic, 0) < len(records), topic
        assert summary[f"{topic}/0"]["begins"] == begins <= summary[f"{topic}/0"]["archived_to"]
        assert records[: len(before[topic])] == before[topic], "not a byte is another"
    for harm in HARMS:
        harm(state)
        with run(state) as stack:
            assert settled(stack) == told
            assert stack.call("ptrc", "GET", "/reconcile/SIM").json["matched"]
            found = asyncio.run(_verified(stack.settings))
            assert found.agrees and found.decisions > 40, found.differences
    with run(state) as stack:
        trade(stack, 9)


async def _verified(settings: ProcessSettings) -> Any:
    bus = open_bus(settings)
    try:
        return await verify(bus, settings, 0)
    finally:
        await bus.close()


def test_only_what_is_old_covered_twice_and_the_same_in_the_lake_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    with run(state) as stack:
        trade(stack, 0)
        look(stack)
        assert begins_at(stack) == 0, "no snapshot covers it"
    for life in (1, 2):
        with run(state) as stack:
            trade(stack, life)
    with run(state) as stack:
        archiver: LogArchiver = stack.hosted["archive"].log_archiver
        archiver.after_ns = 3_600 * 10**9
        look(stack)
        assert begins_at(stack) == 0 and not (state / "lake" / "log").exists(), "it is too young"
        archiver.after_ns, read = 1, archiver.bus.archive.read

        async def other(topic: str, partition: int, from_seq: int, records_max: int) -> list[Record]:
            found = await read(topic, partition, from_seq, records_max)
            return [msgspec.structs.replace(record, body=b"{}") for record in found]

        monkeypatch.setattr(archiver.bus.archive, "read", other)
        stack.run_inside(archiver.look())
        monkeypatch.setattr(archiver.bus.archive, "read", read)
        health = stack.call("archive", "GET", "/health").json
        assert "is not what the log has" in str(health["checks"]["log_archive"]) and health["status"] != "ok"
        assert begins_at(stack) == 0, "the lake has something else"
        look(stack)
        assert begins_at(stack) > 0
        (state / "lake" / "log").rename(state / "elsewhere")
        for _ in range(2):
            stack.run_inside(archiver.look())
            told = str(stack.call("archive", "GET", "/health").json["checks"]["log_archive"])
            assert "back from a backup" in told, told
        (state / "elsewhere").rename(state / "lake" / "log")
        look(stack)
        files = {
            path: path.read_bytes()
            for path in (state / "lake" / "log" / "records").glob("*/partition=orders.events-0/*.parquet")
        }
        for path, content in files.items():
            path.write_bytes(content[:4] + bytes(len(content) // 2) + content[4 + len(content) // 2 :])
        stack.run_inside(archiver.look())
        told = str(stack.call("archive", "GET", "/health").json["checks"]["log_archive"])
        assert "put it back from a backup" in told, told
        for path, content in files.items():
            path.write_bytes(content)
        look(stack)


async def test_on_kafka_a_log_begins_exactly_after_what_was_moved(tmp_path: Path, kafka: Kafka) -> None:
    config = TopicConfig(name=ORDERS, partitions=2)
    bus = KafkaBus(KafkaSettings(bootstrap_servers=kafka.address, prefix=uuid4().hex), [config])
    archive, clock = LakeArchive(lambda: DeltaLake(tmp_path / "lake")), WallClock()
    writer = await bus.claim(ORDERS, 1, "oms")
    await writer.append([b'{"ts_init":%d}' % seq for seq in range(95)])
    store = SnapshotStore(snapshot_directory(tmp_path, "oms", 1), "oms")
    for covered in (70, 83):
        store.write(b"", covered, "0")
    both = ArchivedBus(bus, archive, [ORDERS])
    archiver = LogArchiver(both, clock, Metrics(clock), tmp_path, {ORDERS: 2}, 1, records=20)
    try:
        for _ in range(2):
            await archiver.look()
            assert archiver.summary() == {
                f"{ORDERS}/0": {"begins": 0, "archived_to": 0, "covered_to": 0},
                f"{ORDERS}/1": {"begins": 60, "archived_to": 60, "covered_to": 70},
            }
        assert archiver.health().ok and await bus.start(ORDERS, 1) == 60
        found: list[Record] = []
        while more := await both.read(ORDERS, 1, len(found), 19):
            found += more
        assert [record.body for record in found] == [b'{"ts_init":%d}' % seq for seq in range(95)]
    finally:
        await both.close()


def test_every_topic_that_grows_with_orders_says_whose_snapshots_cover_it() -> None:
    assert set(FOLDS) == {topic.name for topic in TOPICS if topic.archived}
