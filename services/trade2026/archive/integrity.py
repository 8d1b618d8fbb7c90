"""Reads the durable logs over and over, slowly: a damaged record is found before somebody needs it.

A log is read at start-up and hardly ever again. A flipped bit in it would lie there until the next recovery,
when the good copies are long gone.
"""

import asyncio
import logging
from collections.abc import Mapping

from trade2026.domain.events import UnknownEvent, decode
from trade2026.kit.bus.archived import kept_of
from trade2026.kit.bus.port import Bus, BusCorrupt, BusError, TopicPartition, Trimmed

log = logging.getLogger(__name__)

RECORDS_PER_STEP = 500
STEP_SECONDS = 0.25
"""Between two steps: 2,000 records a second cost about one per cent of a core."""
ROUND_SECONDS = 600.0
"""Between two rounds."""


class Integrity:
    """Checks the frames' checksums, the sequence without gaps, and that each record is an event.

    Args:
        topics: The durable ones, with how many partitions each has.
    """

    def __init__(self, bus: Bus, topics: Mapping[str, int]) -> None:
        self.bus = kept_of(bus)  # what is in the lake was compared before it was dropped here
        self.checked = {(topic, partition): 0 for topic, count in topics.items() for partition in range(count)}
        """By partition, the position up to which this round has come."""
        self.faults: dict[TopicPartition, str] = {}
        """By partition, what is damaged; it stays until a whole round finds nothing."""
        self.rounds = 0
        self.step_seconds, self.round_seconds = STEP_SECONDS, ROUND_SECONDS

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            for place in self.checked:
                await self._check(place)
            self.rounds += 1
            await asyncio.sleep(self.round_seconds)

    @property
    def summary(self) -> str:
        """What is damaged, or how far the check has come, for a person."""
        if self.faults:
            return "; ".join(self.faults.values())
        return ", ".join(f"{_told(place)}: checked to {position}" for place, position in self.checked.items())

    async def _check(self, place: TopicPartition) -> None:
        self.checked[place] = await self.bus.start(*place)
        while True:
            try:
                more = await self._step(place)
            except Trimmed:
                self.checked[place] = await self.bus.start(*place)
                continue
            except BusCorrupt as error:
                self._found(place, str(error))
                return
            except BusError as error:
                log.warning("%s is checked again later: %s", _told(place), error)
                return
            if not more:
                self.faults.pop(place, None)
                return
            await asyncio.sleep(self.step_seconds)

    async def _step(self, place: TopicPartition) -> bool:
        topic, partition = place
        position = self.checked[place]
        records = await self.bus.read(topic, partition, position, RECORDS_PER_STEP)
        for record in records:
            try:
                seq = decode(record.body).seq
            except UnknownEvent:
                seq = record.seq  # of a version to come: whole, though not ours to read
            except ValueError as error:
                raise BusCorrupt(f"{topic}/{partition}: the record at {record.seq} is no event: {error}") from error
            if seq != record.seq:
                raise BusCorrupt(f"{topic}/{partition}: the record at {record.seq} says that it is {seq}")
        self.checked[place] = position + len(records)
        return bool(records)

    def _found(self, place: TopicPartition, fault: str) -> None:
        if self.faults.get(place) != fault:
            log.error("damage was found: %s", fault)
        self.faults[place] = fault


def _told(place: TopicPartition) -> str:
    """A partition for a person, who need not know that there are some."""
    topic, partition = place
    return f"{topic}/{partition}" if partition else topic
