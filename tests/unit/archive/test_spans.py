"""Spans of orders, from the events of all topics."""

from typing import Any

import pytest

from trade2026.archive import spans
from trade2026.archive.spans import WAIT_NS, OrderSpan, OrderSpans
from trade2026.domain import events as ev
from trade2026.domain.orders import OrderSpec, OrderType
from trade2026.kit.tracing import SLOW_NS, span_id_of

SAMPLED = f"00-{'a' * 32}-{'b' * 16}-01"
UNSAMPLED = f"00-{'a' * 32}-{'b' * 16}-00"
SPEC = OrderSpec(
    client_order_id="c", account="main", instrument="BTCUSDT.SIM", side="BUY", order_type=OrderType.LIMIT, quantity=1
)
ACCEPTED = ev.OrderAccepted(order_id="o1", spec=SPEC, reserved_price=1)
VENUE_ACCEPTED = ev.VenueAccepted(order_id="o1", venue_order_id="SIM:o1", spec=SPEC)
OPENED = ev.OrderOpened(order_id="o1")


def envelope(seq: int, ts: int, event: Any, cause: str = "", traceparent: str = SAMPLED) -> ev.Envelope:
    return ev.Envelope(seq, 1, ts - 1, ts, "desk", "local", "o1", cause, traceparent, event)


def life(traceparent: str = SAMPLED, venue_ns: int = 20) -> list[tuple[str, ev.Envelope]]:
    """An order that its venue accepts; the topics come in the order in which they happen to be read."""
    return [
        ("venue.reports", envelope(0, 10 + venue_ns, VENUE_ACCEPTED, "orders.events/0/3", traceparent)),
        ("orders.events", envelope(3, 10, ACCEPTED, "", traceparent)),
        ("orders.events", envelope(4, 20 + venue_ns, OPENED, "venue.reports/0/0", traceparent)),
    ]


def exported(given: list[tuple[str, ev.Envelope]]) -> list[OrderSpan]:
    made = OrderSpans()
    for topic, event in given:
        made.add(topic, event)
    return made.due(2 * WAIT_NS)


def test_each_event_is_a_span_under_its_cause_and_the_first_one_under_the_request() -> None:
    decide, venue, opened = exported(life())
    assert [span.name for span in (decide, venue, opened)] == ["decide", "venue", "open"]
    assert {span.trace_id for span in (decide, venue, opened)} == {"a" * 32}
    assert decide.parent_id == "b" * 16
    assert venue.parent_id == decide.span_id == span_id_of("orders.events/0/3")
    assert opened.parent_id == venue.span_id


def test_a_span_lasts_from_its_cause_to_its_event() -> None:
    decide, venue, opened = exported(life())
    assert (decide.start_ns, decide.end_ns) == (9, 10)
    assert (venue.start_ns, venue.end_ns) == (10, 30)
    assert (opened.start_ns, opened.end_ns) == (30, 40)


def test_a_fill_by_a_print_of_the_market_is_under_the_venues_acceptance() -> None:
    fill = ev.VenueFilled(order_id="o1", exec_id="x", last_qty=1, last_px=1, liquidity="MAKER", source="tape")
    found = exported([*life(), ("venue.reports", envelope(1, 900, fill, "market.ticks/0/7"))])
    assert found[-1].name == "venue fill"
    assert found[-1].parent_id == span_id_of("venue.reports/0/0")
    assert found[-1].start_ns == 899


def test_an_order_that_is_not_sampled_is_left_out_whole() -> None:
    assert exported(life(UNSAMPLED)) == []


def test_a_slow_step_keeps_the_whole_order() -> None:
    assert len(exported(life(UNSAMPLED, venue_ns=SLOW_NS))) == 3


def test_a_refusal_keeps_the_whole_order() -> None:
    rejected = ev.VenueRejected(order_id="o1", reject_code="NO_LIQUIDITY", reason="r")
    found = exported(
        [*life(UNSAMPLED)[1:2], ("venue.reports", envelope(0, 11, rejected, "orders.events/0/3", UNSAMPLED))]
    )
    assert [(span.name, span.error) for span in found] == [("decide", False), ("venue", True)]


def test_what_happened_before_the_start_is_not_exported_again() -> None:
    made = OrderSpans(since_ns=15)
    for topic, event in life():
        made.add(topic, event)
    assert [span.event_id for span in made.due(2 * WAIT_NS)] == ["venue.reports/0/0", "orders.events/0/4"]


def test_an_event_waits_for_its_cause_to_be_read() -> None:
    made = OrderSpans()
    made.add("orders.events", envelope(3, 10, ACCEPTED))
    assert made.due(WAIT_NS) == []
    assert len(made.due(WAIT_NS + 10)) == 1


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "WAITING_MAX", 2)
    made = OrderSpans()
    for topic, event in life():
        made.add(topic, event)
    assert made.dropped == 1
    assert len(made.due(2 * WAIT_NS)) == 2
