"""Metrics: quantiles that can be trusted, a window that forgets, and text that a scraper reads."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trade2026.kit.clock import ManualClock
from trade2026.kit.metrics import TICKS_PER_WINDOW, WINDOW_SECONDS, LatencyHistogram, Metrics

SECOND = 10**9


@given(st.lists(st.integers(1_000, 100 * SECOND), min_size=1, max_size=200), st.floats(0, 1))
def test_a_quantile_is_within_a_bucket_of_the_true_one(times: list[int], q: float) -> None:
    histogram = LatencyHistogram()
    for ns in times:
        histogram.observe_ns(ns)
    ordered = sorted(times)
    rank = next(n for n in range(1, len(ordered) + 1) if n >= q * len(ordered))
    found = histogram.quantile(q)
    assert found is not None
    assert found == pytest.approx(ordered[rank - 1], rel=0.07)
    assert (histogram.count, histogram.sum_ns, histogram.max_ns) == (len(times), sum(times), max(times))


def test_without_observations_there_is_no_quantile() -> None:
    assert LatencyHistogram().quantile(0.5) is None


def test_the_window_forgets_what_is_older() -> None:
    clock = ManualClock()
    metrics = Metrics(clock)
    histogram = metrics.histogram("answer_seconds", "How long")
    histogram.observe_ns(SECOND)
    for _ in range(TICKS_PER_WINDOW):
        clock.advance(WINDOW_SECONDS * SECOND // TICKS_PER_WINDOW)
        metrics.tick()
    histogram.observe_ns(SECOND // 1000)
    assert histogram.quantile(0.99, window=True) == pytest.approx(SECOND // 1000, rel=0.07)
    assert histogram.quantile(0.99) == pytest.approx(SECOND, rel=0.07)


def test_the_text_has_types_labels_buckets_and_an_end() -> None:
    metrics = Metrics()
    metrics.counter("orders_total", "Orders", side='b"uy\n').inc(3)
    metrics.gauge("lag_seconds", "Lag", lambda: 0.5)
    histogram = metrics.histogram("answer_seconds", "How long", route="/x")
    histogram.observe_ns(900_000, "abc")
    histogram.observe_ns(200 * SECOND)
    text = metrics.text()
    assert "# TYPE orders counter\n" in text
    assert 'orders_total{side="b\\"uy\\n"} 3\n' in text
    assert "lag_seconds 0.5\n" in text
    assert "# UNIT answer_seconds seconds\n" in text
    assert 'answer_seconds_bucket{route="/x",le="0.001"} 1 # {trace_id="abc"} 0.0009\n' in text
    assert 'answer_seconds_bucket{route="/x",le="+Inf"} 2\n' in text
    assert 'answer_seconds_count{route="/x"} 2\n' in text
    assert text.endswith("# EOF\n")


@given(st.lists(st.integers(1, 20 * SECOND), max_size=100))
def test_shown_buckets_are_exact_and_cumulative(times: list[int]) -> None:
    metrics = Metrics()
    histogram = metrics.histogram("answer_seconds", "How long")
    for ns in times:
        histogram.observe_ns(ns)
    for limit, count in re.findall(r'_bucket\{le="([^"]+)"\} (\d+)', metrics.text()):
        within = len(times) if limit == "+Inf" else sum(ns <= round(float(limit) * SECOND) for ns in times)
        assert int(count) == within, limit


def test_a_service_shows_its_own_and_what_is_everybodys() -> None:
    metrics = Metrics()
    metrics.counter("answers_total", "Answers", service="oms").inc()
    metrics.counter("answers_total", "Answers", service="risk").inc()
    metrics.gauge("memory_bytes", "Memory", lambda: 1)
    text = metrics.text("oms")
    assert 'service="oms"' in text
    assert 'service="risk"' not in text
    assert "memory_bytes 1\n" in text


def test_the_same_name_and_labels_are_the_same_metric() -> None:
    metrics = Metrics()
    assert metrics.counter("a_total", "A", x="1", y="2") is metrics.counter("a_total", "A", y="2", x="1")
    assert metrics.counter("a_total", "A") is not metrics.counter("a_total", "A", x="1")


def test_whether_something_is_so_is_a_number_to_a_scraper() -> None:
    metrics = Metrics(ManualClock())
    metrics.gauge("up", "Whether it is", lambda: False)
    assert "\nup 0\n" in metrics.text()


def test_histograms_are_shown_as_one_with_closer_limits() -> None:
    metrics = Metrics()
    parts = [metrics.histogram("part_seconds", "x", route=route) for route in "ab"]
    metrics.merged("all_seconds", "x", lambda: parts)
    for ms in range(1, 101):
        parts[ms % 2].observe_ns(ms * 1_000_000)
    shown = [line.split() for line in metrics.text().splitlines() if line.startswith("all_seconds_bucket")]
    limits = [float(name.split('"')[1]) for name, _ in shown]
    counts = [int(count) for _, count in shown]
    assert counts == sorted(counts) and counts[-1] == 100
    assert counts[limits.index(0.05)] == 50, "those that are shown anyway are exact"
    between = [limit for limit in limits if 0.001 <= limit <= 10]
    assert all(after / before < 1.26 for before, after in pairwise(between))
    assert "all_seconds_count 100" in metrics.text()


def test_what_is_counted_elsewhere_is_shown_as_a_counter() -> None:
    metrics = Metrics()
    metrics.counted("taken_total", "x", lambda: 3, partition="1")
    assert "# TYPE taken counter" in metrics.text() and 'taken_total{partition="1"} 3' in metrics.text()
