"""What a line does to messages, from a seed; and the bars of a market as one would write them down by hand."""

import random
from bisect import bisect_right
from dataclasses import dataclass

import msgspec

from trade2026.domain.instruments import Instrument
from trade2026.domain.market import Bar, Trade
from trade2026.domain.numbers import SCALE
from trade2026.marketdata.bars import BarSpec
from trade2026.normalizer.machine import Normalizer, Output, Rules, Tick
from trade2026.normalizer.raw import PaperTrade
from trade2026.normalizer.sequence import Gap

SECOND = 10**9
END = 10**20
INSTRUMENT = Instrument(symbol="BTCUSD", venue="B", base="BTC", quote="USD", settlement="USD", tick_size=1, lot_size=1)
Market = list[tuple[int, Trade]]
Arrival = tuple[int, int, Trade]
"""When it comes, when it was made (ns), what it is."""


@dataclass(frozen=True)
class Faults:
    """The share of messages to which each thing happens; delays are at most `delay_ns`."""

    drop: float = 0.0
    double: float = 0.0
    delay: float = 0.0
    bad: float = 0.0
    delay_ns: int = 0
    spared: int = 30
    """The first so many arrive as they are, and the last: nobody can miss what came before and after all others."""


def sent(market: Market, faults: Faults, seed: int) -> list[Arrival]:
    """The messages of a market as they arrive."""
    dice, arrivals = random.Random(seed), []
    for place, (ts, trade) in enumerate(market):
        came = ts
        if faults.spared <= place < len(market) - 1:
            if dice.random() < faults.drop:
                continue
            if dice.random() < faults.bad:
                trade = msgspec.structs.replace(
                    trade, price=trade.price * dice.choice((10, 100)) // dice.choice((1, 1000))
                )
            if dice.random() < faults.delay:
                came += dice.randrange(faults.delay_ns + 1)
            if dice.random() < faults.double:
                arrivals.append((came + dice.randrange(faults.delay_ns + 1), ts, trade))
        arrivals.append((came, ts, trade))
    return sorted(arrivals, key=lambda arrival: arrival[0])


def normalized(arrivals: list[Arrival], rules: Rules) -> list[Output]:
    """What the normalizer says of messages until nothing waits any more."""
    machine = Normalizer([INSTRUMENT], rules)
    said = [output for now, ts, trade in arrivals for output in machine.on_trade(now, PaperTrade(ts, trade))]
    return said + machine.advance(END)


def bars_by_hand(market: Market, interval: str, session_ns: int) -> list[Bar]:
    """The complete bars of a complete market, without a word about efficiency."""
    spec, groups = BarSpec.parse(interval), [[]]  # type: ignore[var-annotated]
    for ts, trade in market:
        group = groups[-1]
        if group and spec.kind == "time":
            is_next = ts // spec.size != group[0][0] // spec.size
        elif group:
            is_full = {
                "tick": len(group),
                "volume": sum(each.quantity for _, each in group),
                "dollar": sum(each.price * each.quantity for _, each in group) // SCALE,
            }[spec.kind] >= spec.size
            is_next = is_full or (bool(session_ns) and ts // session_ns != group[-1][0] // session_ns)
        else:
            is_next = False
        if is_next:
            groups.append([])
        groups[-1].append((ts, trade))
    return [_bar(group, spec) for group in groups if group]


def _bar(group: Market, spec: BarSpec) -> Bar:
    (begin, first), (end, last) = group[0], group[-1]
    if spec.kind == "time":
        begin -= begin % spec.size
        end = begin + spec.size
    prices = [trade.price for _, trade in group]
    return Bar(
        INSTRUMENT.instrument_id,
        spec.name,
        begin,
        end,
        first.price,
        max(prices),
        min(prices),
        last.price,
        sum(trade.quantity for _, trade in group),
        sum(trade.price * trade.quantity for _, trade in group),
        len(group),
    )


class Doubts:
    """What the normalizer itself says may not be that of the complete market."""

    def __init__(self, said: list[Output]) -> None:
        times = [(gap.ts_from, gap.ts_to) for gap in said if isinstance(gap, Gap)]
        self._gaps = _merged(times)
        self._all = _merged(times + [(tick.ts, tick.ts) for tick in said if isinstance(tick, Tick) and tick.mark])
        self._bars = {(bar.interval, bar.ts_open, bar.ts_close): bar for bar in said if isinstance(bar, Bar)}
        self._moved: dict[str, list[tuple[int, int]]] = {}
        for interval in {bar.interval for bar in self._bars.values() if bar.shifted}:
            moved = [
                (bar.ts_open, bar.ts_close) for bar in self._bars.values() if bar.interval == interval and bar.shifted
            ]
            self._moved[interval] = _merged(moved)

    def of(self, bar: Bar) -> bool:
        """Whether it says so of a bar of its own."""
        return bool(bar.missing or bar.shifted) or _touches(self._gaps, bar)

    def about(self, bar: Bar) -> bool:
        """Whether it says why a bar of the complete market is not there as it was."""
        own = self._bars.get((bar.interval, bar.ts_open, bar.ts_close), bar)
        return bool(own.missing) or _touches(self._all, bar) or _touches(self._moved.get(bar.interval, []), bar)


def _merged(times: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(times):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


def _touches(times: list[tuple[int, int]], bar: Bar) -> bool:
    place = bisect_right(times, (bar.ts_close, END))
    return place > 0 and times[place - 1][1] >= bar.ts_open
