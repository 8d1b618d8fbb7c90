"""Mean reversion over bars: against a price that is far from its average, out when it is back."""

from decimal import Decimal

from trade2026.sdk import Bar, Parameters, Strategy, ZScore


class MeanReversionParameters(Parameters):
    """What may be set in the manifest."""

    interval: str = "5s"
    """Of the bars."""
    window: int = 30
    """Bars of the average."""
    entry: float = 2.0
    """Standard deviations from the average at which a position begins."""
    exit: float = 0.5
    """And within which it ends."""
    quantity: Decimal = Decimal("0.1")
    """Of the position, long or short."""
    bars_max: int = 60
    """A position that has not come back after so many bars is given up."""


class MeanReversion(Strategy[MeanReversionParameters]):
    """Leans against what has gone too far."""

    parameters = MeanReversionParameters

    def __init__(self) -> None:
        self.score: ZScore | None = None
        self.age = 0

    def bars(self) -> tuple[str, ...]:
        return (self.p.interval,)

    def warm_up_bars(self) -> int:
        return 4 * self.p.window

    def on_bar(self, bar: Bar) -> None:
        if self.score is None:
            self.score = ZScore(self.p.window)
        score = self.score.update(bar.close)
        if score is None or self.ctx.warming:
            return
        held = self.ctx.position().quantity
        self.age = self.age + 1 if held else 0
        if self.ctx.orders:
            self.ctx.cancel_all()
        elif not held and abs(score) >= self.p.entry:
            self.enter(bar, score)
        elif held and (abs(score) <= self.p.exit or self.age > self.p.bars_max):
            self.leave(held)

    def enter(self, bar: Bar, score: float) -> None:
        """Rest at the price that was too far away; what is not filled by the next bar is cancelled."""
        if score > 0:
            self.ctx.sell(self.p.quantity, bar.close, tag="entry")
        else:
            self.ctx.buy(self.p.quantity, bar.close, tag="entry")

    def leave(self, held: Decimal) -> None:
        """Out at the market."""
        if held > 0:
            self.ctx.sell(held, reduce_only=True, tag="exit")
        else:
            self.ctx.buy(-held, reduce_only=True, tag="exit")

    def on_stop(self) -> None:
        self.ctx.cancel_all()
