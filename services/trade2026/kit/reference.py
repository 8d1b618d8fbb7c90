"""What the market last said, per instrument: the reference that risk decisions carry."""

from collections import deque
from collections.abc import Awaitable, Callable

from trade2026.domain.events import Envelope
from trade2026.domain.market import Book, Reference, Trade
from trade2026.kit.bus.port import Bus, Record
from trade2026.kit.follower import Follower

_SECOND = 1_000_000_000


class _Window:
    """Extremes of the last `seconds`, kept per second."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        self.buckets: deque[list[int]] = deque()

    def add(self, ts: int, price: int) -> None:
        second = ts // _SECOND
        if self.buckets and self.buckets[-1][0] == second:
            bucket = self.buckets[-1]
            bucket[1], bucket[2] = min(bucket[1], price), max(bucket[2], price)
        else:
            self.buckets.append([second, price, price])
            while self.buckets[0][0] <= second - self.seconds:
                self.buckets.popleft()

    def extremes(self) -> tuple[int, int]:
        return min(bucket[1] for bucket in self.buckets), max(bucket[2] for bucket in self.buckets)


class ReferenceCache:
    """Follows `market.ticks` and `market.books` from now on; older data is of no use to a decision.

    Args:
        window_seconds: Length of the collar window.
        on_trades: Awaited after each batch, with the range of prices per instrument that it brought.
    """

    def __init__(
        self,
        *,
        window_seconds: int = 60,
        on_trades: Callable[[dict[str, Reference]], Awaitable[None]] | None = None,
    ) -> None:
        self._window_seconds, self._on_trades = window_seconds, on_trades
        self._latest: dict[str, Reference] = {}
        self._windows: dict[str, _Window] = {}
        self._tops: dict[str, tuple[int, int]] = {}
        self._batch: dict[str, Reference] = {}
        self.followed: list[Follower] = []

    async def follow(self, bus: Bus) -> None:
        """Begin at the last trades that are known, then go on."""
        end = await bus.end("market.ticks", 0)
        start = max(await bus.start("market.ticks", 0), end - 1_000)
        trades = Follower(bus, "market.ticks", self.on_trade, from_seq=start, on_batch=self._batch_done)
        books_end = await bus.end("market.books", 0)
        books = Follower(bus, "market.books", lambda envelope, _: self.on_book(envelope), from_seq=books_end)
        self.followed = [trades, books]
        for follower in self.followed:
            await follower.start()

    async def stop(self) -> None:
        for follower in self.followed:
            await follower.stop()

    @property
    def error(self) -> str:
        """Why it no longer follows; empty while it does."""
        return next((follower.error for follower in self.followed if follower.error), "")

    def age(self, now: int) -> int | None:
        """Nanoseconds since the newest trade; None before the first."""
        return now - max(reference.ts for reference in self._latest.values()) if self._latest else None

    def get(self, instrument: str) -> Reference | None:
        """The reference of an instrument, None before its first trade."""
        return self._latest.get(instrument)

    def on_trade(self, envelope: Envelope, record: Record) -> None:
        trade = envelope.data
        assert isinstance(trade, Trade)
        window = self._windows.get(trade.instrument)
        if window is None:
            window = self._windows[trade.instrument] = _Window(self._window_seconds)
        window.add(envelope.ts_event, trade.price)
        low, high = window.extremes()
        bid, ask = self._tops.get(trade.instrument, (0, 0))
        source = f"{record.topic}/{record.partition}/{record.seq}"
        self._latest[trade.instrument] = Reference(trade.price, low, high, bid, ask, envelope.ts_init, source)
        seen = self._batch.get(trade.instrument)
        low = min(seen.low, trade.price) if seen else trade.price
        high = max(seen.high, trade.price) if seen else trade.price
        self._batch[trade.instrument] = Reference(trade.price, low, high, bid, ask, envelope.ts_init, source)

    def on_book(self, envelope: Envelope) -> None:
        """Take the newest book of an instrument."""
        book = envelope.data
        assert isinstance(book, Book)
        self._tops[book.instrument] = (book.bids[0].price if book.bids else 0, book.asks[0].price if book.asks else 0)

    async def _batch_done(self) -> None:
        batch, self._batch = self._batch, {}
        if self._on_trades is not None and batch:
            await self._on_trades(batch)
