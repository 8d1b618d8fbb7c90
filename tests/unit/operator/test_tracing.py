"""Each look is one trace, in which every step has a span; without a collector there is none, and no SDK."""

import subprocess
import sys

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.unit.operator.operated import SERVICE, Desk

from trade2026_operator.kube import KubeError


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def desk(spans: InMemorySpanExporter) -> Desk:
    made, provider = Desk(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    made.worker._tracer = provider.get_tracer("test")
    return made


def by_trace(spans: InMemorySpanExporter) -> list[list[ReadableSpan]]:
    found: dict[int, list[ReadableSpan]] = {}
    for span in spans.get_finished_spans():
        assert span.context is not None
        found.setdefault(span.context.trace_id, []).append(span)
    return list(found.values())


async def test_a_look_is_one_trace_with_a_span_for_each_step(desk: Desk, spans: InMemorySpanExporter) -> None:
    await desk.run()
    first, *_, last = by_trace(spans)
    names = [span.name for span in first]
    assert names[0] == "render" and names[-1] == "reconcile"
    assert {"apply Service", "apply StatefulSet", "write record", "make keys", "patch status"} <= set(names)
    root = first[-1]
    assert root.context is not None and root.parent is None
    assert all(span.parent is not None and span.parent.span_id == root.context.span_id for span in first[:-1])
    assert root.attributes == {
        "k8s.namespace.name": "trading", "trade2026.stack": "desk", "trade2026.end": "acted",
    }  # fmt: skip
    assert [span.name for span in last] == ["reconcile"], "a look with nothing to do has no step"


async def test_a_correction_names_what_was_put_back_and_a_failure_is_an_error(
    desk: Desk, spans: InMemorySpanExporter
) -> None:
    await desk.run()
    spans.clear()
    await desk.kube.delete(SERVICE)
    desk.kube.calls.clear()
    desk.kube.fail_at = 0
    desk.watch()
    with pytest.raises(KubeError):
        await desk.look()
    (failed,) = by_trace(spans)
    assert [(span.name, span.status.is_ok) for span in failed] == [("apply Service", False), ("reconcile", False)]
    assert failed[0].attributes == {"k8s.object": "Service/desk-oms", "trade2026.corrects": "true"}


def test_without_a_collector_the_sdk_is_not_imported() -> None:
    program = (
        "import sys; from trade2026_operator.tracing import Tracing; "
        "Tracing('', identity='a', version='1').close(); print('opentelemetry.sdk' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
