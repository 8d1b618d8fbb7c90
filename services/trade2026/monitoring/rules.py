"""Prometheus rules, made of the objectives in the facts: burn rates as recorded series, and the alerts on them.

The same thresholds as in `machine`: whoever has Prometheus gets the same pages from it.
"""

from collections.abc import Callable, Iterable
from typing import Any

from trade2026.monitoring.machine import ANSWERS, LATENCY
from trade2026.monitoring.scrape import ANSWERED, DURATIONS, PROBES
from trade2026.stack.facts import BAD_REQUESTS_MIN, BURN_ALERTS, NOT_READY_SECONDS, SERVICES, UNWELL_SECONDS, Slo

BURN, BAD, LEFT = "trade2026:slo_burn:rate", "trade2026:slo_bad:increase", "trade2026:slo_left:share"
READY, UNWELL = "trade2026_monitored_ready", "trade2026_monitored_unwell_checks"
_LONG = tuple(sorted({alert.long_seconds for alert in BURN_ALERTS}))
_WINDOWS = tuple(sorted({*_LONG, *(alert.short_seconds for alert in BURN_ALERTS)}))
_OWN = f'route!~"{"|".join(PROBES)}"'


def rules() -> dict[str, Any]:
    """The rule file, as data."""
    return {
        "groups": [
            {"name": "trade2026 burn rates", "interval": "30s", "rules": [*_recorded()]},
            {"name": "trade2026 alerts", "interval": "30s", "rules": [*_burn_alerts(), *_health_alerts()]},
        ]
    }


def span(seconds: int) -> str:
    """A duration as Prometheus writes it."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def _recorded() -> Iterable[dict[str, Any]]:
    for (share, under_ms, days), services in _by(lambda slo: (slo.objective, slo.under_ms, slo.window_days)).items():
        names = _named(services)
        labels = {"slo": LATENCY, "objective": f"{share:.2%} under {under_ms:g} ms"}
        yield from _series(labels, share, days, _slow(names, under_ms), _total(names))
    for (share, days), services in _by(lambda slo: (slo.answers, slo.window_days)).items():
        names = _named(services)
        labels = {"slo": ANSWERS, "objective": f"{share:.2%} without 5xx"}
        yield from _series(labels, share, days, _failed(names), _total(names))


def _series(labels: dict[str, str], objective: float, days: int, bad: str, total: str) -> Iterable[dict[str, Any]]:
    """Burn rates over every window, what is left of the budget, and bad requests over the long windows."""
    budget = round(1 - objective, 9)
    for window in _WINDOWS:
        share = f"{_of(bad, 'rate', window)} / {_of(total, 'rate', window)}"
        yield {"record": f"{BURN}{span(window)}", "expr": f"({share}) / {budget}", "labels": dict(labels)}
    month = days * 86_400
    share = f"{_of(bad, 'rate', month)} / {_of(total, 'rate', month)}"
    yield {"record": LEFT, "expr": f"1 - ({share}) / {budget}", "labels": dict(labels)}
    for window in _LONG:
        yield {"record": f"{BAD}{span(window)}", "expr": _of(bad, "increase", window), "labels": dict(labels)}


def _by(what: Callable[[Slo], tuple[Any, ...]]) -> dict[tuple[Any, ...], list[str]]:
    """Services by a part of their objectives: few rules do for all."""
    found: dict[tuple[Any, ...], list[str]] = {}
    for service in SERVICES.values():
        found.setdefault(what(service.slo), []).append(service.name)
    return found


def _named(services: list[str]) -> str:
    return f'service=~"{"|".join(services)}"'


def _of(expression: str, function: str, window: int) -> str:
    return expression.replace("RANGE(", f"{function}(").replace("WINDOW", span(window))


def _total(names: str) -> str:
    return f"sum by (service) (RANGE({DURATIONS}_count{{{names},{_OWN}}}[WINDOW]))"


def _slow(names: str, under_ms: float) -> str:
    quick = f'{DURATIONS}_bucket{{{names},{_OWN},le="{under_ms / 1000!r}"}}'
    return f"({_total(names)} - sum by (service) (RANGE({quick}[WINDOW])))"


def _failed(names: str) -> str:
    failed = f'sum by (service) (RANGE({ANSWERED}{{{names},{_OWN},status=~"5.."}}[WINDOW]))'
    return f"({failed} or {_total(names)} * 0)"


def _burn_alerts() -> Iterable[dict[str, Any]]:
    for alert in BURN_ALERTS:
        long, short = span(alert.long_seconds), span(alert.short_seconds)
        yield {
            "alert": "Trade2026ErrorBudgetBurns",
            "expr": (
                f"{BURN}{long} > {alert.rate:g} and {BURN}{short} > {alert.rate:g} and {BAD}{long} >= {BAD_REQUESTS_MIN}"
            ),
            "labels": {"severity": alert.severity, "window": long},
            "annotations": {
                "summary": "{{ $labels.service }}: the error budget of {{ $labels.slo }} burns "
                + '{{ $value | printf "%.1f" }} times too fast'
            },
        }


def _health_alerts() -> Iterable[dict[str, Any]]:
    yield {
        "alert": "Trade2026NotReady",
        "expr": f"{READY} == 0",
        "for": span(NOT_READY_SECONDS),
        "labels": {"severity": "page"},
        "annotations": {"summary": "{{ $labels.of }} is not ready"},
    }
    yield {
        "alert": "Trade2026Unwell",
        "expr": f"{UNWELL} > 0",
        "for": span(UNWELL_SECONDS),
        "labels": {"severity": "ticket"},
        "annotations": {"summary": "{{ $labels.of }}: {{ $value }} checks of its health fail"},
    }
    yield {
        "alert": "Trade2026MonitoringGone",
        "expr": f"absent({READY})",
        "for": "2m",
        "labels": {"severity": "page"},
        "annotations": {"summary": "nobody watches the stack: its service monitoring tells nothing"},
    }
