"""The normalizer: raw messages of a venue in, canonical ticks, books, quotes and bars out.

Pure: time comes with each message and with `advance`; everything can be saved and restored. Each message of an
instrument passes adapter → sequence → bad-print filter → bars, and what is not as it should be is marked and
counted, never dropped in silence.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from trade2026.domain.instruments import Instrument
from trade2026.domain.market import INTERVALS, Bar, Book, Level, Quote, Trade, VenueMessage
from trade2026.normalizer.ladder import Ladder, LadderState
from trade2026.normalizer.prints import BadPrintRule, BadPrints, PrintsState
from trade2026.normalizer.raw import RawInvalid, RawTrade, read, read_message
from trade2026.normalizer.sequence import Counts, Gap, Sequence, SequenceState

_SECOND = 10**9

Mark = Literal["", "bad_print", "late", "after_close", "no_amount"]


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a venue's messages are judged and folded."""

    intervals: tuple[str, ...] = INTERVALS
    """Which bars are made: of time, trades, quantity or value."""
    window_ms: int = 2_000
    """How long a message waits for those before it, and how long after its end a bar may get trades."""
    jitter_ms: int = 0
    """How far the venue's clock may run backwards from one message to the next."""
    session_seconds: int = 86_400
    """Bars of trades, quantity and value begin anew with each such span since the epoch; 0: never."""
    bad_prints: BadPrintRule = BadPrintRule()
    """When a print is set aside."""


_DEFAULT = Rules()


class Tick(msgspec.Struct, frozen=True, gc=False, tag="Tick", tag_field="type"):
    """A canonical trade, made at `ts` (ns). What has a `mark` is in no bar.

    `late` is out of its order, `after_close` in its order but later than the end of its bar was told.
    """

    ts: int
    trade: Trade
    mark: Mark = ""


Output = Tick | Bar | Gap | Book | Quote


class Quality(msgspec.Struct):
    """How good a venue's messages are, for one instrument, beside what its sequence counts."""

    bad_prints: int = 0
    no_amount: int = 0
    closed_before: int = 0
    """Trades in their order, but so slow that the clock had closed their bar."""
    time_reversals: int = 0
    """Trades that were made before the one that the venue numbered before them; they get its time."""
    books: int = 0
    books_stale: int = 0
    books_crossed: int = 0
    delay_ns_sum: int = 0
    """From the venue's time to ours."""
    delay_ns_max: int = 0


class LaneState(msgspec.Struct):
    """What is remembered of one instrument."""

    sequence: SequenceState
    prints: PrintsState
    ladder: LadderState
    quality: Quality
    ts_last: int
    closed_until: int
    book_ts: int
    quote: Quote | None


