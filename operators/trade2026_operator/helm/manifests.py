"""Kubernetes objects as a chart renders them: read, and marked as parts of a release, as Helm itself does."""

from collections.abc import Iterable
from typing import Any, cast

import yaml

Manifest = dict[str, Any]

FIELD_MANAGER = "helm"
"""Of what a release holds: with another one a person's upgrade or rollback stops with a conflict."""
MANAGED_BY = "app.kubernetes.io/managed-by"
RELEASE_NAME, RELEASE_NAMESPACE = "meta.helm.sh/release-name", "meta.helm.sh/release-namespace"
RESOURCE_POLICY = "helm.sh/resource-policy"
HOOK = "helm.sh/hook"

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class ManifestUnreadable(ValueError):
    """What was rendered is no list of Kubernetes objects; the message says which document."""


def parse(text: str) -> list[Manifest]:
    """The objects of a text with several documents, hooks left out: those are for Helm to run.

    Raises:
        ManifestUnreadable: a document is no object with apiVersion, kind and a name.
    """
    found: list[Manifest] = []
    try:
        documents: list[Any] = list(yaml.load_all(text, _Loader))
    except yaml.YAMLError as error:
        raise ManifestUnreadable(f"this is no YAML: {error}") from error
    for number, document in enumerate(documents):
        if document is None:
            continue
        if not _is_object(document):
            raise ManifestUnreadable(f"document {number} is no Kubernetes object: {str(document)[:80]!r}")
        if HOOK not in annotations_of(document):
            found.append(document)
    return found


def annotations_of(manifest: Manifest) -> dict[str, str]:
    """The annotations of an object; empty where there are none."""
    return manifest["metadata"].get("annotations") or {}


def is_kept(manifest: Manifest) -> bool:
    """Whether an object outlives its release: data does."""
    return annotations_of(manifest).get(RESOURCE_POLICY) == "keep"


def owned(manifests: Iterable[Manifest], release: str, namespace: str) -> list[Manifest]:
    """The same objects with the marks by which Helm takes them for parts of a release.

    An object without a namespace gets the release's, unless its kind has none.
    """
    return [_owned(manifest, release, namespace) for manifest in manifests]


_CLUSTER_WIDE = frozenset(
    {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "Namespace", "PersistentVolume", "PriorityClass"}
)


def _owned(manifest: Manifest, release: str, namespace: str) -> Manifest:
    metadata = dict(manifest["metadata"])
    metadata["labels"] = {**(metadata.get("labels") or {}), MANAGED_BY: "Helm"}
    marks = {RELEASE_NAME: release, RELEASE_NAMESPACE: namespace}
    metadata["annotations"] = {**(metadata.get("annotations") or {}), **marks}
    if manifest["kind"] not in _CLUSTER_WIDE:
        metadata.setdefault("namespace", namespace)
    return {**manifest, "metadata": metadata}


def _is_object(document: Any) -> bool:
    if not isinstance(document, dict):
        return False
    given = cast("Manifest", document)
    metadata = given.get("metadata")
    named = isinstance(metadata, dict) and isinstance(cast("Manifest", metadata).get("name"), str)
    return named and isinstance(given.get("apiVersion"), str) and isinstance(given.get("kind"), str)
