"""What the operator counts, in OpenMetrics."""

from collections import Counter
from collections.abc import Callable, Iterable

_LIMITS = (0.001, 0.005, 0.02, 0.1, 0.5, 2.5, 10.0)
"""Seconds of a look."""


class Metrics:
    """Counters of one operator."""

    def __init__(self) -> None:
        self.looks: Counter[str] = Counter()
        """By how they ended: settled, acted, failed."""
        self.writes: Counter[str] = Counter()
        """Of the API server, by verb."""
        self.corrections = 0
        self._buckets: Counter[float] = Counter()
        self._seconds, self._count = 0.0, 0
        self._gauges: dict[str, tuple[str, Callable[[], float]]] = {}

    def gauge(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        """Something that is asked when it is read."""
        self._gauges[name] = (help_text, value)

    def looked(self, seconds: float, end: str) -> None:
        """A look has ended."""
        self.looks[end] += 1
        self._seconds, self._count = self._seconds + seconds, self._count + 1
        for limit in _LIMITS:
            if seconds <= limit:
                self._buckets[limit] += 1

    def text(self, more: Iterable[str] = ()) -> str:
        """All of it, with lines of others."""
        lines = _counter("trade2026_operator_looks", "Looks at a stack", "end", self.looks)
        lines += _counter("trade2026_operator_writes", "Writes to the API server", "verb", self.writes)
        lines += _counter("trade2026_operator_corrections", "Objects put back", "", {"": self.corrections})
        name = "trade2026_operator_look_seconds"
        lines += [f"# TYPE {name} histogram", f"# UNIT {name} seconds", f"# HELP {name} How long a look took."]
        lines += [f'{name}_bucket{{le="{limit:g}"}} {self._buckets[limit]}' for limit in _LIMITS]
        lines += [
            f'{name}_bucket{{le="+Inf"}} {self._count}',
            f"{name}_sum {self._seconds}",
            f"{name}_count {self._count}",
        ]
        for gauge, (help_text, value) in self._gauges.items():
            lines += [f"# TYPE {gauge} gauge", f"# HELP {gauge} {help_text}.", f"{gauge} {value():g}"]
        return "\n".join([*lines, *more, "# EOF", ""])


def _counter(name: str, help_text: str, label: str, counts: dict[str, int] | Counter[str]) -> list[str]:
    lines = [f"# TYPE {name} counter", f"# HELP {name} {help_text}."]
    for value, count in sorted(counts.items()):
        labels = f'{{{label}="{value}"}}' if label else ""
        lines.append(f"{name}_total{labels} {count}")
    return lines
