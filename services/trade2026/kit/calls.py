"""The shortest way to another service: one HTTP request on a connection of its own, nothing shared, nothing pooled.

The kill switch uses it, so it must work when everything that is shared is broken.
"""

import asyncio
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from trade2026.kit.origin import NOWHERE, Origin

_ANSWER_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True)
class Answer:
    """What came back; `status` is 0 if nobody answered, and `detail` says why."""

    status: int
    body: bytes = b""
    detail: str = ""

    @property
    def ok(self) -> bool:
        """Whether it was done."""
        return 200 <= self.status < 300


class Post(Protocol):
    """How `post` is called: a simulation has another way to the other service."""

    async def __call__(self, url: str, body: bytes, *, authorization: str = "", seconds_max: float = 2.0) -> Answer: ...


async def post(
    url: str, body: bytes, *, authorization: str = "", origin: Origin = NOWHERE, seconds_max: float = 2.0
) -> Answer:
    """POST JSON; never raises for what the other side does."""
    return await _call("POST", url, body, authorization, origin, seconds_max)


async def get(url: str, *, authorization: str = "", seconds_max: float = 2.0) -> Answer:
    """GET; without a key, what everyone may see. Never raises for what the other side does."""
    return await _call("GET", url, b"", authorization, NOWHERE, seconds_max)


async def delete(url: str, *, authorization: str = "", origin: Origin = NOWHERE, seconds_max: float = 2.0) -> Answer:
    """DELETE; never raises for what the other side does."""
    return await _call("DELETE", url, b"", authorization, origin, seconds_max)


async def _call(method: str, url: str, body: bytes, authorization: str, origin: Origin, seconds_max: float) -> Answer:
    try:
        async with asyncio.timeout(seconds_max):
            return await _exchange(method, url, body, authorization, origin)
    except TimeoutError:
        return Answer(0, detail=f"no answer within {seconds_max} s")
    except (OSError, ValueError, IndexError, asyncio.IncompleteReadError) as error:
        return Answer(0, detail=str(error) or type(error).__name__)


async def _exchange(method: str, url: str, body: bytes, authorization: str, origin: Origin) -> Answer:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        headers = [
            f"{method} {parts.path} HTTP/1.1",
            f"Host: {parts.netloc}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "Connection: close",
            *(f"{name}: {value}" for name, value in origin.headers.items()),
        ]
        if authorization:
            headers.append(f"Authorization: {authorization}")
        writer.write("\r\n".join([*headers, "", ""]).encode("latin-1") + body)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        status = int(head[0].split()[1])
        return Answer(status, await _rest(reader))
    finally:
        writer.close()


async def _rest(reader: asyncio.StreamReader) -> bytes:
    """What comes until the other side closes, to the bound."""
    parts, size = [], 0
    while size < _ANSWER_BYTES_MAX and (part := await reader.read(_ANSWER_BYTES_MAX - size)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)
