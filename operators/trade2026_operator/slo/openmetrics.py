"""The same numbers in OpenMetrics, for Prometheus and whoever serves external metrics out of it. Pure."""

from collections.abc import Iterator

from trade2026_operator.helm.releases import REPLICAS_METRIC
from trade2026_operator.slo.board import Board, NotKnown


def demand_lines(board: Board, now: float) -> Iterator[str]:
    """A gauge for each release whose number is known; a missing one is no zero."""
    yield f"# TYPE {REPLICAS_METRIC} gauge"
    yield f"# HELP {REPLICAS_METRIC} Replicas that a release needs to keep its objectives."
    for target, _ in sorted(board.items()):
        try:
            value = board.asked(target, now)
        except NotKnown:
            continue
        labels = ",".join(f'{name}="{text}"' for name, text in target._asdict().items())
        yield f"{REPLICAS_METRIC}{{{labels}}} {value:.3f}"
