"""KEDA's external scaler as a client of another make hears it: gRPC's own, with stubs that its compiler makes here."""

import asyncio
import importlib.util
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import pytest
from grpc_tools import protoc

from trade2026_operator.helm.releases import REPLICAS_METRIC
from trade2026_operator.slo import externalscaler_pb2 as ours
from trade2026_operator.slo.board import Answer, Board, Target
from trade2026_operator.slo.certificates import renewed
from trade2026_operator.slo.external_scaler import ExternalScaler
from trade2026_operator.slo.metrics_server import MetricsServer
from trade2026_operator.slo.serving import AUTHENTICATION, Serving

PROTO = Path(ours.__file__).with_name("externalscaler.proto")
DESK = {"stack": "desk", "release": "oms"}
KEDAS = {
    "ScaledObjectRef": {"name": 1, "namespace": 2, "scalerMetadata": 3},
    "IsActiveResponse": {"result": 1},
    "GetMetricSpecResponse": {"metricSpecs": 1},
    "MetricSpec": {"metricName": 1, "targetSize": 2, "targetSizeFloat": 3},
    "GetMetricsRequest": {"scaledObjectRef": 1, "metricName": 2},
    "GetMetricsResponse": {"metricValues": 1},
    "MetricValue": {"metricName": 1, "metricValue": 2, "metricValueFloat": 3},
}
"""Numbers of the fields, as KEDA 2.21 has them."""


class Asked:
    """A server, and what KEDA has."""

    def __init__(self, stubs: ModuleType, channel: grpc.aio.Channel, server: MetricsServer) -> None:
        self.messages, self.stub, self._server = ours, stubs.ExternalScalerStub(channel), server

    def says(self, replicas: float | None, why: str = "", age: float = 0.0) -> None:
        board = Board()
        board.put(Target("trading", **DESK), Answer(replicas, why, 100.0 - age))
        self._server.heard(board)

    def ref(self, namespace: str = "trading", **metadata: str) -> Any:
        return ours.ScaledObjectRef(name="desk-oms", namespace=namespace, scalerMetadata=metadata or DESK)

    async def metrics(self, ref: Any = None, metric: str = REPLICAS_METRIC) -> Any:
        ref = ref if ref is not None else self.ref()
        return await self.stub.GetMetrics(ours.GetMetricsRequest(scaledObjectRef=ref, metricName=metric))


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    folder = tmp_path_factory.mktemp("stubs")
    words = ["protoc", f"-I{PROTO.parent}", f"--python_out={folder}", f"--grpc_python_out={folder}", PROTO.name]
    assert protoc.main(words) == 0
    sys.modules["externalscaler_pb2"] = ours
    spec = importlib.util.spec_from_file_location("externalscaler_pb2_grpc", folder / "externalscaler_pb2_grpc.py")
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@asynccontextmanager
async def listening(stubs: ModuleType, tls: Any, port: int, channel: Callable[[str], Any]) -> AsyncIterator[Asked]:
    server = MetricsServer(REPLICAS_METRIC, time=lambda: 100.0)
    scaler = ExternalScaler(server.asked, pause_seconds=0.01)
    await scaler.listen(port, tls, "127.0.0.1")
    try:
        async with channel(f"127.0.0.1:{port}") as opened:
            yield Asked(stubs, opened, server)
    finally:
        await scaler.close()


@pytest.fixture
async def asked(stubs: ModuleType, unused_tcp_port: int) -> AsyncIterator[Asked]:
    async with listening(stubs, None, unused_tcp_port, grpc.aio.insecure_channel) as found:
        yield found


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


