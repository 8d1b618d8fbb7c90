"""One request and its answer, whichever way they came in (see `connections`)."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, overload

import msgspec

from trade2026.kit import problem
from trade2026.kit.body import parse
from trade2026.kit.identity import Principal
from trade2026.kit.origin import CAUSATION_HEADER, Origin
from trade2026.kit.parameters import read_query
from trade2026.kit.problem import Problem

_JSON = b"application/json"
_NOT_IN_HEADERS = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

SPAN = b" span"
_CAUSATION = CAUSATION_HEADER.encode()
"""Beside the headers, under a name that no header can have: the context that the request got here."""

T = TypeVar("T")
Headers = Iterable[tuple[bytes, bytes]]

_encode = msgspec.json.encode


class Request:
    """One request, its body read.

    Attributes:
        params: Of the path, e.g. `order_id` of `/orders/{order_id}`.
        headers: Names in lower case; of a repeated one the last.
        received_ns: When its head had arrived, in nanoseconds since the epoch.
    """

    __slots__ = ("_query", "_query_string", "body", "headers", "method", "params", "path", "principal", "received_ns")

    @property
    def traceparent(self) -> str:
        """The context of the span that this request is: under the caller's if it gave one, else of a new trace."""
        own = self.headers.get(SPAN)
        if own is None:
            given = self.headers.get(b"traceparent", b"").decode("latin-1")
            own = self.headers[SPAN] = Origin(given).span.encode()
        return own.decode()

    @property
    def causation_id(self) -> str:
        """The event that the caller says to have sent this for; empty if it said none."""
        given = self.headers.get(_CAUSATION)
        return Origin(causation_id=given.decode("latin-1")).cause if given else ""

    def __init__(
        self,
        method: str,
        path: str,
        params: Mapping[str, str],
        query_string: bytes,
        headers: dict[bytes, bytes],
        body: bytes,
        principal: Principal,
        received_ns: int,
    ) -> None:
        self.method, self.path, self.params = method, path, params
        self.headers, self.body, self.principal, self.received_ns = headers, body, principal, received_ns
        self._query_string = query_string
        self._query: dict[str, str] | None = None

    @property
    def query_string(self) -> bytes:
        """What stands behind the question mark, as it was sent."""
        return self._query_string

    @property
    def query(self) -> dict[str, str]:
        """The query string; of a repeated name the last value."""
        if self._query is None:
            self._query = read_query(self._query_string)
        return self._query

    @overload
    def json(self, type: type[T]) -> T: ...
    @overload
    def json(self, type: None = None) -> Any: ...
    def json(self, type: Any = None) -> Any:
        """Return the body's JSON, as `type` if one is given.

        Raises:
            Problem: 415 for another content type; 422 for what is not JSON, is too deep, has a key twice,
                or does not fit `type`.
        """
        content_type = self.headers.get(b"content-type", _JSON)
        if content_type != _JSON:
            _require_json(content_type)
        return parse(self.body, type)


class Response:
    """An answer whose body is known.

    Raises:
        ValueError: a header that would end its line, and so could begin another answer.
    """

    __slots__ = ("body", "content_type", "headers", "status")

    def __init__(
        self, body: bytes, status: int = 200, content_type: str = "application/json", headers: Headers = ()
    ) -> None:
        self.body, self.status, self.content_type, self.headers = body, status, content_type, tuple(headers)
        for name, value in self.headers:
            if _NOT_IN_HEADERS.search(name) or _NOT_IN_HEADERS.search(value):
                raise ValueError(f"no header: {name!r}: {value!r}")


def json_response(obj: Any, status: int = 200, headers: Headers = ()) -> Response:
    """Answer with JSON."""
    return Response(_encode(obj), status, headers=headers)


def problem_response(problem_: Problem) -> Response:
    """Answer with a problem document."""
    headers = []
    if problem_.retry_after is not None:
        headers.append((b"retry-after", str(max(1, round(problem_.retry_after))).encode()))
    if problem_.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return Response(_encode(problem_.body()), problem_.status, problem.CONTENT_TYPE, headers)


def _require_json(content_type: bytes) -> None:
    media_type = content_type.partition(b";")[0].strip().lower()
    if media_type != _JSON and not media_type.endswith(b"+json"):
        sent = media_type.decode("latin-1")[:80]
        raise Problem(415, "not_json", f"the body is sent as {sent}; add the header: Content-Type: application/json")
