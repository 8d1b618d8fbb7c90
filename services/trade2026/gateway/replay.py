"""Recorded trades on the stack's clock: restamped, at any speed, for ever, and from where they stopped.

Pure: time comes in as an argument. A replay is at a `position`, which counts trades over all loops; the
trade at a position is always the same one with the same id, whatever the speed.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from typing import Any

from trade2026.domain.instruments import Instrument
from trade2026.domain.market import Trade
from trade2026.kit.views import time_text

_SECOND = 1_000_000_000
LATE_NS_MAX = 2 * _SECOND
"""A replay that is further behind than this (the machine slept) goes on from now instead of catching up."""


@dataclass(frozen=True)
class Recording:
    """Trades as they were recorded, in their order. `name` begins the id of every trade."""

    name: str
    seconds: Sequence[int]
    """Since the epoch."""
    prices: Sequence[int]
    """Nanos."""
    quantities: Sequence[int]
    """Nanos, above zero."""

    def __len__(self) -> int:
        return len(self.seconds)

    def source_times(self) -> Sequence[int]:
        """When each trade happened (ns): the trades of one second are spread evenly over it."""
        times = array("q")
        for second, group in groupby(self.seconds):
            count = len(list(group))
            times.extend(second * _SECOND + k * _SECOND // count for k in range(count))
        return times


class Replay:
    """One instrument's trades.

    Args:
        recording: What is replayed.
        instrument: Whose trades they become; prices are rounded to its tick, quantities to its lot, and
            both are at least one of it.
        scale: Factor on prices.
        speed: Recorded seconds in one second of the stack.
        loop: Begin again at the end.
        gap_seconds_max: Longest time without a trade, in seconds of the stack.
    """

    def __init__(
        self,
        recording: Recording,
        instrument: Instrument,
        *,
        scale: Decimal = Decimal(1),
        speed: Decimal = Decimal(1),
        loop: bool = True,
        gap_seconds_max: float = 5.0,
    ) -> None:
        if scale <= 0 or speed < Decimal("0.001") or gap_seconds_max <= 0:
            raise ValueError("a replay needs a scale and a gap above zero, and a speed of at least 0.001")
        assert len(recording) > 0
        self.recording, self.instrument, self.speed, self.loop = recording, instrument, speed, loop
        self.position = 0
        """Of the next trade, counted over all loops."""
        self._size = len(recording)
        self._numerator, self._denominator = scale.as_integer_ratio()
        self._times = recording.source_times()
        self._offsets = self._stack_offsets(int(gap_seconds_max * _SECOND))
        self._loop_began = 0

    def _stack_offsets(self, gap_ns_max: int) -> Sequence[int]:
        """Nanoseconds of the stack from the first trade of a loop to each trade, and to the next loop."""
        per_mille = int(self.speed * 1000)
        offsets, at = array("q", [0]), 0
        for before, after in zip(self._times, self._times[1:], strict=False):
            at += min((after - before) * 1000 // per_mille, gap_ns_max)
            offsets.append(at)
        offsets.append(at + min(_SECOND * 1000 // per_mille, gap_ns_max))
        return offsets

    @property
    def finished(self) -> bool:
        """Whether everything was replayed and nothing will come any more."""
        return not self.loop and self.position >= self._size

    @property
    def next_due(self) -> int:
        """When the next trade is due (ns on the stack's clock)."""
        return self._loop_began + self._offsets[self.position % self._size]

    def start(self, now: int, position: int | None = None) -> None:
        """Go on from a position (this one if none is given), its trade being due now."""
        if position is not None:
            assert position >= 0
            self.position = position
        self._loop_began = now - self._offsets[self.position % self._size]

    def due(self, now: int, trades_max: int = 1_000) -> list[tuple[int, Trade]]:
        """Return the trades that are due, each with the time (ns) for which it was scheduled."""
        if now - self.next_due > LATE_NS_MAX:
            self.start(now)
        found: list[tuple[int, Trade]] = []
        while len(found) < trades_max and not self.finished and self.next_due <= now:
            found.append((self.next_due, self.trade_at(self.position)))
            self.position += 1
            if self.position % self._size == 0:
                self._loop_began += self._offsets[self._size]
        return found

    def trade_at(self, position: int) -> Trade:
        """The trade at a position."""
        loop, row = divmod(position, self._size)
        recording, tick, lot = self.recording, self.instrument.tick_size, self.instrument.lot_size
        step = self._denominator * tick
        price = (recording.prices[row] * self._numerator * 2 + step) // (2 * step) * tick
        quantity = recording.quantities[row] // lot * lot
        return Trade(
            self.instrument.instrument_id,
            f"{recording.name}-{loop}-{row}",
            max(price, tick),
            max(quantity, lot),
            venue_seq=position,
            ts_source=self._times[row],
        )

    def position_of(self, trade_id: str) -> int | None:
        """The position of one of our trades; None for an id that another recording gave."""
        name, _, rest = trade_id.rpartition("-")
        name, _, loop = name.rpartition("-")
        if name != self.recording.name or not loop.isdigit() or not rest.isdigit() or int(rest) >= self._size:
            return None
        return int(loop) * self._size + int(rest)

    @property
    def source_time(self) -> int:
        """When the next trade was recorded (ns)."""
        return self._times[min(self.position, self._size - 1) if not self.loop else self.position % self._size]

    def describe(self) -> dict[str, Any]:
        """What it is and where, for a person."""
        loop, row = divmod(self.position, self._size)
        return {
            "symbol": self.instrument.instrument_id,
            "type": "replay",
            "position": self.position,
            "loop": loop,
            "row": row,
            "rows": self._size,
            "progress": f"{100 * row / self._size:.2f}%",
            "speed": str(self.speed),
            "looping": self.loop,
            "finished": self.finished,
            "source_time": time_text(self.source_time),
        }
