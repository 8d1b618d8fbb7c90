"""What may be made of a demand: when nothing may be said, when nobody may be sent home, and when more would not help.

Pure. A guard never makes the answer 0 and never hides what is needed behind what there may be: an answer that is cut to
the maximum lies within the tolerance of the HPA just below it, and replicas get stuck there. So `maxReplicas` cuts.
"""

import math
from dataclasses import dataclass, replace

from trade2026_operator.reconcile.conditions import Observation
from trade2026_operator.reconcile.objects import Manifest, condition_of
from trade2026_operator.reconcile.readiness import UNSCHEDULABLE
from trade2026_operator.slo.demand import Demand, Measured, Objective
from trade2026_operator.slo.windows import FULL_SHARE

CLIMBS_MAX = 2
"""So many times replicas are added without more getting done; then something behind them is what is short."""
RISE_MIN = 1.05
SETTLE_SECONDS = 60.0
FREEZE_SECONDS = 600.0
MEASURED_SHARE_MIN = 0.5
THAWED = 1.25
"""So much more has to get done by as many replicas, that what was short behind them is so no more."""
ERROR_RATIO_MAX = 0.5
"""Of the answers, that may say that the service can't: half of a minute is no handover."""
BUSY_MIN = 0.1
"""An idle replica says nothing of what one can do: what it does besides weighs more than its requests."""


@dataclass(frozen=True)
class Climb:
    """Whether more replicas do more.

    Attributes:
        replicas: Before they were increased; 0 at first.
        rate: That was done by those.
        since: When all of the increased ones were ready; None while they are not, or were not increased.
        fruitless: How many increases in a row brought nothing.
        frozen_until: Seconds, monotonic; 0 while it is not frozen.
    """

    replicas: int = 0
    rate: float = 0.0
    since: float | None = None
    fruitless: int = 0
    frozen_until: float = 0.0


