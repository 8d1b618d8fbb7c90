"""How many replicas a service needs to keep its latency objective, from what it measures of itself.

A replica that can do `mu` requests a second and gets `rate` of them answers 99 of 100 within about `c / (mu - rate)`: so
it is with one queue (`c` is ln 100 then), and nearly so with most. Turned around, that says how much one replica may
get. The constant is not believed but measured, again and again: with a wrong one an open formula is worse than none. What
waits already is to be drained in a fixed time, and a fast-burning error budget adds to it.

The formula knows what is answered, and a service that can do no more answers no more, however much comes: what waits in
sockets nobody counts. So replicas that are busy all the time, or slower than the objective, ask for more of them whatever
the formula says (`pressed`). Beside what is needed there is room for a jump, of which few replicas need more than many;
and a need that has been is believed to come again: it is forgotten slowly (`eased`).

The answer is a number of replicas, not a load: an HPA with `AverageValue: 1` makes it so many, it reads well in `kubectl
get hpa`, and it is proportional by construction. It is not rounded and not cut to the partitions there are: a metric that is
cut lies within the tolerance of the HPA just below its maximum, and stays there.
"""

import math
from dataclasses import dataclass, replace

ONE_QUEUE = math.log(100)
"""`c` of one queue with one server, for the slowest of a hundred."""
_C_MIN, _C_MAX = 0.5, 50.0
_FORGET = 0.1
"""Weight of a new measurement of `c`."""
_BUSY_MAX = 0.9
"""A replica that is busier is no measure of `c`: its queue still grows."""
_BUSY_MIN = 0.1
"""One that is less busy neither: what it does besides weighs more than its requests, so `mu` is too small."""
_WORKING_MIN = 0.3
"""One that is less busy with requests is a bad measure of `mu`: what it does besides is shared out to few of them, and one
that could do 120/s looked as if it could do 68; one that nobody asked, with a fifth of a core, as if it could do one in 5 s."""
_FASTER = 0.3
"""Weight of a measurement that says less than is known: what it does besides only ever makes a request look dearer."""
_SLOWER_MAX = 1.1
"""By so much one measurement may make it dearer."""
_WAITING_MAX = 5.0
"""Requests before a replica: more are a backlog that is drained."""
_STEADY = 0.25
"""By so much of it the rate may differ between a minute and a few seconds: of a change nothing is learned."""
_SURPRISE_MAX = 1.5
"""By so much one measurement may differ from what is known: what is left of an overload is no nature of the service."""
_SHARE_MIN, _SHARE_MAX = 0.2, 0.9
"""Of what a replica can do, that it is given: never so little that replicas would pile up, never so much that it queues."""
_UNATTAINABLE = 0.8
_SATURATED = 0.9
"""Replicas that are so busy answer as much as they can, and not as much as comes."""
_PRESSED_MAX = 2.0
"""By so much more replicas are asked for at once: what comes is not known then, and the next look tells more."""
FAST_BURN = 14.4
EASE_SECONDS = 600.0
"""In which a need that has been is forgotten, to a third of it: as long as loads that were simulated needed it."""


@dataclass(frozen=True)
class Objective:
    """So large a share of the answers within `seconds`.

    Attributes:
        quantile: The share.
        headroom: Share of the objective that is aimed at.
        drain_seconds: In which a backlog is to be gone.
        spare: Room for a jump of the load, in square roots of the replicas that are needed (square-root staffing).
    """

    seconds: float
    headroom: float = 0.9
    drain_seconds: float = 10.0
    quantile: float = 0.99
    spare: float = 1.5


