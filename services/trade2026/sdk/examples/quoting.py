"""A bid and an ask in each of its symbols, each by itself: so its symbols can be shared out among processes."""

from decimal import Decimal

from trade2026.sdk import Parameters, Strategy, Timer


class QuotingParameters(Parameters):
    """What may be set in the manifest."""

    quantity: Decimal = Decimal("0.01")
    """Of each quote."""
    half_spread_bps: Decimal = Decimal(10)
    """How far each quote lies from the last price."""
    requote_bps: Decimal = Decimal(2)
    """A quote stays where it is until it should be this far away."""
    every: str = "1s"
    """How often quotes are looked at."""


class Quoting(Strategy[QuotingParameters]):
    """Remembers nothing: what it has open is in its orders."""

    parameters = QuotingParameters

    def on_start(self) -> None:
        self.ctx.timer("quote", every=self.p.every)

    def on_timer(self, timer: Timer) -> None:
        for instrument in self.ctx.instruments:
            last = self.ctx.last(instrument)
            if last is not None:
                half = last.price * self.p.half_spread_bps / 10_000
                self.keep("BUY", last.price - half, instrument)
                self.keep("SELL", last.price + half, instrument)

    def keep(self, side: str, price: Decimal, instrument: str) -> None:
        """Have one order at about the price."""
        mine = [order for order in self.ctx.orders if (order.instrument, order.side) == (instrument, side)]
        for order in mine:
            if abs(order.price - price) > price * self.p.requote_bps / 10_000:
                self.ctx.cancel(order)
        if not mine:
            send = self.ctx.buy if side == "BUY" else self.ctx.sell
            send(self.p.quantity, price, instrument, tag="quote")
