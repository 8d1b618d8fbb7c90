"""The event stream: nobody who listens can hold it up."""

import asyncio
from typing import Any

import pytest

from trade2026.domain import events as ev
from trade2026.kit.bus.memory import MemoryBus
from trade2026.kit.bus.port import TopicConfig
from trade2026.kit.identity import Principal
from trade2026.oms import stream as stream_module
from trade2026.oms.stream import EventStream


class Deaf:
    """A WebSocket whose buffers are full for ever: even a goodbye does not leave."""

    def __init__(self) -> None:
        self.query_params = {"from": "0"}
        self.closing: list[int] = []

    async def receive(self) -> dict[str, Any]:
        return await asyncio.Future()

    async def send_text(self, data: str) -> None:
        await asyncio.Future()

    async def close(self, code: int, reason: str) -> None:
        self.closing.append(code)
        await asyncio.Future()


async def whose(order_id: str, seq: int) -> str:
    return "main"


async def test_a_listener_that_reads_nothing_is_let_go_even_if_it_can_not_be_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream_module, "_SEND_SECONDS_MAX", 0.01)
    bus = MemoryBus([TopicConfig(name="orders.events")])
    writer = await bus.claim("orders.events", 0, "test")
    event = ev.OrderCanceled(order_id="o0-0")
    await writer.append([ev.encode(ev.Envelope(0, 1, 0, 0, "desk", "local", "", "", "", event))])
    stream, deaf = EventStream(bus, "orders.events", 1, whose), Deaf()
    async with asyncio.timeout(60):
        await stream.serve(deaf, Principal("local", "admin"))  # type: ignore[arg-type]
    assert deaf.closing == [1013]
    assert stream.listeners == 0
