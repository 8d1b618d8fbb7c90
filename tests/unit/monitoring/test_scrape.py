"""What a service says of itself is read as it is written."""

from trade2026.kit.metrics import _SHOWN_NS, Metrics
from trade2026.monitoring.machine import Counts, Look
from trade2026.monitoring.scrape import read_counts, read_health
from trade2026.stack.facts import SERVICES


def test_requests_are_counted_by_how_long_they_took_and_how_they_ended() -> None:
    metrics = Metrics()
    for route, ms, status in (("/orders", 10, 200), ("/orders", 60, 200), ("/x/{id}", 400, 503), ("/health", 900, 503)):
        labels = {"service": "oms", "method": "GET", "route": route}
        trace = "0af7651916cd43dd8448eb211c80319c"
        metrics.histogram("trade2026_http_request_seconds", "", **labels).observe_ns(ms * 1_000_000, trace)
        metrics.counter("trade2026_http_requests_total", "", **labels, status=str(status)).inc()
    assert read_counts(metrics.text("oms"), 0.05) == Counts(3, 2, 1)
    assert read_counts(metrics.text("oms"), 1.0) == Counts(3, 0, 1)
    assert read_counts("", 0.05) == Counts(0, 0, 0)


def test_every_objective_is_a_limit_that_the_metrics_show() -> None:
    assert {int(service.slo.under_ms * 1_000_000) for service in SERVICES.values()} <= set(_SHOWN_NS)


def test_health_says_whether_a_service_is_ready_and_what_is_not_well() -> None:
    assert read_health(b'{"status":"ok","checks":{"ready":{"status":"ok","detail":""}}}') == Look(True)
    unwell = b'{"status":"degraded","checks":{"ready":{"status":"ok"},"disk":{"status":"failed","detail":"full"}}}'
    assert read_health(unwell) == Look(True, {"disk": "full"})
    starting = b'{"status":"degraded","checks":{"ready":{"status":"failed","detail":"starting"}}}'
    assert read_health(starting) == Look(False, {}, "starting")
    assert not read_health(b"<html>").ready
