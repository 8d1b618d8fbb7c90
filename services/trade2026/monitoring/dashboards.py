"""A Grafana dashboard, made of the objectives in the facts: what burns, and a service in its numbers."""

from itertools import count
from typing import Any

from trade2026.monitoring.rules import BURN, LEFT, READY, UNWELL
from trade2026.monitoring.scrape import ANSWERED, DURATIONS, PROBES
from trade2026.stack.facts import BURN_ALERTS

_SOURCE = {"type": "prometheus", "uid": "${source}"}
_OF = f'service=~"$service",route!~"{"|".join(PROBES)}"'
_WIDTH, _HEIGHT = 8, 8
_LINES: tuple[tuple[str, str, str, str], ...] = (
    ("Ready", f"{READY}", "{{of}}", "bool"),
    ("Checks that fail", f"{UNWELL}", "{{of}}", "short"),
    ("Error budget left", f"{LEFT}", "{{service}} {{slo}}", "percentunit"),
    ("Burns over an hour (a page above 14.4)", f"{BURN}1h", "{{service}} {{slo}}", "short"),
    ("Burns over six hours (a page above 6)", f"{BURN}6h", "{{service}} {{slo}}", "short"),
    ("Burns over three days (a ticket above 1)", f"{BURN}3d", "{{service}} {{slo}}", "short"),
    ("Requests", f"sum by (service) (rate({ANSWERED}{{{_OF}}}[$__rate_interval]))", "{{service}}", "reqps"),
    (
        "Answers with 5xx",
        f'sum by (service, status) (rate({ANSWERED}{{{_OF},status=~"5.."}}[$__rate_interval]))',
        "{{service}} {{status}}",
        "reqps",
    ),
    (
        "Latency, 99 %",
        f"histogram_quantile(0.99, sum by (service, le) (rate({DURATIONS}_bucket{{{_OF}}}[$__rate_interval])))",
        "{{service}}",
        "s",
    ),
    (
        "Latency, 50 %",
        f"histogram_quantile(0.5, sum by (service, le) (rate({DURATIONS}_bucket{{{_OF}}}[$__rate_interval])))",
        "{{service}}",
        "s",
    ),
    ("Events not folded yet", 'trade2026_lag_events{service=~"$service"}', "{{service}}", "short"),
    ("Lateness of the event loop", "trade2026_event_loop_lag_seconds", "{{instance}}", "s"),
    ("Memory", "process_resident_memory_bytes", "{{instance}}", "bytes"),
    ("Cores", "rate(process_cpu_seconds[$__rate_interval])", "{{instance}}", "short"),
)
"""Title, query, legend, unit."""


def expressions() -> list[str]:
    """Every query of the dashboard."""
    return [expression for _, expression, _, _ in _LINES]


def dashboard() -> dict[str, Any]:
    """The dashboard, as Grafana imports it."""
    numbers = count(1)
    panels = [_panel(next(numbers), place, *line) for place, line in enumerate(_LINES)]
    return {
        "uid": "trade2026",
        "title": "Trade2026",
        "tags": ["trade2026"],
        "timezone": "utc",
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "description": "Thresholds: " + ", ".join(f"{alert.severity} above {alert.rate:g}" for alert in BURN_ALERTS),
        "templating": {
            "list": [
                {"name": "source", "label": "Source", "type": "datasource", "query": "prometheus"},
                {
                    "name": "service",
                    "label": "Service",
                    "type": "query",
                    "datasource": _SOURCE,
                    "query": f"label_values({DURATIONS}_count, service)",
                    "includeAll": True,
                    "multi": True,
                    "allValue": ".*",
                    "current": {"text": "All", "value": "$__all"},
                },
            ]
        },
        "panels": panels,
    }


def _panel(number: int, place: int, title: str, expression: str, legend: str, unit: str) -> dict[str, Any]:
    return {
        "id": number,
        "type": "timeseries",
        "title": title,
        "datasource": _SOURCE,
        "gridPos": {"x": place % 3 * _WIDTH, "y": place // 3 * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "targets": [{"refId": "A", "datasource": _SOURCE, "expr": expression, "legendFormat": legend}],
        "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
    }
