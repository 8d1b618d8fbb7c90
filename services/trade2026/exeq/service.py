"""Execution: keeps the cells of `exeq.events` that are this process's own.

What it promises: children together are never more than their parent, nor above its limits; a child leaves when
the decision is durable; after a crash a half-done parent goes on, and no child is doubled.
"""

from functools import partial
from typing import Any

from trade2026 import __version__
from trade2026.domain.instruments import Instruments
from trade2026.domain.orders import partition_of_id
from trade2026.domain.parents import ParentSpec
from trade2026.exeq import api
from trade2026.exeq.cell import ExeqCell
from trade2026.exeq.order_entry import TOPIC
from trade2026.exeq.parent_input import ParentReader
from trade2026.exeq.parents import Parent
from trade2026.exeq.tape import VolumeProfile
from trade2026.kit.cell_service import CellService
from trade2026.kit.http import App, Problem
from trade2026.kit.service import Context, Health


class ExeqService(CellService[ExeqCell]):
    """Every parent order of the stack."""

    name = "exeq"
    title = "Execution"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        settings = self.settings
        venue = settings.venues[0].name if settings.venues else None
        self.instruments = Instruments(settings.instruments, venue)
        self.reader = ParentReader(self.instruments, settings.default_account)
        self.profile = VolumeProfile(context.bus)
        self.split(TOPIC, partial(ExeqCell, context, self.instruments.by_id, self.profile))
        self._unique = 0

    def routes(self, app: App) -> None:
        super().routes(app)
        api.add_routes(app, self)

    def health(self) -> dict[str, Health]:
        return {**super().health(), "disk": self.disk()}

    def stats(self) -> dict[str, Any]:
        cells = list(self.cells.here.values())
        machines = [cell.machine for cell in cells]
        return {
            "partitions": sorted(self.cells.here),
            "parents": sum(len(machine.parents) for machine in machines),
            "parents_open": sum(len(machine.open) for machine in machines),
            "children_sent": sum(cell.entry.sent for cell in cells),
            "events": sum(machine.next_seq for machine in machines),
            "epoch": max((cell.owner.epoch for cell in cells), default=0),
            "snapshot_as_of": min((cell.kept.next_seq for cell in cells), default=0) - 1,
            "lag": sum(cell.lag for cell in cells),
        }

    def unique_id(self, now: int) -> str:
        """A client order id that nobody else has."""
        self._unique = max(self._unique + 1, now)
        return f"t{self._unique:x}"

    def cell_of_parent(self, parent_id: str) -> ExeqCell:
        """The cell of a parent. Raises as `Cells.at`, or `Problem` 404: nothing has that id."""
        partition = partition_of_id(parent_id, "e")
        if not 0 <= partition < self.partitions:
            raise api.unknown(parent_id)
        return self.cells.at(partition)

    async def accept(self, spec: ParentSpec, principal: str, traceparent: str, now: int) -> tuple[ExeqCell, Parent]:
        """Begin a parent.

        Raises:
            Problem: it was refused, or can't be taken now.
        """
        cell = self.cells.of_account(spec.account)
        room = self.disk()
        if not room.ok:
            raise Problem(503, "disk_low", room.detail, retry_after=5)
        if __version__ not in self.settings.allowed_versions:
            raise Problem(503, "version_not_allowed", f"{__version__} is not a version of this release", retry_after=30)
        return cell, await cell.accept(spec, principal, traceparent, now)
