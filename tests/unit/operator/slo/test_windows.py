"""Counts of processes that come, go and start again become rates, and the same whoever looks at them."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trade2026.kit.metrics import Metrics
from trade2026_operator.slo.demand import Fit, Objective, demand
from trade2026_operator.slo.samples import Sample, Unreadable, read_sample, shared_topics
from trade2026_operator.slo.windows import Minute, Window, minutes_of, minutes_to_text

INF = math.inf
LIMITS = (0.01, 0.02, 0.05, INF)


def sample(requests: float, busy: float = 0.0, **submissions: float) -> Sample:
    """All requests took between 10 and 20 ms."""
    return Sample(requests, ((0.01, 0.0), (0.02, requests), (0.05, requests), (INF, requests)), busy, submissions)


def full(rate: float = 100.0, busy: float = 0.002, pods: int = 2, ready: int = 2) -> Window:
    """A minute in which each of some pods has answered so many requests a second."""
    window = Window(0.05, 0.99)
    for step in range(14):
        seen = {f"pod-{n}": sample(rate * 5 * step, rate * 5 * step * busy) for n in range(pods)}
        window.add(5.0 * step, 6_000.0 + 5 * step, seen, ready)
    return window


def test_rates_service_time_and_quantile_of_all_together() -> None:
    window = full()
    assert window.is_full
    found = window.measured(2, 6_065.0)
    assert (found.rate, found.fast_rate) == (pytest.approx(200), pytest.approx(200))
    assert found.service_seconds == pytest.approx(0.002)
    assert found.p99_seconds == pytest.approx(0.0199)
    assert (found.burn_short, found.burn_long) == (0, 0)
    assert found.busy == pytest.approx(0.2) and found.newest_seconds == pytest.approx(0.0199)
    other = window.measured(3, 6_065.0)
    assert (other.busy, other.newest_seconds) == (0, None), "what other replicas did says nothing of these"


def test_replicas_that_do_not_answer_are_supposed_to_do_as_much_as_the_others() -> None:
    found = full(pods=2, ready=3).measured(3, 6_065.0)
    assert found.rate == pytest.approx(300) and found.silent == 1
    assert full(pods=3, ready=3).measured(3, 6_065.0).silent == 0


@pytest.mark.parametrize(("total", "slow", "burns"), [(500, 1, False), (500, 5, True), (20, 4, True), (20, 1, False)])
def test_one_slow_answer_of_few_burns_no_budget(total: int, slow: int, burns: bool) -> None:
    window = Window(0.05, 0.999)
    window.minutes.append(Minute(100, total, slow))
    assert (window.burn(6_000.0, 5) >= 1) is burns


def test_the_share_of_errors_is_that_of_the_requests_of_the_window() -> None:
    window = Window(0.05, 0.99)
    for step in range(14):
        window.add(5.0 * step, 0.0, {"a": replace(sample(100.0 * step), errors=25.0 * step)}, 1)
    assert window.measured(1, 0.0).error_ratio == pytest.approx(0.25)


def test_a_window_is_not_full_before_a_minute_and_empty_after_a_gap() -> None:
    window = Window(0.05, 0.99)
    for step in range(8):
        window.add(5.0 * step, 0.0, {"a": sample(step)}, 1)
    assert not window.is_full and window.covered_seconds == 35
    assert not (gone := full()).restart() and gone.covered_seconds == 0


def test_a_few_slow_answers_are_chance_and_more_of_them_are_not() -> None:
    def newest(slow: int) -> float | None:
        window = Window(0.05, 0.99)
        for step in range(5):
            within = ((0.05, 40.0 * step), (INF, (40.0 + slow) * step))
            window.add(5.0 * step, 0.0, {"a": Sample((40.0 + slow) * step, within, 0.1 * step)}, 1)
        return window.measured(1, 0.0).newest_seconds

    assert newest(0) == pytest.approx(0.05, rel=0.02)
    assert newest(1) is None, "three in 15 s"
    assert newest(2) == pytest.approx(0.05), "six, and it is not known by how much they are slower"


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50)), min_size=2, max_size=12))
def test_no_start_and_no_end_of_a_process_makes_a_rate_negative(steps: list[tuple[int, int]]) -> None:
    window = Window(0.05, 0.99)
    for number, (pods, count) in enumerate(steps):
        seen = {f"pod-{n}": sample(count, count / 1000, p0=count) for n in range(pods)}
        window.add(5.0 * number, 60.0 * number, seen, max(1, pods))
    found = window.measured(1, 60.0 * len(steps))
    assert found.rate >= 0 and found.fast_rate >= 0 and found.service_seconds >= 0 and found.hottest_rate >= 0
    assert all(0 <= minute.slow <= minute.total for minute in window.minutes)


def test_a_process_that_has_started_again_counts_from_its_start() -> None:
    window = Window(0.05, 0.99)
    window.add(0.0, 0.0, {"a": sample(1_000, 5)}, 1)
    window.add(5.0, 5.0, {"a": sample(50, 0.1)}, 1)
    assert window.measured(1, 5.0).rate == 10
    window.add(10.0, 10.0, {"another": sample(5_000, 9)}, 1)
    assert window.measured(1, 10.0).rate == 10, "what a process did before it was first seen is not counted"


def test_the_hottest_partition_is_found_over_all_replicas() -> None:
    window = Window(0.05, 0.99)
    window.add(0.0, 0.0, {"a": sample(0, p0=0, p1=0), "b": sample(0, p0=0)}, 2)
    window.add(5.0, 5.0, {"a": sample(10, p0=100, p1=20), "b": sample(10, p0=100)}, 2)
    found = window.measured(2, 5.0)
    assert (found.hottest_rate, found.rate) == (40, 44)


def test_slow_requests_burn_the_budget_and_minutes_outlive_the_leader() -> None:
    window = Window(0.015, 0.99)  # half of them took longer
    window.add(0.0, 6_000.0, {"a": sample(0)}, 1)
    window.add(5.0, 6_005.0, {"a": sample(1_000)}, 1)
    assert window.burn(6_005.0, 5) == pytest.approx(50)
    text = minutes_to_text(window.minutes)
    after = Window(0.015, 0.99)
    after.minutes.extend(minutes_of(text))
    assert after.burn(6_100.0, 5) == pytest.approx(50)
    assert after.burn(6_000.0 + 3_700, 60) == 0
    assert minutes_of([[2, 1, 0], [1, 1, 0]]) == [Minute(1, 1, 0), Minute(2, 1, 0)]


@given(st.lists(st.integers(100_000, 5_000_000_000), min_size=40, max_size=80))
def test_what_a_service_shows_is_read_again(durations: list[int]) -> None:
    metrics = Metrics()
    histogram = metrics.histogram("trade2026_http_request_seconds", "x", service="oms", route="/orders")
    for ns in durations:
        histogram.observe_ns(ns)
    metrics.merged("trade2026_request_seconds", "x", lambda: [histogram], service="oms")
    metrics.counted("trade2026_event_loop_cpu_seconds_total", "x", lambda: 2.0)
    metrics.gauge("process_cpu_seconds", "x", lambda: 1.0)
    metrics.gauge("process_cpu_limit_cores", "x", lambda: 0.25)
    metrics.counted("trade2026_submissions_total", "x", lambda: 7, service="oms", partition="3")
    metrics.counted("trade2026_commands_total", "x", lambda: 14, service="oms", partition="3")
    metrics.gauge("trade2026_commands_waiting", "x", lambda: 2, service="oms", partition="3")
    found = read_sample(metrics.text("oms"), "oms")
    assert (found.requests, found.busy_seconds, found.submissions, found.waiting) == (len(durations), 4.0, {"3": 7}, 1)
    window = Window(0.05, 0.99)
    window.add(0.0, 0.0, {"a": Sample(0, tuple((limit, 0.0) for limit, _ in found.within), 0.0)}, 1)
    window.add(5.0, 5.0, {"a": found}, 1)
    exact = sorted(durations)[math.ceil(0.99 * len(durations)) - 1] / 1e9
    p99 = window.measured(1, 5.0).p99_seconds
    assert p99 is not None and exact / 1.2 <= p99 <= exact * 1.2


def test_metrics_of_something_else_are_refused() -> None:
    with pytest.raises(Unreadable, match="trade2026_request_seconds_count"):
        read_sample("up 1\n", "oms")
    with pytest.raises(Unreadable, match="no sample"):
        read_sample("process_cpu_seconds x\n", "oms")
    for said in (
        "trade2026_submissions_total 7",
        'trade2026_request_seconds_bucket{le="soon"} 1',
        "process_cpu_seconds 1e308",
    ):
        with pytest.raises(Unreadable, match=r"no count|makes no sense"):
            read_sample(f"{said}\n", "oms")


def fold(position: float, behind: float, busy: float) -> Sample:
    """A projection that nobody asks anything."""
    name = "orders.events/0"
    return Sample(
        0,
        ((INF, 0.0),),
        busy,
        waiting=behind,
        folded={name: position},
        behind={name: behind},
        behind_seconds=behind / 100,
    )


def test_a_fold_of_the_log_is_measured_by_what_is_written_for_it_and_what_it_is_behind() -> None:
    window = Window(0.25, 0.99)
    for step in range(13):  # 300/s are written, it folds 200/s and is busy all the time
        window.add(5.0 * step, 5.0 * step, {"a": fold(1 + 1_000 * step, 500 * step, 5.0 * step)}, 1)
    found = window.measured(1, 60.0)
    assert (found.rate, found.fast_rate) == (pytest.approx(300), pytest.approx(300))
    assert found.service_seconds == pytest.approx(1 / 200)
    assert (found.backlog, found.behind_seconds, found.hottest_rate) == (6_000, 60, pytest.approx(300))
    needed = demand(Objective(0.25, headroom=0.8, spare=0.0, drain_seconds=30.0), Fit(), replace(found, busy=0.0))
    assert needed.replicas == pytest.approx((300 + 6_000 / 30) / (200 - 4.605 / 0.2), rel=0.01)
    assert found.busy == pytest.approx(1)


def test_a_partition_that_moves_to_another_replica_is_not_folded_again() -> None:
    window = Window(0.25, 0.99)
    window.add(0.0, 0.0, {"a": fold(10_000, 0, 1), "b": Sample(0, ((INF, 0.0),), 1)}, 2)
    window.add(5.0, 5.0, {"a": fold(0, 0, 1), "b": fold(10_500, 0, 1)}, 2)
    assert window.measured(2, 5.0).rate == 0
    window.add(10.0, 10.0, {"a": fold(0, 0, 1), "b": fold(11_000, 0, 2)}, 2)
    assert window.measured(2, 10.0).rate == pytest.approx(50)
    window.add(15.0, 15.0, {"b": fold(90_000, 0, 0.5)}, 1)  # started again
    assert window.measured(1, 15.0).rate == pytest.approx(500 / 15)


def test_of_a_fold_the_topics_count_that_its_replicas_share_and_of_what_decides_none() -> None:
    assert shared_topics("ptrc") == ("orders.events",)
    assert shared_topics("pnl") == ("orders.events",), "each replica needs the whole market"
    assert shared_topics("oms") == ()
    metrics = Metrics()
    metrics.histogram("trade2026_request_seconds", "x", service="pnl")
    metrics.gauge("trade2026_event_loop_cpu_seconds_total", "x", lambda: 4.0)
    metrics.gauge("process_cpu_seconds", "x", lambda: 1.0)
    for topic, position in (("orders.events", 70), ("market.ticks", 9_000)):
        labels = {"service": "pnl", "topic": topic, "partition": "3"}
        metrics.gauge("trade2026_follower_position", "x", lambda position=position: position, **labels)
        metrics.gauge("trade2026_follower_lag_events", "x", lambda: 30, **labels)
        metrics.gauge("trade2026_follower_lag_seconds", "x", lambda: 2.5, **labels)
    found = read_sample(metrics.text("pnl"), "pnl")
    assert (found.folded, found.behind) == ({"orders.events/3": 70}, {"orders.events/3": 30})
    assert (found.waiting, found.behind_seconds) == (30, 2.5)
