"""Prints that can't be: too far from the median of those before them, measured by how far those are from each other.

The scale is the distance between the quartiles, which like the median does not heed a few wild prints. A real jump
of the market looks like bad prints at first, so some in a row on one side are the new market. Pure.
"""

from bisect import bisect_left, insort
from collections import deque

import msgspec

from trade2026.domain.numbers import BPS

_QUARTILES_PER_SIGMA = 1.349
"""Distance between the quartiles of a normal distribution, in standard deviations."""


class BadPrintRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a print is bad. `deviations` 0 switches the filter off."""

    window: int = 51
    """Prints before it that it is compared with."""
    least: int = 11
    """Prints that must be there before any can be bad."""
    deviations: float = 10.0
    """Standard deviations, estimated from the quartiles."""
    floor_bps: int = 200
    """A print nearer than this to the median is good however quiet the market was."""
    confirm: int = 5
    """So many bad prints in a row on one side are the new market."""

    def __post_init__(self) -> None:
        if not 3 <= self.least <= self.window <= 1_001 or self.deviations < 0 or self.floor_bps < 0 or self.confirm < 1:
            raise ValueError("3 <= least <= window <= 1001, deviations and floor_bps >= 0, confirm >= 1")


class PrintsState(msgspec.Struct):
    """What a filter remembers: the newest good prices, and how many bad ones followed on one side (< 0: below)."""

    prices: list[int] = []
    run: int = 0


class BadPrints:
    """Judges the prints of one instrument, in order."""

    def __init__(self, rule: BadPrintRule, state: PrintsState | None = None) -> None:
        self.rule = rule
        self._prices: deque[int] = deque(state.prices if state else ())
        self._sorted = sorted(self._prices)
        self._run = state.run if state else 0
        self._scale = rule.deviations / _QUARTILES_PER_SIGMA

    def is_bad(self, price: int) -> bool:
        """Whether the next print is bad; a good one is remembered."""
        prices, ordered, rule = self._prices, self._sorted, self.rule
        count = len(prices)
        if count >= rule.least and rule.deviations:
            median = ordered[count // 2]
            distance = abs(price - median)
            if distance * BPS > median * rule.floor_bps:
                spread = ordered[3 * count // 4] - ordered[count // 4]
                if distance > spread * self._scale:
                    return self._is_still_bad(price, 1 if price > median else -1)
        self._run = 0
        prices.append(price)
        insort(ordered, price)
        if count == rule.window:
            del ordered[bisect_left(ordered, prices.popleft())]
        return False

    def _is_still_bad(self, price: int, side: int) -> bool:
        self._run = self._run + side if self._run * side > 0 else side
        if abs(self._run) < self.rule.confirm:
            return True
        self._prices, self._sorted, self._run = deque([price]), [price], 0
        return False

    def save(self) -> PrintsState:
        """What `BadPrints(rule, state)` goes on from."""
        return PrintsState(list(self._prices), self._run)
