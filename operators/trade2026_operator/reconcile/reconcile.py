"""One look at a stack: what is wanted and what is there, and from both the steps and the status.

Level-triggered: it does not matter what has happened, or how often this is asked. Nothing is waited for here; what is
not ready yet is said, and the next event asks again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from trade2026_operator.helm.records import SECRET_TYPE, Record, Status, superseded
from trade2026_operator.helm.releases import STRATEGIES, keys_name, service_name
from trade2026_operator.helm.revisions import begun, failed, finished, gone_back, heeded, in_words, standing
from trade2026_operator.reconcile.actions import (
    Action,
    Apply,
    CancelOrders,
    Delete,
    DropRecord,
    KeepReplicas,
    MakeKeys,
    PatchStatus,
    ReadRecord,
    Say,
    SetFinalizer,
    Steps,
    WriteRecord,
)
from trade2026_operator.reconcile.autoscalers import KINDS as AUTOSCALERS
from trade2026_operator.reconcile.autoscalers import autoscalers_of, least_of
from trade2026_operator.reconcile.ignoring import pointers_of, with_others
from trade2026_operator.reconcile.objects import GROUP, Manifest, Ref, digest_of, ref_of, resource_version_of
from trade2026_operator.reconcile.pausing import is_paused
from trade2026_operator.reconcile.readiness import Readiness
from trade2026_operator.reconcile.rollout import Course, course
from trade2026_operator.reconcile.state import Child, Desired, Observed, ReleaseWanted
from trade2026_operator.reconcile.status import Found, of_release, status_of

FINALIZER = f"{GROUP}/cleanup"
_ASK_REFUSED_SECONDS = 31.0
_ASK_READ_SECONDS = 0.0
_ASK_AGAIN_SECONDS = 5.0
"""While something is under way that no watch tells of."""
_ORDER = (
    "ServiceAccount",
    "Secret",
    "ConfigMap",
    "PersistentVolumeClaim",
    "Service",
    "Deployment",
    "StatefulSet",
    "HorizontalPodAutoscaler",
    "ScaledObject",
    "PodDisruptionBudget",
    "NetworkPolicy",
)
"""What is named first is there before what needs it, and is deleted after it."""
_DATA = ("PersistentVolumeClaim", "Secret")
"""What a stack can't be brought up with again once it is gone: its state and its keys."""


def reconcile(observed: Observed, desired: Desired, now: datetime) -> Steps:
    """What is to be done now.

    Args:
        now: UTC; for what is recorded and for conditions that change.
    """
    moment = f"{now:%Y-%m-%dT%H:%M:%SZ}"
    meta = observed.stack["metadata"]
    if meta.get("deletionTimestamp"):
        return _clean_up(observed, moment)
    if is_paused(observed.stack):
        return _told(observed, desired, Found(paused=True), [], moment)
    steps: list[Action] = []
    if FINALIZER not in (meta.get("finalizers") or []):
        steps.append(SetFinalizer(True))
    if desired.fault:
        found = Found(hindrance=desired.fault) if desired.is_transient else Found(fault=desired.fault)
        return _told(observed, desired, found, steps, moment)
    policy = observed.stack["spec"].get("driftPolicy", "Correct")
    theirs = _peoples(observed, desired)
    way = course(desired, observed, theirs, lambda release: _look_at(release, observed), now)
    if way.missing:
        return Steps(tuple(map(ReadRecord, way.missing)), _ASK_READ_SECONDS)
    asked, desired = desired, replace(desired, releases=way.releases)
    found = Found(by_people=[f"{name}: {why}" for name, why in theirs.items()], course=way)
    if desired.keys is not None and desired.keys not in observed.children:
        steps.append(MakeKeys())
    for manifest in _in_order(desired.objects):
        steps += _applied(manifest, observed, policy, found)
    pruned = _pruned(observed, desired)
    # KEDA refuses to scale what still has another autoscaler; without any the replicas stay as they are.
    replaced = [step for step in pruned if isinstance(step, Delete) and step.ref.kind in AUTOSCALERS]
    steps += replaced
    for release in desired.releases:
        if release.name not in theirs:
            steps += _release(release, way, asked, observed, policy, found, now)
    steps += _given_up(way, observed)
    steps += [step for step in pruned if step not in replaced]
    return _told(observed, desired, found, steps, moment, way.again_after)


