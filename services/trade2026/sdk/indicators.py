"""Indicators over a stream of numbers. Each is `None` until it has seen enough; plain floats inside.

An indicator is saved and restored with its strategy. One's own is a subclass whose attributes are plain data.
"""

from collections import deque
from math import sqrt
from typing import ClassVar

from trade2026.sdk.types import Bar, Number


class Indicator:
    """Base of all: feed it with `update`, read `value`."""

    known: ClassVar[dict[str, type["Indicator"]]] = {}
    """By name, to restore them."""

    def __init_subclass__(cls) -> None:
        Indicator.known[cls.__name__] = cls

    value: float | None
    """The newest value; None while there is not enough data."""

    @property
    def ready(self) -> bool:
        """Whether it has seen enough."""
        return self.value is not None


class SMA(Indicator):
    """Simple moving average of the last `period` numbers."""

    def __init__(self, period: int) -> None:
        _check(period)
        self.period = period
        self.value = None
        self.window: deque[float] = deque(maxlen=period)

    def update(self, number: Number) -> float | None:
        """Take the next number; return the average."""
        self.window.append(float(number))
        if len(self.window) == self.period:
            self.value = sum(self.window) / self.period
        return self.value


class EMA(Indicator):
    """Exponential moving average with the weight 2 / (period + 1)."""

    def __init__(self, period: int) -> None:
        _check(period)
        self.period, self.count, self.average = period, 0, 0.0
        self.value = None

    def update(self, number: Number) -> float | None:
        """Take the next number; return the average once `period` numbers were seen."""
        number = float(number)
        self.count += 1
        self.average = number if self.count == 1 else self.average + (number - self.average) * 2 / (self.period + 1)
        self.value = self.average if self.count >= self.period else None
        return self.value


class StdDev(Indicator):
    """Standard deviation of the last `period` numbers, and their `mean`."""

    def __init__(self, period: int) -> None:
        _check(period, 2)
        self.period = period
        self.value = None
        self.mean: float | None = None
        self.window: deque[float] = deque(maxlen=period)

    def update(self, number: Number) -> float | None:
        """Take the next number; return the deviation."""
        self.window.append(float(number))
        if len(self.window) == self.period:
            self.mean = sum(self.window) / self.period
            self.value = sqrt(sum((x - self.mean) ** 2 for x in self.window) / self.period)
        return self.value


class ZScore(Indicator):
    """How many standard deviations the newest number is away from the mean of the last `period`."""

    def __init__(self, period: int) -> None:
        self.deviation = StdDev(period)
        self.value = None

    def update(self, number: Number) -> float | None:
        """Take the next number; return its score, 0 where nothing deviates."""
        deviation = self.deviation.update(number)
        if deviation is not None and self.deviation.mean is not None:
            self.value = (float(number) - self.deviation.mean) / deviation if deviation else 0.0
        return self.value


class RSI(Indicator):
    """Relative strength index (Wilder), 0 to 100."""

    def __init__(self, period: int = 14) -> None:
        _check(period)
        self.period, self.count = period, 0
        self.gain = self.loss = 0.0
        self.last: float | None = None
        self.value = None

    def update(self, number: Number) -> float | None:
        """Take the next number; return the index."""
        number = float(number)
        if self.last is not None:
            change = number - self.last
            self.count += 1
            weight = min(self.count, self.period)
            self.gain += (max(change, 0.0) - self.gain) / weight
            self.loss += (max(-change, 0.0) - self.loss) / weight
            if self.count >= self.period:
                moved = self.gain + self.loss
                self.value = 100 * self.gain / moved if moved else 50.0
        self.last = number
        return self.value


class ATR(Indicator):
    """Average true range (Wilder) of bars."""

    def __init__(self, period: int = 14) -> None:
        _check(period)
        self.period, self.count, self.average = period, 0, 0.0
        self.close: float | None = None
        self.value = None

    def update(self, bar: Bar) -> float | None:
        """Take the next bar; return the average range."""
        high, low = float(bar.high), float(bar.low)
        if self.close is not None:
            high, low = max(high, self.close), min(low, self.close)
        self.count += 1
        self.average += (high - low - self.average) / min(self.count, self.period)
        self.close = float(bar.close)
        self.value = self.average if self.count >= self.period else None
        return self.value


def _check(period: int, least: int = 1) -> None:
    if period < least:
        raise ValueError(f"a period is at least {least}, not {period}")
