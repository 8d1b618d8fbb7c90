"""Spans of orders, made from the log: what each event waited for, and what caused it.

Nobody on the path of an order makes a span of an event. The archive, which reads every topic anyway, makes them
afterwards: a span's id is derived from the event's, so that parents need no talk between processes. Only what no
event tells comes from elsewhere: the OMS exports the request and the moment of durability.

An order is kept whole or left out whole: by its trace's sampling, or because a step of it failed or was slow.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping

import msgspec

from trade2026.domain import events as ev
from trade2026.kit.tracing import SLOW_NS, Traceparent, parse_traceparent, span_id_of

WAIT_NS = 500_000_000
"""An event becomes a span this much later: by then the archive has read its cause, too."""
WAITING_MAX = 20_000
"""Events beyond this are not exported; `dropped` counts them."""
_CAUSES_MAX = 50_000
_TRACES_MAX = 4_096
_HELD_MAX = 64

NAMES: Mapping[type, str] = {
    ev.OrderAccepted: "decide",
    ev.OrderRefused: "decide",
    ev.OrderListAccepted: "decide",
    ev.VenueAccepted: "venue",
    ev.VenueRejected: "venue",
    ev.VenueFilled: "venue fill",
    ev.OrderOpened: "open",
    ev.OrderFilled: "fill",
    ev.PositionChanged: "position",
    ev.PnlRealized: "pnl",
    ev.ParentAccepted: "parent",
    ev.ChildDecided: "child",
}
"""What a span is called; one of another event has that event's name."""
_ERRORS = (ev.OrderRefused, ev.OrderRejected, ev.VenueRejected)
_FIRST = (ev.OrderAccepted, ev.OrderRefused, ev.OrderListAccepted)


class OrderSpan(msgspec.Struct, frozen=True):
    """One step of an order. Times are nanoseconds since the epoch; ids are hex, `parent_id` of the same trace."""

    name: str
    topic: str
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    event_id: str
    event_type: str
    order_id: str
    error: bool


class _Trace:
    """What is remembered of one trace: whether it is kept, what was held back, where its venue has it."""

    __slots__ = ("held", "kept", "venue_span_id")

    def __init__(self, kept: bool) -> None:
        self.kept = kept
        self.held: list[OrderSpan] = []
        self.venue_span_id = ""


class OrderSpans:
    """Takes events of every topic as they come, gives spans a moment later. Bounded in all directions."""

    def __init__(self, since_ns: int = 0) -> None:
        self.since_ns = since_ns
        """Older events are history: a replay exports nothing again."""
        self.dropped = 0
        self._waiting: deque[tuple[str, int, ev.Envelope]] = deque()
        self._times: OrderedDict[str, tuple[int, str]] = OrderedDict()
        """When an event happened, and in which trace; the oldest are forgotten."""
        self._traces: OrderedDict[str, _Trace] = OrderedDict()

    def add(self, topic: str, envelope: ev.Envelope, partition: int = 0) -> None:
        """Take the next event of a partition of a topic."""
        if envelope.ts_init < self.since_ns or not envelope.traceparent:
            return
        if len(self._waiting) >= WAITING_MAX:
            self.dropped += 1
            return
        self._times[f"{topic}/{partition}/{envelope.seq}"] = envelope.ts_init, envelope.traceparent[3:35]
        if len(self._times) > _CAUSES_MAX:
            self._times.popitem(last=False)
        self._waiting.append((topic, partition, envelope))

    def due(self, now_ns: int) -> list[OrderSpan]:
        """Return what should be exported by now, causes before effects."""
        events: list[tuple[str, int, ev.Envelope]] = []
        while self._waiting and self._waiting[0][2].ts_init <= now_ns - WAIT_NS:
            events.append(self._waiting.popleft())
        events.sort(key=lambda item: item[2].ts_init)
        return [span for event in events for span in self._exported(*event)]

    def _exported(self, topic: str, partition: int, envelope: ev.Envelope) -> Iterator[OrderSpan]:
        context = parse_traceparent(envelope.traceparent)
        if context is None:
            return
        trace = self._trace(context)
        span = self._span(topic, f"{topic}/{partition}/{envelope.seq}", envelope, context, trace)
        if isinstance(envelope.data, ev.VenueAccepted):
            trace.venue_span_id = span.span_id
        if trace.kept:
            yield span
            return
        if len(trace.held) < _HELD_MAX:
            trace.held.append(span)
        if span.error or span.end_ns - span.start_ns >= SLOW_NS:
            trace.kept = True
            yield from trace.held
            trace.held = []

    def _trace(self, context: Traceparent) -> _Trace:
        trace = self._traces.get(context.trace_id)
        if trace is None:
            trace = self._traces[context.trace_id] = _Trace(context.sampled)
            if len(self._traces) > _TRACES_MAX:
                self._traces.popitem(last=False)
        return trace

    def _span(self, topic: str, event_id: str, envelope: ev.Envelope, context: Traceparent, trace: _Trace) -> OrderSpan:
        event, cause = envelope.data, envelope.causation_id
        caused_at, caused_in = self._times.get(cause, (0, ""))
        parent_id, start_ns = context.span_id, envelope.ts_event
        if isinstance(event, _FIRST):
            pass  # caused by a request, which is the trace's own span, or under that of who decided it
        elif caused_in == context.trace_id:
            parent_id, start_ns = span_id_of(cause), caused_at
        elif trace.venue_span_id and isinstance(event, ev.VenueFilled):
            parent_id = trace.venue_span_id  # a print of the market filled it: that is no span of this trace
        kind = type(event)
        return OrderSpan(
            name=NAMES.get(kind, kind.__name__),
            topic=topic,
            trace_id=context.trace_id,
            span_id=span_id_of(event_id),
            parent_id=parent_id,
            start_ns=min(start_ns, envelope.ts_init),
            end_ns=envelope.ts_init,
            event_id=event_id,
            event_type=kind.__name__,
            order_id=getattr(event, "order_id", "") or getattr(event, "list_id", "") or getattr(event, "parent_id", ""),
            error=isinstance(event, _ERRORS),
        )