class Lane:
    """One instrument of a venue."""

    def __init__(self, instrument: Instrument, rules: Rules, state: LaneState | None = None) -> None:
        name = self.instrument = instrument.instrument_id
        self._window_ns = rules.window_ms * 1_000_000
        self.sequence = Sequence(name, self._window_ns, rules.jitter_ms * 1_000_000, state.sequence if state else None)
        self.prints = BadPrints(rules.bad_prints, state.prints if state else None)
        self.ladder = Ladder(
            name,
            rules.intervals,
            multiplier=instrument.multiplier,
            session_ns=rules.session_seconds * _SECOND,
            state=state.ladder if state else None,
        )
        self.quality = state.quality if state else Quality()
        self.ts_last = state.ts_last if state else 0
        self.closed_until = state.closed_until if state else 0
        self.book_ts = state.book_ts if state else 0
        self.quote = state.quote if state else None

    def on_trade(self, now: int, ts: int, trade: Trade) -> list[Output]:
        """Take a trade that was made at `ts` and came at `now` (ns)."""
        quality, delay = self.quality, now - ts
        quality.delay_ns_sum += delay
        quality.delay_ns_max = max(quality.delay_ns_max, delay)
        late = self.sequence.state.counts.late
        passed = self.sequence.add(now, ts, trade)
        found: list[Output] = []
        for item in passed:
            found += self._pass(item)
        if self.sequence.state.counts.late > late:
            found.append(Tick(ts, trade, "late"))
        return found

    def advance(self, now: int) -> list[Output]:
        """It is `now` (ns): let go what waited long enough, and close the bars that are over."""
        found: list[Output] = []
        for item in self.sequence.advance(now):
            found += self._pass(item)
        if not self.sequence.state.held:
            self.closed_until = max(self.closed_until, now - self._window_ns)
            found += self.ladder.advance(self.closed_until)
        return found

    def on_heartbeat(self, now: int, ts: int, number: int) -> list[Output]:
        """By `ts` (ns) the venue has made no trade after a number: if all have come, bars end without waiting."""
        found: list[Output] = []
        for item in self.sequence.hear_of(now, ts, number):
            found += self._pass(item)
        if not self.sequence.has_all(number):
            return found + self.advance(now)
        self.closed_until = max(self.closed_until, ts)
        return found + self.ladder.advance(self.closed_until)

    def resume(self) -> list[Output]:
        """The connection to the venue is a new one."""
        found: list[Output] = []
        for item in self.sequence.resume():
            found += self._pass(item)
        return found

    def on_book(self, ts: int, book: Book) -> list[Output]:
        """Take a book of `ts` (ns): levels in order and once, and the quote if it is another one."""
        quality = self.quality
        quality.books += 1
        if ts < self.book_ts:
            quality.books_stale += 1
            return []
        bids, asks = _levels(book.bids, falling=True), _levels(book.asks, falling=False)
        if bids and asks and bids[0].price >= asks[0].price:
            quality.books_crossed += 1
            return []
        self.book_ts = ts
        found: list[Output] = [msgspec.structs.replace(book, bids=bids, asks=asks)]
        best_bid, best_ask = bids[0] if bids else Level(0, 0), asks[0] if asks else Level(0, 0)
        quote = Quote(
            self.instrument, best_bid.price, best_bid.quantity, best_ask.price, best_ask.quantity, book.venue_seq
        )
        if self.quote is None or msgspec.structs.replace(quote, venue_seq=self.quote.venue_seq) != self.quote:
            self.quote = quote
            found.append(quote)
        return found

    def save(self) -> LaneState:
        """What `Lane(..., state)` goes on from."""
        return LaneState(
            self.sequence.state,
            self.prints.save(),
            self.ladder.save(),
            self.quality,
            self.ts_last,
            self.closed_until,
            self.book_ts,
            self.quote,
        )

    def _pass(self, item: tuple[int, Trade] | Gap) -> list[Output]:
        """What follows from the next trade in order, or from a gap."""
        if isinstance(item, Gap):
            if item.reason == "restart":
                self.ladder.restart()
            return [item]
        ts, trade = item
        if ts < self.ts_last:
            self.quality.time_reversals += 1
            ts = self.ts_last
        self.ts_last = ts
        mark = self._mark(ts, trade)
        if mark:
            told: list[Output] = [Tick(ts, trade, mark)]
            if mark == "after_close":  # the bar that it belongs to was told without it
                told.append(Gap(self.instrument, ts, ts, trade.venue_seq, trade.venue_seq, "late"))
            return [*told, *self.ladder.skip(ts, trade.venue_seq)]
        return [Tick(ts, trade), *self.ladder.add(ts, trade)]

    def _mark(self, ts: int, trade: Trade) -> Mark:
        if trade.quantity <= 0 or trade.price <= 0:
            self.quality.no_amount += 1
            return "no_amount"
        if self.prints.is_bad(trade.price):
            self.quality.bad_prints += 1
            return "bad_print"
        if ts < self.closed_until:
            self.quality.closed_before += 1
            return "after_close"
        return ""


