"""HTTP and WebSocket of every service: a thin router for our own routes, Starlette for the rest.

Orders are latency-bound, so our routes are answered by the connection itself where that is possible
(`connections`), and else by plain ASGI: one dictionary look-up, one read of the body, one write of the
answer. Who may come in, what is answered and what is measured is the same. Starlette serves the documents
(`/docs`, `/openapi.json`) and the WebSockets.
"""

import asyncio
import logging
import re
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as StarletteRequest
from starlette.responses import Response as StarletteResponse
from starlette.routing import Route as StarletteRoute
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from trade2026.kit import openapi, problem, tracing
from trade2026.kit.access import Access
from trade2026.kit.bus.port import BusError
from trade2026.kit.forward import HOP, Elsewhere
from trade2026.kit.identity import Keyring, Principal
from trade2026.kit.messages import SPAN, Request, Response, json_response, problem_response
from trade2026.kit.metrics import Counter, LatencyHistogram, Metrics
from trade2026.kit.owner import Overloaded, Unavailable
from trade2026.kit.parameters import Parameters, refuse_unknown
from trade2026.kit.problem import Problem

__all__ = ["App", "Problem", "Request", "Response", "json_response"]

log = logging.getLogger(__name__)

BODY_BYTES_MAX = 64 * 1024
_CLOSED = "after sending 'websocket.close'"
"""How the server says that it has closed a WebSocket by itself."""
_CLOSE_CODES = {401: 4401, 403: 4403, 503: 1013}
_JSON = b"application/json"
_NONE: Parameters = {}
_ONCE = frozenset((b"host", b"origin", b"authorization", b"content-type", b"idempotency-key"))

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

_encode = msgspec.json.encode


Handler = Callable[[Request], Awaitable[Response]]
SocketHandler = Callable[[WebSocket, Principal], Awaitable[None]]
Gate = Callable[[], str]
Forward = Callable[[Request, Elsewhere], Awaitable[Response]]


@dataclass(eq=False)
class Route:
    """A route as it was declared, and what was measured of it."""

    method: str
    path: str
    handler: Handler
    summary: str
    tags: tuple[str, ...]
    request_schema: Any
    response_schema: Any
    produces: tuple[str, ...]
    statuses: tuple[int, ...]
    role: str | None
    body_bytes_max: int
    needs_ready: bool
    inline: bool
    query: Parameters
    latency: LatencyHistogram
    """Of requests of clients."""
    forwarded: LatencyHistogram | None = None
    """Of those that another replica has sent on, which counts them itself: so long they took here."""
    errors: int = 0
    """Of those of clients, answered that the service can't (5xx)."""
    answers: dict[int, Counter] = field(default_factory=dict)


@dataclass(frozen=True)
class SocketRoute:
    """A WebSocket route as it was declared."""

    path: str
    summary: str
    role: str
    query: Parameters


