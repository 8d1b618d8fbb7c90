"""What is made of a demand: nothing is said of what nobody knows, nobody is sent home too early, and the reason is told."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trade2026_operator.reconcile.conditions import Observation
from trade2026_operator.slo.demand import Fit, Measured, Objective, demand
from trade2026_operator.slo.guards import (
    CLIMBS_MAX,
    FREEZE_SECONDS,
    Climb,
    Situation,
    Verdict,
    climbed,
    heard,
    held,
    is_enough,
    judged,
)
from trade2026_operator.slo.memory import Remembered, read, to_manifest
from trade2026_operator.slo.telling import TELL_SECONDS, Teller, conditions
from trade2026_operator.slo.windows import Minute

OBJECTIVE = Objective(0.150, headroom=0.8, spare=0.0)
CALM = Measured(rate=300, fast_rate=300, service_seconds=0.01, p99_seconds=0.1, backlog=0, replicas=6)
NOTHING = replace(CALM, rate=0, fast_rate=0, service_seconds=0, p99_seconds=None)
SITUATION = Situation(replicas=6, ready=6, most=12, partitions=24)
MEASURED = st.builds(
    Measured,
    rate=st.floats(0, 1e4), fast_rate=st.floats(0, 1e4), service_seconds=st.floats(1e-5, 1),
    p99_seconds=st.none() | st.floats(0, 100), backlog=st.floats(0, 1e5), replicas=st.integers(1, 64),
    burn_short=st.floats(0, 100), burn_long=st.floats(0, 100), hottest_rate=st.floats(0, 1e4),
)  # fmt: skip
SITUATIONS = st.builds(
    Situation,
    replicas=st.integers(1, 64), ready=st.integers(0, 64), most=st.integers(1, 64), partitions=st.integers(0, 64),
    rolling=st.booleans(), burn=st.floats(0, 100), measured_share=st.floats(0, 1),
)  # fmt: skip
CLIMBS = st.builds(Climb, replicas=st.integers(0, 64), rate=st.floats(0, 1e4), frozen_until=st.sampled_from([0.0, 1e9]))


def verdict(measured: Measured = CALM, situation: Situation = SITUATION, climb: Climb | None = None) -> Verdict:
    return judged(OBJECTIVE, measured, demand(OBJECTIVE, Fit(), measured), situation, climb or Climb())


@given(MEASURED, SITUATIONS, CLIMBS)
def test_the_answer_is_never_nothing_and_every_condition_is_one(
    measured: Measured, situation: Situation, climb: Climb
) -> None:
    found = verdict(measured, situation, climb)
    assert found.replicas is not None and found.replicas >= 1
    assert [each.type for each in (found.met, found.active, found.limited)] == [
        "SLOMet",
        "ScalingActive",
        "ScalingLimited",
    ]
    assert all(each.reason.isalpha() for each in (found.met, found.active, found.limited))
    if situation.rolling or situation.burn >= 1 or situation.measured_share < 0.9:
        assert found.replicas >= situation.replicas or climb.frozen_until, "nobody is sent home"


def test_the_number_is_told_with_what_it_is_made_of() -> None:
    found = verdict()
    assert found.replicas == pytest.approx(4.87, abs=0.02)
    for part in ("4.9 replicas are needed (D)", "300/s come", "100/s (mu)", "62/s (r*)", "150 ms", "(c 4.6)"):
        assert part in found.active.message
    assert (found.met.status, found.limited.status) == (True, False)
    roomy, busy = replace(OBJECTIVE, spare=1.0), replace(CALM, busy=0.95)
    found = judged(roomy, busy, demand(roomy, Fit(), busy, remembered=8.0), SITUATION, Climb(), 8.0)
    for part in ("12.0 replicas", "2.2 are room for a jump", "8.0 were needed lately", "busy for 95% of the time"):
        assert part in found.active.message


def test_what_is_needed_is_not_cut_to_what_there_may_be() -> None:
    many = replace(CALM, rate=3_000, fast_rate=3_000)
    found = verdict(many)
    assert found.replicas is not None and found.replicas > 40
    assert found.limited[:3] == ("ScalingLimited", True, "MaxReplicas") and "12 are allowed" in found.limited.message
    assert verdict(many, replace(SITUATION, most=24)).limited.reason == "Partitions"


def test_of_a_window_that_is_not_full_a_number_may_rise_and_not_fall() -> None:
    new = replace(SITUATION, measured_share=0.5)
    assert (verdict(situation=new).replicas, verdict(situation=new).limited.reason) == (6, "WindowIncomplete")
    much = verdict(replace(CALM, rate=600, fast_rate=600), new)
    assert much.replicas is not None and much.replicas > 6 and not much.limited.status


def test_nobody_is_sent_home_while_a_version_comes_or_the_budget_burns() -> None:
    little = replace(CALM, rate=50, fast_rate=50)
    assert verdict(little).replicas == 1
    for situation, reason in (
        (replace(SITUATION, rolling=True), "RolloutInProgress"),
        (replace(SITUATION, burn=1.0), "BurningBudget"),
    ):
        found = verdict(little, situation)
        assert (found.replicas, found.limited.reason) == (6, reason)
        idle = judged(OBJECTIVE, NOTHING, None, situation, Climb())
        assert (idle.replicas, idle.active.reason) == (6, "Idle")
    assert judged(OBJECTIVE, NOTHING, None, SITUATION, Climb()).replicas == 1


def test_who_is_silent_may_have_too_much_to_do_so_nobody_is_sent_home() -> None:
    little = replace(CALM, rate=50, fast_rate=50, silent=2)
    found = verdict(little)
    assert (found.replicas, found.limited.reason) == (6, "ReplicasSilent")
    assert "2 of 6 replicas" in found.limited.message and "2 of 6 replicas" in found.met.message
    much = verdict(replace(CALM, rate=900, fast_rate=900, silent=2)).replicas
    assert much is not None and much > 6


def test_what_waits_and_does_not_get_done_is_not_idle() -> None:
    for stuck in (replace(NOTHING, backlog=9), replace(NOTHING, rate=1_000)):
        found = judged(OBJECTIVE, stuck, None, SITUATION, Climb(), 2.0)
        assert (found.replicas, found.active.status, found.active.reason) == (None, False, "Stuck")
    assert "9 wait" in judged(OBJECTIVE, replace(NOTHING, backlog=9), None, SITUATION, Climb()).why


def test_errors_are_no_quick_answers() -> None:
    little = replace(CALM, rate=50, fast_rate=50, p99_seconds=0.001, error_ratio=0.6)
    found = verdict(little)
    assert found.met[:3] == ("SLOMet", False, "AnswersFail") and "60%" in found.met.message
    assert (found.replicas, found.limited.reason) == (6, "AnswersFail"), "nor idle"
    some = verdict(replace(little, error_ratio=0.1)).met
    assert some.status and "10.00% of the answers of a minute are errors" in some.message, "a handover may cost some"


def test_replicas_that_no_node_has_room_for_are_told_of_in_the_words_of_the_scheduler() -> None:
    found = verdict(situation=replace(SITUATION, ready=5, unschedulable=("pod desk-oms-5 can't be scheduled: no cpu",)))
    assert found.limited[:3] == ("ScalingLimited", True, "Unschedulable")
    assert "1 of 6 replicas have no place: pod desk-oms-5 can't be scheduled: no cpu" in found.limited.message


def test_what_more_replicas_can_not_help_is_said_of_busy_ones_only() -> None:
    hot = replace(CALM, hottest_rate=80)
    assert verdict(hot).limited.reason == "HotPartition"
    slow = judged(Objective(0.02), CALM, demand(Objective(0.02), Fit(), CALM), SITUATION, Climb())
    assert slow.limited.reason == "SLOUnattainable" and "58 ms" in slow.limited.message
    quiet = replace(CALM, rate=1, fast_rate=1)
    assert (
        judged(Objective(0.02), quiet, demand(Objective(0.02), Fit(), quiet), SITUATION, Climb()).limited.status
        is False
    )


def test_a_burning_budget_is_no_met_objective_and_few_requests_are_no_answer() -> None:
    assert verdict(replace(CALM, burn_short=2.0)).met[:3] == ("SLOMet", False, "BudgetBurns")
    assert verdict(replace(CALM, p99_seconds=None)).met[:3] == ("SLOMet", None, "FewRequests")


def test_what_is_missing_holds_all_as_it_is() -> None:
    found = held("MetricsMissing", "0 of 3 replicas say how they are")
    assert found.replicas is None and found.active.status is False and "stay as they are" in found.why
    assert is_enough(2, 3) and not is_enough(1, 3) and not is_enough(0, 0)


def climb_of(*steps: tuple[int, float, float]) -> tuple[Climb, float]:
    """After two minutes at each of (replicas, rate that gets done, replicas needed), and when that is."""
    found, now = Climb(), 0.0
    for replicas, rate, needed in steps:
        for _ in range(24):
            now += 5.0
            found = climbed(found, replace(SITUATION, replicas=replicas, ready=replicas), rate, needed, now)
    return found, now


def test_two_increases_without_more_getting_done_freeze_and_only_for_a_time() -> None:
    assert CLIMBS_MAX == 2
    frozen, now = climb_of((2, 100, 4), (4, 101, 6), (6, 99, 9))
    assert now < frozen.frozen_until <= now + FREEZE_SECONDS
    found = verdict(replace(CALM, rate=600, fast_rate=600), climb=frozen)
    assert (found.replicas, found.limited.reason) == (6, "DownstreamBound")
    again = climbed(frozen, SITUATION, 99, 9, frozen.frozen_until)
    assert (again.frozen_until, again.fruitless) == (0, 1), "one more try is frozen again if it brings nothing"
    assert not climbed(frozen, SITUATION, 99, 5, now).frozen_until, "the need has ended"
    assert not climbed(frozen, SITUATION, 200, 9, now).frozen_until, "what was short is there again"


def test_an_increase_that_helps_or_a_pod_that_still_starts_freezes_nothing() -> None:
    for steps in (
        [(2, 100, 4), (4, 101, 6), (6, 150, 9)],
        [(2, 100, 4), (4, 180, 3), (6, 181, 5)],
        [(2, 100, 4), (4, 101, 6), (2, 100, 4), (4, 150, 6)],
    ):
        assert not climb_of(*steps)[0].frozen_until  # type: ignore[arg-type]
    before, now = climb_of((2, 100, 4), (4, 101, 6))
    starting = replace(SITUATION, replicas=8, ready=6)
    for _ in range(100):
        before = climbed(before, starting, 99, 12, now)
        now += 5
    assert (before.fruitless, before.frozen_until) == (1, 0)


def test_a_person_is_told_when_it_means_something_else_and_once_a_minute() -> None:
    teller = Teller()
    first = teller.tell({"oms": verdict()}, 0.0)
    assert first is not None and [each.type for each in first] == ["SLOMet", "ScalingActive", "ScalingLimited"]
    assert teller.tell({"oms": verdict(replace(CALM, rate=301))}, 100.0) is None, "one more request means nothing else"
    assert teller.tell({"oms": held("MetricsMissing", "gone")}, TELL_SECONDS - 1) is None
    assert teller.tell({"oms": held("MetricsMissing", "gone")}, TELL_SECONDS) is not None
    assert teller.tell({"oms": held("MetricsMissing", "gone")}, 1e6) is None


def test_of_several_releases_the_worst_is_shown_and_all_are_named() -> None:
    met, active, limited = conditions({"oms": verdict(), "exeq": held("NotReady", "no replica is ready")})
    assert (met.status, active.status, limited.status) == (None, False, None)
    assert (
        active.reason == "NotReady" and "exeq: no replica" in active.message and "oms: 4.9 replicas" in active.message
    )
    assert conditions({"oms": verdict()})[1] == Observation(
        "ScalingActive", True, "Measured", active.message.split("; ")[1]
    )


STACK = {
    "apiVersion": "trade2026.io/v1alpha1",
    "kind": "TradingStack",
    "metadata": {"name": "desk", "namespace": "trading", "uid": "u-1"},
}


def test_what_was_learned_outlives_the_leader_and_goes_with_the_stack() -> None:
    known = {"oms": Remembered(0.15, 0.99, Fit(3.25, 40, 0.00833), [Minute(10, 100, 2)])}
    written = to_manifest(STACK, known)
    assert read(written) == known
    assert written["metadata"]["ownerReferences"][0]["uid"] == "u-1"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"c":1,"measurements":1,"limit_seconds":1,"quantile":0.5,"service_seconds":-1}',
        '{"c":"x","measurements":1,"limit_seconds":1,"quantile":0.5}',
        '{"c":1,"measurements":1,"limit_seconds":1,"quantile":0.5,"minutes":3}',
    ],
)
def test_what_can_not_be_read_is_learned_again(text: str) -> None:
    assert read({"data": {"oms": text}}) == {}
    assert read(None) == {}


def test_an_autoscaler_that_does_not_hear_it_is_told_of_with_whose_api_it_asks() -> None:
    deaf = {"status": {"conditions": [{"type": "ScalingActive", "status": "False", "message": "no metrics"}]}}
    assert heard(verdict(), None, "") == heard(verdict(), {"status": {}}, "") == verdict()
    assert heard(verdict(), deaf, "").active.reason == "AutoscalerFails"
    other = heard(verdict(), deaf, "keda/keda-metrics").active
    assert (other.reason, other.status) == ("ServedByOthers", False) and "served by keda/keda-metrics" in other.message