def _applied(manifest: Manifest, observed: Observed, policy: str, found: Found) -> list[Action]:
    ref = ref_of(manifest)
    child, settled = observed.children.get(ref), observed.settled.get(ref)
    if child is not None:
        manifest = with_others(manifest, child.manifest, list(pointers_of(observed.stack, ref)))
    asked = digest_of(manifest)
    refusal = observed.refused.get(ref)
    if refusal is not None and refusal.asked == asked:
        found.refused.append(f"{ref}: {refusal.message}")
        return []
    if settled is None or settled.asked != asked:
        return [
            *_handed_over(manifest, observed),
            Apply(manifest, confirms=settled is None and child is not None and bool(child.owned)),
        ]
    if child is not None and child.owned == settled.owned:
        return []
    what = f"{ref} was deleted" if child is None else f"{ref} was changed"
    if policy == "Correct" or child is None:
        return [Apply(manifest, corrects=True), Say("DriftCorrected", f"{what} by somebody else, and is as it was")]
    if policy == "Warn":
        found.drifted.append(what)
    return []


def _handed_over(manifest: Manifest, observed: Observed) -> list[Action]:
    """Before an autoscaler is there for the first time: what we leave out would become 1 before it has said anything."""
    ref = ref_of(manifest)
    child = observed.children.get(ref)
    scalers = autoscalers_of(ref.namespace, ref.name)
    if ref.kind not in ("Deployment", "StatefulSet") or "replicas" in manifest["spec"] or child is None:
        return []
    count = child.manifest["spec"].get("replicas", 1)
    return [KeepReplicas(ref, count)] if count > 1 and not any(each in observed.children for each in scalers) else []


def _scaled_up(
    release: ReleaseWanted, observed: Observed, policy: str, found: Found, *, stands: bool
) -> Iterator[Action]:
    """A workload with fewer replicas than its autoscaler may give it: of one that has none an autoscaler does nothing.

    Args:
        stands: Its revision is deployed, so that somebody must have scaled it.
    """
    least = least_of(release.manifests, observed.children)
    if least is None or any(each["kind"] == "ScaledObject" for each in release.manifests):
        return  # KEDA scales up from none itself, and heeds its own annotations by which it is paused
    for ref in map(ref_of, release.manifests):
        child = observed.children.get(ref)
        if child is None or not _is_workload(ref) or "/spec/replicas" in pointers_of(observed.stack, ref):
            continue
        told, version = child.manifest["spec"].get("replicas", 1), resource_version_of(child.manifest)
        if told >= least:
            continue
        if policy == "Correct" or not stands:
            yield KeepReplicas(ref, least, version)
        if stands and policy == "Correct":
            said = f"{ref} was scaled to {told} by somebody else, and has {least} again, as few as its autoscaler may give it"
            yield Say("DriftCorrected", said)
        elif stands and policy == "Warn":
            found.drifted.append(f"{ref} was scaled to {told}, and its autoscaler gives it {least} at least")


def _peoples(observed: Observed, desired: Desired) -> dict[str, str]:
    """Releases that a person has changed with Helm, and how: they are left so until something else is asked for."""
    found: dict[str, str] = {}
    for release in desired.releases:
        records = list(observed.records.get(release.name, ()))
        how = standing(records, made=_was_made(observed.stack, release.name))
        stands = release.name not in (observed.stack["spec"].get("driftReleases") or [])
        if how.is_a_persons and stands and not _is_new(observed.stack, records, desired.input):
            found[release.name] = in_words(how, records)
    return found


def _look_at(release: ReleaseWanted, observed: Observed) -> Readiness:
    """Whether a release does what it is for; one of which the API server has refused something does not."""
    for manifest in release.manifests:
        if (refusal := observed.refused.get(ref_of(manifest))) is not None:
            return Readiness(False, f"{ref_of(manifest)}: {refusal.message}", True, "ObjectRefused")
    return of_release(release, observed)


