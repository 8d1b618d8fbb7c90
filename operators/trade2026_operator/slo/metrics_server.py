"""The metrics server: answers HPAs from memory with what the leader said last, and keeps nothing.

Only the API server may ask, which shows its certificate; whom it asks for was let in by it and by RBAC before. Probes have
a port of their own, without TLS.
"""

import ssl
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from trade2026_operator.slo import external_metrics as documents
from trade2026_operator.slo.board import Board, NotKnown, Target

METRIC_LABELS = ("stack", "release")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class MetricsServer:
    """Serves one metric.

    Args:
        metric: Its name.
        allowed_names: Of the API server's certificate; empty: any that its authority has signed.
    """

    def __init__(
        self,
        metric: str,
        allowed_names: Callable[[], tuple[str, ...]] = tuple,
        time: Callable[[], float] = time.monotonic,
    ) -> None:
        self.board = Board()
        self._metric, self._allowed_names, self._time = metric, allowed_names, time
        self._runners: list[web.AppRunner] = []

    def heard(self, board: Board) -> None:
        """What the leader says now."""
        self.board = board

    def asked(self, target: Target) -> float:
        """How many replicas a release needs now.

        Raises:
            NotKnown: nobody knows, or not lately enough.
        """
        return self.board.asked(target, self._time())

    def app(self) -> web.Application:
        """Discovery, and the values."""
        made = web.Application(middlewares=[self._only_the_api_server])
        made.add_routes(
            [
                web.get("/apis", _fixed(documents.groups())),
                web.get(f"/apis/{documents.GROUP}", _fixed(documents.group())),
                web.get(documents.ROOT, _fixed(documents.resources(self._metric))),
                web.get(documents.ROOT + "/namespaces/{namespace}/{metric}", self._value),
            ]
        )
        return made

    async def listen(self, port: int, tls: ssl.SSLContext | None, probes_port: int) -> None:
        """Answer until `close`."""
        probes = web.Application()
        probes.add_routes([web.get("/livez", _well), web.get("/readyz", _well)])
        for app, at, context in ((self.app(), port, tls), (probes, probes_port, None)):
            if at:
                runner = web.AppRunner(app, access_log=None)
                await runner.setup()
                await web.TCPSite(runner, port=at, ssl_context=context).start()
                self._runners.append(runner)

    async def close(self) -> None:
        """Idempotent."""
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()

    async def _value(self, request: web.Request) -> web.Response:
        metric, namespace = request.match_info["metric"], request.match_info["namespace"]
        if metric != self._metric:
            return _failure(404, "NotFound", f"there is no metric {metric}; there is {self._metric}")
        try:
            labels = documents.equals(request.query.get("labelSelector", ""))
            target = Target(namespace, *(labels[name] for name in METRIC_LABELS))
        except KeyError as error:
            return _failure(400, "BadRequest", f"the selector names no {error.args[0]}")
        except ValueError as error:
            return _failure(400, "BadRequest", str(error))
        try:
            value = self.asked(target)
        except NotKnown as error:
            return _failure(503, "ServiceUnavailable", str(error))
        return web.json_response(documents.value_list(metric, labels, value, datetime.now(UTC)))

    @web.middleware
    async def _only_the_api_server(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        names = self._allowed_names()
        if names and _client_name(request) not in names:
            return _failure(403, "Forbidden", "only the API server may ask")
        return await handler(request)


def _client_name(request: web.Request) -> str:
    """Common name of the certificate that the client has shown; empty without one."""
    told = request.transport.get_extra_info("peercert") if request.transport is not None else None
    pairs = [pair for part in (told or {}).get("subject", ()) for pair in part]
    return next((value for name, value in pairs if name == "commonName"), "")


async def _well(request: web.Request) -> web.Response:
    return web.Response(text="ok")


def _fixed(document: dict[str, Any]) -> Handler:
    """Answers always the same."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response(document)

    return answer


def _failure(status: int, reason: str, message: str) -> web.Response:
    return web.json_response(documents.failure(status, reason, message), status=status)
