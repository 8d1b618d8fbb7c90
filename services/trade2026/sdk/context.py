"""`ctx`: everything that a strategy may know and do. Pure: it collects decisions, and whoever runs it sends them."""

import random
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import Literal

import msgspec

from trade2026.domain import events as ev
from trade2026.domain import instruments as domain
from trade2026.domain import market
from trade2026.domain.numbers import to_nanos
from trade2026.domain.orders import OrderSpec, OrderType, Side, TimeInForce
from trade2026.domain.positions import Position as PositionFold
from trade2026.marketdata.bars import BarSpec
from trade2026.sdk.orders import StrategyOrders
from trade2026.sdk.types import Account, Bar, Book, Instrument, Number, Order, Position, Quote, Trade, decimal

HISTORY_MAX = 1_000
"""Complete bars that are kept of each interval."""
_UNIT_NS = {"ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3_600 * 10**9}


class TimerState(msgspec.Struct):
    """When a timer is due (ns), and how often again (0: once)."""

    due: int
    every: int = 0


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """An order that was described and not yet submitted; made by `ctx.request`. Amounts are nanos."""

    side: Side
    instrument: str
    order_type: OrderType
    quantity: int
    price: int = 0
    stop_price: int = 0
    trailing_offset: int = 0
    display_quantity: int = 0
    time_in_force: TimeInForce = TimeInForce.GTC
    expire_at: int = 0
    post_only: bool = False
    reduce_only: bool = False
    tag: str = ""


class Context:
    """What one strategy sees and does.

    Amounts may be given as `Decimal`, int, text or float. A limit price is rounded to the tick away from the
    market (a buy down, a sell up), a quantity down to the lot.
    """

    def __init__(
        self, name: str, account: str, instruments: Iterable[domain.Instrument], seed: int = 0, shard: int = 0
    ) -> None:
        self.name, self.account_name = name, account
        self.ids = f"{name}.{shard}" if shard else name
        """How the ids of our orders begin; those of other processes of this strategy begin otherwise."""
        self.now = 0
        """Nanoseconds since the epoch, on the stack's clock."""
        self.random = random.Random(f"{self.ids}/{seed}")
        """The only source of randomness: the same in every replay."""
        self.warming = False
        """Whether this is history: orders are refused."""
        self.halted: dict[str, str] = {}
        """Scopes in which we may not trade, with the reason; empty while all is well."""
        self.instruments = {
            i.instrument_id: Instrument(
                i.instrument_id,
                i.symbol,
                i.venue,
                i.base,
                i.quote,
                decimal(i.tick_size),
                decimal(i.lot_size),
                decimal(i.min_notional),
                decimal(i.multiplier),
            )
            for i in instruments
        }
        """What this strategy trades, by `SYMBOL.VENUE`."""
        self._default = next(iter(self.instruments), "")
        self._orders = StrategyOrders(name, self.ids)
        self._trades: dict[str, Trade] = {}
        self._books: dict[str, tuple[int, market.Book]] = {}
        """Each with its time (ns)."""
        self._history: dict[tuple[str, str], deque[market.Bar]] = {}
        self._timers: dict[str, TimerState] = {}
        self._decisions: list[ev.Decision] = []
        self._number = 0
        self._lines: list[str] = []

    # ── what it knows ───────────────────────────────────────────────────────────────────────

    @property
    def time(self) -> datetime:
        """The time in UTC (microseconds; `now` has all of it)."""
        return datetime.fromtimestamp(self.now // 1_000 / 1e6, UTC)

    @property
    def instrument(self) -> Instrument:
        """The first instrument, usually the only one."""
        return self.instruments[self._default]

    def last(self, instrument: str = "") -> Trade | None:
        """The last trade; None before the first."""
        return self._trades.get(self.resolve(instrument))

    def quote(self, instrument: str = "") -> Quote | None:
        """The best bid and ask; None while a side is empty."""
        ts, book = self._books.get(self.resolve(instrument), (0, None))
        if book is None or not book.bids or not book.asks:
            return None
        bid, ask = book.bids[0], book.asks[0]
        return Quote(
            book.instrument, decimal(bid.price), decimal(bid.quantity), decimal(ask.price), decimal(ask.quantity), ts
        )

    def book(self, instrument: str = "") -> Book | None:
        """The book; None before the first."""
        ts, book = self._books.get(self.resolve(instrument), (0, None))
        return Book.of(book, ts) if book is not None else None

    def bars(self, interval: str, instrument: str = "") -> list[Bar]:
        """Complete bars of an interval that `Strategy.bars` names, the oldest first, at most `HISTORY_MAX`."""
        history = self._history.get((self.resolve(instrument), BarSpec.parse(interval).name), ())
        return [Bar.of(bar) for bar in history]

    def position(self, instrument: str = "") -> Position:
        """Our position, as all fills so far have made it."""
        name = self.resolve(instrument)
        return Position(self._orders.positions.get(name) or PositionFold(), self._mark(name))

    @property
    def account(self) -> Account:
        """Our part of the account: every position that we ever had in what we trade."""
        folds = {name: fold for name, fold in self._orders.positions.items() if name in self.instruments}
        return Account(self.account_name, {name: Position(fold, self._mark(name)) for name, fold in folds.items()})

    @property
    def orders(self) -> list[Order]:
        """Our open orders, the oldest first."""
        return [order for order in self._orders.open.values() if order.instrument in self.instruments]

    def order(self, client_order_id: str) -> Order | None:
        """One of our orders, also if it is over (the last thousand are known)."""
        return self._orders.find(client_order_id)

    def resolve(self, instrument: str) -> str:
        """Return `SYMBOL.VENUE` for it, for a bare symbol, or for nothing (the first instrument).

        Raises:
            LookupError: this strategy does not trade it.
        """
        if not instrument:
            return self._default
        if instrument in self.instruments:
            return instrument
        for name, known in self.instruments.items():
            if known.symbol == instrument:
                return name
        raise LookupError(f"{instrument!r} is not among the strategy's symbols: {', '.join(self.instruments)}")

    # ── what it does ────────────────────────────────────────────────────────────────────────

    def buy(self, quantity: Number, price: Number | None = None, instrument: str = "", **terms: object) -> Order:
        """Buy: at the market, or with a limit `price`. `terms` are those of `request`."""
        return self.submit(self.request("BUY", quantity, price, instrument, **terms))  # type: ignore[arg-type]

    def sell(self, quantity: Number, price: Number | None = None, instrument: str = "", **terms: object) -> Order:
        """Sell: at the market, or with a limit `price`. `terms` are those of `request`."""
        return self.submit(self.request("SELL", quantity, price, instrument, **terms))  # type: ignore[arg-type]

    def request(
        self,
        side: Side,
        quantity: Number,
        price: Number | None = None,
        instrument: str = "",
        *,
        stop_price: Number | None = None,
        trailing_offset: Number | None = None,
        display_quantity: Number | None = None,
        time_in_force: TimeInForce | str = TimeInForce.GTC,
        expire_at: int = 0,
        post_only: bool = False,
        reduce_only: bool = False,
        tag: str = "",
    ) -> Request:
        """Describe an order of any type; which type it is follows from what is given.

        Args:
            price: Limit price. With `stop_price`: STOP_LIMIT; with `display_quantity`: ICEBERG; alone: LIMIT.
            stop_price: Without a price: STOP, or TRAILING_STOP if `trailing_offset` is given too.
            expire_at: For GTD, ns.
            tag: Kept with the order (`algo`), for reports.

        Raises:
            ValueError: no quantity is left after rounding, or a price is not above zero.
        """
        name = self.resolve(instrument)
        terms = self.instruments[name]
        lots = self._lots(quantity, terms)
        if not lots:
            raise ValueError(f"{quantity} is less than one lot of {terms.instrument_id}, {terms.lot_size}")
        if stop_price is not None:
            trailing = OrderType.TRAILING_STOP if trailing_offset is not None else OrderType.STOP
            order_type = OrderType.STOP_LIMIT if price is not None else trailing
        elif price is None:
            order_type = OrderType.MARKET
        else:
            order_type = OrderType.ICEBERG if display_quantity is not None else OrderType.LIMIT
        return Request(
            side=side,
            instrument=name,
            order_type=order_type,
            quantity=lots,
            price=0 if price is None else to_nanos(self.round_price(price, side, name)),
            stop_price=0 if stop_price is None else to_nanos(self.round_price(stop_price, "", name)),
            trailing_offset=0 if trailing_offset is None else to_nanos(self.round_price(trailing_offset, "", name)),
            display_quantity=0 if display_quantity is None else self._lots(display_quantity, terms),
            time_in_force=TimeInForce(time_in_force),
            expire_at=expire_at // 1_000 * 1_000,
            post_only=post_only,
            reduce_only=reduce_only,
            tag=tag,
        )

    def submit(self, request: Request) -> Order:
        """Submit what `request` has described. The order is PendingNew, or Rejected at once while we are halted."""
        number = self._next_number()
        spec = self._spec(request, f"{self.ids}-{number}")
        order = self._orders.add(spec)
        if self._refused([order]):
            return order
        self._decisions.append(ev.OrderDecided(strategy=self.name, number=number, spec=spec))
        return order

    def submit_list(self, kind: Literal["OCO", "OTO", "BRACKET"], requests: list[Request]) -> list[Order]:
        """Submit orders that depend on each other.

        OCO: the first that executes or is cancelled cancels the others. OTO: the first works at once, the others
        when it has filled, independent of each other. BRACKET: an entry, then take profit and stop loss, of which
        the first that executes cancels the other.
        """
        number = self._next_number()
        specs = [self._spec(request, f"{self.ids}-{number}.{n}") for n, request in enumerate(requests)]
        orders = [self._orders.add(spec) for spec in specs]
        if not self._refused(orders):
            self._decisions.append(ev.OrderListDecided(strategy=self.name, number=number, kind=kind, specs=specs))
        return orders

    def cancel(self, order: Order) -> None:
        """Ask that the rest of an order be cancelled; nothing happens if it is over. Works while halted, too."""
        if not order.is_open or order.status == "PendingCancel":
            return
        number = self._next_number()
        cancel = ev.CancelDecided(strategy=self.name, number=number, client_order_id=order.client_order_id)
        self._decisions.append(cancel)

    def cancel_all(self, instrument: str = "") -> None:
        """Ask that all our open orders be cancelled, or those of one instrument."""
        name = self.resolve(instrument) if instrument else ""
        for order in self.orders:
            if not name or order.instrument == name:
                self.cancel(order)

    def amend(
        self,
        order: Order,
        *,
        quantity: Number | None = None,
        price: Number | None = None,
        stop_price: Number | None = None,
    ) -> None:
        """Ask for another total quantity, price or stop price; nothing happens if the order is over."""
        if not order.is_open or self.halted or self.warming:
            return
        name = order.instrument
        amend = ev.AmendDecided(
            strategy=self.name,
            number=self._next_number(),
            client_order_id=order.client_order_id,
            quantity=0 if quantity is None else self._lots(quantity, self.instruments[name]),
            price=0 if price is None else to_nanos(self.round_price(price, order.side, name)),
            stop_price=0 if stop_price is None else to_nanos(self.round_price(stop_price, "", name)),
        )
        self._decisions.append(amend)

    def timer(self, name: str, *, after: str | int = 0, every: str | int = 0) -> None:
        """Call `on_timer` after a time, once; or after it and then again and again.

        Args:
            name: Comes back with the call; a timer of the same name is replaced.
            after: Such as `"500ms"`, `"10s"`, `"5m"`, or ns. Omitted: `every`.
            every: The same; omitted: once.
        """
        period = _duration(every) if every else 0
        wait = _duration(after) if after else period
        if wait <= 0:
            raise ValueError("a timer needs `after` or `every`, such as every='10s'")
        self._timers[name] = TimerState(self.now + wait, period)

    def cancel_timer(self, name: str) -> None:
        """Forget a timer; nothing happens if there is none."""
        self._timers.pop(name, None)

    def log(self, text: str, **fields: object) -> None:
        """Say something to whoever runs this; a replay does not say it again."""
        told = " ".join(f"{name}={value}" for name, value in fields.items())
        self._lines.append(f"{text} {told}" if told else text)

    def round_price(self, price: Number, side: Side | Literal[""] = "", instrument: str = "") -> Decimal:
        """Return a price on the tick: the nearest, or away from the market for a side.

        Raises:
            ValueError: it is not above zero.
        """
        terms = self.instruments[self.resolve(instrument)]
        rounding = {"BUY": ROUND_FLOOR, "SELL": ROUND_CEILING}.get(side, ROUND_HALF_EVEN)
        ticks = (_exact(price) / terms.tick_size).to_integral_value(rounding)
        if ticks <= 0:
            raise ValueError(f"a price is above zero, not {price}")
        return ticks * terms.tick_size

    def round_quantity(self, quantity: Number, instrument: str = "") -> Decimal:
        """Return the quantity in whole lots, rounded down; 0 if it is less than one."""
        return decimal(self._lots(quantity, self.instruments[self.resolve(instrument)]))

    # ── inside ──────────────────────────────────────────────────────────────────────────────

    @staticmethod
    def _lots(quantity: Number, terms: Instrument) -> int:
        lots = (_exact(quantity) / terms.lot_size).to_integral_value(ROUND_FLOOR)
        if lots < 0:
            raise ValueError(f"a quantity is not negative: {quantity}; use sell to sell")
        return to_nanos(lots * terms.lot_size)

    def _mark(self, instrument: str) -> int:
        trade = self._trades.get(instrument)
        return to_nanos(trade.price) if trade is not None else 0

    def _next_number(self) -> int:
        number = max(self._number, self._orders.number_min)
        self._number = number + 1
        return number

    def _spec(self, request: Request, client_order_id: str) -> OrderSpec:
        return OrderSpec(
            client_order_id=client_order_id,
            account=self.account_name,
            instrument=request.instrument,
            side=request.side,
            order_type=request.order_type,
            quantity=request.quantity,
            price=request.price,
            stop_price=request.stop_price,
            trailing_offset=request.trailing_offset,
            display_quantity=request.display_quantity,
            time_in_force=request.time_in_force,
            expire_at=request.expire_at,
            post_only=request.post_only,
            reduce_only=request.reduce_only,
            strategy=self.name,
            algo=request.tag,
        )

    def _refused(self, orders: list[Order]) -> bool:
        """Whether new orders may not leave now; then they are rejected here."""
        if not self.halted and not self.warming:
            return False
        code, reason = ("WARMING", "it is warming up") if self.warming else ("HALTED", next(iter(self.halted.values())))
        for order in orders:
            self._orders.refuse(order.client_order_id, code, reason)
        return True


def _exact(number: Number) -> Decimal:
    return Decimal(repr(number)) if isinstance(number, float) else Decimal(number)


def _duration(text: str | int) -> int:
    if isinstance(text, int):
        return text
    digits = text.rstrip("msh")
    unit = text[len(digits) :]
    if unit not in _UNIT_NS or not digits.replace(".", "", 1).isdigit():
        raise ValueError(f"{text!r} is no duration: write 500ms, 10s, 5m or 1h")
    return int(Decimal(digits) * _UNIT_NS[unit])
