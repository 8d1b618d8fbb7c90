"""`python -m bench.autoscale.fit RUNS.json`: the nature of a service for the simulation, from runs on a cluster.

The time of one request is what pods say of themselves while they are busy; the start of a pod is how long fewer were ready
than asked for. What a request waits beside that can't be read off: spread and floor are those with which the simulated
service, given the same requests and the same pods, answers most nearly as the real one did.
"""

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise, product
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from bench.autoscale.plant import STEP_SECONDS, Nature, Plant

BUSY_MIN = 0.3
"""A pod that is less busy tells more of what it does besides."""
QUANTILES = (0.5, 0.99)
SPREADS = (0.1, 0.3, 0.6, 1.0, 1.5, 2.0)
FLOORS_SECONDS = (0.0, 0.005, 0.01, 0.02, 0.04)
_ANSWERS_MIN = 20


@dataclass(frozen=True)
class Fitted:
    """Attributes:
    error: By so much, up or down, the simulated quantiles differ from the real ones; mean over steps, as a factor.
    steps: That were compared.
    """

    nature: Nature
    error: float
    steps: int


def main(words: Sequence[str] | None = None) -> None:
    """The entry point."""
    parser = argparse.ArgumentParser(prog="python -m bench.autoscale.fit", description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--json", type=Path)
    told = parser.parse_args(words)
    found = fitted(json.loads(told.runs.read_text()))
    print(f"{found.nature}; quantiles differ by a factor of {found.error:.2f} over {found.steps} steps")
    if told.json is not None:
        told.json.write_text(json.dumps(asdict(found), indent=1))


def fitted(runs: Sequence[Mapping[str, Any]]) -> Fitted:
    """The nearest of all that are tried."""
    nature = Nature(service_seconds=service_seconds(runs), start_seconds=0.0)
    steps = [list(_steps(run)) for run in runs]
    tried = [replace(nature, spread=spread, floor_seconds=floor) for spread, floor in product(SPREADS, FLOORS_SECONDS)]
    best, error = min(((each, _error(each, steps)) for each in tried), key=lambda found: found[1])
    count = sum(len(run) for run in steps)
    return Fitted(replace(best, start_seconds=start_seconds(runs)), math.exp(error), count)


def service_seconds(runs: Sequence[Mapping[str, Any]]) -> float:
    """Of one request, in a pod that is busy.

    Raises:
        ValueError: none was.
    """
    busy = requests = 0.0
    for run in runs:
        for before, now in pairwise(run["moments"]):
            known = {pod["pod"]: pod for pod in before["counts"] if pod["requests"] is not None}
            for pod in now["counts"]:
                if pod["pod"] not in known or pod["requests"] is None:
                    continue
                took = pod["busy_seconds"] - known[pod["pod"]]["busy_seconds"]
                done = pod["requests"] - known[pod["pod"]]["requests"]
                if done > 0 and took >= BUSY_MIN * (now["at"] - before["at"]):
                    busy, requests = busy + took, requests + done
    if not requests:
        raise ValueError("no pod was busy: raise the rate")
    return busy / requests


def start_seconds(runs: Sequence[Mapping[str, Any]]) -> float:
    """Mean time from the look that first asks for more pods to the one at which all are ready; 0 without any."""
    found: list[float] = []
    for run in runs:
        since: float | None = None
        for before, now in pairwise(run["moments"]):
            if now["replicas"] > before["replicas"]:
                since = now["at"]
            if since is not None and now["ready"] >= now["replicas"]:
                found.append(now["at"] - since)
                since = None
    return fmean(found) if found else 0.0


@dataclass(frozen=True)
class _Step:
    rate: float
    ready: int
    quantiles: tuple[float, ...]


def _steps(run: Mapping[str, Any]) -> Iterator[_Step]:
    """What came in each step, how many pods there were, and how long answers took."""
    count = int(run["seconds"] // STEP_SECONDS)
    answers: list[list[float]] = [[] for _ in range(count)]
    for due, seconds in run["sent"]:
        if due < count * STEP_SECONDS and seconds >= 0:
            answers[int(due // STEP_SECONDS)].append(seconds)
    ready = 1
    for number, found in enumerate(answers):
        seen = [
            each["ready"]
            for each in run["moments"]
            if number * STEP_SECONDS <= each["at"] < (number + 1) * STEP_SECONDS
        ]
        ready = max(1, round(fmean(seen))) if seen else ready
        told = tuple(float(np.quantile(found, q)) for q in QUANTILES) if len(found) >= _ANSWERS_MIN else ()
        yield _Step(len(found) / STEP_SECONDS, ready, told)


def _error(nature: Nature, runs: Sequence[Sequence[_Step]]) -> float:
    """Mean difference of the logarithms of quantiles."""
    differences: list[float] = []
    for steps in runs:
        plant = Plant(nature, np.random.default_rng(0), replicas=1)
        for number, step in enumerate(steps, 1):
            plant.scale(step.ready, number * STEP_SECONDS)
            latencies = plant.step(step.rate, number * STEP_SECONDS, 0.0).latencies
            if step.quantiles and len(latencies):
                simulated = [float(np.quantile(latencies, q)) for q in QUANTILES]
                differences += [abs(math.log(a / b)) for a, b in zip(simulated, step.quantiles, strict=True)]
    return fmean(differences) if differences else 0.0


if __name__ == "__main__":
    main()
