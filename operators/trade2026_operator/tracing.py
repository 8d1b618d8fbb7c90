"""One OpenTelemetry trace for each look at a stack: a span for it, and below it one for rendering and for each step.

Without a collector nothing is exported, and the SDK is not imported.
"""

from opentelemetry.trace import NoOpTracer, Tracer

from trade2026_operator.queue import Key
from trade2026_operator.reconcile import actions as do
from trade2026_operator.reconcile.objects import ref_of

_EXPORT_MS = 1_000
_FLUSH_MS_MAX = 2_000


class Tracing:
    """Where spans go, until it is closed.

    Args:
        otlp_endpoint: Of a collector that speaks OTLP over HTTP, e.g. `http://127.0.0.1:4318`; empty for none.
        identity: Of this operator among several.
    """

    def __init__(self, otlp_endpoint: str, *, identity: str, version: str) -> None:
        self.tracer: Tracer = NoOpTracer()
        self._provider = None
        if not otlp_endpoint:
            return
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        base = otlp_endpoint.rstrip("/")
        exporter = OTLPSpanExporter(endpoint=base if base.endswith("/v1/traces") else f"{base}/v1/traces")
        named = {"service.name": "trade2026-operator", "service.namespace": "trade2026"}
        named |= {"service.instance.id": identity, "service.version": version}
        self._provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_EXPORT_MS))
        self.tracer = self._provider.get_tracer("trade2026_operator", version)

    def close(self) -> None:
        """Export what waits, for a bounded time. Blocks."""
        if self._provider is not None:
            self._provider.force_flush(_FLUSH_MS_MAX)
            self._provider.shutdown()


def about(key: Key) -> dict[str, str]:
    """The attributes of every span of a stack."""
    return {"k8s.namespace.name": key.namespace, "trade2026.stack": key.name}


def name_of(step: do.Action) -> str:
    """Of a step's span: what is done, to what kind of thing; names are in attributes, so that spans can be counted."""
    match step:
        case do.Apply(manifest):
            return f"apply {manifest['kind']}"
        case do.Delete(ref):
            return f"delete {ref.kind}"
        case _:
            return "".join(
                f" {letter.lower()}" if letter.isupper() else letter for letter in type(step).__name__
            ).strip()


def target_of(step: do.Action) -> dict[str, str]:
    """The attributes of a step's span."""
    match step:
        case do.Apply(manifest, corrects):
            return {"k8s.object": str(ref_of(manifest)), "trade2026.corrects": str(corrects).lower()}
        case do.Delete(ref):
            return {"k8s.object": str(ref)}
        case do.WriteRecord(record):
            return {"k8s.object": f"Secret/{record.secret_name}", "helm.status": record.status.value}
        case do.ReadRecord(secret):
            return {"k8s.object": f"Secret/{secret}"}
        case do.Say(reason):
            return {"k8s.event.reason": reason}
        case _:
            return {}
