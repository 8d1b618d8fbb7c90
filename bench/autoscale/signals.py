"""What an HPA is given: ours, as the operator computes it by its own code, and what else is usual."""

import math
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from bench.autoscale.hpa import AverageValue, Behavior, Metric, Ratio
from bench.autoscale.plant import LIMITS, STEP_SECONDS, Seen, counted
from trade2026_operator.slo.demand import Fit, Objective, demand, learned
from trade2026_operator.slo.guards import Climb, Situation, climbed, judged
from trade2026_operator.slo.samples import Sample
from trade2026_operator.slo.windows import Window


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
    name: str = ""
    behavior: Behavior = field(default_factory=lambda: Behavior(tolerance_up=0.0))

    def __post_init__(self) -> None:
        self.name = self.name or f"objective, headroom {self.objective.headroom:g}"
        self.window = Window(self.objective.seconds, self.objective.quantile)
        self.fit, self.climb = Fit(), Climb()
        self._within = np.zeros(len(LIMITS))
        self._busy = 0.0
        self._ready: deque[int] = deque(maxlen=13)

    def metric(self, seen: Seen, now: float, replicas: int, most: int) -> Metric:
        """See `Signal`. All replicas are one process here: what is summed up is the same."""
        self._within = self._within + counted(seen.latencies)
        self._busy += seen.busy_seconds
        within = tuple(zip(LIMITS, self._within.tolist(), strict=True))
        sample = Sample(float(self._within[-1]), within, self._busy, waiting=seen.waiting)
        self._ready.append(seen.ready)
        self.window.add(now, now, {"all": sample}, 1)
        if not self.window.is_full:
            return None
        measured = self.window.measured(1, now)
        settled = len(set(self._ready)) == 1
        measured = replace(measured, replicas=seen.ready, settled=settled)
        self.fit = learned(self.fit, measured)
        needed = demand(self.objective, self.fit, measured) if measured.service_seconds > 0 else None
        situation = Situation(replicas, seen.ready, most, burn=self.window.still_burning(now))
        self.climb = climbed(self.climb, situation, measured.rate, needed.replicas if needed else 0.0, now)
        told = judged(self.objective, measured, needed, situation, self.climb).replicas
        return None if told is None else AverageValue(told)


@dataclass
class Cpu:
    """Utilisation over half a minute, as metrics-server has it, seen a quarter of a minute late."""

    target: float
    behavior: Behavior = field(default_factory=Behavior)

    def __post_init__(self) -> None:
        self.name = f"CPU {self.target:.0%}"
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
    behavior: Behavior = field(default_factory=Behavior)

    def __post_init__(self) -> None:
        self.name = f"p99 at {self.target:.0%} of the objective"
        self._seen: deque[np.ndarray] = deque(maxlen=12)

    def metric(self, seen: Seen, now: float, replicas: int, most: int) -> Metric:
        """See `Signal`."""
        self._seen.append(seen.latencies)
        latencies = np.concatenate(self._seen)
        return Ratio(float(np.quantile(latencies, 0.99)) / (self.seconds * self.target)) if len(latencies) else None


@dataclass
class Lag:
    """KEDA's formula: what waits by a threshold, never more than there are partitions."""

    threshold: float
    behavior: Behavior = field(default_factory=Behavior)

    def __post_init__(self) -> None:
        self.name = f"lag by {self.threshold:g}"

    def metric(self, seen: Seen, now: float, replicas: int, most: int) -> Metric:
        """See `Signal`."""
        return AverageValue(min(math.ceil(seen.waiting), most * self.threshold), self.threshold)
