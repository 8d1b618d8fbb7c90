"""Post-trade: follows `orders.events`, owns `positions`.

What it promises: the position of every account, instrument and strategy with its lots, as of a position in
the log; one `PositionChanged` per fill; breaks against a venue's statement with the executions that cause
them. It needs no market data and changes nothing.
"""

from typing import Any

from trade2026.domain.instruments import Instruments
from trade2026.kit.http import App
from trade2026.kit.projection import Projection
from trade2026.kit.service import Context, Health, Service
from trade2026.ptrc import api
from trade2026.ptrc.machine import PositionMachine


class PtrcService(Service):
    """Positions, reconciliation, transaction reports."""

    name = "ptrc"
    title = "Post-trade"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        venue = self.settings.venues[0].name if self.settings.venues else None
        self.instruments = Instruments(self.settings.instruments, venue)
        self.projection = Projection(context, self.name, PositionMachine, "positions")
        self.breaks: int | None = None
        """Found by the last reconciliation."""

    @property
    def machine(self) -> PositionMachine:
        """The fold; another object after a recovery."""
        return self.projection.machine

    def routes(self, app: App) -> None:
        api.add_routes(app, self)

    async def start(self) -> None:
        await self.projection.start()

    async def stop(self) -> None:
        await self.projection.stop()

    def readiness(self) -> tuple[bool, str]:
        return self.projection.readiness()

    def health(self) -> dict[str, Health]:
        return self.projection.health()

    def stats(self) -> dict[str, Any]:
        return {
            **self.projection.stats(),
            "positions": len(self.machine.positions),
            "lots": sum(len(holding.book.lots) for holding in self.machine.holdings.values()),
            "breaks": self.breaks,
        }
