"""Parent orders from the command line."""

from typing import Any

import pytest

PARENT = {"parent_id": "e0-1", "status": "Working", "cum_qty": "0.1", "quantity": "0.5"}


def test_a_parent_order_is_sent_as_it_was_given(cli: Any, stack: Any) -> None:
    stack.answers["POST /parents"] = (200, PARENT)
    terms = ("--duration", "10m", "--slices", "60", "--participation-max", "20%", "--id", "mine")
    result = cli("parent", "submit", "BTCUSDT", "buy", "0.5", *terms)
    assert (result.code, result.out) == (0, "e0-1 Working 0.1 of 0.5\n")
    sent = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.5", "algo": "TWAP", "client_order_id": "mine"}
    assert stack.asked == [
        ("POST /parents", {**sent, "duration": "10m", "slices": 60, "participation_max": "20%"}),
    ]


@pytest.mark.parametrize("what", ["pause", "resume", "cancel"])
def test_a_parent_order_is_changed_with_a_reason(cli: Any, stack: Any, what: str) -> None:
    stack.answers[f"POST /parents/e0-1/{what}"] = (200, PARENT)
    assert cli("parent", what, "e0-1", "--reason", "news").out == "e0-1 Working 0.1 of 0.5\n"
    assert stack.asked == [(f"POST /parents/e0-1/{what}", {"reason": "news"})]


def test_an_amendment_of_a_parent_order_names_what_changes(cli: Any, stack: Any) -> None:
    stack.answers["PATCH /parents/e0-1"] = (200, PARENT)
    assert cli("parent", "amend", "e0-1", "--quantity", "0.4").code == 0
    assert stack.asked == [("PATCH /parents/e0-1", {"quantity": "0.4"})]
    nothing = cli("parent", "amend", "e0-1")
    assert (nothing.code, "say what should change" in nothing.err) == (2, True)


def test_a_parent_order_is_shown_with_its_children_and_benchmarks(cli: Any, stack: Any) -> None:
    child = {"order_id": "o0-7", "status": "Filled", "quantity": "0.1", "cum_qty": "0.1", "avg_px": "45000"}
    benchmarks = {"arrival": {"price": "44990", "slippage_bps": 2.223}}
    whole = {**PARENT, "children": [child], "benchmarks": benchmarks}
    stack.answers["GET /parents/e0-1"] = (200, whole)
    shown = cli("parent", "show", "e0-1").out
    assert all(text in shown for text in ("Working", "arrival", "2.223", "o0-7"))
    assert cli("parent", "show", "e0-1", "--json").json == whole
    stack.answers["GET /parents?status=open&limit=50"] = (200, {"parents": [PARENT], "cursor": None})
    assert "e0-1" in cli("parent", "list", "--status", "open").out
