"""Bars of time, trades, quantity or value, whatever order the trades arrive in.

A `Sequencer` puts trades back into their order and drops what came twice; a `BarBuilder` folds an ordered
stream into bars. `Bars` is both, for one instrument and any number of intervals. Pure: time comes with the
trades and with `advance`, and everything can be saved and restored.
"""

import heapq
import re
from collections import deque
from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from trade2026.domain.market import Bar, Trade
from trade2026.domain.numbers import SCALE, NumberError, cost_of, to_nanos, to_text

SEEN_MAX = 4_096
"""Trades whose numbers are remembered, to know them when they come again."""
HELD_MAX = 100_000
"""Trades that may wait for earlier ones; beyond it the oldest goes on."""

_UNITS_NS = {"ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3_600 * 10**9, "d": 86_400 * 10**9}
_INTERVAL = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|tick|volume|dollar)", re.ASCII).fullmatch

Kind = Literal["time", "tick", "volume", "dollar"]


class BarSpec(msgspec.Struct, frozen=True):
    """When a bar ends. `size` is nanoseconds, trades, nanos of quantity, or nanos of value."""

    kind: Kind
    size: int
    name: str

    @classmethod
    def parse(cls, text: str) -> "BarSpec":
        """Read `250ms`, `5s`, `1m`, `4h`, `1d`, `100tick`, `10volume` or `50000dollar`.

        Raises:
            ValueError: it is none of them; the message says how one is written.
        """
        match = _INTERVAL(text)
        if match is None:
            raise ValueError(f"{text!r} is no bar: write 1m, 5s, 100tick, 10volume or 50000dollar")
        number, unit = match.groups()
        try:
            nanos = to_nanos(number)
        except NumberError as error:
            raise ValueError(f"{text!r} is no bar: {error}") from error
        kind: Kind = "time" if unit in _UNITS_NS else unit  # type: ignore[assignment]
        if kind == "time":
            size = nanos * _UNITS_NS[unit] // SCALE
        elif kind == "tick":
            if nanos % SCALE:
                raise ValueError(f"{text!r} is no bar: a number of trades is whole")
            size = nanos // SCALE
        else:
            size = nanos
        if not size:
            raise ValueError(f"{text!r} is no bar: its size is nothing")
        return cls(kind, size, to_text(nanos) + unit)


class SequencerState(msgspec.Struct):
    """What a sequencer remembers."""

    watermark: int = 0
    """The newest time seen (ns)."""
    released: tuple[int, int] = (-1, -1)
    """Time and venue number of the last trade that went on."""
    held: list[tuple[int, int, Trade]] = []
    seen: list[str] = []
    doubled: int = 0
    late: int = 0
    """Trades that came after later ones had gone on: they are in no bar."""


class Sequencer:
    """The trades of one instrument in the order (time, venue number), each once.

    Args:
        lateness_ns: How long a trade waits for earlier ones. With 0 it goes on at once.
    """

    def __init__(self, lateness_ns: int = 0, state: SequencerState | None = None) -> None:
        self.lateness_ns = lateness_ns
        self.state = state or SequencerState()
        self._seen: deque[str] = deque(self.state.seen, SEEN_MAX)
        self._known = set(self._seen)

    def add(self, ts: int, trade: Trade) -> list[tuple[int, Trade]]:
        """Take a trade that happened at `ts` (ns); return the trades that go on now, in order."""
        state = self.state
        name = trade.trade_id or f"#{trade.venue_seq}"
        if name in self._known:
            state.doubled += 1
            return []
        if len(self._seen) == SEEN_MAX:
            self._known.discard(self._seen[0])
        self._seen.append(name)
        self._known.add(name)
        if (ts, trade.venue_seq) < state.released:
            state.late += 1
            return []
        if not self.lateness_ns and not state.held:
            state.watermark = max(state.watermark, ts)
            state.released = (ts, trade.venue_seq)
            return [(ts, trade)]
        heapq.heappush(state.held, (ts, trade.venue_seq, trade))
        return self.advance(ts)

    def advance(self, ts: int) -> list[tuple[int, Trade]]:
        """It is `ts` (ns) now: return the trades that need wait no longer."""
        state = self.state
        state.watermark = max(state.watermark, ts)
        released: list[tuple[int, Trade]] = []
        until = state.watermark - self.lateness_ns
        while state.held and (state.held[0][0] <= until or len(state.held) > HELD_MAX):
            at, number, trade = heapq.heappop(state.held)
            state.released = (at, number)
            released.append((at, trade))
        return released

    def save(self) -> SequencerState:
        """What `Sequencer(lateness_ns, state)` goes on from."""
        self.state.seen = list(self._seen)
        return self.state


