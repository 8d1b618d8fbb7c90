"""The status of a stack: conditions, and how each service is. It is written only when its meaning changes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trade2026_operator.helm.records import Status
from trade2026_operator.helm.revisions import is_as_wanted
from trade2026_operator.reconcile.autoscalers import autoscaler_in, least_of
from trade2026_operator.reconcile.conditions import Observation, merged
from trade2026_operator.reconcile.keys_read import keys_current
from trade2026_operator.reconcile.objects import Manifest, Ref, condition_of, labels_of, ref_of
from trade2026_operator.reconcile.pausing import not_paused
from trade2026_operator.reconcile.readiness import READY, UNSCHEDULABLE, Readiness, of_pod, readiness_of
from trade2026_operator.reconcile.rollout import NOT_ROLLED_BACK, UNKNOWN, Course
from trade2026_operator.reconcile.state import Child, Desired, Observed, ReleaseWanted

_WORDS_MAX = 1_000
SCALING = ("SLOMet", "ScalingActive", "ScalingLimited")
_STATUS = {"True": True, "False": False, "Unknown": None}
INSTANCE_LABEL = "app.kubernetes.io/instance"
"""The release that an object belongs to."""


@dataclass
class Found:
    """What a look has come upon beside the steps."""

    paused: bool = False
    fault: str = ""
    hindrance: str = ""
    """Why it can't be said yet what is wanted."""
    ending: str = ""
    """What is done about a stack that is being deleted."""
    drifted: list[str] = field(default_factory=list[str])
    refused: list[str] = field(default_factory=list[str])
    """What the API server does not take as it is."""
    by_people: list[str] = field(default_factory=list[str])
    """Releases that a person has changed with Helm."""
    changing: list[Manifest] = field(default_factory=list[Manifest])
    course: Course | None = None
    """How far a change is; None where nothing may be changed."""

    def is_ready(self, manifests: Iterable[Manifest], children: Mapping[Ref, Child]) -> bool:
        """Whether every object is there and does what it is for."""
        manifests = list(manifests)
        least = least_of(manifests, children)
        return all(_readiness(manifest, children, least).ready for manifest in manifests)


def status_of(observed: Observed, desired: Desired, found: Found, moment: str) -> dict[str, Any]:
    """The whole status as it is now."""
    stack = observed.stack
    before = stack.get("status") or {}
    generation = stack["metadata"]["generation"]
    services = [_service(name, release, observed) for release in desired.releases for name in release.services]
    if not desired.releases:
        services = before.get("services", [])
    ready = sum(1 for service in services if not _is_behind(service))
    unheard = found.paused or bool(found.ending or found.hindrance)
    reached = {service.get("version", "") for service in services}
    is_final = found.course is not None and found.course.is_final
    return {
        "version": reached.pop() if is_final and len(reached) == 1 else before.get("version", ""),
        "observedGeneration": before.get("observedGeneration", 0) if unheard else generation,
        "servicesReady": f"{ready}/{len(services)}",
        "services": services,
        "conditions": merged(
            before.get("conditions", []), _observations(observed, desired, found, services), generation, moment
        ),
    }


def _service(name: str, release: ReleaseWanted, observed: Observed) -> dict[str, Any]:
    readiness = of_release(release, observed)
    records = observed.records.get(release.name)
    ready, desired = _replicas(release, observed)
    said = {"name": name, "release": release.name, "ready": ready if readiness.ready else 0, "desired": desired}
    if not readiness.ready and desired > 1:
        said["ready"] = min(ready, desired - 1)
    if records:
        said["revision"] = records[-1].revision
        if version := next((each.origin.version for each in reversed(records) if each.status is Status.DEPLOYED), ""):
            said["version"] = version
    elif revision := _revision_before(name, observed):
        said["revision"] = revision
    return said if readiness.ready else {**said, "message": readiness.why[:_WORDS_MAX]}


def _revision_before(name: str, observed: Observed) -> int:
    """What was told last: a release whose records are gone was made all the same, and uninstalled by somebody."""
    services = (observed.stack.get("status") or {}).get("services") or []
    return next((service.get("revision", 0) for service in services if service["name"] == name), 0)


def _is_behind(service: Mapping[str, Any]) -> bool:
    return bool(service.get("message"))


