"""Several order services share the partitions, hand them over, and are cut off and killed on the way.

`SIM_SEEDS=1000` runs more of them, `SIM_SEED=7` replays one.
"""

import os
from collections import Counter

import pytest
from tests.simulation import faults as f
from tests.simulation.run import Failed, run_seed

SEEDS_IN_CI = 12
REPLICAS_MIN = 2
"""Of half of the seeds; the others have one more."""


def seeds() -> range:
    """Which seeds to run."""
    if one := os.environ.get("SIM_SEED"):
        return range(int(one), int(one) + 1)
    return range(int(os.environ.get("SIM_SEEDS", SEEDS_IN_CI)))


@pytest.mark.timeout(0)
def test_whoever_has_a_partition_nothing_acknowledged_is_lost_doubled_or_miscounted(
    capsys: pytest.CaptureFixture[str],
):
    failures: list[str] = []
    injected: Counter[str] = Counter()
    handed_over = 0
    for seed in seeds():
        try:
            outcome = run_seed(seed, replicas=REPLICAS_MIN + seed // 2 % 2)
        except Failed as failure:
            failures.append(str(failure))
            continue
        injected.update(outcome.injected)
        handed_over += outcome.handed_over
    with capsys.disabled():
        told = ", ".join(f"{kind} {count}" for kind, count in sorted(injected.items()))
        print(f"\n{len(seeds())} seeds with replicas, {handed_over} partitions handed over; {told}")
    assert not failures, "\n\n".join(failures)
    if len(seeds()) >= SEEDS_IN_CI:
        assert handed_over >= len(seeds())
        assert {"Forwarded", *(kind.__name__ for kind in f.GROUP_KINDS)} <= injected.keys()


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "storm",
    [
        (f.CutOff, f.DiskFull),
        (f.HandOver, f.GroupAway, f.CommitFailure),
        (f.ZombieOwner, f.Stall, f.CutOff),
        (f.HandOver, f.Crash, f.SlowReads),
    ],
    ids=lambda storm: "+".join(kind.__name__ for kind in storm),
)
def test_nothing_is_lost_doubled_or_miscounted_by_several_in_a_storm_of(storm: tuple[type[f.Fault], ...], seed: int):
    run_seed(seed, storm, REPLICAS_MIN + seed % 2)
