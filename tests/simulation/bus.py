"""One process's view of the memory bus: who it is, and what weather it has.

Reads may be late, short or woken for nothing, in every partition at another time, so that what one service
wrote in one order reaches others in any order across partitions.
"""

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any

from trade2026.kit.bus.memory import MemoryBus
from trade2026.kit.bus.port import Record


class Weather:
    """How the bus is at present; faults change it for a while."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.commit_seconds_max = 0.004
        self.read_seconds_max = 0.0
        self.records_max = 0
        """Reads return at most a random number up to this; 0 for as many as were asked for."""

    def commit_delay(self) -> float:
        """Seconds that an fsync takes."""
        return self.rng.random() * self.commit_seconds_max

    def short(self, records_max: int) -> int:
        """How many records a read may return."""
        return self.rng.randint(1, min(records_max, self.records_max)) if self.records_max else records_max

    async def read_delay(self) -> None:
        """Wait as long as a read takes."""
        if self.read_seconds_max:
            await asyncio.sleep(self.rng.random() * self.read_seconds_max)


class ProcessBus:
    """The bus as one process uses it; `crash` is its death."""

    def __init__(self, bus: MemoryBus, weather: Weather) -> None:
        self._bus, self._weather = bus, weather
        self._writers: list[Any] = []

    async def claim(self, topic: str, partition: int, owner: str) -> Any:
        await self._weather.read_delay()
        writer = await self._bus.claim(topic, partition, owner)
        self._writers.append(writer)
        return writer

    async def open_reader(self, topic: str, partition: int, from_seq: int = 0) -> "_Reader":
        await self._weather.read_delay()
        return _Reader(await self._bus.open_reader(topic, partition, from_seq), self._weather)

    async def read(self, topic: str, partition: int, from_seq: int, records_max: int) -> list[Record]:
        await self._weather.read_delay()
        return await self._bus.read(topic, partition, from_seq, self._weather.short(records_max))

    async def start(self, topic: str, partition: int) -> int:
        return await self._bus.start(topic, partition)

    async def end(self, topic: str, partition: int) -> int:
        return await self._bus.end(topic, partition)

    async def drop(self, topic: str, partition: int, before_seq: int) -> int:
        return await self._bus.drop(topic, partition, before_seq)

    async def inspect(self) -> list[str]:
        return await self._bus.inspect()

    async def commit(self, group: str, topic: str, partition: int, next_seq: int) -> None:
        await self._bus.commit(group, topic, partition, next_seq)

    async def committed(self, group: str, topic: str, partition: int) -> int:
        return await self._bus.committed(group, topic, partition)

    async def close(self) -> None:
        """Let go of what this process holds; the bus stays."""
        for writer in self._writers:
            await writer.close()

    def crash(self, rng: Random) -> None:
        """The process died: of what it had under way some first part is written, the rest never was."""
        for writer in self._writers:
            writer.crash(rng)


class _Reader:
    def __init__(self, reader: Any, weather: Weather) -> None:
        self._reader, self._weather = reader, weather

    @property
    def next_seq(self) -> int:
        return self._reader.next_seq

    async def read(self, records_max: int = 1000) -> Sequence[Record]:
        await self._weather.read_delay()
        return await self._reader.read(self._weather.short(records_max))

    async def close(self) -> None:
        await self._reader.close()
