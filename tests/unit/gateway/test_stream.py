"""Given readers of the market, when they subscribe, read or do not read, then this is what they get."""

import asyncio

import msgspec
from gateway_builders import BOOK, BTC, SECOND, replay

from trade2026.domain.instruments import Instruments
from trade2026.gateway import stream
from trade2026.gateway.stream import MarketStream
from trade2026.gateway.view import MarketView
from trade2026.kit import readers


class Socket:
    """A WebSocket whose reader reads only while `reads` is set."""

    def __init__(self) -> None:
        self.inbox: asyncio.Queue[dict] = asyncio.Queue()
        self.outbox: asyncio.Queue[dict] = asyncio.Queue()
        self.reads = asyncio.Event()
        self.reads.set()
        self.closed: tuple[int, str] | None = None

    async def receive(self) -> dict:
        return await self.inbox.get()

    async def send_text(self, text: str) -> None:
        await self.reads.wait()
        self.outbox.put_nowait(msgspec.json.decode(text))

    async def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    def say(self, text: str) -> None:
        self.inbox.put_nowait({"type": "websocket.receive", "text": text})

    def leave(self) -> None:
        self.inbox.put_nowait({"type": "websocket.disconnect"})


def _market() -> tuple[MarketStream, MarketView]:
    view = MarketView(BTC)
    view.book = BOOK
    return MarketStream(Instruments([BTC])), view


def _trades(count: int):
    source = replay()
    return [(SECOND, source.trade_at(position)) for position in range(count)]


async def test_a_reader_gets_what_it_subscribed_to_and_leaves():
    market, view = _market()
    socket = Socket()
    serving = asyncio.ensure_future(market.serve(socket))
    socket.say('{"op":"subscribe","channels":["trades"],"symbols":["BTCUSDT"]}')
    assert (await socket.outbox.get())["op"] == "subscribe"
    market.on_trades(view, _trades(2))
    market.on_book(view)
    assert [(await socket.outbox.get())["trade_id"] for _ in range(2)] == ["t-0-0", "t-0-1"]
    socket.leave()
    await serving
    assert socket.outbox.empty()
    assert (market.listeners, socket.closed) == (set(), None)


async def test_a_broken_message_gets_an_error_and_the_line_stays():
    market, _ = _market()
    socket = Socket()
    serving = asyncio.ensure_future(market.serve(socket))
    for text, code in (
        ("{", "malformed_json"),
        ('{"op":"shout","channels":["trades"]}', "bad_op"),
        ('{"op":"subscribe","channels":["x"]}', "bad_channel"),
        ('{"op":"subscribe","channels":[]}', "bad_channel"),
        ('{"op":"subscribe"}', "missing_field"),
        ('{"op":"subscribe","channels":["books"],"symbols":["NOPE"]}', "unknown_symbol"),
        ("[" * 5000, "too_deep"),
    ):
        socket.say(text)
        answer = await socket.outbox.get()
        assert (answer["code"], bool(answer["error"])) == (code, True)
    socket.leave()
    await serving


async def test_books_are_conflated_for_a_slow_reader():
    market, view = _market()
    socket = Socket()
    serving = asyncio.ensure_future(market.serve(socket))
    socket.say('{"op":"subscribe","channels":["books"]}')
    await socket.outbox.get()
    for position in range(50):
        view.book = msgspec.structs.replace(BOOK, venue_seq=position)
        market.on_book(view)
    assert (await socket.outbox.get())["venue_seq"] == 49
    socket.leave()
    await serving
    assert socket.outbox.empty()


async def test_a_reader_that_lets_trades_pile_up_is_dropped_with_the_reason(monkeypatch):
    monkeypatch.setattr(stream, "WAITING_MAX", 3)
    market, view = _market()
    socket = Socket()
    serving = asyncio.ensure_future(market.serve(socket))
    socket.say('{"op":"subscribe","channels":["trades"]}')
    await socket.outbox.get()
    market.on_trades(view, _trades(4))
    await serving
    assert socket.closed is not None
    assert socket.closed[0] == 1013
    assert "too slow" in socket.closed[1]
    assert (market.listeners, market.dropped) == (set(), 1)


async def test_a_reader_that_does_not_read_is_dropped_with_the_reason(monkeypatch):
    monkeypatch.setattr(readers, "_SEND_SECONDS_MAX", 0.01)
    market, view = _market()
    socket = Socket()
    serving = asyncio.ensure_future(market.serve(socket))
    socket.say('{"op":"subscribe","channels":["trades"]}')
    await socket.outbox.get()
    socket.reads.clear()
    market.on_trades(view, _trades(1))
    await serving
    assert socket.closed is not None
    assert "too slow" in socket.closed[1]