def _replicas(release: ReleaseWanted, observed: Observed) -> tuple[int, int]:
    """How many of a release's pods are ready, and how many there ought to be."""
    ready = desired = 0
    for manifest in release.manifests:
        if manifest["kind"] in ("Deployment", "StatefulSet"):
            child = observed.children.get(ref_of(manifest))
            live = child.manifest if child is not None else manifest
            desired += live["spec"].get("replicas", 1)
            ready += (live.get("status") or {}).get("readyReplicas", 0)
    return ready, max(1, desired)


def _observations(
    observed: Observed, desired: Desired, found: Found, services: list[dict[str, Any]]
) -> list[Observation]:
    behind = [each for one in desired.releases if not (each := of_release(one, observed)).ready]
    waiting = min(behind, key=lambda each: not each.failed, default=READY)
    theirs = [f"{each}; it stays so until the spec changes, or spec.driftReleases names it" for each in found.by_people]
    drift = [*theirs, *found.drifted]
    stack = observed.stack
    stack_conditions = (stack.get("status") or {}).get("conditions") or []
    return [
        _ready(found, services, waiting),
        _reconciling(found, waiting, "; ".join(_unscheduled(observed, desired))),
        *_rollout(stack_conditions, found),
        _stalled(found, waiting, condition_of(stack, "Stalled")),
        _released(observed, desired, found),
        Observation("Drifted", True, "HumanRelease" if found.by_people else "Changed", "; ".join(drift)[:_WORDS_MAX])
        if drift
        else Observation("Drifted", False, "AsWanted"),
        Observation("Paused", True, "Paused", "nothing is changed until it is resumed")
        if found.paused
        else not_paused(observed.stack),
        keys_current(observed),
        *_scaling(observed, desired),
    ]


def _scaling(observed: Observed, desired: Desired) -> list[Observation]:
    """As whoever measures has told it; what was told before stands until he has looked."""
    if observed.scaling:
        return list(observed.scaling)
    if all(autoscaler_in(each.manifests) is None for each in desired.releases):
        said = "no service has replicas.max above replicas.min"
        return [
            Observation("SLOMet", None, "NotMeasured"),
            Observation("ScalingActive", False, "NotConfigured", said),
            Observation("ScalingLimited", False, "NotConfigured"),
        ]
    known = [condition_of(observed.stack, kind) for kind in SCALING]
    return [
        Observation(kind, _STATUS[found["status"]], found["reason"], found.get("message", ""))
        if found is not None and found["reason"] not in ("NotConfigured", "NotMeasured")
        else Observation(kind, None, "NotMeasuredYet")
        for kind, found in zip(SCALING, known, strict=True)
    ]


def _ready(found: Found, services: list[dict[str, Any]], waiting: Readiness) -> Observation:
    if found.ending:
        return Observation("Ready", False, "Deleting", found.ending)
    if not services:
        return Observation("Ready", None if not found.fault else False, "Unknown" if not found.fault else "Refused")
    behind = [service["name"] for service in services if _is_behind(service)]
    if not behind:
        return Observation("Ready", True, "ServicesReady", f"all {len(services)} services are ready")
    why = waiting.why or next((service.get("message", "") for service in services if _is_behind(service)), "")
    return Observation("Ready", False, "ServicesNotReady", f"waiting for {', '.join(behind)}: {why}"[:_WORDS_MAX])


def _rollout(before: Iterable[Mapping[str, Any]], found: Found) -> list[Observation]:
    """How far a change is, and whether it was undone; as it was said last where nothing may be changed."""
    if found.course is not None:
        now = [found.course.progressing, found.course.rolled_back]
        return [each._replace(message=each.message[:_WORDS_MAX]) for each in now]
    said = {each["type"]: each for each in before}
    states = {"True": True, "False": False}
    return [
        Observation(kind, states.get(said[kind]["status"]), said[kind]["reason"], said[kind].get("message", ""))
        if kind in said
        else unknown
        for kind, unknown in (
            ("Progressing", UNKNOWN),
            ("RolledBack", NOT_ROLLED_BACK),
        )
    ]


def _unscheduled(observed: Observed, desired: Desired) -> list[str]:
    """Pods for which there is no room, in the words of the scheduler: of what scales they may be more than it needs."""
    releases = {each.name for each in desired.releases}
    found = [of_pod(pod) for name, pod in pods_in(observed.children) if name in releases]
    return sorted(each.why for each in found if each.reason == UNSCHEDULABLE)


