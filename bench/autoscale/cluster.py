"""`python -m bench.autoscale.cluster`: signals beside each other on a real cluster, one after the other; it needs root and Go.

The order service with a log of its own in each pod, the same load, the same bounds; its number of replicas is set by the real
HPA, from our number or from CPU by the real metrics-server. `python -m bench.autoscale.fit` takes the service's nature for
the simulation from what is written here.
"""

import argparse
import json
import math
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from e2e.beside import Operator
from e2e.cluster import Cluster, wait_for
from e2e.machine import prepare
from e2e.scaling import RELEASE, Measuring, Source, objects_of, values_of
from e2e.test_scaling import SERVER, Scaling

from bench.autoscale.open_load import OpenLoad
from bench.autoscale.pods import Counts, counts_of
from bench.autoscale.runs import drawn, summed_up
from trade2026.local.cluster import cluster as local
from trade2026.local.cluster import image, metrics_server
from trade2026.local.cluster.network import joined
from trade2026.local.cluster.place import NODE_IP, Place

CORES, MOST, UNDER, WINDOW_SECONDS = "250m", 4, "250ms", 20.0
OBJECTIVE_SECONDS = 0.25
LOOK_SECONDS = 2.0
BEHAVIOR = {"scaleDown": {"stabilizationWindowSeconds": 30}}
"""Of every signal: minutes are not waited for here."""
PATTERNS: dict[str, Callable[[float], float]] = {
    "stepped": lambda share: 0.15 if share < 0.35 else 1.0 if share < 0.75 else 0.15,
    "bursty": lambda share: 1.0 if 0.3 < share < 0.45 or 0.65 < share < 0.8 else 0.1,
    "sinusoidal": lambda share: 0.55 - 0.45 * math.cos(4 * math.pi * share),
}
"""Share of the highest rate, by share of the time."""
SIGNALS: dict[str, list[dict[str, Any]] | None] = {
    "objective": None,
    **{
        f"cpu {percent}": [
            {
                "type": "Resource",
                "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent}},
            }
        ]
        for percent in (50, 70)
    },
}
"""What the HPA reads; None: our external metric. CPU is measured by what a pod may use, which is what it requests here."""


@dataclass(frozen=True)
class Moment:
    """How it was in one look, `at` seconds since the load began."""

    at: float
    replicas: int
    ready: int
    why: str
    counts: list[Counts] = field(default_factory=list[Counts])


@dataclass(frozen=True)
class Run:
    """One signal under one pattern.

    Attributes:
        sent: When each request was due, and the seconds until its answer; -1 for none.
    """

    signal: str
    pattern: str
    rate: float
    seconds: float
    objective_seconds: float
    moments: list[Moment]
    sent: list[tuple[float, float]]


def main(words: Sequence[str] | None = None) -> None:
    """The entry point."""
    told = _parser().parse_args(words)
    runs: list[Run] = []
    with _scaling() as scaling:
        for pattern in told.patterns:
            for signal in told.signals:
                run = _run(scaling, signal, pattern, told.rate, told.seconds)
                print(summed_up(asdict(run)).in_words(), flush=True)
                runs.append(run)
    documents = [asdict(run) for run in runs]
    if told.json is not None:
        told.json.write_text(json.dumps(documents))
    if told.plot is not None:
        told.plot.write_text(drawn(documents))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.autoscale.cluster", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="of each pattern")
    parser.add_argument("--rate", type=float, default=90.0, help="highest, requests a second")
    parser.add_argument("--signals", nargs="+", choices=SIGNALS, default=["objective", "cpu 70"])
    parser.add_argument("--patterns", nargs="+", choices=PATTERNS, default=list(PATTERNS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    return parser


def _run(scaling: Scaling, signal: str, pattern: str, rate: float, seconds: float) -> Run:
    """From one fresh pod on."""
    objects = _objects(scaling, signal)
    scaling.kubectl("apply", "--server-side", "--field-manager=helm", "-f", "-", given=objects)
    wait_for("external metrics are offered", scaling.offered)
    wait_for("a pod is ready", lambda: scaling.ready() > 0)
    measuring = Measuring(scaling.cluster, scaling.namespace, objects, UNDER, WINDOW_SECONDS)
    scaling.source.text = measuring.text
    moments: list[Moment] = []
    ends = threading.Event()
    share = PATTERNS[pattern]
    load = OpenLoad(scaling.cluster, scaling.namespace, lambda at: rate * share(at / seconds), seconds, seed=1)
    try:
        looking = threading.Thread(target=_look, args=(scaling, measuring, load, moments, ends), daemon=True)
        looking.start()
        load.wait()
    finally:
        ends.set()
        measuring.close()
        scaling.kubectl(
            "delete", "hpa,deployment,service", "-l", f"app.kubernetes.io/instance={RELEASE}", "--wait=true"
        )
        wait_for("its pods are gone", lambda: not _pods(scaling))
    sent = [(each.due, each.seconds if each.seconds < math.inf else -1.0) for each in load.sent]
    return Run(signal, pattern, rate, seconds, OBJECTIVE_SECONDS, moments, sorted(sent))


def _objects(scaling: Scaling, signal: str) -> list[dict[str, Any]]:
    values = values_of(scaling.cluster.image, CORES, MOST)
    values["autoscaling"]["behavior"] = BEHAVIOR
    values["containers"][0]["resources"]["requests"]["cpu"] = CORES
    objects = objects_of(scaling.cluster, scaling.namespace, values)
    autoscaler = next(each for each in objects if each["kind"] == "HorizontalPodAutoscaler")
    if (metrics := SIGNALS[signal]) is not None:
        autoscaler["spec"]["metrics"] = metrics
        autoscaler["spec"]["behavior"]["scaleUp"].pop("tolerance", None)  # as an HPA on CPU has it by itself
    return objects


def _look(scaling: Scaling, measuring: Measuring, load: OpenLoad, moments: list[Moment], ends: threading.Event) -> None:
    while not ends.wait(LOOK_SECONDS):
        at = time.monotonic() - load.began
        pods = _pods(scaling)
        counts = [found for pod in pods if (found := counts_of(pod)) is not None]
        moments.append(Moment(at, scaling.replicas(), scaling.ready(), measuring.why(), counts))


def _pods(scaling: Scaling) -> list[dict[str, Any]]:
    label = f"app.kubernetes.io/instance={RELEASE}"
    return scaling.cluster.get("pods", "-n", scaling.namespace, "-l", label)["items"]


@contextmanager
def _scaling() -> Iterator[Scaling]:
    """A cluster of its own with both servers of metrics, and an operator beside it."""
    prepare()
    folder = Path(tempfile.mkdtemp(prefix="trade2026-bench-"))
    place = Place.at(folder / "cluster")
    try:
        local.up(place, print)
        image.build(folder / "trade2026.tar", print)
        local.load(place, folder / "trade2026.tar")
        metrics_server.install(place, print)
        with joined(local.require_up(place)):
            cluster = Cluster(place.kubeconfig, image.NAME, place)
            namespace, source = cluster.make_namespace(), Source(NODE_IP)
            scaling = Scaling(cluster, namespace, source)
            operator = Operator(cluster, namespace, folder / "operator.log")
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
