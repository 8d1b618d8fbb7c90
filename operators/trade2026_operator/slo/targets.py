"""Which releases of a stack scale by their objectives, and how each is now: from what watches have told. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from trade2026.stack.facts import SERVICES
from trade2026.stack.model import Bus
from trade2026.stack.units import duration_ns
from trade2026_operator.helm.releases import REPLICAS_METRIC
from trade2026_operator.reconcile.autoscalers import autoscaler_in, autoscalers_of, scaled_object_of
from trade2026_operator.reconcile.objects import Manifest, Ref, condition_of
from trade2026_operator.reconcile.readiness import UNSCHEDULABLE, of_pod
from trade2026_operator.reconcile.state import Child, Desired, ReleaseWanted
from trade2026_operator.reconcile.status import pods_in
from trade2026_operator.slo.board import Target
from trade2026_operator.slo.demand import Objective
from trade2026_operator.slo.guards import Situation


@dataclass(frozen=True)
class Scaled:
    """A release with an autoscaler.

    Attributes:
        name: Of the Helm release.
        service: Whose objective it is.
        port: Where that answers.
        workload: What has the replicas.
        most: Replicas that it may have.
    """

    target: Target
    name: str
    service: str
    port: int
    objective: Objective
    workload: Ref
    most: int
    partitions: int


class Pod(NamedTuple):
    """A process to be asked. `life` is another one each time that it starts."""

    life: str
    address: str


def scaled(stack: Manifest, desired: Desired) -> list[Scaled]:
    """The releases of a stack that scale."""
    found = [_scaled(stack, release) for release in desired.releases]
    return [each for each in found if each is not None]


def _scaled(stack: Manifest, release: ReleaseWanted) -> Scaled | None:
    autoscaler = autoscaler_in(release.manifests, REPLICAS_METRIC)
    if autoscaler is None or not autoscaler.labels:
        return None
    meta, labels = stack["metadata"], autoscaler.labels
    told = stack["spec"].get("services") or {}
    service = next((name for name in release.services if (told.get(name) or {}).get("slo")), release.services[0])
    api_version, kind, name = autoscaler.workload
    return Scaled(
        target=Target(meta["namespace"], labels["stack"], labels["release"]),
        name=release.name,
        service=service,
        port=SERVICES[service].port,
        objective=objective_of(service, told.get(service) or {}),
        workload=Ref(api_version, kind, meta["namespace"], name),
        most=autoscaler.most,
        partitions=_partitions(stack) if SERVICES[service].by_account else 0,
    )


def objective_of(service: str, told: Mapping[str, Any]) -> Objective:
    """The tightest objective of a service, or its own where the manifest has none."""
    latency = (told.get("slo") or {}).get("latency") or []
    if not latency:
        own = SERVICES[service].slo
        return Objective(own.under_ms / 1000, quantile=own.objective)
    each = [Objective(duration_ns(one["under"]) / 1e9, quantile=one.get("quantile", 0.99)) for one in latency]
    return max(each, key=lambda objective: -math.log(1 - objective.quantile) / objective.seconds)


def _partitions(stack: Manifest) -> int:
    return int((stack["spec"].get("bus") or {}).get("partitions", Bus.model_fields["partitions"].default))


def situation_of(release: Scaled, children: Mapping[Ref, Child], burn: float) -> Situation | None:
    """How a release is now; None if it is not there."""
    child = children.get(release.workload)
    if child is None:
        return None
    live, status = child.manifest, child.manifest.get("status") or {}
    replicas = live["spec"].get("replicas", 1)
    unschedulable = [found.why for pod in _pods(release, children) if (found := of_pod(pod)).reason == UNSCHEDULABLE]
    behind = status.get("observedGeneration", 0) < live["metadata"].get("generation", 0)
    rolling = behind or status.get("updateRevision") != status.get("currentRevision")
    if live["kind"] == "Deployment":
        rolling = behind or status.get("updatedReplicas", 0) < min(replicas, status.get("replicas", 0))
    return Situation(
        replicas,
        status.get("readyReplicas", 0),
        release.most,
        release.partitions,
        rolling,
        burn,
        unschedulable=tuple(unschedulable),
    )


def autoscaler_of(release: Scaled, children: Mapping[Ref, Child]) -> Manifest | None:
    """What the HPA says of itself, or what KEDA says where there is none yet, or none any more; None while nobody does."""
    namespace, name = release.target.namespace, release.name
    found = [children.get(each) for each in (*autoscalers_of(namespace, name), scaled_object_of(namespace, name))]
    return next((child.manifest for child in found if child is not None), None)


def pods_of(release: Scaled, children: Mapping[Ref, Child]) -> list[Pod]:
    """The pods of a release that have started: what others say is about their start.

    One that has too much to do may not be ready any more, and just then it has to be heard.
    """
    found: list[Pod] = []
    for pod in _pods(release, children):
        status = pod.get("status") or {}
        containers = status.get("containerStatuses") or []
        ready = condition_of(pod, "Ready")
        is_up = (ready is not None and ready["status"] == "True") or (
            bool(containers) and all(each.get("started") for each in containers)
        )
        if not is_up:
            continue
        restarts = sum(each.get("restartCount", 0) for each in containers)
        if address := status.get("podIP"):
            found.append(Pod(f"{pod['metadata']['uid']}/{restarts}", address))
    return found


def _pods(release: Scaled, children: Mapping[Ref, Child]) -> list[Manifest]:
    return [pod for name, pod in pods_in(children) if name == release.name]
