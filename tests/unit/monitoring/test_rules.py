"""The Prometheus rules and the Grafana dashboard say what the objectives say."""

import json
import re
from pathlib import Path

import yaml

from trade2026.monitoring.dashboards import dashboard, expressions
from trade2026.monitoring.files import dashboard_json, rules_json, rules_yaml
from trade2026.monitoring.operator_rules import operator_rules
from trade2026.monitoring.rules import rules, span
from trade2026.stack.facts import BURN_ALERTS, SERVICES
from trade2026_operator import metrics, operator

EVERY = [rule for group in rules()["groups"] for rule in group["rules"]]


def test_every_service_has_its_own_objective_in_the_rules() -> None:
    for service in SERVICES.values():
        slow = [
            rule["expr"]
            for rule in EVERY
            if rule.get("record") == "trade2026:slo_burn:rate1h"
            and rule["labels"]["slo"] == "latency"
            and re.search(rf'[|"]{service.name}[|"]', rule["expr"])
        ]
        assert len(slow) == 1
        assert f'le="{service.slo.under_ms / 1000!r}"' in slow[0]
        assert slow[0].endswith(f"/ {round(1 - service.slo.objective, 9)}")


def test_every_burn_alert_asks_both_of_its_windows() -> None:
    found = [(rule["expr"], rule["labels"]) for rule in EVERY if rule.get("alert") == "Trade2026ErrorBudgetBurns"]
    assert len(found) == len(BURN_ALERTS)
    for alert, (expression, labels) in zip(BURN_ALERTS, found, strict=True):
        assert f"rate{span(alert.long_seconds)} > {alert.rate:g}" in expression
        assert f"rate{span(alert.short_seconds)} > {alert.rate:g}" in expression
        assert labels["severity"] == alert.severity


def test_the_files_hold_the_rules_and_the_dashboard() -> None:
    assert yaml.safe_load(rules_yaml()) == json.loads(rules_json()) == rules()
    assert json.loads(dashboard_json()) == dashboard()
    assert len({panel["id"] for panel in dashboard()["panels"]}) == len(expressions())


def test_durations_are_written_as_prometheus_reads_them() -> None:
    assert [span(seconds) for seconds in (30, 300, 3_600, 86_400, 90)] == ["30s", "5m", "1h", "1d", "90s"]


def test_the_rules_of_the_operator_ask_for_what_it_exports() -> None:
    exported = "".join(Path(module.__file__ or "").read_text() for module in (metrics, operator))
    for rule in operator_rules()["groups"][0]["rules"]:
        (name,) = re.findall(r"trade2026_operator_\w+", rule["expr"])
        assert f'"{name.removesuffix("_total")}"' in exported
        assert rule["annotations"]["description"], "who is woken is told what to do"
