"""A service of several replicas, request by request: each has one queue and one server.

It is no formula for the tail of latencies, which a signal might share: every request waits for those before it (Lindley's
recursion), and how long one takes is drawn from a distribution whose mean and spread can be taken from a run.
"""

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

STEP_SECONDS = 5.0
_LIMITS = np.geomspace(1e-4, 60.0, 77)
LIMITS = (*(float(limit) for limit in _LIMITS), float("inf"))


@dataclass(frozen=True)
class Nature:
    """What the service is, which no signal is told.

    Attributes:
        service_seconds: Mean time of one request without waiting.
        spread: Standard deviation of that by its mean.
        floor_seconds: That every answer takes beside it, and keeps no replica busy.
        start_seconds: From the decision to a replica that works.
        told_share: Of what a request waits, that the service knows of: the rest waits in sockets.
        slower_after: From this share of the run on a request takes `slower` times as long.
    """

    service_seconds: float = 0.010
    spread: float = 1.0
    floor_seconds: float = 0.0
    start_seconds: float = 20.0
    told_share: float = 0.5
    slower_after: float = 1.0
    slower: float = 1.0


@dataclass
class Seen:
    """What came out of one step.

    Attributes:
        latencies: Of the requests that were answered in it, in seconds.
        told: The same, as the service itself measures them.
        busy_seconds: Of all replicas.
        waiting: Requests that were not begun at its end, of which the service knows.
    """

    latencies: NDArray[np.float64]
    told: NDArray[np.float64]
    busy_seconds: float
    waiting: float
    ready: int


@dataclass
class Plant:
    """The replicas, and the work that waits before each."""

    nature: Nature
    rng: np.random.Generator
    replicas: int = 2
    _ahead: list[float] = field(default_factory=list[float])
    """Seconds of work before the next request, by replica that works."""
    _starting: deque[float] = field(default_factory=deque[float])
    """When each of those that start will work."""

    def __post_init__(self) -> None:
        self._ahead = [0.0] * self.replicas
        self._under_way = np.empty((0, 3))
        """When each request will be answered, its latency, and what the service will say of that."""

    @property
    def ready(self) -> int:
        """How many work."""
        return len(self._ahead)

    def scale(self, replicas: int, now: float) -> None:
        """Have so many. Who goes hands over what waits before him."""
        while self.ready + len(self._starting) < replicas:
            self._starting.append(now + self.nature.start_seconds)
        while self.ready + len(self._starting) > replicas:
            if self._starting:
                self._starting.pop()
                continue
            left = self._ahead.pop()
            self._ahead = [ahead + left / len(self._ahead) for ahead in self._ahead]
        self.replicas = replicas

    def step(self, rate: float, now: float, share: float) -> Seen:
        """The next `STEP_SECONDS`, in which so many requests a second come.

        Args:
            share: Of the run that is over.
        """
        while self._starting and self._starting[0] <= now:
            self._starting.popleft()
            self._ahead.append(0.0)
        mean = self.nature.service_seconds * (self.nature.slower if share >= self.nature.slower_after else 1.0)
        parts = [self._one(number, rate / self.ready, mean) for number in range(self.ready)]
        came = np.concatenate([part[0] for part in parts])
        came[:, 1:] += self.nature.floor_seconds
        came[:, 0] += now - STEP_SECONDS
        self._under_way = np.concatenate([self._under_way, came])
        over = self._under_way[:, 0] <= now
        answered, self._under_way = self._under_way[over], self._under_way[~over]
        waiting = self.nature.told_share * sum(self._ahead) / mean
        return Seen(answered[:, 1], answered[:, 2], sum(part[1] for part in parts), waiting, self.ready)

    def _one(self, number: int, rate: float, mean: float) -> tuple[NDArray[np.float64], float]:
        """One replica: when what came will be answered (from the step's beginning), its latency as it is and as
        it is told, and how long it was busy."""
        count = self.rng.poisson(rate * STEP_SECONDS)
        at = np.sort(self.rng.uniform(0, STEP_SECONDS, count))
        shape = 1 / self.nature.spread**2
        takes = self.rng.gamma(shape, mean / shape, count)
        before = np.concatenate(([0.0], takes))[:count].cumsum()
        # Work before a request: what there was and came before it, less the time since then, but never less than none.
        walk = self._ahead[number] + before - at
        waits = walk - np.minimum(0.0, np.minimum.accumulate(walk)) if count else walk
        work = self._ahead[number] + float(takes.sum())
        after = max(0.0, (waits[-1] + takes[-1]) - (STEP_SECONDS - at[-1])) if count else max(0.0, work - STEP_SECONDS)
        self._ahead[number] = after
        told = self.nature.told_share * waits + takes
        return np.column_stack([at + waits + takes, waits + takes, told]), work - after


def counted(latencies: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many are within each of `LIMITS`."""
    return np.append(np.searchsorted(np.sort(latencies), _LIMITS, side="right"), len(latencies)).astype(float)
