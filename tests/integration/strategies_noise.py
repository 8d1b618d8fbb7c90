"""A strategy whose decisions depend on everything that must survive: randomness, timers, bars, what it remembers."""

from decimal import Decimal

from trade2026.sdk import Bar, Strategy, Timer, Trade


class Noise(Strategy):
    def __init__(self) -> None:
        self.seen: dict[str, int] = {}
        self.last = Decimal(0)

    def bars(self) -> tuple[str, ...]:
        return ("3tick", "700ms")

    def on_start(self) -> None:
        self.ctx.timer("beat", every="900ms")

    def on_trade(self, trade: Trade) -> None:
        self.last = trade.price
        if self.ctx.random.random() < 0.02:
            self.ctx.buy(Decimal("0.01") * (1 + self.seen.get("3tick", 0) % 7), trade.price - 1)

    def on_bar(self, bar: Bar) -> None:
        self.seen[bar.interval] = self.seen.get(bar.interval, 0) + 1
        if self.ctx.random.random() < 0.02:
            self.ctx.sell("0.02", bar.high + self.ctx.random.randrange(5))

    def on_timer(self, timer: Timer) -> None:
        if self.ctx.orders and self.ctx.random.random() < 0.2:
            self.ctx.cancel(self.ctx.random.choice(self.ctx.orders))
