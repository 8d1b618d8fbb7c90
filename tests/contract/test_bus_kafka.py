"""What only a bus of brokers must withstand: writers and brokers that are killed, owners that sleep, brokers away."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType
from tests.checker_kafka import read_raw
from tests.infra import started
from tests.waiting import until

import trade2026
from trade2026.kit.bus.kafka import KafkaBus
from trade2026.kit.bus.kafka_settings import KafkaSettings
from trade2026.kit.bus.port import BusError, BusUncertain, Fenced, Reader, Record, TopicConfig
from trade2026.local.infra.component import Component
from trade2026.local.infra.kafka import Kafka

TOPIC = "orders.events"
TOPICS = [TopicConfig(name=TOPIC), TopicConfig(name="market.ticks", durable=False, retention_bytes_max=5_000_000)]
SECONDS_MAX = 60.0

Open = Callable[[], KafkaBus]

_CHILD = """
import asyncio, sys
from trade2026.kit.bus.kafka import KafkaBus
from trade2026.kit.bus.kafka_settings import KafkaSettings
from trade2026.kit.bus.port import BusUncertain, TopicConfig

async def produce(writer):
    while True:
        seq = writer.next_seq
        print(await writer.append([b"%d" % seq, b"%d" % (seq + 1)]), flush=True)

async def own(bus):
    writer = await bus.claim("orders.events", 0, "child")
    answers = await asyncio.gather(*(produce(writer) for _ in range(20)), return_exceptions=True)
    await writer.close()
    print(*sorted({type(answer).__name__ for answer in answers}), flush=True)

async def main(address, prefix, lives):
    settings = KafkaSettings(bootstrap_servers=address, prefix=prefix)
    bus = KafkaBus(settings, [TopicConfig(name="orders.events")])
    for _ in range(int(lives)):
        try:
            await own(bus)
        except BusUncertain as error:
            print("not claimed:", error, flush=True)
        await asyncio.sleep(0.2)

