"""Profit and loss: what fills realised, what the market says the rest is worth, and how it went over time.

Pure: a fold of the order log and of prices. What a closing fill realises is told by average cost, or by lots
first in first out or last in first out. An account's numbers are those of its positions over all strategies
(by average cost the same as the OMS's); a strategy's are those of what it traded. Whatever the method, realised
and unrealised together are the cash that moved and the value of what is held, so they sum up over strategies.
Money is at `COST_SCALE`.
"""

from collections.abc import Iterable
from typing import Literal

import msgspec

from trade2026.domain.events import Envelope, OrderFilled, PnlRealized
from trade2026.domain.instruments import Instrument
from trade2026.domain.lots import Lots
from trade2026.domain.positions import Position

POINTS_MAX = 7_200
"""Points of an equity curve; a full one drops every other point and doubles its interval."""

Method = Literal["average", "fifo", "lifo"]
"""How the cost of what a fill closes is told."""

DAYS_MAX = 3_660
"""Days whose close is kept per account."""
DAY_NS = 86_400 * 10**9
_SECOND = 10**9


class Holding(msgspec.Struct):
    """A position with its P&L by the method of the machine."""

    position: Position = msgspec.field(default_factory=Position)
    lots: Lots | None = None
    """None: by average cost."""

    def apply_fill(self, fill: OrderFilled, ts: int) -> int:
        """Fold a fill; return what it realised."""
        signed = fill.last_qty if fill.side == "BUY" else -fill.last_qty
        realized = self.position.apply_fill(signed, fill.last_px, fill.fee, fill.multiplier)
        if self.lots is None:
            return realized
        return self.lots.apply_fill(signed, fill.last_px, fill.exec_id, ts, multiplier=fill.multiplier)

    @property
    def quantity(self) -> int:
        """Signed, nanos."""
        return self.position.quantity

    @property
    def fees(self) -> int:
        """Fees paid."""
        return self.position.fees

    @property
    def realized(self) -> int:
        """P&L of what was closed, before fees."""
        return self.position.realized if self.lots is None else self.lots.realized

    def unrealized(self, mark: int | None) -> int:
        """P&L of what is open at a price; at what it cost, where there is none."""
        if mark is None:
            return 0
        # Cash is the same whatever the method: what one has realised more, it has less of it open.
        return self.position.unrealized(mark) + self.position.realized - self.realized


class Point(msgspec.Struct, frozen=True, array_like=True):
    """Equity at the end of a second (`ts`, ns), money at `COST_SCALE` of the base currency."""

    ts: int
    equity: int
    drawdown: int


class Curve(msgspec.Struct):
    """Equity of one account over time: at most one point per interval, and only where it changed."""

    interval: int = _SECOND
    points: list[Point] = []
    peak: int = 0
    max_drawdown: int = 0

    def add(self, ts: int, equity: int) -> None:
        """Note the equity at a time; within one interval the newest stays."""
        self.peak = max(self.peak, equity)
        drawdown = self.peak - equity
        self.max_drawdown = max(self.max_drawdown, drawdown)
        slot = ts - ts % self.interval
        last = self.points[-1] if self.points else None
        if last is not None and last.ts >= slot:
            self.points[-1] = Point(last.ts, equity, drawdown)
        elif last is None or last.equity != equity:
            self.points.append(Point(slot, equity, drawdown))
            if len(self.points) > POINTS_MAX:
                self.interval *= 2
                del self.points[-2::-2]


class Close(msgspec.Struct, frozen=True, array_like=True):
    """The last equity of a UTC day (days since the epoch), in the base currency."""

    day: int
    equity: int


class Pnl(msgspec.Struct, frozen=True):
    """P&L in one currency at one moment."""

    currency: str
    realized: int
    unrealized: int
    fees: int

    @property
    def total(self) -> int:
        """Realised and unrealised, less fees."""
        return self.realized + self.unrealized - self.fees


