"""P&L: follows `orders.events` and `market.ticks`, owns `pnl`.

What it promises: realised P&L by average cost (or FIFO, LIFO: `method`) as of a position in the log, unrealised at the market's newest
trade, one `PnlRealized` per fill, an equity curve with at most one point per second. Without market data
the last fill's price is the mark.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

import msgspec

from trade2026.domain.events import Envelope, PnlRealized
from trade2026.domain.instruments import Instruments
from trade2026.domain.market import Trade
from trade2026.kit.bus.port import Record
from trade2026.kit.cell_service import CellService
from trade2026.kit.follower import Follower
from trade2026.kit.http import App
from trade2026.kit.lag import Followed
from trade2026.kit.projection import Projection, totals
from trade2026.kit.projection_cell import ProjectionCell
from trade2026.kit.service import Context, Health
from trade2026.pnl import api
from trade2026.pnl.machine import Method, PnlMachine

_PNL = "pnl"
_TICKS = "market.ticks"
_TICKS_AT_START = 1_000
_SECOND = 10**9


class PnlConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`config` of the service."""

    method: Method = "average"
    """Which lots a sale closes."""


class PnlService(CellService[ProjectionCell]):
    """Profit and loss."""

    name = "pnl"
    title = "Profit and loss"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        instruments = Instruments(self.settings.instruments).by_id
        config = msgspec.convert(self.settings.config.get(self.name, {}), PnlConfig)
        make = partial(PnlMachine, self.settings.base_currency, instruments, config.method)

        def cell(partition: int) -> ProjectionCell:
            return ProjectionCell(Projection(context, self.name, make, {_PNL: (PnlRealized,)}, partition=partition))

        self.split(_PNL, cell)
        self._ticks: Follower | None = None
        self._sampled = 0

    @property
    def machines(self) -> list[PnlMachine]:
        """The folds that are here."""
        return [cell.machine for cell in self.cells.here.values()]

    def routes(self, app: App) -> None:
        super().routes(app)
        api.add_routes(app, self)

    async def start(self) -> None:
        await super().start()
        bus = self.context.bus
        begin = max(await bus.start(_TICKS, 0), await bus.end(_TICKS, 0) - _TICKS_AT_START)
        self._ticks = Follower(bus, _TICKS, self._on_tick, from_seq=begin, on_batch=self._on_ticks)
        await self._ticks.start()

    async def stop(self) -> None:
        if self._ticks is not None:
            await self._ticks.stop()
        await super().stop()

    def followed(self) -> Iterable[Followed]:
        ticks = [self._ticks] if self._ticks is not None else []
        return [*ticks, *super().followed()]

    def health(self) -> dict[str, Health]:
        checks = super().health()
        if self._ticks is not None:
            checks["market_data"] = Health(not self._ticks.error, self._ticks.error)
        return checks

    def stats(self) -> dict[str, Any]:
        machines = self.machines
        return {
            **totals(cell.projection.stats() for cell in self.cells.here.values()),
            "partitions": sorted(self.cells.here),
            "accounts": sum(len(machine.curves) for machine in machines),
            "positions": sum(len(machine.positions) for machine in machines),
            "marks": max((len(machine.marks) for machine in machines), default=0),
        }

    def _on_tick(self, envelope: Envelope, record: Record) -> None:
        trade = envelope.data
        assert isinstance(trade, Trade)
        for machine in self.machines:
            machine.mark(trade.instrument, trade.price)

    async def _on_ticks(self) -> None:
        now = self.context.clock.now()
        if now // _SECOND > self._sampled:
            self._sampled = now // _SECOND
            for machine in self.machines:
                machine.sample(now)
