"""How topics are made on the brokers, what there must be right for the log to be safe, and which logs were begun.

A durable log that was begun and is gone must not begin anew: snapshots and books mean positions of the old one. Kafka
does not remember topics that were deleted, so the stack does, in a small topic beside them.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import Any, cast

from aiokafka import errors
from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.protocol.admin import CreatePartitionsRequest, CreateTopicsRequest, DescribeConfigsRequest
from aiokafka.structs import TopicPartition

from trade2026.kit.bus.kafka_settings import KafkaSettings
from trade2026.kit.bus.port import BusCorrupt, BusError, BusRefused, TopicConfig

APPEND_BYTES_MAX = 32 * 1024 * 1024
"""The largest append in one piece."""
BEGUN = TopicConfig(name="bus.begun")
"""A record for each durable partition that has ever been claimed: its key is TOPIC/PARTITION.

And one for each namespace whose stack has come to these topics while they were nobody's, of which the first counts.
"""
_NAMESPACE = "namespace="
"""How the key of that begins: there is no such sign in a topic's name."""
_ANSWER_MS_MAX = 5_000
_SETTLE_SECONDS_MAX = 10.0
"""A new topic gets its leaders within it."""
_RETRY_SECONDS = 0.05
_SEGMENT_BYTES_MIN = 1024 * 1024
_TOPIC_RESOURCE = 2


def planned(settings: KafkaSettings, topic: TopicConfig) -> dict[str, str]:
    """A topic's configuration as Kafka names it."""
    config = {
        "cleanup.policy": "delete",
        "retention.ms": "-1",
        "retention.bytes": str(topic.retention_bytes_max or -1),
        "segment.bytes": str(max(topic.segment_bytes_max, _SEGMENT_BYTES_MIN)),
        "max.message.bytes": str(APPEND_BYTES_MAX),
        "min.insync.replicas": str(settings.min_insync_replicas),
        "unclean.leader.election.enable": "false",
    }
    if topic.durable and settings.replication == 1:
        config["flush.messages"] = "1"  # there is no second copy: acknowledged means fsynced
    return config


async def make(
    client: AIOKafkaClient, settings: KafkaSettings, topics: Iterable[TopicConfig], known: Collection[str]
) -> None:
    """Make those that are missing, and partitions of those that grow, and wait until each partition has a leader.

    Args:
        topics: Under their names there.
        known: Those that are there.

    Raises:
        BusRefused: brokers can't make them so.
        BusError: no leader in time.
    """
    topics = list(topics)
    wanted = [
        (each.name, each.partitions, settings.replication, [], list(planned(settings, each).items()))
        for each in topics
        if each.name not in known
    ]
    if wanted:
        request = CreateTopicsRequest(cast("Any", wanted), _ANSWER_MS_MAX, False)
        response = await client.send(client.get_random_node(), request)
        for name, code, *_ in response.topic_errors:
            _require_made(client, settings, name, errors.for_code(code))
    await client.set_topics({topic.name for topic in topics} | client._topics)
    await _grow(client, topics)
    deadline = asyncio.get_running_loop().time() + _SETTLE_SECONDS_MAX
    while without := [topic.name for topic in topics if not _has_leaders(client, topic)]:
        if asyncio.get_running_loop().time() > deadline:
            raise BusError(f"{', '.join(without)}: no leader: a broker is missing")
        await client.force_metadata_update()
        await asyncio.sleep(_RETRY_SECONDS)


async def _grow(client: AIOKafkaClient, topics: Iterable[TopicConfig]) -> None:
    """Add partitions to topics of an older version. Of two who do so at once, one is told that they are there."""
    fewer = [(each.name, (each.partitions, None)) for each in topics if 0 < _count(client, each) < _least(each)]
    if fewer:
        request = CreatePartitionsRequest(cast("Any", fewer), _ANSWER_MS_MAX, False)
        response = await client.send(client.get_random_node(), request)
        for name, code, said in response.topic_errors:
            kind = errors.for_code(code)
            if kind not in (errors.NoError, errors.InvalidPartitionsError):
                raise BusRefused(f"topic {name} got no more partitions: {kind.__name__}: {said}")


def _least(topic: TopicConfig) -> int:
    return topic.partitions if topic.grows else 1


def _count(client: AIOKafkaClient, topic: TopicConfig) -> int:
    return len(client.cluster.partitions_for_topic(topic.name) or ())


def _require_made(client: AIOKafkaClient, settings: KafkaSettings, name: str, kind: type[errors.KafkaError]) -> None:
    if kind in (errors.NoError, errors.TopicAlreadyExistsError):
        return
    if kind is errors.InvalidReplicationFactorError:
        raise BusRefused(
            f"topic {name} was not made: spec.bus.kafka.replication is {settings.replication}, but "
            f"{len(client.cluster.brokers())} brokers answer; start more, or ask for fewer copies"
        )
    raise BusError(f"topic {name} was not made: {kind.__name__}")


