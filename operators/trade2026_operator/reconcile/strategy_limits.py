"""The limits of a strategy's own manifest: told to its stack while that runs, and looked after like anything else.

A strategy begins when they are enforced. What is told are ceilings: what a person has tightened, killed or halted is
the risk service's to keep, whatever is told.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from trade2026_operator.reconcile.actions import Action, TellLimits
from trade2026_operator.reconcile.conditions import Observation
from trade2026_operator.reconcile.hosting import LIMITS_ENFORCED
from trade2026_operator.reconcile.objects import Manifest, condition_of

_NONE = "NoneOfItsOwn"


class Told(NamedTuple):
    """Limits of one strategy, as its stack's risk service has recorded them."""

    limits: Mapping[str, Any]
    enforced: bool
    """Its order service decides by them."""


NOTHING_TOLD = Told({}, True)


class OwnLimits(NamedTuple):
    """What a strategy's manifest sets, and what its stack knows of it.

    Attributes:
        wanted: As the planner writes them; None where they can't be read, or there is no stack.
        told: None where the risk service was not asked, or does not answer.
    """

    wanted: Mapping[str, Any] | None = None
    told: Told | None = None


NOT_KNOWN_LIMITS = OwnLimits()


def may_be_told(strategy: Manifest, wanted: Mapping[str, Any] | None) -> bool:
    """Whether the risk service is to be asked: there are limits now, or there were some."""
    before = condition_of(strategy, LIMITS_ENFORCED)
    return bool(wanted) or (before is not None and before["reason"] != _NONE)


def telling(own: OwnLimits) -> list[Action]:
    """What is to be told."""
    if own.wanted is None or own.told is None or own.told.limits == own.wanted:
        return []
    return [TellLimits(own.wanted)]


def is_withdrawn(own: OwnLimits, strategy: Manifest) -> bool:
    """Whether nothing is known to be left of the limits of one that goes."""
    if own.told is not None:
        return not own.told.limits
    return not may_be_told(strategy, own.wanted)


def enforcement(strategy: Manifest, own: OwnLimits) -> Observation:
    """The condition that says whether orders are decided by them."""
    if own.wanted is None:
        return Observation(LIMITS_ENFORCED, None, "NotKnown")
    if own.told is None:
        if not may_be_told(strategy, own.wanted):
            return Observation(LIMITS_ENFORCED, True, _NONE)
        before = condition_of(strategy, LIMITS_ENFORCED) or {}
        if before.get("observedGeneration") == strategy["metadata"].get("generation", 0):
            return Observation(LIMITS_ENFORCED, before["status"] == "True" or None, before["reason"], before["message"])
        return Observation(LIMITS_ENFORCED, None, "NotTold", "its stack's risk service does not answer yet")
    if own.told.limits != own.wanted:
        return Observation(LIMITS_ENFORCED, False, "Telling", "its stack's risk service is told of its limits")
    if not own.told.enforced:
        return Observation(LIMITS_ENFORCED, False, "Adopting", "its stack's order service adopts its limits")
    return Observation(LIMITS_ENFORCED, True, "Enforced" if own.wanted else _NONE)
