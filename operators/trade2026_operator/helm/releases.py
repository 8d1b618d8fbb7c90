"""From a plan to Helm releases: their names, and the values of the chart `trade2026-service`. Pure.

Compact placement is one pod, with a container for each of the plan's releases, which find each other on loopback and
share the volume with the log. Strategies come and go while a desk trades: they are a release of their own there, too,
in a pod that shares the volume and so stands beside the other. Any other placement has a Helm release for each of the
plan's; replicas of one are pods of one StatefulSet, which tells each its number. They share the volume, too: the order
service reads the history that the archive writes, and so all pods of a stack stand on one node.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from trade2026.stack.facts import SERVICES
from trade2026.stack.model import Service, TradingStack
from trade2026.stack.planner import Plan, Release
from trade2026.stack.units import quantity
from trade2026_operator.helm.manifests import Manifest

CHART = "trade2026-service"
MANAGER = "trade2026-operator"
"""Field manager, and label, of what the operator makes beside releases."""
STACK_LABEL = "trade2026.io/stack"
_OPERATOR: dict[str, Any] = {
    "namespaceSelector": {},
    "podSelector": {"matchLabels": {"app.kubernetes.io/name": "trade2026-operator"}},
}
"""It asks services how they are, and cancels the orders of a stack that is deleted."""
STRATEGIES = "strategies"
"""The service that runs them."""
REPLICAS_METRIC = "trade2026_required_replicas"
"""External metric by which autoscalers set replicas: how many of a release are needed, all together."""


class ReleaseError(ValueError):
    """A stack can't be made into releases; the message says what to change."""


@dataclass(frozen=True)
class Cluster:
    """What stacks are given by their cluster, whatever their manifests say."""

    image_repository: str = "trade2026"
    pull_policy: str = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()
    storage_class: str = ""
    """Empty: the cluster's default."""
    storage_size: str = "10Gi"
    storage_modes: tuple[str, ...] = ("ReadWriteOnce",)
    ephemeral: bool = False
    """Keep nothing when a pod goes: for clusters without volumes."""
    env_secrets: tuple[str, ...] = ()
    """Secrets that become environment variables, such as a broker's password."""
    files_secret: str = ""
    """Secret with the files that a manifest names by relative paths."""
    scheduling: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """`nodeSelector`, `tolerations` and `priorityClassName` of pods, each where it is given."""
    keys_digest: str = ""
    """Hash of the stack's keys, which processes read once: they start again when it changes."""
    keda_scaler: str = ""
    """Host and port of the external scaler where autoscalers are KEDA's ScaledObjects; empty: they are Kubernetes' own."""
    keda_authentication: str = ""
    """ClusterTriggerAuthentication by which KEDA knows it."""


@dataclass(frozen=True)
class HelmRelease:
    """One release of a chart."""

    name: str
    component: str
    services: tuple[str, ...]
    values: dict[str, Any]
    chart: str = CHART


def service_name(stack: str, service: str) -> str:
    """Under which name a service is found in its namespace."""
    return f"{stack}-{service.replace('_', '-')}"


def keys_name(stack: str) -> str:
    """Of the Secret with the keys of a stack: `keys.json`, their hashes, and `key`, that of its own processes."""
    return f"{stack}-keys"


def claim_name(stack: str) -> str:
    """Of the claim of the volume with everything that a stack keeps."""
    return f"{stack}-state"


def releases(stack: TradingStack, planned: Plan, cluster: Cluster) -> tuple[HelmRelease, ...]:
    """Return the Helm releases of a stack, in the order in which they are to be rolled out.

    Raises:
        ReleaseError: a strategy's code is in a file that no pod has, or pods share what is kept nowhere.
    """
    for release in planned.releases:
        _refuse_files(release)
    if stack.spec.placement == "compact":
        return _compact(stack, planned, cluster)
    if cluster.ephemeral:
        raise ReleaseError(
            f"placement {stack.spec.placement} needs a volume that its pods share, and this operator keeps nothing "
            "(--stack-ephemeral): use placement compact, or give stacks a volume"
        )
    first = {release.services: release for release in reversed(planned.releases)}
    counts = {services: sum(each.services == services for each in planned.releases) for services in first}
    kept = [release for release in planned.releases if first[release.services] is release]
    others = {STACK_LABEL: planned.stack}
    return tuple(_apart(stack, planned, release, counts[release.services], cluster, beside=others) for release in kept)


