"""When how much should be done: the plan of a parent, in whole lots, that adds up exactly."""

from collections.abc import Sequence

from trade2026.domain.parents import Algo, ParentSpec, Slice


def plan_slices(
    spec: ParentSpec, begin: int, end: int, weights: Sequence[int], lot: int, *, done: int = 0
) -> list[Slice]:
    """Plan a parent from `begin` to `end` (ns).

    Args:
        weights: VWAP: expected volume of equal parts of the time between, any number of them; all zero is even.
        done: What has been filled already (nanos): the plan begins there.
    """
    if not spec.algo.is_sliced:
        return [Slice(begin, spec.quantity)]
    count = spec.slices
    even = spec.algo is Algo.TWAP or not any(weights)
    shares = [1] * count if even else spread(weights, count)
    total, so_far, planned = sum(shares), 0, []
    left = spec.quantity - done
    for number, share in enumerate(shares):
        so_far += share
        target = left if so_far == total else left * so_far // total // lot * lot
        planned.append(Slice(begin + (end - begin) * number // count, done + target))
    return planned


def spread(weights: Sequence[int], count: int) -> list[int]:
    """Return the weights of `count` equal parts of the time of which `weights` describes equal parts."""
    size = len(weights)
    shares: list[int] = []
    for number in range(count):
        share, at, end = 0, number * size, (number + 1) * size  # in units of 1/count of a weight's time
        while at < end:
            index = at // count
            until = min(end, (index + 1) * count)
            share += weights[index] * (until - at)
            at = until
        shares.append(share)
    return shares
