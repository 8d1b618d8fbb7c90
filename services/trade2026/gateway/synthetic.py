"""A market that never was: trades drawn from a seed, the same at the same position for ever.

Pure: time comes in as an argument. The price is a sum of noises, each half as fast and √2 as large as the one
before, as far as the slowest turns within some hours: from trade to trade it walks like a market, and over days
it stays around where it began. Any position can be asked for without those before it, so a restart costs nothing.
"""

from math import isqrt
from typing import Any

import xxhash

from trade2026.domain.instruments import Instrument
from trade2026.domain.market import Trade
from trade2026.domain.numbers import BPS, SCALE, to_text

_SECOND = 1_000_000_000
_OCTAVES = 18
"""The slowest noise turns every 2¹⁷ trades."""
_UNIT = 1 << 15
_LATE_NS_MAX = 2 * _SECOND
_QUANTITY_DOUBLINGS_MAX = 6


class Synthetic:
    """One instrument's trades.

    Args:
        instrument: Whose trades they are; prices are on its tick, quantities on its lot.
        price: Around which it moves, nanos.
        trades_per_second: On average; the times between trades vary.
        volatility_bps: How far one trade typically is from the one before, basis points.
        quantity: Of a usual trade, nanos; a few are many times as large.
    """

    def __init__(
        self,
        instrument: Instrument,
        *,
        seed: int,
        price: int,
        trades_per_second: float = 10.0,
        volatility_bps: float = 1.0,
        quantity: int = SCALE // 10,
    ) -> None:
        if price < instrument.tick_size or quantity <= 0:
            raise ValueError("price is at least a tick, quantity above zero")
        if not 0.001 <= trades_per_second <= 1_000:
            raise ValueError(f"trades_per_second is 0.001 to 1000, not {trades_per_second:g}")
        if not 0 <= volatility_bps <= 5:
            raise ValueError(f"volatility_bps is 0 to 5, not {volatility_bps:g}")
        self.instrument, self.seed = instrument, seed
        self.position = 0
        """Of the next trade."""
        self._price, self._quantity = price, quantity
        self._interval = int(_SECOND / trades_per_second)
        self._rate = trades_per_second
        self._amplitudes = [int(volatility_bps * SCALE) * isqrt(10**6 << octave) // 1000 for octave in range(_OCTAVES)]
        self._began = 0
        # An instrument of the same stack must not move in step with another.
        self._seed = xxhash.xxh64_intdigest(instrument.instrument_id.encode(), seed & (1 << 64) - 1)

    finished = False
    """It never ends."""

    @property
    def next_due(self) -> int:
        """When the next trade is due (ns on the stack's clock)."""
        return self._began + self._offset(self.position)

    def start(self, now: int, position: int | None = None) -> None:
        """Go on from a position (this one if none is given), its trade being due now."""
        if position is not None:
            assert position >= 0
            self.position = position
        self._began = now - self._offset(self.position)

    def due(self, now: int, trades_max: int = 1_000) -> list[tuple[int, Trade]]:
        """Return the trades that are due, each with the time (ns) for which it was scheduled."""
        if now - self.next_due > _LATE_NS_MAX:
            self.start(now)
        found: list[tuple[int, Trade]] = []
        while len(found) < trades_max and (due := self.next_due) <= now:
            found.append((due, self.trade_at(self.position)))
            self.position += 1
        return found

    def trade_at(self, position: int) -> Trade:
        """The trade at a position."""
        tick, lot = self.instrument.tick_size, self.instrument.lot_size
        draw = self._draw(_OCTAVES, position)
        buys = draw & 1 == 1
        price = self._price + self._price * self._noise(position) // (BPS * SCALE)
        price = max(tick, price // tick * tick + (tick if buys else 0))
        doublings = min(_QUANTITY_DOUBLINGS_MAX, 63 - (draw >> 1 | 1).bit_length())
        quantity = (self._quantity * (64 + (draw >> 1 & 0xFF)) // 192) << doublings
        return Trade(
            self.instrument.instrument_id,
            f"s{self.seed}-{position}",
            price,
            max(lot, quantity // lot * lot),
            "BUY" if buys else "SELL",
            venue_seq=position,
        )

    def position_of(self, trade_id: str) -> int | None:
        """The position of one of our trades; None for an id that another source gave."""
        name, _, position = trade_id.rpartition("-")
        return int(position) if name == f"s{self.seed}" and position.isdigit() else None

    def describe(self) -> dict[str, Any]:
        """What it is and where, for a person."""
        return {
            "symbol": self.instrument.instrument_id,
            "type": "synthetic",
            "position": self.position,
            "seed": self.seed,
            "price": to_text(self._price),
            "trades_per_second": self._rate,
            "finished": False,
        }

    def _offset(self, position: int) -> int:
        """Nanoseconds from the first trade: regular, and up to half an interval late."""
        jitter = self._draw(_OCTAVES + 1, position) & 0xFFFF
        return position * self._interval + self._interval * jitter // (2 << 16)

    def _noise(self, position: int) -> int:
        """How far the price is from where it began, in 10⁻⁹ basis points."""
        total = 0
        for octave, amplitude in enumerate(self._amplitudes):
            node, part = position >> octave, position & (1 << octave) - 1
            value = self._node(octave, node)
            if part:
                value += (self._node(octave, node + 1) - value) * part >> octave
            total += amplitude * value // _UNIT
        return total

    def _node(self, octave: int, node: int) -> int:
        return (self._draw(octave, node) & 0xFFFF) - _UNIT

    def _draw(self, kind: int, number: int) -> int:
        return xxhash.xxh64_intdigest(number.to_bytes(8, "little") + bytes((kind,)), self._seed)
