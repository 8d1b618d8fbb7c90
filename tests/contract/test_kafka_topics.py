"""Topics as they should be kept: what is gone is not begun anew, what would lose records is refused, drift is told."""

import asyncio
from collections.abc import AsyncIterator, Callable
from uuid import uuid4

import pytest
import pytest_asyncio
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType
from tests.waiting import until

from trade2026.kit.bus.kafka import KafkaBus
from trade2026.kit.bus.kafka_settings import KafkaSettings
from trade2026.kit.bus.port import Bus, BusCorrupt, BusError, BusRefused, BusUncertain, TopicConfig
from trade2026.kit.inspection import Inspection
from trade2026.local.infra.component import Component

ORDERS, TICKS = "orders.events", "market.ticks"
TOPICS = [TopicConfig(name=ORDERS), TopicConfig(name=TICKS, durable=False, retention_bytes_max=5_000_000)]
SAFE = {"flush.messages": "1", "retention.ms": "-1"}
SECONDS_MAX = 60.0

Open = Callable[..., KafkaBus]


class Person:
    """Somebody with Kafka's own tools."""

    def __init__(self, address: str, prefix: str) -> None:
        self._admin = AdminClient({"bootstrap.servers": address})
        self._prefix = prefix

    async def delete(self, topic: str) -> None:
        name = f"{self._prefix}.{topic}"
        self._admin.delete_topics([name])[name].result(SECONDS_MAX)
        await until(lambda: name not in self._admin.list_topics(timeout=SECONDS_MAX).topics, f"{name} is gone")

    def make(self, topic: str, config: dict[str, str] | None = None) -> None:
        name = f"{self._prefix}.{topic}"
        self._admin.create_topics([NewTopic(name, 1, 1, config=config or {})])[name].result(SECONDS_MAX)

    def change(self, topic: str, setting: str, value: str) -> None:
        entry = ConfigEntry(setting, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, f"{self._prefix}.{topic}", incremental_configs=[entry])
        self._admin.incremental_alter_configs([resource])[resource].result(SECONDS_MAX)


@pytest.fixture
def prefix() -> str:
    return f"t{uuid4().hex[:12]}"


@pytest.fixture
def person(kafka: Component, prefix: str) -> Person:
    return Person(kafka.address, prefix)


@pytest_asyncio.fixture
async def open_bus(kafka: Component, prefix: str) -> AsyncIterator[Open]:
    """Each call is a new object on the same topics, like another process."""
    opened: list[KafkaBus] = []

    def opens(**settings: int | str) -> KafkaBus:
        opened.append(KafkaBus(KafkaSettings(bootstrap_servers=kafka.address, prefix=prefix, **settings), TOPICS))  # type: ignore[arg-type]
        return opened[-1]

    yield opens
    for bus in opened:
        await bus.close()


async def write(bus: Bus, topic: str = ORDERS) -> None:
    writer = await bus.claim(topic, 0, "owner")
    await writer.append([b"x"])


async def test_a_durable_log_that_a_person_deleted_is_not_begun_anew(
    open_bus: Open, person: Person, prefix: str
) -> None:
    await write(open_bus())
    await person.delete(ORDERS)
    for _ in range(2):
        with pytest.raises(BusCorrupt, match=rf"{prefix}.orders.events was here before, and is gone; put it back"):
            await write(open_bus())
    person.make(ORDERS, SAFE)
    with pytest.raises(BusCorrupt, match="was here before, and is gone"):
        await write(open_bus())
    await person.delete(ORDERS)
    await person.delete("bus.begun")
    bus = open_bus()
    await write(bus)
    assert await bus.end(ORDERS, 0) == 1, "who says so begins it anew"


async def test_an_owner_whose_topic_is_deleted_under_it_acknowledges_nothing_and_says_why(
    open_bus: Open, person: Person
) -> None:
    bus = open_bus()
    writer = await bus.claim(ORDERS, 0, "owner")
    await writer.append([b"x"])
    await person.delete(ORDERS)
    with pytest.raises(BusUncertain, match=r"is gone|Unknown"):
        await writer.append([b"y"])
    with pytest.raises(BusError, match=r"is gone|Unknown"):
        await bus.claim(ORDERS, 0, "owner")
    person.make(ORDERS, SAFE)
    with pytest.raises(BusCorrupt, match="was here before, and is gone"):
        await bus.claim(ORDERS, 0, "owner")


async def test_a_topic_that_grows_gets_the_partitions_that_it_lacks_and_keeps_its_records(
    kafka: Component, prefix: str
) -> None:
    settings = KafkaSettings(bootstrap_servers=kafka.address, prefix=prefix)
    grown = [TopicConfig(name=ORDERS, partitions=3, grows=True)]
    before, after, beside = (KafkaBus(settings, topics) for topics in ([TopicConfig(name=ORDERS)], grown, grown))
    try:
        await write(before)
        assert await asyncio.gather(after.end(ORDERS, 2), beside.end(ORDERS, 2)) == [0, 0], (
            "two processes start at once"
        )
        await (await after.claim(ORDERS, 2, "third")).append([b"z"])
        assert [await beside.end(ORDERS, partition) for partition in range(3)] == [1, 0, 1]
    finally:
        await asyncio.gather(before.close(), after.close(), beside.close())


