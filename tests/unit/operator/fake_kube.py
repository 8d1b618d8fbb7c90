"""An API server in memory: versions, server-side apply with field owners, preconditions, deletion in the foreground.

It is for speed; what it does is held to the real one by the tests on a cluster.
"""

import itertools
import pickle
from typing import Any

from trade2026_operator.kube import Conflict, KubeError, NotFound, Refused
from trade2026_operator.reconcile.objects import Manifest, Ref, labels_of, ref_of

_WITHOUT_OWNERS = ("apiVersion", "kind", "metadata", "status")


def copied(value: Any) -> Any:
    """As over a wire: the same, and no part of it shared. Many times as quick as `copy.deepcopy`."""
    return pickle.loads(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))


class FakeKube:
    """See `Kube`. `calls` has every write; `fail_at` makes the write of that number fail, done or not, and `failures` says
    how many have."""

    def __init__(self) -> None:
        self.objects: dict[Ref, Manifest] = {}
        self.calls: list[tuple[str, Ref]] = []
        self.fail_at: int | None = None
        self.failures = 0
        self.fails_after = False
        """The write that fails was done all the same."""
        self.refuses: dict[Ref, str] = {}
        self.reads = 0
        self._versions = itertools.count(1)
        self._uids = itertools.count(1)

    # ── what the operator asks ──────────────────────────────────────────────────────────────

    async def get(self, ref: Ref) -> Manifest | None:
        self.reads += 1
        return copied(self.objects.get(ref))

    async def listed(self, api_version: str, kind: str, namespace: str, selector: str = "") -> list[Manifest]:
        self.reads += 1
        wanted = dict(pair.split("=") for pair in selector.split(",") if pair)
        return [
            copied(found)
            for ref, found in self.objects.items()
            if (ref.api_version, ref.kind) == (api_version, kind)
            and namespace in ("", ref.namespace)
            and wanted.items() <= labels_of(found).items()
        ]

    async def apply(self, manifest: Manifest, manager: str, *, dry_run: bool = False) -> Manifest:
        ref = ref_of(manifest)
        if ref in self.refuses:
            raise Refused(422, "Invalid", self.refuses[ref])
        with _Call(self, "apply", ref):
            before = self.objects.get(ref)
            self._same_version(before or {"metadata": {"resourceVersion": None}}, manifest)
            after = copied(before) if before is not None else self._new(manifest)
            _merge(after, _said(manifest))
            owners = [entry for entry in after["metadata"].get("managedFields", []) if entry["manager"] != manager]
            mine = {"manager": manager, "operation": "Apply", "fieldsV1": _fields(_said(manifest))}
            for other in owners:
                _disown(other["fieldsV1"], mine["fieldsV1"])
            after["metadata"]["managedFields"] = [*owners, mine]
            if before is None or before != after:
                self._stored(ref, after)
            return copied(self.objects[ref])

    async def create(self, manifest: Manifest) -> Manifest:
        ref = ref_of(manifest)
        with _Call(self, "create", ref):
            if ref in self.objects:
                raise Conflict(409, "AlreadyExists", f"{ref} already exists")
            self._stored(ref, {**self._new(manifest), **copied(manifest), "metadata": self._new(manifest)["metadata"]})
            return copied(self.objects[ref])

    async def replace(self, manifest: Manifest) -> Manifest:
        ref = ref_of(manifest)
        with _Call(self, "replace", ref):
            before = self._required(ref)
            self._same_version(before, manifest)
            kept = {name: before["metadata"][name] for name in ("uid", "generation")}
            self._stored(ref, {**copied(manifest), "metadata": {**manifest["metadata"], **kept}})
            return copied(self.objects[ref])

    async def merge(self, ref: Ref, patch: dict[str, Any], subresource: str = "") -> Manifest:
        with _Call(self, f"merge {subresource}".strip(), ref):
            before = self._required(ref)
            self._same_version(before, patch)
            after, wanted = copied(before), copied(patch)
            wanted.get("metadata", {}).pop("resourceVersion", None)
            _merge(after, wanted)
            if before != after:
                self._stored(ref, after)
            if after["metadata"].get("deletionTimestamp") and not after["metadata"].get("finalizers"):
                return self.objects.pop(ref)
            return copied(self.objects[ref])

    async def delete(self, ref: Ref, uid: str = "") -> None:
        with _Call(self, "delete", ref):
            found = self.objects.get(ref)
            if found is not None and uid in ("", found["metadata"]["uid"]):
                self.gone(ref)

    # ── what happens in a cluster ───────────────────────────────────────────────────────────

    def edit(self, ref: Ref, change: dict[str, Any], manager: str = "kubectl-edit") -> None:
        """Somebody else writes fields, and owns them from then on."""
        after = copied(self.objects[ref])
        _merge(after, change)
        fields = _fields(change)
        for entry in after["metadata"].get("managedFields", []):
            _disown(entry["fieldsV1"], fields)
        after["metadata"].setdefault("managedFields", []).append(
            {"manager": manager, "operation": "Update", "fieldsV1": fields}
        )
        self._stored(ref, after)

    def tell(self, ref: Ref, status: dict[str, Any]) -> None:
        """A controller writes a status."""
        self._stored(ref, {**copied(self.objects[ref]), "status": status})

    def gone(self, ref: Ref) -> None:
        """An object is deleted, with what it owns."""
        found = self.objects.pop(ref)
        for other in [
            other
            for other, each in self.objects.items()
            if any(owner["uid"] == found["metadata"]["uid"] for owner in each["metadata"].get("ownerReferences", []))
        ]:
            self.gone(other)

    def _new(self, manifest: Manifest) -> Manifest:
        metadata = {**copied(manifest["metadata"]), "uid": f"uid-{next(self._uids)}", "generation": 0}
        return {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "metadata": metadata}

    def _stored(self, ref: Ref, after: Manifest) -> None:
        before = self.objects.get(ref)
        asked = {key: value for key, value in after.items() if key not in _WITHOUT_OWNERS}
        if before is None or asked != {key: value for key, value in before.items() if key not in _WITHOUT_OWNERS}:
            after["metadata"]["generation"] = after["metadata"].get("generation", 0) + 1
        after["metadata"]["resourceVersion"] = str(next(self._versions))
        self.objects[ref] = after

    def _required(self, ref: Ref) -> Manifest:
        if ref not in self.objects:
            raise NotFound(404, "NotFound", f"{ref} not found")
        return self.objects[ref]

    def _same_version(self, before: Manifest, given: Manifest) -> None:
        wanted = given.get("metadata", {}).get("resourceVersion")
        if wanted not in (None, before["metadata"]["resourceVersion"]):
            raise Conflict(409, "Conflict", "the object has been modified")


