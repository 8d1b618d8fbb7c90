"""Connections that a stranger can't hold for ever or fill without end; what is no HTTP gets a problem document.

uvicorn bounds neither the size of a request's head nor the time that a request may take to arrive, and
answers what it can't parse in plain text, even in front of the answer to a request that came before.
"""

import asyncio
import contextlib
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from trade2026.kit.problem import CONTENT_TYPE, Problem

HEAD_BYTES_MAX = 32 * 1024
"""Of the request line and headers, unless they arrive in one piece."""
ARRIVAL_SECONDS_MAX = 30.0
"""For a whole request, head and body, and for the first byte on a new connection."""
_LINGER_SECONDS = 1.0
"""A refused client may still be sending: a connection that is closed at once would lose the answer."""

_REASONS = {400: b"Bad Request", 408: b"Request Timeout", 431: b"Request Header Fields Too Large"}


class BoundedHttp(HttpToolsProtocol):
    """HTTP/1.1 with a largest head and a longest time of arrival."""

    arrival_seconds_max = ARRIVAL_SECONDS_MAX
    _arriving: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _refused = False
    _spoken = False
    """It has begun a request."""
    _in_head = False
    """The head of a request has begun and is not complete."""
    _before: Any = None
    """The request before the newest one."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._arriving = self.loop.call_later(self.arrival_seconds_max, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._has_arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        super().data_received(data)
        if self._in_head and not self._refused:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self._refuse(_HEAD_TOO_LONG)
                return
        elif self._head_bytes:
            self._head_bytes = 0
        if (self._in_head and not self._refused) or _is_arriving(self.cycle):
            if self._arriving is None:
                self._arriving = self.loop.call_later(self.arrival_seconds_max, self._too_slow)
        elif self._arriving is not None:
            self._has_arrived()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._spoken = self._in_head = True

    def on_headers_complete(self) -> None:
        before = self.cycle
        super().on_headers_complete()
        self._before, self._head_bytes, self._in_head = before, 0, False

    def handle_websocket_upgrade(self) -> None:
        self._has_arrived()
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        self._refuse(_MALFORMED)

    def _has_arrived(self) -> None:
        if self._arriving is not None:
            self._arriving.cancel()
            self._arriving = None

    def _too_slow(self) -> None:
        self._arriving = None
        if not self._spoken:
            self.transport.close()  # it never said a word
        else:
            self._refuse(_TOO_SLOW)

    def _refuse(self, problem: Problem) -> None:
        """Answer and close; but requests that had arrived before are answered, and nothing is said behind them."""
        self._refused = True
        self._has_arrived()
        last = self.cycle
        if _is_arriving(last):  # the broken one: nobody may act on it
            last.disconnected = True
            last.message_event.set()
            if self.pipeline and self.pipeline[0][0] is last:
                self.pipeline.popleft()
            if last.response_started:
                self.transport.close()
                return
            last = self._before
        if last is not None and not last.response_complete:
            last.keep_alive = False  # its answer closes the connection
        elif not self.transport.is_closing():
            self.transport.write(_answer(problem))
            with contextlib.suppress(OSError, RuntimeError):
                self.transport.write_eof()
            self.loop.call_later(_LINGER_SECONDS, self.transport.close)


def _is_arriving(cycle: Any) -> bool:
    """Whether the body of a request is not there yet, and somebody waits for it."""
    return cycle is not None and cycle.more_body and not cycle.response_complete


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket that reads on only while the client takes what is sent to it: else pings fill memory with pongs."""

    _full = False

    def pause_writing(self) -> None:
        super().pause_writing()
        self._full = True
        if not self.read_paused:
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._full = False
        if not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()


_MALFORMED = Problem(400, "malformed_request", "this is no HTTP/1.1 request; check its line, headers and lengths")
_HEAD_TOO_LONG = Problem(431, "head_too_long", f"a request's line and headers have at most {HEAD_BYTES_MAX} bytes")
_TOO_SLOW = Problem(408, "request_too_slow", f"a request arrives within {ARRIVAL_SECONDS_MAX:g} seconds")


def _answer(problem: Problem) -> bytes:
    body = msgspec.json.encode(problem.body())
    head = b"HTTP/1.1 %d %s\r\ncontent-type: %s\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
    return head % (problem.status, _REASONS[problem.status], CONTENT_TYPE.encode(), len(body)) + body