async def test_a_topic_that_grows_may_have_more_partitions_and_another_not_one(kafka: Component, prefix: str) -> None:
    settings = KafkaSettings(bootstrap_servers=kafka.address, prefix=prefix)
    three = [TopicConfig(name=name, partitions=3, grows=True) for name in (ORDERS, TICKS)]
    newer, older = KafkaBus(settings, three), KafkaBus(settings, [TopicConfig(name=ORDERS, partitions=2, grows=True)])
    fixed = KafkaBus(settings, [TopicConfig(name=TICKS)])
    try:
        assert await newer.end(ORDERS, 0) == await older.end(ORDERS, 0) == 0
        with pytest.raises(BusRefused, match=rf"{prefix}.market.ticks has 3 partitions, not 1"):
            await fixed.end(TICKS, 0)
    finally:
        await asyncio.gather(newer.close(), older.close(), fixed.close())


async def test_the_log_of_a_name_is_kept_for_the_namespace_that_came_first(
    open_bus: Open, person: Person, prefix: str
) -> None:
    await write(open_bus())  # on one machine, or by a version that says no namespace
    await write(open_bus(namespace="first"))
    for _ in range(2):
        with pytest.raises(
            BusRefused, match=rf"of the stack {prefix} in namespace first, .*second.*{prefix}.bus.begun"
        ):
            await write(open_bus(namespace="second"))
    await write(open_bus(namespace="first"))
    await write(open_bus())
    await person.delete("bus.begun")
    second = open_bus(namespace="second")
    await write(second)
    assert await second.end(ORDERS, 0) == 5, "who says so has what was written before"
    with pytest.raises(BusRefused, match="in namespace second"):
        await write(open_bus(namespace="first"))


async def test_of_two_namespaces_that_begin_at_once_one_has_the_log(open_bus: Open) -> None:
    buses = [open_bus(namespace=namespace) for namespace in ("one", "one", "other", "other")]
    ends = await asyncio.gather(*(bus.end(ORDERS, 0) for bus in buses), return_exceptions=True)
    assert [isinstance(end, BusRefused) for end in ends] in ([False, False, True, True], [True, True, False, False])


async def test_market_data_that_a_person_deleted_begins_anew(open_bus: Open, person: Person) -> None:
    await write(open_bus(), TICKS)
    await person.delete(TICKS)
    bus = open_bus()
    await write(bus, TICKS)
    assert await bus.end(TICKS, 0) == 1


async def test_more_copies_than_brokers_are_refused_with_both_numbers(open_bus: Open) -> None:
    with pytest.raises(BusRefused, match=r"spec.bus.kafka.replication is 3, but 1 brokers answer; start more"):
        await write(open_bus(replication=3, min_insync_replicas=2))


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ({"cleanup.policy": "compact"}, "cleanup.policy is compact, not delete"),
        ({"retention.ms": "604800000"}, "retention.ms is 604800000, not -1"),
        ({"unclean.leader.election.enable": "true"}, "unclean.leader.election.enable is true, not false"),
        ({"flush.messages": "1000"}, "flush.messages is 1000, not 1"),
    ],
)
async def test_a_topic_that_would_lose_records_is_refused(
    open_bus: Open, person: Person, config: dict[str, str], fault: str
) -> None:
    person.make(ORDERS, SAFE | config)
    with pytest.raises(BusRefused, match=rf"records could be lost: .*{fault}.*kafka-configs"):
        await write(open_bus())


async def test_fewer_copies_than_planned_are_refused(open_bus: Open) -> None:
    await write(open_bus())
    with pytest.raises(BusRefused, match=r"has 1 replicas, not 2"):
        await open_bus(replication=2).inspect()


async def test_settings_that_somebody_changes_meanwhile_are_told_in_health(open_bus: Open, person: Person) -> None:
    bus = open_bus()
    await write(bus)
    inspection = Inspection(bus)
    await inspection.look()
    assert inspection.health() == {}
    person.change(TICKS, "retention.bytes", "1000")
    person.change(ORDERS, "max.message.bytes", "2000")
    await inspection.look()
    (health,) = inspection.health().values()
    assert "market.ticks: retention.bytes is 1000, not 5000000" in health.detail
    assert "orders.events: max.message.bytes is 2000, not 33554432" in health.detail
    await write(open_bus())  # it is told, and stops nobody
    person.change(ORDERS, "min.insync.replicas", "2")
    person.change(ORDERS, "retention.ms", "1000")
    await inspection.look()
    assert "records could be lost" in inspection.detail and "retention.ms is 1000, not -1" in inspection.detail


async def test_a_beginning_that_brokers_do_not_let_go_stays_and_the_message_says_what_to_change(
    open_bus: Open, person: Person
) -> None:
    bus = open_bus()
    writer = await bus.claim(ORDERS, 0, "oms")
    await writer.append([b"a", b"b", b"c"])
    person.change(ORDERS, "cleanup.policy", "compact")
    with pytest.raises(
        BusRefused, match=r"was not dropped \(PolicyViolationError\): allow .* cleanup\.policy must be delete"
    ):
        await bus.drop(ORDERS, 0, 2)
    assert await bus.start(ORDERS, 0) == 0
    person.change(ORDERS, "cleanup.policy", "delete")
    assert await bus.drop(ORDERS, 0, 2) == 2
    assert await bus.inspect() == []
