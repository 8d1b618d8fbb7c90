"""`python -m bench.autoscale.cluster`: signals beside each other on a real cluster, one after the other; it needs root and Go.

The order service, stateless or on Kafka (`services`), the same load, the same bounds; its number of replicas is set by the
real HPA, from our number or from CPU by the real metrics-server. `python -m bench.autoscale.fit` takes a service's nature for
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
from e2e.scaling import Measuring, Source, metrics_server_of, with_metrics_server
from e2e.test_scaling import Scaling

from bench.autoscale.open_load import OpenLoad
from bench.autoscale.pods import Counts, counts_of
from bench.autoscale.runs import drawn, summed_up
from bench.autoscale.services import SERVICES, Service
from trade2026.local.cluster import cluster as local
from trade2026.local.cluster import image, metrics_server
from trade2026.local.cluster.network import joined
from trade2026.local.cluster.place import NODE_IP, Place
from trade2026_operator.reconcile.objects import Manifest

UNDER, WINDOW_SECONDS = "250ms", 20.0
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
        for percent in (30, 40, 50, 70)
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
        sent: When each request was due, the seconds until its answer, -1 for none, and how often it was sent.
        refused: Codes of orders that were, which ought to be none.
    """

    service: str
    signal: str
    pattern: str
    rate: float
    seconds: float
    objective_seconds: float
    moments: list[Moment]
    sent: list[tuple[float, float, int]]
    refused: list[str]


def main(words: Sequence[str] | None = None) -> None:
    """The entry point."""
    told = _parser().parse_args(words)
    documents: list[dict[str, Any]] = []
    with _cluster() as (cluster, source):
        for pattern in told.patterns:
            for service in told.services:
                for signal in told.signals:
                    run = _run(cluster, source, SERVICES[service], signal, pattern, told.seconds)
                    documents.append(asdict(run))
                    print(summed_up(documents[-1]).in_words(), *run.refused, flush=True)
                    if told.json is not None:
                        told.json.write_text(json.dumps(documents))
    if told.plot is not None:
        told.plot.write_text(drawn(documents))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.autoscale.cluster", description=__doc__)
    parser.add_argument("--seconds", type=float, default=90.0, help="of each pattern")
    parser.add_argument("--services", nargs="+", choices=SERVICES, default=list(SERVICES))
    parser.add_argument("--signals", nargs="+", choices=SIGNALS, default=["objective", "cpu 70"])
    parser.add_argument("--patterns", nargs="+", choices=PATTERNS, default=list(PATTERNS))
    parser.add_argument("--json", type=Path, help="written after each run")
    parser.add_argument("--plot", type=Path)
    return parser


def _run(cluster: Cluster, source: Source, service: Service, signal: str, pattern: str, seconds: float) -> Run:
    """From one fresh pod on, in a namespace of its own."""
    namespace, folder = cluster.make_namespace(), Path(tempfile.mkdtemp(prefix="trade2026-bench-"))
    try:
        with service.started(cluster, namespace, folder) as objects:
            try:
                return _measured(Scaling(cluster, namespace, source), service, objects, signal, pattern, seconds)
            finally:
                cluster.remove_namespace(namespace)
                wait_for("its pods are gone", lambda: not cluster.get("pods", "-n", namespace)["items"])
    finally:
        shutil.rmtree(folder)


def _measured(
    scaling: Scaling, service: Service, objects: list[Manifest], signal: str, pattern: str, seconds: float
) -> Run:
    objects = _scaled_by(signal, objects)
    scaling.kubectl("apply", "--server-side", "--field-manager=helm", "-f", "-", given=objects)
    wait_for("external metrics are offered", scaling.offered)
    measuring = Measuring(
        scaling.cluster, scaling.namespace, objects, UNDER, WINDOW_SECONDS, LOOK_SECONDS, service.partitions
    )
    scaling.source.text = measuring.text
    moments: list[Moment] = []
    ends = threading.Event()
    share = PATTERNS[pattern]
    try:
        wait_for("a pod is ready", lambda: _replicas(measuring)[1])
        load = OpenLoad(
            scaling.cluster,
            scaling.namespace,
            service.requests,
            lambda at: service.rate * share(at / seconds),
            seconds,
            seed=1,
        )
        looking = threading.Thread(
            target=_look, args=(measuring, load, service.partitions > 0, moments, ends), daemon=True
        )
        looking.start()
        load.wait()
    finally:
        ends.set()
        measuring.close()
    sent = sorted((each.due, each.seconds if each.seconds < math.inf else -1.0, each.tries) for each in load.sent)
    refused = sorted(load.refused)
    return Run(service.name, signal, pattern, service.rate, seconds, OBJECTIVE_SECONDS, moments, sent, refused)


def _scaled_by(signal: str, objects: list[Manifest]) -> list[Manifest]:
    autoscaler = next(each for each in objects if each["kind"] == "HorizontalPodAutoscaler")
    autoscaler["spec"]["behavior"] |= BEHAVIOR
    if (metrics := SIGNALS[signal]) is not None:
        autoscaler["spec"]["metrics"] = metrics
        autoscaler["spec"]["behavior"]["scaleUp"].pop("tolerance", None)  # as an HPA on CPU has it by itself
    return objects


def _look(measuring: Measuring, load: OpenLoad, is_split: bool, moments: list[Moment], ends: threading.Event) -> None:
    while not ends.wait(LOOK_SECONDS):
        at = time.monotonic() - load.began
        pods = [each for each in measuring.seen if each["kind"] == "Pod"]
        counts = [found for pod in pods if (found := counts_of(pod, load.key, is_split)) is not None]
        moments.append(Moment(at, *_replicas(measuring), measuring.why(), counts))


def _replicas(measuring: Measuring) -> tuple[int, int]:
    """That the workload has been told to have, and that are ready."""
    workload = next((each for each in measuring.seen if each["kind"] in ("Deployment", "StatefulSet")), None)
    if workload is None:
        return 0, 0
    return workload["spec"].get("replicas", 1), workload.get("status", {}).get("readyReplicas", 0)


@contextmanager
def _cluster() -> Iterator[tuple[Cluster, Source]]:
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
            operator = Operator(cluster, namespace, folder / "operator.log")
            with metrics_server_of(cluster, namespace, source.url):
                operator.start("bench", *with_metrics_server(namespace))
                try:
                    yield cluster, source
                finally:
                    operator.kill()
                    source.close()
    finally:
        local.down(place)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
