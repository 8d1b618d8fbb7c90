"""What the venues of a stack say, folded into its market: ticks, books and bars, and how good they are.

Pure: the only time is that of the messages, so that the same log makes the same market whenever it is read. Where
nothing trades, heartbeats say that time has passed.
"""

from collections.abc import Iterable, Mapping

import msgspec

from trade2026.domain.events import AnyEvent, Envelope
from trade2026.domain.instruments import Instrument
from trade2026.domain.market import Bar, Book, VenueMessage
from trade2026.normalizer.machine import Normalizer, Output, Rules, Tick
from trade2026.normalizer.sequence import Gap

TICKS, BOOKS, BARS = "market.ticks", "market.books", "market.bars"
GAPS_MAX = 1_000
"""Gaps that are remembered for each instrument; the oldest is forgotten first."""
_ADVANCE_NS = 100_000_000


class FoldState(msgspec.Struct):
    """What a fold remembers."""

    next_seq: int
    last_seqs: dict[str, int]
    epoch: int
    advanced: int
    venues: dict[str, msgspec.Raw]
    gaps: dict[str, list[Gap]]


_decode = msgspec.json.Decoder(FoldState).decode


class MarketFold:
    """Folds `market.raw`.

    Args:
        dialects: Type of each venue, which says how it speaks.
    """

    def __init__(self, instruments: Iterable[Instrument], rules: Rules, dialects: Mapping[str, str]) -> None:
        by_venue: dict[str, list[Instrument]] = {}
        for instrument in instruments:
            by_venue.setdefault(instrument.venue, []).append(instrument)
        self.venues = {
            venue: Normalizer(listed, rules, _symbols(listed), dialects.get(venue, ""))
            for venue, listed in by_venue.items()
        }
        self.next_seq = 0
        """Position of the next record."""
        self.gaps: dict[str, list[Gap]] = {}
        """By instrument, oldest first."""
        self.unknown = 0
        """Messages of a venue that the stack does not list."""
        self._last_seqs: dict[str, int] = {}
        self._epoch = 0
        self._advanced = 0

    def apply(self, envelope: Envelope) -> list[tuple[int, AnyEvent]]:
        """Fold the next message; return what is certain by it, each with when it happened (ns)."""
        message, now = envelope.data, envelope.ts_init
        assert isinstance(message, VenueMessage)
        self.next_seq = envelope.seq + 1
        said: list[Output] = []
        if envelope.epoch != self._epoch:
            self._epoch = envelope.epoch
            for venue in self.venues.values():
                said += venue.resume()
        machine = self.venues.get(message.venue)
        if machine is None:
            self.unknown += 1
        else:
            said += machine.on_message(now, envelope.ts_event, message)
        if now - self._advanced >= _ADVANCE_NS:
            self._advanced = now
            for other in self.venues.values():
                said += other.advance(now)
        return self._tell(said, envelope) if said else []

    def last_seq(self, topic: str) -> int:
        """Position of the newest message from which something followed for a topic; -1 before the first."""
        return self._last_seqs.get(topic, -1)

    def next_end(self, instrument: str) -> int:
        """When the first open time bar of an instrument ends (ns); 0 if none is open."""
        machine = self.venues[instrument.rpartition(".")[2]]
        return machine.lanes[instrument].ladder.next_end

    def is_uncertain(self, bar: Bar) -> bool:
        """Whether a bar may not be that of the complete market."""
        gaps = self.gaps.get(bar.instrument, ())
        return bool(bar.missing or bar.shifted) or any(
            gap.ts_from <= bar.ts_close and bar.ts_open <= gap.ts_to for gap in gaps
        )

    def snapshot(self) -> bytes:
        """Everything that is remembered."""
        venues = {name: msgspec.Raw(machine.snapshot()) for name, machine in self.venues.items()}
        state = FoldState(self.next_seq, self._last_seqs, self._epoch, self._advanced, venues, self.gaps)
        return msgspec.json.encode(state)

    def restore(self, snapshot: bytes) -> None:
        """Go on from a snapshot.

        Raises:
            msgspec.MsgspecError: it is none of such a fold.
        """
        state = _decode(snapshot)
        for name, saved in state.venues.items():
            if name in self.venues:
                self.venues[name].restore(bytes(saved))
        self.next_seq, self._last_seqs, self._epoch = state.next_seq, state.last_seqs, state.epoch
        self._advanced, self.gaps = state.advanced, state.gaps

    def _tell(self, said: list[Output], cause: Envelope) -> list[tuple[int, AnyEvent]]:
        """What of it is published: trades in order that are no bad prints, books, bars."""
        told: list[tuple[int, AnyEvent]] = []
        for item in said:
            if isinstance(item, Tick):
                if item.mark in ("", "after_close"):
                    told.append((item.ts, item.trade))
                    self._last_seqs[TICKS] = cause.seq
            elif isinstance(item, Bar):
                told.append((item.ts_close, item))
                self._last_seqs[BARS] = cause.seq
            elif isinstance(item, Book):
                told.append((cause.ts_event, item))
                self._last_seqs[BOOKS] = cause.seq
            elif isinstance(item, Gap):
                self._remember(item)
        return told

    def _remember(self, gap: Gap) -> None:
        gaps = self.gaps.setdefault(gap.instrument, [])
        gaps.append(gap)
        del gaps[:-GAPS_MAX]


def _symbols(instruments: Iterable[Instrument]) -> dict[str, str]:
    """Instrument ids by what the venue calls them, and by themselves: the paper venue uses both."""
    found: dict[str, str] = {}
    for each in instruments:
        found |= {each.symbol: each.instrument_id, each.instrument_id: each.instrument_id}
    return found
