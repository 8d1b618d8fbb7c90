"""What an HPA is given: ours, as the operator computes it by its own code, and what else is usual."""

import math
from collections import deque
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from bench.autoscale.hpa import AverageValue, Behavior, Metric, Ratio
from bench.autoscale.plant import LIMITS, STEP_SECONDS, Seen, counted
from trade2026_operator.slo.demand import Objective
from trade2026_operator.slo.followed import Followed
from trade2026_operator.slo.guards import Situation
from trade2026_operator.slo.samples import Sample
from trade2026_operator.slo.windows import NEWEST_SECONDS, Window

OURS = Behavior(tolerance_up=0.0, down_stabilization=120.0, down_percent=50.0)
"""As the chart has it for our number, which itself sinks slowly."""
USUAL = Behavior(down_percent=100.0, down_period=15.0)
"""As Kubernetes has it where nothing is said: what was wanted in five minutes counts, and then all at once."""
SLOW = Behavior(down_percent=10.0, down_period=60.0)
"""Five minutes, and then a tenth a minute."""


class Signal(Protocol):
    """One way to scale."""

    name: str
    behavior: Behavior

    def metric(self, seen: Seen, now: float, replicas: int, most: int) -> Metric:
        """What the HPA reads after one more step."""
        ...


@dataclass
class Ours:
    """Required replicas, from the window, the learned constant and the guards of the operator."""

    objective: Objective
    behavior: Behavior = OURS

    def __post_init__(self) -> None:
        self.name = f"objective, room for a jump {self.objective.spare:g}"
        self.window = Window(self.objective.seconds, self.objective.quantile)
        self.followed = Followed(self.window)
        self._within = np.zeros(len(LIMITS))
        self._busy = 0.0
        self._ready: deque[int] = deque(maxlen=13)

    def metric(self, seen: Seen, now: float, replicas: int, most: int) -> Metric:
        """See `Signal`. All replicas are one process here: what is summed up is the same."""
        self._within = self._within + counted(seen.told)
        self._busy += seen.busy_seconds
        within = tuple(zip(LIMITS, self._within.tolist(), strict=True))
        sample = Sample(float(self._within[-1]), within, self._busy, waiting=seen.waiting)
        self._ready.append(seen.ready)
        self.window.add(now, now, {"all": sample}, 1)
        if self.window.covered_seconds < NEWEST_SECONDS:
            return None
        measured = replace(self.window.measured(1, now), replicas=seen.ready)
        measured = replace(measured, settled=len(set(self._ready)) == 1, busy=measured.busy / seen.ready)
        if len(set(list(self._ready)[-4:])) > 1:
            measured = replace(measured, busy=0.0, newest_seconds=None)
        burn = self.window.still_burning(now)
        situation = Situation(replicas, seen.ready, most, burn=burn)
        told = self.followed.judge(self.objective, measured, situation, now, STEP_SECONDS).replicas
        return None if told is None else AverageValue(told)


@dataclass
class Cpu:
    """Utilisation over half a minute, as metrics-server has it, seen a quarter of a minute late."""

    target: float
    behavior: Behavior = USUAL

    def __post_init__(self) -> None:
        self.name = f"CPU {self.target:.0%}{_told(self.behavior)}"
        self._used: deque[float] = deque(maxlen=9)

    def metric(self, seen: Seen, now: float, replicas: int, most: int) -> Metric:
        """See `Signal`."""
        self._used.append(seen.busy_seconds / (seen.ready * STEP_SECONDS))
        old = list(self._used)[:-3]
        return Ratio(sum(old) / len(old) / self.target, counts_unready=True) if old else None


@dataclass
class RawP99:
    """The quantile of a minute by the objective."""

    seconds: float
    target: float = 1.0
    behavior: Behavior = USUAL

    def __post_init__(self) -> None:
        self.name = f"p99 at {self.target:.0%} of the objective{_told(self.behavior)}"
        self._seen: deque[np.ndarray] = deque(maxlen=12)

    def metric(self, seen: Seen, now: float, replicas: int, most: int) -> Metric:
        """See `Signal`."""
        self._seen.append(seen.told)
        latencies = np.concatenate(self._seen)
        return Ratio(float(np.quantile(latencies, 0.99)) / (self.seconds * self.target)) if len(latencies) else None


@dataclass
class Lag:
    """KEDA's formula: what waits by a threshold, never more than there are partitions."""

    threshold: float
    behavior: Behavior = USUAL

    def __post_init__(self) -> None:
        self.name = f"lag by {self.threshold:g}{_told(self.behavior)}"

    def metric(self, seen: Seen, now: float, replicas: int, most: int) -> Metric:
        """See `Signal`."""
        return AverageValue(min(math.ceil(seen.waiting), most * self.threshold), self.threshold)


def _told(behavior: Behavior) -> str:
    return ", slowly down" if behavior == SLOW else ""
