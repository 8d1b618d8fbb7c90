"""Autoscalers as releases have them: Kubernetes' own, or KEDA's ScaledObject, of which KEDA makes one. Pure."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from trade2026_operator.reconcile.objects import Manifest, Ref, ref_of
from trade2026_operator.reconcile.state import Child

KINDS = ("HorizontalPodAutoscaler", "ScaledObject")
SCALED_OBJECTS = ("keda.sh", "v1alpha1", "scaledobjects", "ScaledObject")
"""Group, version, plural and kind."""


class Autoscaler(NamedTuple):
    """What a release says of its replicas.

    Attributes:
        workload: API version, kind and name of what has them.
        labels: By which the external metric is asked for; empty where none is.
    """

    least: int
    most: int
    workload: tuple[str, str, str]
    labels: dict[str, str]


def autoscaler_in(manifests: Iterable[Manifest], metric: str = "") -> Autoscaler | None:
    """That of a release; None where it has none.

    Args:
        metric: External metric of which the labels are wanted.
    """
    found = next((each for each in manifests if each["kind"] in KINDS), None)
    if found is None:
        return None
    spec = found["spec"]
    target = spec.get("scaleTargetRef") or {}
    workload = (target.get("apiVersion", ""), target.get("kind", ""), target.get("name", ""))
    if found["kind"] == "ScaledObject":
        asked = next((each["metadata"] for each in spec.get("triggers") or [] if each["type"] == "external"), {})
        labels = {name: asked[name] for name in ("stack", "release") if name in asked}
        return Autoscaler(spec.get("minReplicaCount", 1), spec.get("maxReplicaCount", 1), workload, labels)
    metrics = [each["external"]["metric"] for each in spec.get("metrics") or [] if each["type"] == "External"]
    labels = next((each["selector"]["matchLabels"] for each in metrics if each["name"] == metric), {})
    return Autoscaler(spec.get("minReplicas", 1), spec.get("maxReplicas", 1), workload, labels)


def least_of(manifests: Iterable[Manifest], children: Mapping[Ref, Child]) -> int | None:
    """Replicas that are enough, where an autoscaler has more or fewer of them: as it is now, if somebody may change that."""
    found = next((each for each in manifests if each["kind"] in KINDS), None)
    if found is None:
        return None
    child = children.get(ref_of(found))
    live = autoscaler_in((child.manifest,)) if child is not None and child.manifest.get("spec") else None
    wanted = autoscaler_in((found,))
    return live.least if live is not None else wanted.least if wanted is not None else None


def autoscalers_of(namespace: str, release: str) -> tuple[Ref, Ref]:
    """Where the HorizontalPodAutoscaler of a release may be: its own, or what KEDA makes of its ScaledObject."""
    own, kedas = release, f"keda-hpa-{release}"
    return (
        Ref("autoscaling/v2", "HorizontalPodAutoscaler", namespace, own),
        Ref("autoscaling/v2", "HorizontalPodAutoscaler", namespace, kedas),
    )


def scaled_object_of(namespace: str, release: str) -> Ref:
    """Where the ScaledObject of a release may be."""
    group, version, _, kind = SCALED_OBJECTS
    return Ref(f"{group}/{version}", kind, namespace, release)
