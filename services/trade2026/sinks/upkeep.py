"""Keeps the tables small and quick: compaction while a day grows, Z-order once it is over, vacuum.

What is to be done is seen from the files themselves, so nothing need be remembered, and doing it twice does nothing.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from trade2026.kit.clock import Clock
from trade2026.kit.service import Health
from trade2026.sinks.topic import Call
from trade2026.stores.lake import Lake, LakeError, Part, TableSpec

log = logging.getLogger(__name__)

FILES_MIN = 8
"""Fewer files of a day that still grows are left alone."""
_VACUUM_NS = 3_600 * 10**9
_HOUR_NS = 3_600 * 10**9
_DAY_NS = 24 * _HOUR_NS


@dataclass
class Optimised:
    """What became of one table."""

    table: str
    partitions: int = 0
    files_removed: int = 0
    files_added: int = 0
    faults: list[str] = field(default_factory=list)
    """Of partitions that were left as they are."""


class Upkeep:
    """Optimises one partition at a time, on the reader's thread: the sink goes on meanwhile.

    Args:
        specs: Of the tables that are sorted when a day is over; others are made of fewer files only.
        retention_hours: Versions older than this may go.
    """

    def __init__(
        self,
        lake: Lake,
        clock: Clock,
        call: Call,
        specs: Mapping[str, TableSpec],
        *,
        compact_seconds: float,
        retention_hours: int,
    ) -> None:
        self.lake, self.clock, self.specs = lake, clock, specs
        self.compact_seconds, self.retention_hours = compact_seconds, retention_hours
        self.error = ""
        self.optimised_at = 0
        self.vacuumed_at = 0
        self.files_deleted = 0
        self._call = call
        self._one = asyncio.Lock()

    async def run(self) -> None:
        """Do what is due until cancelled."""
        while True:
            await asyncio.sleep(self.compact_seconds)
            try:
                done = await self.optimise(await self._call(self.lake.tables))
                if self.clock.now() - self.vacuumed_at >= _VACUUM_NS:
                    await self.vacuum(await self._call(self.lake.tables))
                self.error = "; ".join(fault for each in done for fault in each.faults)
            except LakeError as error:
                self.error = str(error)
            if self.error:
                log.warning("upkeep of the lake: %s", self.error)

    async def optimise(
        self, tables: Iterable[str], *, day: int | None = None, symbol: str | None = None, all_files: bool = False
    ) -> list[Optimised]:
        """Make large files of small ones; a day that is over is sorted as well.

        Args:
            day: Only of this day.
            symbol: Only of this instrument.
            all_files: Also partitions of few files that still grow.

        Raises:
            NoSuchTable: nothing was ever written to one of them.
        """
        done: list[Optimised] = []
        async with self._one:
            for table in tables:
                result = Optimised(table)
                for part in (await self._call(self.lake.state, table)).parts:
                    if day in (None, part.day) and symbol in (None, part.symbol):
                        await self._optimise_part(result, part, 2 if all_files else FILES_MIN)
                done.append(result)
            self.optimised_at = self.clock.now()
        return done

    async def vacuum(
        self, tables: Iterable[str], retention_hours: int | None = None, *, dry_run: bool = False
    ) -> dict[str, list[str]]:
        """Delete the files that only older versions need, and what a killed process has left; return them."""
        hours = self.retention_hours if retention_hours is None else retention_hours
        async with self._one:
            found = {table: await self._call(self.lake.vacuum, table, hours, dry_run=dry_run) for table in tables}
        if not dry_run:
            self.vacuumed_at = self.clock.now()
            self.files_deleted += sum(len(files) for files in found.values())
        return found

    def health(self) -> Health:
        """Whether the last round did what was due."""
        return Health(not self.error, self.error)

    async def _optimise_part(self, result: Optimised, part: Part, files_min: int) -> None:
        over = part.day < (self.clock.now() - _HOUR_NS) // _DAY_NS  # an hour for what comes late
        if part.files < (2 if over else files_min):
            return
        spec = self.specs.get(result.table)
        try:
            if over and spec is not None:
                done = await self._call(self.lake.cluster, spec, part.day, part.symbol)
            else:
                done = await self._call(self.lake.compact, result.table, part.day, part.symbol)
        except LakeError as error:
            result.faults.append(f"{part.symbol}: {error}")
            return
        result.partitions += 1
        result.files_removed += done.files_removed
        result.files_added += done.files_added
