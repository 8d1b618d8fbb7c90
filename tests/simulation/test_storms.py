"""Faults that are worst together, close upon each other."""

import pytest
from tests.simulation import faults as f
from tests.simulation.run import run_seed


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "storm",
    [
        (f.CommitFailure, f.SlowCommits),
        (f.CommitFailure, f.SlowReads, f.ShortReads),
        (f.PowerCut, f.DamagedSnapshot),
        (f.LostHistory, f.Crash, f.GracefulRestart),
        (f.ZombieOwner, f.ClockJump, f.Stall),
        (f.DiskFull, f.Crash),
        (f.LostMessages, f.DuplicatedRequests, f.SlowNetwork, f.FullQueue),
    ],
    ids=lambda storm: "+".join(kind.__name__ for kind in storm),
)
def test_nothing_is_lost_doubled_or_miscounted_in_a_storm_of(storm: tuple[type[f.Fault], ...], seed: int):
    run_seed(seed, storm)
