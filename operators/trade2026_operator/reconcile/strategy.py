"""One look at a strategy: what it asks for, what its stack runs, and from both the steps and the status.

Its orders are cancelled when it is paused or deleted: at once, and once more when its process is known to run without
it, for until then it may send another. Nothing is ever released here: a kill, a halt and a tightened limit stand
until a named person says otherwise, whatever becomes of the manifest.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

from trade2026_operator.helm.releases import STRATEGIES, service_name
from trade2026_operator.reconcile.actions import (
    Action,
    CancelOrders,
    PatchStatus,
    Say,
    SetFinalizer,
    Steps,
    TellLimits,
)
from trade2026_operator.reconcile.conditions import Observation, merged
from trade2026_operator.reconcile.hosting import NOT_KNOWN, RUNNING_STAGES, Hosting, is_idle, is_to_run, version_of
from trade2026_operator.reconcile.objects import Manifest, condition_of
from trade2026_operator.reconcile.pausing import NOT_UNDERSTOOD, not_paused
from trade2026_operator.reconcile.reconcile import FINALIZER
from trade2026_operator.reconcile.status import INSTANCE_LABEL
from trade2026_operator.reconcile.strategy_limits import NOT_KNOWN_LIMITS, OwnLimits, enforcement, is_withdrawn, telling

NUMBERS_SECONDS = 60.0
"""Position and profit are written so seldom while nothing else has changed."""
ASK_SECONDS = 5.0
"""How often a strategy that runs is asked how it is."""
_ASK_AGAIN_SECONDS = 2.0
_SOON_SECONDS = 0.5
"""An answer is on its way."""
_WORDS_MAX = 1_000
_NUMBERS = ("position", "pnl", "drawdown", "lastSignalTime")
_CANCELLED = "CancelsSent"
_BEING_CANCELLED = "its orders are being cancelled"


@dataclass(frozen=True)
class SeenStrategy:
    """What is known of one strategy.

    Attributes:
        stack: The name of its stack; empty, with `no_stack`, where there is none.
        fault: Why it can't run on its stack.
        told: How its process says that it is (`GET /strategies`); None while it does not say.
        cancelled: Of one that is not to run, or can't: whether its orders have been asked to be cancelled, and whether they
            were when it could send no more.
        numbers_age: Seconds since position and profit were written.
        own_limits: Those of its own manifest.
        withdrawn: Of one that is deleted: its limits are its stack's no more, or that can't be had.
    """

    strategy: Manifest
    stack: str
    no_stack: str = ""
    fault: str = ""
    hosting: Hosting = NOT_KNOWN
    told: Mapping[str, Any] | None = None
    cancelled: Literal["", "asked", "done"] = ""
    numbers_age: float = NUMBERS_SECONDS
    own_limits: OwnLimits = NOT_KNOWN_LIMITS
    withdrawn: bool = False


class State(NamedTuple):
    """How a strategy is.

    Attributes:
        stalled: Waiting alone will not help.
        waits: Something is under way.
    """

    stage: str
    reason: str
    message: str = ""
    ready: bool | None = False
    stalled: bool = False
    waits: bool = False
    paused: bool = False


def reconcile_strategy(seen: SeenStrategy, now: datetime) -> Steps:
    """What is to be done now.

    Args:
        now: UTC; for conditions that change.
    """
    meta = seen.strategy["metadata"]
    held = FINALIZER in (meta.get("finalizers") or [])
    if meta.get("deletionTimestamp"):
        return _clean_up(seen, now) if held else Steps()
    steps: list[Action] = [] if held else [SetFinalizer(True)]
    steps += telling(seen.own_limits)
    if is_idle(seen.strategy):
        if not seen.stack:
            state = State("Paused", "Paused", "it does not run until it is resumed", paused=True)
            return _told(seen, state, steps, now)
        done, cancels = (True, []) if _was_cancelled(seen.strategy) else _cancelling(seen)
        gone = "it does not run, and the cancels of its orders are on their way to the venue"
        message = gone if done else _waiting(seen, _BEING_CANCELLED)
        state = State("Paused", _CANCELLED if done else "Pausing", message, waits=not done, paused=done)
        return _told(seen, state, [*steps, *cancels], now, None if done else _ASK_AGAIN_SECONDS)
    if seen.fault and _runs(seen):
        # Whoever edits it so ends it: what it has sent goes first, as if it was paused.
        done, cancels = _cancelling(seen)
        if not done:
            said = _waiting(seen, f"{seen.fault}; {_BEING_CANCELLED}")
            state = State(_kept(seen), "SpecRefused", said, stalled=True, waits=True)
            return _told(seen, state, [*steps, *cancels], now, _ASK_AGAIN_SECONDS)
    state = _state(seen)
    # What it has sent before it went into the shadow must not go on working.
    if seen.strategy["spec"].get("mode") == "shadow" and seen.told is not None and seen.told.get("open_orders"):
        steps.append(CancelOrders())
    again = ASK_SECONDS if seen.hosting.settled and not state.stalled else _ASK_AGAIN_SECONDS if state.waits else None
    if not seen.fault and seen.stack and not enforcement(seen.strategy, seen.own_limits).status:
        again = _SOON_SECONDS if seen.own_limits.told is not None else _ASK_AGAIN_SECONDS
    return _told(seen, state, steps, now, again)


def _clean_up(seen: SeenStrategy, now: datetime) -> Steps:
    """Its orders first, last the hold on the strategy itself."""
    if not seen.stack:
        return Steps((SetFinalizer(False),))  # with its stack its orders have gone
    done, cancels = _cancelling(seen)
    if done:
        if seen.withdrawn or is_withdrawn(seen.own_limits, seen.strategy):
            return Steps((SetFinalizer(False),))
        return Steps((TellLimits({}),), _SOON_SECONDS)
    state = State("Paused", "Deleting", _waiting(seen, _BEING_CANCELLED), waits=True)
    return _told(seen, state, cancels, now, _ASK_AGAIN_SECONDS)


def _cancelling(seen: SeenStrategy) -> tuple[bool, list[Action]]:
    """Whether it has no orders and can send none, and what there is to do about it."""
    runs = any(version.name == seen.strategy["metadata"]["name"] for version in seen.hosting.runs)
    out = seen.hosting.settled and not runs
    if seen.cancelled == "done" and out:
        return True, []
    if seen.cancelled == "" or out:
        return False, [CancelOrders(final=out)]
    return False, []


def _was_cancelled(strategy: Manifest) -> bool:
    """Whether this pause has been carried out, perhaps by an operator before this one."""
    paused = condition_of(strategy, "Paused") or {}
    same = paused.get("observedGeneration") == strategy["metadata"].get("generation", 0)
    return same and paused.get("status") == "True"


def _waiting(seen: SeenStrategy, what: str) -> str:
    why = seen.hosting.waiting.why
    return f"{what}; {why}" if why else f"{what}; its process begins again without it"


def _state(seen: SeenStrategy) -> State:
    if not seen.stack:
        return State("Pending", "StackMissing", seen.no_stack, stalled=True)
    if seen.fault:
        return State("Pending", "SpecRefused", seen.fault, stalled=True)
    waiting, enforced = seen.hosting.waiting, enforcement(seen.strategy, seen.own_limits)
    if not (is_to_run(seen.strategy) or enforced.status):
        return State(_kept(seen), "LimitsNotEnforced", enforced.message, waits=True)
    if version_of(seen.strategy) not in seen.hosting.runs:
        why = waiting.why or "its process is told of it"
        return State(_kept(seen), "Starting", why, waits=True, stalled=waiting.failed)
    told = seen.told
    if told is None or not seen.hosting.settled:
        why = waiting.why or "its process does not answer yet"
        return State(_kept(seen), "Starting", why, waits=True, stalled=waiting.failed)
    status, reason = told.get("status", ""), str(told.get("reason", ""))
    if status == "running":
        return State(_stage(seen), "Running", reason or "it runs", ready=True)
    if status == "halted":
        return State("Halted", "Halted", f"{reason}; a named person releases it")
    if status == "failed":
        return State("Halted", "Failed", f"{reason}; a named person releases it", stalled=True)
    return State(_kept(seen), "Starting", reason or f"it is {status}", waits=True)


def _runs(seen: SeenStrategy) -> bool:
    """Whether it has run, and may have orders: its stage says so until they are cancelled."""
    return (seen.strategy.get("status") or {}).get("stage") in RUNNING_STAGES


def _kept(seen: SeenStrategy) -> str:
    """The stage of one that does not say how it is: as it was, for a halt stands while its process starts again."""
    before = (seen.strategy.get("status") or {}).get("stage", "")
    return before if before in RUNNING_STAGES else "Pending"


def _stage(seen: SeenStrategy) -> str:
    return "Shadow" if seen.strategy["spec"].get("mode") == "shadow" else "Paper"


def _told(seen: SeenStrategy, state: State, steps: list[Action], now: datetime, again: float | None = None) -> Steps:
    """The steps, and the status if it means something else than what is written there."""
    before = seen.strategy.get("status") or {}
    status = _status(seen, state, f"{now:%Y-%m-%dT%H:%M:%SZ}")
    same = {name: before.get(name) for name in status} == status
    if not same:
        steps = [*steps, PatchStatus(status)]
    if state.stage != before.get("stage"):
        steps = [*steps, Say(state.reason, state.message[:_WORDS_MAX], state.stage == "Halted" or state.stalled)]
    paused = not_paused(seen.strategy)
    if paused.reason == NOT_UNDERSTOOD and paused.message != (condition_of(seen.strategy, "Paused") or {}).get(
        "message"
    ):
        steps = [*steps, Say("PauseNotUnderstood", paused.message, is_warning=True)]
    return Steps(tuple(steps), again)


def _status(seen: SeenStrategy, state: State, moment: str) -> dict[str, Any]:
    before, told = seen.strategy.get("status") or {}, seen.told
    generation = seen.strategy["metadata"].get("generation", 0)
    message = state.message[:_WORDS_MAX]
    observations = [
        Observation("Ready", state.ready, state.reason, message),
        Observation("Reconciling", state.waits, state.reason if state.waits else "Settled", message * state.waits),
        Observation("Stalled", state.stalled, state.reason if state.stalled else "NotStalled", message * state.stalled),
        enforcement(seen.strategy, seen.own_limits),
        Observation("Paused", True, state.reason, message) if state.paused else not_paused(seen.strategy),
    ]
    found: dict[str, Any] = {
        "observedGeneration": generation,
        "conditions": merged(before.get("conditions", []), observations, generation, moment),
        "stack": seen.stack or before.get("stack", ""),
        "stage": state.stage,
        "replicas": int(told.get("shards", 1)) if told is not None and state.stage != "Paused" else 0,
        "selector": f"{INSTANCE_LABEL}={service_name(seen.stack, STRATEGIES)}" if seen.stack else "",
        "haltedReason": _halted_reason(before, state, message),
    }
    if told is None:
        return found
    fresh = state.stage != before.get("stage") or seen.numbers_age >= NUMBERS_SECONDS
    numbers = _numbers(seen.strategy, told) if fresh else {name: before[name] for name in _NUMBERS if name in before}
    return {**found, **numbers}


def _halted_reason(before: Mapping[str, Any], state: State, message: str) -> str:
    if state.stage != "Halted":
        return ""
    return before.get("haltedReason", "") if state.waits else message


def _numbers(strategy: Manifest, told: Mapping[str, Any]) -> dict[str, Any]:
    """What changes with every trade, rounded."""
    held: Mapping[str, str] = told.get("position") or {}
    named = strategy["spec"]["symbols"][0]
    symbols: list[str] = told.get("symbols") or [named]
    symbol = next((each for each in symbols if each.partition(".")[0] == named.partition(".")[0]), symbols[0])
    found = {
        "position": held.get(symbol, "0"),
        "pnl": _rounded(told.get("pnl", "0")),
        "drawdown": _rounded(told.get("drawdown", "0")),
    }
    signal = str(told.get("last_signal_time") or "")
    return {**found, "lastSignalTime": f"{signal[:19]}Z"} if signal else found


def _rounded(amount: str) -> str:
    return f"{float(amount):.2f}".replace("-0.00", "0.00")
