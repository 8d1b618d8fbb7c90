"""Reads the durable logs over and over, slowly: a damaged record is found before somebody needs it.

A log is read at start-up and hardly ever again. A flipped bit in it would lie there until the next recovery,
when the good copies are long gone.
"""

import asyncio
import logging
from collections.abc import Iterable

from trade2026.domain.events import UnknownEvent, decode
from trade2026.kit.bus.port import Bus, BusCorrupt, BusError, Trimmed

log = logging.getLogger(__name__)

RECORDS_PER_STEP = 500
STEP_SECONDS = 0.25
"""Between two steps: 2,000 records a second cost about one per cent of a core."""
ROUND_SECONDS = 600.0
"""Between two rounds."""


class Integrity:
    """Checks the frames' checksums, the sequence without gaps, and that each record is an event.

    Args:
        topics: The durable ones; partition 0 of each.
    """

    def __init__(self, bus: Bus, topics: Iterable[str]) -> None:
        self.bus = bus
        self.checked = dict.fromkeys(topics, 0)
        """By topic, the position up to which this round has come."""
        self.faults: dict[str, str] = {}
        """By topic, what is damaged; it stays until a whole round finds nothing."""
        self.rounds = 0
        self.step_seconds, self.round_seconds = STEP_SECONDS, ROUND_SECONDS

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            for topic in self.checked:
                await self._check(topic)
            self.rounds += 1
            await asyncio.sleep(self.round_seconds)

    @property
    def summary(self) -> str:
        """What is damaged, or how far the check has come, for a person."""
        if self.faults:
            return "; ".join(self.faults.values())
        return ", ".join(f"{topic}: checked to {position}" for topic, position in self.checked.items())

    async def _check(self, topic: str) -> None:
        self.checked[topic] = await self.bus.start(topic, 0)
        while True:
            try:
                more = await self._step(topic)
            except Trimmed:
                self.checked[topic] = await self.bus.start(topic, 0)
                continue
            except BusCorrupt as error:
                self._found(topic, str(error))
                return
            except BusError as error:
                log.warning("%s is checked again later: %s", topic, error)
                return
            if not more:
                self.faults.pop(topic, None)
                return
            await asyncio.sleep(self.step_seconds)

    async def _step(self, topic: str) -> bool:
        position = self.checked[topic]
        records = await self.bus.read(topic, 0, position, RECORDS_PER_STEP)
        for record in records:
            try:
                seq = decode(record.body).seq
            except UnknownEvent:
                seq = record.seq  # of a version to come: whole, though not ours to read
            except ValueError as error:
                raise BusCorrupt(f"{topic}/0: the record at {record.seq} is no event: {error}") from error
            if seq != record.seq:
                raise BusCorrupt(f"{topic}/0: the record at {record.seq} says that it is {seq}")
        self.checked[topic] = position + len(records)
        return bool(records)

    def _found(self, topic: str, fault: str) -> None:
        if self.faults.get(topic) != fault:
            log.error("damage was found: %s", fault)
        self.faults[topic] = fault
