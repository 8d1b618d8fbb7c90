"""From counts of many processes, read every few seconds, to what they do together in windows of time. Pure.

Processes come, go and start again: what is summed up are the differences between two looks at the same process, and the
first look at one is only where its counting begins.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from trade2026_operator.slo.demand import Measured
from trade2026_operator.slo.samples import Sample

WINDOW_SECONDS = 60.0
FAST_SECONDS = 6.0
NEWEST_SECONDS = 15.0
"""Over which it is seen that replicas are too few: shorter, and chance would tell."""
FULL_SHARE = 0.9
"""A window of which so much is known is full."""
REQUESTS_MIN = 20
"""Fewer say nothing of a quantile."""
_SLOW_MIN = 5
"""Fewer slow answers may be chance, of whatever share of all they are."""
_CHANCE = 3.0
"""Standard deviations, by which a few slow answers may be more than the objective lets."""
_MINUTES = 60


@dataclass(frozen=True)
class _Step:
    """What came between two looks."""

    at: float
    seconds: float
    requests: float
    within: tuple[tuple[float, float], ...]
    busy_seconds: float
    submissions: dict[str, float]
    folded: float
    """Records, by folds of the log."""
    written: dict[str, float]
    """Records that came for them, by partition."""
    share: float
    """Of the replicas that are ready, that were looked at: the others are supposed to do as much."""
    ready: int
    silent: int
    """Of them, that did not answer."""
    errors: float
    """Of the requests, answered that the service can't."""


@dataclass(frozen=True)
class Minute:
    """Requests of one minute since 1970, and those of them that were too slow."""

    number: int
    total: float = 0.0
    slow: float = 0.0


