"""What a run on a cluster is summed up to: time above the objective, replicas, reversals, and what got no answer."""

from typing import Any

import pytest
from bench.autoscale.open_load import arrivals
from bench.autoscale.runs import drawn, steps, summed_up


def moment(at: float, replicas: int, ready: int, restarts: int = 0) -> dict[str, Any]:
    return {"at": at, "replicas": replicas, "ready": ready, "counts": [{"restarts": restarts}]}


def run(sent: list[tuple[float, float, int]], moments: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "service": "stateless", "signal": "objective", "pattern": "stepped", "seconds": 20.0, "objective_seconds": 0.25,
        "moments": moments, "sent": sent,
    }  # fmt: skip


def test_a_step_is_above_the_objective_if_more_than_one_of_a_hundred_is_slow_or_has_no_answer() -> None:
    fine = [(1.0, 0.1, 1)] * 99 + [(2.0, 9.0, 1)]
    slow = [(6.0, 0.1, 1)] * 98 + [(6.0, 0.3, 2)] * 2
    lost = [(11.0, -1.0, 1)]
    told = run(fine + slow + lost, [])
    assert [at for at, _ in steps(told)] == [0.0, 5.0, 10.0]
    summary = summed_up(told)
    assert summary.violated == pytest.approx(2 / 3)
    assert (summary.lost, summary.slow) == (1, pytest.approx(4 / 201))
    assert summary.again == pytest.approx(2 / 201)


def test_replicas_reversals_and_restarts_are_counted_as_long_as_the_load_lasts() -> None:
    moments = [moment(2, 1, 1), moment(4, 3, 1), moment(6, 2, 2), moment(8, 4, 2, restarts=1), moment(30, 9, 9)]
    summary = summed_up(run([], moments))
    assert (summary.replicas, summary.reversals, summary.restarts) == (2.5, 2, 1)
    assert summary.unready == 0.5


def test_requests_come_as_often_as_the_rate_says_and_the_same_for_each_signal() -> None:
    times = list(arrivals(lambda at: 100.0 if at < 10 else 10.0, 20.0, 3))
    assert times == list(arrivals(lambda at: 100.0 if at < 10 else 10.0, 20.0, 3))
    early = sum(at < 10 for at in times)
    assert 900 < early < 1_100
    assert 60 < len(times) - early < 140


def test_the_plot_has_a_line_for_each_signal_in_each_panel() -> None:
    one = run([(1.0, 0.1, 1), (6.0, 0.2, 1)], [moment(2, 1, 1), moment(4, 2, 2)])
    picture = drawn([one, {**one, "signal": "cpu 70"}])
    assert picture.count('class="line ') == 1 + 2 + 2 + 2, "and one for each in the legend"
    assert "cpu 70" in picture
