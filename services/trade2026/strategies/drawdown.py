"""How far each strategy is below its highest profit, as far as this process has seen it."""

from decimal import Decimal


class HighestProfits:
    """The highest profit of each strategy, which begins with nothing."""

    def __init__(self) -> None:
        self._highest: dict[str, Decimal] = {}

    def drawdown(self, name: str, pnl: Decimal) -> Decimal:
        """How much a profit is below the highest that was ever told, in the quote currency; 0 if it is that."""
        highest = self._highest[name] = max(pnl, self._highest.get(name, Decimal(0)))
        return highest - pnl