@dataclass
class Window:
    """Of one release.

    Attributes:
        limit_seconds: That `quantile` of the requests may take.
        seconds: Over which rates are taken.
    """

    limit_seconds: float
    quantile: float
    seconds: float = WINDOW_SECONDS
    minutes: deque[Minute] = field(default_factory=lambda: deque[Minute](maxlen=_MINUTES))
    _steps: deque[_Step] = field(default_factory=deque[_Step])
    _last: dict[str, Sample] = field(default_factory=dict[str, Sample])
    _looked_at: float | None = None

    def add(self, at: float, wall: float, samples: Mapping[str, Sample], ready: int) -> None:
        """One look at all replicas.

        Args:
            at: Seconds, monotonic.
            wall: Seconds since 1970, for the minutes, which outlive this process.
            samples: Of those that have answered, by what tells a process from the one that follows it.
            ready: How many there are to answer.
        """
        before, self._looked_at = self._looked_at, at
        differences = [_difference(self._last[name], sample) for name, sample in samples.items() if name in self._last]
        self._last = dict(samples)
        if before is None or not differences:
            return
        share = min(1.0, len(differences) / max(1, ready))
        step = _summed(differences, at, at - before, share, ready, max(0, ready - len(samples)))
        self._steps.append(step)
        while self._steps and self._steps[0].at <= at - self.seconds:
            self._steps.popleft()
        self._count(int(wall // 60), step.requests, step.requests - _at_most(step.within, self.limit_seconds))

    def restart(self) -> None:
        """Nothing was seen for so long that what was seen before does not count."""
        self._steps.clear()
        self._last.clear()
        self._looked_at = None

    @property
    def _silent(self) -> int:
        """Replicas that did not answer in some look: most at once."""
        return max((step.silent for step in self._steps), default=0)

    @property
    def covered_seconds(self) -> float:
        """So much of the window is known."""
        return sum(step.seconds for step in self._steps)

    @property
    def covered_share(self) -> float:
        """The same, by the whole."""
        return min(1.0, self.covered_seconds / self.seconds)

    @property
    def is_full(self) -> bool:
        """Whether it is known well enough to learn from, and to have fewer replicas."""
        return self.covered_share >= FULL_SHARE

    def measured(self, replicas: int, wall: float) -> Measured:
        """What they do together, replicas that did not answer included; `replicas` are ready."""
        requests = sum(step.requests for step in self._steps)
        units = sum(_units(step) for step in self._steps)
        busy = sum(step.busy_seconds for step in self._steps)
        within = _merged([step.within for step in self._steps])
        split = _sums([part for step in self._steps for part in (step.submissions, step.written)])
        seconds = self.covered_seconds or 1.0
        written = sum(sum(step.written.values()) / step.share for step in self._steps) / seconds
        newest = self._newest(NEWEST_SECONDS)
        if any(step.ready != replicas for step in newest):
            newest = []
        return Measured(
            rate=_rate(self._steps) + written,
            # Where a log ends is looked at too seldom for a few seconds; a burst of records shows as backlog.
            fast_rate=_rate(self._newest(FAST_SECONDS)) + written,
            service_seconds=busy / done if (done := units + sum(step.folded for step in self._steps)) > 0 else 0.0,
            p99_seconds=_quantile(within, self.quantile) if requests >= REQUESTS_MIN else None,
            backlog=sum(sample.waiting for sample in self._last.values()),
            replicas=replicas,
            burn_short=self.burn(wall, 5),
            burn_long=self.burn(wall, 60),
            hottest_rate=max(split.values(), default=0.0) / seconds,
            behind_seconds=max((sample.behind_seconds for sample in self._last.values()), default=0.0),
            settled=all(step.ready == replicas for step in self._steps),
            busy=_busy(newest),
            newest_seconds=self._newest_quantile(newest),
            error_ratio=sum(step.errors for step in self._steps) / requests if requests >= REQUESTS_MIN else 0.0,
            silent=self._silent,
        )

    def _newest_quantile(self, newest: Sequence[_Step]) -> float | None:
        within = _merged([step.within for step in newest])
        requests = sum(step.requests for step in newest)
        is_chance = 0 < requests - _at_most(within, self.limit_seconds) < _SLOW_MIN
        return None if requests < REQUESTS_MIN or is_chance else _quantile(within, self.quantile)

    def burn(self, wall: float, minutes: int) -> float:
        """How many times as fast as it lasts the error budget burns; 0 without requests, or by chance alone."""
        first = int(wall // 60) - minutes
        counted = [minute for minute in self.minutes if minute.number > first]
        total, slow = sum(minute.total for minute in counted), sum(minute.slow for minute in counted)
        allowed = total * (1 - self.quantile)
        if not total or (slow < _SLOW_MIN and slow <= max(1, allowed + _CHANCE * math.sqrt(allowed))):
            return 0.0
        return slow / allowed

    def still_burning(self, wall: float) -> float:
        """The same of half an hour, but no more than of the last minute: what is over holds nobody up."""
        total = sum(step.requests for step in self._steps)
        slow = total - sum(_at_most(step.within, self.limit_seconds) for step in self._steps)
        return min(self.burn(wall, 30), slow / total / (1 - self.quantile)) if total else 0.0

    def _newest(self, seconds: float) -> list[_Step]:
        found: list[_Step] = []
        covered = 0.0
        for step in reversed(self._steps):
            found.append(step)
            covered += step.seconds
            if covered >= seconds:
                break
        return found

    def _count(self, number: int, total: float, slow: float) -> None:
        if self.minutes and self.minutes[-1].number >= number:  # a clock that was put back adds to the newest
            last = self.minutes.pop()
            self.minutes.append(Minute(last.number, last.total + total, last.slow + slow))
        else:
            self.minutes.append(Minute(number, total, slow))


def minutes_to_text(minutes: Sequence[Minute]) -> list[list[float]]:
    """As JSON has them."""
    return [[each.number, each.total, round(each.slow, 3)] for each in minutes if each.total]


def minutes_of(entries: Any) -> list[Minute]:
    """The same, read again.

    Raises:
        ValueError: these are none.
    """
    try:
        found = [Minute(int(number), float(total), float(slow)) for number, total, slow in entries]
    except TypeError as error:
        raise ValueError("these are no minutes") from error
    return sorted(found, key=lambda minute: minute.number)[-_MINUTES:]


def _rate(steps: Sequence[_Step] | deque[_Step]) -> float:
    seconds = sum(step.seconds for step in steps)
    return sum(_units(step) / step.share for step in steps) / seconds if seconds > 0 else 0.0


def _busy(steps: Sequence[_Step]) -> float:
    """Share of the time of those that answered."""
    could = sum(step.seconds * step.ready * step.share for step in steps)
    return sum(step.busy_seconds for step in steps) / could if could > 0 else 0.0


def _units(step: _Step) -> float:
    """What was asked: requests, or what was submitted if that is more, as over a WebSocket."""
    return max(step.requests, sum(step.submissions.values()))


def _difference(before: Sample, now: Sample) -> Sample:
    """What came between two looks at one process; since its start if it has started again."""
    if now.requests < before.requests or now.busy_seconds < before.busy_seconds:
        return replace(now, folded={}, behind={})  # positions are the log's, and not of a process since its start
    known = dict(before.within)
    return Sample(
        now.requests - before.requests,
        tuple((limit, max(0.0, count - known.get(limit, 0.0))) for limit, count in now.within),
        now.busy_seconds - before.busy_seconds,
        {
            partition: count - before.submissions.get(partition, 0.0)
            if count >= before.submissions.get(partition, 0.0)
            else count  # the partition went to another replica, and came back
            for partition, count in now.submissions.items()
        },
        folded=_risen(before.folded, now.folded),
        behind=_risen(_ends(before), _ends(now)),
        errors=max(0.0, now.errors - before.errors),
    )


def _ends(sample: Sample) -> dict[str, float]:
    """Where the log ends, of the partitions that are followed."""
    return {name: at + sample.behind.get(name, 0.0) for name, at in sample.folded.items() if at > 0}


def _risen(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    """By so much: nothing of a partition that was not followed before, or was followed further by another replica."""
    return {name: at - before[name] for name, at in now.items() if 0 < before.get(name, 0.0) <= at}


def _summed(differences: Sequence[Sample], at: float, seconds: float, share: float, ready: int, silent: int) -> _Step:
    return _Step(
        at,
        seconds,
        sum(each.requests for each in differences),
        _merged([each.within for each in differences]),
        sum(each.busy_seconds for each in differences),
        _sums([each.submissions for each in differences]),
        sum(sum(each.folded.values()) for each in differences),
        _sums([each.behind for each in differences]),
        share,
        ready,
        silent,
        sum(each.errors for each in differences),
    )


def _sums(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in parts:
        for name, value in part.items():
            found[name] = found.get(name, 0.0) + value
    return found


def _merged(parts: Sequence[tuple[tuple[float, float], ...]]) -> tuple[tuple[float, float], ...]:
    """Cumulative counts of several histograms; all have the same limits, being of one version, or the common ones."""
    if not parts:
        return ()
    common = set.intersection(*({limit for limit, _ in part} for part in parts))
    sums: dict[float, float] = {}
    for part in parts:
        for limit, count in part:
            if limit in common:
                sums[limit] = sums.get(limit, 0.0) + count
    return tuple(sorted(sums.items()))


def _at_most(within: Sequence[tuple[float, float]], seconds: float) -> float:
    """How many took so long at most; between two limits they are supposed to be spread evenly."""
    below, count_below = 0.0, 0.0
    for limit, count in within:
        if seconds <= limit:
            if limit == seconds:
                return count
            if limit == float("inf"):
                return count_below
            return count_below + (count - count_below) * (seconds - below) / (limit - below)
        below, count_below = limit, count
    return count_below


def _quantile(within: Sequence[tuple[float, float]], q: float) -> float | None:
    total = within[-1][1] if within else 0.0
    if total <= 0:
        return None
    rank, below, count_below = q * total, 0.0, 0.0
    for limit, count in within:
        if count >= rank and count > count_below:
            if limit == float("inf"):
                return below
            return below + (limit - below) * (rank - count_below) / (count - count_below)
        below, count_below = limit, count
    return below
