"""Counters, gauges and latency histograms, and their text for whoever scrapes (OpenMetrics 1.0).

A histogram is cheap where it is fed and precise where it is read: its buckets are about 6 % wide, so a
quantile is within about 3 %; the text shows a standard set of wider ones, whose limits are exact.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from trade2026.kit.clock import Clock, WallClock

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
WINDOW_SECONDS = 10
TICKS_PER_WINDOW = 5

_SECOND = 1_000_000_000
_SHOWN_NS = tuple(
    int(ms * 1_000_000) for ms in (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000)
)
_BUCKETS_PER_OCTAVE = 16
_OCTAVES = range(7, 37)
"""From 128 ns to 137 s; what is longer falls into one last bucket."""


def _limits() -> tuple[int, ...]:
    linear = {
        (1 << octave) * (_BUCKETS_PER_OCTAVE + n) // _BUCKETS_PER_OCTAVE for octave in _OCTAVES for n in range(16)
    }
    return tuple(sorted(linear.union(_SHOWN_NS)))


_LIMITS_NS = _limits()
_SHOWN = tuple((ns, bisect_left(_LIMITS_NS, ns)) for ns in _SHOWN_NS)

_FINER_NS = (100_000, 60_000_000_000)
_FINER = tuple(
    index
    for index, ns in enumerate(_LIMITS_NS)
    if ns in _SHOWN_NS or (index % 4 == 0 and _FINER_NS[0] <= ns <= _FINER_NS[1])
)
"""Every fourth limit, from 0.1 ms to a minute, and those that are shown anyway."""

Labels = tuple[tuple[str, str], ...]


class Counter:
    """Only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self, n: int = 1) -> None:
        """Count `n` more."""
        self.value += n


