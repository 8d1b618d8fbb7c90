"""Objects of the Kubernetes API as plain values: how one is named, and what somebody has asked of it."""

import hashlib
import json
from typing import Any, NamedTuple

Manifest = dict[str, Any]
"""An object as the API reads and writes it."""

GROUP = "trade2026.io"
API_VERSION = f"{GROUP}/v1alpha1"
STACK_LABEL = f"{GROUP}/stack"
"""Of everything that is made for a stack: the stack's name."""
MANAGED_BY = {"app.kubernetes.io/managed-by": "trade2026-operator"}
_FROM_THE_SERVER = (
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
)


class Ref(NamedTuple):
    """Where an object is."""

    api_version: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


def ref_of(manifest: Manifest) -> Ref:
    """The place of an object."""
    meta = manifest["metadata"]
    return Ref(manifest["apiVersion"], manifest["kind"], meta.get("namespace", ""), meta["name"])


def digest_of(manifest: Manifest) -> str:
    """SHA-256 of what an object says, without its status and what the server alone writes."""
    meta = {key: value for key, value in manifest.get("metadata", {}).items() if key not in _FROM_THE_SERVER}
    said = {**{key: value for key, value in manifest.items() if key != "status"}, "metadata": meta}
    return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def labels_of(manifest: Manifest) -> dict[str, str]:
    """Its labels; empty if it has none."""
    return manifest.get("metadata", {}).get("labels") or {}


def uid_of(manifest: Manifest) -> str:
    """By which an object is told from another of its name, before it or after."""
    return manifest["metadata"].get("uid", "")


def resource_version_of(manifest: Manifest) -> str:
    """In which version it was seen: each write makes another one."""
    return manifest["metadata"].get("resourceVersion", "")


def is_older(one: Manifest, other: Manifest) -> bool:
    """Whether it was made before another one."""
    return one["metadata"].get("creationTimestamp", "") < other["metadata"].get("creationTimestamp", "")


def condition_of(manifest: Manifest, kind: str) -> Manifest | None:
    """A condition in its status; None if it has none of that kind."""
    conditions = (manifest.get("status") or {}).get("conditions") or []
    return next((condition for condition in conditions if condition.get("type") == kind), None)
