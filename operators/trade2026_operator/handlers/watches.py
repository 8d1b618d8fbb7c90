"""What is watched: stacks, and everything that carries the label of one."""

import os
from pathlib import Path
from typing import Any

import kopf

from trade2026_operator.cache import Cache
from trade2026_operator.reconcile.objects import GROUP, STACK_LABEL

CHILDREN = (
    ("", "v1", "configmaps", "ConfigMap"),
    ("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim"),
    ("", "v1", "pods", "Pod"),
    ("", "v1", "secrets", "Secret"),
    ("", "v1", "serviceaccounts", "ServiceAccount"),
    ("", "v1", "services", "Service"),
    ("apps", "v1", "deployments", "Deployment"),
    ("apps", "v1", "statefulsets", "StatefulSet"),
    ("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler"),
    ("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy"),
    ("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget"),
)
"""Group, version, plural and kind of what a stack is made of."""


def registry_of(cache: Cache, kubeconfig: Path | None = None) -> kopf.OperatorRegistry:
    """The handlers of one operator.

    Args:
        kubeconfig: How it gets in; None: as the service account of its pod.
    """
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**told: Any) -> kopf.ConnectionInfo | None:
        if kubeconfig is None:
            return kopf.login_with_service_account(**told)
        os.environ["KUBECONFIG"] = str(kubeconfig)
        return kopf.login_with_kubeconfig(**told)

    @kopf.on.event(GROUP, "v1alpha1", "tradingstacks", registry=registry)
    async def stack(event: kopf.RawEvent, **_: Any) -> None:
        found = dict(event["object"])
        cache.stack_gone(found) if event["type"] == "DELETED" else cache.stack_seen(found)

    for group, version, plural, kind in CHILDREN:
        api_version = f"{group}/{version}" if group else version
        _watch(registry, cache, group, version, plural, {"apiVersion": api_version, "kind": kind})
    return registry


def _watch(
    registry: kopf.OperatorRegistry, cache: Cache, group: str, version: str, plural: str, named: dict[str, str]
) -> None:
    @kopf.on.event(group, version, plural, labels={STACK_LABEL: kopf.PRESENT}, id=plural, registry=registry)
    async def child(event: kopf.RawEvent, **_: Any) -> None:
        found = {**event["object"], **named}  # a list leaves out what kind its items are
        cache.child_gone(found) if event["type"] == "DELETED" else cache.child_seen(found)


def settings() -> kopf.OperatorSettings:
    """How kopf is to watch: it writes nothing, on no object."""
    found = kopf.OperatorSettings()
    found.posting.enabled = False
    found.peering.standalone = True
    found.watching.connect_timeout = 10
    found.watching.server_timeout = 600
    found.queueing.worker_limit = 8
    return found
