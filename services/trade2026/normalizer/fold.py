"""A stack's ticks folded into bars, gaps and quality, venue by venue.

Pure: the only time is that of the records, so that the same log makes the same bars whenever it is read. A bar that
no later trade of its instrument closes is closed by the next tick of any other.
"""

from collections.abc import Iterable

import msgspec

from trade2026.domain.events import Envelope
from trade2026.domain.instruments import Instrument
from trade2026.domain.market import Bar, Trade
from trade2026.normalizer.machine import Normalizer, Output, Rules
from trade2026.normalizer.raw import PaperTrade
from trade2026.normalizer.sequence import Gap

GAPS_MAX = 1_000
"""Gaps that are remembered for each instrument; the oldest is forgotten first."""
_ADVANCE_NS = 100_000_000


class FoldState(msgspec.Struct):
    """What a fold remembers."""

    next_seq: int
    last_bar_seq: int
    advanced: int
    venues: dict[str, msgspec.Raw]
    gaps: dict[str, list[Gap]]


_decode = msgspec.json.Decoder(FoldState).decode


class TickFold:
    """Folds `market.ticks` as the gateway writes them."""

    def __init__(self, instruments: Iterable[Instrument], rules: Rules) -> None:
        by_venue: dict[str, list[Instrument]] = {}
        for instrument in instruments:
            by_venue.setdefault(instrument.venue, []).append(instrument)
        self.venues = {venue: Normalizer(listed, rules) for venue, listed in by_venue.items()}
        self.next_seq = 0
        """Position of the next record."""
        self.last_bar_seq = -1
        """Position of the newest record that completed a bar; -1 before the first."""
        self.gaps: dict[str, list[Gap]] = {}
        """By instrument, oldest first."""
        self.unknown = 0
        """Ticks of a venue that the stack does not list."""
        self._advanced = 0

    def apply(self, envelope: Envelope, seq: int) -> list[Bar]:
        """Fold the next record; return the bars that are complete by it."""
        trade, now = envelope.data, envelope.ts_init
        assert isinstance(trade, Trade)
        self.next_seq = seq + 1
        machine = self.venues.get(trade.instrument.rpartition(".")[2])
        said: list[Output] = []
        if machine is None:
            self.unknown += 1
        else:
            said += machine.on_trade(now, PaperTrade(envelope.ts_event, trade))
        if now - self._advanced >= _ADVANCE_NS:
            self._advanced = now
            for other in self.venues.values():
                said += other.advance(now)
        bars: list[Bar] = []
        for item in said:
            if isinstance(item, Bar):
                bars.append(item)
            elif isinstance(item, Gap):
                self._remember(item)
        if bars:
            self.last_bar_seq = seq
        return bars

    def is_uncertain(self, bar: Bar) -> bool:
        """Whether a bar may not be that of the complete market."""
        gaps = self.gaps.get(bar.instrument, ())
        return bool(bar.missing or bar.shifted) or any(
            gap.ts_from <= bar.ts_close and bar.ts_open <= gap.ts_to for gap in gaps
        )

    def snapshot(self) -> bytes:
        """Everything that is remembered."""
        venues = {name: msgspec.Raw(machine.snapshot()) for name, machine in self.venues.items()}
        return msgspec.json.encode(FoldState(self.next_seq, self.last_bar_seq, self._advanced, venues, self.gaps))

    def restore(self, snapshot: bytes) -> None:
        """Go on from a snapshot.

        Raises:
            msgspec.MsgspecError: it is none of such a fold.
        """
        state = _decode(snapshot)
        for name, saved in state.venues.items():
            if name in self.venues:
                self.venues[name].restore(bytes(saved))
        self.next_seq, self.last_bar_seq = state.next_seq, state.last_bar_seq
        self._advanced, self.gaps = state.advanced, state.gaps

    def _remember(self, gap: Gap) -> None:
        gaps = self.gaps.setdefault(gap.instrument, [])
        gaps.append(gap)
        del gaps[:-GAPS_MAX]
