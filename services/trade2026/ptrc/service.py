"""Post-trade: follows `orders.events`, owns `positions`.

What it promises: the position of every account, instrument and strategy with its lots, as of a position in
the log; one `PositionChanged` per fill; breaks against a venue's statement with the executions that cause
them, be it uploaded or the venue's own log; what is to settle when. It needs no market data and changes nothing.
"""

import asyncio
from functools import partial
from typing import Any

import msgspec

from trade2026.domain.events import PositionChanged, decode
from trade2026.domain.instruments import Instruments
from trade2026.kit.cell_service import CellService
from trade2026.kit.http import App
from trade2026.kit.projection import Projection, totals
from trade2026.kit.projection_cell import ProjectionCell
from trade2026.kit.service import Context
from trade2026.ptrc import api
from trade2026.ptrc.machine import PositionMachine
from trade2026.ptrc.venue_record import VenueRecord

_POSITIONS = "positions"
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


class PtrcCell(ProjectionCell):
    """The positions of one partition's accounts."""

    def __init__(self, context: Context, partition: int) -> None:
        publishes = {_POSITIONS: (PositionChanged,)}
        super().__init__(Projection(context, "ptrc", PositionMachine, publishes, partition=partition))
        self.context = context
        self.breaks: int | None = None
        """Found by the last reconciliation."""
        self._record = VenueRecord()
        self._recording = asyncio.Lock()

    async def venue_record(self) -> tuple[VenueRecord, int]:
        """Read on in the venue's own record to where the OMS has taken it over; the last report that it contains.

        Nobody pays for it before the first reconciliation; later ones read what is new.
        """
        async with self._recording:
            while self._record.next_seq <= (newest := self.machine.report_seq):
                left = newest + 1 - self._record.next_seq
                records = await self.context.bus.read(
                    _REPORTS, self.partition, self._record.next_seq, min(_REPORTS_PER_READ, left)
                )
                if not records:
                    break
                for record in records:
                    self._record.apply(decode(record.body))
                await asyncio.sleep(0)
            return self._record, self._record.next_seq - 1


class PtrcService(CellService[PtrcCell]):
    """Positions, reconciliation, transaction reports."""

    name = "ptrc"
    title = "Post-trade"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        venue = self.settings.venues[0].name if self.settings.venues else None
        self.instruments = Instruments(self.settings.instruments, venue)
        self.config = msgspec.convert(self.settings.config.get(self.name, {}), PtrcConfig)
        self.split(_POSITIONS, partial(PtrcCell, context))

    def routes(self, app: App) -> None:
        super().routes(app)
        api.add_routes(app, self)

    async def end_of(self, partition: int) -> int:
        """Where the order log of a partition ends, as far as it is folded here."""
        cell = self.cells.here.get(partition)
        return cell.machine.next_seq if cell is not None else await self.context.bus.end("orders.events", partition)

    def stats(self) -> dict[str, Any]:
        cells = list(self.cells.here.values())
        found = [cell.breaks for cell in cells if cell.breaks is not None]
        return {
            **totals(cell.projection.stats() for cell in cells),
            "partitions": sorted(self.cells.here),
            "positions": sum(len(cell.machine.positions) for cell in cells),
            "lots": sum(len(holding.book.lots) for cell in cells for holding in cell.machine.holdings.values()),
            "breaks": sum(found) if found else None,
        }
