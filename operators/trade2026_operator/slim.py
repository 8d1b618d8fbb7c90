"""What is kept in memory of the objects that watches tell of: an operator of 500 stacks knows 10,000 of them."""

from typing import Any

from trade2026_operator.keys import made_at
from trade2026_operator.reconcile.objects import GROUP, Manifest

_ALWAYS = ("apiVersion", "kind", "type")
_NAMED = ("name", "namespace", "uid", "generation", "resourceVersion", "deletionTimestamp", "ownerReferences")
"""Of the metadata: which object it is, whose, in which version, and whether it is on its way out."""
_LABELLED = ("Pod", "Deployment", "StatefulSet")
_STATEFUL = ("Pod", "Deployment", "StatefulSet", "PersistentVolumeClaim", "HorizontalPodAutoscaler", "ScaledObject")
"""Kinds whose status is looked at."""
_LONG = ("template", "volumeClaimTemplates", "containers", "initContainers", "volumes")
"""Of a spec: what is compared by digest, and read by nobody."""
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def slim_child(manifest: Manifest, *, is_whole: bool) -> Manifest:
    """An object of a stack, without what no decision reads.

    Args:
        is_whole: All of it is needed, but not who has written it.
    """
    metadata: Manifest = manifest["metadata"]
    if is_whole:
        return {**manifest, "metadata": _without(metadata, "managedFields")}
    found: Manifest = {name: manifest[name] for name in _ALWAYS if name in manifest}
    found["metadata"] = {name: metadata[name] for name in _NAMED if name in metadata}
    labels: dict[str, str] = metadata.get("labels") or {}
    if manifest["kind"] in _LABELLED:
        found["metadata"]["labels"] = labels
    elif ours := {name: value for name, value in labels.items() if name.startswith(GROUP)}:
        found["metadata"]["labels"] = ours
    if manifest["kind"] == "Secret" and (made := made_at(manifest)):
        found["metadata"]["creationTimestamp"] = made
    if manifest["kind"] in _STATEFUL:
        found["spec"] = _without(manifest.get("spec") or {}, *_LONG)
        found["status"] = manifest.get("status") or {}
    return found


def slim_stack(manifest: Manifest) -> Manifest:
    """A stack, without who has written it."""
    metadata = _without(manifest["metadata"], "managedFields")
    if annotations := metadata.get("annotations"):
        metadata["annotations"] = _without(annotations, _LAST_APPLIED)
    return {**manifest, "metadata": metadata}


def _without(said: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in said.items() if name not in names}
