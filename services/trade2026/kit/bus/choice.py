"""Which bus a process uses, and which membership its replicas: those that its settings name."""

import logging
from typing import TYPE_CHECKING

import msgspec

from trade2026.kit.bus.membership import EmbeddedMembership, Member, Membership
from trade2026.kit.bus.port import Bus
from trade2026.kit.identity import ConfigurationError
from trade2026.kit.settings import ProcessSettings

if TYPE_CHECKING:
    from trade2026.kit.bus.kafka_settings import KafkaSettings


def open_bus(settings: ProcessSettings) -> Bus:
    """Open the bus that the settings name. Raises `ConfigurationError` for an unknown type."""
    kind = settings.bus.get("type")
    if kind == "embedded":
        from trade2026.kit.bus.sqlite import SqliteBus

        return SqliteBus(settings.state / "bus", settings.topics)
    if kind == "memory":
        from trade2026.kit.bus.memory import MemoryBus

        return MemoryBus(settings.topics)
    if kind == "kafka":
        return _open_kafka(settings)
    raise ConfigurationError(f"bus.type is embedded, kafka or memory, not {kind!r}")


def open_membership(settings: ProcessSettings, service: str, me: Member, partitions: int) -> Membership:
    """How the replicas of a service share partitions: on Kafka by its groups, else one has all."""
    if settings.bus.get("type") != "kafka":
        return EmbeddedMembership(me, partitions)
    brokers = _brokers(settings)
    from trade2026.kit.bus.membership_kafka import kafka_membership

    return kafka_membership(brokers, service, me, partitions)


def _open_kafka(settings: ProcessSettings) -> Bus:
    brokers = _brokers(settings)
    from trade2026.kit.bus.kafka import KafkaBus

    return KafkaBus(brokers, settings.topics)


def _brokers(settings: ProcessSettings) -> "KafkaSettings":
    try:
        import aiokafka  # noqa: F401
    except ImportError as error:
        raise ConfigurationError("bus.type kafka needs `pip install trade2026[data]`") from error
    from trade2026.kit.bus.kafka_settings import KafkaSettings

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what concerns us comes as an exception, once
    return msgspec.convert(
        {**settings.bus["kafka"], "prefix": settings.stack, "namespace": settings.namespace}, KafkaSettings
    )
