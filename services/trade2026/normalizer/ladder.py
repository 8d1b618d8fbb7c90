"""Bars of many intervals at the price of a few: the longer time bars are folded from the shorter. Pure."""

from collections.abc import Iterable, Sequence

import msgspec

from trade2026.domain.market import Bar, Trade
from trade2026.domain.numbers import SCALE
from trade2026.marketdata.bars import BarBuilder, BarSpec, BuilderState

INTERVALS_MAX = 32


class Rung:
    """A time bar whose parts are the bars of a shorter interval, which divides it."""

    def __init__(self, spec: BarSpec, part: str) -> None:
        self.spec, self.part = spec, part
        self.bar: Bar | None = None
        self.missing: tuple[int, int] = (0, 0)
        """Where the next bar may begin, and how many trades are missing there already."""

    def add(self, part: Bar) -> list[Bar]:
        """Take the next part; return the bar that is complete before it, or with it."""
        bar, size = self.bar, self.spec.size
        closed = self.advance(part.ts_open) if bar is not None else []
        bar = self.bar
        if bar is None:
            begin = part.ts_open - part.ts_open % size
            missing = part.missing + (self.missing[1] if self.missing[0] == begin else 0)
            self.bar = msgspec.structs.replace(
                part, interval=self.spec.name, ts_open=begin, ts_close=begin + size, missing=missing
            )
        else:
            self.bar = Bar(
                bar.instrument,
                bar.interval,
                bar.ts_open,
                bar.ts_close,
                bar.open,
                max(bar.high, part.high),
                min(bar.low, part.low),
                part.close,
                bar.volume + part.volume,
                bar.value + part.value,
                bar.trades + part.trades,
                bar.missing + part.missing,
            )
        return closed + self.advance(part.ts_close)

    def skip(self, ts: int) -> list[Bar]:
        """A trade is missing at `ts` (ns), in a part that has no other trade yet and may never be a bar."""
        closed = self.advance(ts)
        if self.bar is not None:
            self.bar = msgspec.structs.replace(self.bar, missing=self.bar.missing + 1)
        else:
            begin = ts - ts % self.spec.size
            self.missing = (begin, 1 + (self.missing[1] if self.missing[0] == begin else 0))
        return closed

    def advance(self, ts: int) -> list[Bar]:
        """No trade before `ts` (ns) will come any more: return the bar if it ends by then."""
        if self.bar is None or ts < self.bar.ts_close:
            return []
        bar, self.bar = self.bar, None
        return [bar]


class LadderState(msgspec.Struct):
    """What a ladder remembers, by interval."""

    builders: dict[str, BuilderState]
    rungs: dict[str, tuple[Bar | None, tuple[int, int]]]


class Ladder:
    """Every kind of bar of one instrument, from trades in order.

    Args:
        intervals: As `BarSpec` reads them.
        session_ns: Bars of trades, quantity and value begin anew with each such span.

    Raises:
        ValueError: no interval, one that is none, or too many.
    """

    def __init__(
        self,
        instrument: str,
        intervals: Iterable[str],
        *,
        multiplier: int = SCALE,
        session_ns: int = 0,
        state: LadderState | None = None,
    ) -> None:
        specs = {spec.name: spec for spec in map(BarSpec.parse, intervals)}
        if not 1 <= len(specs) <= INTERVALS_MAX:
            raise ValueError(f"bars have 1 to {INTERVALS_MAX} intervals, not {len(specs)}")
        self.builders: list[BarBuilder] = []
        self.rungs: list[Rung] = []
        times = sorted((spec for spec in specs.values() if spec.kind == "time"), key=lambda spec: spec.size)
        for place, spec in enumerate(times):
            part = next((other for other in reversed(times[:place]) if spec.size % other.size == 0), None)
            if part is not None:
                rung = Rung(spec, part.name)
                if state and spec.name in state.rungs:
                    rung.bar, rung.missing = state.rungs[spec.name]
                self.rungs.append(rung)
        folded = {rung.spec.name for rung in self.rungs}
        for spec in specs.values():
            if spec.name not in folded:
                saved = state.builders.get(spec.name) if state else None
                self.builders.append(BarBuilder(instrument, spec, multiplier, saved, session_ns=session_ns))
        self._add = [builder.add for builder in self.builders]

    def add(self, ts: int, trade: Trade) -> list[Bar]:
        """Take the next trade; return the bars that are complete now."""
        closed: list[Bar] = []
        for add in self._add:
            if bars := add(ts, trade):
                closed += bars
        return self._climb(closed, ts) if closed else closed

    def skip(self, ts: int, number: int) -> list[Bar]:
        """The venue made a trade that is to be in no bar: count it as missing where it would be."""
        closed: list[Bar] = []
        for builder in self.builders:
            closed += builder.skip(ts, number)
        found = self._climb(closed, ts)
        alone = {builder.spec.name for builder in self.builders if not builder.state.trades}
        for rung in self.rungs:
            if rung.part in alone:
                alone.add(rung.spec.name)
                found += rung.skip(ts)
        return found

    def advance(self, ts: int) -> list[Bar]:
        """No trade before `ts` (ns) will come any more: return the time bars that end by then."""
        closed: list[Bar] = []
        for builder in self.builders:
            closed += builder.advance(ts)
        return self._climb(closed, ts)

    @property
    def next_end(self) -> int:
        """When the first open time bar ends (ns); 0 if none is open."""
        ends = [each.state.ts_open + each.spec.size for each in self.builders if _is_open(each)]
        ends += [rung.bar.ts_close for rung in self.rungs if rung.bar is not None]
        return min(ends, default=0)

    def restart(self) -> None:
        """The venue numbers anew, and nobody knows what is missing."""
        for builder in self.builders:
            builder.restart()

    def save(self) -> LadderState:
        """What `Ladder(..., state=)` goes on from."""
        return LadderState(
            {builder.spec.name: builder.state for builder in self.builders},
            {rung.spec.name: (rung.bar, rung.missing) for rung in self.rungs},
        )

    def _climb(self, closed: Sequence[Bar], ts: int) -> list[Bar]:
        found = list(closed)
        for rung in self.rungs:  # shorter ones first: what they complete is part of the longer ones
            for part in [bar for bar in found if bar.interval == rung.part]:
                found += rung.add(part)
            found += rung.advance(ts)
        return found


def _is_open(builder: BarBuilder) -> bool:
    return builder.spec.kind == "time" and builder.state.trades > 0