@dataclass(frozen=True)
class Situation:
    """Of a release, beside what was measured.

    Attributes:
        replicas: That it has been told to have.
        ready: Of those.
        most: That it may have by its manifest.
        partitions: Of its work; 0 where that is not split.
        rolling: A new version is being rolled out.
        burn: Of the error budget, over half an hour and still.
        measured_share: Of the window, that is known.
        unschedulable: Of its pods that no node has room for, why, in the scheduler's words.
    """

    replicas: int
    ready: int
    most: int
    partitions: int = 0
    rolling: bool = False
    burn: float = 0.0
    measured_share: float = 1.0
    unschedulable: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What is told about a release.

    Attributes:
        replicas: For the HPA; None: nothing, so that it leaves all as it is.
        met, active, limited: The conditions, of this release alone.
    """

    replicas: float | None
    met: Observation
    active: Observation
    limited: Observation

    @property
    def why(self) -> str:
        """For a person."""
        return self.active.message if self.replicas is None else self.limited.message or self.active.message

    @property
    def meaning(self) -> tuple[object, ...]:
        """What of it has to change for a person to be told again."""
        said = tuple((each.type, each.status, each.reason) for each in (self.met, self.active, self.limited))
        return (*said, None if self.replicas is None else math.ceil(self.replicas - 1e-9))


def held(reason: str, message: str) -> Verdict:
    """Nothing is known, or not enough: replicas stay as they are."""
    said = f"{message}: replicas stay as they are"
    return Verdict(
        None,
        Observation("SLOMet", None, reason, message),
        Observation("ScalingActive", False, reason, said),
        Observation("ScalingLimited", None, reason, message),
    )


def heard(verdict: Verdict, autoscaler: Manifest | None, others: str) -> Verdict:
    """The same, unless the autoscaler says that it does not hear it.

    Args:
        autoscaler: The HPA, or KEDA's ScaledObject while that has none.
        others: Who else serves external metrics; empty where nobody does.
    """
    why = _silence(autoscaler) if autoscaler is not None else None
    if verdict.replicas is None or why is None:
        return verdict
    whose = f"; external metrics are served by {others}, not by this operator" if others else ""
    message = f"the autoscaler does not hear it, and leaves all as it is{whose}: {why}"
    reason = "ServedByOthers" if others else "AutoscalerFails"
    return replace(verdict, active=Observation("ScalingActive", False, reason, message))


def _silence(autoscaler: Manifest) -> str | None:
    """Why, in its own words; None if it is not."""
    for kind, status in (("ScalingActive", "False"), ("Ready", "False"), ("Paused", "True")):
        said = condition_of(autoscaler, kind)
        if said is not None and said["status"] == status:
            return said.get("message", "")
    return None


def is_enough(answered: int, ready: int) -> bool:
    """Whether so many of the replicas have said how they are that the others may be supposed to be like them."""
    return answered > 0 and answered >= MEASURED_SHARE_MIN * ready


def climbed(climb: Climb, situation: Situation, rate: float, needed: float, now: float) -> Climb:
    """The same after one more look.

    An increase is judged when all have been ready for a whole window: if they do not do more than those before them did,
    and still more are needed, it was fruitless. One that helps, or the end of the need, makes all forgotten.
    """
    short = needed > situation.replicas
    if climb.frozen_until:
        if not short or rate >= THAWED * climb.rate:
            return Climb(situation.replicas, rate)
        # One more try and not two: what did not help before most likely does not help now.
        return Climb(situation.replicas, rate, fruitless=CLIMBS_MAX - 1) if now >= climb.frozen_until else climb
    if climb.replicas == 0 or situation.replicas <= climb.replicas:
        return Climb(situation.replicas, rate, fruitless=climb.fruitless if short else 0)
    if situation.ready < situation.replicas:
        return replace(climb, since=None)
    if climb.since is None:
        return replace(climb, since=now)
    if now - climb.since < SETTLE_SECONDS:
        return climb
    fruitless = climb.fruitless + 1 if short and rate < RISE_MIN * climb.rate else 0
    frozen = now + FREEZE_SECONDS if fruitless >= CLIMBS_MAX else 0.0
    return Climb(situation.replicas, rate, None, fruitless, frozen)


def judged(
    objective: Objective,
    measured: Measured,
    demand: Demand | None,
    situation: Situation,
    climb: Climb,
    remembered: float = 0.0,
) -> Verdict:
    """What is told.

    Args:
        demand: None if nothing was done in the whole window.
        remembered: See `demand`.
    """
    met = _met(objective, measured)
    if demand is None and (measured.backlog >= 1 or measured.rate > 0):
        waits = (
            f"{measured.backlog:.0f} wait, and nothing of them gets done: look at what it needs (broker, store, venue)"
        )
        return replace(held("Stuck", waits), met=met)
    if demand is None:
        idle = Observation("ScalingActive", True, "Idle", "no request for a minute: one replica is enough")
        return _not_lowered(Verdict(max(1.0, remembered), met, idle, _unlimited()), measured, situation)
    words = _in_words(objective, measured, demand)
    verdict = Verdict(
        max(1.0, demand.replicas), met, Observation("ScalingActive", True, "Measured", words), _unlimited()
    )
    if climb.frozen_until and demand.replicas > situation.replicas:
        said = (
            f"{climb.fruitless} times replicas were added and no more got done ({measured.rate:.0f}/s): what they wait for "
            f"is short, not they; {situation.replicas} replicas stay"
        )
        limited = Observation("ScalingLimited", True, "DownstreamBound", said)
        return replace(verdict, replicas=float(situation.replicas), limited=limited)
    verdict = _not_lowered(verdict, measured, situation)
    return replace(verdict, limited=_beyond(verdict, demand, measured, situation))


def _not_lowered(verdict: Verdict, measured: Measured, situation: Situation) -> Verdict:
    """Nobody is sent home while the budget burns, answers fail, a new version comes, or little is known."""
    assert verdict.replicas is not None
    if verdict.replicas >= situation.replicas:
        return verdict
    if situation.rolling:
        reason, said = "RolloutInProgress", "a new version is being rolled out"
    elif situation.burn >= 1:
        reason, said = "BurningBudget", f"the error budget burns {situation.burn:.1f} times as fast as it lasts"
    elif measured.error_ratio >= ERROR_RATIO_MAX:
        reason, said = "AnswersFail", f"{measured.error_ratio:.0%} of the answers are errors (5xx)"
    elif measured.silent:
        reason, said = (
            "ReplicasSilent",
            f"{_silent(measured)} did not say how they are, and may have too much to do for it",
        )
    elif situation.measured_share < FULL_SHARE:
        reason, said = "WindowIncomplete", f"{situation.measured_share:.0%} of the window are measured"
    else:
        return verdict
    limited = Observation("ScalingLimited", True, reason, f"{said}: {situation.replicas} replicas are not made fewer")
    return replace(verdict, replicas=float(situation.replicas), limited=limited)


def _beyond(verdict: Verdict, demand: Demand, measured: Measured, situation: Situation) -> Observation:
    """Why more replicas can't be had, or would not help."""
    assert verdict.replicas is not None
    busy = measured.rate / max(1, measured.replicas) >= BUSY_MIN * demand.mu
    if demand.unattainable and busy:
        hot = demand.hot
        return Observation("ScalingLimited", True, "HotPartition" if hot else "SLOUnattainable", demand.unattainable)
    if situation.unschedulable:
        waiting = f"{len(situation.unschedulable)} of {situation.replicas} replicas have no place: {situation.unschedulable[0]}"
        return Observation("ScalingLimited", True, UNSCHEDULABLE, waiting)
    if verdict.limited.status or verdict.replicas <= situation.most:
        return verdict.limited
    needed = f"{demand.replicas:.1f} replicas are needed"
    if situation.partitions and situation.partitions <= situation.most:
        return Observation(
            "ScalingLimited", True, "Partitions", f"{needed}, and {situation.partitions} partitions can be shared"
        )
    return Observation(
        "ScalingLimited", True, "MaxReplicas", f"{needed}, {situation.most} are allowed: raise replicas.max"
    )


