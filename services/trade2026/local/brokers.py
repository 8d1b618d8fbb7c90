"""What the runner does about brokers of others: finds the files that the manifest names, and knocks before all start."""

import logging
from pathlib import Path
from typing import Any

import msgspec

from trade2026.kit.bus.port import BusCorrupt, BusError, BusRefused, TopicConfig

_FILES = {"tls": ("ca_file", "cert_file", "key_file"), "sasl": ("username_file", "password_file")}


def with_files(bus: dict[str, Any], base: Path) -> dict[str, Any]:
    """Settings of a bus whose files are named from the root, as processes need them.

    Args:
        base: Directory against which paths in the manifest are meant.
    """
    if bus["type"] != "kafka":
        return bus
    kafka = dict(bus["kafka"])
    for part, names in _FILES.items():
        if kafka[part] is not None:
            found = {name: str((base / kafka[part][name]).absolute()) for name in names if kafka[part][name]}
            kafka[part] = {**kafka[part], **found}
    return {**bus, "kafka": kafka}


async def check(settings: dict[str, Any]) -> str:
    """Connect to the brokers once, as every process will, and look at the topics.

    Returns:
        Why they can't be reached now; empty where they can, and for another bus.

    Raises:
        BusRefused: they refuse us, and would for ever; the message says what to do.
        BusCorrupt: a log is gone.
    """
    if settings["bus"]["type"] != "kafka":
        return ""
    from trade2026.kit.bus.kafka_client import KafkaClient
    from trade2026.kit.bus.kafka_settings import KafkaSettings

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it says in lines what we are told in an exception
    brokers = msgspec.convert({**settings["bus"]["kafka"], "prefix": settings["stack"]}, KafkaSettings)
    client = KafkaClient(brokers, msgspec.convert(settings["topics"], list[TopicConfig]))
    try:
        await client.connect()
    except (BusCorrupt, BusRefused):
        raise
    except BusError as error:
        return str(error)
    finally:
        await client.close()
    return ""
