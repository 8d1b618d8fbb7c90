"""Momentum: long while the fast average of closing prices is above the slow one, short while it is below."""

from decimal import Decimal

from trade2026.sdk import ATR, EMA, Bar, Parameters, Strategy


class MomentumParameters(Parameters):
    """What may be set in the manifest."""

    interval: str = "10s"
    """Of the bars."""
    fast: int = 8
    slow: int = 24
    """Bars over which the averages look."""
    quantity: Decimal = Decimal("0.1")
    """Of the position, long or short."""
    threshold: float = 0.5
    """How far apart the averages must be to act, in average true ranges: in between it stays as it is."""


class Momentum(Strategy[MomentumParameters]):
    """Follows what has begun."""

    parameters = MomentumParameters

    def bars(self) -> tuple[str, ...]:
        return (self.p.interval,)

    def warm_up_bars(self) -> int:
        return 4 * self.p.slow

    def __init__(self) -> None:
        self.fast: EMA | None = None
        self.slow: EMA | None = None
        self.range = ATR(14)

    def on_bar(self, bar: Bar) -> None:
        if self.fast is None or self.slow is None:
            self.fast, self.slow = EMA(self.p.fast), EMA(self.p.slow)
        fast, slow, reach = self.fast.update(bar.close), self.slow.update(bar.close), self.range.update(bar)
        if fast is None or slow is None or not reach or self.ctx.warming:
            return
        if fast - slow > self.p.threshold * reach:
            self.move_to(self.p.quantity)
        elif slow - fast > self.p.threshold * reach:
            self.move_to(-self.p.quantity)

    def move_to(self, target: Decimal) -> None:
        """Trade the difference at the market, one order at a time."""
        if self.ctx.orders:
            return
        missing = target - self.ctx.position().quantity
        if missing > 0:
            self.ctx.buy(missing, tag="momentum")
        elif missing < 0:
            self.ctx.sell(-missing, tag="momentum")

    def on_stop(self) -> None:
        self.ctx.cancel_all()
