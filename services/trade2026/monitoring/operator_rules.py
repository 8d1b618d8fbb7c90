"""Prometheus rules for the operator itself, by what its `/metrics` says. Services have rules of their own."""

from typing import Any

LEADS = "trade2026_operator_leads"
FAILING = "trade2026_operator_failing"
WATCH_AGE = "trade2026_operator_watch_age_seconds"
CORRECTIONS = "trade2026_operator_corrections_total"
_INSTALLED = "sum by (namespace, job)"
"""Replicas of one operator, of which one leads."""
_WATCH_AGE_MAX = 180
"""Seconds. Each watch has a bookmark once a minute; after 240 s the process is started again."""
_CORRECTIONS_MAX = 10
"""In ten minutes: somebody changes the same things again and again."""


def operator_rules() -> dict[str, Any]:
    """The rule file, as data."""
    alerts = [
        _alert(
            "NotLeading", f"{_INSTALLED} ({LEADS}) == 0", "2m", "page",
            "no replica of the operator leads: stacks run on, and nothing is repaired, upgraded or scaled",
            "kubectl get lease and kubectl logs in namespace {{ $labels.namespace }}: is a replica ready, does it reach the API",
        ),
        _alert(
            "Gone", f"absent({LEADS})", "5m", "page",
            "no operator is scraped: stacks run on, and nothing is repaired, upgraded or scaled",
            "kubectl get pods -A -l app.kubernetes.io/name=trade2026-operator; if they run, look at the ServiceMonitor",
        ),
        _alert(
            "TwoLead", f"{_INSTALLED} ({LEADS}) > 1", "1m", "page",
            "{{ $value }} replicas of the operator lead, and one should",
            "kubectl delete the pod that kubectl get lease does not name, and compare the clocks of the nodes",
        ),
        _alert(
            "WatchSilent", f"max by (namespace, job) ({WATCH_AGE}) > {_WATCH_AGE_MAX}", "", "ticket",
            "the operator has heard nothing of a watch for {{ $value | humanizeDuration }}",
            "it starts again by itself; if this comes back, look at the API server and at proxies before it",
        ),
        _alert(
            "StackFails", f"max by (namespace, job) ({FAILING}) > 0", "10m", "ticket",
            "looks at {{ $value }} stacks or strategies fail again and again: they run on as they are",
            "kubectl logs of the operator says which, and why; kubectl describe ts says what is missing",
        ),
        _alert(
            "CorrectsAgainAndAgain",
            f"{_INSTALLED} (increase({CORRECTIONS}[10m])) > {_CORRECTIONS_MAX}", "10m", "ticket",
            "the operator put {{ $value | printf \"%.0f\" }} objects back in ten minutes: something else changes them",
            "kubectl get events -A --field-selector reason=DriftCorrected; leave those fields to the other by spec.driftIgnore",
        ),
    ]  # fmt: skip
    return {"groups": [{"name": "trade2026 operator", "interval": "30s", "rules": alerts}]}


def _alert(name: str, expr: str, lasts: str, severity: str, summary: str, todo: str) -> dict[str, Any]:
    """An alert; `todo` says what to do first."""
    return {
        "alert": f"Trade2026Operator{name}",
        "expr": expr,
        **({"for": lasts} if lasts else {}),
        "labels": {"severity": severity},
        "annotations": {"summary": summary, "description": todo},
    }
