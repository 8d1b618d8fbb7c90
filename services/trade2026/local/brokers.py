"""What the runner does about brokers of others: finds the files that the manifest names, and knocks before all start."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from trade2026.kit.bus.port import BusCorrupt, BusError, BusRefused, TopicConfig

_KNOCK_SECONDS = 1.0
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


class Knocking:
    """Waits for the brokers before anything of the stack is started: without them every process would only die.

    Args:
        hint: What else a person may do than to start them.

    Attributes:
        waits: Why the stack is not started yet; empty once the brokers answer.
    """

    def __init__(self, hint: str = "") -> None:
        self.waits = ""
        self._hint = hint

    async def until_they_answer(
        self, settings: dict[str, Any], *, stop: asyncio.Event, say: Callable[[str], None]
    ) -> None:
        """Return when they answer, or `stop` is set.

        Args:
            say: Told each reason once.

        Raises:
            BusRefused, BusCorrupt: as `check`.
        """
        while not stop.is_set() and (waits := await check(settings)):
            waits += self._hint
            if waits != self.waits:
                say(waits)
                say("waiting for it; nothing else is started yet")
            self.waits = waits
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _KNOCK_SECONDS)
        self.waits = ""
