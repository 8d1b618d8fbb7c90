"""The event stream: durable order events to whoever listens, from any position, without harming the rest."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from trade2026.domain.events import Envelope, decode
from trade2026.kit.bus.port import Bus, Trimmed
from trade2026.kit.identity import Principal
from trade2026.kit.views import event_view

_LISTENERS_MAX = 100
_EVENTS_PER_TURN = 200
_SEND_SECONDS_MAX = 5.0


class EventStream:
    """Serves `/ws/events?from=SEQ&account=NAME`; a reader that does not read is dropped, never buffered.

    With an account, and for whoever may use only some, only events of orders of these accounts are sent.

    Args:
        account_of: The account of an order, by its id; empty if it is not known.
    """

    def __init__(self, bus: Bus, topic: str, account_of: Callable[[str], str]) -> None:
        self.bus, self.topic, self.listeners = bus, topic, 0
        self._account_of = account_of

    async def serve(self, ws: WebSocket, principal: Principal) -> None:
        """Follow the log for one listener until it leaves or stalls."""
        if self.listeners >= _LISTENERS_MAX:
            await ws.close(1013, f"at most {_LISTENERS_MAX} listeners")
            return
        self.listeners += 1
        try:
            await self._follow(ws, principal)
        except (WebSocketDisconnect, ConnectionError):
            pass  # the listener has left: nothing is owed to it
        finally:
            self.listeners -= 1

    async def _follow(self, ws: WebSocket, principal: Principal) -> None:
        end = await self.bus.end(self.topic, 0)
        try:
            reader = await self.bus.open_reader(self.topic, 0, _position(ws.query_params.get("from"), end))
        except (ValueError, Trimmed) as error:
            await ws.close(1008, str(error)[:120])
            return
        account = ws.query_params.get("account")
        accounts = principal.accounts if account is None else frozenset({account})
        if account is not None and principal.accounts is not None:
            accounts = principal.accounts & {account}
        gone = asyncio.ensure_future(_until_gone(ws))
        try:
            while not gone.done():
                reading = asyncio.ensure_future(reader.read(_EVENTS_PER_TURN))
                await asyncio.wait({reading, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    reading.cancel()
                    break
                for record in reading.result():
                    envelope = decode(record.body)
                    if accounts is None or self._owner(envelope) in accounts:
                        message = msgspec.json.encode(event_view(envelope))
                        await asyncio.wait_for(ws.send_bytes(message), _SEND_SECONDS_MAX)
        except TimeoutError:
            with contextlib.suppress(Exception):
                goodbye = ws.close(1013, "too slow: read faster, or come back with ?from= the last seq you saw")
                await asyncio.wait_for(goodbye, _SEND_SECONDS_MAX)  # it waits behind what is not read
        finally:
            gone.cancel()
            await reader.close()

    def _owner(self, envelope: Envelope) -> str:
        """The account of an event; empty for what concerns no single one."""
        data: Any = envelope.data
        if account := getattr(data, "account", ""):
            return account
        listed = getattr(data, "orders", None)
        spec = listed[0].spec if listed else getattr(data, "spec", None)
        if spec is not None:
            return spec.account
        order_id = getattr(data, "order_id", "")
        return self._account_of(order_id) if order_id else ""


def _position(text: str | None, end: int) -> int:
    if text is None:
        return end
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ValueError("from is the seq of an event: a whole number from 0 up")
    return min(int(text), end)


async def _until_gone(ws: WebSocket) -> None:
    """Whatever a listener says is ignored until it leaves."""
    while (await ws.receive())["type"] != "websocket.disconnect":
        pass