def _has_leaders(client: AIOKafkaClient, topic: TopicConfig) -> bool:
    there = client.cluster.partitions_for_topic(topic.name)
    if there is None or len(there) < _least(topic):
        return False
    leaders = [client.cluster.leader_for_partition(TopicPartition(topic.name, n)) for n in there]
    return all(leader is not None and leader >= 0 for leader in leaders)


def namespace_key(namespace: str) -> str:
    """With which it is said that a stack of this namespace has the log."""
    return f"{_NAMESPACE}{namespace}"


def namespace_of(begun: Iterable[str]) -> str:
    """The namespace whose stack has the log; empty while none has said so."""
    return next((key.removeprefix(_NAMESPACE) for key in begun if key.startswith(_NAMESPACE)), "")


def require_ours(settings: KafkaSettings, begun: Iterable[str], ledger: str) -> None:
    """Refuse where the log is that of a stack of the same name in another namespace.

    Raises:
        BusRefused: the message says which, and what to do.
    """
    if (theirs := namespace_of(begun)) != settings.namespace:
        raise BusRefused(
            f"the topics are those of the stack {settings.prefix} in namespace {theirs}, and this one is in "
            f"{settings.namespace}: give it another name, or brokers of its own; or, to go on here with what that one "
            f"has written, end it there first, and then delete the topic {ledger}"
        )


def require_begun(
    topics: Iterable[TopicConfig], known: Collection[str], begun: Collection[str], names: Mapping[str, str]
) -> None:
    """Refuse where a durable topic was begun and is gone.

    Args:
        names: Each topic's name there.

    Raises:
        BusCorrupt: the message says which, and what to do.
    """
    for topic in topics:
        lost = [n for n in range(topic.partitions) if f"{topic.name}/{n}" in begun]
        if topic.durable and lost and names[topic.name] not in known:
            raise lost_log(names[topic.name], names[BEGUN.name])


def lost_log(name: str, ledger: str) -> BusCorrupt:
    """What is said of a log that was begun and is gone."""
    return BusCorrupt(
        f"{name} was here before, and is gone; put it back from a mirror with the same offsets, or, to begin this and "
        f"every other log that is gone anew, delete the topic {ledger}"
    )


async def compare(client: AIOKafkaClient, settings: KafkaSettings, topics: Iterable[TopicConfig]) -> list[str]:
    """How topics are kept differently than planned, where that loses nothing.

    Args:
        topics: Under their names there.

    Raises:
        BusRefused: acknowledged records could be lost.
    """
    topics = list(topics)
    cluster = await client.fetch_all_metadata()
    unsafe = [fault for topic in topics for fault in _copies(cluster, settings, topic)]
    resources = [(_TOPIC_RESOURCE, topic.name, list(planned(settings, topic))) for topic in topics]
    response = await client.send(client.get_random_node(), DescribeConfigsRequest(cast("Any", resources)))
    found = {
        name: (code, {entry[0]: entry[1] for entry in entries}) for code, _, _, name, entries in response.resources
    }
    drift: list[str] = []
    for topic in topics:
        code, config = found[topic.name]
        if code:
            drift.append(f"{topic.name}: its settings can't be seen: {errors.for_code(code).__name__}")
            continue
        for name, value in planned(settings, topic).items():
            if config.get(name, value) != value:
                said = f"{topic.name}: {name} is {config[name]}, not {value}"
                (unsafe if _loses(topic, name, config[name], value) else drift).append(said)
    if unsafe:
        raise BusRefused(
            f"records could be lost: {'; '.join(unsafe)}; change that with Kafka's tools (kafka-configs, "
            "kafka-reassign-partitions), or spec.bus.kafka where it should be so"
        )
    return drift


def _copies(cluster: ClusterMetadata, settings: KafkaSettings, topic: TopicConfig) -> list[str]:
    partitions: dict[int, Any] = cluster._partitions.get(topic.name, {})
    if not partitions:
        return []  # deleted this moment: whoever reads or claims it is told
    faults: list[str] = []
    if len(partitions) != topic.partitions and not (topic.grows and len(partitions) > topic.partitions):
        faults.append(f"{topic.name} has {len(partitions)} partitions, not {topic.partitions}")
    copies = min(len(partition.replicas) for partition in partitions.values())
    if copies < settings.replication:
        faults.append(f"{topic.name} has {copies} replicas, not {settings.replication}")
    return faults


def _loses(topic: TopicConfig, name: str, value: str, wanted: str) -> bool:
    """Whether a setting that differs can cost acknowledged records."""
    match name:
        case "min.insync.replicas":
            return int(value) < int(wanted)
        case "unclean.leader.election.enable" | "cleanup.policy" | "flush.messages":
            return topic.durable
        case "retention.ms" | "retention.bytes":
            return topic.durable and not topic.retention_bytes_max
        case _:
            return False
