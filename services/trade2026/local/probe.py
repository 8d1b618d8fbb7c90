"""What a service says of itself: one short HTTP request over a connection of its own."""

import asyncio
import json
from typing import Any

_BODY_BYTES_MAX = 4 * 1024 * 1024


SILENT = "does not answer in time"
"""Of one that listens."""


async def get(host: str, port: int, path: str, *, key: str = "", timeout_seconds: float = 2.0) -> tuple[int, Any]:
    """Return the status and the JSON of an answer; status 0, with the reason as text, where there is none.

    Args:
        key: Bearer key, for a path that asks for one.
    """
    authorization = f"Authorization: Bearer {key}\r\n" if key else ""
    try:
        async with asyncio.timeout(timeout_seconds):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                head = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n{authorization}Connection: close\r\n\r\n"
                writer.write(head.encode())
                await writer.drain()
                said, _, body = (await _read_all(reader)).partition(b"\r\n\r\n")
            finally:
                writer.close()
    except TimeoutError:
        return 0, SILENT
    except OSError as error:
        return 0, "not listening yet" if isinstance(error, ConnectionRefusedError) else str(error)
    lines = said.split(b"\r\n")
    if any(line.lower().replace(b" ", b"") == b"transfer-encoding:chunked" for line in lines):
        body = _unchunked(body)
    try:
        status = int(lines[0].split(b" ")[1])
    except (IndexError, ValueError):
        return 0, "does not speak HTTP"
    try:
        return status, json.loads(body)
    except ValueError:
        return status, body.decode("utf-8", "replace")


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    parts: list[bytes] = []
    size = 0
    while part := await reader.read(65_536):
        parts.append(part)
        size += len(part)
        if size > _BODY_BYTES_MAX:
            raise OSError("the answer is too long")
    return b"".join(parts)


def _unchunked(body: bytes) -> bytes:
    parts: list[bytes] = []
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size.split(b";")[0] or b"0", 16)
        if not length:
            break
        parts.append(rest[:length])
        body = rest[length + 2 :]
    return b"".join(parts)