def _release(
    release: ReleaseWanted,
    way: Course,
    asked: Desired,
    observed: Observed,
    policy: str,
    found: Found,
    now: datetime,
) -> Iterator[Action]:
    """A release's objects, between the two records of its revision; none is begun while its turn has not come."""
    records = list(observed.records.get(release.name, ()))
    pending = records[-1] if records and _says(records[-1], release) else None
    before = way.back.get(release.name)
    if pending is None and before is not None:
        pending = gone_back(records, before, way.instead_of, now)
        yield WriteRecord(pending, like=before.secret_name)
    elif pending is None and release.name not in way.held:
        pending = begun(records, release.record, now)
        yield WriteRecord(pending)
    elif pending is not None and (noted := _noted(pending, release, way, asked)) is not None:
        pending = noted
        yield WriteRecord(pending)
    applies = [
        step for manifest in _in_order(release.manifests) for step in _applied(manifest, observed, policy, found)
    ]
    yield from applies
    stands = pending is not None and pending.status is Status.DEPLOYED
    yield from _scaled_up(release, observed, policy, found, stands=stands)
    if pending is None:
        return
    if pending.status is Status.DEPLOYED:
        yield from (WriteRecord(superseded(old)) for old in records[:-1] if old.status is Status.DEPLOYED)
        return
    if any(isinstance(step, Apply) for step in applies) or way.failure is not None:
        return
    refused = any(ref_of(manifest) in observed.refused for manifest in release.manifests)
    if not refused and found.is_ready(release.manifests, observed.children):
        ended = finished(records, pending, now)
        yield from map(WriteRecord, ended.written)
        yield from map(DropRecord, ended.deleted)


def _noted(record: Record, release: ReleaseWanted, way: Course, asked: Desired) -> Record | None:
    """A revision that is as good for what is asked for now, as it is once that is noted; None if it is, or is not so."""
    if release.name in way.held or way.instead_of == asked.input:
        return None
    return heeded(record, asked.input, dict(asked.specs), instead=bool(way.instead_of))


def _given_up(way: Course, observed: Observed) -> Iterator[Action]:
    """A change that has failed is recorded, and from that record on all releases go back."""
    if way.failure is None:
        return
    records = observed.records[way.failure.release]
    said = f"{way.failure.reason}: {way.failure.why}"
    yield Say("RollingBack", said, is_warning=True)
    yield from map(WriteRecord, failed(records, records[-1], said).written)


def _says(record: Record, release: ReleaseWanted) -> bool:
    """Whether a revision is of what is wanted, whether or not it is there already."""
    same = record.content == release.record.content
    return same and record.by_operator and (record.status is Status.DEPLOYED or record.status.is_pending)


def _was_made(stack: Manifest, release: str) -> bool:
    """Whether the status tells of a revision that we have made."""
    services = (stack.get("status") or {}).get("services") or []
    return any(service["release"] == release and service.get("revision") for service in services)


def _is_new(stack: Manifest, records: Sequence[Record], asked: str) -> bool:
    """Whether the spec has changed since it was last acted on, for a release at least: its turn may come late."""
    ours = [record for record in records if record.by_operator]
    unheard = bool(ours) and asked not in ours[-1].origin.inputs
    return unheard or (stack.get("status") or {}).get("observedGeneration") != stack["metadata"]["generation"]


def _pruned(observed: Observed, desired: Desired) -> list[Action]:
    """What was made for the stack and is not wanted any more; data stays."""
    wanted = {ref_of(manifest) for manifest in desired.objects}
    wanted |= {ref_of(manifest) for release in desired.releases for manifest in release.manifests}
    deletions: list[Action] = [
        Delete(ref, child.manifest["metadata"]["uid"])
        for ref, child in _ours(observed)
        if ref not in wanted and ref.kind not in _DATA
    ]
    kept = {release.name for release in desired.releases}
    gone = [each for name, records in observed.records.items() if name not in kept for each in records]
    return deletions or [DropRecord(record.secret_name) for record in gone]