class BuilderState(msgspec.Struct):
    """The bar that is under way; `trades` is 0 before its first trade."""

    ts_open: int = 0
    ts_last: int = 0
    open: int = 0
    high: int = 0
    low: int = 0
    close: int = 0
    volume: int = 0
    value: int = 0
    trades: int = 0
    missing: int = 0
    last_number: int = -1
    """Venue number of the last trade, to know what is missing."""
    counted: int = 0
    """Trades that the venue made since a tick bar began, with those that are missing."""
    shifted: int = 0
    """Trades missing before the bar since its session began, by which it may begin elsewhere."""


class BarBuilder:
    """Folds an ordered stream of trades into bars; a trade is never cut in two.

    A tick bar counts the trades that are missing, so that the bars after a gap are those of the complete
    market again. How much a missing trade bought or sold is not known: bars of quantity and value say that they
    are `shifted`, until the next session begins.

    Args:
        session_ns: Bars of trades, quantity and value begin anew with each such span since the epoch; 0: never.
    """

    def __init__(
        self,
        instrument: str,
        spec: BarSpec,
        multiplier: int = SCALE,
        state: BuilderState | None = None,
        *,
        session_ns: int = 0,
    ) -> None:
        self.instrument, self.spec, self.multiplier = instrument, spec, multiplier
        self.session_ns = 0 if spec.kind == "time" else session_ns
        self.state = state or BuilderState()

    def add(self, ts: int, trade: Trade) -> list[Bar]:
        """Take the next trade; return the bars that are complete now: at most one before it and one with it."""
        closed, missing = self._end_before(ts, trade.venue_seq)
        state, spec = self.state, self.spec
        if not state.trades:
            state.ts_open = ts - ts % spec.size if spec.kind == "time" else ts
            state.open = state.high = state.low = trade.price
        state.high, state.low = max(state.high, trade.price), min(state.low, trade.price)
        state.close, state.ts_last, state.last_number = trade.price, ts, trade.venue_seq
        state.volume += trade.quantity
        state.value += cost_of(trade.price, trade.quantity, self.multiplier)
        state.trades += 1
        state.counted += 1
        state.missing += missing
        if self._is_full():
            closed.append(self._close())
        return closed

    def skip(self, ts: int, number: int) -> list[Bar]:
        """The venue made a trade of this number that is to be in no bar: count it as missing where it would be."""
        closed, missing = self._end_before(ts, number)
        state = self.state
        state.missing += missing + 1
        state.counted += 1
        state.ts_last, state.last_number = ts, number
        if self.spec.kind == "tick" and state.counted >= self.spec.size:
            if state.trades:
                closed.append(self._close())
            state.counted = 0
        return closed

    def _end_before(self, ts: int, number: int) -> tuple[list[Bar], int]:
        """End the bar that is over before the trade at `ts`; return it, and how many trades are missing before."""
        last = self.state.last_number
        missing = number - last - 1 if number and 0 <= last < number else 0
        closed = self.advance(ts) if self.spec.kind == "time" else self._end_uncounted(ts, missing)
        return closed, missing

    def _end_uncounted(self, ts: int, missing: int) -> list[Bar]:
        """End the bar that is over because a session began, or because of trades that never came."""
        state, spec, session_ns = self.state, self.spec, self.session_ns
        closed: list[Bar] = []
        if session_ns and state.ts_last and ts // session_ns != state.ts_last // session_ns:
            if state.trades:
                closed.append(self._close())
            self.state = BuilderState(last_number=state.last_number)
            if missing:  # made in this session or in the one before: nobody knows
                self.state.shifted = missing
        elif missing and spec.kind == "tick":
            counted = state.counted + missing
            if counted >= spec.size and state.trades:
                closed.append(self._close())
            self.state.counted = counted % spec.size if counted >= spec.size else counted
        return closed

    def restart(self) -> None:
        """The venue numbers anew, and nobody knows what is missing."""
        self.state.last_number = -1
        if self.spec.kind != "time":
            self.state.shifted += 1

    def advance(self, ts: int) -> list[Bar]:
        """No trade before `ts` (ns) will come any more: return the time bar that ends by then, if one is open."""
        state, spec = self.state, self.spec
        over = spec.kind == "time" and state.trades and ts >= state.ts_open + spec.size
        return [self._close()] if over else []

    def _is_full(self) -> bool:
        state, spec = self.state, self.spec
        if spec.kind == "tick":
            return state.counted >= spec.size
        if spec.kind == "volume":
            return state.volume >= spec.size
        return spec.kind == "dollar" and state.value >= spec.size * SCALE

    def _close(self) -> Bar:
        state, spec = self.state, self.spec
        end = state.ts_open + spec.size if spec.kind == "time" else state.ts_last
        bar = Bar(
            self.instrument,
            spec.name,
            state.ts_open,
            end,
            state.open,
            state.high,
            state.low,
            state.close,
            state.volume,
            state.value,
            state.trades,
            state.missing,
            state.shifted,
        )
        shifted = 0 if spec.kind == "time" else state.shifted + (0 if spec.kind == "tick" else state.missing)
        self.state = BuilderState(ts_last=state.ts_last, last_number=state.last_number, shifted=shifted)
        return bar