class App:
    """The ASGI application of one service.

    Args:
        name: Of the service; the `service` label of its metrics.
        access: Who may come in; everyone on this machine if none is given.
        now: Nanoseconds since the epoch, for `Request.received_ns`.
        gate: Why the service can't answer now; empty while it can. Asked for routes that need it.
    """

    def __init__(
        self,
        name: str,
        *,
        title: str = "",
        version: str = "",
        access: Access | None = None,
        metrics: Metrics | None = None,
        now: Callable[[], int] = time.time_ns,
        gate: Gate = str,
    ) -> None:
        self.name = name
        self.access = access or Access(Keyring("", "127.0.0.1"))
        self.metrics = metrics or Metrics()
        self.routes: list[Route] = []
        self.sockets: list[SocketRoute] = []
        self.title, self.version = title or name, version or "0"
        self.api = Starlette(
            routes=[StarletteRoute("/openapi.json", self._show_document)],
            exception_handlers={HTTPException: _problem_of_http},
        )
        self.now, self._gate = now, gate
        self.forward: Forward | None = None
        """Answers what a handler finds to be another replica's; for routes that are declared after it is set."""
        self.plain: dict[bytes, dict[bytes, Route]] = {}
        """Routes without parameters, by method and path: what a connection may answer itself."""
        self.heads: dict[bytes, Any] = {}
        """For the connections: what they know of heads that came before."""
        self._exact: dict[tuple[str, str], Route] = {}
        self._patterns: list[tuple[str, re.Pattern[str], Route]] = []
        self._document: dict[str, Any] | None = None

    def route(
        self,
        method: str,
        path: str,
        *,
        summary: str = "",
        tags: Iterable[str] = (),
        request_schema: Any = None,
        response_schema: Any = None,
        produces: tuple[str, ...] = ("application/json",),
        statuses: tuple[int, ...] = (200,),
        role: str | None = "viewer",
        body_bytes_max: int = BODY_BYTES_MAX,
        needs_ready: bool = True,
        inline: bool = False,
        query: Parameters = _NONE,
    ) -> Callable[[Handler], Handler]:
        """Declare `async def handler(request) -> Response`.

        Args:
            path: Parts in braces are parameters: `/orders/{order_id}`. A path without parameters wins.
            produces: Content types that its answers may have.
            statuses: Those that answer with `response_schema`; all others are problem documents.
            role: The least that a principal needs; None for an endpoint that everyone may see.
            body_bytes_max: A longer body gets 413.
            needs_ready: Answer 503 `not_ready` while the service can't answer. What must work at any time
                (probes, a kill switch) does without.
            inline: The handler needs no task of its own: all that it awaits is futures (no `asyncio.timeout`,
                no task group, no lock), and it need not be cancelled when the server stops.
            query: Its parameters, each with what it is. Others get 422 `unknown_parameter`.
        """
        assert path.startswith("/")

        def add(handler: Handler) -> Handler:
            if self.forward is not None:
                handler = _forwarding(handler, self.forward)
            latency = self._latency(method, path)
            route = Route(
                method,
                path,
                handler,
                summary or (handler.__doc__ or "").partition("\n")[0],
                tuple(tags) or (self.name,),
                request_schema,
                response_schema,
                produces,
                statuses,
                role,
                body_bytes_max,
                needs_ready,
                inline,
                query,
                latency,
            )
            assert all((other.method, other.path) != (method, path) for other in self.routes), f"{method} {path} twice"
            self.routes.append(route)
            if "{" in path:
                self._patterns.append((method, _pattern(path), route))
            else:
                self._exact[method, path] = route
                self.plain.setdefault(method.encode(), {})[path.encode()] = route
            return handler

        return add

    def websocket(
        self, path: str, *, summary: str = "", role: str = "viewer", query: Parameters = _NONE
    ) -> Callable[[SocketHandler], SocketHandler]:
        """Declare `async def handler(ws, principal)`: called after `accept`, for who may; closed when it returns.

        Others are refused before the handshake: with a problem document and its status, or, where the
        server can't do that, with close code 4401 or 4403.
        """

        declared = SocketRoute(path, summary, role, query)

        def add(handler: SocketHandler) -> SocketHandler:
            async def endpoint(ws: WebSocket) -> None:
                await self._serve_socket(ws, declared, handler)

            self.sockets.append(declared)
            self.api.router.routes.append(WebSocketRoute(path, endpoint))
            return handler

        return add

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document; made once, when all routes are there."""
        if self._document is None:
            info = {"title": self.title, "version": self.version}
            document: dict[str, Any] = {"openapi": "3.1.0", "info": info}
            self._document = openapi.describe(document, self.routes, self.sockets, keyed=not self.access.open)
        return self._document

    async def _show_document(self, request: StarletteRequest) -> StarletteResponse:
        return StarletteResponse(_encode(self.openapi()), media_type="application/json")

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        if scope["type"] != "http":
            if scope["type"] == "websocket" and all(scope["path"] != socket.path for socket in self.sockets):
                await _refuse(WebSocket(scope, receive, send), _not_found(scope["path"]))
                return
            await self.api(scope, receive, send)
            return
        received_ns = self.now()
        method, path = scope["method"], scope["path"]
        params: Mapping[str, str] = _NO_PARAMS
        route = self._exact.get((method, path))
        if route is None:
            route, params = self._match(method, path, scope.get("raw_path") or b"")
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if route is None:
            await self._serve_other(scope, receive, send, headers)
            return
        try:
            if len(headers) != len(scope["headers"]):
                refuse_repeated(scope["headers"])
            response = await self._answer(route, params, scope, headers, receive, received_ns)
        except _ClientGone:
            return
        except Exception as error:
            response = self.answer_to(error, route, headers)
        await _send(response, send)
        self.measure(route, response.status, headers, received_ns)

    def admit(self, route: Route, headers: dict[bytes, bytes], query: bytes) -> Principal:
        """Return who asks. Raises `Problem` for who may not, for what is unknown, or while there is no answer."""
        principal = self.access.admit(headers, route.role)
        if query:
            refuse_unknown(query, route.query)
        if route.needs_ready and (reason := self._gate()):
            raise _not_ready(reason)
        return principal

    def answer_to(self, error: Exception, route: Route, headers: Mapping[bytes, bytes]) -> Response:
        """What a client is told when its handler raised."""
        if not isinstance(error, Problem):
            span = headers.get(SPAN, b"") or headers.get(b"traceparent", b"")
            error = _problem_of(error, route.method, route.path, span[3:35].decode("latin-1"))
        return problem_response(error)

    async def _answer(
        self,
        route: Route,
        params: Mapping[str, str],
        scope: Any,
        headers: dict[bytes, bytes],
        receive: Receive,
        received_ns: int,
    ) -> Response:
        principal = self.admit(route, headers, scope["query_string"])
        body = b""
        if b"content-length" in headers or b"transfer-encoding" in headers:
            body = await _read(headers, receive, route.body_bytes_max)
        return await route.handler(
            Request(
                scope["method"], scope["path"], params, scope["query_string"], headers, body, principal, received_ns
            )
        )

    def _match(self, method: str, path: str, raw: bytes) -> tuple[Route | None, Mapping[str, str]]:
        if b"%2F" in raw.upper():  # a name with a slash, which would not be told from a path in what is decoded
            route, params = self._match(method, raw.decode("latin-1"), b"")
            return route, {name: unquote(value) for name, value in params.items()}
        for its_method, pattern, route in self._patterns:
            if its_method == method and (match := pattern.fullmatch(path)):
                return route, match.groupdict()
        if method == "HEAD":  # the server leaves the body out
            found = self._exact.get(("GET", path))
            return (found, _NO_PARAMS) if found is not None else self._match("GET", path, raw)
        return None, _NO_PARAMS

    async def _serve_other(self, scope: Any, receive: Receive, send: Send, headers: dict[bytes, bytes]) -> None:
        path = scope["path"]
        allowed = {method for method, known in self._exact if known == path}
        allowed.update(method for method, pattern, _ in self._patterns if pattern.fullmatch(path))
        try:
            refuse_repeated(scope["headers"])
            self.access.admit(headers, None)
            if allowed:
                raise _not_allowed(scope["method"], allowed)
        except Problem as error:
            response = problem_response(error)
            if allowed and error.status == 405:
                response.headers = ((b"allow", ", ".join(sorted(allowed)).encode()),)
            await _send(response, send)
            return
        await self.api(scope, receive, send)

    async def _serve_socket(self, ws: WebSocket, route: SocketRoute, handler: SocketHandler) -> None:
        try:
            refuse_repeated(ws.scope["headers"])
            principal = self.access.admit(dict(ws.scope["headers"]), route.role)
            refuse_unknown(ws.scope["query_string"], route.query)
            if reason := self._gate():
                raise _not_ready(reason)
        except Problem as error:
            await _refuse(ws, error)
            return
        await ws.accept()
        try:
            await handler(ws, principal)
        except WebSocketDisconnect:
            return
        except Exception as error:
            if isinstance(error, RuntimeError) and _CLOSED in str(error):
                return  # the server closed it meanwhile, e.g. because the client answered no ping
            log.exception("WebSocket %s failed", ws.scope["path"])
            await _close(ws, 1011)
        else:
            await _close(ws, 1000)

    def measure(self, route: Route, status: int, headers: dict[bytes, bytes], received_ns: int) -> None:
        """Count an answer that was written just now, and export its span."""
        ended_ns = self.now()
        own = headers.get(SPAN)
        trace_id = own[3:35].decode() if own is not None else None
        if tracing.is_on():
            self._export_span(route, status, headers, (received_ns, ended_ns))
        if HOP in headers:
            self._of_forwarded(route).observe_ns(ended_ns - received_ns, trace_id)
        else:
            route.latency.observe_ns(ended_ns - received_ns, trace_id)
            route.errors += status >= 500
        counter = route.answers.get(status)
        if counter is None:
            counter = route.answers[status] = self.metrics.counter(
                "trade2026_http_requests_total",
                "Requests answered",
                service=self.name,
                method=route.method,
                route=route.path,
                status=str(status),
            )
        counter.value += 1

    def _latency(self, method: str, path: str, **labels: str) -> LatencyHistogram:
        labels = {"service": self.name, "method": method, "route": path, **labels}
        return self.metrics.histogram("trade2026_http_request_seconds", "From head to answer", **labels)

    def _of_forwarded(self, route: Route) -> LatencyHistogram:
        if route.forwarded is None:
            route.forwarded = self._latency(route.method, route.path, forwarded="true")
        return route.forwarded

    def _export_span(self, route: Route, status: int, headers: dict[bytes, bytes], times: tuple[int, int]) -> None:
        """Export the span of a request that has a trace: its caller's, or its order's."""
        given = headers.get(b"traceparent", b"").decode("latin-1")
        parent = given if tracing.parse_traceparent(given) else ""
        attributes = {"http.request.method": route.method, "http.route": route.path}
        attributes |= {"http.response.status_code": status}
        own = headers.get(SPAN, b"").decode()
        name, error, keep = f"{route.method} {route.path}", status >= 500, status >= 400
        tracing.span(name, parent, *times, attributes, error, own=own, service=self.name, keep=keep)


_NO_PARAMS: Mapping[str, str] = {}


def _forwarding(handler: Handler, forward: Forward) -> Handler:
    async def forwarding(request: Request) -> Response:
        try:
            return await handler(request)
        except Elsewhere as elsewhere:
            return await asyncio.ensure_future(forward(request, elsewhere))

    return forwarding


class _ClientGone(Exception):
    """Nobody waits for the answer any more."""


def refuse_repeated(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Refuse a request that says twice who it is for or from: readers disagree about which one counts."""
    seen: set[bytes] = set()
    for name, _ in headers:
        if name in seen and name in _ONCE:
            raise Problem(400, "repeated_header", f"the header {name.decode()} is there twice; send it once")
        seen.add(name)


