"""The market of a run: what the recorded trades make the venue say, and what the normalizer makes of that.

The same fold as live. Where nothing trades, a heartbeat comes when a bar ends.
"""

from collections.abc import Iterable

from trade2026.backtest.partition import Partition
from trade2026.domain.events import Envelope
from trade2026.domain.instruments import Instrument
from trade2026.domain.market import Bar, Book, Trade, VenueMessage
from trade2026.gateway.book import BookModel
from trade2026.gateway.messages import BOOK_INTERVAL_NS, HEARTBEAT_NS, RAW, heartbeat, said
from trade2026.normalizer.fold import BARS, BOOKS, TICKS, MarketFold
from trade2026.normalizer.machine import Rules

TOPICS = (BARS, TICKS, BOOKS)
"""What is told at the same time is delivered in this order: a bar before the trade that ended it."""
_TOPIC_OF: dict[type, str] = {Trade: TICKS, Book: BOOKS, Bar: BARS}

Told = list[tuple[str, Envelope]]
"""Topics and records, in the order in which they are delivered."""


class Market:
    """Every instrument of a run.

    Args:
        seed: Of the derived books.
        rules: Of the normalizer.
    """

    def __init__(self, tenant: str, instruments: Iterable[Instrument], rules: Rules, seed: int) -> None:
        self.instruments = {each.instrument_id: each for each in instruments}
        self._fold = MarketFold(
            self.instruments.values(), rules, {i.venue: "replay" for i in self.instruments.values()}
        )
        self._models = {name: BookModel(each, seed) for name, each in self.instruments.items()}
        self._logs = {topic: Partition(topic, tenant, None) for topic in (RAW, *TOPICS)}
        self._book_due = dict.fromkeys(self.instruments, 0)
        self._newest: dict[str, int] = {}
        self._heartbeat_after = dict.fromkeys(self.instruments, 0)

    def trade(self, now: int, trade: Trade) -> tuple[str, Book, Told]:
        """A recorded trade happens; return the id of what the venue says, its book now, and what is told of it."""
        model = self._models[trade.instrument]
        model.on_trade(trade)
        self._newest[trade.instrument] = trade.venue_seq
        source, told = self._say(now, said(self.instruments[trade.instrument], trade, now))
        return source, model.book(), told

    def book(self, now: int, name: str) -> Told:
        """What is told of an instrument's book; nothing if one was told a moment ago."""
        if now < self._book_due[name]:
            return []
        self._book_due[name] = now + BOOK_INTERVAL_NS
        return self._say(now, said(self.instruments[name], self._models[name].book(), now))[1]

    @property
    def next_due(self) -> int:
        """When a bar ends although nothing trades (ns); 0 if none is open."""
        return min((due for name in self._newest if (due := self._due(name))), default=0)

    def pass_time(self, now: int) -> Told:
        """It is `now` (ns): return the bars that have ended."""
        told: Told = []
        for name in self._newest:
            if 0 < self._due(name) <= now:
                self._heartbeat_after[name] = now + HEARTBEAT_NS
                told += self._say(now, heartbeat(self.instruments[name], self._newest[name], now))[1]
        return told

    def _due(self, name: str) -> int:
        end = self._fold.next_end(name)
        return max(end, self._heartbeat_after[name]) if end else 0

    def _say(self, now: int, message: VenueMessage) -> tuple[str, Told]:
        raw = self._logs[RAW].append(message, now, principal="market")
        source = f"{RAW}/0/{raw.seq}"
        told: Told = []
        for ts_event, event in self._fold.apply(raw):
            topic = _TOPIC_OF[type(event)]
            told.append((topic, self._logs[topic].append(event, now, ts_event, principal="market", cause=source)))
        return source, sorted(told, key=_rank) if len(told) > 1 else told


def _rank(item: tuple[str, Envelope]) -> int:
    return TOPICS.index(item[0])
