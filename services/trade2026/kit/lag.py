"""How far whoever follows the log is behind it, in records and in seconds: the same on every bus.

A process looks where each partition that its services follow ends, and, where somebody is behind, when the oldest
record was made that is not dealt with. So a follower that stands still is seen from its first record on, and one that
has nothing to do is never behind.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from trade2026.kit.bus.port import Bus, BusError, Trimmed
from trade2026.kit.clock import Clock
from trade2026.kit.metrics import Metrics
from trade2026.kit.stamps import made_at

LOOK_SECONDS = 2.0


class Followed(Protocol):
    """One partition as one service follows it."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def next_seq(self) -> int:
        """The position after the last record that was dealt with."""
        ...


class Position(msgspec.Struct, frozen=True):
    """Where somebody without a follower is in a partition."""

    topic: str
    partition: int
    next_seq: int


class Lag(msgspec.Struct, frozen=True):
    """What is known to exist and not dealt with, at one look.

    Attributes:
        since: When the oldest of it was made (ns); 0 without any.
        position: After the last record that was dealt with; 0 while nobody follows.
    """

    events: int
    since: int
    position: int = 0

    def seconds(self, now: int) -> float:
        """How old the oldest of it is."""
        return max(0, now - self.since) / 10**9 if self.since else 0.0


_Place = tuple[str, str, int]


NONE = Lag(0, 0)


class LagWatch:
    """Looks from time to time; shows what it saw in metrics, and to whoever asks."""

    def __init__(self, bus: Bus, clock: Clock, metrics: Metrics) -> None:
        self._bus, self._clock, self._metrics = bus, clock, metrics
        self._lags: dict[_Place, Lag] = {}

    async def run(
        self, services: Callable[[], Iterable[tuple[str, Iterable[Followed]]]], pause_seconds: float = LOOK_SECONDS
    ) -> None:
        """Look for ever.

        Args:
            services: Names each service, and what it follows now.
        """
        while True:
            self._lags = {
                (service, each.topic, each.partition): await self._look(service, each)
                for service, followed in services()
                for each in list(followed)
            }
            await asyncio.sleep(pause_seconds)

    def of(self, service: str) -> dict[str, dict[str, float]]:
        """How far a service is behind in each partition, for a person."""
        now = self._clock.now()
        return {
            f"{topic}/{partition}": {"events": lag.events, "seconds": round(lag.seconds(now), 3)}
            for (name, topic, partition), lag in self._lags.items()
            if name == service
        }

    async def _look(self, service: str, followed: Followed) -> Lag:
        place = (service, followed.topic, followed.partition)
        self._show(place)
        try:
            return await self._measured(followed)
        except (BusError, sqlite3.Error):  # that the log does not answer is said in /health
            return self._lags.get(place, NONE)

    async def _measured(self, followed: Followed) -> Lag:
        topic, partition, position = followed.topic, followed.partition, followed.next_seq
        end = await self._bus.end(topic, partition)
        events = max(0, end - max(position, followed.next_seq))
        if not events:
            return Lag(0, 0, followed.next_seq)
        position = end - events
        try:
            oldest = await self._bus.read(topic, partition, followed.next_seq, 1)
        except Trimmed:
            oldest = await self._bus.read(topic, partition, await self._bus.start(topic, partition), 1)
        return Lag(events, made_at(oldest[0].body) if oldest else 0, position)

    def _show(self, place: _Place) -> None:
        service, topic, partition = place
        labels = {"service": service, "topic": topic, "partition": str(partition)}
        self._metrics.gauge(
            "trade2026_follower_lag_events",
            "Records of a partition that the service has not dealt with yet",
            lambda: self._lags.get(place, NONE).events,
            **labels,
        )
        self._metrics.gauge(
            "trade2026_follower_position",
            "Position after the last record of a partition that the service has dealt with; 0 where it follows none",
            lambda: self._lags.get(place, NONE).position,
            **labels,
        )
        self._metrics.gauge(
            "trade2026_follower_lag_seconds",
            "Age of the oldest record of a partition that the service has not dealt with yet",
            lambda: round(self._lags.get(place, NONE).seconds(self._clock.now()), 3),
            **labels,
        )