_DISCARDED_BYTES_MAX = 8 * 1024 * 1024
"""A body that is refused is read to here: a connection closed on a client that still sends loses the answer."""


async def _read(headers: dict[bytes, bytes], receive: Receive, bytes_max: int) -> bytes:
    declared = headers.get(b"content-length")
    if declared is not None and int(declared) > bytes_max:
        if int(declared) <= _DISCARDED_BYTES_MAX:
            while (await receive()).get("more_body"):
                pass
        raise _too_long(bytes_max)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise _ClientGone
    if not message.get("more_body"):
        body = message["body"]
        if len(body) > bytes_max:
            raise _too_long(bytes_max)
        return body
    parts, size = [message["body"]], len(message["body"])
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientGone
        parts.append(message["body"])
        size += len(message["body"])
        if size > bytes_max:
            raise _too_long(bytes_max)
    return b"".join(parts)


async def _send(response: Response, send: Send) -> None:
    body = response.body
    content_type = response.content_type
    await send(
        {
            "type": "http.response.start",
            "status": response.status,
            "headers": [
                (b"content-type", _JSON if content_type == "application/json" else content_type.encode()),
                (b"content-length", b"%d" % len(body)),
                *response.headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def _refuse(ws: WebSocket, error: Problem) -> None:
    if "websocket.http.response" in ws.scope.get("extensions", {}):
        answer = problem_response(error)
        headers = {name.decode(): value.decode() for name, value in answer.headers}
        await ws.send_denial_response(StarletteResponse(answer.body, answer.status, headers, answer.content_type))
    else:
        await ws.close(_CLOSE_CODES.get(error.status, 1008), error.code)


async def _close(ws: WebSocket, code: int) -> None:
    if ws.client_state is WebSocketState.CONNECTED and ws.application_state is WebSocketState.CONNECTED:
        await ws.close(code)


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", path)
    return re.compile("".join(f"(?P<{part}>[^/]+)" if n % 2 else re.escape(part) for n, part in enumerate(parts)))


def _too_long(bytes_max: int) -> Problem:
    return Problem(413, "body_too_long", f"a body has at most {bytes_max} bytes here", bytes_max=bytes_max)


def _not_ready(reason: str) -> Problem:
    return Problem(503, "not_ready", reason, retry_after=1)


def _not_found(path: str) -> Problem:
    return Problem(404, "not_found", f"there is nothing at {path[:200]}; /docs shows what there is")


def _not_allowed(method: str, allowed: Iterable[str]) -> Problem:
    return Problem(405, "method_not_allowed", f"not {method} but {', '.join(sorted(allowed))}")


def _problem_of(error: Exception, method: str, path: str, trace_id: str) -> Problem:
    """What a client is told of an error that no handler expected."""
    if isinstance(error, Overloaded):
        return Problem(429, "overloaded", str(error), retry_after=1)
    if isinstance(error, Unavailable | BusError | sqlite3.Error):
        log.warning("%s %s: %s", method, path, error, extra={"trace_id": trace_id})
        return Problem(503, "unavailable", str(error), retry_after=1)
    log.error("%s %s failed", method, path, exc_info=error, extra={"trace_id": trace_id})
    return Problem(500, "internal_error", "this is our mistake, not yours; the service's log has the details")


async def _problem_of_http(request: StarletteRequest, error: Exception) -> StarletteResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        answer = _not_found(request.url.path)
    elif error.status_code == 405:
        answer = _not_allowed(request.method, (error.headers or {}).get("Allow", "GET").split(", "))
    else:
        answer = Problem(error.status_code, "bad_request", str(error.detail))
    return StarletteResponse(_encode(answer.body()), answer.status, dict(error.headers or {}), problem.CONTENT_TYPE)
