"""Three brokers, three copies, two of them in step: one may be lost, and what two have lost is not acknowledged."""

import asyncio
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient
from tests.checker_kafka import read_raw
from tests.infra import started
from tests.kafka_cluster import nodes
from tests.waiting import until

from trade2026.kit.bus.kafka import KafkaBus
from trade2026.kit.bus.kafka_settings import KafkaSettings
from trade2026.kit.bus.port import BusError, TopicConfig
from trade2026.local.infra.component import Component

ORDERS = TopicConfig(name="orders.events")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[list[Component]]:
    made = nodes(tmp_path)
    with ThreadPoolExecutor(len(made)) as side_by_side:  # a node ends with the thread that started it
        try:
            yield list(side_by_side.map(started, made))
        finally:
            for node in reversed(made):
                node.kill()


async def test_one_of_three_brokers_may_be_lost_and_with_two_lost_nothing_is_acknowledged(
    cluster: list[Component],
) -> None:
    first, second, third = cluster
    prefix = uuid4().hex
    servers = ",".join(node.address for node in cluster)
    admin = AdminClient({"bootstrap.servers": first.address})
    await until(lambda: len(admin.list_topics(timeout=10).brokers) == 3, "three brokers")
    settings = KafkaSettings(bootstrap_servers=servers, prefix=prefix, replication=3, min_insync_replicas=2)
    bus = KafkaBus(settings, [ORDERS])
    acknowledged: list[bytes] = []

    async def append(body: bytes) -> bool:
        """Claim and append, as an owner does that begins again whenever it must."""
        try:
            writer = await bus.claim(ORDERS.name, 0, "oms")
            await writer.append([body])
        except BusError:
            return False
        acknowledged.append(body)
        return True

    try:
        assert await append(b"three"), "every broker is there"
        (topic,) = [t for name, t in admin.list_topics(timeout=10).topics.items() if name == f"{prefix}.{ORDERS.name}"]
        assert len(topic.partitions[0].replicas) == 3
        assert await bus.inspect() == [], "it was made as planned, though brokers make topics by themselves"
        await asyncio.to_thread(third.kill)
        tries = itertools.count()  # what an attempt wrote that had no answer may be there: each has a text of its own
        await until(lambda: append(b"two %d" % next(tries)), "an append with two brokers")
        await asyncio.to_thread(second.kill)
        assert not await append(b"one"), "one broker acknowledges nothing"
        await asyncio.to_thread(third.start)
        await until(lambda: append(b"again two %d" % next(tries)), "an append with two brokers again")
        raw = await asyncio.to_thread(read_raw, f"{first.address},{third.address}", f"{prefix}.{ORDERS.name}")
        assert [body for body in raw.bodies if body in acknowledged] == acknowledged
    finally:
        await bus.close()
