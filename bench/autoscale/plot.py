"""The comparison as a picture: time in violation over mean replicas, a line for each signal. Light or dark as the reader has it."""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.autoscale.svg import opened

_COLOURS = {
    "objective": ("#0969da", "#58a6ff"),
    "cpu": ("#cf222e", "#ff7b72"),
    "p99": ("#9a6700", "#e3b341"),
    "lag": ("#8250df", "#bc8cff"),
}
_NAMES = {"objective": "objective (ours)", "cpu": "CPU", "p99": "raw p99", "lag": "lag (KEDA)"}
_SLOWLY = ", slowly down"
_WIDTH, _HEIGHT, _LEFT, _TOP, _ACROSS, _WORST = 340, 240, 62, 44, 2, 0.25
"""Pixels; panels side by side; more violation than `_WORST` is drawn at it."""

Rows = Sequence[Mapping[str, Any]]


def drawn(rows: Rows, natures: Sequence[str], ringed: str) -> str:
    """An SVG with a panel for each nature of the service; the signal of that name is marked."""
    down = -(-len(natures) // _ACROSS)
    width, height = _ACROSS * (_WIDTH + _LEFT) + 24, down * (_HEIGHT + _TOP + 44) + 56
    most = max(row["replicas"] for row in rows) * 1.05
    worst = min(_WORST, max(row["violated"] for row in rows) * 1.05)
    parts = opened(width, height, _COLOURS)
    for number, nature in enumerate(natures):
        left = _LEFT + number % _ACROSS * (_WIDTH + _LEFT)
        top = _TOP + number // _ACROSS * (_HEIGHT + _TOP + 44)
        parts += _panel([row for row in rows if row["nature"] == nature], nature, (left, top), (most, worst), ringed)
    return "\n".join([*parts, *_legend(height), "</svg>", ""])


def _legend(height: int) -> list[str]:
    parts: list[str] = []
    for number, family in enumerate(_COLOURS):
        x, y = _LEFT + number * 130, height - 30
        parts.append(
            f'<circle cx="{x}" cy="{y - 4}" r="4" class="dot {family}"/><text x="{x + 9}" y="{y}">{_NAMES[family]}</text>'
        )
    parts.append(
        f'<text x="{_LEFT}" y="{height - 12}">Each dot is a setting; to the left and below is better. Ringed: ours by default. '
        "Dashed: made fewer by a tenth a minute.</text>"
    )
    return parts


def _panel(rows: Rows, title: str, corner: tuple[int, int], ends: tuple[float, float], ringed: str) -> list[str]:
    (left, top), (most, worst) = corner, ends
    bottom = top + _HEIGHT

    def at(row: Mapping[str, Any]) -> tuple[float, float]:
        x = left + _WIDTH * row["replicas"] / most
        return round(x, 1), round(top + _HEIGHT * (1 - min(worst, row["violated"]) / worst), 1)

    parts = [
        f'<text x="{left}" y="{top - 12}" font-size="13" font-weight="bold">A service {title}</text>',
        f'<path d="M{left} {top}V{bottom}H{left + _WIDTH}" class="axis"/>',
        f'<text x="{left + _WIDTH / 2}" y="{bottom + 30}" text-anchor="middle">mean replicas</text>',
        f'<text transform="translate({left - 42} {top + _HEIGHT / 2}) rotate(-90)" text-anchor="middle">time above the '
        "objective</text>",
    ]
    for tick in range(0, int(most) + 1, 4):
        x = round(left + _WIDTH * tick / most, 1)
        parts.append(f'<text x="{x}" y="{bottom + 14}" text-anchor="middle">{tick}</text>')
    for step in range(6):
        y = round(top + _HEIGHT * (1 - step / 5), 1)
        parts.append(f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{worst * step / 5:.0%}</text>')
        parts.append(f'<path d="M{left} {y}H{left + _WIDTH}" class="grid"/>')
    for family in _COLOURS:
        of_it = [row for row in rows if row["family"] == family]
        for slowly in (False, True):
            points = [at(row) for row in of_it if row["name"].endswith(_SLOWLY) == slowly]
            if not points:
                continue
            line = "L".join(f"{x} {y}" for x, y in points)
            parts.append(f'<path d="M{line}" class="line {family}{" dashed" if slowly else ""}"/>')
            parts += [f'<circle cx="{x}" cy="{y}" r="3" class="dot {family}"/>' for x, y in points]
        for x, y in (at(row) for row in of_it if row["name"] == ringed):
            parts.append(f'<circle cx="{x}" cy="{y}" r="7" class="ring {family}"/>')
    return parts
