"""Post-trade: follows `orders.events`, owns `positions`.

What it promises: the position of every account, instrument and strategy with its lots, as of a position in
the log; one `PositionChanged` per fill; breaks against a venue's statement with the executions that cause
them, be it uploaded or the venue's own log; what is to settle when. It needs no market data and changes nothing.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

import msgspec

from trade2026.domain.events import PositionChanged, decode
from trade2026.domain.instruments import Instruments
from trade2026.kit.http import App
from trade2026.kit.lag import Followed
from trade2026.kit.projection import Projection
from trade2026.kit.service import Context, Health, Service
from trade2026.ptrc import api
from trade2026.ptrc.machine import PositionMachine
from trade2026.ptrc.venue_record import VenueRecord

_REPORTS = "venue.reports"
_REPORTS_PER_READ = 500


class PtrcConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`config` of the service."""

    settlement_days: int = 0
    """n of T+n: days from the trade to its settlement."""
    settlement_days_by_symbol: dict[str, int] = {}
    """By instrument id, where it is another one."""

    def __post_init__(self) -> None:
        for days in (self.settlement_days, *self.settlement_days_by_symbol.values()):
            if not 0 <= days <= 30:
                raise ValueError(f"settlement is 0 to 30 days after the trade, not {days}")

    def days_of(self, instrument: str) -> int:
        """n of T+n for an instrument."""
        return self.settlement_days_by_symbol.get(instrument, self.settlement_days)


class PtrcService(Service):
    """Positions, reconciliation, transaction reports."""

    name = "ptrc"
    title = "Post-trade"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        venue = self.settings.venues[0].name if self.settings.venues else None
        self.instruments = Instruments(self.settings.instruments, venue)
        self.config = msgspec.convert(self.settings.config.get(self.name, {}), PtrcConfig)
        self.projection = Projection(context, self.name, PositionMachine, {"positions": (PositionChanged,)})
        self.breaks: int | None = None
        """Found by the last reconciliation."""
        self._record = VenueRecord()
        self._recording = asyncio.Lock()

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

    async def venue_record(self) -> tuple[VenueRecord, int]:
        """Read on in the venue's own record to where the OMS has taken it over; the last report that it contains.

        Nobody pays for it before the first reconciliation; later ones read what is new.
        """
        async with self._recording:
            while self._record.next_seq <= (newest := self.machine.report_seq):
                left = newest + 1 - self._record.next_seq
                records = await self.context.bus.read(_REPORTS, 0, self._record.next_seq, min(_REPORTS_PER_READ, left))
                if not records:
                    break
                for record in records:
                    self._record.apply(decode(record.body))
                await asyncio.sleep(0)
            return self._record, self._record.next_seq - 1

    def readiness(self) -> tuple[bool, str]:
        return self.projection.readiness()

    def replaced(self) -> str:
        return self.projection.replaced

    def followed(self) -> Iterable[Followed]:
        return [self.projection.followed] if self.projection.followed is not None else []

    def health(self) -> dict[str, Health]:
        return self.projection.health()

    def stats(self) -> dict[str, Any]:
        return {
            **self.projection.stats(),
            "positions": len(self.machine.positions),
            "lots": sum(len(holding.book.lots) for holding in self.machine.holdings.values()),
            "breaks": self.breaks,
        }
