"""The watch over the stack: budgets, burn rates, alerts and incidents are right whatever services count."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trade2026.monitoring.budget import HOUR, MINUTE, Budget, Ring
from trade2026.monitoring.machine import INCIDENTS_MAX, TIMELINE_MAX, Counts, Look, Monitor
from trade2026.stack.facts import BURN_ALERTS, BurnAlert, Slo

NS = 10**9
T0 = 1_800_000_000
SLO = Slo(0.99, 250)
WELL = Look(True)


def a_monitor(*names: str, bad_min: int = 10) -> Monitor:
    monitor = Monitor(BURN_ALERTS, bad_min=bad_min, not_ready_seconds=30, unwell_seconds=120)
    monitor.watch(dict.fromkeys(names or ("oms",), SLO), T0 * NS)
    return monitor


def see(monitor: Monitor, second: float, look: Look = WELL, name: str = "oms") -> None:
    monitor.saw(name, look, int((T0 + second) * NS))


def said(monitor: Monitor) -> list[str]:
    return [moment.what for incident in monitor.incidents for moment in incident.timeline]


# ── budgets ─────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 900), st.integers(0, 50), st.integers(0, 50)), max_size=40),
    st.integers(1, 20),
)
def test_a_ring_counts_what_lies_in_a_window_and_nothing_else(events: list[tuple[int, int, int]], steps: int) -> None:
    ring, now = Ring(MINUTE, 20), T0
    kept: list[tuple[int, int, int]] = []
    for after, total, bad in events:
        now += after
        ring.add(now, total, bad)
        kept.append((now // MINUTE, total, bad))
    first = now // MINUTE - steps + 1
    expected = [(total, bad) for step, total, bad in kept if step >= first]
    assert ring.sums(now, steps * MINUTE) == (sum(t for t, _ in expected), sum(b for _, b in expected))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 100), st.integers(0, 100)), max_size=30))
def test_a_budget_counts_each_request_once_however_often_its_service_starts_again(
    looks: list[tuple[bool, int, int]],
) -> None:
    budget, total, bad = Budget(0.99, 30), 0, 0
    budget.observe(T0, 0, 0)
    expected_total = expected_bad = restarts = 0
    for number, (again, more, worse) in enumerate(looks):
        if again and total:
            total = bad = 0
            more, worse = 0, 0  # a count that has caught up with the one before can't be told from it
            restarts += 1
        worse = min(more, worse)
        total, bad = total + more, bad + worse
        expected_total, expected_bad = expected_total + more, expected_bad + worse
        restarts -= budget.observe(T0 + number, total, bad)
    assert (restarts, budget.sums(T0 + len(looks), 30 * 86_400)) == (0, (expected_total, expected_bad))


def test_what_was_counted_before_the_first_look_is_nobodys() -> None:
    budget = Budget(0.99, 30)
    budget.observe(T0, 1_000, 500)
    assert (budget.burn(T0, HOUR), budget.left(T0)) == (0, 1)


def test_a_budget_that_is_used_up_exactly_has_nothing_left() -> None:
    budget = Budget(0.99, 30)
    budget.count(T0, 1_000, 10)
    assert budget.burn(T0, HOUR) == pytest.approx(1)
    assert budget.left(T0) == pytest.approx(0)
    assert budget.burn(T0 + 2 * HOUR, HOUR) == 0
    assert budget.left(T0 + 31 * 86_400) == 1


def test_a_clock_that_was_put_back_loses_no_count() -> None:
    ring = Ring(MINUTE, 20)
    ring.add(T0, 1, 0)
    ring.add(T0 - HOUR, 2, 1)
    assert ring.sums(T0, MINUTE) == (3, 1)


# ── alerts ──────────────────────────────────────────────────────────────────────────────────────────


def counted(monitor: Monitor, minutes: int, total: int, bad: int, since: tuple[int, int, int] = (0, 0, 0)) -> Any:
    """So many requests a minute, with a look after each; returns when it is and what was counted."""
    minute, requests, slow = since
    for minute in range(minute, minute + minutes + 1):  # noqa: B020 (where it ends is wanted)
        see(monitor, minute * MINUTE, Look(True, counts=Counts(requests, slow, 0)))
        requests, slow = requests + total, slow + bad
    return minute, requests - total, slow - bad


def test_a_budget_that_burns_fast_over_both_windows_is_a_page_and_one_incident() -> None:
    monitor = a_monitor()
    counted(monitor, 10, 100, 20)
    # 20 % of requests are slow, 1 % may be: everything burns 20 times too fast.
    assert {(alert.severity, alert.service) for alert in monitor.alerts.values()} == {
        ("page", "oms"),
        ("ticket", "oms"),
    }
    (incident,) = monitor.incidents
    assert (incident.severity, incident.ended) == ("page", 0)
    assert "latency: the error budget burns 20.0 times too fast (over 1 h)" in [
        alert.what for alert in monitor.alerts.values()
    ]


def test_it_is_over_soon_after_its_cause_because_the_short_window_says_so() -> None:
    monitor = a_monitor()
    place = counted(monitor, 10, 100, 20)
    counted(monitor, 6, 100, 0, place)
    hours = [key for key in monitor.alerts if key.endswith("over 3600")]
    assert hours == []
    assert any(what.startswith("is over: latency") for what in said(monitor))


def test_a_few_slow_requests_in_a_quiet_night_page_nobody() -> None:
    monitor = a_monitor()
    counted(monitor, 9, 1, 1)
    assert not monitor.alerts
    counted(monitor, 5, 1, 1, (10, 9, 9))
    assert monitor.alerts


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=60), st.integers(0, 20))
def test_an_alert_lasts_exactly_while_both_windows_burn(minutes: list[tuple[int, int]], bad_min: int) -> None:
    alert = BurnAlert("page", 6, 30 * MINUTE, 5 * MINUTE)
    monitor = Monitor([alert], bad_min=bad_min, not_ready_seconds=30, unwell_seconds=120)
    monitor.watch({"oms": SLO}, T0 * NS)
    requests = slow = 0
    see(monitor, 0, Look(True, counts=Counts(0, 0, 0)))
    history: list[tuple[int, int]] = []
    for minute, (total, bad) in enumerate(minutes, 1):
        bad = min(bad, total)
        requests, slow = requests + total, slow + bad
        history.append((total, bad))
        see(monitor, minute * MINUTE, Look(True, counts=Counts(requests, slow, 0)))

        def burns(steps: int) -> float:
            total = sum(total for total, _ in history[-steps:])
            return sum(bad for _, bad in history[-steps:]) / total / (1 - SLO.objective) if total else 0

        bad_long = sum(bad for _, bad in history[-30:])
        expected = burns(30) > alert.rate and burns(5) > alert.rate and bad_long >= bad_min
        assert bool(monitor.alerts) == expected
        assert all(bool(incident.ended) for incident in list(monitor.incidents)[:-1])
        assert any(not incident.ended for incident in monitor.incidents) == expected


def test_a_service_that_is_not_ready_for_half_a_minute_is_a_page_until_it_is() -> None:
    monitor = a_monitor()
    see(monitor, 0, Look(False, detail="folded 3 of 9"))
    see(monitor, 29, Look(False, detail="folded 4 of 9"))
    assert not monitor.alerts
    see(monitor, 31, Look(False, detail="folded 5 of 9"))
    see(monitor, 60)
    (incident,) = monitor.incidents
    assert said(monitor) == ["page: not ready: folded 5 of 9", "is over: not ready: folded 5 of 9"]
    assert (incident.severity, incident.ended) == ("page", (T0 + 60) * NS)


def test_one_that_is_unwell_is_a_ticket_and_the_worst_names_the_incident() -> None:
    monitor = a_monitor()
    for second in (0, 121):
        see(monitor, second, Look(True, {"disk": "full"}))
    assert [(alert.severity, alert.what) for alert in monitor.alerts.values()] == [("ticket", "unwell: disk: full")]
    for second in (130, 161):
        see(monitor, second, Look(False, detail="stopping"))
    (incident,) = monitor.incidents
    assert (incident.severity, incident.ended, incident.why) == ("page", 0, "unwell: disk: full")


def test_a_restart_shows_in_the_timeline_of_what_it_belongs_to() -> None:
    monitor = a_monitor()
    see(monitor, 0, Look(True, counts=Counts(100, 0, 0)))
    for second in (10, 50):
        see(monitor, second, Look(False, detail="gone"))
    see(monitor, 55, Look(False, detail="starting", counts=Counts(3, 0, 0)))
    assert said(monitor)[-1] == "oms has started again"
    assert monitor.services["oms"].restarts == 1


def test_what_is_not_planned_any_more_is_no_incident() -> None:
    monitor = a_monitor("oms", "risk")
    for second in (0, 31):
        see(monitor, second, Look(False, detail="gone"), "risk")
    monitor.watch({"oms": SLO}, (T0 + 40) * NS)
    see(monitor, 50, Look(False), "risk")
    assert not monitor.alerts
    assert monitor.incidents[0].ended
    assert said(monitor)[-1].startswith("it is not planned any more")


def test_incidents_and_their_timelines_are_bounded() -> None:
    monitor = a_monitor()
    for number in range(INCIDENTS_MAX + 5):
        for second, look in ((0, Look(False)), (31, Look(False)), (40, WELL)):
            see(monitor, number * 100 + second, look)
    assert len(monitor.incidents) == INCIDENTS_MAX
    for _ in range(TIMELINE_MAX + 5):
        monitor.incidents[-1].tell(T0, "again")
    assert (len(monitor.incidents[-1].timeline), monitor.incidents[-1].timeline[-1].what) == (
        TIMELINE_MAX,
        "and more of it",
    )


@pytest.mark.parametrize(("look", "after"), [(Look(False, detail="gone"), 31), (Look(True, {"disk": "full"}), 121)])
def test_an_incident_that_lasts_goes_on_after_a_restart_and_no_second_begins(look: Look, after: int) -> None:
    first = a_monitor()
    for second in (0, after):
        see(first, second, look)
    again = a_monitor()
    again.restore(first.snapshot())
    for second in (after + 5, after + 10):
        see(again, second, look)
    (incident,) = again.incidents
    assert (incident.ended, len(incident.timeline)) == (0, 1)
    see(again, after + 15)
    assert (incident.ended, len(again.incidents)) == ((T0 + after + 15) * NS, 1)


def test_what_was_seen_outlives_a_restart() -> None:
    first = a_monitor("oms", "risk")
    counted(first, 10, 100, 20)
    for second in (600, 640):
        see(first, second, Look(False, detail="gone"), "risk")
    again = a_monitor("oms")  # risk is not planned any more
    again.restore(first.snapshot())
    now = T0 + 11 * MINUTE
    assert again.services["oms"].budgets["latency"].sums(now, HOUR) == (1_000, 200)
    assert again.services["oms"].budgets["latency"].sums(now, 30 * 86_400) == (1_000, 200)
    assert {alert.service for alert in again.alerts.values()} == {"oms"}
    assert [bool(incident.ended) for incident in again.incidents] == [False, True]
    see(again, 10 * HOUR)
    see(again, 100 * HOUR)
    assert all(incident.ended for incident in again.incidents)