def test_what_is_checked_in_is_what_the_compiler_makes_and_its_fields_are_keda_s(tmp_path: Path) -> None:
    words = ["protoc", f"-I{PROTO.parent}", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", PROTO.name]
    assert protoc.main(words) == 0
    for made in tmp_path.iterdir():
        assert made.read_text() == (PROTO.parent / made.name).read_text(), f"run `make proto`: {made.name} is another"
    fields = {
        name: {field.name: field.number for field in message.fields}
        for name, message in ours.DESCRIPTOR.message_types_by_name.items()
    }
    assert fields == KEDAS


async def test_a_number_is_told_as_it_is_beside_a_target_of_one(asked: Asked) -> None:
    asked.says(2.4)
    (value,) = (await asked.metrics()).metricValues
    assert (value.metricName, value.metricValueFloat, value.metricValue) == (REPLICAS_METRIC, 2.4, 3)
    (spec,) = (await asked.stub.GetMetricSpec(asked.ref())).metricSpecs
    assert (spec.metricName, spec.targetSizeFloat, spec.targetSize) == (REPLICAS_METRIC, 1.0, 1)
    assert (await asked.stub.IsActive(asked.ref())).result


async def test_what_needs_nobody_is_told_as_0_and_stays_active(asked: Asked) -> None:
    asked.says(0.0)
    (value,) = (await asked.metrics()).metricValues
    assert (value.metricValueFloat, value.metricValue) == (0.0, 0)
    assert (await asked.stub.IsActive(asked.ref())).result, "else KEDA may scale it to none"


@pytest.mark.parametrize(("replicas", "age", "why"), [(None, 0.0, "oms: nobody has looked"), (2.4, 31.0, "31 s old")])
async def test_what_is_not_known_is_an_error_with_its_reason_and_never_0(
    asked: Asked, replicas: float | None, age: float, why: str
) -> None:
    asked.says(replicas, "nobody has looked", age)
    for call in (asked.metrics(), asked.stub.IsActive(asked.ref())):
        code, told = await refused(call)
        assert code is grpc.StatusCode.UNAVAILABLE and why in told
    assert (await asked.stub.GetMetricSpec(asked.ref())).metricSpecs, "the autoscaler stands all the same"


async def test_a_namespace_is_told_of_its_own_stacks_alone(asked: Asked) -> None:
    asked.says(2.4)
    code, told = await refused(asked.metrics(asked.ref("elsewhere")))
    assert (code, told) == (grpc.StatusCode.UNAVAILABLE, "no release oms of desk is measured in elsewhere")


async def test_a_trigger_that_names_nothing_is_told_what_it_lacks(asked: Asked) -> None:
    asked.says(2.4)
    for call in (
        asked.metrics(asked.ref(stack="desk")),
        asked.stub.GetMetricSpec(asked.ref(stack="desk", release="")),
        asked.stub.StreamIsActive(asked.ref(stack="desk")).read(),
    ):
        code, told = await refused(call)
        assert (code, told) == (grpc.StatusCode.INVALID_ARGUMENT, "the trigger's metadata has no release")
    assert (await refused(asked.metrics(metric="lag")))[0] is grpc.StatusCode.NOT_FOUND


async def test_a_stream_says_active_once_it_is_known_and_again_when_it_was_not(asked: Asked) -> None:
    stream = asked.stub.StreamIsActive(asked.ref())
    for _ in range(2):
        asked.says(None)
        waiting = asyncio.ensure_future(stream.read())
        done, _ = await asyncio.wait([waiting], timeout=0.1)
        assert not done
        asked.says(1.0)
        assert (await asyncio.wait_for(waiting, 10)).result
    stream.cancel()


class _Named:
    """An API server that says whom it believes."""

    def __init__(self, authority: str) -> None:
        self._authority = authority

    async def get(self, ref: object) -> dict[str, Any]:
        assert ref == AUTHENTICATION
        return {"data": {"requestheader-client-ca-file": self._authority}}


async def test_it_is_known_by_its_certificate_and_asks_for_none(
    stubs: ModuleType, tmp_path: Path, unused_tcp_port: int
) -> None:
    name = "trade2026-operator-metrics.ops.svc"
    made = renewed(None, (name,), datetime.now(UTC))
    (tmp_path / "tls.crt").write_text(made.certificate)
    (tmp_path / "tls.key").write_text(made.key)
    serving = Serving(_Named(made.authorities), tmp_path)  # type: ignore[arg-type]
    await serving.load()

    def believing(authorities: str) -> Callable[[str], Any]:
        credentials = grpc.ssl_channel_credentials(authorities.encode())
        return lambda at: grpc.aio.secure_channel(at, credentials, [("grpc.ssl_target_name_override", name)])

    async with listening(stubs, serving.scaler_context, unused_tcp_port, believing(made.authorities)) as asked:
        asked.says(2.4)
        assert (await asked.metrics()).metricValues[0].metricValueFloat == 2.4
        other = renewed(None, (name,), datetime.now(UTC))
        async with believing(other.authorities)(f"127.0.0.1:{unused_tcp_port}") as doubting:
            code, _ = await refused(stubs.ExternalScalerStub(doubting).IsActive(asked.ref(), timeout=10))
            assert code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
