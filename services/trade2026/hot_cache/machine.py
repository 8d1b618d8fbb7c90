"""The newest of everything: the last trade, book and bar of each instrument, positions and P&L of each account.

Pure: a fold of several topics, each read in its own order. `take_changes` says what to tell since the last call, so
that however much comes in between is told once. Positions are by average cost, as the order service has them.
"""

from typing import Literal

import msgspec

from trade2026.domain.events import Envelope, OrderFilled
from trade2026.domain.instruments import Instrument
from trade2026.domain.market import Bar, Book, Trade
from trade2026.domain.numbers import SCALE
from trade2026.domain.positions import Position
from trade2026.hot_cache import keys

ORDERS = "orders.events"
TICKS = "market.ticks"
LOST = -1
"""In the place of a position in the log, where the log has lost the event."""


class Holding(msgspec.Struct, tag=True, tag_field="type"):
    """What an account holds of an instrument; of one strategy, or of all where that is None."""

    account: str
    instrument: str
    strategy: str | None
    position: Position = msgspec.field(default_factory=Position)


class Pnl(msgspec.Struct, frozen=True, tag=True, tag_field="type"):
    """What an account has earned in an instrument, or, without one, in all; money is at `COST_SCALE` of `currency`."""

    account: str
    instrument: str
    currency: str
    realized: int
    unrealized: int
    fees: int
    mark: int | None = None
    """Price by which it is told, nanos; None where no trade was seen: then by what was paid."""
    mark_seq: int = LOST
    """Position of that price in `market.ticks`."""
    not_converted: list[str] = []
    """Currencies without a rate; what is in them is left out."""


class Fact(msgspec.Struct):
    """The newest value of a key, and the event that made it."""

    topic: str
    """The name of its partition (see `partition_name`)."""
    seq: int
    ts: int
    data: Trade | Book | Bar | Holding
    restored: bool = False


class State(msgspec.Struct):
    """The machine as data; another `format` is not read."""

    format: Literal[1]
    next_seq: dict[str, int]
    facts: list[Fact]


class Change(msgspec.Struct, frozen=True):
    """A value to be told."""

    topic: str
    seq: int
    ts: int
    data: Trade | Book | Bar | Holding | Pnl
    restored: bool


