"""What a topic's sink counts, by the names that dashboards and alerts know."""

from trade2026.kit.metrics import Metrics
from trade2026.sinks.topic import Measured


def test_a_store_is_measured_by_its_name() -> None:
    metrics = Metrics()
    measured = Measured.of(metrics, "lake", service="sink-ticks", table="ticks")
    measured.rows.inc(3)
    measured.commit_seconds.observe_ns(1)
    text = metrics.text()
    labels = 'service="sink-ticks",table="ticks"'
    assert f"trade2026_lake_rows_total{{{labels}}} 3\n" in text
    for name in ("commits_total", "late_rows_total", "lost_records_total", "commit_seconds_count"):
        assert f"trade2026_lake_{name}{{{labels}}}" in text
