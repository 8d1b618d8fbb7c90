"""Debian's promtool takes the generated rules, and a breach of an objective fires in them as it does in the watch."""

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

from trade2026.monitoring.dashboards import expressions
from trade2026.monitoring.files import operator_rules_yaml, rules_yaml
from trade2026.monitoring.operator_rules import operator_rules

SLOW, QUICK = "0+20x60", "0+80x60"
ROUTE = 'method="POST",route="/orders"'


def check(promtool: str, *words: str) -> None:
    done = subprocess.run([promtool, *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_are_valid(promtool: str, tmp_path: Path) -> None:
    for written in (rules_yaml, operator_rules_yaml):
        file = tmp_path / f"{written.__name__}.yaml"
        file.write_text(written())
        check(promtool, "check", "rules", "--lint-fatal", str(file))


def test_every_query_of_the_dashboard_is_valid(promtool: str, tmp_path: Path) -> None:
    queries = [query.replace("$service", ".*").replace("$__rate_interval", "5m") for query in expressions()]
    made = [{"record": f"dashboard:query:{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "queries.yaml"
    file.write_text(json.dumps({"groups": [{"name": "queries", "rules": made}]}))
    check(promtool, "check", "rules", str(file))


def series(name: str, values: str, **labels: str) -> dict[str, str]:
    told = ",".join(
        [f'service="{labels.pop("service")}"', ROUTE, *(f'{key}="{value}"' for key, value in labels.items())]
    )
    return {"series": f"{name}{{{told}}}", "values": values}


def burning(service: str, severity: str, window: str, value: str, slo: str, objective: str) -> dict[str, Any]:
    return {
        "exp_labels": {
            "severity": severity, "window": window, "service": service, "slo": slo, "objective": objective,
        },
        "exp_annotations": {"summary": f"{service}: the error budget of {slo} burns {value} times too fast"},
    }  # fmt: skip


def test_a_breach_of_an_objective_fires_and_a_service_within_its_own_does_not(promtool: str, tmp_path: Path) -> None:
    (tmp_path / "trade2026.rules.yaml").write_text(rules_yaml())
    histogram = "trade2026_http_request_seconds"
    tests: dict[str, Any] = {
        "rule_files": ["trade2026.rules.yaml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    # A fifth of the order service's requests is slow, a thousandth may be.
                    series(f"{histogram}_bucket", "0+80x60", service="oms", le="0.05"),
                    series(f"{histogram}_count", "0+100x60", service="oms"),
                    # The same latencies are within what positions promise.
                    series(f"{histogram}_bucket", "0+80x60", service="ptrc", le="0.05"),
                    series(f"{histogram}_bucket", "0+100x60", service="ptrc", le="0.25"),
                    series(f"{histogram}_count", "0+100x60", service="ptrc"),
                    series("trade2026_http_requests_total", "0+98x60", service="oms", status="200"),
                    series("trade2026_http_requests_total", "0+2x60", service="risk", status="503"),
                    series(f"{histogram}_count", "0+100x60", service="risk"),
                    series(f"{histogram}_bucket", "0+100x60", service="risk", le="0.05"),
                    {"series": 'trade2026_monitored_ready{of="oms",service="monitoring"}', "values": "1x10 0x10 1x40"},
                ],
                "alert_rule_test": [
                    {
                        "eval_time": "30m",
                        "alertname": "Trade2026ErrorBudgetBurns",
                        "exp_alerts": [
                            burning(service, severity, window, value, slo, objective)
                            for severity, window in (("page", "1h"), ("page", "6h"), ("ticket", "1d"), ("ticket", "3d"))
                            for service, value, slo, objective in (
                                ("oms", "200.0", "latency", "99.90% under 50 ms"),
                                ("risk", "20.0", "answers", "99.90% without 5xx"),
                            )
                        ],
                    },
                    {"eval_time": "9m", "alertname": "Trade2026NotReady", "exp_alerts": []},
                    {
                        "eval_time": "15m",
                        "alertname": "Trade2026NotReady",
                        "exp_alerts": [
                            {
                                "exp_labels": {"severity": "page", "of": "oms", "service": "monitoring"},
                                "exp_annotations": {"summary": "oms is not ready"},
                            }
                        ],
                    },
                    {"eval_time": "30m", "alertname": "Trade2026NotReady", "exp_alerts": []},
                    {"eval_time": "30m", "alertname": "Trade2026MonitoringGone", "exp_alerts": []},
                ],
            }
        ],
    }
    file = tmp_path / "tests.yaml"
    file.write_text(yaml.safe_dump(tests))
    check(promtool, "test", "rules", str(file))


def test_an_operator_that_nobody_leads_or_that_fails_is_told_and_one_that_is_well_is_not(
    promtool: str, tmp_path: Path
) -> None:
    (tmp_path / "operator.rules.yaml").write_text(operator_rules_yaml())
    leads, failing, age = (f"trade2026_operator_{name}" for name in ("leads", "failing", "watch_age_seconds"))
    corrections = "trade2026_operator_corrections_total"
    of = {name: f'{{namespace="{name}",job="op",pod="a"}}' for name in ("well", "ill")}
    said = [
        (leads, "well", "1x40"), (leads, "ill", "0x40"),
        (failing, "well", "1x5 0x35"), (failing, "ill", "2x40"),
        (age, "well", "60x40"), (age, "ill", "200x40"),
        (corrections, "well", "0+0.1x40"), (corrections, "ill", "0+5x40"),
    ]  # fmt: skip
    given = [{"series": f"{name}{of[which]}", "values": values} for name, which, values in said]
    given += [{"series": f'{leads}{{namespace="{which}",job="op",pod="b"}}', "values": "0x40"} for which in of]
    given += [{"series": f'{leads}{{namespace="two",job="op",pod="{pod}"}}', "values": "1x40"} for pod in "ab"]
    told = {"NotLeading": 1, "Gone": 0, "TwoLead": 1, "WatchSilent": 1, "StackFails": 1, "CorrectsAgainAndAgain": 1}
    (group,) = operator_rules()["groups"]
    assert [rule["alert"] for rule in group["rules"]] == [f"Trade2026Operator{name}" for name in told]
    count = [
        {
            "expr": f'count(ALERTS{{alertname="Trade2026Operator{name}",alertstate="firing"}}) or vector(0)',
            "eval_time": "30m", "exp_samples": [{"labels": "{}", "value": many}],
        }
        for name, many in told.items()
    ]  # fmt: skip
    count.append({"expr": 'count(ALERTS{namespace="well"}) or vector(0)', "eval_time": "30m",
                  "exp_samples": [{"labels": "{}", "value": 0}]})  # fmt: skip
    gone = [{"expr": 'count(ALERTS{alertname="Trade2026OperatorGone",alertstate="firing"})', "eval_time": "10m",
             "exp_samples": [{"labels": "{}", "value": 1}]}]  # fmt: skip
    file = tmp_path / "tests.yaml"
    tests = [
        {"interval": "1m", "input_series": given, "promql_expr_test": count},
        {"interval": "1m", "input_series": [], "promql_expr_test": gone},
    ]
    document = {"rule_files": ["operator.rules.yaml"], "evaluation_interval": "1m", "tests": tests}
    file.write_text(yaml.safe_dump(document))
    check(promtool, "test", "rules", str(file))
