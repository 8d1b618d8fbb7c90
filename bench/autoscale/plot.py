"""The comparison as a picture: time in violation over mean replicas, a line for each signal."""

from collections.abc import Mapping, Sequence
from typing import Any

_COLOURS = {"objective": "#0969da", "cpu": "#cf222e", "p99": "#bf8700", "lag": "#8250df"}
_NAMES = {"objective": "objective (ours)", "cpu": "CPU", "p99": "raw p99", "lag": "lag (KEDA)"}
_WIDTH, _HEIGHT, _LEFT, _TOP = 360, 260, 56, 40


def drawn(rows: Sequence[Mapping[str, Any]], natures: Sequence[str]) -> str:
    """An SVG with a panel for each nature of the service."""
    width, height = len(natures) * (_WIDTH + _LEFT) + 24, _HEIGHT + _TOP + 70
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    most = max(row["replicas"] for row in rows) * 1.05
    worst = min(1.0, max(row["violated"] for row in rows) * 1.05)
    for number, nature in enumerate(natures):
        parts += _panel([row for row in rows if row["nature"] == nature], nature, number, most, worst)
    for number, (family, colour) in enumerate(_COLOURS.items()):
        x, y = _LEFT + number * 150, height - 14
        parts.append(
            f'<circle cx="{x}" cy="{y - 4}" r="4" fill="{colour}"/><text x="{x + 9}" y="{y}">{_NAMES[family]}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


def _panel(rows: Sequence[Mapping[str, Any]], title: str, number: int, most: float, worst: float) -> list[str]:
    left = _LEFT + number * (_WIDTH + _LEFT)

    def x(replicas: float) -> float:
        return round(left + _WIDTH * replicas / most, 1)

    def y(violated: float) -> float:
        return round(_TOP + _HEIGHT * (1 - violated / worst), 1)

    bottom = _TOP + _HEIGHT
    parts = [f'<text x="{left}" y="{_TOP - 14}" font-size="13" font-weight="bold">A service {title}</text>']
    parts.append(f'<path d="M{left} {_TOP}V{bottom}H{left + _WIDTH}" fill="none" stroke="#57606a"/>')
    for tick in range(0, int(most) + 1, 2):
        parts.append(f'<text x="{x(tick)}" y="{bottom + 14}" text-anchor="middle">{tick}</text>')
    for step in range(5):
        share = worst * step / 4
        parts.append(f'<text x="{left - 6}" y="{y(share) + 4}" text-anchor="end">{share:.0%}</text>')
        parts.append(f'<path d="M{left} {y(share)}H{left + _WIDTH}" stroke="#d0d7de" stroke-width="0.5"/>')
    parts.append(f'<text x="{left + _WIDTH / 2}" y="{bottom + 30}" text-anchor="middle">mean replicas</text>')
    if number == 0:
        place = f"{left - 40} {_TOP + _HEIGHT / 2}"
        parts.append(
            f'<text transform="translate({place}) rotate(-90)" text-anchor="middle">time above the objective</text>'
        )
    for family, colour in _COLOURS.items():
        points = [(x(row["replicas"]), y(row["violated"])) for row in rows if row["family"] == family]
        line = "L".join(f"{px} {py}" for px, py in points)
        parts.append(f'<path d="M{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts += [f'<circle cx="{px}" cy="{py}" r="3.5" fill="{colour}"/>' for px, py in points]
    return parts
