"""Traces: W3C trace contexts for everyone, OpenTelemetry spans for whoever configured a collector.

Every order has a trace in its envelopes. Spans are its sampled export: the decision is in the trace context, so
all processes take the same one; what failed or was slow is exported even where the rest of its trace is not.
A span is handed to a bounded queue, which a thread sends; when the collector is slow or gone, spans are dropped.
"""

import random
import re
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import xxhash

SLOW_NS = 100_000_000
"""A span that lasted so long is exported whatever the sampling says."""
UNSAMPLED_PER_SECOND_MAX = 200
"""Spans that are exported only because they failed or were slow: an outage must not become a flood."""
_EXPORT_MS = 1_000
_FLUSH_MS_MAX = 2_000
_CONTEXT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_SAMPLED_OF = 1 << 64

_random = random.getrandbits


class Traceparent(NamedTuple):
    """A parsed trace context; the ids are lower-case hex."""

    trace_id: str
    span_id: str
    sampled: bool


class _Export:
    """Where spans go, and as whose: every service of a process has its own resource."""

    def __init__(self, processor: Any, scope: Any, process: str, version: str) -> None:
        self.processor, self.scope, self.process, self.version = processor, scope, process, version
        self.resources: dict[str, Any] = {}
        self.second, self.unsampled = 0.0, 0

    def resource(self, service: str) -> Any:
        """The resource of a service; of the process itself if it has no name."""
        from opentelemetry.sdk.resources import Resource

        name = service or self.process
        resource = self.resources.get(name)
        if resource is None:
            resource = self.resources[name] = Resource.create(
                {
                    "service.name": name,
                    "service.namespace": "trade2026",
                    "service.instance.id": self.process,
                    "service.version": self.version,
                }
            )
        return resource

    def may_exceed(self) -> bool:
        """Whether one more span may go out that its trace's sampling left out."""
        now = time.monotonic()
        if now - self.second >= 1:
            self.second, self.unsampled = now, 0
        self.unsampled += 1
        return self.unsampled <= UNSAMPLED_PER_SECOND_MAX


_export: _Export | None = None
_sampled_below = 0


def configure(otlp_endpoint: str, *, service: str, version: str, sampling: float) -> None:
    """Export spans over OTLP/HTTP from now on; without an endpoint nothing is exported or imported.

    Args:
        otlp_endpoint: Of the collector, e.g. `http://127.0.0.1:4318`.
        service: Name of the process, for spans that belong to no service of it.
        sampling: Share of new traces that are exported, from 0 to 1; a caller's decision is kept.
    """
    if not otlp_endpoint:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    base = otlp_endpoint.rstrip("/")
    exporter = OTLPSpanExporter(endpoint=base if base.endswith("/v1/traces") else f"{base}/v1/traces")
    configure_with(
        BatchSpanProcessor(exporter, schedule_delay_millis=_EXPORT_MS),
        service=service,
        version=version,
        sampling=sampling,
    )


def configure_with(processor: Any, *, service: str, version: str, sampling: float) -> None:
    """Hand finished spans to an OpenTelemetry `SpanProcessor`."""
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    global _export, _sampled_below
    assert 0 <= sampling <= 1
    _export = _Export(processor, InstrumentationScope("trade2026", version), service, version)
    _sampled_below = int(sampling * _SAMPLED_OF)


def shutdown() -> None:
    """Export what waits, for a bounded time, and stop. Blocks."""
    global _export, _sampled_below
    if _export is not None:
        _export.processor.force_flush(_FLUSH_MS_MAX)
        _export.processor.shutdown()
    _export, _sampled_below = None, 0


def is_on() -> bool:
    """Whether spans are exported."""
    return _export is not None


def new_traceparent() -> str:
    """Begin a trace."""
    trace_id = _random(128) or 1
    flags = "01" if trace_id % _SAMPLED_OF < _sampled_below else "00"
    return f"00-{trace_id:032x}-{_random(64) or 1:016x}-{flags}"


def child(traceparent: str) -> str:
    """Return the context of a new span under a valid one."""
    return f"{traceparent[:36]}{_random(64) or 1:016x}{traceparent[52:]}"


def named(traceparent: str, event_id: str) -> str:
    """Return the context of the span that an event of the log stands for, in the trace of a valid one."""
    return f"{traceparent[:36]}{span_id_of(event_id)}{traceparent[52:]}"


def parse_traceparent(text: str) -> Traceparent | None:
    """Return the parts of a trace context of version 00, or None if it is malformed."""
    match = _CONTEXT.fullmatch(text)
    if match is None:
        return None
    trace_id, span_id, flags = match.groups()
    if not int(trace_id, 16) or not int(span_id, 16):
        return None
    return Traceparent(trace_id, span_id, bool(int(flags, 16) & 1))


def span_id_of(event_id: str) -> str:
    """The id of the span that an event of the log stands for; 16 hex digits, never 0."""
    return f"{xxhash.xxh64_intdigest(event_id.encode()) or 1:016x}"


def span(
    name: str,
    traceparent: str,
    start_ns: int,
    end_ns: int,
    attributes: Mapping[str, str | bool | int | float] | None = None,
    error: bool = False,
    *,
    own: str = "",
    service: str = "",
    keep: bool = False,
) -> None:
    """Export one finished span if its trace is sampled, or if it failed or was slow.

    Args:
        traceparent: Of its parent; empty for the first span of a trace.
        start_ns: Nanoseconds since the epoch, as `end_ns`.
        own: Of the span itself, where others already name it as their parent; otherwise it gets a new one.
        service: Which service of this process it is about.
        keep: Export it whatever the sampling says.
    """
    if _export is None or not (traceparent or own):
        return
    context = parse_traceparent(own or child(traceparent))
    if context is None:
        return
    if not context.sampled and not ((keep or error or end_ns - start_ns >= SLOW_NS) and _export.may_exceed()):
        return
    parent = parse_traceparent(traceparent)
    _export.processor.on_end(_readable(name, context, parent, (start_ns, end_ns), attributes, error, service))


def _readable(
    name: str,
    context: Traceparent,
    parent: Traceparent | None,
    times: tuple[int, int],
    attributes: Mapping[str, Any] | None,
    error: bool,
    service: str,
) -> Any:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.status import Status, StatusCode

    assert _export is not None
    return ReadableSpan(
        name,
        context=_span_context(context, is_remote=False),
        parent=_span_context(parent, is_remote=True) if parent is not None else None,
        resource=_export.resource(service),
        attributes=dict(attributes or {}),
        kind=SpanKind.INTERNAL,
        status=Status(StatusCode.ERROR if error else StatusCode.UNSET),
        start_time=times[0],
        end_time=max(times),
        instrumentation_scope=_export.scope,
    )


def _span_context(context: Traceparent, *, is_remote: bool) -> Any:
    """As sampled: the processor drops what is not, and this span was chosen."""
    from opentelemetry.trace import SpanContext, TraceFlags

    return SpanContext(int(context.trace_id, 16), int(context.span_id, 16), is_remote, TraceFlags(TraceFlags.SAMPLED))
