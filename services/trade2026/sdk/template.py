"""The files that `trade2026 strategy new` writes: a strategy that works, its test, its manifest."""

import keyword

_TAKEN = ("Desk", "Parameters", "Strategy", "Trade", "Decimal")
"""What the files import: a class of such a name would hide it."""

_STRATEGY = '''\
"""{title}: buys when the price has fallen quickly, and sells when it has recovered."""

from collections import deque
from decimal import Decimal

from trade2026.sdk import Parameters, Strategy, Trade


class {cls}Parameters(Parameters):
    """What may be set in the manifest."""

    quantity: Decimal = Decimal("0.01")
    trades: int = 50
    """How far back it looks."""
    dip_bps: Decimal = Decimal(20)
    """A fall by so much below the highest price is a dip."""


class {cls}(Strategy[{cls}Parameters]):
    parameters = {cls}Parameters

    def __init__(self) -> None:
        self.prices: deque[Decimal] = deque(maxlen=1_000)

    def on_trade(self, trade: Trade) -> None:
        self.prices.append(trade.price)
        if len(self.prices) < self.p.trades or self.ctx.orders:
            return
        highest = max(list(self.prices)[-self.p.trades :])
        fall_bps = (highest - trade.price) / highest * 10_000
        held = self.ctx.position().quantity
        if not held and fall_bps >= self.p.dip_bps:
            self.ctx.buy(self.p.quantity)
            self.ctx.log("bought the dip", price=trade.price)
        elif held and fall_bps < self.p.dip_bps / 4:
            self.ctx.sell(held, reduce_only=True)

    def on_stop(self) -> None:
        self.ctx.cancel_all()
'''

_TEST = '''\
"""What {cls} does, tried at a desk without a market."""

from {module} import {cls}

from trade2026.sdk.testing import Desk


def test_it_buys_a_dip_and_sells_the_recovery() -> None:
    desk = Desk({cls}, trades=3, dip_bps=20)
    desk.trades([100, 100, 100, "99.5"])
    assert desk.position.quantity > 0
    desk.trades([100, 100, 100])
    assert desk.position.quantity == 0


def test_a_restart_changes_nothing() -> None:
    whole, crashed = Desk({cls}, trades=3), Desk({cls}, trades=3)
    for price in [100, 101, 99, 98, 100, 102, 101, 97, 103]:
        whole.trade(price)
        crashed.trade(price)
        crashed.restart()
    assert crashed.decisions == whole.decisions
'''

_MANIFEST = """\
apiVersion: trade2026.io/v1alpha1
kind: Strategy
metadata: {{name: {name}}}
spec:
  source: {{file: {module}.py}}
  symbols: [BTCUSDT]
  parameters:
    quantity: "0.01"
  risk:                        # ceilings of this strategy; a breach of the last two halts it
    maxPosition: "0.5"
    maxOrderQuantity: "0.1"
    maxDailyLoss: "1000"
    maxExecutions: {{count: 100, per: 1m}}
"""


def files(name: str) -> dict[str, str]:
    """Return the strategy's file, its test and its manifest, by file name.

    Args:
        name: Lower-case letters, digits and dashes.
    """
    module = name.replace("-", "_")
    if not module[0].isalpha() or keyword.iskeyword(module) or module.capitalize() in _TAKEN:
        module = f"s_{module}"
    words = {"name": name, "module": module, "title": name.replace("-", " ").capitalize()}
    words["cls"] = "".join(part.capitalize() for part in module.split("_"))
    return {
        f"{module}.py": _STRATEGY.format(**words),
        f"test_{module}.py": _TEST.format(**words),
        f"{module}.yaml": _MANIFEST.format(**words),
    }