def _levels(levels: list[Level], *, falling: bool) -> list[Level]:
    """Levels from the best, each price once, none empty."""
    merged: dict[int, int] = {}
    for level in levels:
        if level.price > 0 and level.quantity > 0:
            merged[level.price] = level.quantity
    return [Level(price, merged[price]) for price in sorted(merged, reverse=falling)]


class VenueState(msgspec.Struct):
    """What a normalizer remembers of a venue."""

    lanes: dict[str, LaneState]
    unreadable: int
    last_fault: str


_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(VenueState).decode


class Normalizer:
    """One venue's messages.

    Args:
        instruments: Those of the venue.
        symbols: Instrument id by what the venue calls it; the ids themselves if not given.
        dialect: How the venue speaks; see `raw.read_message`.
    """

    def __init__(
        self,
        instruments: Iterable[Instrument],
        rules: Rules = _DEFAULT,
        symbols: Mapping[str, str] | None = None,
        dialect: str = "replay",
    ) -> None:
        self.dialect = dialect
        self.rules = rules
        self.instruments = {each.instrument_id: each for each in instruments}
        self.symbols = dict(symbols) if symbols is not None else {name: name for name in self.instruments}
        self.lanes = {name: Lane(each, rules) for name, each in self.instruments.items()}
        self.unreadable = 0
        """Messages that no adapter could read."""
        self.last_fault = ""

    def on_message(self, now: int, ts: int, message: VenueMessage) -> list[Output]:
        """Take a message that the venue made at `ts` and that came at `now` (ns)."""
        if message.channel == "heartbeat":
            lane = self.lanes.get(self.symbols.get(message.symbol, ""))
            return lane.on_heartbeat(now, ts, message.venue_seq) if lane is not None else []
        try:
            said = read_message(self.dialect, ts, message)
        except RawInvalid as error:
            return self._is_unreadable(str(error))
        return self.on_book(ts, said) if isinstance(said, Book) else self.on_trade(now, said)

    def resume(self) -> list[Output]:
        """The connection to the venue is a new one: nothing that is missing will come."""
        found: list[Output] = []
        for lane in self.lanes.values():
            found += lane.resume()
        return found

    def on_trade(self, now: int, raw: RawTrade) -> list[Output]:
        """Take a raw trade that came at `now` (ns); return what is certain now, in order."""
        try:
            ts, trade = read(raw, self.symbols)
        except RawInvalid as error:
            return self._is_unreadable(str(error))
        return self.lanes[trade.instrument].on_trade(now, ts, trade)

    def on_book(self, ts: int, book: Book) -> list[Output]:
        """Take a book that was so at `ts` (ns)."""
        lane = self.lanes.get(book.instrument)
        if lane is None:
            return self._is_unreadable(f"unknown instrument {book.instrument!r}")
        return lane.on_book(ts, book)

    def _is_unreadable(self, fault: str) -> list[Output]:
        self.unreadable += 1
        self.last_fault = fault
        return []

    def advance(self, now: int) -> list[Output]:
        """It is `now` (ns)."""
        found: list[Output] = []
        for lane in self.lanes.values():
            found += lane.advance(now)
        return found

    def counts(self, instrument: str) -> tuple[Counts, Quality]:
        """How good the messages of an instrument are."""
        lane = self.lanes[instrument]
        return lane.sequence.state.counts, lane.quality

    def snapshot(self) -> bytes:
        """Everything that is remembered."""
        lanes = {name: lane.save() for name, lane in self.lanes.items()}
        return _encode(VenueState(lanes, self.unreadable, self.last_fault))

    def restore(self, snapshot: bytes) -> None:
        """Go on from a snapshot; an instrument that it does not know begins empty.

        Raises:
            msgspec.MsgspecError: it is no snapshot of a normalizer.
        """
        state = _decode(snapshot)
        self.unreadable, self.last_fault = state.unreadable, state.last_fault
        self.lanes = {name: Lane(each, self.rules, state.lanes.get(name)) for name, each in self.instruments.items()}
