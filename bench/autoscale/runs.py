"""What came of runs on a cluster: numbers of each, and a plot of all. Pure; reads the JSON that `cluster` writes."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from bench.autoscale.svg import opened

STEP_SECONDS = 5.0
_COLOURS = {
    "signal0": ("#0969da", "#58a6ff"),
    "signal1": ("#cf222e", "#ff7b72"),
    "signal2": ("#9a6700", "#e3b341"),
    "signal3": ("#8250df", "#bc8cff"),
    "load": ("#57606a", "#8b949e"),
}
_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 300, 110, 52, 34, 34
_BLOCK = _TOP + 3 * (_HEIGHT + _GAP)


@dataclass(frozen=True)
class Summary:
    """Of one run.

    Attributes:
        violated: Share of the steps in which 99 of 100 were slower than the objective.
        slow: Share of the requests that were, or had no answer.
        replicas: Mean that were asked for.
        reversals: How often up was followed by down, or the other way.
        lost: Requests without an answer.
        again: Share of the requests that were sent more than once.
        restarts: Of containers.
        unready: Share of the looks at which fewer were ready than asked for.
    """

    service: str
    signal: str
    pattern: str
    violated: float
    slow: float
    replicas: float
    reversals: int
    lost: int
    again: float
    restarts: int
    unready: float

    def in_words(self) -> str:
        """A line."""
        return (
            f"{self.service:9} {self.pattern:11} {self.signal:10} above the objective {self.violated:4.0%} of the time, {self.slow:5.1%} slow, "
            f"{self.lost} without answer, {self.again:.1%} sent again; replicas {self.replicas:.2f}, reversals {self.reversals}, "
            f"not all ready {self.unready:.0%}, restarts {self.restarts}"
        )


def summed_up(run: Mapping[str, Any]) -> Summary:
    """See `Summary`."""
    limit = run["objective_seconds"]
    quantiles = [p99 for _, p99 in steps(run)]
    answers = [_seconds(seconds) for _, seconds, _ in run["sent"]]
    moments = [each for each in run["moments"] if each["at"] <= run["seconds"]]
    changes = [now["replicas"] - before["replicas"] for before, now in pairwise(moments)]
    directions = [change > 0 for change in changes if change]
    return Summary(
        run["service"],
        run["signal"],
        run["pattern"],
        _share(p99 > limit for p99 in quantiles),
        _share(seconds > limit for seconds in answers),
        sum(each["replicas"] for each in moments) / max(1, len(moments)),
        sum(before != now for before, now in pairwise(directions)),
        sum(math.isinf(seconds) for seconds in answers),
        _share(tries > 1 for _, _, tries in run["sent"]),
        max((sum(pod["restarts"] for pod in each["counts"]) for each in moments), default=0),
        _share(each["ready"] < each["replicas"] for each in moments),
    )


def steps(run: Mapping[str, Any]) -> Iterator[tuple[float, float]]:
    """Beginning of each step in which something was sent, and the slowest but for one of 100 of it, in seconds."""
    by_step: dict[int, list[float]] = {}
    for due, seconds, _ in run["sent"]:
        by_step.setdefault(int(due // STEP_SECONDS), []).append(_seconds(seconds))
    for number, found in sorted(by_step.items()):
        yield number * STEP_SECONDS, sorted(found)[math.ceil(0.99 * len(found)) - 1]


def _seconds(told: float) -> float:
    return math.inf if told < 0 else told


def _share(flags: Iterator[bool]) -> float:
    found = list(flags)
    return sum(found) / max(1, len(found))


def drawn(runs: Sequence[Mapping[str, Any]]) -> str:
    """An SVG: for each service and pattern what comes, replicas and the 99 % quantile over time, a line for each signal."""
    services, patterns, signals = _each(runs, "service"), _each(runs, "pattern"), _each(runs, "signal")
    width, height = len(patterns) * (_WIDTH + _LEFT) + 20, len(services) * _BLOCK + 24
    parts = opened(width, height, _COLOURS)
    for block, service in enumerate(services):
        for column, pattern in enumerate(patterns):
            found = [run for run in runs if (run["service"], run["pattern"]) == (service, pattern)]
            if found:
                parts += _column(found, column, block * _BLOCK, signals)
    for number, signal in enumerate(signals):
        x = _LEFT + number * 130
        parts.append(
            f'<path d="M{x - 8} {height - 12}h14" class="line signal{number}"/>'
            f'<text x="{x + 9}" y="{height - 8}">{signal}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


def _each(runs: Sequence[Mapping[str, Any]], field: str) -> list[str]:
    return list(dict.fromkeys(run[field] for run in runs))


def _column(runs: Sequence[Mapping[str, Any]], column: int, above: int, signals: Sequence[str]) -> list[str]:
    left = _LEFT + column * (_WIDTH + _LEFT)
    limit = runs[0]["objective_seconds"]
    came = Counter(int(due // STEP_SECONDS) for due, _, _ in runs[0]["sent"])
    rows = [
        ("requests/s", {"": [(number * STEP_SECONDS, count / STEP_SECONDS) for number, count in sorted(came.items())]}),
        (
            "replicas",
            {run["signal"]: [(each["at"], float(each["replicas"])) for each in run["moments"]] for run in runs},
        ),
        (
            "99 % quantile by objective",
            {run["signal"]: [(at, min(4.0, p99 / limit)) for at, p99 in steps(run)] for run in runs},
        ),
    ]
    title = f"{runs[0]['service']}, {runs[0]['pattern']}"
    parts = [f'<text x="{left}" y="{above + 14}" font-size="13" font-weight="bold">{title}</text>']
    for number, (name, lines) in enumerate(rows):
        parts += _panel(lines, name, left, above + _TOP + number * (_HEIGHT + _GAP), runs[0]["seconds"], signals)
    return parts


def _panel(
    lines: Mapping[str, Sequence[tuple[float, float]]],
    title: str,
    left: int,
    top: int,
    seconds: float,
    signals: Sequence[str],
) -> list[str]:
    most = max((value for line in lines.values() for _, value in line), default=1.0) or 1.0
    bottom = top + _HEIGHT
    parts = [
        f'<text x="{left}" y="{top - 5}">{title}, up to {most:.3g}</text>',
        f'<path d="M{left} {top}V{bottom}H{left + _WIDTH}" class="axis"/>',
    ]
    if title.startswith("99"):
        y = round(bottom - _HEIGHT / most, 1)
        parts.append(f'<path d="M{left} {y}H{left + _WIDTH}" class="axis dashed"/>')
    for signal, line in lines.items():
        points = "L".join(
            f"{left + _WIDTH * min(1.0, at / seconds):.1f} {bottom - _HEIGHT * value / most:.1f}" for at, value in line
        )
        line_class = f"signal{signals.index(signal)}" if signal else "load"
        parts.append(f'<path d="M{points}" class="line {line_class}"/>')
    return parts