class BarsState(msgspec.Struct):
    """What `Bars` remembers; `builders` by interval."""

    sequencer: SequencerState
    builders: dict[str, BuilderState]


class Bars:
    """Every kind of bar that somebody wants of one instrument."""

    def __init__(
        self,
        instrument: str,
        intervals: Iterable[str],
        *,
        multiplier: int = SCALE,
        lateness_ns: int = 0,
        session_ns: int = 0,
        state: BarsState | None = None,
    ) -> None:
        self.sequencer = Sequencer(lateness_ns, state.sequencer if state else None)
        self.builders = {
            spec.name: BarBuilder(
                instrument,
                spec,
                multiplier,
                state.builders.get(spec.name) if state else None,
                session_ns=session_ns,
            )
            for spec in map(BarSpec.parse, intervals)
        }

    def on_trade(self, ts: int, trade: Trade) -> list[Bar]:
        """Take a trade that happened at `ts` (ns); return the bars that are complete now."""
        return self._fold(self.sequencer.add(ts, trade))

    def advance(self, ts: int) -> list[Bar]:
        """It is `ts` (ns) now: return the bars that are complete."""
        closed = self._fold(self.sequencer.advance(ts))
        until = ts - self.sequencer.lateness_ns
        for builder in self.builders.values():
            closed += builder.advance(until)
        return closed

    @property
    def next_end(self) -> int:
        """When the next time bar that is open can be closed (ns); 0 if none is."""
        ends = [
            builder.state.ts_open + builder.spec.size + self.sequencer.lateness_ns
            for builder in self.builders.values()
            if builder.spec.kind == "time" and builder.state.trades
        ]
        return min(ends, default=0)

    def save(self) -> BarsState:
        """What `Bars(..., state=)` goes on from."""
        return BarsState(self.sequencer.save(), {name: builder.state for name, builder in self.builders.items()})

    def _fold(self, trades: list[tuple[int, Trade]]) -> list[Bar]:
        closed: list[Bar] = []
        for ts, trade in trades:
            for builder in self.builders.values():
                closed += builder.add(ts, trade)
        return closed


def read_state(saved: Any) -> BarsState:
    """Return a state from the plain values that `msgspec.to_builtins` made of it."""
    return msgspec.convert(saved, BarsState)
