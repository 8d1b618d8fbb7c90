"""Whether an object does what it is for, told as a person would want to hear it."""

from typing import NamedTuple

from trade2026_operator.reconcile.objects import Manifest, ref_of


class Readiness(NamedTuple):
    """`why` says what is waited for, and is empty where it is ready."""

    ready: bool
    why: str = ""
    failed: bool = False
    """Waiting alone will not help."""
    reason: str = "NotReady"
    """Of one that is not ready, in a word."""


_REASONS = {
    "ErrImagePull": "ImagePull",
    "ImagePullBackOff": "ImagePull",
    "ErrImageNeverPull": "ImagePull",
    "InvalidImageName": "ImagePull",
    "CrashLoopBackOff": "CrashLoop",
}
_CRASHES_MIN = 3
"""After so many a container crashes again and again."""

READY = Readiness(True)
UNSCHEDULABLE = "Unschedulable"


def readiness_of(manifest: Manifest, least: int | None = None) -> Readiness:
    """Of an object as it was last seen. What has no state of its own is ready once it is there.

    Args:
        least: Replicas with which a workload does what it is for; None: all that it is told to have. An autoscaler
            that has just asked for more makes it no worse.
    """
    if least is not None and manifest["kind"] in ("Deployment", "StatefulSet"):
        return _of_workload(manifest, least)
    look = _LOOKS.get(manifest["kind"])
    return look(manifest) if look is not None else READY


def _of_workload(manifest: Manifest, least: int | None = None) -> Readiness:
    """A Deployment or a StatefulSet."""
    ref, status = ref_of(manifest), manifest.get("status") or {}
    if 0 < status.get("observedGeneration", 0) < manifest["metadata"].get("generation", 0):
        return Readiness(False, f"{ref} was changed a moment ago")
    told = manifest["spec"].get("replicas", 1)
    if least is not None and told < least:
        return Readiness(False, f"{ref}: it is told to have {told} pods, and needs {least} at least")
    wanted = told if least is None else least
    updated, ready = status.get("updatedReplicas", 0), status.get("readyReplicas", 0)
    if manifest["kind"] == "StatefulSet" and status.get("updateRevision") == status.get("currentRevision"):
        updated = max(updated, status.get("currentReplicas", 0))
    if updated < wanted:
        return Readiness(False, f"{ref}: {updated} of {wanted} pods are of the new version")
    if ready < wanted:
        return Readiness(False, f"{ref}: {ready} of {wanted} pods are ready")
    return READY


def _of_claim(manifest: Manifest) -> Readiness:
    phase = (manifest.get("status") or {}).get("phase", "Pending")
    return READY if phase == "Bound" else Readiness(False, f"{ref_of(manifest)} is {phase.lower()}")


def of_pod(manifest: Manifest) -> Readiness:
    """Of a pod: what keeps its containers from being ready, in the words of the kubelet."""
    status, name = manifest.get("status") or {}, manifest["metadata"]["name"]
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            said = f"pod {name} can't be scheduled: {condition.get('message', '')}"
            return Readiness(False, said, reason=UNSCHEDULABLE)
    for each in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        state = each.get("state") or {}
        waiting, ended = (
            state.get("waiting"),
            state.get("terminated") or (each.get("lastState") or {}).get("terminated"),
        )
        if waiting and waiting.get("reason") not in ("ContainerCreating", "PodInitializing"):
            said = waiting.get("message") or (f"exit code {ended['exitCode']}" if ended else "")
            reason: str = waiting.get("reason") or "Waiting"
            why = f"{each['name']} in pod {name}: {reason}: {said}"
            return Readiness(False, why.rstrip(": "), True, _REASONS.get(reason) or reason)
        if not each.get("ready") and ended and ended.get("exitCode") and each.get("restartCount"):
            times = each["restartCount"]
            why = f"{each['name']} in pod {name} ended with exit code {ended['exitCode']}, and was restarted {times} times"
            return Readiness(False, why, times >= _CRASHES_MIN, "CrashLoop")
    behind = [each["name"] for each in status.get("containerStatuses") or [] if not each.get("ready")]
    if behind:
        return Readiness(False, f"{', '.join(behind)} in pod {name} {'are' if behind[1:] else 'is'} starting")
    return READY if status.get("phase") == "Running" else Readiness(False, f"pod {name} is being started")


_LOOKS = {
    "Deployment": _of_workload,
    "StatefulSet": _of_workload,
    "PersistentVolumeClaim": _of_claim,
    "Pod": of_pod,
}
