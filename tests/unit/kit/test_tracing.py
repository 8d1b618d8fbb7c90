"""Trace contexts, and which spans are exported."""

from collections.abc import Iterator
from typing import Any

import pytest

from trade2026.kit import tracing

UNSAMPLED = f"00-{'a' * 32}-{'b' * 16}-00"
SAMPLED = f"00-{'a' * 32}-{'b' * 16}-01"


class Kept:
    """A processor that keeps what it is handed."""

    def __init__(self) -> None:
        self.spans: list[Any] = []

    def on_end(self, span: Any) -> None:
        self.spans.append(span)

    def force_flush(self, timeout_ms: int) -> None: ...

    def shutdown(self) -> None: ...


@pytest.fixture
def kept() -> Iterator[list[Any]]:
    processor = Kept()
    tracing.configure_with(processor, service="orders", version="1", sampling=0.5)
    yield processor.spans
    tracing.shutdown()


def test_nothing_is_exported_without_a_collector() -> None:
    tracing.configure("", service="orders", version="1", sampling=1)
    assert not tracing.is_on()
    tracing.span("x", SAMPLED, 0, 1)


def test_a_span_has_its_own_id_its_parent_and_its_services_name(kept: list[Any]) -> None:
    own = tracing.child(SAMPLED)
    tracing.span("decide", SAMPLED, 5, 9, {"order.id": "o1"}, own=own, service="oms")
    (span,) = kept
    assert (span.name, span.start_time, span.end_time) == ("decide", 5, 9)
    assert f"{span.context.span_id:016x}" == own[36:52]
    assert f"{span.parent.span_id:016x}" == "b" * 16
    assert f"{span.context.trace_id:032x}" == "a" * 32
    assert span.resource.attributes["service.name"] == "oms"
    assert dict(span.attributes) == {"order.id": "o1"}


@pytest.mark.parametrize(
    ("traceparent", "end_ns", "options", "exported"),
    [
        (SAMPLED, 1, {}, True),
        (UNSAMPLED, 1, {}, False),
        (UNSAMPLED, 1, {"error": True}, True),
        (UNSAMPLED, 1, {"keep": True}, True),
        (UNSAMPLED, tracing.SLOW_NS, {}, True),
        ("nonsense", 1, {}, False),
    ],
)
def test_what_is_sampled_has_failed_or_was_slow_is_exported(
    kept: list[Any], traceparent: str, end_ns: int, options: Any, exported: bool
) -> None:
    tracing.span("x", traceparent, 0, end_ns, **options)
    assert len(kept) == exported


def test_a_flood_of_errors_is_bounded_and_takes_nothing_from_what_is_sampled(kept: list[Any]) -> None:
    for _ in range(5 * tracing.UNSAMPLED_PER_SECOND_MAX):
        tracing.span("x", UNSAMPLED, 0, 1, error=True)
    # Several seconds may have begun meanwhile, each with its own budget, but this took no five of them by itself.
    assert tracing.UNSAMPLED_PER_SECOND_MAX <= len(kept) <= 5 * tracing.UNSAMPLED_PER_SECOND_MAX
    kept.clear()
    tracing.span("x", SAMPLED, 0, 1)
    assert len(kept) == 1


def test_new_traces_are_sampled_by_their_share(kept: list[Any]) -> None:
    sampled = [tracing.new_traceparent().endswith("-01") for _ in range(400)]
    assert True in sampled
    assert False in sampled


def test_a_child_keeps_the_trace_and_the_decision() -> None:
    child = tracing.child(SAMPLED)
    parsed = tracing.parse_traceparent(child)
    assert parsed is not None
    assert parsed.trace_id == "a" * 32
    assert parsed.sampled
    assert parsed.span_id != "b" * 16


@pytest.mark.parametrize("text", ["", "00-1-2-3", SAMPLED.upper(), f"00-{'0' * 32}-{'b' * 16}-01", SAMPLED + "x"])
def test_a_malformed_context_is_none(text: str) -> None:
    assert tracing.parse_traceparent(text) is None


def test_the_span_of_an_event_has_always_the_same_id() -> None:
    assert tracing.span_id_of("orders.events/0/3") == tracing.span_id_of("orders.events/0/3")
    assert tracing.span_id_of("orders.events/0/3") != tracing.span_id_of("orders.events/0/4")
    assert len(tracing.span_id_of("positions/0/0")) == 16