def _unlimited() -> Observation:
    return Observation("ScalingLimited", False, "WithinRange")


def _met(objective: Objective, measured: Measured) -> Observation:
    if measured.error_ratio >= ERROR_RATIO_MAX:
        failed = f"{measured.error_ratio:.0%} of the answers of a minute are errors (5xx): the service can't do what it is asked"
        return Observation("SLOMet", False, "AnswersFail", failed)
    if measured.p99_seconds is None:
        return Observation("SLOMet", None, "FewRequests", "too few requests for a minute to say how fast they are")
    said = (
        f"{objective.quantile * 100:g} of 100 answers within {_ms(measured.p99_seconds)}, the objective is "
        f"{_ms(objective.seconds)}; over 5 minutes the error budget burns {measured.burn_short:.1f} times as fast as it lasts"
    )
    if measured.error_ratio:
        said = f"{said}; {measured.error_ratio:.2%} of the answers of a minute are errors (5xx)"
    if measured.silent:
        said = f"{said}; {_silent(measured)} are not in it, because they did not answer"
    if measured.burn_short >= 1:
        return Observation("SLOMet", False, "BudgetBurns", said)
    return Observation("SLOMet", True, "WithinObjective", said)


def _in_words(objective: Objective, measured: Measured, demand: Demand) -> str:
    """The number, and what it is made of: mu, c, r*, D."""
    boosted = ", a quarter more while the error budget burns fast" if demand.boosted else ""
    pressed = f"; {demand.pressed}" if demand.pressed else ""
    kept = f", {demand.lasting:.1f} were needed lately" if demand.remembered else ""
    since = f", the oldest since {measured.behind_seconds:.1f} s" if measured.behind_seconds else ""
    waiting = f" and {measured.backlog:.0f} wait{since}" if measured.backlog >= 1 else ""
    return (
        f"{demand.replicas:.1f} replicas are needed (D): {max(measured.rate, measured.fast_rate):.0f}/s come{waiting}, one "
        f"replica can do {demand.mu:.0f}/s (mu) and may get {demand.each:.0f}/s (r*) within {_ms(objective.seconds)} "
        f"(c {demand.c:.1f}), {demand.spare:.1f} are room for a jump{kept}{boosted}{pressed}"
    )


def _silent(measured: Measured) -> str:
    return f"{measured.silent} of {measured.replicas} replicas"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"
