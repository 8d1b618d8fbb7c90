"""What the gateway's tests are made of."""

from decimal import Decimal
from typing import Any

from trade2026.domain.events import AnyEvent, Envelope, decode, encode
from trade2026.domain.instruments import Instrument
from trade2026.domain.market import Book, Level, Trade
from trade2026.domain.numbers import to_nanos
from trade2026.domain.orders import OrderSpec, OrderType, TimeInForce
from trade2026.gateway import commands as cmd
from trade2026.gateway.machine import PaperVenue
from trade2026.gateway.replay import Recording, Replay

SECOND = 1_000_000_000
BTC = Instrument(
    symbol="BTCUSDT",
    venue="SIM",
    base="BTC",
    quote="USDT",
    settlement="USDT",
    tick_size=to_nanos("0.01"),
    lot_size=to_nanos("0.001"),
    maker_fee_bps=1,
    taker_fee_bps=5,
)
NAME = BTC.instrument_id
RECORDING = Recording(
    "t",
    [100, 101, 101, 101, 104, 400, 401],
    [to_nanos(price) for price in (800, "800.5", "800.015", 799, 801, "802.25", 803)],
    [to_nanos(quantity) for quantity in ("1", "0.5", "0.0004", "2", "0.25", "3", "0.75")],
)


def replay(**terms: Any) -> Replay:
    """A replay of the small recording."""
    return Replay(RECORDING, BTC, **{"scale": Decimal(56), "speed": Decimal(1), **terms})


def spec(side: str, quantity: str, price: str | None = None, **terms: Any) -> OrderSpec:
    """An order: MARKET without a price."""
    return OrderSpec(
        **{
            "client_order_id": "c",
            "account": "main",
            "instrument": NAME,
            "side": side,
            "order_type": OrderType.MARKET if price is None else OrderType.LIMIT,
            "quantity": to_nanos(quantity),
            "price": to_nanos(price) if price is not None else 0,
            "time_in_force": TimeInForce.GTC,
            **terms,
        }
    )


def book(bids: list[tuple[str, str]], asks: list[tuple[str, str]]) -> Book:
    """A book of (price, quantity)."""
    return Book(NAME, _levels(bids), _levels(asks))


def _levels(levels: list[tuple[str, str]]) -> list[Level]:
    return [Level(to_nanos(price), to_nanos(quantity)) for price, quantity in levels]


BOOK = book([("99", "1"), ("98", "2")], [("101", "1"), ("102", "2")])


class Desk:
    """A venue with its log: commands in, reports out."""

    def __init__(
        self, market: Book | None = BOOK, kills: dict[str, cmd.Kill] | None = None, partitions: int = 1
    ) -> None:
        self.kills = kills if kills is not None else {}
        self.partitions = partitions
        self.venue = PaperVenue({NAME: BTC}, self.kills, partitions)
        self.log: list[bytes] = []
        self.homes: list[int] = []
        """The partition of each record of the log."""
        self.prints = 0
        self.causes = 0
        if market is not None:
            self.print("100", "0.001", market)

    def decide(self, command: Any) -> list[AnyEvent]:
        """Decide, fold and log; returns the reports."""
        reports: list[AnyEvent] = []

        def emit(event: AnyEvent) -> None:
            order_id = getattr(event, "order_id", "")
            trace, home = self.venue.traceparent_of(order_id), self.venue.partition_of(order_id)
            seq, cause = self.homes.count(home), command.causation_id
            envelope = Envelope(seq, 1, command.ts, command.ts, "t", "venue", "", cause, trace, event)
            self.venue.apply(envelope, home)
            self.log.append(encode(envelope))
            self.homes.append(home)
            reports.append(event)

        self.venue.decide(command, emit)
        return reports

    def _common(self, order_id: str) -> dict[str, Any]:
        self.causes += 1
        home = self.venue.partition_of(order_id)
        return {"ts": self.causes, "causation_id": f"orders.events/{home}/{self.causes - 1}"}

    def place(self, order_id: str, order: OrderSpec) -> list[AnyEvent]:
        return self.decide(cmd.PlaceOrders(orders=[cmd.NewOrder(order_id, order)], **self._common(order_id)))

    def cancel(self, order_id: str) -> list[AnyEvent]:
        return self.decide(cmd.CancelWorking(order_id=order_id, **self._common(order_id)))

    def replace(self, order_id: str, quantity: str, price: str) -> list[AnyEvent]:
        terms = {"quantity": to_nanos(quantity), "price": to_nanos(price)}
        return self.decide(cmd.ReplaceWorking(order_id=order_id, **terms, **self._common(order_id)))

    def print(self, price: str, quantity: str, market: Book | None = None) -> list[AnyEvent]:
        self.prints += 1
        trade = Trade(NAME, f"t-0-{self.prints}", to_nanos(price), to_nanos(quantity))
        return self.decide(cmd.ObservePrint(ts=self.prints, trade=trade, book=market))

    def expire(self, ts: int) -> list[AnyEvent]:
        return self.decide(cmd.ExpireOrders(ts=ts))

    def rebuilt(self, snapshot: bytes | None = None) -> PaperVenue:
        """A venue that has only read the log, or a snapshot of it and the rest."""
        venue = PaperVenue({NAME: BTC}, partitions=self.partitions)
        if snapshot is not None:
            venue.restore(snapshot)
        for body, home in list(zip(self.log, self.homes, strict=True))[venue.next_seq :]:
            venue.apply(decode(body), home)
        return venue


def state(venue: PaperVenue) -> dict[str, Any]:
    """All of a venue's state that its log must give back: everything but the market's queues."""

    def shown(order: Any) -> tuple[Any, ...]:
        return (order.order_id, order.venue_order_id, order.spec, order.leaves_qty, order.cum_qty, order.status)

    return {
        "orders": {order_id: shown(order) for order_id, order in venue.orders.items()},
        "closed": [(shown(order), order.reason) for order in venue.closed.values()],
        "resting": {
            (name, side.buys, price): [(name, venue.orders[name].shown) for name in level.orders]
            for name, sides in venue._resting.items()
            for side in sides
            for price, level in sorted(side.levels.items())
        },
        "expiries": sorted((at, name) for at, name in venue._expiries if name in venue.orders),
        "counters": (venue.next_seq, venue.executions, venue.accepted, venue.orders_next, venue.last_print),
    }
