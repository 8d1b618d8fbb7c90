"""`python -m bench.autoscale`: the comparison of signals, as a table, numbers and a plot."""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from bench.autoscale.loads import HELD_OUT, HELD_OUT_SEEDS, TUNING, TUNING_SEEDS
from bench.autoscale.plant import Nature
from bench.autoscale.plot import drawn
from bench.autoscale.signals import Cpu, Lag, Ours, RawP99, Signal
from bench.autoscale.simulate import Outcome, run
from trade2026_operator.slo.demand import Objective

OBJECTIVE_SECONDS = 0.150
NATURES = {
    "as one queue": Nature(),
    "another than supposed": Nature(spread=1.3, floor_seconds=0.020, slower_after=0.5, slower=1.25),
}
"""The second has a longer tail, a part that no replica can make faster, and becomes slower midway."""
SIGNALS: dict[str, Sequence[Callable[[], Signal]]] = {
    "objective": [lambda h=h: Ours(Objective(OBJECTIVE_SECONDS, headroom=h)) for h in (0.9, 0.8, 0.7, 0.6)],
    "cpu": [lambda t=t: Cpu(t) for t in (0.8, 0.7, 0.6, 0.5, 0.4)],
    "p99": [lambda t=t: RawP99(OBJECTIVE_SECONDS, t) for t in (1.0, 0.8, 0.6)],
    "lag": [lambda t=t: Lag(t) for t in (10.0, 5.0, 2.0, 1.0)],
}


@dataclass(frozen=True)
class Row:
    """Means over all seeds."""

    nature: str
    family: str
    name: str
    violated: float
    slow: float
    replicas: float
    reversals: float


def main(words: Sequence[str] | None = None) -> None:
    """The entry point."""
    told = _parser().parse_args(words)
    rows: list[Row] = []
    loads, seeds = (HELD_OUT, HELD_OUT_SEEDS) if told.held_out else (TUNING, TUNING_SEEDS)
    natures = NATURES | _fitted(told.nature)
    for nature_name, nature in natures.items():
        for family, makes in SIGNALS.items():
            for make in makes:
                outcomes = [
                    run(make(), nature, load(seed, told.minutes * 60), seed, OBJECTIVE_SECONDS)
                    for load in loads.values()
                    for seed in seeds[: told.seeds]
                ]
                row = _row(nature_name, family, make().name, outcomes)
                rows.append(row)
                print(
                    f"{row.nature:22} {row.name:32} violated {row.violated:6.1%}  slow {row.slow:6.2%}  "
                    f"replicas {row.replicas:5.2f}  reversals {row.reversals:4.1f}",
                    flush=True,
                )
    if told.json is not None:
        told.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    if told.plot is not None:
        told.plot.write_text(drawn([asdict(row) for row in rows], list(natures)))


def _fitted(path: Path | None) -> Mapping[str, Nature]:
    """The nature that `fit` has written."""
    return {} if path is None else {"fitted to the cluster": Nature(**json.loads(path.read_text())["nature"])}


def _row(nature: str, family: str, name: str, outcomes: Sequence[Outcome]) -> Row:
    return Row(
        nature,
        family,
        name,
        *(fmean(getattr(each, field) for each in outcomes) for field in ("violated", "slow", "replicas", "reversals")),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.autoscale", description=__doc__)
    parser.add_argument("--seeds", type=int, default=8, help="of each load, at most")
    parser.add_argument("--held-out", action="store_true", help="loads and seeds that no rule was tuned on")
    parser.add_argument(
        "--nature", type=Path, help="a third service, as `python -m bench.autoscale.fit` has written it"
    )
    parser.add_argument("--minutes", type=float, default=80.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    return parser


if __name__ == "__main__":
    main()
