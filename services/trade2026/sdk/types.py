"""What a strategy is shown: prices, quantities and money as `Decimal`, times as nanoseconds since the epoch."""

from decimal import Decimal
from typing import Literal

import msgspec

from trade2026.domain import market
from trade2026.domain.numbers import SCALE, average_price, cost_to_nanos
from trade2026.domain.orders import CLOSED, OrderSpec, OrderType, OrdStatus, Side, TimeInForce
from trade2026.domain.positions import Position as Fold

Number = Decimal | int | float | str
"""How an amount may be given; it is rounded to the instrument's tick or lot."""


def decimal(nanos: int) -> Decimal:
    """Return nanos as a decimal: `decimal(1_500_000_000) == Decimal("1.5")`."""
    whole, rest = divmod(nanos, SCALE)
    return Decimal(nanos).scaleb(-9).normalize() if rest else Decimal(whole)


class Trade(msgspec.Struct, frozen=True):
    """One print of the market."""

    instrument: str
    price: Decimal
    quantity: Decimal
    aggressor: Literal["BUY", "SELL", ""]
    trade_id: str
    ts: int
    """When it happened (ns)."""

    @classmethod
    def of(cls, trade: market.Trade, ts: int) -> "Trade":
        """Show a trade of the log."""
        return cls(trade.instrument, decimal(trade.price), decimal(trade.quantity), trade.aggressor, trade.trade_id, ts)


class Level(msgspec.Struct, frozen=True):
    """One step of a book."""

    price: Decimal
    quantity: Decimal


class Book(msgspec.Struct, frozen=True):
    """The visible book: bids fall, asks rise."""

    instrument: str
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    ts: int

    @classmethod
    def of(cls, book: market.Book, ts: int) -> "Book":
        """Show a book of the log."""
        bids, asks = (
            tuple(Level(decimal(level.price), decimal(level.quantity)) for level in side)
            for side in (book.bids, book.asks)
        )
        return cls(book.instrument, bids, asks, ts)


class Quote(msgspec.Struct, frozen=True):
    """The best of each side of a book."""

    instrument: str
    bid: Decimal
    bid_quantity: Decimal
    ask: Decimal
    ask_quantity: Decimal
    ts: int

    @property
    def mid(self) -> Decimal:
        """Half-way between bid and ask."""
        return (self.bid + self.ask) / 2

    @property
    def spread(self) -> Decimal:
        """Ask less bid."""
        return self.ask - self.bid


class Bar(msgspec.Struct, frozen=True):
    """Trades of an interval; `missing` of them never reached us."""

    instrument: str
    interval: str
    ts_open: int
    ts_close: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    trades: int
    missing: int

    @classmethod
    def of(cls, bar: market.Bar) -> "Bar":
        """Show a bar of the log."""
        return cls(
            bar.instrument,
            bar.interval,
            bar.ts_open,
            bar.ts_close,
            decimal(bar.open),
            decimal(bar.high),
            decimal(bar.low),
            decimal(bar.close),
            decimal(bar.volume),
            bar.trades,
            bar.missing,
        )


class Timer(msgspec.Struct, frozen=True):
    """A timer that is due."""

    name: str
    ts: int


