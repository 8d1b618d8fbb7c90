"""The simulation can fail: whatever law is broken, some seed finds out."""

import pytest
from tests.simulation.mutations import MUTATIONS, Mutation
from tests.simulation.run import Failed, run_seed

_SEEDS_MAX = 20


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_seed_finds_out_when(mutation: Mutation):
    with mutation.broken():
        for seed in range(_SEEDS_MAX):
            try:
                run_seed(seed, mutation.storm)
            except Failed:
                return
    pytest.fail(f"{_SEEDS_MAX} seeds did not find out")
