"""The model of the autoscaler does what its documentation says, and the model of the service what a queue does."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from bench import autoscale
from bench.autoscale.__main__ import LOADS, Row, compared
from bench.autoscale.fit import fitted
from bench.autoscale.hpa import AverageValue, Behavior, Hpa, Ratio
from bench.autoscale.loads import mixed
from bench.autoscale.plant import LIMITS, STEP_SECONDS, Nature, Plant, counted
from bench.autoscale.plot import drawn
from bench.autoscale.signals import Ours
from bench.autoscale.simulate import run

from trade2026_operator.slo.demand import Objective

FREE = Behavior(up_percent=1e6, down_stabilization=0, down_percent=100)


@pytest.mark.parametrize(
    ("metric", "replicas", "ready", "wanted"),
    [
        (AverageValue(2.4), 2, 2, 3),
        (AverageValue(2.1), 2, 2, 2),  # a tenth is tolerated
        (AverageValue(24), 22, 22, 22),  # where a metric that is cut gets stuck
        (AverageValue(60), 22, 22, 24),  # and one that is not does not
        (Ratio(1.5), 4, 4, 6),
        (Ratio(1.5), 8, 4, 6),  # of those that are ready
        (Ratio(1.5, counts_unready=True), 8, 4, 8),  # the others will help
        (Ratio(0.5), 4, 4, 2),
        (None, 7, 7, 7),
    ],
)
def test_how_many_are_wanted(metric: AverageValue | Ratio | None, replicas: int, ready: int, wanted: int) -> None:
    assert Hpa(1, 24, FREE).decided(0.0, metric, replicas, ready) == wanted


def test_it_grows_at_most_twofold_or_by_four_and_shrinks_by_one_a_minute_after_five() -> None:
    hpa, replicas, trail = Hpa(1, 24, Behavior()), 3, []
    for sync in range(4):
        replicas = hpa.decided(15.0 * sync, AverageValue(24), replicas, replicas)
        trail.append(replicas)
    assert trail == [7, 14, 24, 24]
    down = {}
    for sync in range(4, 60):
        replicas = hpa.decided(15.0 * sync, AverageValue(1), replicas, replicas)
        down[15 * sync] = replicas
    assert down[330] == 24 and down[360] < 24
    assert all(down[at] - down[at + 60] <= 3 for at in range(360, 600, 60))


def test_a_queue_is_a_queue() -> None:
    """One server, exponential times: the time in it is exponential, too, with the mean 1 / (mu - rate)."""
    plant = Plant(Nature(service_seconds=0.01, spread=1.0), np.random.default_rng(1), replicas=4)
    seen = [plant.step(240.0, STEP_SECONDS * (n + 1), 0.0) for n in range(200)]
    latencies = np.concatenate([each.latencies for each in seen[20:]])
    assert np.quantile(latencies, 0.99) == pytest.approx(math.log(100) / (100 - 60), rel=0.15)
    assert sum(each.busy_seconds for each in seen) == pytest.approx(0.6 * 4 * STEP_SECONDS * 200, rel=0.05)


def test_work_is_neither_lost_nor_doubled_while_replicas_come_and_go() -> None:
    plant = Plant(Nature(start_seconds=5.0), np.random.default_rng(2), replicas=2)
    answered = 0
    for number in range(100):
        now = STEP_SECONDS * (number + 1)
        answered += len(plant.step(150.0 if number < 60 else 0.0, now, 0.0).latencies)
        plant.scale(2 + number % 3, now)
    assert answered == pytest.approx(150 * STEP_SECONDS * 60, rel=0.02)
    knows = Plant(Nature(told_share=0.5), np.random.default_rng(2), replicas=1)
    half = [knows.step(150.0, STEP_SECONDS * (n + 1), 0.0) for n in range(4)][-1]
    assert half.told.mean() == pytest.approx(half.latencies.mean() / 2, rel=0.1), "it waits in sockets for the rest"
    assert half.waiting == pytest.approx(0.5 * 50 * STEP_SECONDS * 4, rel=0.15)
    assert counted(np.array([0.001, 0.2, 100.0]))[-1] == 3 and len(LIMITS) == len(counted(np.array([])))


def test_a_run_is_the_same_under_the_same_seed_and_can_be_drawn() -> None:
    outcomes = [run(Ours(Objective(0.15)), Nature(), mixed(3, 600), 3, 0.15) for _ in range(2)]
    assert outcomes[0] == outcomes[1] and 1 <= outcomes[0].replicas <= 24
    rows = [
        {"nature": "a", "family": family, "name": family, "violated": 0.1, "replicas": 3.0}
        for family in ("objective", "cpu", "p99", "lag")
    ]
    assert drawn(rows, ["a"], "cpu").count("ring cpu") == 1


def test_who_is_better_in_both_is_named_and_who_is_worse_is_counted() -> None:
    def row(family: str, name: str, violated: float, replicas: float) -> Row:
        return Row("a", family, name, violated, 0.0, replicas, 0.0)

    mine, more = row("objective", "mine", 0.03, 10), row("objective", "more", 0.01, 9)
    others = [
        row("cpu", "c1", 0.05, 11),
        row("cpu", "c2", 0.02, 12),
        row("lag", "l1", 0.02, 9),
        row("lag", "l2", 0.03, 10),
    ]
    cpu, lag = compared([mine, more, *others], "mine")
    assert cpu == "cpu: of 2 settings 1 are worse in both than the default; none is better in both"
    assert lag.endswith("1 are worse in both than the default; less violation with fewer replicas than it have: l1, l2")


def test_what_was_held_out_is_another_load_from_other_seeds_and_the_same_each_time() -> None:
    for (loads, seeds), (others, other_seeds) in itertools.combinations(LOADS.values(), 2):
        assert not set(loads) & set(others) and not set(seeds) & set(other_seeds)
    for load in (load for loads, _ in LOADS.values() for load in loads.values()):
        rates = load(5, 3_600)
        assert len(rates) == 3_600 / STEP_SECONDS
        assert (rates == load(5, 3_600)).all() and not (rates == load(6, 3_600)).all()
        assert rates.min() >= 1 and 1.5 * rates.mean() < rates.max() < 2_000


def test_a_service_is_found_again_from_what_its_runs_tell() -> None:
    """The run of a simulated service, told as one of a cluster is."""
    nature = Nature(service_seconds=0.01, spread=1.0, floor_seconds=0.02, start_seconds=0.0)
    plant = Plant(nature, np.random.default_rng(4), replicas=1)
    sent, moments, busy, requests = list[tuple[float, float, int]](), list[dict[str, object]](), 0.0, 0.0
    for number in range(60):
        begins = STEP_SECONDS * number
        plant.scale(2 if number == 43 else 1, begins)  # what a moment tells is of the step that it begins
        seen = plant.step(30.0 if number < 20 else 80.0, begins + STEP_SECONDS, 0.0)
        sent += [(begins + 2.5 - float(each), float(each), 1) for each in seen.latencies]
        busy, requests = busy + seen.busy_seconds, requests + len(seen.latencies)
        pod = {"pod": "a", "requests": requests, "busy_seconds": busy, "ready": True, "partitions": None}
        replicas, ready = (2, 1) if number in (40, 41) else (2, 2) if number == 42 else (1, 1)
        counts = [pod] if number != 42 else [pod, {**pod, "pod": "b"}]
        moments.append({"at": begins + STEP_SECONDS, "replicas": replicas, "ready": ready, "counts": counts})
    found = fitted([{"sent": sent, "moments": moments, "seconds": 300.0}])
    assert found.nature.service_seconds == pytest.approx(0.01, rel=0.1)
    assert (found.nature.spread, found.nature.floor_seconds) == (1.0, 0.02)
    assert found.starts == [(pytest.approx(10.0), pytest.approx(10.0))] and found.nature.start_seconds == 10.0
    assert found.cost == {1: pytest.approx(0.01, rel=0.1)} and found.moved == 0
    assert found.error < 1.25


@pytest.mark.parametrize("name", ["kafka", "stateless"])
def test_what_was_fitted_to_a_cluster_can_be_simulated(name: str) -> None:
    found = json.loads((Path(autoscale.__file__).parent / "natures" / f"{name}.json").read_text())
    nature = Nature(**found["nature"])
    assert found["steps"] > 0 and 0 < nature.service_seconds < 1 < nature.start_seconds
    plant = Plant(nature, np.random.default_rng(1), replicas=2)
    assert len(plant.step(1 / nature.service_seconds, STEP_SECONDS, 0.0).latencies)
