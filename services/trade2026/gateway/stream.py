"""The market as the venue says it over WebSocket: trades, books and tickers to whoever subscribes.

What the normalizer makes of it is in the topics of the market, and in the cache.

Books and tickers are conflated: a slow reader gets the newest. Trades wait in a bounded queue; a reader
that lets it overflow, or does not read for seconds, is dropped with the reason.
"""

import asyncio
from collections import deque
from typing import Any

import msgspec
from starlette.websockets import WebSocket

from trade2026.domain.instruments import Instruments, UnknownInstrument
from trade2026.domain.market import Trade
from trade2026.gateway.view import MarketView, trade_view
from trade2026.kit import readers
from trade2026.kit.body import parse
from trade2026.kit.problem import Problem
from trade2026.kit.readers import READERS_MAX, TRY_AGAIN_LATER

CHANNELS = ("trades", "books", "tickers")
WAITING_MAX = 2_000
_DEPTH = 10

_encode = msgspec.json.encode


class Subscription(msgspec.Struct, forbid_unknown_fields=True):
    """What a reader asks: `op` is subscribe or unsubscribe; no symbols means all of them."""

    op: str
    channels: list[str]
    symbols: list[str] = []


class Listener:
    """One reader's subscriptions, and what waits for it."""

    def __init__(self) -> None:
        self.wanted: set[tuple[str, str]] = set()
        self.woken = asyncio.Event()
        self.overflowed = False
        self._waiting: deque[bytes] = deque()
        self._newest: dict[tuple[str, str], bytes] = {}

    def offer(self, messages: list[bytes]) -> None:
        """Queue what must not be left out, or mark the reader as too slow."""
        if len(self._waiting) + len(messages) > WAITING_MAX:
            self.overflowed = True
        else:
            self._waiting.extend(messages)
        self.woken.set()

    def offer_newest(self, channel: str, symbol: str, message: bytes) -> None:
        """Replace what the reader has not read yet."""
        self._newest[channel, symbol] = message
        self.woken.set()

    def take(self) -> list[bytes]:
        """What is to be sent now."""
        self.woken.clear()
        messages = [*self._waiting, *self._newest.values()]
        self._waiting.clear()
        self._newest.clear()
        return messages


class MarketStream:
    """Fans the market out."""

    def __init__(self, instruments: Instruments) -> None:
        self.instruments = instruments
        self.listeners: set[Listener] = set()
        self.dropped = 0

    def on_trades(self, view: MarketView, trades: list[tuple[int, Trade]]) -> None:
        """Tell readers of new prints."""
        listeners = self._who("trades", view)
        if listeners:
            messages = [_encode({"channel": "trades", **trade_view(ts, trade)}) for ts, trade in trades]
            for listener in listeners:
                listener.offer(messages)

    def on_book(self, view: MarketView) -> None:
        """Tell readers of the newest book and ticker."""
        symbol = view.instrument.instrument_id
        for channel, show in (("books", lambda: view.book_view(_DEPTH)), ("tickers", view.ticker)):
            listeners = self._who(channel, view)
            if listeners:
                message = _encode({"channel": channel, **show()})
                for listener in listeners:
                    listener.offer_newest(channel, symbol, message)

    def _who(self, channel: str, view: MarketView) -> list[Listener]:
        key = (channel, view.instrument.instrument_id)
        return [listener for listener in self.listeners if key in listener.wanted]

    async def serve(self, ws: WebSocket) -> None:
        """Serve one reader until it leaves or is too slow."""
        if len(self.listeners) >= READERS_MAX:
            await ws.close(TRY_AGAIN_LATER, f"at most {READERS_MAX} readers")
            return
        listener = Listener()
        self.listeners.add(listener)

        async def take(raw: bytes) -> None:
            """A broken subscription gets an error, not a hang-up."""
            try:
                answer = self._subscribe(listener, parse(raw, Subscription))
            except Problem as problem:
                answer = {"error": problem.detail, "code": problem.code}
            listener.offer([_encode(answer)])

        try:
            if await readers.serve(ws, self._send(ws, listener), readers.received(ws, take)):
                self.dropped += 1
        finally:
            self.listeners.discard(listener)

    async def _send(self, ws: WebSocket, listener: Listener) -> None:
        while True:
            await listener.woken.wait()
            if listener.overflowed:
                raise readers.TooSlow(f"more than {WAITING_MAX} messages were waiting")
            for message in listener.take():
                await readers.send(ws, message)

    def _subscribe(self, listener: Listener, asked: Subscription) -> dict[str, Any]:
        if asked.op not in ("subscribe", "unsubscribe"):
            raise Problem(422, "bad_op", "op is subscribe or unsubscribe", field="op")
        if not asked.channels or not set(asked.channels) <= set(CHANNELS):
            raise Problem(422, "bad_channel", f"channels are one or more of {', '.join(CHANNELS)}", field="channels")
        try:
            names = [self.instruments.resolve(symbol).instrument_id for symbol in asked.symbols]
        except UnknownInstrument as error:
            raise Problem(422, "unknown_symbol", str(error), field="symbols") from error
        keys = {(channel, name) for channel in asked.channels for name in names or self.instruments.by_id}
        listener.wanted = listener.wanted | keys if asked.op == "subscribe" else listener.wanted - keys
        return {"op": asked.op, "channels": asked.channels, "symbols": names or sorted(self.instruments.by_id)}
