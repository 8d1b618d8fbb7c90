"""Sending a request on to the replica that it concerns: one hop, on connections that are kept.

What was sent and not answered may have been done: the client is told so (503), and may ask again by the same client
order id. A connection that the other side has closed while it was idle is found out before it is used.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from trade2026.kit.bus.membership import Member
from trade2026.kit.messages import Request, Response
from trade2026.kit.problem import Problem

HOP = b"x-trade2026-hop"
"""Of a request that another replica has sent on: it is answered here, or not at all. Where it is about several
partitions it names them, by commas."""
SECONDS_MAX = 10.0
_ANSWER_BYTES_MAX = 64 * 1024 * 1024
_IDLE_MAX = 64
"""Connections to one replica that are kept."""
_IDLE_SECONDS_MAX = 30.0
"""The other side closes what is idle after twice as long."""
_HEAD_BYTES_MAX = 64 * 1024
HANDED_ON = (b"authorization", b"content-type", b"idempotency-key", b"traceparent", b"causation-id")


class Line(NamedTuple):
    """One connection, and when it was last used."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    used_at: float


class Forwarder:
    """Keeps connections to the other replicas of a service."""

    def __init__(self) -> None:
        self._idle: defaultdict[str, deque[Line]] = defaultdict(deque)

    async def send(
        self,
        member: Member,
        method: str,
        target: str,
        headers: Mapping[bytes, bytes],
        body: bytes,
        seconds_max: float = SECONDS_MAX,
    ) -> Response:
        """Ask another replica; return what it answers, whatever it is. A 503 names it, in `detail` and in `replica`.

        Args:
            target: Path and query, as they were sent.
            headers: Those of the client; what is not meant for us alone goes along.
            seconds_max: To connect, and again to be answered.

        Raises:
            Problem: 422: a header would end its line. 503: it could not be reached (nothing was sent), or did not answer.
        """
        head = _head(member, method, target, headers, len(body))
        try:
            async with asyncio.timeout(seconds_max):
                line = await self._line(member)
        except (OSError, TimeoutError, ValueError) as error:
            raise Problem(
                503,
                "not_reached",
                f"{member.name} at {member.address} can't be reached: {error!r}",
                retry_after=1,
                replica=member.name,
            ) from error
        try:
            async with asyncio.timeout(seconds_max):
                line.writer.write(head + body)
                response, keeps = await _answer(line.reader)
        except (OSError, EOFError, TimeoutError, ValueError, IndexError, asyncio.LimitOverrunError) as error:
            line.writer.close()
            raise Problem(
                503,
                "not_acknowledged",
                f"{member.name} did not answer; it may have been done: {error!r}",
                retry_after=1,
                replica=member.name,
            ) from error
        except BaseException:
            line.writer.close()
            raise
        if keeps:
            self._keep(member, line)
        else:
            line.writer.close()
        return _named(member, response) if response.status == 503 else response

    async def close(self) -> None:
        """Let every connection go. Idempotent."""
        for lines in self._idle.values():
            for line in lines:
                line.writer.close()
        self._idle.clear()

    async def _line(self, member: Member) -> Line:
        lines = self._idle[member.address]
        oldest = asyncio.get_running_loop().time() - _IDLE_SECONDS_MAX
        while lines:
            line = lines.pop()
            if line.used_at >= oldest and not line.reader.at_eof() and not line.writer.is_closing():
                return line
            line.writer.close()
        host, _, port = member.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), limit=_HEAD_BYTES_MAX)
        return Line(reader, writer, 0.0)

    def _keep(self, member: Member, line: Line) -> None:
        lines = self._idle[member.address]
        lines.append(line._replace(used_at=asyncio.get_running_loop().time()))
        if len(lines) > _IDLE_MAX:
            lines.popleft().writer.close()


class Elsewhere(Exception):
    """What a request concerns is another replica's."""

    def __init__(self, member: Member) -> None:
        super().__init__(member.name)
        self.member = member


def target_of(request: Request) -> str:
    """Path and query of a request as they go over the wire."""
    path, query = quote(request.path), request.query_string.decode("latin-1")
    return f"{path}?{query}" if query else path


def _head(member: Member, method: str, target: str, headers: Mapping[bytes, bytes], length: int) -> bytes:
    lines = [f"{method} {target} HTTP/1.1\r\nhost: {member.address}\r\ncontent-length: {length}\r\n".encode("latin-1")]
    for name in HANDED_ON:
        if name in headers:
            if b"\r" in headers[name] or b"\n" in headers[name]:
                raise Problem(422, "malformed_header", f"{name.decode()} can't be a header", field=name.decode())
            lines.append(b"%b: %b\r\n" % (name, headers[name]))
    return b"%b%b: %b\r\n\r\n" % (b"".join(lines), HOP, headers.get(HOP, b"1"))


async def _answer(reader: asyncio.StreamReader) -> tuple[Response, bool]:
    """The answer, and whether the connection may be used again."""
    head = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
    status, length, kind, keeps = int(head[0].split()[1]), -1, "application/json", True
    handed_on: list[tuple[bytes, bytes]] = []
    for line in head[1:-2]:
        name, _, value = line.partition(b":")
        name, value = name.strip().lower(), value.strip()
        if name == b"content-length":
            length = int(value)
        elif name == b"content-type":
            kind = value.decode("latin-1")
        elif name == b"connection" and value.lower() == b"close":
            keeps = False
        elif name in (b"retry-after", b"x-next-cursor"):
            handed_on.append((name, value))
    if not 0 <= length <= _ANSWER_BYTES_MAX:
        raise ValueError("the answer is too long, or does not say how long it is")
    return Response(await reader.readexactly(length), status, kind, handed_on), keeps


def _named(member: Member, response: Response) -> Response:
    """The same problem, with the replica that has it: who asked has sent it to another one."""
    try:
        said = msgspec.json.decode(response.body, type=dict[str, Any])
    except msgspec.MsgspecError:
        return response
    said |= {"detail": f"{member.name}: {said.get('detail', 'no reason given')}", "replica": member.name}
    return Response(msgspec.json.encode(said), response.status, response.content_type, response.headers)


def require_done(answer: Response) -> None:
    """Raise the `Problem` that a replica answered with, unless it has done what it was sent."""
    if 200 <= answer.status < 300:
        return
    try:
        said = msgspec.json.decode(answer.body, type=dict[str, Any])
    except msgspec.MsgspecError:
        said = {}
    known = {
        name: said.pop(name, None) for name in ("code", "detail", "field", "retry_after", "type", "title", "status")
    }
    raise Problem(
        answer.status if answer.status >= 400 else 502,
        known["code"] or "internal_error",
        known["detail"] or "another replica gave no reason",
        field=known["field"],
        retry_after=known["retry_after"],
        **said,
    )
