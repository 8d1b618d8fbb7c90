"""A plausible book around the last print: the recording has trades only.

The spread follows how far the price has moved from trade to trade lately, the sizes follow recent trade
sizes. What varies is drawn from a hash of the trade's id and the seed, so the same trades always make
the same books.
"""

import xxhash

from trade2026.domain.instruments import Instrument
from trade2026.domain.market import Book, Level, Trade
from trade2026.domain.numbers import BPS

LEVELS = 10
_HALF_SPREAD_BPS_MAX = 5
_MEMORY = 16
"""Trades over which the averages forget."""
_QUANTITY_TIMES_MAX = 8
"""A trade counts at most this many times the average size: one whale does not make a deep book."""
_MULTIPLIER, _INCREMENT, _MASK = 6_364_136_223_846_793_005, 1_442_695_040_888_963_407, (1 << 64) - 1


class BookModel:
    """The book of one instrument."""

    def __init__(self, instrument: Instrument, seed: int) -> None:
        self.instrument, self.seed = instrument, seed
        self.last: Trade | None = None
        self._move = 0
        self._quantity = 0

    def on_trade(self, trade: Trade) -> None:
        """Hear of a print."""
        if self.last is None:
            self._move, self._quantity = trade.price * 2 // BPS, trade.quantity
        else:
            self._move += (abs(trade.price - self.last.price) - self._move) // _MEMORY
            counted = min(trade.quantity, _QUANTITY_TIMES_MAX * max(self._quantity, self.instrument.lot_size))
            self._quantity += (counted - self._quantity) // _MEMORY
        self.last = trade

    def book(self) -> Book:
        """The book after the last print; ask only after the first one."""
        trade = self.last
        assert trade is not None, "a book needs a print"
        tick = self.instrument.tick_size
        half = max(tick, min(self._move // 4, trade.price * _HALF_SPREAD_BPS_MAX // BPS))
        draws = _Draws(xxhash.xxh64_intdigest(trade.trade_id.encode(), self.seed & _MASK))
        bid = (trade.price - half) // tick * tick
        ask = -(-(trade.price + half) // tick) * tick
        return Book(
            trade.instrument,
            self._side(bid, -1, half, draws),
            self._side(ask, 1, half, draws),
            trade.venue_seq,
            ts_source=trade.ts_source,
        )

    def _side(self, price: int, direction: int, half: int, draws: "_Draws") -> list[Level]:
        tick, lot = self.instrument.tick_size, self.instrument.lot_size
        levels: list[Level] = []
        for depth in range(LEVELS):
            if price <= 0:
                break
            quantity = self._quantity * (64 + draws.byte()) * (4 + depth) // 512
            levels.append(Level(price, max(lot, quantity // lot * lot)))
            step = half * (64 + draws.byte()) // 256
            price += direction * max(tick, step // tick * tick)
        return levels


class _Draws:
    """Bytes that follow from a number."""

    def __init__(self, state: int) -> None:
        self._state = state

    def byte(self) -> int:
        self._state = (self._state * _MULTIPLIER + _INCREMENT) & _MASK
        return self._state >> 56
