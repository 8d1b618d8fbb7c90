"""The whole path under faults, seed by seed.

`SIM_SEEDS=1000` runs more of them, `SIM_SEED=7` replays one.
"""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from tests.simulation.faults import KINDS
from tests.simulation.run import Failed, run_seed

ROOT = Path(__file__).parents[2]
SEEDS_IN_CI = 200
FAILURES_SHOWN_MAX = 5


def seeds() -> range:
    """Which seeds to run."""
    if one := os.environ.get("SIM_SEED"):
        return range(int(one), int(one) + 1)
    return range(int(os.environ.get("SIM_SEEDS", SEEDS_IN_CI)))


@pytest.mark.timeout(0)
def test_whatever_goes_wrong_nothing_acknowledged_is_lost_doubled_or_miscounted(capsys: pytest.CaptureFixture[str]):
    failures: list[str] = []
    injected: Counter[str] = Counter()
    events = acknowledged = dropped = 0
    for seed in seeds():
        try:
            outcome = run_seed(seed)
        except Failed as failure:
            failures.append(str(failure))
            if len(failures) == FAILURES_SHOWN_MAX:
                break
            continue
        injected.update(outcome.injected)
        events += outcome.events
        acknowledged += outcome.acknowledged
        dropped += outcome.dropped
    with capsys.disabled():
        told = ", ".join(f"{kind} {count}" for kind, count in sorted(injected.items()))
        print(
            f"\n{len(seeds())} seeds, {acknowledged} orders, {events} events, {dropped} of them dropped from the bus; faults: {told}"
        )
    assert not failures, "\n\n".join(failures)
    if len(seeds()) >= SEEDS_IN_CI:
        assert {kind.__name__ for kind in KINDS} <= injected.keys(), "some kinds of faults never happened"
        assert dropped, "no beginning of a log was ever dropped"


@pytest.mark.parametrize("seed", [3, 11])
def test_the_same_seed_gives_the_same_bytes_in_this_process_and_in_another(seed: int):
    first = run_seed(seed)
    assert run_seed(seed) == first
    code = f"from tests.simulation.run import run_seed; print(run_seed({seed}).digest)"
    environment = {**os.environ, "PYTHONHASHSEED": "1234", "PYTHONPATH": f"{ROOT}:{ROOT / 'services'}"}
    other = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    assert other.stdout.strip() == first.digest