@dataclass(frozen=True)
class Measured:
    """What the replicas of a service say of themselves, all together.

    Attributes:
        rate: Requests a second, over a minute; of a fold of the log, with the records that were written for it.
        fast_rate: The same over a few seconds: bursts do not show in a minute.
        service_seconds: Mean time that one request takes, without waiting.
        p99_seconds: Of the answers, at the quantile of the objective; None if there were too few.
        backlog: Requests that wait, or records that a fold is behind.
        replicas: That are ready.
        burn_short: Rate at which the error budget burns over 5 minutes, 1 being as fast as it lasts.
        burn_long: The same over an hour.
        hottest_rate: Of the partition that gets most; 0 where work is not split.
        behind_seconds: Age of the oldest record that a fold is behind.
        settled: Replicas were as many all the time: else the answers are of another number than `replicas`.
        busy: Share of what the replicas can do that they did, in the last seconds, if they were as many in those; else 0.
        error_ratio: Of the requests, answered that the service can't (5xx).
        silent: Replicas that did not answer at some time in the window. Who has too much to do is who is silent.
        newest_seconds: As `p99_seconds`, of the same last seconds; None if there were too few (of all, or of slow
            ones), or another number of replicas.
    """

    rate: float
    fast_rate: float
    service_seconds: float
    p99_seconds: float | None
    backlog: float
    replicas: int
    burn_short: float = 0.0
    burn_long: float = 0.0
    hottest_rate: float = 0.0
    behind_seconds: float = 0.0
    settled: bool = True
    busy: float = 0.0
    newest_seconds: float | None = None
    error_ratio: float = 0.0
    silent: int = 0


@dataclass(frozen=True)
class Fit:
    """What was learned of a service. It outlives an operator: a fresh leader must not begin with a guess.

    Attributes:
        service_seconds: Of one request, of replicas that had something to do; 0 before they had.
    """

    c: float = ONE_QUEUE
    measurements: int = 0
    service_seconds: float = 0.0


@dataclass(frozen=True)
class Demand:
    """The answer, with what it is made of, for a person.

    Attributes:
        replicas: Needed, not rounded.
        mu: Requests a second that one replica can do.
        each: That one may get within the objective.
        spare: Of `replicas`, room for a jump of the load.
        lasting: Of `replicas`, what is to be remembered: without what a backlog, a burning budget or pressure add for a moment.
        remembered: It was needed lately, and is more than is needed now.
        pressed: Why more are asked for than the formula says; empty if none are.
        unattainable: Why no number of replicas keeps the objective; empty if some does.
    """

    replicas: float
    mu: float
    each: float
    c: float
    boosted: bool
    spare: float
    lasting: float
    remembered: bool
    pressed: str = ""
    unattainable: str = ""
    hot: bool = False
    """It is one partition that gets too much."""


def learned(fit: Fit, measured: Measured) -> Fit:
    """The fit after one more measurement; the same where it says nothing, e.g. while a backlog is drained."""
    fit = replace(fit, service_seconds=_service_seconds(fit, measured))
    if not measured.settled or measured.p99_seconds is None or measured.replicas < 1 or measured.service_seconds <= 0:
        return fit
    mu, rate = 1 / measured.service_seconds, measured.rate / measured.replicas
    steady = abs(measured.fast_rate - measured.rate) <= _STEADY * measured.rate
    if (
        rate <= 0
        or not _BUSY_MIN * mu <= rate < _BUSY_MAX * mu
        or rate * fit.service_seconds < _BUSY_MIN
        or not steady
        or measured.backlog > _WAITING_MAX * measured.replicas
    ):
        return fit
    seen = measured.p99_seconds * (mu - rate)
    c = min(_C_MAX, fit.c * _SURPRISE_MAX, max(_C_MIN, fit.c / _SURPRISE_MAX, seen))
    weight = max(_FORGET, 1 / (fit.measurements + 2))  # the first ones count for more than the guess
    return replace(fit, c=fit.c + weight * (c - fit.c), measurements=fit.measurements + 1)


def _service_seconds(fit: Fit, measured: Measured) -> float:
    """What a request takes, as far as is known now."""
    known, seen = fit.service_seconds, measured.service_seconds
    if not 0 < seen < math.inf:
        return known
    if not known:
        return seen if _works(fit, measured) else 0.0
    if seen < known:
        return known + _FASTER * (seen - known)
    if _works(fit, measured) or measured.busy >= _SATURATED:
        return min(known + _FORGET * (seen - known), known * _SLOWER_MAX)
    return known


