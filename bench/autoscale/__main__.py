"""`python -m bench.autoscale`: the comparison of signals, as a table, numbers and a plot."""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from bench.autoscale.loads import COMPARED, COMPARED_SEEDS, HELD_OUT, HELD_OUT_SEEDS, TUNING, TUNING_SEEDS
from bench.autoscale.plant import Nature
from bench.autoscale.plot import drawn
from bench.autoscale.signals import SLOW, USUAL, Cpu, Lag, Ours, RawP99, Signal
from bench.autoscale.simulate import Outcome, run
from trade2026_operator.slo.demand import Objective

OBJECTIVE_SECONDS = 0.150
NATURES = {
    "as one queue": Nature(),
    "another than supposed": Nature(spread=1.3, floor_seconds=0.020, slower_after=0.5, slower=1.25),
    "whose queue is seen": Nature(
        service_seconds=0.008, spread=0.5, floor_seconds=0.005, start_seconds=10.0, told_share=1.0
    ),
}
"""Of the first two half of what waits is in sockets; the second has a longer tail, a part that no replica can make faster, and
becomes slower midway. The third is as a fold of a log, of which all knows how far it is behind."""
SPARES = (0.5, 1.0, 1.5, 2.5)
DEFAULT = Ours(Objective(OBJECTIVE_SECONDS)).name
SIGNALS: Mapping[str, Sequence[Callable[[], Signal]]] = {
    "objective": [lambda room=room: Ours(Objective(OBJECTIVE_SECONDS, spare=room)) for room in SPARES],
    "cpu": [lambda t=t, b=b: Cpu(t, b) for b in (USUAL, SLOW) for t in (0.8, 0.7, 0.6, 0.5, 0.4)],
    "p99": [lambda t=t, b=b: RawP99(OBJECTIVE_SECONDS, t, b) for b in (USUAL, SLOW) for t in (1.0, 0.8, 0.6)],
    "lag": [lambda t=t, b=b: Lag(t, b) for b in (USUAL, SLOW) for t in (10.0, 5.0, 2.0, 1.0)],
}

LOADS = {
    "tuning": (TUNING, TUNING_SEEDS),
    "compared": (COMPARED, COMPARED_SEEDS),
    "held-out": (HELD_OUT, HELD_OUT_SEEDS),
}

_RATES = {name: rates for loads, _ in LOADS.values() for name, rates in loads.items()}


@dataclass(frozen=True)
class Row:
    """Means over all loads and seeds."""

    nature: str
    family: str
    name: str
    violated: float
    slow: float
    replicas: float
    reversals: float

    def in_words(self) -> str:
        """A line."""
        return (
            f"{self.nature:22} {self.name:44} violated {self.violated:6.1%}  slow {self.slow:6.2%}  "
            f"replicas {self.replicas:5.2f}  reversals {self.reversals:4.1f}"
        )


class _Job(NamedTuple):
    nature: Nature
    family: str
    which: int
    load: str
    seed: int
    seconds: float


def main(words: Sequence[str] | None = None) -> None:
    """The entry point."""
    told = _parser().parse_args(words)
    loads, seeds = LOADS[told.loads]
    natures = {**NATURES, **_fitted(told.nature)}
    rows: list[Row] = []
    with ProcessPoolExecutor(told.processes) as pool:
        for nature_name, nature in natures.items():
            for family, makes in SIGNALS.items():
                for which, make in enumerate(makes):
                    jobs = [
                        _Job(nature, family, which, load, seed, told.minutes * 60)
                        for load in loads
                        for seed in seeds[: told.seeds]
                    ]
                    rows.append(_row(nature_name, family, make().name, list(pool.map(_outcome, jobs))))
                    print(rows[-1].in_words(), flush=True)
    for nature_name in natures:
        for line in compared([row for row in rows if row.nature == nature_name], DEFAULT):
            print(f"{nature_name:22} {line}")
    if told.json is not None:
        told.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    if told.plot is not None:
        told.plot.write_text(drawn([asdict(row) for row in rows], list(natures), DEFAULT))


def compared(rows: Sequence[Row], mine: str) -> Iterator[str]:
    """Whom of one nature the signal of that name beats, and who beats it."""
    own = next(row for row in rows if row.name == mine)
    others = [row for row in rows if row.family != own.family]
    for family in dict.fromkeys(row.family for row in others):
        of_it = [row for row in others if row.family == family]
        worse = sum(row.violated >= own.violated and row.replicas >= own.replicas for row in of_it)
        better = [row.name for row in of_it if row.violated <= own.violated and row.replicas <= own.replicas]
        said = (
            f"less violation with fewer replicas than it have: {', '.join(better)}"
            if better
            else "none is better in both"
        )
        yield f"{family}: of {len(of_it)} settings {worse} are worse in both than the default; {said}"


def _outcome(job: _Job) -> Outcome:
    signal = SIGNALS[job.family][job.which]()
    rates = _RATES[job.load](job.seed, job.seconds)
    return run(signal, job.nature, rates, job.seed, OBJECTIVE_SECONDS)


def _fitted(paths: Sequence[Path]) -> Mapping[str, Nature]:
    """The natures that `fit` has written, by the names of their files."""
    return {f"fitted: {path.stem}": Nature(**json.loads(path.read_text())["nature"]) for path in paths}


def _row(nature: str, family: str, name: str, outcomes: Sequence[Outcome]) -> Row:
    return Row(
        nature,
        family,
        name,
        *(fmean(getattr(each, field) for each in outcomes) for field in ("violated", "slow", "replicas", "reversals")),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.autoscale", description=__doc__)
    parser.add_argument("--seeds", type=int, default=4, help="of each load, at most")
    parser.add_argument(
        "--loads", choices=LOADS, default="tuning", help="by which rules were tuned, compared, or neither (held out)"
    )
    parser.add_argument(
        "--nature",
        type=Path,
        nargs="+",
        default=[],
        help="more services, as `python -m bench.autoscale.fit` writes them",
    )
    parser.add_argument("--minutes", type=float, default=40.0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    return parser


if __name__ == "__main__":
    main()