class HotMachine:
    """Folds the log into newest values by key.

    Args:
        instruments: By id; what the log says of others is not kept.
        base_currency: In which an account's P&L is summed up.
    """

    def __init__(self, instruments: dict[str, Instrument], base_currency: str) -> None:
        self.instruments, self.base_currency = instruments, base_currency
        self.next_seq: dict[str, int] = {}
        """By partition."""
        self.facts: dict[str, Fact] = {}
        self.live = False
        """What is folded from now on happens now; before, it is what has been."""
        self._changed: dict[str, None] = {}
        self._accounts: dict[str, dict[str, Fact]] = {}
        """Account → instrument → its holding over all strategies."""
        self._foreign: set[str] = set()
        """Accounts that hold what is settled in another than the base currency."""
        self._to_value: set[tuple[str, str]] = set()
        """Account and instrument whose P&L has changed."""
        self._moved: set[str] = set()
        """Instruments with another price."""
        self._pnl: dict[str, Change] = {}
        self._rates = {item.base: name for name, item in instruments.items() if item.quote == base_currency}

    def apply(self, topic: str, envelope: Envelope) -> None:
        """Fold the next event of a partition, which is named as `partition_name` does."""
        self.next_seq[topic] = envelope.seq + 1
        event = envelope.data
        if isinstance(event, OrderFilled):
            self._fill(event, topic, envelope)
        elif isinstance(event, Trade | Book | Bar) and event.instrument in self.instruments:
            fact = Fact(topic, envelope.seq, envelope.ts_init, event, not self.live)
            self._set(_market_key(event), fact)
            if isinstance(event, Trade):
                self._moved.add(event.instrument)

    def value(self) -> None:
        """Tell the P&L of all that has traded or has another price since the last call."""
        for account, held in self._accounts.items():
            for instrument in self._moved:
                if instrument in held and _position(held[instrument]).quantity:
                    self._to_value.add((account, instrument))
        accounts = {account for account, _ in self._to_value}
        if not self._moved.isdisjoint(self._rates.values()):
            accounts |= self._foreign
        for account, instrument in sorted(self._to_value):
            self._tell(keys.pnl(account, instrument), self._value(account, instrument))
        for account in sorted(accounts):
            self._tell(keys.pnl(account), self._total(account))
        self._to_value.clear()
        self._moved.clear()

    def take_changes(self) -> dict[str, Change]:
        """Return the newest value of each key that has changed since the last call."""
        changed, self._changed = self._changed, {}
        return {key: self.newest(key) for key in changed}

    def keys(self) -> list[str]:
        """Every key that has a value."""
        return [*self.facts, *self._pnl]

    def newest(self, key: str) -> Change:
        """The newest value of a key that has one."""
        return self._pnl[key] if key in self._pnl else _change(self.facts[key])

    def snapshot(self) -> bytes:
        """The machine as JSON, to go on from with `restore`."""
        return msgspec.json.encode(State(1, self.next_seq, list(self.facts.values())))

    def restore(self, snapshot: bytes, ends: dict[str, int]) -> None:
        """Take over a snapshot, into a machine that is empty.

        Args:
            ends: Where each partition ends. What the snapshot knows from beyond was lost with the power: a price stays
                until there is a newer one, positions are folded from the beginning.
        """
        state = msgspec.json.decode(snapshot, type=State)
        for topic, next_seq in state.next_seq.items():
            if topic in ends:
                self.next_seq[topic] = min(next_seq, ends[topic])
                if next_seq > ends[topic] and _is_of_orders(topic):
                    self.next_seq[topic] = 0
        for fact in state.facts:
            if fact.topic not in ends or (_is_of_orders(fact.topic) and not self.next_seq[fact.topic]):
                continue
            fact.restored = True
            if fact.seq >= ends[fact.topic]:
                fact.seq = LOST
            self._take_over(fact)

    def _take_over(self, fact: Fact) -> None:
        data = fact.data
        if isinstance(data, Holding):
            self._set(keys.position(data.account, data.instrument, data.strategy), fact)
            if data.strategy is None:
                self._hold(data, fact)
        elif data.instrument in self.instruments:
            self._set(_market_key(data), fact)

    def _fill(self, fill: OrderFilled, topic: str, envelope: Envelope) -> None:
        signed = fill.last_qty if fill.side == "BUY" else -fill.last_qty
        for strategy in (None, fill.strategy):
            key = keys.position(fill.account, fill.instrument, strategy)
            before = self.facts.get(key)
            holding = before.data if before is not None else Holding(fill.account, fill.instrument, strategy)
            assert isinstance(holding, Holding)
            holding.position.apply_fill(signed, fill.last_px, fill.fee, fill.multiplier)
            fact = Fact(topic, envelope.seq, envelope.ts_init, holding, not self.live)
            self._set(key, fact)
            if strategy is None:
                self._hold(holding, fact)

    def _hold(self, holding: Holding, fact: Fact) -> None:
        account, instrument = holding.account, holding.instrument
        self._accounts.setdefault(account, {})[instrument] = fact
        self._to_value.add((account, instrument))
        if self._currency(instrument) != self.base_currency:
            self._foreign.add(account)

    def _set(self, key: str, fact: Fact) -> None:
        self.facts[key] = fact
        self._changed[key] = None

    def _tell(self, key: str, change: Change) -> None:
        self._pnl[key] = change
        self._changed[key] = None

    def _value(self, account: str, instrument: str) -> Change:
        """P&L in one instrument at its newest price."""
        held, tick = self._accounts[account][instrument], self.facts.get(keys.tick(instrument))
        position, currency = _position(held), self._currency(instrument)
        trade = tick.data if tick is not None else None
        if tick is None or not isinstance(trade, Trade):
            found = Pnl(account, instrument, currency, position.realized, 0, position.fees)
            return Change(held.topic, held.seq, held.ts, found, held.restored)
        unrealized = position.unrealized(trade.price)
        found = Pnl(account, instrument, currency, position.realized, unrealized, position.fees, trade.price, tick.seq)
        return Change(held.topic, held.seq, max(held.ts, tick.ts), found, held.restored and tick.restored)

    def _total(self, account: str) -> Change:
        """P&L in all instruments, in the base currency."""
        realized = unrealized = fees = 0
        missing: set[str] = set()
        topic, seq, ts, restored = ORDERS, LOST, 0, True
        for instrument in self._accounts[account]:
            one = self._pnl.get(keys.pnl(account, instrument)) or self._value(account, instrument)
            assert isinstance(one.data, Pnl)
            topic, seq = one.topic, max(seq, one.seq)  # all of an account is in one partition
            ts, restored = max(ts, one.ts), restored and one.restored
            rate = self._rate(one.data.currency)
            if rate is None:
                missing.add(one.data.currency)
                continue
            realized += one.data.realized * rate // SCALE
            unrealized += one.data.unrealized * rate // SCALE
            fees += one.data.fees * rate // SCALE
        found = Pnl(account, "", self.base_currency, realized, unrealized, fees, not_converted=sorted(missing))
        return Change(topic, seq, ts, found, restored)

    def _currency(self, instrument: str) -> str:
        known = self.instruments.get(instrument)
        return known.settlement if known is not None else self.base_currency

    def _rate(self, currency: str) -> int | None:
        """Nanos of the base currency per unit of another; None while no trade has told it."""
        if currency == self.base_currency:
            return SCALE
        tick = self.facts.get(keys.tick(self._rates[currency])) if currency in self._rates else None
        return tick.data.price if tick is not None and isinstance(tick.data, Trade) else None


def _market_key(data: Trade | Book | Bar) -> str:
    if isinstance(data, Trade):
        return keys.tick(data.instrument)
    return keys.book(data.instrument) if isinstance(data, Book) else keys.bar(data.instrument, data.interval)


def _is_of_orders(partition: str) -> bool:
    return partition.partition("/")[0] == ORDERS


def _position(fact: Fact) -> Position:
    assert isinstance(fact.data, Holding)
    return fact.data.position


def _change(fact: Fact) -> Change:
    return Change(fact.topic, fact.seq, fact.ts, fact.data, fact.restored)
