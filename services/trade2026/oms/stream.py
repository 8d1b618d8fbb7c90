"""The event stream: durable order events to whoever listens, from any position, without harming the rest."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from trade2026.domain.events import Envelope, decode
from trade2026.kit.bus.port import Bus, Reader, Record, Trimmed
from trade2026.kit.identity import Principal
from trade2026.kit.views import event_view

_LISTENERS_MAX = 100
_EVENTS_PER_TURN = 200
_SEND_SECONDS_MAX = 5.0


class EventStream:
    """Serves `/ws/events?from=SEQ&account=NAME`; a reader that does not read is dropped, never buffered.

    With an account, and for whoever may use only some, only events of orders of these accounts are sent. Of several
    partitions, `from` names each that does not begin at its end: `0:17,3:4`; their events come in no fixed order.

    Args:
        account_of: The account of an order, by its id and the position of an event of it; empty if nobody knows.
    """

    def __init__(self, bus: Bus, topic: str, partitions: int, account_of: Callable[[str, int], Awaitable[str]]) -> None:
        self.bus, self.topic, self.partitions, self.listeners = bus, topic, partitions, 0
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
        readers: list[Reader] = []
        try:
            for partition, seq in (await self._begins(ws.query_params.get("from"))).items():
                readers.append(await self.bus.open_reader(self.topic, partition, seq))
        except (ValueError, Trimmed) as error:
            for reader in readers:
                await reader.close()
            await ws.close(1008, str(error)[:120])
            return
        account = ws.query_params.get("account")
        accounts = principal.accounts if account is None else frozenset({account})
        if account is not None and principal.accounts is not None:
            accounts = principal.accounts & {account}
        gone = asyncio.ensure_future(_until_gone(ws))
        reading = {asyncio.ensure_future(reader.read(_EVENTS_PER_TURN)): reader for reader in readers}
        try:
            while not gone.done():
                done, _ = await asyncio.wait({*reading, gone}, return_when=asyncio.FIRST_COMPLETED)
                for read in [each for each in reading if each in done]:
                    reader = reading.pop(read)
                    await self._send(ws, read.result(), accounts)
                    reading[asyncio.ensure_future(reader.read(_EVENTS_PER_TURN))] = reader
        except TimeoutError:
            with contextlib.suppress(Exception):
                goodbye = ws.close(1013, "too slow: read faster, or come back with ?from= the last seq you saw")
                await asyncio.wait_for(goodbye, _SEND_SECONDS_MAX)  # it waits behind what is not read
        finally:
            for task in (gone, *reading):
                task.cancel()
            for reader in readers:
                await reader.close()

    async def _begins(self, text: str | None) -> dict[int, int]:
        """Where to begin in each partition: what is not named begins at its end."""
        ends = {partition: await self.bus.end(self.topic, partition) for partition in range(self.partitions)}
        begins = dict(_positions(text, self.partitions))
        for partition, seq in begins.items():
            if seq > ends[partition]:
                raise ValueError(
                    f"from is beyond the end: the next event of {self.topic}/{partition} is {ends[partition]}"
                )
        return ends | begins

    async def _send(self, ws: WebSocket, records: list[Record], accounts: frozenset[str] | None) -> None:
        for record in records:
            envelope = decode(record.body)
            if accounts is None or await self._owner(envelope) in accounts:
                message = msgspec.json.encode(event_view(envelope, self.topic, record.partition))
                await asyncio.wait_for(ws.send_text(message.decode()), _SEND_SECONDS_MAX)

    async def _owner(self, envelope: Envelope) -> str:
        """The account of an event; empty for what concerns no single one."""
        data: Any = envelope.data
        if account := getattr(data, "account", ""):
            return account
        listed = getattr(data, "orders", None)
        spec = listed[0].spec if listed else getattr(data, "spec", None)
        if spec is not None:
            return spec.account
        order_id = getattr(data, "order_id", "")
        return await self._account_of(order_id, envelope.seq) if order_id else ""


def _positions(text: str | None, partitions: int) -> Iterator[tuple[int, int]]:
    """Yield the partitions and positions that `from` names."""
    for part in text.split(",") if text is not None else ():
        partition, colon, seq = part.rpartition(":")
        if not colon and partitions == 1:
            partition = "0"
        named = partition.isascii() and partition.isdigit() and len(partition) < 3 and int(partition) < partitions
        if not (named and seq.isascii() and seq.isdigit() and len(seq) < 20):
            what = "the seq of an event: a whole number from 0 up"
            more = f", after its partition of {partitions}: 0:17,3:4" if partitions > 1 else ""
            raise ValueError(f"from is {what}{more}")
        yield int(partition), int(seq)


async def _until_gone(ws: WebSocket) -> None:
    """Whatever a listener says is ignored until it leaves."""
    while (await ws.receive())["type"] != "websocket.disconnect":
        pass
