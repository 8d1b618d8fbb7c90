"""What a person is told when a condition of an object turns: an Event each, beside the status that says how it is."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trade2026_operator.reconcile.actions import Say
from trade2026_operator.reconcile.keys_read import KEYS_CURRENT
from trade2026_operator.reconcile.pausing import NOT_UNDERSTOOD
from trade2026_operator.reconcile.readiness import UNSCHEDULABLE

_WARNS = {"Stalled": "NotStalled", "Drifted": "AsWanted"}
"""Conditions that are bad news when true, and the reason with which they end."""


def transitions(before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> Iterator[Say]:
    """The Events of a status that was written: of what is ready, stalls, drifts, is paused.

    Args:
        before: Its conditions as they were written last.
        now: Those that were written in their place.
    """
    known = {condition["type"]: condition for condition in before}
    for condition in now:
        old = known.get(condition["type"], {})
        if condition["type"] == "Ready":
            yield from _of_ready(condition, old)
        elif condition["type"] == "Paused":
            yield from _of_pause(condition, old)
        elif condition["type"] == KEYS_CURRENT:
            yield from _of_keys(condition, old)
        elif condition["type"] == "Reconciling":
            yield from _of_room(condition, old)
        elif condition["type"] in _WARNS:
            yield from _of_bad_news(condition, old)


def _of_ready(condition: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Say]:
    is_ready, was_ready = condition["status"] == "True", old.get("status") == "True"
    if is_ready and not was_ready:
        yield Say("Ready", condition["message"])
    elif was_ready and not is_ready:
        yield Say(condition["reason"], condition["message"], is_warning=condition["reason"] != "Deleting")


def _of_pause(condition: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Say]:
    is_paused, was_paused = condition["status"] == "True", old.get("status") == "True"
    if condition["reason"] == NOT_UNDERSTOOD and old.get("message") != condition["message"]:
        yield Say("PauseNotUnderstood", condition["message"], is_warning=True)
    elif is_paused and not was_paused:
        yield Say("Paused", condition["message"])
    elif was_paused and not is_paused:
        yield Say("Resumed", "it is kept as its manifest says again")


def _of_keys(condition: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Say]:
    if condition["status"] == "False" and old.get("status") != "False":
        yield Say("KeysMadeAnew", condition["message"], is_warning=True)
    elif condition["status"] == "True" and old.get("status") == "False":
        yield Say(KEYS_CURRENT, "every process goes by the keys of the Secret")


def _of_room(condition: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Say]:
    if condition["reason"] == UNSCHEDULABLE != old.get("reason"):
        yield Say(UNSCHEDULABLE, condition["message"], is_warning=True)


def _of_bad_news(condition: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Say]:
    is_bad, was_bad = condition["status"] == "True", old.get("status") == "True"
    if is_bad and (not was_bad or condition["reason"] != old["reason"]):
        yield Say(condition["reason"], condition["message"], is_warning=True)
    elif was_bad and not is_bad:
        yield Say(_WARNS[condition["type"]], f"not any more: {old['message']}")
