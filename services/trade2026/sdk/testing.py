"""Try a strategy without a stack: give it prices, see what it decides.

    >>> from trade2026.sdk.examples.momentum import Momentum
    >>> desk = Desk(Momentum, interval="1s", fast=2, slow=4)
    >>> desk.trades([100 + n for n in range(60)])
    >>> desk.orders[0].side
    'BUY'

`Desk` accepts every order and fills what the prices reach. It is no market: `trade2026 strategy run` is.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import msgspec

from trade2026.domain import events as ev
from trade2026.domain.instruments import Instrument
from trade2026.domain.market import Book, Level, Trade
from trade2026.domain.numbers import SCALE, to_nanos
from trade2026.domain.orders import OrderSpec, OrderType
from trade2026.sdk.hosted import Definition, Hosted
from trade2026.sdk.strategy import Strategy
from trade2026.sdk.types import Number, Order, Position

SECOND = 1_000_000_000
EPOCH = 1_700_000_000 * SECOND

BTCUSDT = Instrument(
    symbol="BTCUSDT",
    venue="SIM",
    base="BTC",
    quote="USDT",
    settlement="USDT",
    tick_size=SCALE // 100,
    lot_size=SCALE // 100_000,
)


class StrategyFailed(AssertionError):
    """The strategy raised an error; the message has its last lines."""


class Desk:
    """A desk of one strategy, with a clock that moves only when told.

    Args:
        make: The strategy's class.
        parameters: As in a manifest.
    """

    def __init__(
        self,
        make: type[Strategy[Any]],
        *,
        instrument: Instrument = BTCUSDT,
        name: str = "tried",
        **parameters: Any,
    ) -> None:
        self.make, self.instrument = make, instrument
        self.definition = Definition(
            name=name, account="main", instruments=[instrument.instrument_id], parameters=parameters
        )
        self.hosted = Hosted(make, self.definition, [instrument])
        self.now = EPOCH
        self.decisions: list[ev.Decision] = []
        self.lines: list[str] = []
        """What it has logged."""
        self._seq = self._prints = self._executions = 0
        self._working: dict[str, tuple[str, OrderSpec, int]] = {}
        self._bid = self._ask = 0
        self.hosted.start(self.now)
        self._settle()

    @property
    def orders(self) -> list[Order]:
        """Every order that it has decided, the oldest first."""
        specs = [decision.spec for decision in self.decisions if isinstance(decision, ev.OrderDecided)]
        found = [self.hosted.ctx.order(spec.client_order_id) for spec in specs]
        return [order for order in found if order is not None]

    @property
    def position(self) -> Position:
        """Its position."""
        return self.hosted.ctx.position()

    def trade(self, price: Number, quantity: Number = 1, *, after: int = SECOND) -> None:
        """The market trades, `after` ns later: what rests at a better price is filled."""
        self.now += after
        self._prints += 1
        nanos = to_nanos(Decimal(str(price)))
        name = self.instrument.instrument_id
        print_ = Trade(name, f"t-{self._prints}", nanos, to_nanos(Decimal(str(quantity))), venue_seq=self._prints)
        self._bid = self._bid and min(self._bid, nanos)
        self._ask = self._ask and max(self._ask, nanos)
        self._give(print_)
        for client_order_id, (order_id, spec, filled) in list(self._working.items()):
            if spec.price and (nanos < spec.price if spec.side == "BUY" else nanos > spec.price):
                self._fill(client_order_id, order_id, spec, spec.quantity - filled, spec.price)
        self._settle()

    def trades(self, prices: Iterable[Number], *, after: int = SECOND) -> None:
        """One trade per price."""
        for price in prices:
            self.trade(price, after=after)

    def quote(self, bid: Number, ask: Number, quantity: Number = 1, *, after: int = 0) -> None:
        """The book shows one level a side."""
        self.now += after
        self._bid, self._ask = (to_nanos(Decimal(str(price))) for price in (bid, ask))
        size = to_nanos(Decimal(str(quantity)))
        self._give(Book(self.instrument.instrument_id, [Level(self._bid, size)], [Level(self._ask, size)]))
        self._settle()

    def wait(self, ns: int) -> None:
        """Time passes."""
        self.now += ns
        self.hosted.pass_time(self.now)
        self._settle()

    def stop(self) -> None:
        """The strategy is stopped in order."""
        self.hosted.stop(self.now, "the test is over")
        self._settle()

    def restart(self) -> None:
        """Save it, forget it, and restore it, as after a crash."""
        state = self.hosted.save()
        self.hosted = Hosted(self.make, self.definition, [self.instrument])
        self.hosted.restore(state)
        assert self.hosted.save() == state, "what is restored is not what was saved: look at save() and restore()"

    # ── inside ──────────────────────────────────────────────────────────────────────────────

    def _give(self, event: ev.AnyEvent) -> None:
        envelope = ev.Envelope(self._seq, 1, self.now, self.now, "test", "market", "", "", "", event)
        self._seq += 1
        self.hosted.deliver(envelope)
        self.lines += self.hosted.take_lines()
        if self.hosted.status == "failed":
            raise StrategyFailed(self.hosted.reason)

    def _settle(self) -> None:
        """Do what it has decided, until it decides nothing more."""
        if self.hosted.status == "failed":
            raise StrategyFailed(self.hosted.reason)
        while decisions := self.hosted.take():
            self.decisions += decisions
            for decision in decisions:
                self._act(decision)

    def _act(self, decision: ev.Decision) -> None:
        if isinstance(decision, ev.OrderDecided):
            self._accept(decision.spec)
        elif isinstance(decision, ev.OrderListDecided):
            for spec in decision.specs:
                self._accept(spec)
        elif (working := self._working.get(decision.client_order_id)) is None:
            return
        elif isinstance(decision, ev.CancelDecided):
            del self._working[decision.client_order_id]
            self._give(ev.OrderCanceled(order_id=working[0]))
        else:
            order_id, spec, filled = working
            terms = {name: value for name in ("quantity", "price", "stop_price") if (value := getattr(decision, name))}
            spec = msgspec.structs.replace(spec, **terms)
            self._working[decision.client_order_id] = (order_id, spec, filled)
            self._give(ev.OrderReplaced(order_id=order_id, quantity=spec.quantity, price=spec.price))

    def _accept(self, spec: OrderSpec) -> None:
        order_id = f"o-{spec.client_order_id}"
        self._working[spec.client_order_id] = (order_id, spec, 0)
        self._give(ev.OrderAccepted(order_id=order_id, spec=spec, reserved_price=spec.price))
        self._give(ev.OrderOpened(order_id=order_id))
        buys = spec.side == "BUY"
        other = self._ask if buys else self._bid
        if not other and (last := self.hosted.ctx.last()) is not None:
            other = to_nanos(last.price)
        crosses = other and (not spec.price or (spec.price >= other if buys else spec.price <= other))
        if crosses and not spec.is_held and not spec.post_only:
            self._fill(spec.client_order_id, order_id, spec, spec.quantity, other)
        elif spec.order_type is OrderType.MARKET or spec.time_in_force in ("IOC", "FOK"):
            del self._working[spec.client_order_id]
            self._give(ev.OrderCanceled(order_id=order_id, reason="nothing to trade with"))

    def _fill(self, client_order_id: str, order_id: str, spec: OrderSpec, quantity: int, price: int) -> None:
        del self._working[client_order_id]
        self._executions += 1
        self._give(
            ev.OrderFilled(
                order_id=order_id,
                exec_id=f"e-{self._executions}",
                account=spec.account,
                instrument=spec.instrument,
                side=spec.side,
                last_qty=quantity,
                last_px=price,
                cum_qty=spec.quantity,
                leaves_qty=0,
                cum_cost=spec.quantity * price,
                strategy=spec.strategy,
                client_order_id=client_order_id,
            )
        )
