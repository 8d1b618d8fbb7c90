"""From events to batches: what came in since the last one, with the positions that it was read to."""

import asyncio
from dataclasses import dataclass

from trade2026.domain.events import Envelope, OrderFilled
from trade2026.kit.bus.port import Record
from trade2026.questdb_writer.machine import RowMachine, late_row
from trade2026.stores.timeseries.port import Batch, TimeSeriesStore
from trade2026.stores.timeseries.schema import TABLES, Row, as_given


@dataclass
class Collected:
    """A batch that is to be written, and whoever waits for it.

    Attributes:
        late: Executions of orders whose rows must be read from the store first.
    """

    batch: Batch
    late: dict[str, OrderFilled]
    written: "asyncio.Future[None]"

    def complete(self, store: TimeSeriesStore) -> Batch:
        """The batch with the rows of late executions; blocks."""
        for order_id, fill in self.late.items():
            found = store.scan("orders", equal={"order_id": order_id}, limit=1).rows
            if found:
                row = late_row(as_given(TABLES["orders"], found[0]), fill)
                self.batch.rows.setdefault("orders", []).append(row)
        self.late = {}
        return self.batch


class Collector:
    """Rows that wait to be written. What it hands out is whole: rows, positions and state are of one moment."""

    def __init__(self, machine: RowMachine) -> None:
        self.machine = machine
        self.waiting = asyncio.Event()
        """There is something to write."""
        self._batch = Batch()
        self._rows = 0
        self._written: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def size(self) -> int:
        """Rows that wait."""
        return self._rows + len(self.machine.changed)

    def fold(self, envelope: Envelope, record: Record) -> None:
        """Take the next event of a partition."""
        for name, row in self.machine.rows(record.topic, envelope, record.partition):
            self._batch.rows.setdefault(name, []).append(row)
            self._rows += 1
        self._batch.offsets[record.topic, record.partition] = record.seq + 1
        self.waiting.set()

    def add(self, table: str, rows: list[Row]) -> "asyncio.Future[None]":
        """Take rows of a client; the future is done when they are durable."""
        self._batch.rows.setdefault(table, []).extend(rows)
        self._rows += len(rows)
        self.waiting.set()
        return self._written

    def flushed(self) -> "asyncio.Future[None]":
        """Done when everything that was taken so far is durable."""
        self.waiting.set()
        return self._written

    def take(self) -> Collected:
        """Everything that waits."""
        rows, state = self.machine.order_rows()
        if rows:
            self._batch.rows.setdefault("orders", []).extend(rows)
            self._batch.state |= state
        late, self.machine.late = self.machine.late, {}
        collected = Collected(self._batch, late, self._written)
        self._batch, self._rows = Batch(), 0
        self._written = asyncio.get_running_loop().create_future()
        self.waiting.clear()
        return collected
