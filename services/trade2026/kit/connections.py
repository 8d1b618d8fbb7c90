"""A connection that answers plain requests itself, without the ceremony of ASGI.

Most requests are small, complete and for a route whose path is a constant: `POST /orders`, `POST /check`,
the probes. For those the connection parses the head, looks the route up, runs the handler and writes head
and body in one piece: no scope, no `receive`, no `send`, and for `inline` routes no task. Every other request
(parameters in the path, a long or chunked body, Expect, HEAD, an upgrade, one that was pipelined behind an
unfinished one) is left to uvicorn and ASGI, where `App.__call__` finds the same routes, identity and metrics.

What this trades away: it leans, as `bounded` does, on the inside of uvicorn's httptools protocol, whose version is locked; the
contract tests run every case over both ways.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from trade2026.kit.bounded import BoundedHttp
from trade2026.kit.http import BODY_BYTES_MAX, App, Route
from trade2026.kit.messages import Request, Response, problem_response
from trade2026.kit.problem import Problem

_NO_PARAMS: dict[str, str] = {}
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_LENGTH_DIGITS_MAX = 5
_HEADS_MAX = 256
_HEAD_BYTES_MAX = 1024
_UNIQUE = (b"traceparent", b"idempotency-key")
"""Headers that hardly ever come a second time."""


@dataclass(frozen=True, slots=True)
class _Head:
    """What the parser made of a request's head."""

    route: Route
    headers: dict[bytes, bytes]
    query: bytes
    body_bytes: int
    keep_alive: bool


