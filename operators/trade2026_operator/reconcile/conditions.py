"""Conditions by the Kubernetes convention: observations, each with a reason and words for a person."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

Condition = dict[str, Any]


class Observation(NamedTuple):
    """One condition as it is now; when it became so is found by comparison."""

    type: str
    status: bool | None
    """None where it is not known."""
    reason: str
    """One word in CamelCase."""
    message: str = ""


def merged(
    before: Sequence[Mapping[str, Any]], now: Iterable[Observation], generation: int, moment: str
) -> list[Condition]:
    """The conditions of a status, in the order of `now`.

    Args:
        before: Those that were written last.
        generation: Of the object that was looked at.
        moment: RFC 3339, for those that have changed.
    """
    known = {condition["type"]: condition for condition in before}
    found: list[Condition] = []
    for each in now:
        status = "Unknown" if each.status is None else str(each.status)
        old = known.get(each.type)
        since = old["lastTransitionTime"] if old is not None and old["status"] == status else moment
        found.append(
            {
                "type": each.type,
                "status": status,
                "reason": each.reason,
                "message": each.message,
                "lastTransitionTime": since,
                "observedGeneration": generation,
            }
        )
    return found
