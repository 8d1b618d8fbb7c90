"""KEDA's external scaler: where KEDA serves external metrics, it asks for the number here, by gRPC.

What is not known is an error, and never 0 or "inactive": KEDA's autoscaler holds then, or does what the ScaledObject's
`fallback` says. For the same reason nothing is ever said to be inactive: KEDA may scale that to none, and of a service
without a replica nobody could measure when it is needed again.
"""

import asyncio
import contextlib
import math
import ssl
from collections.abc import Callable
from typing import Any

from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Server, Stream

from trade2026_operator.helm.releases import REPLICAS_METRIC
from trade2026_operator.slo import externalscaler_pb2 as messages
from trade2026_operator.slo.board import NotKnown, Target

SERVICE = "externalscaler.ExternalScaler"
LOOK_SECONDS = 5.0
"""Between two looks for a stream: the leader measures no more often."""
_CLOSE_SECONDS_MAX = 2.0


class ExternalScaler:
    """One gRPC service.

    Args:
        asked: How many replicas a release needs; raises `NotKnown`.
        pause_seconds: Between two looks for a stream.
    """

    def __init__(self, asked: Callable[[Target], float], pause_seconds: float = LOOK_SECONDS) -> None:
        self._asked, self._pause_seconds = asked, pause_seconds
        self._server: Server | None = None

    async def listen(self, port: int, tls: ssl.SSLContext | None, host: str | None = None) -> None:
        """Answer until `close`."""
        self._server = Server([self])
        await self._server.start(host, port, ssl=tls)

    async def close(self) -> None:
        """Idempotent."""
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(TimeoutError):  # a client that holds on is left alone
                await asyncio.wait_for(self._server.wait_closed(), _CLOSE_SECONDS_MAX)
            self._server = None

    def __mapping__(self) -> dict[str, Handler]:
        """What grpclib asks of a service."""
        ref, one, many = messages.ScaledObjectRef, Cardinality.UNARY_UNARY, Cardinality.UNARY_STREAM
        return {
            f"/{SERVICE}/IsActive": Handler(self._is_active, one, ref, messages.IsActiveResponse),
            f"/{SERVICE}/StreamIsActive": Handler(self._stream, many, ref, messages.IsActiveResponse),
            f"/{SERVICE}/GetMetricSpec": Handler(self._spec, one, ref, messages.GetMetricSpecResponse),
            f"/{SERVICE}/GetMetrics": Handler(
                self._metrics, one, messages.GetMetricsRequest, messages.GetMetricsResponse
            ),
        }

    async def _is_active(self, stream: Stream[Any, Any]) -> None:
        self._replicas(await _request(stream))
        await stream.send_message(messages.IsActiveResponse(result=True))

    async def _stream(self, stream: Stream[Any, Any]) -> None:
        """Says so each time that the number is known again, until the client goes."""
        target, known = _target(await _request(stream)), False
        while True:
            before, known = known, self._is_known(target)
            if known and not before:
                await stream.send_message(messages.IsActiveResponse(result=True))
            await asyncio.sleep(self._pause_seconds)

    async def _spec(self, stream: Stream[Any, Any]) -> None:
        """Always the same: without it KEDA could make no autoscaler, which is to stand while a number is not known."""
        _target(await _request(stream))
        spec = messages.MetricSpec(metricName=REPLICAS_METRIC, targetSize=1, targetSizeFloat=1.0)
        await stream.send_message(messages.GetMetricSpecResponse(metricSpecs=[spec]))

    async def _metrics(self, stream: Stream[Any, Any]) -> None:
        request = await _request(stream)
        if request.metricName != REPLICAS_METRIC:
            raise GRPCError(Status.NOT_FOUND, f"there is no metric {request.metricName}; there is {REPLICAS_METRIC}")
        replicas = self._replicas(request.scaledObjectRef)
        value = messages.MetricValue(
            metricName=REPLICAS_METRIC, metricValue=math.ceil(replicas), metricValueFloat=replicas
        )
        await stream.send_message(messages.GetMetricsResponse(metricValues=[value]))

    def _replicas(self, ref: messages.ScaledObjectRef) -> float:
        try:
            return self._asked(_target(ref))
        except NotKnown as error:
            raise GRPCError(Status.UNAVAILABLE, str(error)) from error

    def _is_known(self, target: Target) -> bool:
        try:
            self._asked(target)
        except NotKnown:
            return False
        return True


async def _request(stream: Stream[Any, Any]) -> Any:
    request = await stream.recv_message()
    if request is None:
        raise GRPCError(Status.INVALID_ARGUMENT, "the request is empty")
    return request


def _target(ref: messages.ScaledObjectRef) -> Target:
    """Whom a ScaledObject scales: a release of a stack of its own namespace."""
    lacking = [name for name in ("stack", "release") if not ref.scalerMetadata.get(name)]
    if lacking:
        raise GRPCError(Status.INVALID_ARGUMENT, f"the trigger's metadata has no {' and no '.join(lacking)}")
    return Target(ref.namespace, ref.scalerMetadata["stack"], ref.scalerMetadata["release"])