class HttpConnection(BoundedHttp):
    """One client's connection to an `App`.

    A client sends the same head again and again. What the parser made of one is kept, and a whole request
    that begins with the same bytes is not parsed again.
    """

    app: App  # type: ignore[assignment]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        assert isinstance(self.app, App)
        self._idle_since: float | None = None
        """Loop time since when nothing is under way; None while something is."""
        self._default_headers: list[tuple[bytes, bytes]] | None = None
        self._head = b""
        self._between = True
        """The last request has arrived to its end, the next one has not begun."""

    # ── parsing ─────────────────────────────────────────────────────────────────────────────

    def data_received(self, data: bytes) -> None:
        if not self._between:
            super().data_received(data)
            return
        before = self.cycle
        end = data.find(b"\r\n\r\n") + 4
        head = self.app.heads.get(data[:end])
        if head is not None and len(data) == end + head.body_bytes and self._is_free() and self._arriving is None:
            self._idle_since, self._before = None, before
            self.cycle = exchange = Exchange(self, head)  # type: ignore[assignment]
            exchange.add(data[end:])
            exchange.begin()
            return
        super().data_received(data)
        exchange = self.cycle
        if type(exchange) is Exchange and exchange is not before and len(data) == end + exchange.head.body_bytes:
            self._keep_head(data[:end], exchange.head)

    def on_message_begin(self) -> None:
        self._between = False
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._spoken = self._in_head = True

    def on_headers_complete(self) -> None:
        head = self._plain_head()
        if head is not None:
            self._before, self._head_bytes, self._in_head = self.cycle, 0, False
            self.cycle = Exchange(self, head)  # type: ignore[assignment]
            return
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()  # makes the scope, and forgets the head that came already
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        exchange = self.cycle
        if type(exchange) is Exchange:
            exchange.add(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._between = True
        exchange = self.cycle
        if type(exchange) is Exchange:
            exchange.begin()
        else:
            super().on_message_complete()

    def _is_free(self) -> bool:
        """Nothing is under way, and the client reads what it was sent."""
        last = self.cycle
        return (last is None or last.response_complete) and not (self.flow.write_paused or self._refused)

    def _plain_head(self) -> _Head | None:
        """The head that is complete now; None if its request has to go the ASGI way."""
        parser: Any = self.parser  # httptools has no types
        routes = self.app.plain.get(parser.get_method())
        if routes is None or self.expect_100_continue or parser.should_upgrade() or not self._is_free():
            return None
        path, _, query = self.url.partition(b"?")
        route = routes.get(path)
        headers = dict(self.headers)
        if route is None or b"#" in query or b"transfer-encoding" in headers or len(headers) != len(self.headers):
            return None
        length = headers.get(b"content-length", b"0")
        if len(length) > _LENGTH_DIGITS_MAX or int(length) > min(route.body_bytes_max, BODY_BYTES_MAX):
            return None
        keep_alive = parser.should_keep_alive() and parser.get_http_version() != "1.0"
        return _Head(route, headers, query, int(length), keep_alive)

    def _keep_head(self, text: bytes, head: _Head) -> None:
        if len(text) > _HEAD_BYTES_MAX or any(name in head.headers for name in _UNIQUE):
            return
        if text.count(b"\r\n") != len(head.headers) + 2:
            return  # the parser is more generous than our search for the end of the head
        heads = self.app.heads
        if len(heads) >= _HEADS_MAX:
            heads.clear()
        heads[text] = head

    # ── answering ───────────────────────────────────────────────────────────────────────────

    def encode(self, response: Response, *, keep_alive: bool) -> bytes:
        """Return head and body as they go over the wire."""
        defaults = self.server_state.default_headers
        if defaults is not self._default_headers:  # a new list every second, with the date
            self._default_headers = defaults
            self._head = b"".join([b"%b: %b\r\n" % header for header in defaults])
        body = response.body
        more = b"" if keep_alive else b"connection: close\r\n"
        for name, value in response.headers:
            more += b"%b: %b\r\n" % (name, value)
        return b"%b%bcontent-type: %b\r\ncontent-length: %d\r\n%b\r\n%b" % (
            _STATUS_LINES[response.status],
            self._head,
            response.content_type.encode(),
            len(body),
            more,
            body,
        )

    def on_response_complete(self) -> None:
        """Go on with what was pipelined, or begin to be idle; for both ways."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
            return
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._arm(self.timeout_keep_alive)

    # ── keep-alive: one timer for a connection's life, not one a request ────────────────────

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = None

    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        if self._idle_since is None:
            return
        rest = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if rest > 0:
            self._arm(rest)
        elif not self.transport.is_closing():
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None

    def _arm(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)


class _NobodyWaits:
    """In place of the event by which uvicorn tells a waiting `receive` of news."""

    def set(self) -> None: ...


class Exchange:
    """One plain request and its answer.

    The connection keeps it where uvicorn keeps its own cycles and asks it the same questions:
    `response_complete`, `keep_alive`, `disconnected`, `more_body`.
    """

    __slots__ = (
        "_body",
        "_connection",
        "_coroutine",
        "_headers",
        "_received_ns",
        "disconnected",
        "head",
        "keep_alive",
        "more_body",
        "response_complete",
    )

    message_event = _NobodyWaits()
    response_started = False
    """Head and body leave together."""

    def __init__(self, connection: HttpConnection, head: _Head) -> None:
        self._connection, self.head = connection, head
        self._received_ns = connection.app.now()
        self._headers = head.headers.copy()
        self._body: bytes | bytearray = b""
        self._coroutine: Coroutine[Any, Any, Response] | None = None
        self.keep_alive = head.keep_alive
        self.response_complete = self.disconnected = False
        self.more_body = True

    def add(self, body: bytes) -> None:
        """Take a part of the body."""
        if not self._body:
            self._body = body
            return
        if type(self._body) is not bytearray:
            self._body = bytearray(self._body)
        self._body += body

    def begin(self) -> None:
        """The request is complete: run its handler."""
        connection, route, headers = self._connection, self.head.route, self._headers
        self.more_body = False
        try:
            request = Request(
                route.method,
                route.path,
                _NO_PARAMS,
                self.head.query,
                headers,
                bytes(self._body),
                connection.app.admit(route, headers, self.head.query),
                self._received_ns,
            )
            self._coroutine = route.handler(request)  # type: ignore[assignment]
        except Exception as error:
            self._answer(connection.app.answer_to(error, route, headers))
            return
        if route.inline:
            self._step()
            return
        task = connection.loop.create_task(self._run())
        connection.tasks.add(task)
        task.add_done_callback(connection.tasks.discard)

    async def _run(self) -> None:
        assert self._coroutine is not None
        try:
            response = await self._coroutine
        except asyncio.CancelledError as error:
            self._give_up(error)
            raise
        except Exception as error:
            response = self._connection.app.answer_to(error, self.head.route, self._headers)
        self._answer(response)

    def _step(self, _: Any = None) -> None:
        """Run the handler to its next `await`, or to its end."""
        assert self._coroutine is not None
        try:
            awaited = self._coroutine.send(None)
        except StopIteration as done:
            self._answer(done.value)
        except asyncio.CancelledError as error:
            self._give_up(error)
        except Exception as error:
            self._answer(self._connection.app.answer_to(error, self.head.route, self._headers))
        else:
            if not getattr(awaited, "_asyncio_future_blocking", False):
                self._coroutine.close()
                error = RuntimeError(f"an inline handler awaits futures only, not {awaited!r}")
                self._answer(self._connection.app.answer_to(error, self.head.route, self._headers))
                return
            # What a task does: the future says that it is awaited, and calls when it is done.
            awaited._asyncio_future_blocking = False
            awaited.add_done_callback(self._step)

    def _give_up(self, error: BaseException) -> None:
        gone = Problem(503, "stopping", f"the service stopped before it could answer: {error}", retry_after=1)
        self.keep_alive = False
        self._answer(problem_response(gone))

    def _answer(self, response: Response) -> None:
        connection = self._connection
        transport = connection.transport
        if not (self.disconnected or transport.is_closing()):
            transport.write(connection.encode(response, keep_alive=self.keep_alive))
        self.response_complete = True
        self._coroutine = None
        if not self.keep_alive:
            transport.close()
        connection.app.measure(self.head.route, response.status, self._headers, self._received_ns)
        connection.on_response_complete()
