"""A reader of a WebSocket is served both ways until it leaves, or is dropped because it does not read."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

READERS_MAX = 100
"""Of one endpoint."""
TRY_AGAIN_LATER = 1013
_SEND_SECONDS_MAX = 5.0


class TooSlow(Exception):
    """What a reader that is dropped is told."""

    def __init__(self, why: str) -> None:
        super().__init__(f"too slow: {why}")


async def send(ws: WebSocket, message: bytes) -> None:
    """Send a text. Raises `TooSlow` for who does not read."""
    try:
        await asyncio.wait_for(ws.send_text(message.decode()), _SEND_SECONDS_MAX)
    except TimeoutError as error:
        raise TooSlow(f"nothing was read for {_SEND_SECONDS_MAX:g} seconds") from error


async def received(ws: WebSocket, take: Callable[[bytes], Awaitable[None]]) -> None:
    """Hand on every message until the reader has left."""
    while (message := await ws.receive())["type"] != "websocket.disconnect":
        text = message.get("text")
        await take(text.encode() if text is not None else message.get("bytes") or b"")


async def serve(ws: WebSocket, *ways: Awaitable[Any]) -> bool:
    """Go every way until the first one ends, because the reader has left or is `TooSlow`.

    Returns:
        Whether it was dropped.
    """
    going = [asyncio.ensure_future(_until_gone(way)) for way in ways]
    try:
        done, _ = await asyncio.wait(going, return_when=asyncio.FIRST_COMPLETED)
        reason = next((reason for way in done if (reason := way.result())), "")
        if reason:
            with contextlib.suppress(Exception):  # it waits behind what is not read
                await asyncio.wait_for(ws.close(TRY_AGAIN_LATER, reason), _SEND_SECONDS_MAX)
        return bool(reason)
    finally:
        for way in going:
            way.cancel()
        await asyncio.gather(*going, return_exceptions=True)


async def _until_gone(way: Awaitable[Any]) -> str:
    """Why the reader is dropped; empty if it has left."""
    try:
        await way
    except TooSlow as reason:
        return str(reason)
    except (WebSocketDisconnect, ConnectionError, RuntimeError):
        pass  # starlette raises RuntimeError for what is sent or read behind a close
    return ""
