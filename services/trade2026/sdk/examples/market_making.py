"""Market making with inventory: a bid and an ask around the average price, both lower the more we hold."""

from decimal import Decimal

from trade2026.sdk import EMA, Fill, Order, Parameters, Strategy, Timer, Trade


class MarketMakingParameters(Parameters):
    """What may be set in the manifest."""

    quantity: Decimal = Decimal("0.05")
    """Of each quote."""
    half_spread_bps: Decimal = Decimal(15)
    """How far each quote lies from their middle."""
    period: int = 50
    """Trades of the average price that is taken for fair."""
    inventory_max: Decimal = Decimal("0.5")
    """Long or short; at it, only the side that reduces is quoted."""
    skew_bps: Decimal = Decimal(20)
    """How far the middle of our quotes moves away when the inventory is at its maximum."""
    requote_bps: Decimal = Decimal(2)
    """A quote stays where it is until it should be this far away."""
    every: str = "1s"
    """How often quotes are looked at."""


class MarketMaking(Strategy[MarketMakingParameters]):
    """Earns the spread, and leans against its inventory."""

    parameters = MarketMakingParameters

    def __init__(self) -> None:
        self.bid: Order | None = None
        self.ask: Order | None = None
        self.fair: EMA | None = None

    def warm_up(self) -> int:
        return 500

    def on_trade(self, trade: Trade) -> None:
        if self.fair is None:
            self.fair = EMA(self.p.period)
        self.fair.update(trade.price)

    def on_start(self) -> None:
        self.ctx.timer("quote", every=self.p.every)

    def on_stop(self) -> None:
        self.ctx.cancel_all()

    def on_timer(self, timer: Timer) -> None:
        quote = self.ctx.quote()
        if quote is None or self.fair is None or self.fair.value is None:
            return
        held = self.ctx.position().quantity
        lean = held / self.p.inventory_max * self.p.skew_bps
        middle = self.ctx.round_price(self.fair.value) * (1 - lean / 10_000)
        half = middle * self.p.half_spread_bps / 10_000
        self.bid = self.keep("BUY", self.bid, min(middle - half, quote.bid), held < self.p.inventory_max)
        self.ask = self.keep("SELL", self.ask, max(middle + half, quote.ask), held > -self.p.inventory_max)

    def on_fill(self, fill: Fill) -> None:
        self.ctx.log("filled", side=fill.side, quantity=fill.quantity, price=fill.price, held=self.ctx.position())

    def keep(self, side: str, order: Order | None, price: Decimal, wanted: bool) -> Order | None:
        """Have one order at about the price, or none if it is not wanted."""
        if order is None or not order.is_open:
            return self.submit(side, price) if wanted else None
        away = abs(order.price - price) > price * self.p.requote_bps / 10_000
        if not wanted:
            self.ctx.cancel(order)
        elif away and order.status in ("New", "PartiallyFilled"):
            self.ctx.amend(order, price=price)
        return order

    def submit(self, side: str, price: Decimal) -> Order:
        """A new quote that only rests, never takes."""
        send = self.ctx.buy if side == "BUY" else self.ctx.sell
        return send(self.p.quantity, price, post_only=True, tag="quote")