def state_claim(stack: str, namespace: str, cluster: Cluster) -> Manifest | None:
    """The claim of a stack's volume, which is no release's: it outlives them all. None where nothing is kept."""
    if cluster.ephemeral:
        return None
    spec: dict[str, Any] = {
        "accessModes": list(cluster.storage_modes),
        "resources": {"requests": {"storage": cluster.storage_size}},
    }
    if cluster.storage_class:
        spec["storageClassName"] = cluster.storage_class
    labels = {
        "app.kubernetes.io/part-of": "trade2026",
        "app.kubernetes.io/managed-by": MANAGER,
        "app.kubernetes.io/component": "state",
        STACK_LABEL: stack,
    }
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": claim_name(stack), "namespace": namespace, "labels": labels},
        "spec": spec,
    }


def _compact(stack: TradingStack, planned: Plan, cluster: Cluster) -> tuple[HelmRelease, ...]:
    shares = not cluster.ephemeral  # what is kept nowhere can't be shared: then everything is in one pod
    apart = [release for release in planned.releases if shares and release.services == (STRATEGIES,)]
    hosted = [release for release in planned.releases if release not in apart]
    values = _values(stack, planned, "stack", hosted, cluster)
    values |= {"kind": "StatefulSet", "replicas": 1, "peers": "local", "preStopSeconds": 0}
    whole = HelmRelease(planned.stack, "stack", _services(hosted), values)
    shown = {"app.kubernetes.io/name": CHART, "app.kubernetes.io/instance": whole.name}
    beside = [_apart(stack, planned, release, len(apart), cluster, beside=shown) for release in apart[:1]]
    return (whole, *beside) if hosted else tuple(beside)


def _apart(
    stack: TradingStack,
    planned: Plan,
    release: Release,
    count: int,
    cluster: Cluster,
    *,
    beside: Mapping[str, str],
) -> HelmRelease:
    component = release.name.replace("_", "-")
    values = _values(stack, planned, component, [release], cluster)
    values |= {"kind": "StatefulSet", "replicas": count, "peers": "services"}
    # On the node that has the volume. One that several nodes may mount would not do either: readers and writer of
    # SQLite's write-ahead log, in which the history is, share memory.
    term = {"labelSelector": {"matchLabels": dict(beside)}, "topologyKey": "kubernetes.io/hostname"}
    values["affinity"] = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    most = max((each.replicas.max or 1 for each in _asked(stack, release)), default=1)
    if any(SERVICES[name].by_account for name in release.services):
        most = min(most, stack.spec.bus.partitions)  # more would have nothing to do
    if most > count:
        values["autoscaling"] = {
            "enabled": True,
            "minReplicas": count,
            "maxReplicas": most,
            "metric": {"name": REPLICAS_METRIC, "labels": {"stack": planned.stack, "release": release.name}},
        }
        if cluster.keda_scaler:
            keda = {"scalerAddress": cluster.keda_scaler, "authentication": cluster.keda_authentication}
            values["autoscaling"] |= {"keda": keda}
    values["podDisruptionBudget"] = {"enabled": count > 1}
    return HelmRelease(f"{planned.stack}-{component}", component, release.services, values)


def _asked(stack: TradingStack, release: Release) -> list[Service]:
    """What the manifest says of the services of a release, where it says anything."""
    return [stack.spec.services[name] for name in release.services if name in stack.spec.services]


