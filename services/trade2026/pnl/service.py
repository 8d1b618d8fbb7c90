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
from trade2026.kit.follower import Follower
from trade2026.kit.http import App
from trade2026.kit.lag import Followed
from trade2026.kit.projection import Projection
from trade2026.kit.service import Context, Health, Service
from trade2026.pnl import api
from trade2026.pnl.machine import Method, PnlMachine

_TICKS = "market.ticks"
_TICKS_AT_START = 1_000
_SECOND = 10**9


class PnlConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`config` of the service."""

    method: Method = "average"
    """Which lots a sale closes."""


class PnlService(Service):
    """Profit and loss."""

    name = "pnl"
    title = "Profit and loss"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        instruments = Instruments(self.settings.instruments).by_id
        config = msgspec.convert(self.settings.config.get(self.name, {}), PnlConfig)
        make = partial(PnlMachine, self.settings.base_currency, instruments, config.method)
        self.projection = Projection(context, self.name, make, {"pnl": (PnlRealized,)})
        self._ticks: Follower | None = None
        self._sampled = 0

    @property
    def machine(self) -> PnlMachine:
        """The fold; another object after a recovery."""
        return self.projection.machine

    def routes(self, app: App) -> None:
        api.add_routes(app, self)

    async def start(self) -> None:
        await self.projection.start()
        bus = self.context.bus
        begin = max(await bus.start(_TICKS, 0), await bus.end(_TICKS, 0) - _TICKS_AT_START)
        self._ticks = Follower(bus, _TICKS, self._on_tick, from_seq=begin, on_batch=self._on_ticks)
        await self._ticks.start()

    async def stop(self) -> None:
        if self._ticks is not None:
            await self._ticks.stop()
        await self.projection.stop()

    def readiness(self) -> tuple[bool, str]:
        return self.projection.readiness()

    def replaced(self) -> str:
        return self.projection.replaced

    def followed(self) -> Iterable[Followed]:
        return [part for part in (self.projection.followed, self._ticks) if part is not None]

    def health(self) -> dict[str, Health]:
        checks = self.projection.health()
        if self._ticks is not None:
            checks["market_data"] = Health(not self._ticks.error, self._ticks.error)
        return checks

    def stats(self) -> dict[str, Any]:
        return {
            **self.projection.stats(),
            "accounts": len(self.machine.curves),
            "positions": len(self.machine.positions),
            "marks": len(self.machine.marks),
        }

    def _on_tick(self, envelope: Envelope, record: Record) -> None:
        trade = envelope.data
        assert isinstance(trade, Trade)
        self.machine.mark(trade.instrument, trade.price)

    async def _on_ticks(self) -> None:
        now = self.context.clock.now()
        if now // _SECOND > self._sampled:
            self._sampled = now // _SECOND
            self.machine.sample(now)
