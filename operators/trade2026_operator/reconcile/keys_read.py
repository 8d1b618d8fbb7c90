"""Whether processes go by the keys that the stack's Secret has: they read them once, when they start.

Keys that are lost are made anew, and what runs goes on with the old ones. That is said and not mended: to start a desk
again is for a person to choose, who may have the old keys to put back.
"""

from trade2026_operator.helm.releases import keys_name
from trade2026_operator.reconcile.conditions import Observation
from trade2026_operator.reconcile.objects import Manifest, Ref
from trade2026_operator.reconcile.state import Observed

KEYS_CURRENT = "KeysCurrent"


def keys_current(observed: Observed) -> Observation:
    """The condition that says so."""
    meta = observed.stack["metadata"]
    name = keys_name(meta["name"])
    secret = observed.children.get(Ref("v1", "Secret", meta["namespace"], name))
    made = secret.manifest["metadata"].get("creationTimestamp", "") if secret is not None else ""
    pods = [child.manifest for ref, child in observed.children.items() if ref.kind == "Pod"]
    before = sorted(pod["metadata"]["name"] for pod in pods if made and _began(pod) < made)
    if not before:
        return Observation(KEYS_CURRENT, True, "AsRead")
    words = (
        f"Secret {name} was made anew at {made}, and {', '.join(before)} began before: old keys are taken there, and the "
        "new one is not (401), also from the operator, which can cancel no orders. Put the old keys back into it, or "
        "start the pods again: kubectl rollout restart statefulset"
    )
    return Observation(KEYS_CURRENT, False, "MadeAnew", words)


def _began(pod: Manifest) -> str:
    """When the oldest of its processes began; the end of time where none runs, or it ends."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    began = [each["state"]["running"]["startedAt"] for each in statuses if (each.get("state") or {}).get("running")]
    return min(began, default="~") if not pod["metadata"].get("deletionTimestamp") else "~"
