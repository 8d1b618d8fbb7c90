"""The event stream: durable order events to whoever listens, from any position, without harming the rest."""

import asyncio
import contextlib

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from trade2026.domain.events import decode
from trade2026.kit.bus.port import Bus, Trimmed
from trade2026.kit.identity import Principal
from trade2026.kit.views import event_view

_LISTENERS_MAX = 100
_EVENTS_PER_TURN = 200
_SEND_SECONDS_MAX = 5.0


class EventStream:
    """Serves `/ws/events?from=SEQ&account=NAME`; a reader that does not read is dropped, never buffered."""

    def __init__(self, bus: Bus, topic: str) -> None:
        self.bus, self.topic, self.listeners = bus, topic, 0

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
            position = min(int(ws.query_params.get("from", end)), end)
            reader = await self.bus.open_reader(self.topic, 0, position)
        except (ValueError, Trimmed) as error:
            await ws.close(1008, str(error)[:120])
            return
        account = ws.query_params.get("account")
        gone = asyncio.ensure_future(ws.receive())
        try:
            while not gone.done():
                reading = asyncio.ensure_future(reader.read(_EVENTS_PER_TURN))
                await asyncio.wait({reading, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    reading.cancel()
                    break
                for record in reading.result():
                    view = event_view(decode(record.body))
                    owner = view["data"].get("account") or view["data"].get("spec", {}).get("account")
                    if account and owner and owner != account:
                        continue
                    if principal.accounts is not None and owner not in principal.accounts:
                        continue
                    await asyncio.wait_for(ws.send_bytes(msgspec.json.encode(view)), _SEND_SECONDS_MAX)
        except TimeoutError:
            with contextlib.suppress(Exception):
                await ws.close(1013, "too slow: read faster, or come back with ?from= the last seq you saw")
        finally:
            gone.cancel()
            await reader.close()