def _clean_up(observed: Observed, moment: str) -> Steps:
    """First who sends orders, then the working orders, then what was made, last the hold on the stack itself."""
    meta, spec = observed.stack["metadata"], observed.stack["spec"]
    if FINALIZER not in (meta.get("finalizers") or []):
        return Steps()
    ours = [
        (ref, child)
        for ref, child in _ours(observed)
        if ref.kind not in _DATA or spec.get("deletionPolicy") == "Delete"
    ]
    senders = [
        each for each in ours if _is_workload(each[0]) and each[0].name == service_name(meta["name"], STRATEGIES)
    ]
    if senders and not observed.orders_cancelled:
        found = Found(ending="its strategies are being ended: while they run they send orders")
        return _told(observed, Desired(), found, _deletions(senders), moment, _ASK_AGAIN_SECONDS)
    # Where nothing runs any more its orders may be working all the same: that nobody can cancel them must be told.
    has_traded = any(_is_workload(ref) or ref.kind == "PersistentVolumeClaim" for ref, _ in _ours(observed))
    if has_traded and not observed.orders_cancelled:
        found = Found(ending="its working orders are being cancelled")
        return _told(observed, Desired(), found, [CancelOrders()], moment, _ASK_AGAIN_SECONDS)
    if not ours:
        records = [record.secret_name for each in observed.records.values() for record in each]
        return Steps((*map(DropRecord, records), SetFinalizer(False)))
    ours.sort(key=lambda one: _rank(one[0].kind), reverse=True)
    found = Found(ending=f"{len(ours)} objects are being deleted")
    return _told(observed, Desired(), found, _deletions(ours), moment, _ASK_AGAIN_SECONDS)


def _is_workload(ref: Ref) -> bool:
    return ref.kind in ("Deployment", "StatefulSet")


def _deletions(children: Sequence[tuple[Ref, Child]]) -> list[Action]:
    """Of those that are not on their way out already."""
    return [
        Delete(ref, child.manifest["metadata"]["uid"])
        for ref, child in children
        if not child.manifest["metadata"].get("deletionTimestamp")
    ]


def _ours(observed: Observed) -> list[tuple[Ref, Child]]:
    """What we have made ourselves, which its field manager proves, and not its label, that anybody may write: not what a
    controller has made of it, nor Helm's records, nor what a person has installed as a release of another name."""
    meta, status = observed.stack["metadata"], observed.stack.get("status") or {}
    releases = {name for name, records in observed.records.items() if any(each.by_operator for each in records)}
    releases |= {service["release"] for service in status.get("services") or [] if service.get("revision")}
    keys = Ref("v1", "Secret", meta["namespace"], keys_name(meta["name"]))
    return [
        (ref, child)
        for ref, child in observed.children.items()
        if (ref == keys or (child.owned and child.release in ("", *releases)))
        and not any(
            owner.get("controller") and not owner["apiVersion"].startswith(GROUP)
            for owner in child.manifest["metadata"].get("ownerReferences") or []
        )
        and child.manifest.get("type") != SECRET_TYPE
        and ref.kind != "Pod"
    ]


def _in_order(manifests: Sequence[Manifest]) -> list[Manifest]:
    return sorted(manifests, key=lambda manifest: _rank(manifest["kind"]))


def _rank(kind: str) -> int:
    return _ORDER.index(kind) if kind in _ORDER else len(_ORDER)


def _told(
    observed: Observed,
    desired: Desired,
    found: Found,
    steps: list[Action],
    moment: str,
    again_after: float | None = None,
) -> Steps:
    """The steps, and the status if it means something else than what is written there."""
    found.changing = [
        step.manifest for step in steps if isinstance(step, Apply) and not step.corrects and not step.confirms
    ]
    status = status_of(observed, desired, found, moment)
    written = observed.stack.get("status") or {}
    if status != {name: written.get(name) for name in status}:  # the server may add what its schema has as default
        steps = [*steps, PatchStatus(status)]
    return Steps(tuple(steps), _ASK_REFUSED_SECONDS if again_after is None and found.refused else again_after)
