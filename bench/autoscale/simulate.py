"""Runs every signal against the same load and the same luck, and counts what came of it."""

import math
from dataclasses import dataclass

import numpy as np

from bench.autoscale.hpa import SYNC_SECONDS, Hpa
from bench.autoscale.plant import STEP_SECONDS, Nature, Plant
from bench.autoscale.signals import Signal

MOST = 24
WARM_SECONDS = 120.0
"""At the beginning nobody knows anything: it does not count."""


@dataclass(frozen=True)
class Outcome:
    """Of one run.

    Attributes:
        violated: Share of the time in which 99 of 100 were slower than the objective.
        slow: Share of the requests that were.
        replicas: Mean.
        reversals: How often up was followed by down, or the other way.
        trail: Rate, replicas and 99 % quantile (seconds) of each step.
    """

    violated: float
    slow: float
    replicas: float
    reversals: int
    trail: tuple[tuple[float, int, float], ...]


def run(signal: Signal, nature: Nature, rates: np.ndarray, seed: int, objective_seconds: float) -> Outcome:
    """One signal, one load. The same seed draws the same requests as long as the replicas are the same."""
    plant = Plant(nature, np.random.default_rng(seed))
    hpa = Hpa(1, MOST, signal.behavior)
    trail: list[tuple[float, int, float]] = []
    slow = total = reversals = direction = 0
    synced = -math.inf
    for index, rate in enumerate(rates):
        now = (index + 1) * STEP_SECONDS
        seen = plant.step(float(rate), now, index / len(rates))
        metric = signal.metric(seen, now, plant.replicas, MOST)
        if now - synced >= SYNC_SECONDS:
            synced = now
            wanted = hpa.decided(now, metric, plant.replicas, plant.ready)
            if wanted != plant.replicas:
                turned = 1 if wanted > plant.replicas else -1
                reversals += direction not in (0, turned)
                direction = turned
                plant.scale(wanted, now)
        p99 = float(np.quantile(seen.latencies, 0.99)) if len(seen.latencies) else 0.0
        if now > WARM_SECONDS:
            trail.append((float(rate), plant.replicas, p99))
            slow += int((seen.latencies > objective_seconds).sum())
            total += len(seen.latencies)
    violated = sum(p99 > objective_seconds for _, _, p99 in trail) / len(trail)
    mean = sum(replicas for _, replicas, _ in trail) / len(trail)
    return Outcome(violated, slow / max(1, total), mean, reversals, tuple(trail))
