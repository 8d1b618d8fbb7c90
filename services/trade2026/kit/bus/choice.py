"""Which bus a process uses: the one that its settings name."""

import logging

import msgspec

from trade2026.kit.bus.port import Bus
from trade2026.kit.identity import ConfigurationError
from trade2026.kit.settings import ProcessSettings


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


def _open_kafka(settings: ProcessSettings) -> Bus:
    try:
        from trade2026.kit.bus.kafka import KafkaBus
        from trade2026.kit.bus.kafka_settings import KafkaSettings
    except ImportError as error:
        raise ConfigurationError("bus.type kafka needs `pip install trade2026[data]`") from error
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what concerns us comes as an exception, once
    brokers = msgspec.convert({**settings.bus["kafka"], "prefix": settings.stack}, KafkaSettings)
    return KafkaBus(brokers, settings.topics)
