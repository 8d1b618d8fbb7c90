"""A stack on one machine, as a user meets it."""

import httpx
import pytest
from bench.stack import wait_for
from tests.e2e.stack import ORDER, WAIT_SECONDS, Stack


def test_the_order_of_the_readme_is_acknowledged_fills_and_is_found_with_its_history(running_stack: Stack) -> None:
    answer = running_stack.submit(client_order_id="readme-1", account="readme", price=60000)
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "PendingNew"
    order = running_stack.wait_status(answer.json()["order_id"], "Filled")
    assert order["client_order_id"] == "readme-1"
    told = [event["type"] for event in order["history"]]
    assert told[0] == "OrderAccepted"
    assert "OrderFilled" in told


def test_positions_in_every_service_agree_as_of_the_same_event(running_stack: Stack) -> None:
    order_id = running_stack.submit(account="agree", price=60000).json()["order_id"]
    running_stack.wait_status(order_id, "Filled")
    as_of = running_stack.get("oms", "/positions/agree")["as_of"]

    def agree() -> bool:
        answers = [running_stack.get(name, "/positions/agree") for name in ("oms", "risk", "ptrc", "pnl")]
        held = [[(line["symbol"], line["quantity"]) for line in answer["positions"]] for answer in answers]
        return all(answer["as_of"] >= as_of for answer in answers) and all(each == held[0] for each in held)

    wait_for("positions agree", agree, WAIT_SECONDS)


@pytest.mark.parametrize("service", ["oms", "risk", "exeq", "gateway", "normalizer", "ptrc", "pnl", "archive"])
def test_every_service_is_well_and_says_who_it_is(running_stack: Stack, service: str) -> None:
    assert running_stack.get(service, "/")["name"] == service
    wait_for(f"{service} is well", lambda: running_stack.health(service).get("status") == "ok", WAIT_SECONDS)
    for probe in ("/livez", "/readyz", "/startupz", "/stats"):
        running_stack.get(service, probe)
    assert "# EOF" in running_stack.http(service).get("/metrics").text


def test_a_check_says_whether_it_is_approved_and_why(running_stack: Stack) -> None:
    order = {name: ORDER[name] for name in ("symbol", "side", "quantity", "price")}
    answer: httpx.Response = running_stack.http("risk").post("/check", json={"account": "checker", **order})
    assert answer.status_code == 200, answer.text
    assert answer.json()["approved"] is True
    assert {"approved", "risk_level", "reason", "checks"} <= answer.json().keys()
    refused = running_stack.http("risk").post("/check", json={"account": "checker", **order, "quantity": 1_000_000})
    assert refused.json()["approved"] is False
    assert refused.json()["reason"]
