"""How many of a service's requests were bad, in any window up to its objective's: counts by the minute and the hour."""

from array import array
from collections.abc import Iterator

MINUTE, HOUR = 60, 3_600
_FINE = 3 * 86_400 // MINUTE + 1


class Ring:
    """Counts of good and bad in equal steps of time, the newest so many of them."""

    def __init__(self, step_seconds: int, steps: int) -> None:
        self.step_seconds, self.steps = step_seconds, steps
        self.newest = -1
        """Number of the newest step since 1970; -1 before the first."""
        self.total = array("Q", bytes(8 * steps))
        self.bad = array("Q", bytes(8 * steps))

    def add(self, now_seconds: int, total: int, bad: int) -> None:
        """Count what came since the last time."""
        self._move_to(now_seconds // self.step_seconds)
        place = self.newest % self.steps
        self.total[place] += total
        self.bad[place] += bad

    def sums(self, now_seconds: int, window_seconds: int) -> tuple[int, int]:
        """How many there were in a window that ends now, and how many of them were bad."""
        last = now_seconds // self.step_seconds
        first = last - window_seconds // self.step_seconds + 1
        first, last = max(first, self.newest - self.steps + 1, 0), min(last, self.newest)
        if first > last:
            return 0, 0
        begin, end = first % self.steps, last % self.steps + 1
        pieces = [slice(begin, end)] if begin < end else [slice(begin, None), slice(0, end)]
        return sum(sum(self.total[piece]) for piece in pieces), sum(sum(self.bad[piece]) for piece in pieces)

    def filled(self) -> Iterator[tuple[int, int, int]]:
        """Every step that has something, oldest first: its number, how many, and how many bad."""
        for step in range(max(0, self.newest - self.steps + 1), self.newest + 1):
            if total := self.total[step % self.steps]:
                yield step, total, self.bad[step % self.steps]

    def _move_to(self, step: int) -> None:
        if self.newest < 0 or step - self.newest >= self.steps:
            self.total, self.bad = array("Q", bytes(8 * self.steps)), array("Q", bytes(8 * self.steps))
        else:
            for passed in range(self.newest + 1, step + 1):
                self.total[passed % self.steps] = self.bad[passed % self.steps] = 0
        self.newest = max(self.newest, step)  # a clock that was put back adds to the newest step


class Budget:
    """One objective of one service and what was used of its error budget.

    Args:
        objective: The share that must be good, e.g. 0.999.
        window_days: Over which.
    """

    def __init__(self, objective: float, window_days: int) -> None:
        assert 0 < objective < 1
        self.objective, self.window_seconds = objective, window_days * 86_400
        self.fine, self.coarse = Ring(MINUTE, _FINE), Ring(HOUR, window_days * 24 + 1)
        self._seen: tuple[int, int] | None = None

    def observe(self, now_seconds: int, total: int, bad: int) -> bool:
        """Take what the service has counted since it started; returns whether it has started again since.

        What was counted before the first look is not ours: nobody knows when it was.
        """
        before, self._seen = self._seen, (total, bad)
        if before is None:
            return False
        again = total < before[0] or bad < before[1]
        since = (total, bad) if again else (total - before[0], bad - before[1])
        self.count(now_seconds, *since)
        return again

    def count(self, now_seconds: int, total: int, bad: int) -> None:
        """Count requests that were made since the last time."""
        self.fine.add(now_seconds, total, min(bad, total))
        self.coarse.add(now_seconds, total, min(bad, total))

    def sums(self, now_seconds: int, window_seconds: int) -> tuple[int, int]:
        """Requests in a window, and bad ones among them."""
        ring = self.fine if window_seconds < MINUTE * _FINE else self.coarse
        return ring.sums(now_seconds, window_seconds)

    def burn(self, now_seconds: int, window_seconds: int) -> float:
        """How many times as fast as it lasts the budget burns; 1 uses it up exactly. 0 without requests."""
        total, bad = self.sums(now_seconds, window_seconds)
        return bad / total / (1 - self.objective) if total else 0.0

    def left(self, now_seconds: int) -> float:
        """Share of the error budget that is left; below 0 when the objective is missed."""
        return 1 - self.burn(now_seconds, self.window_seconds)