asyncio.run(main(*sys.argv[1:]))
"""
"""Owns the log, appends pairs from 20 tasks at once and prints what was acknowledged; claims again as often as told."""


@pytest.fixture
def prefix() -> str:
    return f"t{uuid4().hex[:12]}"


@pytest_asyncio.fixture
async def open_bus(kafka: Component, prefix: str) -> AsyncIterator[Open]:
    """Each call is a new object on the same topics, like another process."""
    opened: list[KafkaBus] = []

    def opens() -> KafkaBus:
        opened.append(KafkaBus(KafkaSettings(bootstrap_servers=kafka.address, prefix=prefix), TOPICS))
        return opened[-1]

    yield opens
    for bus in opened:
        await bus.close()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Component]:
    """One that may be harmed."""
    component = started(Kafka(tmp_path / "kafka"))
    yield component
    component.stop()


@asynccontextmanager
async def child(address: str, prefix: str, lives: int = 1) -> AsyncIterator[Process]:
    environment = {**os.environ, "PYTHONPATH": str(Path(trade2026.__file__).parents[1])}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _CHILD, address, prefix, str(lives), stdout=PIPE, env=environment
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line_of(process: Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), SECONDS_MAX)).decode().strip()


async def acknowledged_by(process: Process, count: int) -> list[int]:
    return [int(await line_of(process)) for _ in range(count)]


async def rest_of(process: Process) -> list[str]:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.read(), SECONDS_MAX)).decode().split("\n")[:-1]


async def everything(bus: KafkaBus) -> list[Record]:
    return await bus.read(TOPIC, 0, await bus.start(TOPIC, 0), 10_000_000)


def seqs_of(lines: list[str]) -> list[int]:
    """Complete lines only: a process that is killed may leave half a one."""
    return [int(line) for line in lines if line.isdigit()]


async def test_what_was_acknowledged_before_a_kill_of_the_writer_is_there_after_it(
    open_bus: Open, kafka: Component, prefix: str
) -> None:
    for life in range(1, 4):
        async with child(kafka.address, prefix) as process:
            await acknowledged_by(process, 50)
            process.kill()
            seen = seqs_of((await rest_of(process))[:-1])
        bus = open_bus()
        records = await everything(bus)
        assert [int(record.body) for record in records] == [record.seq for record in records] == [*range(len(records))]
        assert len(records) > max(seen, default=0)
        raw = await asyncio.to_thread(read_raw, kafka.address, f"{prefix}.{TOPIC}")
        assert (len(raw.bodies), raw.claims) == (len(records), life)


async def test_an_owner_that_slept_through_a_claim_is_fenced_and_what_it_had_under_way_counts_for_nobody(
    open_bus: Open, kafka: Component, prefix: str
) -> None:
    async with child(kafka.address, prefix) as process:
        await acknowledged_by(process, 100)
        process.send_signal(signal.SIGSTOP)
        writer = await open_bus().claim(TOPIC, 0, "second")
        first = writer.next_seq
        for n in range(20):
            await writer.append([b"second %d" % n])
        process.send_signal(signal.SIGCONT)
        lines = await rest_of(process)
    assert lines[-1] in ("Fenced", "BusUncertain")
    assert max(seqs_of(lines), default=0) < first, "it acknowledged nothing that is not there"
    raw = await asyncio.to_thread(read_raw, kafka.address, f"{prefix}.{TOPIC}")
    assert raw.bodies == [b"%d" % n for n in range(first)] + [b"second %d" % n for n in range(20)]
    assert raw.epochs == [1] * first + [2] * 20
    assert await everything(open_bus()) == [Record(TOPIC, 0, n, body) for n, body in enumerate(raw.bodies)]


async def test_a_claim_succeeds_at_once_against_an_owner_who_never_rests(
    open_bus: Open, kafka: Component, prefix: str
) -> None:
    async with child(kafka.address, prefix) as process:
        await acknowledged_by(process, 100)
        writer = await open_bus().claim(TOPIC, 0, "second")
        lines = await rest_of(process)
    assert lines[-1] == "Fenced"
    assert max(seqs_of(lines), default=0) < writer.next_seq
    assert await writer.append([b"mine"]) == writer.next_seq - 1
    raw = await asyncio.to_thread(read_raw, kafka.address, f"{prefix}.{TOPIC}")
    assert raw.claims == 2 and raw.bodies[-1] == b"mine" and len(raw.bodies) == writer.next_seq


async def test_of_those_who_claim_together_each_gets_an_epoch_of_its_own_and_one_goes_on(
    open_bus: Open, kafka: Component, prefix: str
) -> None:
    buses = [open_bus() for _ in range(4)]
    await asyncio.gather(*(bus.end(TOPIC, 0) for bus in buses))
    writers = await asyncio.gather(*(bus.claim(TOPIC, 0, f"owner {n}") for n, bus in enumerate(buses)))
    assert sorted(writer.epoch for writer in writers) == [1, 2, 3, 4]
    answers = await asyncio.gather(*(writer.append([b"mine"]) for writer in writers), return_exceptions=True)
    assert sorted(str(type(answer).__name__) for answer in answers) == ["Fenced"] * 3 + ["int"]
    raw = await asyncio.to_thread(read_raw, kafka.address, f"{prefix}.{TOPIC}")
    assert raw.bodies == [b"mine"] and raw.epochs == [4]


async def test_when_the_broker_is_killed_nothing_acknowledged_is_lost_and_owner_and_reader_go_on_by_themselves(
    broker: Component, prefix: str
) -> None:
    bus = KafkaBus(KafkaSettings(bootstrap_servers=broker.address, prefix=prefix), TOPICS)
    followed: list[Record] = []
    following = asyncio.create_task(follow(await bus.open_reader(TOPIC, 0), followed))
    try:
        async with child(broker.address, prefix, lives=1000) as process:
            seen = await acknowledged_by(process, 200)
            broker.kill()
            while (line := await line_of(process)).isdigit():
                seen.append(int(line))
            assert line == "BusUncertain", "nobody knows, and the owner says so"
            refused = await line_of(process)
            assert refused.startswith("not claimed:"), refused
            with pytest.raises(BusError):
                await bus.end(TOPIC, 0)
            broker.start()
            while not (line := await line_of(process)).isdigit():
                pass
            seen += [int(line), *await acknowledged_by(process, 100)]
            process.kill()
            seen += seqs_of((await rest_of(process))[:-1])
        raw = await asyncio.to_thread(read_raw, broker.address, f"{prefix}.{TOPIC}")
        assert raw.bodies == [b"%d" % n for n in range(len(raw.bodies))]
        assert len(raw.bodies) > max(seen)
        assert raw.epochs[-1] > 1
        await until(lambda: len(followed) >= len(raw.bodies), "the reader at the end")
        assert followed == [Record(TOPIC, 0, n, body) for n, body in enumerate(raw.bodies)]
    finally:
        following.cancel()
        await bus.close()


async def follow(reader: Reader, found: list[Record]) -> None:
    while True:
        try:
            found += await reader.read()
        except BusError:
            await asyncio.sleep(0.1)


async def test_topics_are_made_as_the_plan_says(open_bus: Open, kafka: Component, prefix: str) -> None:
    await open_bus().end(TOPIC, 0)
    admin = AdminClient({"bootstrap.servers": kafka.address})
    resources = [ConfigResource(ResourceType.TOPIC, f"{prefix}.{topic.name}") for topic in TOPICS]
    orders, ticks = [answer.result(SECONDS_MAX) for answer in admin.describe_configs(resources).values()]
    for config in (orders, ticks):
        assert config["cleanup.policy"].value == "delete"
        assert config["unclean.leader.election.enable"].value == "false"
        assert config["retention.ms"].value == "-1"
    assert (orders["flush.messages"].value, orders["retention.bytes"].value) == ("1", "-1")
    assert ticks["flush.messages"].value != "1" and ticks["retention.bytes"].value == "5000000"


async def test_an_append_of_ten_thousand_records_is_one_piece(open_bus: Open) -> None:
    bus = open_bus()
    writer = await bus.claim(TOPIC, 0, "oms")
    bodies = [b"%0600d" % n for n in range(10_000)]
    assert await writer.append(bodies) == 9_999
    assert [record.body for record in await bus.read(TOPIC, 0, 0, 20_000)] == bodies
    assert [record.body for record in await bus.read(TOPIC, 0, 9_990, 5)] == bodies[9_990:9_995]


async def test_the_brokers_own_tools_see_how_far_a_group_is(open_bus: Open, kafka: Component, prefix: str) -> None:
    bus = open_bus()
    writer = await bus.claim(TOPIC, 0, "oms")
    await writer.append([b"x"] * 10)
    await bus.read(TOPIC, 0, 0, 100)
    await bus.commit("ptrc", TOPIC, 0, 7)
    consumer = Consumer({"bootstrap.servers": kafka.address, "group.id": f"{prefix}.ptrc"})
    try:
        (committed,) = consumer.committed([TopicPartition(f"{prefix}.{TOPIC}", 0)], timeout=SECONDS_MAX)
    finally:
        consumer.close()
    assert committed.offset == 8, "the claim lies in front of the first record"


async def test_a_fenced_writer_stays_fenced_and_a_broker_that_is_nowhere_is_named(open_bus: Open) -> None:
    first = await open_bus().claim(TOPIC, 0, "first")
    await open_bus().claim(TOPIC, 0, "second")
    for _ in range(2):
        with pytest.raises(Fenced):
            await first.append([b"late"])
    nowhere = KafkaBus(KafkaSettings(bootstrap_servers="127.0.0.1:1", prefix="none"), TOPICS)
    with pytest.raises(BusUncertain, match=r"does not answer on 127\.0\.0\.1:1; start it|127\.0\.0\.1:1"):
        await nowhere.claim(TOPIC, 0, "oms")
    await nowhere.close()
