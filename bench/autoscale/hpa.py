"""The HorizontalPodAutoscaler as its documentation says it decides, every 15 seconds. Pure.

https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/
"""

import math
from collections import deque
from dataclasses import dataclass, field

SYNC_SECONDS = 15.0


@dataclass(frozen=True)
class Behavior:
    """`spec.behavior`; of two policies the one that changes more counts.

    Attributes:
        up_percent, up_pods: By so much at most within `up_period` seconds.
        down_stabilization: The highest answer of so many seconds counts when fewer are asked for.
    """

    tolerance_up: float = 0.1
    tolerance_down: float = 0.1
    up_percent: float = 100.0
    up_pods: int = 4
    up_period: float = 15.0
    down_stabilization: float = 300.0
    down_percent: float = 10.0
    down_pods: int = 1
    down_period: float = 60.0


@dataclass(frozen=True)
class AverageValue:
    """An external metric with a target for each replica."""

    value: float
    target: float = 1.0


@dataclass(frozen=True)
class Ratio:
    """A metric whose target is a value, or a utilisation: it is multiplied with the replicas that are ready.

    `counts_unready`: Replicas that are not ready count as using nothing, as with CPU.
    """

    value: float
    counts_unready: bool = False


Metric = AverageValue | Ratio | None
"""None: there is no answer, and nothing is changed."""


@dataclass
class Hpa:
    """One autoscaler."""

    least: int
    most: int
    behavior: Behavior
    _wanted: deque[tuple[float, int]] = field(default_factory=deque[tuple[float, int]])
    _changes: deque[tuple[float, int]] = field(default_factory=deque[tuple[float, int]])

    def decided(self, now: float, metric: Metric, replicas: int, ready: int) -> int:
        """How many replicas there ought to be from now on."""
        wanted = replicas if metric is None else _wanted(metric, replicas, ready, self.behavior)
        self._wanted.append((now, wanted))
        while self._wanted[0][0] < now - self.behavior.down_stabilization:
            self._wanted.popleft()
        if metric is None:
            return replicas
        if wanted < replicas:
            wanted = min(replicas, max(answer for _, answer in self._wanted))
        answer = min(self.most, max(self.least, self._paced(now, wanted, replicas)))
        if answer != replicas:
            self._changes.append((now, answer - replicas))
        return answer

    def _paced(self, now: float, wanted: int, replicas: int) -> int:
        rules = self.behavior
        while self._changes and self._changes[0][0] <= now - max(rules.up_period, rules.down_period):
            self._changes.popleft()
        if wanted > replicas:
            began = replicas - sum(by for at, by in self._changes if by > 0 and at > now - rules.up_period)
            limit = max(began + rules.up_pods, math.ceil(began * (1 + rules.up_percent / 100)))
            return min(wanted, max(replicas, limit))
        began = replicas - sum(by for at, by in self._changes if by < 0 and at > now - rules.down_period)
        limit = min(began - rules.down_pods, math.ceil(began * (1 - rules.down_percent / 100)))
        return max(wanted, min(replicas, limit))


def _wanted(metric: AverageValue | Ratio, replicas: int, ready: int, rules: Behavior) -> int:
    if isinstance(metric, AverageValue):
        ratio = metric.value / (metric.target * replicas)
        return replicas if _tolerated(ratio, rules) else math.ceil(metric.value / metric.target - 1e-9)
    if _tolerated(metric.value, rules):
        return replicas
    if metric.counts_unready and metric.value > 1 and ready < replicas:
        ratio = metric.value * ready / replicas  # those that start are supposed to use nothing
        return replicas if _tolerated(ratio, rules) or ratio < 1 else max(replicas, math.ceil(ratio * replicas - 1e-9))
    return math.ceil(metric.value * ready - 1e-9)


def _tolerated(ratio: float, rules: Behavior) -> bool:
    return 1 - rules.tolerance_down <= ratio <= 1 + rules.tolerance_up