def pods_in(children: Mapping[Ref, Child]) -> list[tuple[str, Manifest]]:
    """Those that are not on their way out, each with its release."""
    return [
        (labels_of(child.manifest).get(INSTANCE_LABEL, ""), child.manifest)
        for ref, child in children.items()
        if ref.kind == "Pod" and not child.manifest["metadata"].get("deletionTimestamp")
    ]


def _reconciling(found: Found, waiting: Readiness, unscheduled: str) -> Observation:
    if found.ending:
        return Observation("Reconciling", True, "Deleting", found.ending)
    if found.hindrance:
        said = f"it is tried again, and all stays as it is: {found.hindrance}"
        return Observation("Reconciling", True, "RenderFailed", said[:_WORDS_MAX])
    going = (
        found.course is not None
        and bool(found.course.progressing.status)
        and found.course.progressing.reason != "Baking"  # what is asked for runs: nobody need wait for it
    )
    settled = waiting.ready and not found.changing and not going
    if settled and unscheduled and not found.paused and not found.fault:
        return Observation("Reconciling", True, UNSCHEDULABLE, unscheduled[:_WORDS_MAX])
    if found.paused or found.fault or settled:
        return Observation("Reconciling", False, "Settled")
    if found.changing:
        return Observation("Reconciling", True, "Applying", f"{len(found.changing)} objects are being applied")
    if waiting.ready and found.course is not None:
        progressing = found.course.progressing
        return Observation("Reconciling", True, progressing.reason, progressing.message[:_WORDS_MAX])
    return Observation("Reconciling", True, "WaitingForPods", waiting.why[:_WORDS_MAX])


def _stalled(found: Found, waiting: Readiness, before: Manifest | None) -> Observation:
    if found.fault:
        return Observation("Stalled", True, "SpecRefused", found.fault[:_WORDS_MAX])
    if found.refused:
        return Observation("Stalled", True, "ObjectRefused", "; ".join(found.refused)[:_WORDS_MAX])
    if found.course is not None and found.course.rolled_back.status and not found.course.progressing.status:
        return Observation("Stalled", True, "RolledBack", found.course.progressing.message[:_WORDS_MAX])
    # Between two crashes a container runs for a moment: it fails on, and since then.
    fails_on = before is not None and before["reason"] == "PodsFail" and waiting.reason == "CrashLoop"
    if waiting.failed or fails_on:
        return Observation("Stalled", True, "PodsFail", waiting.why[:_WORDS_MAX])
    return Observation("Stalled", False, "NotStalled")


def _released(observed: Observed, desired: Desired, found: Found) -> Observation:
    if not desired.releases:
        return Observation("Released", None, "Unknown")
    if found.course is not None and found.course.rolled_back.status:
        return Observation("Released", False, "RolledBack", found.course.rolled_back.message[:_WORDS_MAX])
    held = found.course.held if found.course is not None else ()
    behind = [
        release.name
        for release in desired.releases
        if release.name in held
        or not (records := observed.records.get(release.name))
        or not is_as_wanted(records[-1], release.record)
    ]
    if behind:
        return Observation("Released", False, "InProgress", f"of {', '.join(behind)} the newest is not deployed yet")
    return Observation("Released", True, "Deployed", _deployed(len(desired.releases)))


def _deployed(count: int) -> str:
    return "its Helm release is deployed" if count == 1 else f"its {count} Helm releases are deployed"


def of_release(release: ReleaseWanted, observed: Observed) -> Readiness:
    """What a release waits for: a pod says more than the workload that made it."""
    least = least_of(release.manifests, observed.children)
    found = [_readiness(manifest, observed.children, least) for manifest in release.manifests]
    behind = [each for each in found if not each.ready]
    if not behind:
        return READY
    pods = [of_pod(pod) for name, pod in pods_in(observed.children) if name == release.name]
    unready = sorted((pod for pod in pods if not pod.ready), key=lambda pod: not pod.failed)
    return unready[0] if unready else behind[0]


def _readiness(manifest: Manifest, children: Mapping[Ref, Child], least: int | None = None) -> Readiness:
    child = children.get(ref_of(manifest))
    return (
        readiness_of(child.manifest, least)
        if child is not None
        else Readiness(False, f"{ref_of(manifest)} is not there yet")
    )
