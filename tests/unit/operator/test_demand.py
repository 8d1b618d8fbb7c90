"""The number of replicas follows from what is measured, and never from nothing."""

import math
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trade2026_operator.slo.demand import FAST_BURN, ONE_QUEUE, Fit, Measured, Objective, demand, eased, learned

OBJECTIVE = Objective(0.150)
CALM = Measured(rate=100, fast_rate=100, service_seconds=0.01, p99_seconds=0.1, backlog=0, replicas=2)
RATES = st.floats(0, 1e5)
MEASURED = st.builds(
    Measured,
    rate=RATES, fast_rate=RATES, service_seconds=st.floats(1e-5, 1), p99_seconds=st.none() | st.floats(0, 100),
    backlog=st.floats(0, 1e6), replicas=st.integers(0, 100), burn_short=st.floats(0, 1e3), burn_long=st.floats(0, 1e3),
    hottest_rate=RATES, busy=st.floats(0, 1), newest_seconds=st.none() | st.floats(0, 100),
)  # fmt: skip
FITS = st.builds(
    Fit, c=st.floats(0.5, 50), measurements=st.integers(0, 1_000), service_seconds=st.just(0.0) | st.floats(1e-5, 1)
)


@given(FITS, MEASURED, st.floats(1, 10))
def test_more_work_never_needs_fewer_replicas(fit: Fit, measured: Measured, factor: float) -> None:
    least = demand(OBJECTIVE, fit, measured).replicas
    for field in ("rate", "fast_rate", "backlog", "burn_short", "burn_long", "busy"):
        more = replace(measured, **{field: getattr(measured, field) * factor + 1})
        assert demand(OBJECTIVE, fit, more).replicas >= least, field
    slow = replace(measured, p99_seconds=2 * OBJECTIVE.seconds)  # answers that keep an objective say something, too
    tighter = demand(replace(OBJECTIVE, seconds=OBJECTIVE.seconds / factor), fit, slow)
    assert tighter.unattainable or tighter.replicas >= demand(OBJECTIVE, fit, slow).replicas * (1 - 1e-9)


@given(FITS, MEASURED)
def test_the_answer_is_a_number_and_says_what_it_is_made_of(fit: Fit, measured: Measured) -> None:
    found = demand(OBJECTIVE, fit, measured)
    assert math.isfinite(found.replicas) and found.replicas >= 0
    assert 0.2 * found.mu <= found.each * (1 + 1e-9) and found.each <= 0.9 * found.mu * (1 + 1e-9)
    assert found.boosted == (min(measured.burn_short, measured.burn_long) >= FAST_BURN)


@given(FITS, MEASURED, st.floats(0, 100), st.floats(0, 1e4))
def test_what_was_needed_is_told_until_it_is_forgotten(
    fit: Fit, measured: Measured, before: float, seconds: float
) -> None:
    remembered = eased(before, seconds)
    found = demand(OBJECTIVE, fit, measured, remembered=remembered)
    assert 0 <= remembered <= before and found.lasting >= remembered and found.replicas >= found.lasting
    assert eased(before, 1e6) < 1e-9


def test_replicas_that_answer_all_they_can_ask_for_more_of_them_whatever_the_formula_says() -> None:
    idle = replace(CALM, rate=10, fast_rate=10, replicas=5)
    assert (demand(OBJECTIVE, Fit(), idle).replicas < 1, demand(OBJECTIVE, Fit(), idle).pressed) == (True, "")
    busy = demand(OBJECTIVE, Fit(), replace(idle, busy=0.9))
    assert busy.replicas == 10 and "busy for 90%" in busy.pressed
    slow = demand(OBJECTIVE, Fit(), replace(idle, newest_seconds=0.225))
    assert slow.replicas == pytest.approx(7.5) and "1.5 times as long" in slow.pressed
    assert demand(OBJECTIVE, Fit(), replace(idle, newest_seconds=9.0)).replicas == 10, "the next look tells more"
    assert demand(Objective(0.02), Fit(), replace(idle, newest_seconds=9.0)).replicas < 5, "no replica keeps this one"


def test_what_a_replica_can_do_is_learned_from_one_that_works_and_not_from_one_that_idles() -> None:
    works = replace(CALM, rate=100, fast_rate=100, service_seconds=0.01, replicas=2)
    idles = replace(CALM, rate=10, fast_rate=10, service_seconds=0.02, replicas=2)
    fit = learned(Fit(), works)
    assert fit.service_seconds == 0.01
    assert learned(fit, idles).service_seconds == 0.01
    assert demand(OBJECTIVE, fit, idles).mu == pytest.approx(100)
    assert demand(OBJECTIVE, Fit(), idles).mu == pytest.approx(50), "nothing else is known"
    slower = replace(works, service_seconds=0.015)
    assert demand(OBJECTIVE, fit, slower).mu == pytest.approx(1 / 0.015), "what works is believed"
    for _ in range(100):
        fit = learned(fit, slower)
    assert fit.service_seconds == pytest.approx(0.015, rel=0.01)


