"""`python -m bench.autoscale.fit RUNS.json`: the nature of a service for the simulation, from runs on a cluster.

The time of one request is what pods say of themselves while they are busy; the start of a pod is how long fewer worked
than were asked for. What a request waits beside that can't be read off: spread and floor are those with which the simulated
service, given the same requests and the same pods, answers most nearly as the real one did.
"""

import argparse
import json
import math
from collections import Counter
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
    nature: For the simulation; `start_seconds` is the mean until pods work.
    error: By so much, up or down, the simulated quantiles differ from the real ones; mean over steps, as a factor.
    steps: That were compared.
    starts: How long each time that more were asked for, until all were ready, and until all worked.
    cost: Seconds of a busy replica that a client's request took, by the number of replicas that worked: more where they
        send requests on to each other.
    moved: Share of the requests that were sent again, in the ten seconds after another number worked than before.
    """

    nature: Nature
    error: float
    steps: int
    starts: list[tuple[float, float]]
    cost: dict[int, float]
    moved: float


def main(words: Sequence[str] | None = None) -> None:
    """The entry point."""
    parser = argparse.ArgumentParser(prog="python -m bench.autoscale.fit", description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--service", help="of several in the file")
    parser.add_argument("--json", type=Path)
    told = parser.parse_args(words)
    runs = [run for run in json.loads(told.runs.read_text()) if told.service in (None, run["service"])]
    found = fitted(runs)
    print(f"{found.nature}; quantiles differ by a factor of {found.error:.2f} over {found.steps} steps")
    print(
        "seconds until ready, until all work:", ", ".join(f"{ready:.0f}, {works:.0f}" for ready, works in found.starts)
    )
    print("seconds a request, by replicas:", ", ".join(f"{count}: {cost:.4f}" for count, cost in found.cost.items()))
    print(f"sent again while partitions move: {found.moved:.1%}")
    if told.json is not None:
        told.json.write_text(json.dumps(asdict(found), indent=1) + "\n")


def fitted(runs: Sequence[Mapping[str, Any]]) -> Fitted:
    """The nearest of all that are tried."""
    nature = Nature(service_seconds=service_seconds(runs), start_seconds=0.0)
    steps = [list(_steps(run)) for run in runs]
    tried = [replace(nature, spread=spread, floor_seconds=floor) for spread, floor in product(SPREADS, FLOORS_SECONDS)]
    best, error = min(((each, _error(each, steps)) for each in tried), key=lambda found: found[1])
    count = sum(len(run) for run in steps)
    begun = [each for run in runs for each in starts(run)]
    nature = replace(best, start_seconds=fmean(works for _, works in begun) if begun else 0.0)
    return Fitted(nature, math.exp(error), count, begun, cost_by_replicas(runs), sent_again_while_moving(runs))


def service_seconds(runs: Sequence[Mapping[str, Any]]) -> float:
    """Of one request, in a pod that is busy.

    Raises:
        ValueError: none was.
    """
    busy = requests = 0.0
    for run in runs:
        for before, now in pairwise(run["moments"]):
            for took, done in _done(before, now):
                if done > 0 and took >= BUSY_MIN * (now["at"] - before["at"]):
                    busy, requests = busy + took, requests + done
    if not requests:
        raise ValueError("no pod was busy: raise the rate")
    return busy / requests


def starts(run: Mapping[str, Any]) -> Iterator[tuple[float, float]]:
    """Seconds from the look that first asks for more pods to those at which all are ready, and at which all work."""
    asked = ready = works = 0.0
    for before, now in pairwise(run["moments"]):
        if now["replicas"] > before["replicas"]:
            asked, ready, works = asked or now["at"], 0.0, 0.0
        if asked and now["ready"] >= now["replicas"]:
            ready = ready or now["at"]
        if asked and working(now) >= now["replicas"]:
            works = works or now["at"]
        if ready and works:
            yield ready - asked, works - asked
            asked = ready = works = 0.0


def working(moment: Mapping[str, Any]) -> int:
    """How many pods can take work: those that are ready, or, where partitions are shared, have some of them already."""
    return sum(pod["ready"] if pod["partitions"] is None else pod["partitions"] > 0 for pod in moment["counts"])


def cost_by_replicas(runs: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """See `Fitted`."""
    busy, answered = Counter[int](), Counter[int]()
    for run in runs:
        at = np.sort(np.array([due + seconds for due, seconds, _ in run["sent"] if seconds >= 0]))
        for before, now in pairwise(run["moments"]):
            count = working(now)
            if not count or working(before) != count:
                continue
            took = sum(each for each, _ in _done(before, now))
            if took >= BUSY_MIN * count * (now["at"] - before["at"]):
                busy[count] += took
                answered[count] += int(np.searchsorted(at, now["at"]) - np.searchsorted(at, before["at"]))
    return {count: busy[count] / answered[count] for count in sorted(busy) if answered[count]}


def sent_again_while_moving(runs: Sequence[Mapping[str, Any]]) -> float:
    """See `Fitted`."""
    total = again = 0
    for run in runs:
        moved = [now["at"] for before, now in pairwise(run["moments"]) if working(now) != working(before)]
        for due, _, tries in run["sent"]:
            if any(at - 2 <= due < at + 8 for at in moved):
                total, again = total + 1, again + (tries > 1)
    return again / total if total else 0.0


def _done(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[float, float]]:
    """Of each pod that answered both times: seconds that it was busy, requests that it did."""
    known = {pod["pod"]: pod for pod in before["counts"] if pod["requests"] is not None}
    for pod in now["counts"]:
        if pod["pod"] in known and pod["requests"] is not None:
            was = known[pod["pod"]]
            yield pod["busy_seconds"] - was["busy_seconds"], pod["requests"] - was["requests"]


@dataclass(frozen=True)
class _Step:
    rate: float
    working: int
    quantiles: tuple[float, ...]


def _steps(run: Mapping[str, Any]) -> Iterator[_Step]:
    """What came in each step, how many pods worked, and how long took what was answered in it."""
    count = int(run["seconds"] // STEP_SECONDS)
    came = Counter(int(due // STEP_SECONDS) for due, _, _ in run["sent"])
    answers: list[list[float]] = [[] for _ in range(count)]
    for due, seconds, _ in run["sent"]:
        if seconds >= 0 and due + seconds < count * STEP_SECONDS:
            answers[int((due + seconds) // STEP_SECONDS)].append(seconds)
    worked = 1
    for number, found in enumerate(answers):
        seen = [
            working(each)
            for each in run["moments"]
            if number * STEP_SECONDS <= each["at"] < (number + 1) * STEP_SECONDS
        ]
        worked = max(1, round(fmean(seen))) if seen else worked
        told = tuple(float(np.quantile(found, q)) for q in QUANTILES) if len(found) >= _ANSWERS_MIN else ()
        yield _Step(came[number] / STEP_SECONDS, worked, told)


def _error(nature: Nature, runs: Sequence[Sequence[_Step]]) -> float:
    """Mean difference of the logarithms of quantiles."""
    differences: list[float] = []
    for steps in runs:
        plant = Plant(nature, np.random.default_rng(0), replicas=1)
        for number, step in enumerate(steps, 1):
            plant.scale(step.working, number * STEP_SECONDS)
            latencies = plant.step(step.rate, number * STEP_SECONDS, 0.0).latencies
            if step.quantiles and len(latencies):
                simulated = [float(np.quantile(latencies, q)) for q in QUANTILES]
                differences += [abs(math.log(a / b)) for a, b in zip(simulated, step.quantiles, strict=True)]
    return fmean(differences) if differences else 0.0


if __name__ == "__main__":
    main()
