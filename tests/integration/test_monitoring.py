"""The watch over a real stack in one process: it finds its services, counts their requests, and says what is wrong."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from one_process import ORDER, OneProcess

from trade2026.kit.settings import ProcessSettings
from trade2026.monitoring.dashboards import expressions
from trade2026.monitoring.rules import rules
from trade2026.monitoring.service import MonitoringConfig
from trade2026.stack.configs import SERVICE_CONFIGS

SERVICES = ("oms", "gateway", "normalizer", "risk", "monitoring")


def often(settings: ProcessSettings) -> ProcessSettings:
    """Looks so often that a test need not wait."""
    return msgspec.structs.replace(settings, config={"monitoring": {"look_seconds": 0.05, "scrape_seconds": 0.05}})


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneProcess]:
    state = tmp_path_factory.mktemp("watched") / "state"
    (state / "run").mkdir(parents=True)
    plan_services(state, *SERVICES)
    with OneProcess(state, services=SERVICES, change=often) as running:
        yield running


def plan_services(state: Path, *services: str) -> None:
    """Write what the runner writes."""
    (state / "run" / "stack.json").write_text(json.dumps({"releases": {"all": list(services)}}))


def asked(stack: OneProcess, path: str) -> Any:
    answer = stack.call("monitoring", "GET", path)
    assert answer.status == 200, answer.body
    return answer.json


def test_every_planned_service_is_watched_and_seen_to_be_ready(stack: OneProcess) -> None:
    def ready() -> bool:
        found = asked(stack, "/services")["services"]
        return [each["service"] for each in found] == list(SERVICES) and all(each["ready"] for each in found)

    stack.wait_until(ready, "every service is seen to be ready")


def test_requests_are_counted_against_the_objectives(stack: OneProcess) -> None:
    stack.wait_until(lambda: asked(stack, "/stats")["looks"] > 20, "everything was looked at")
    for number in range(5):
        body = {**ORDER, "client_order_id": f"watched-{number}"}
        assert stack.call("oms", "POST", "/orders", body).status == 200

    def counted() -> Any:
        slos = asked(stack, "/slos")["slos"]
        return next(
            (each for each in slos if (each["service"], each["slo"]) == ("oms", "answers") and each["requests"] >= 5),
            None,
        )

    found = stack.wait_until(counted, "the orders are counted")
    assert (found["bad"], found["budget_left"], found["objective"]) == (0, 1, 0.999)
    assert set(found["burn"]) == {"300", "1800", "3600", "7200", "21600", "86400", "259200"}


def test_a_service_that_does_not_answer_is_a_page_and_an_incident_until_it_is_not_planned(
    stack: OneProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack.hosted["monitoring"].monitor, "not_ready_ns", 0)
    plan_services(stack.state, *SERVICES, "exeq")

    def alerts() -> list[Any]:
        """Of this service: another may be slow for a moment."""
        return [each for each in asked(stack, "/alerts")["alerts"] if each["service"] == "exeq"]

    (alert,) = stack.wait_until(alerts, "there is an alert")
    assert alert["severity"] == "page"
    assert "it does not answer" in alert["what"]
    assert (
        'trade2026_monitored_ready{of="exeq",service="monitoring"} 0'
        in stack.call("monitoring", "GET", "/metrics").body.decode()
    )
    plan_services(stack.state, *SERVICES)
    stack.wait_until(lambda: not alerts(), "it is over")
    incidents = asked(stack, "/incidents?limit=100")["incidents"]
    (incident,) = [each for each in incidents if each["service"] == "exeq"]
    assert incident["ended"]
    assert incident["timeline"][-1]["what"].startswith("it is not planned any more")
    metrics = stack.call("monitoring", "GET", "/metrics").body.decode()
    assert 'trade2026_monitored_ready{of="exeq",service="monitoring"} 1' in metrics  # nobody is paged for it
    assert 'trade2026_monitored_unwell_checks{of="exeq",service="monitoring"} 0' in metrics


def test_the_page_is_whole_and_lets_no_other_script_run(stack: OneProcess) -> None:
    answer = stack.call("monitoring", "GET", "/page")
    assert answer.status == 200
    assert b"prefers-color-scheme: dark" in answer.body
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_every_metric_that_rules_and_dashboard_name_is_in_what_services_say(stack: OneProcess) -> None:
    texts = [stack.call(service, "GET", "/metrics").body.decode() for service in SERVICES]
    there = {
        line.partition("{")[0].partition(" ")[0] for text in texts for line in text.splitlines() if line[:1] != "#"
    }
    every = [rule for group in rules()["groups"] for rule in group["rules"]]
    there |= {rule["record"] for rule in every if "record" in rule}
    named: set[str] = set()
    for expression in [*(rule["expr"] for rule in every), *expressions()]:
        named |= set(re.findall(r"\b(?:trade2026|process)_\w+|\btrade2026:\w+:\w+", re.sub(r'"[^"]*"', "", expression)))
    assert len(named) > 20
    assert named <= there


def test_a_look_that_fails_ends_no_watch_and_a_watch_that_has_ended_is_told(
    stack: OneProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = stack.hosted["monitoring"]
    failed: list[str] = []

    def saw(name: str, *_: Any) -> None:
        failed.append(name)
        raise ArithmeticError("too many")

    with monkeypatch.context() as patch:
        patch.setattr(service.monitor, "saw", saw)
        stack.wait_until(lambda: len(set(failed)) == len(SERVICES), "every look has failed")
    before = asked(stack, "/stats")["looks"]
    stack.wait_until(lambda: asked(stack, "/stats")["looks"] > before + 2 * len(SERVICES), "it looks on")

    monkeypatch.setattr(service, "_watch", lambda: 1 / 0)
    found = stack.wait_until(lambda: service.health().get("watch over the stack"), "its end is told")
    assert (found.ok, "division by zero" in found.detail) == (False, True)


def test_the_service_takes_the_settings_that_the_manifest_may_have() -> None:
    assert set(SERVICE_CONFIGS["monitoring"]) == set(MonitoringConfig.__struct_fields__)