class _Call:
    """Counts a write, and fails the one that is to fail."""

    def __init__(self, kube: FakeKube, verb: str, ref: Ref) -> None:
        self._kube, self._verb, self._ref = kube, verb, ref

    def __enter__(self) -> None:
        self._fails = len(self._kube.calls) == self._kube.fail_at
        self._kube.calls.append((self._verb, self._ref))
        self._kube.failures += self._fails
        if self._fails and not self._kube.fails_after:
            raise KubeError(0, "Unreachable", "cut off before")

    def __exit__(self, *_: object) -> None:
        if self._fails and self._kube.fails_after:
            raise KubeError(0, "Unreachable", "cut off after")


def _said(manifest: Manifest) -> Manifest:
    metadata = {key: value for key, value in manifest["metadata"].items() if key in ("labels", "annotations")}
    found = {key: value for key, value in manifest.items() if key not in _WITHOUT_OWNERS}
    return {**found, "metadata": metadata} if metadata else found


def _merge(into: dict[str, Any], given: dict[str, Any]) -> None:
    for key, value in given.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        elif value is None:
            into.pop(key, None)
        else:
            into[key] = copied(value)


def _fields(value: Any) -> dict[str, Any]:
    """Lists are owned whole here."""
    if not isinstance(value, dict):
        return {}
    return {f"f:{key}": _fields(inner) for key, inner in value.items()}


def _disown(owned: dict[str, Any], taken: dict[str, Any]) -> None:
    for key, inner in taken.items():
        if key in owned:
            _disown(owned[key], inner) if inner else owned.pop(key)
            if inner and not owned[key]:
                del owned[key]
