"""Which strategies the process of a stack runs: by that a strategy knows that it runs, or can send nothing any more."""

from collections.abc import Iterable
from typing import NamedTuple

from trade2026_operator.helm.records import Status
from trade2026_operator.helm.releases import STRATEGIES
from trade2026_operator.reconcile.actions import Action, Apply
from trade2026_operator.reconcile.objects import Manifest, condition_of, labels_of, ref_of, uid_of
from trade2026_operator.reconcile.pausing import is_paused
from trade2026_operator.reconcile.readiness import READY, Readiness
from trade2026_operator.reconcile.state import Desired, Observed, ReleaseWanted, Version
from trade2026_operator.reconcile.status import of_release

LIMITS_ENFORCED = "LimitsEnforced"
RUNNING_STAGES = ("Paper", "Shadow", "Halted")
COMPONENT_LABEL = "app.kubernetes.io/component"


class Hosting(NamedTuple):
    """What runs. While it changes, what was and what will be may both run, and `settled` is false."""

    runs: frozenset[Version] = frozenset()
    settled: bool = False
    waiting: Readiness = READY


NOT_KNOWN = Hosting()


def is_idle(strategy: Manifest) -> bool:
    """Whether it is not to run: somebody has paused it, or it is being deleted."""
    return bool(strategy["metadata"].get("deletionTimestamp")) or is_paused(strategy)


def is_to_run(strategy: Manifest) -> bool:
    """Whether its process is to have it.

    One that begins waits until its own limits are enforced. One that runs goes on by what limits it had, until others
    are told.
    """
    if is_idle(strategy):
        return False
    if (strategy.get("status") or {}).get("stage") in RUNNING_STAGES or not strategy["spec"].get("risk"):
        return True
    enforced = condition_of(strategy, LIMITS_ENFORCED) or {}
    same = enforced.get("observedGeneration") == strategy["metadata"].get("generation", 0)
    return same and enforced.get("status") == "True"


def version_of(strategy: Manifest) -> Version:
    """The version that its manifest asks for now."""
    return Version(strategy["metadata"]["name"], strategy["metadata"].get("generation", 0), uid_of(strategy))


def hosting(observed: Observed, desired: Desired, actions: Iterable[Action], before: Hosting) -> Hosting:
    """What the strategies' process of a stack runs.

    Args:
        actions: What is to be done yet.
        before: What was known of it.
    """
    meta = observed.stack["metadata"]
    if is_paused(observed.stack):
        return before._replace(waiting=Readiness(False, "its stack is paused: nothing is changed until it is resumed"))
    if meta.get("deletionTimestamp"):
        return Hosting(waiting=Readiness(False, "its stack is being deleted"))
    if desired.is_transient:
        return before._replace(waiting=Readiness(False, f"of its stack nothing can be changed yet: {desired.fault}"))
    if desired.fault:
        return Hosting(waiting=Readiness(False, f"its stack is refused: {desired.fault}", True))
    release = next((each for each in desired.releases if STRATEGIES in each.services), None)
    if release is None:
        there = any(
            ref.kind in ("Pod", "StatefulSet") and labels_of(child.manifest).get(COMPONENT_LABEL) == STRATEGIES
            for ref, child in observed.children.items()
        )
        # Of what a watch has not told yet it is not known that it is not there.
        workloads = {ref_of(one) for each in desired.releases for one in each.manifests if one["kind"] == "StatefulSet"}
        return Hosting(settled=not there and workloads <= observed.children.keys())
    waiting = of_release(release, observed)
    records = observed.records.get(release.name, ())
    newest = records[-1] if records else None
    # While it is rolled out, or back, what is ready may be what was there before.
    is_it = newest is not None and newest.status is Status.DEPLOYED and desired.input in newest.origin.inputs
    return Hosting(desired.strategies, is_it and waiting.ready and not _is_applied(release, actions), waiting)


def _is_applied(release: ReleaseWanted, actions: Iterable[Action]) -> bool:
    ours = {ref_of(manifest) for manifest in release.manifests}
    return any(isinstance(step, Apply) and ref_of(step.manifest) in ours for step in actions)