def _values(
    stack: TradingStack, planned: Plan, component: str, hosted: Sequence[Release], cluster: Cluster
) -> dict[str, Any]:
    storage: dict[str, Any] = {"ephemeral": True} if cluster.ephemeral else {"existingClaim": claim_name(planned.stack)}
    values: dict[str, Any] = {
        "stack": planned.stack,
        "component": component,
        "image": {
            "repository": cluster.image_repository,
            "tag": planned.version.replace("+", "_"),  # a tag has no plus; Helm writes its own versions so
            "pullPolicy": cluster.pull_policy,
            "pullSecrets": list(cluster.pull_secrets),
        },
        "containers": [_container(stack, planned, release) for release in hosted],
        "keysSecret": keys_name(planned.stack),
        "storage": storage,
        "networkPolicy": {"enabled": True, "ingressFrom": [_OPERATOR], "egressPorts": sorted(_foreign_ports(hosted))},
    }
    if cluster.keys_digest:
        values["podAnnotations"] = {"checksum/keys": cluster.keys_digest}
    if cluster.env_secrets:
        values["envSecrets"] = list(cluster.env_secrets)
    if cluster.files_secret:
        values["filesSecret"] = cluster.files_secret
    return {**values, **cluster.scheduling}


def _container(stack: TradingStack, planned: Plan, release: Release) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": release.name.replace("_", "-"),
        # Text, because Helm keeps numbers as floats in its records: an amount beyond 2^53 would be another one.
        "settings": json.dumps(release.settings, sort_keys=True, separators=(",", ":"), ensure_ascii=False),
        "ports": [{"name": name, "port": port} for name, port in planned.ports_of(release).items()],
    }
    if resources := _resources(_asked(stack, release)):
        container["resources"] = resources
    return container


def _resources(asked: Sequence[Service]) -> dict[str, dict[str, str]]:
    """Of one process: what its services ask for, summed up. What none of them names is the chart's to say: nothing."""
    found: dict[str, dict[str, str]] = {}
    for kind in ("requests", "limits"):
        for resource in ("cpu", "memory"):
            amounts: list[str | int | None] = [getattr(getattr(each.resources, kind), resource) for each in asked]
            if named := [str(amount) for amount in amounts if amount is not None]:
                found.setdefault(kind, {})[resource] = named[0] if len(named) == 1 else _sum(named)
    return found


def _sum(amounts: Sequence[str]) -> str:
    """Quantities of Kubernetes, added: whole where they are, else in thousandths."""
    total = sum((quantity(amount) for amount in amounts), Decimal(0))
    return str(int(total)) if total == int(total) else f"{int(total * 1000)}m"


def _services(hosted: Sequence[Release]) -> tuple[str, ...]:
    return tuple(service for release in hosted for service in release.services)


_BROKER_PORT = re.compile(r":(\d+)$")


def _foreign_ports(hosted: Sequence[Release]) -> set[int]:
    """Where processes go beyond their stack: brokers, stores, traces. A network policy knows ports, but no names."""
    found: set[int] = set()
    for release in hosted:
        brokers = release.settings["bus"].get("kafka", {}).get("bootstrap_servers", "")
        found |= {int(port[1]) for each in brokers.split(",") if (port := _BROKER_PORT.search(each))}
        stores = [store.get(key, "") for store in release.settings["stores"].values() for key in ("url", "endpoint")]
        found |= {port for url in [*stores, release.settings["otlp_endpoint"]] if (port := _port(url))}
    return found


_DEFAULT_PORTS = {"http": 80, "https": 443, "redis": 6379, "rediss": 6379, "s3": 443}


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)


def _refuse_files(release: Release) -> None:
    for strategy in release.settings["config"].get("strategies", {}).get("strategies", ()):
        if strategy.get("file"):
            raise ReleaseError(
                f"strategy {strategy['name']}: source.file is a file beside the manifest, which no pod has: "
                "put the class into the image and name it by source.class"
            )
