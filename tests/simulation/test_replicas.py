"""Several order services share the partitions, hand them over, and are cut off and killed on the way.

`SIM_SEEDS=1000` runs more of them, `SIM_SEED=7` replays one.
"""

import os
from collections import Counter

import pytest
from tests.simulation.faults import GROUP_KINDS
from tests.simulation.run import Failed, run_seed

SEEDS_IN_CI = 16
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
        assert {"Forwarded", *(kind.__name__ for kind in GROUP_KINDS)} <= injected.keys()