def _works(fit: Fit, measured: Measured) -> bool:
    """Whether requests are what the replicas are busy with; before anything is known, whether they are busy."""
    known = fit.service_seconds or measured.service_seconds
    return measured.rate * known >= _WORKING_MIN * max(1, measured.replicas)


def demand(
    objective: Objective, fit: Fit, measured: Measured, *, remembered: float = 0.0, boost: float = 0.25
) -> Demand:
    """How many replicas are needed now.

    Args:
        remembered: So many were needed, less what is forgotten of it (`eased`).
        boost: Added, as a share, while the error budget burns fast over both windows.

    Raises:
        ValueError: there is no service time to go by: whoever asks must say so, and never 0.
    """
    if measured.service_seconds <= 0 or not math.isfinite(measured.service_seconds):
        raise ValueError("no request was measured: what a replica can do is not known")
    mu = _mu(objective, fit, measured)
    gap = fit.c / (objective.headroom * objective.seconds)
    each = min(_SHARE_MAX * mu, max(_SHARE_MIN * mu, mu - gap))
    least = max(measured.rate, measured.fast_rate) / each
    spare = objective.spare * math.sqrt(least)
    now = least + spare
    if not fit.service_seconds and not _works(fit, measured):
        now = min(now, measured.replicas)  # they have time left, and what takes the rest is not known
    lasting = max(now, remembered)
    needed = lasting + measured.backlog / (objective.drain_seconds * each)
    boosted = min(measured.burn_short, measured.burn_long) >= FAST_BURN
    if boosted:
        needed *= 1 + boost
    why, hot = _unattainable(objective, fit, mu), False
    factor, pressed = _pressed(objective, measured, can_be_kept=not why)
    if factor * measured.replicas > needed:
        needed = factor * measured.replicas
    else:
        pressed = ""
    if not why and measured.hottest_rate > each:
        why, hot = _hot(measured.hottest_rate, each), True
    return Demand(needed, mu, each, fit.c, boosted, spare, lasting, remembered > now, pressed, why, hot)


def _mu(objective: Objective, fit: Fit, measured: Measured) -> float:
    """Requests a second that one replica can do."""
    mu = 1 / measured.service_seconds
    if fit.service_seconds and not _works(fit, measured):
        mu = max(mu, 1 / fit.service_seconds)
    if all(told is None or told <= objective.seconds for told in (measured.p99_seconds, measured.newest_seconds)):
        # So little that the objective could not be kept is disproved by answers that keep it.
        mu = max(mu, fit.c / (_UNATTAINABLE * objective.seconds))
    return mu


def _pressed(objective: Objective, measured: Measured, *, can_be_kept: bool) -> tuple[float, str]:
    """By how much the replicas there are too few at least, whatever the formula says, and why; 0 if they are not.

    Args:
        can_be_kept: The objective, by any number of replicas: else nothing follows from slow answers.
    """
    if measured.busy >= _SATURATED:
        return (
            _PRESSED_MAX,
            f"the replicas are busy for {measured.busy:.0%} of the time, so that more comes than they answer",
        )
    if can_be_kept and measured.newest_seconds is not None and measured.newest_seconds > objective.seconds:
        factor = min(_PRESSED_MAX, measured.newest_seconds / objective.seconds)
        return factor, f"answers take {factor:.1f} times as long as they may"
    return 0.0, ""


def eased(lasting: float, seconds: float, ease_seconds: float = EASE_SECONDS) -> float:
    """What is remembered of a need after so many seconds."""
    return lasting * math.exp(-seconds / ease_seconds)


def _unattainable(objective: Objective, fit: Fit, mu: float) -> str:
    if fit.c / objective.seconds <= _UNATTAINABLE * mu:
        return ""
    least = fit.c / (_UNATTAINABLE * mu)
    share = f"{objective.quantile * 100:g} of 100"
    return f"even an idle replica needs {least * 1000:.0f} ms for {share}, the objective is {objective.seconds * 1000:.0f} ms"


def _hot(rate: float, each: float) -> str:
    return f"one partition gets {rate:.0f} requests a second, a replica can take {each:.0f}: its accounts can't be spread further"
