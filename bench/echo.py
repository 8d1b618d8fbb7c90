"""The least that a web application on this server can do: read the body, answer. What remains is not ours."""

from typing import Any

_ANSWER = b'{"order_id":"o0-1234567","client_order_id":"t18a0c2f4b9d3e8c1","status":"PendingNew"}'
_HEAD = [(b"content-type", b"application/json"), (b"content-length", str(len(_ANSWER)).encode())]


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """A bare ASGI application."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": _HEAD})
    await send({"type": "http.response.body", "body": _ANSWER})
