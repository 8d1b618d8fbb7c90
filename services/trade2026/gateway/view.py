"""What the venue shows of its market: last trades, book and ticker of each instrument."""

from collections import deque
from typing import Any

from trade2026.domain.instruments import Instrument
from trade2026.domain.market import Book, Level, Trade
from trade2026.domain.numbers import to_text
from trade2026.kit.views import time_text

TRADES_KEPT = 1_000
_MINUTE = 60 * 1_000_000_000
_DAY_MINUTES = 1_440


class _Minute:
    """Prices and quantity of one minute."""

    __slots__ = ("high", "low", "minute", "open", "quantity")

    def __init__(self, minute: int, price: int) -> None:
        self.minute, self.open, self.high, self.low, self.quantity = minute, price, price, price, 0


class MarketView:
    """One instrument."""

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.trades: deque[tuple[int, Trade]] = deque(maxlen=TRADES_KEPT)
        """With the time of each (ns), the newest last."""
        self.book: Book | None = None
        self._minutes: deque[_Minute] = deque()

    def on_trade(self, ts: int, trade: Trade) -> None:
        """Show a print."""
        self.trades.append((ts, trade))
        minute = ts // _MINUTE
        if not self._minutes or self._minutes[-1].minute != minute:
            self._minutes.append(_Minute(minute, trade.price))
            while self._minutes[0].minute <= minute - _DAY_MINUTES:
                self._minutes.popleft()
        bucket = self._minutes[-1]
        bucket.high, bucket.low = max(bucket.high, trade.price), min(bucket.low, trade.price)
        bucket.quantity += trade.quantity

    def ticker(self) -> dict[str, Any]:
        """Last price, best prices, and the range and volume of 24 hours of the stack."""
        ts, trade = self.trades[-1] if self.trades else (0, None)
        bid, ask = (self.book.bids[:1], self.book.asks[:1]) if self.book is not None else ([], [])
        minutes = self._minutes
        return {
            "symbol": self.instrument.instrument_id,
            "last": to_text(trade.price) if trade else None,
            "last_quantity": to_text(trade.quantity) if trade else None,
            "bid": to_text(bid[0].price) if bid else None,
            "bid_quantity": to_text(bid[0].quantity) if bid else None,
            "ask": to_text(ask[0].price) if ask else None,
            "ask_quantity": to_text(ask[0].quantity) if ask else None,
            "open_24h": to_text(minutes[0].open) if minutes else None,
            "high_24h": to_text(max(minute.high for minute in minutes)) if minutes else None,
            "low_24h": to_text(min(minute.low for minute in minutes)) if minutes else None,
            "volume_24h": to_text(sum(minute.quantity for minute in minutes)),
            "ts": time_text(ts),
        }

    def book_view(self, depth: int) -> dict[str, Any]:
        """The book, the best prices first."""
        book = self.book
        return {
            "symbol": self.instrument.instrument_id,
            "bids": _levels(book.bids[:depth]) if book else [],
            "asks": _levels(book.asks[:depth]) if book else [],
            "venue_seq": book.venue_seq if book else None,
            "ts": time_text(self.trades[-1][0]) if self.trades else "",
        }

    def trades_view(self, limit: int) -> dict[str, Any]:
        """The newest trades, the newest first."""
        newest = list(self.trades)[-limit:]
        return {
            "symbol": self.instrument.instrument_id,
            "trades": [trade_view(ts, trade) for ts, trade in reversed(newest)],
        }


def trade_view(ts: int, trade: Trade) -> dict[str, Any]:
    """Show a print."""
    return {
        "symbol": trade.instrument,
        "trade_id": trade.trade_id,
        "price": to_text(trade.price),
        "quantity": to_text(trade.quantity),
        "ts": time_text(ts),
        "ts_source": time_text(trade.ts_source),
    }


def instrument_view(instrument: Instrument) -> dict[str, Any]:
    """Show an instrument's terms."""
    return {
        "symbol": instrument.instrument_id,
        "venue": instrument.venue,
        "base": instrument.base,
        "quote": instrument.quote,
        "settlement": instrument.settlement,
        "tick_size": to_text(instrument.tick_size),
        "lot_size": to_text(instrument.lot_size),
        "min_notional": to_text(instrument.min_notional),
        "maker_fee_bps": instrument.maker_fee_bps,
        "taker_fee_bps": instrument.taker_fee_bps,
        "session": instrument.session,
        "version": instrument.version,
    }


def _levels(levels: list[Level]) -> list[list[str]]:
    return [[to_text(level.price), to_text(level.quantity)] for level in levels]