class LatencyHistogram:
    """Durations in nanoseconds."""

    __slots__ = ("_counts", "_exemplars", "_past", "max_ns", "sum_ns")

    def __init__(self) -> None:
        self.sum_ns = 0
        self.max_ns = 0
        self._counts = [0] * (len(_LIMITS_NS) + 1)
        self._past: deque[list[int]] = deque([self._counts.copy()], maxlen=TICKS_PER_WINDOW)
        self._exemplars: dict[int, tuple[str, int]] = {}

    @property
    def count(self) -> int:
        """How many were observed since the start."""
        return sum(self._counts)

    def observe_ns(self, ns: int, trace_id: str | None = None) -> None:
        """Add one duration; `trace_id` makes it the example of its bucket in the text."""
        self._counts[bisect_left(_LIMITS_NS, ns)] += 1
        self.sum_ns += ns
        if ns > self.max_ns:
            self.max_ns = ns
        if trace_id:
            self._exemplars[bisect_left(_SHOWN_NS, ns)] = (trace_id, ns)

    def quantile(self, q: float, window: bool = False) -> int | None:
        """Return a quantile in nanoseconds, or None if nothing was observed.

        Args:
            q: From 0 to 1.
            window: Of the last `WINDOW_SECONDS` (while `Metrics.tick` is called), not since the start.
        """
        assert 0 <= q <= 1
        counts = self._counts
        if window:
            counts = [now - then for now, then in zip(counts, self._past[0], strict=True)]
        rank = q * sum(counts)
        seen = 0
        for index, count in enumerate(counts):
            seen += count
            if count and seen >= rank:
                return self._middle(index)
        return None

    def tick(self) -> None:
        """Move the window on by one step."""
        self._past.append(self._counts.copy())

    def lines(self, name: str, labels: Labels) -> Iterator[str]:
        """Its samples as OpenMetrics text."""
        seen = start = 0
        shown = [*_SHOWN, (0, len(_LIMITS_NS))]
        for position, (ns, index) in enumerate(shown):
            seen += sum(self._counts[start : index + 1])
            start = index + 1
            limit = repr(ns / _SECOND) if ns else "+Inf"
            line = f"{name}_bucket{_text((*labels, ('le', limit)))} {seen}"
            exemplar = self._exemplars.get(position)
            if exemplar is not None:
                line += f' # {{trace_id="{exemplar[0]}"}} {exemplar[1] / _SECOND!r}'
            yield line
        yield f"{name}_count{_text(labels)} {seen}"
        yield f"{name}_sum{_text(labels)} {self.sum_ns / _SECOND!r}"

    def _middle(self, index: int) -> int:
        if index == len(_LIMITS_NS):
            return self.max_ns
        below = _LIMITS_NS[index - 1] if index else 0
        return min((below + _LIMITS_NS[index]) // 2, self.max_ns)


class MergedHistogram:
    """Several histograms as one, whose limits are 19 % apart at most.

    It is put together when somebody reads it, so that it costs nothing where its parts are fed. Who computes quantiles
    from the text, over many processes and a window of his own, needs limits as close as these.
    """

    __slots__ = ("_parts",)

    def __init__(self, parts: Callable[[], Iterable[LatencyHistogram]]) -> None:
        self._parts = parts

    def lines(self, name: str, labels: Labels) -> Iterator[str]:
        """Its samples as OpenMetrics text."""
        counts, sum_ns = [0] * (len(_LIMITS_NS) + 1), 0
        for part in self._parts():
            sum_ns += part.sum_ns
            counts = [ours + theirs for ours, theirs in zip(counts, part._counts, strict=True)]
        seen = start = 0
        for index in _FINER:
            seen += sum(counts[start : index + 1])
            start = index + 1
            yield f"{name}_bucket{_text((*labels, ('le', repr(_LIMITS_NS[index] / _SECOND))))} {seen}"
        seen += sum(counts[start:])
        yield f"{name}_bucket{_text((*labels, ('le', '+Inf')))} {seen}"
        yield f"{name}_count{_text(labels)} {seen}"
        yield f"{name}_sum{_text(labels)} {sum_ns / _SECOND!r}"


Metric = Counter | LatencyHistogram | MergedHistogram | Callable[[], float]


class _Family:
    def __init__(self, kind: str, help: str) -> None:
        self.kind, self.help = kind, help
        self.members: dict[Labels, Metric] = {}


class Metrics:
    """All metrics of one process.

    The same name and labels always give the same metric. A name has one kind and one help text.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or WallClock()
        self._families: dict[str, _Family] = {}
        self._ticked_ns = self._clock.now()

    def histogram(self, name: str, help: str, **labels: str) -> LatencyHistogram:
        """Return a histogram; its name ends in `_seconds`."""
        assert name.endswith("_seconds"), f"{name}: durations are shown in seconds"
        return self._member(name, "histogram", help, labels, LatencyHistogram)  # type: ignore[return-value]

    def merged(self, name: str, help: str, parts: Callable[[], Iterable[LatencyHistogram]], **labels: str) -> None:
        """Show histograms that are there anyway as one more."""
        self._member(name, "histogram", help, labels, lambda: MergedHistogram(parts))

    def counted(self, name: str, help: str, fn: Callable[[], float], **labels: str) -> None:
        """Show as a counter what `fn` returns, which only grows."""
        assert name.endswith("_total"), f"{name}: a counter ends in _total"
        self._member(name, "counter", help, labels, lambda: fn)

    def counter(self, name: str, help: str, **labels: str) -> Counter:
        """Return a counter; its name ends in `_total`."""
        assert name.endswith("_total"), f"{name}: a counter ends in _total"
        return self._member(name, "counter", help, labels, Counter)  # type: ignore[return-value]

    def gauge(self, name: str, help: str, fn: Callable[[], float], **labels: str) -> None:
        """Show what `fn` returns whenever somebody looks."""
        self._member(name, "gauge", help, labels, lambda: fn)

    def tick(self) -> None:
        """Move the windows on; call it at least once a second."""
        now = self._clock.now()
        if now - self._ticked_ns < WINDOW_SECONDS * _SECOND // TICKS_PER_WINDOW:
            return
        self._ticked_ns = now
        for family in self._families.values():
            for metric in family.members.values():
                if isinstance(metric, LatencyHistogram):
                    metric.tick()

    def text(self, service: str | None = None) -> str:
        """Return everything as OpenMetrics text, or only what no other service than this one is labelled with."""
        lines: list[str] = []
        for name, family in sorted(self._families.items()):
            shown = [
                (labels, metric)
                for labels, metric in family.members.items()
                if service is None or dict(labels).get("service", service) == service
            ]
            if not shown:
                continue
            lines.append(f"# TYPE {name.removesuffix('_total')} {family.kind}")
            if family.kind == "histogram":
                lines.append(f"# UNIT {name} seconds")
            lines.append(f"# HELP {name.removesuffix('_total')} {_escape(family.help)}")
            for labels, metric in shown:
                if isinstance(metric, LatencyHistogram | MergedHistogram):
                    lines.extend(metric.lines(name, labels))
                else:
                    value = metric.value if isinstance(metric, Counter) else metric()
                    lines.append(f"{name}{_text(labels)} {int(value) if isinstance(value, bool) else value}")
        return "\n".join([*lines, "# EOF", ""])

    def _member(self, name: str, kind: str, help: str, labels: dict[str, str], make: Callable[[], Metric]) -> Metric:
        family = self._families.setdefault(name, _Family(kind, help))
        assert family.kind == kind, f"{name} is a {family.kind}"
        key = tuple(sorted(labels.items()))
        if key not in family.members:
            family.members[key] = make()
        return family.members[key]


def _text(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