class OrderState(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An order as its strategy knows it: nanos, `cum_cost` at `COST_SCALE`."""

    spec: OrderSpec
    order_id: str = ""
    status: OrdStatus = OrdStatus.PENDING_NEW
    before: OrdStatus | None = None
    """What it returns to when a pending cancel or replace is refused."""
    quantity: int
    price: int = 0
    stop_price: int = 0
    cum_qty: int = 0
    cum_cost: int = 0
    reject_code: str = ""
    reason: str = ""


class Order:
    """An order of the strategy; what it shows is always the newest state."""

    __slots__ = ("_state",)

    def __init__(self, state: OrderState) -> None:
        self._state = state

    def __repr__(self) -> str:
        price = f" at {self.price}" if self.price else ""
        return f"<{self.client_order_id}: {self.side} {self.quantity} {self.instrument}{price}, {self.status}>"

    @property
    def client_order_id(self) -> str:
        """`STRATEGY-NUMBER`."""
        return self._state.spec.client_order_id

    @property
    def order_id(self) -> str:
        """The platform's id; empty until the order service has answered."""
        return self._state.order_id

    @property
    def instrument(self) -> str:
        """`SYMBOL.VENUE`."""
        return self._state.spec.instrument

    @property
    def side(self) -> Side:
        """BUY or SELL."""
        return self._state.spec.side

    @property
    def order_type(self) -> OrderType:
        """MARKET, LIMIT and so on."""
        return self._state.spec.order_type

    @property
    def time_in_force(self) -> TimeInForce:
        """GTC, IOC and so on."""
        return self._state.spec.time_in_force

    @property
    def quantity(self) -> Decimal:
        """All of it, filled or not."""
        return decimal(self._state.quantity)

    @property
    def price(self) -> Decimal:
        """Limit price; 0 if it has none."""
        return decimal(self._state.price)

    @property
    def stop_price(self) -> Decimal:
        """Trigger price as it is now; 0 if it has none."""
        return decimal(self._state.stop_price)

    @property
    def filled(self) -> Decimal:
        """How much of it is filled."""
        return decimal(self._state.cum_qty)

    @property
    def remaining(self) -> Decimal:
        """How much may still be filled; 0 once it is over."""
        return decimal(self._state.quantity - self._state.cum_qty) if self.is_open else Decimal(0)

    @property
    def average_price(self) -> Decimal:
        """Of what is filled; 0 before the first fill."""
        return decimal(average_price(self._state.cum_cost, self._state.cum_qty))

    @property
    def status(self) -> OrdStatus:
        """Its FIX OrdStatus."""
        return self._state.status

    @property
    def reject_code(self) -> str:
        """Why it was refused, in one word."""
        return self._state.reject_code

    @property
    def reason(self) -> str:
        """Why it was refused or cancelled, for a person."""
        return self._state.reason

    @property
    def is_open(self) -> bool:
        """Whether anything may still happen to it."""
        return self._state.status not in CLOSED


class Fill(msgspec.Struct, frozen=True):
    """One execution. `order` is None for an order that somebody else gave in this strategy's name."""

    instrument: str
    side: Side
    quantity: Decimal
    price: Decimal
    fee: Decimal
    liquidity: Literal["MAKER", "TAKER", ""]
    order: Order | None
    ts: int


class Position:
    """The strategy's position in one instrument, by average cost; money in the settlement currency."""

    __slots__ = ("_fold", "_mark")

    def __init__(self, fold: Fold, mark: int) -> None:
        self._fold, self._mark = fold, mark

    def __repr__(self) -> str:
        return f"<{self.quantity} at {self.average_price}>"

    @property
    def quantity(self) -> Decimal:
        """Signed: long is positive."""
        return decimal(self._fold.quantity)

    @property
    def average_price(self) -> Decimal:
        """Average cost of what is open; 0 when flat."""
        return decimal(self._fold.average_price)

    @property
    def realized(self) -> Decimal:
        """Realised P&L before fees."""
        return decimal(cost_to_nanos(self._fold.realized))

    @property
    def fees(self) -> Decimal:
        """Fees paid."""
        return decimal(cost_to_nanos(self._fold.fees))

    @property
    def unrealized(self) -> Decimal:
        """P&L of what is open at the last trade's price; 0 before the first trade."""
        return decimal(cost_to_nanos(self._fold.unrealized(self._mark))) if self._mark else Decimal(0)

    @property
    def pnl(self) -> Decimal:
        """Realised and unrealised, after fees."""
        return self.realized + self.unrealized - self.fees


class Instrument(msgspec.Struct, frozen=True):
    """What can be traded, and in which steps."""

    instrument_id: str
    symbol: str
    venue: str
    base: str
    quote: str
    tick_size: Decimal
    lot_size: Decimal
    min_notional: Decimal
    multiplier: Decimal


class Account(msgspec.Struct, frozen=True):
    """The strategy's part of its account."""

    name: str
    positions: dict[str, Position]
    """By instrument."""

    @property
    def realized(self) -> Decimal:
        """Realised P&L before fees, of all instruments."""
        return sum((position.realized for position in self.positions.values()), Decimal(0))

    @property
    def pnl(self) -> Decimal:
        """Realised and unrealised, after fees, of all instruments."""
        return sum((position.pnl for position in self.positions.values()), Decimal(0))
