"""The plan of a parent."""

from hypothesis import given
from hypothesis import strategies as st

from trade2026.exeq.schedule import spread


@given(st.lists(st.integers(0, 1_000), min_size=1, max_size=50), st.integers(1, 50))
def test_a_profile_is_spread_without_loss(weights: list[int], count: int) -> None:
    shares = spread(weights, count)
    assert len(shares) == count
    assert sum(shares) == sum(weights) * count


def test_parts_of_the_time_share_a_weight() -> None:
    assert spread([4, 2], 4) == [8, 8, 4, 4]
    assert spread([1, 2, 3], 1) == [6]