class State(msgspec.Struct):
    """The machine as data; another `format` or method is not read, the log is folded instead."""

    format: Literal[2]
    method: Method
    next_seq: int
    last_fill_seq: int
    positions: list[tuple[str, str, Holding]]
    by_strategy: list[tuple[str, str, str, Holding]]
    marks: dict[str, int]
    curves: dict[str, Curve]
    closes: dict[str, list[Close]]
    marked_since: int = 0


class PnlMachine:
    """Folds fills and prices into P&L.

    Args:
        base_currency: In which an account's equity is counted.
        instruments: By id; their settlement currency is that of their P&L.
        method: How realised P&L is told.
    """

    def __init__(self, base_currency: str, instruments: dict[str, Instrument], method: Method = "average") -> None:
        self.base_currency, self.instruments = base_currency, instruments
        self.method: Method = method
        self.next_seq = 0
        self.last_fill_seq = -1
        self.positions: dict[tuple[str, str], Holding] = {}
        """Account and instrument, over all strategies."""
        self.by_strategy: dict[tuple[str, str, str], Holding] = {}
        """Account, strategy and instrument."""
        self.marks: dict[str, int] = {}
        """Instrument → newest price, nanos."""
        self.curves: dict[str, Curve] = {}
        self.closes: dict[str, list[Close]] = {}
        """Per account, the oldest day first."""
        self.marked_since = 0
        """When this fold began to see prices between fills (ns): curves before it know those of fills only."""
        self._accounts: dict[str, dict[str, Holding]] = {}
        self._totals: dict[tuple[str, str], list[int]] = {}
        self._changed: set[str] = set()
        self._rates = {
            instrument.base: name for name, instrument in instruments.items() if instrument.quote == base_currency
        }

    def apply(self, envelope: Envelope) -> list[tuple[int, PnlRealized]]:
        """Fold the next event; a fill answers with what it realised."""
        assert envelope.seq == self.next_seq, f"event {envelope.seq} follows {self.next_seq - 1}"
        self.next_seq += 1
        fill = envelope.data
        if not isinstance(fill, OrderFilled):
            return []
        self.last_fill_seq = envelope.seq
        realized = self._holding(fill.account, fill.instrument).apply_fill(fill, envelope.ts_event)
        key = (fill.account, fill.strategy, fill.instrument)
        of_strategy = self.by_strategy.get(key)
        if of_strategy is None:
            of_strategy = self.by_strategy[key] = self._flat()
        of_strategy.apply_fill(fill, envelope.ts_event)
        currency = self.currency(fill.instrument)
        total = self._totals.setdefault((fill.account, currency), [0, 0])
        total[0] += realized
        total[1] += fill.fee
        self.marks[fill.instrument] = fill.last_px
        self._sample(fill.account, envelope.ts_event)
        told = PnlRealized(
            account=fill.account,
            instrument=fill.instrument,
            strategy=fill.strategy,
            currency=currency,
            realized=realized,
            fee=fill.fee,
            total_realized=total[0],
            total_fees=total[1],
            order_id=fill.order_id,
            exec_id=fill.exec_id,
            as_of=envelope.seq,
        )
        return [(envelope.ts_event, told)]

    def last_seq(self, topic: str) -> int:
        """Position of the newest event from which something followed, whatever the topic: that of a fill."""
        return self.last_fill_seq

    def mark(self, instrument: str, price: int) -> None:
        """The market's newest price of an instrument, nanos."""
        if self.marks.get(instrument) != price:
            self.marks[instrument] = price
            self._changed.add(instrument)

    def sample(self, ts: int) -> None:
        """Note the equity of every account that the prices since the last call have moved."""
        self.marked_since = self.marked_since or ts
        if not self._changed:
            return
        for account, positions in self._accounts.items():
            if any(positions[name].quantity for name in self._changed if name in positions):
                self._sample(account, ts)
        self._changed.clear()

    def currency(self, instrument: str) -> str:
        """In which the P&L of an instrument is."""
        known = self.instruments.get(instrument)
        return known.settlement if known is not None else self.base_currency

    def rate(self, currency: str) -> int | None:
        """Nanos of the base currency per unit of another, from the market; None when it is not known."""
        if currency == self.base_currency:
            return _SECOND
        return self.marks.get(self._rates.get(currency, ""))

    def accounts(self) -> list[str]:
        """Every account that ever traded."""
        return sorted(self._accounts)

    def positions_of(self, account: str) -> dict[str, Holding]:
        """Every position that the account ever had, by instrument."""
        return dict(sorted(self._accounts.get(account, {}).items()))

    def unrealized(self, instrument: str, holding: Holding) -> int:
        """P&L of the open quantity at the newest price."""
        return holding.unrealized(self.marks.get(instrument))

    def by_currency(self, positions: Iterable[tuple[str, Holding]]) -> list[Pnl]:
        """P&L of some positions, summed per currency."""
        sums: dict[str, list[int]] = {}
        for instrument, position in positions:
            total = sums.setdefault(self.currency(instrument), [0, 0, 0])
            total[0] += position.realized
            total[1] += self.unrealized(instrument, position)
            total[2] += position.fees
        return [Pnl(currency, *total) for currency, total in sorted(sums.items())]

    def in_base(self, parts: list[Pnl]) -> tuple[Pnl, list[str]]:
        """The sum in the base currency, and the currencies that have no rate and are not in it."""
        realized = unrealized = fees = 0
        missing: list[str] = []
        for part in parts:
            rate = self.rate(part.currency)
            if rate is None:
                missing.append(part.currency)
                continue
            realized += part.realized * rate // _SECOND
            unrealized += part.unrealized * rate // _SECOND
            fees += part.fees * rate // _SECOND
        return Pnl(self.base_currency, realized, unrealized, fees), missing

    def equity(self, account: str) -> int:
        """The account's P&L since its first trade, in the base currency."""
        return self.in_base(self.by_currency(self._accounts.get(account, {}).items()))[0].total

    def snapshot(self) -> bytes:
        """The machine as JSON, to go on from with `restore`."""
        return msgspec.json.encode(
            State(
                2,
                self.method,
                self.next_seq,
                self.last_fill_seq,
                [(*key, position) for key, position in self.positions.items()],
                [(*key, position) for key, position in self.by_strategy.items()],
                self.marks,
                self.curves,
                self.closes,
                self.marked_since,
            )
        )

    def restore(self, snapshot: bytes) -> None:
        """Take over a snapshot.

        Raises:
            ValueError: it was made by another method.
        """
        state = msgspec.json.decode(snapshot, type=State)
        if state.method != self.method:
            raise ValueError(f"it tells P&L by {state.method}, this is {self.method}")
        self.next_seq, self.last_fill_seq = state.next_seq, state.last_fill_seq
        self.marks, self.curves, self.closes = state.marks, state.curves, state.closes
        self.marked_since = state.marked_since
        self.by_strategy = {
            (account, strategy, instrument): position for account, strategy, instrument, position in state.by_strategy
        }
        for account, instrument, holding in state.positions:
            self.positions[account, instrument] = holding
            self._accounts.setdefault(account, {})[instrument] = holding
            total = self._totals.setdefault((account, self.currency(instrument)), [0, 0])
            total[0] += holding.realized
            total[1] += holding.fees

    def _holding(self, account: str, instrument: str) -> Holding:
        holding = self.positions.get((account, instrument))
        if holding is None:
            holding = self.positions[account, instrument] = self._flat()
            self._accounts.setdefault(account, {})[instrument] = holding
        return holding

    def _flat(self) -> Holding:
        return Holding() if self.method == "average" else Holding(lots=Lots(matching=self.method))

    def _sample(self, account: str, ts: int) -> None:
        equity = self.equity(account)
        self.curves.setdefault(account, Curve()).add(ts, equity)
        closes, day = self.closes.setdefault(account, []), ts // DAY_NS
        if closes and closes[-1].day >= day:
            closes[-1] = Close(closes[-1].day, equity)
        else:
            closes.append(Close(day, equity))
            del closes[:-DAYS_MAX]