def test_few_replicas_have_more_room_for_a_jump_than_many() -> None:
    def room(rate: float) -> float:
        busy = replace(CALM, rate=rate, fast_rate=rate)
        bare = demand(replace(OBJECTIVE, spare=0.0), Fit(), busy).replicas
        return demand(OBJECTIVE, Fit(), busy).replicas / bare

    assert room(60) > 2 > 1.5 > room(1_000) > 1


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf])
def test_without_a_measurement_there_is_no_answer(seconds: float) -> None:
    with pytest.raises(ValueError, match="is not known"):
        demand(OBJECTIVE, Fit(), replace(CALM, service_seconds=seconds))


@given(FITS, MEASURED)
def test_what_is_learned_stays_within_bounds_whatever_is_measured(fit: Fit, measured: Measured) -> None:
    assert 0.5 <= learned(fit, measured).c <= 50


def test_nothing_is_learned_of_a_queue_that_grows_or_of_silence() -> None:
    for useless in (
        replace(CALM, rate=190),
        replace(CALM, backlog=50),
        replace(CALM, p99_seconds=None),
        replace(CALM, rate=0),
        replace(CALM, replicas=0),
        replace(CALM, settled=False),
    ):
        found = learned(Fit(), useless)
        assert (found.c, found.measurements) == (Fit().c, 0)


@pytest.mark.parametrize("c", [1.0, ONE_QUEUE, 12.0])
def test_the_constant_of_a_service_is_found_though_every_measurement_is_off(c: float) -> None:
    rng, fit = Random(7), Fit()
    for _ in range(200):
        rate = rng.uniform(20, 160)
        p99 = c / (100 - rate / 2) * rng.uniform(0.9, 1.1)
        fit = learned(fit, replace(CALM, rate=rate, p99_seconds=p99))
    assert abs(fit.c - c) < 0.1 * c


def test_with_so_many_replicas_one_queue_each_keeps_the_objective() -> None:
    """As the theory of one queue has it: the tail of the time in it is exponential."""
    for rate in (10, 75, 300, 2_000):
        needed = demand(OBJECTIVE, Fit(), replace(CALM, rate=rate, fast_rate=rate)).replicas
        count = math.ceil(needed)
        p99 = math.log(100) / (100 - rate / count)
        assert p99 <= OBJECTIVE.seconds and count <= 3 + rate / 100 * 5


def test_what_no_number_of_replicas_can_do_is_said() -> None:
    slow = demand(Objective(0.02), Fit(), CALM)
    assert "even an idle replica needs 58 ms" in slow.unattainable
    hot = demand(OBJECTIVE, Fit(), replace(CALM, hottest_rate=80))
    assert "one partition gets 80 requests a second" in hot.unattainable
    assert demand(OBJECTIVE, Fit(), CALM).unattainable == ""


def test_what_nobody_asks_needs_one_replica_however_much_it_does_besides() -> None:
    """A pod of a fifth of a core, a third of which its connections and probes take: each request seemed to take 1.5 s."""
    idle = Measured(rate=0.2, fast_rate=0.3, service_seconds=1.5, p99_seconds=None, backlog=0, replicas=1)
    learnt = Fit(service_seconds=0.012, measurements=9)
    for replicas in (1, 3):
        measured = replace(idle, replicas=replicas, service_seconds=1.5 * replicas)
        assert demand(OBJECTIVE, learnt, measured).replicas < 1
        assert demand(OBJECTIVE, Fit(), measured).replicas < 1, "nor where nothing is known yet"
    fit = learnt
    for _ in range(100):
        fit = learned(fit, idle)
    assert fit == learnt


def test_what_was_learned_of_an_idle_pod_is_unlearned_under_load() -> None:
    fit = learned(Fit(), replace(CALM, rate=1, fast_rate=1, service_seconds=0.6, replicas=1, p99_seconds=None))
    assert fit.service_seconds == 0.6, "it was half busy, with what is not known"
    for _ in range(15):
        fit = learned(fit, replace(CALM, service_seconds=0.012))
    assert fit.service_seconds == pytest.approx(0.012, rel=0.3)


def test_of_what_is_not_known_and_has_time_left_no_more_replicas_are_asked_for() -> None:
    few = replace(CALM, rate=5, fast_rate=5, service_seconds=0.05, replicas=1)
    assert demand(OBJECTIVE, Fit(), few).replicas == 1
    assert demand(OBJECTIVE, Fit(), replace(few, busy=0.95)).replicas == 2
    assert demand(OBJECTIVE, Fit(), few, remembered=3.0).replicas == 3, "nor fewer than were needed"


def test_a_service_that_became_slower_is_learned_while_it_is_saturated() -> None:
    fit, slow = Fit(service_seconds=0.01), replace(CALM, rate=20, fast_rate=20, service_seconds=0.1, busy=1.0)
    for _ in range(40):
        fit = learned(fit, slow)
    assert fit.service_seconds == pytest.approx(0.1, rel=0.1)
