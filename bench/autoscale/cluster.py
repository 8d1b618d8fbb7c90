"""`python -m bench.autoscale.cluster`: a service on a real cluster under a load that changes; it needs root and Go.

It shows the mechanism: that the number follows the load, and the pods the number. Which signal is better is shown by the
simulation; a run of minutes on a machine that others use says little of that.
"""

import argparse
import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, quantiles

from e2e.cluster import Cluster, wait_for
from e2e.machine import prepare
from e2e.scaling import Load, Measuring, Source, objects_of, values_of
from e2e.test_operator import Operator
from e2e.test_scaling import SERVER, Scaling

from trade2026.local.cluster import cluster as local
from trade2026.local.cluster import image
from trade2026.local.cluster.network import joined
from trade2026.local.cluster.place import NODE_IP, Place

SENDERS = 8
CORES, MOST, UNDER, WINDOW_SECONDS = "250m", 4, "250ms", 20.0
PATTERNS: dict[str, Callable[[float], float]] = {
    "stepped": lambda share: 0.15 if share < 0.35 else 1.0 if share < 0.75 else 0.15,
    "bursty": lambda share: 1.0 if 0.3 < share < 0.45 or 0.65 < share < 0.8 else 0.1,
    "sinusoidal": lambda share: 0.55 - 0.45 * math.cos(4 * math.pi * share),
}
"""Share of the most that the senders can send, by share of the time."""


@dataclass(frozen=True)
class Moment:
    """How it was in one second."""

    pattern: str
    at: float
    load: float
    answers: int
    p99_seconds: float
    replicas: int
    ready: int
    why: str


def main(words: Sequence[str] | None = None) -> None:
    """The entry point."""
    parser = argparse.ArgumentParser(prog="python -m bench.autoscale.cluster", description=__doc__)
    parser.add_argument("--seconds", type=float, default=90.0, help="of each pattern")
    parser.add_argument("--json", type=Path)
    told = parser.parse_args(words)
    with _scaling() as scaling:
        moments = list(_run(scaling, told.seconds))
    if told.json is not None:
        told.json.write_text(json.dumps([asdict(each) for each in moments]))


def _run(scaling: Scaling, seconds: float) -> Iterator[Moment]:
    cluster, namespace = scaling.cluster, scaling.namespace
    values = values_of(cluster.image, CORES, MOST)
    values["autoscaling"]["behavior"] = {
        "scaleDown": {"stabilizationWindowSeconds": 15}
    }  # minutes are not waited for here
    objects = objects_of(cluster, namespace, values)
    scaling.kubectl("apply", "--server-side", "--field-manager=helm", "-f", "-", given=objects)
    wait_for("external metrics are offered", scaling.offered)
    wait_for("a pod is ready", lambda: scaling.ready() > 0)
    measuring = Measuring(cluster, namespace, objects, UNDER, WINDOW_SECONDS)
    scaling.source.text = measuring.text
    share = PATTERNS["stepped"](0.0)
    load = Load(cluster, namespace, SENDERS, lambda: 0.3 * (1 / max(0.05, share) - 1))
    try:
        for name, pattern in PATTERNS.items():
            began = time.monotonic()
            mine: list[Moment] = []
            while (at := time.monotonic() - began) < seconds:
                share = pattern(at / seconds)
                before = len(load.seconds)
                time.sleep(2.0)
                answered = load.seconds[before:]
                p99 = quantiles(answered, n=100)[98] if len(answered) > 1 else 0.0
                moment = Moment(
                    name, at, share, len(answered) // 2, p99, scaling.replicas(), scaling.ready(), measuring.why()
                )
                mine.append(moment)
                yield moment
            print(_in_words(name, mine), flush=True)
    finally:
        load.close()
        measuring.close()


def _in_words(name: str, moments: Sequence[Moment]) -> str:
    busy = [each for each in moments if each.load > 0.5]
    calm = [each for each in moments if each.load <= 0.5]
    parts = [
        f"{what}: {fmean(each.answers for each in some):.0f}/s, replicas {min(each.replicas for each in some)} to "
        f"{max(each.replicas for each in some)}, p99 {fmean(each.p99_seconds for each in some) * 1000:.0f} ms"
        for what, some in (("high", busy), ("low", calm))
        if some
    ]
    return f"{name:11} {'; '.join(parts)}\n            {moments[-1].why}"


@contextmanager
def _scaling() -> Iterator[Scaling]:
    """A cluster of its own with a metrics server, and an operator beside it."""
    prepare()
    folder = Path(tempfile.mkdtemp(prefix="trade2026-bench-"))
    place = Place.at(folder / "cluster")
    try:
        local.up(place, print)
        image.build(folder / "trade2026.tar", print)
        local.load(place, folder / "trade2026.tar")
        with joined(local.require_up(place)):
            cluster = Cluster(place.kubeconfig, image.NAME, place)
            namespace, source = cluster.make_namespace(), Source(NODE_IP)
            scaling, operator = (
                Scaling(cluster, namespace, source),
                Operator(cluster, namespace, folder / "operator.log"),
            )
            scaling.install()
            operator.start("bench", "--metrics-server", f"{namespace}/{SERVER}")
            try:
                yield scaling
            finally:
                operator.kill()
                source.close()
    finally:
        local.down(place)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
