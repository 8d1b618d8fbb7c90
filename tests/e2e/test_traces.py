"""One order is one trace, from the request to its profit and loss: in the log, and at an OpenTelemetry collector."""

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import rotel
from bench.stack import wait_for
from tests.e2e.conftest import MakeStack
from tests.e2e.stack import QUIET, WAIT_SECONDS, Stack

from trade2026.kit.tracing import span_id_of

CALLER = f"00-{'c0ffee' * 5}aa-{'1' * 16}"
_LINE = re.compile(r"^ *(?P<name>[^:]+?) *: (?P<value>.*)$")


class Collector:
    """A collector of its own process; it prints the spans that it received, and this reads them."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "collector.log"
        self.port, grpc = _free_port(), _free_port()
        agent = Path(rotel.__file__).parent / "rotel-agent"
        with self.path.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *(str(agent), "start", "--exporter", "blackhole"),
                    *("--otlp-http-endpoint", f"127.0.0.1:{self.port}", "--otlp-grpc-endpoint", f"127.0.0.1:{grpc}"),
                    *("--debug-log", "traces", "--debug-log-verbosity", "detailed"),
                    *("--pid-file", str(folder / "collector.pid"), "--log-file", str(folder / "agent.log")),
                ],
                stdout=log,
                stderr=log,
                cwd=folder,
                env=dict(os.environ) | {"NO_COLOR": "1"},
            )
        wait_for("the collector listens", self._listens, WAIT_SECONDS)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def endpoint(self) -> str:
        """What a manifest calls it."""
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        """End it."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def received(path: Path, trace_id: str) -> dict[str, dict[str, Any]]:
    """The spans of a trace, by id, as the collector printed them."""
    spans: list[dict[str, str]] = []
    service = ""
    for line in path.read_text(errors="replace").splitlines():
        match = _LINE.match(line)
        if line.startswith("Span #"):
            spans.append({"service": service})
        elif match is not None and match["name"] == "-> service.name":
            service = match["value"][4:-1]
        elif match is not None and spans and match["name"] not in spans[-1]:
            spans[-1][match["name"]] = match["value"]
    return {span["ID"]: span for span in spans if span.get("Trace ID") == trace_id}


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    made = Collector(tmp_path_factory.mktemp("collector"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def traced(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that samples no trace of its own accord: its callers decide."""
    folder = tmp_path_factory.mktemp("traced")
    manifest = folder / "manifest.yaml"
    observability = f'{{otlpEndpoint: "{collector.endpoint}", traceSampling: "0"}}'
    text = QUIET.read_text().replace("\nspec:\n", f"\nspec:\n  observability: {observability}\n", 1)
    assert collector.endpoint in text
    manifest.write_text(text)
    stack = Stack(manifest, folder / "state")
    try:
        stack.up()
        yield stack
    finally:
        stack.close()


def spans_of(collector: Collector, trace_id: str, names: set[str]) -> dict[str, dict[str, Any]]:
    """Wait until spans of these names have arrived; return all of the trace."""
    wait_for(
        f"the collector has {', '.join(sorted(names))}",
        lambda: names <= {span["Name"] for span in received(collector.path, trace_id).values()},
        WAIT_SECONDS,
    )
    return received(collector.path, trace_id)


def submit(stack: Stack, headers: dict[str, str], **terms: Any) -> httpx.Response:
    order = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.001", "order_type": "MARKET", **terms}
    return stack.http("oms").post("/orders", json=order, headers=headers)


def test_every_step_of_a_sampled_order_arrives_with_one_trace_id_under_its_cause(
    traced: Stack, collector: Collector
) -> None:
    answer = submit(traced, {"traceparent": f"{CALLER}-01"})
    assert answer.status_code == 200
    traced.wait_status(answer.json()["order_id"], "Filled")
    names = {"POST /orders", "decide", "durable", "venue", "venue fill", "open", "fill", "position", "pnl"}
    spans = spans_of(collector, CALLER[3:35], names)
    by_name = {span["Name"]: span for span in spans.values()}
    assert set(by_name) == names

    def parent(name: str) -> str:
        span = spans.get(by_name[name]["Parent ID"])
        return span["Name"] if span else by_name[name]["Parent ID"]

    assert {name: parent(name) for name in names} == {
        "POST /orders": "1" * 16,
        "decide": "POST /orders",
        "durable": "decide",
        "venue": "decide",
        "venue fill": "decide",
        "open": "venue",
        "fill": "venue fill",
        "position": "fill",
        "pnl": "fill",
    }
    services = {name: span["service"] for name, span in by_name.items()}
    assert services == {
        "POST /orders": "oms",
        "decide": "oms",
        "durable": "oms",
        "venue": "gateway",
        "venue fill": "gateway",
        "open": "oms",
        "fill": "oms",
        "position": "ptrc",
        "pnl": "pnl",
    }
    assert all(int(span["Start time"]) <= int(span["End time"]) for span in spans.values())


def test_a_span_stands_for_an_event_of_the_log(traced: Stack, collector: Collector) -> None:
    """So `trade2026 trace` and a collector's waterfall show the same steps."""
    trace_id = "feed" * 8
    answer = submit(traced, {"traceparent": f"00-{trace_id}-{'2' * 16}-01"})
    order_id = answer.json()["order_id"]
    spans = spans_of(collector, trace_id, {"position", "pnl", "durable"})
    log = traced.cli("trace", order_id, "--json")
    assert log.returncode == 0
    events = {span_id_of(event["event_id"]) for event in json.loads(log.stdout)["events"]}
    assert events
    assert events <= set(spans)
    assert {spans[span_id]["Name"] for span_id in set(spans) - events} == {"POST /orders", "durable"}


def test_a_refused_order_is_kept_although_its_caller_does_not_sample(traced: Stack, collector: Collector) -> None:
    trace_id = "dead" * 8
    answer = submit(
        traced, {"traceparent": f"00-{trace_id}-{'3' * 16}-00"}, order_type="LIMIT", price="45000", quantity="5000"
    )
    assert (answer.status_code, answer.json()["reject_code"]) == (422, "MAX_ORDER_QUANTITY")
    spans = spans_of(collector, trace_id, {"POST /orders", "decide", "durable"})
    decide = next(span for span in spans.values() if span["Name"] == "decide")
    assert decide["Status code"] == "STATUS_CODE_ERROR"
    assert spans[decide["Parent ID"]]["Name"] == "POST /orders"


def test_an_order_that_is_not_sampled_is_in_the_log_only(traced: Stack, collector: Collector) -> None:
    quiet, loud = "aaaa" * 8, "bbbb" * 8
    first = submit(traced, {"traceparent": f"00-{quiet}-{'4' * 16}-00"})
    traced.wait_status(first.json()["order_id"], "Filled")
    submit(traced, {"traceparent": f"00-{loud}-{'5' * 16}-01"})
    spans_of(collector, loud, {"pnl", "position"})
    names = {span["Name"] for span in received(collector.path, quiet).values()}
    # On a machine under strain even this order may be slow, and then it is kept: whole, or not at all.
    assert not names or "decide" in names
    log = traced.cli("trace", first.json()["order_id"], "--json")
    assert quiet in log.stdout


def test_each_order_of_a_batch_is_a_trace_of_its_own(
    traced: Stack, collector: Collector, make_stack: MakeStack
) -> None:
    text = Path(traced.manifest).read_text().replace('traceSampling: "0"', 'traceSampling: "1"')
    stack = make_stack(text=text)
    order = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.001", "order_type": "MARKET"}
    answer = stack.http("oms").post("/orders/batch", json={"orders": [order, order]})
    ids = [result["order_id"] for result in answer.json()["results"]]
    traces = [stack.wait_status(order_id, "Filled")["trace_id"] for order_id in ids]
    assert len(set(traces)) == 2
    for trace_id in traces:
        spans = spans_of(collector, trace_id, {"submit", "decide", "durable", "venue", "fill", "position", "pnl"})
        parents = {span["Name"]: span["Parent ID"] for span in spans.values()}
        assert spans[parents["decide"]]["Name"] == "submit"


def test_a_collector_that_is_gone_harms_no_order(make_stack: MakeStack) -> None:
    endpoint = f"http://127.0.0.1:{_free_port()}"
    observability = f'{{otlpEndpoint: "{endpoint}", traceSampling: "1"}}'
    text = QUIET.read_text().replace("\nspec:\n", f"\nspec:\n  observability: {observability}\n", 1)
    stack = make_stack(text=text)
    ids = [submit(stack, {}).json()["order_id"] for _ in range(20)]
    for order_id in ids:
        stack.wait_status(order_id, "Filled")
    assert stack.health("oms")["status"] == "ok"
