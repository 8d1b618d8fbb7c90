"""A strategy for measurements: every tenth trade makes it buy or sell a little, in turns, so that it stays flat."""

from decimal import Decimal

from trade2026.sdk import Parameters, Strategy, Trade


class EagerParameters(Parameters):
    """What may be set in the manifest."""

    every: int = 10
    """Trades from one order to the next."""
    quantity: Decimal = Decimal("0.001")


class Eager(Strategy[EagerParameters]):
    """Orders at the market at a steady rate."""

    parameters = EagerParameters

    def __init__(self) -> None:
        self.seen = 0
        self.buys = False

    def on_trade(self, trade: Trade) -> None:
        self.seen += 1
        if self.seen % self.p.every == 0:
            self.buys = not self.buys
            (self.ctx.buy if self.buys else self.ctx.sell)(self.p.quantity)
