"""Rows that don't fit their table: put down beside the store for a person, so that the rest is not held up."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from trade2026.stores.timeseries.port import Batch, RowsRefused
from trade2026.stores.timeseries.schema import TABLES, Row, misfit


class DeadLetters:
    """A file of JSON lines. A row may be in it twice after a crash; `seq` and the keys tell."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._count = 0
        if path.exists():
            with path.open("rb") as lines:
                self._count = sum(1 for _ in lines)

    @property
    def count(self) -> int:
        """How many lie there: none once the file was moved away."""
        if self._count and not self.path.exists():
            self._count = 0
        return self._count

    def take_from(self, batch: Batch, refused: RowsRefused) -> int:
        """Move the rows that don't fit, and the one that the store won't have, out of a batch; return how many.

        Blocks until they are on the disk.
        """
        found: list[tuple[str, Row, str]] = []
        for name, rows in batch.rows.items():
            bad = [(row, reason) for row in rows if (reason := _fault(name, row, refused))]
            if bad:
                found += [(name, row, reason) for row, reason in bad]
                batch.rows[name] = [row for row in rows if not _fault(name, row, refused)]
        if found:
            before = self.count
            self._append([_line(*each) for each in found])
            self._count = before + len(found)
        return len(found)

    def _append(self, lines: Sequence[str]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())


def _fault(table: str, row: Row, refused: RowsRefused) -> str:
    return misfit(TABLES[table], row) or (str(refused) if row is refused.row else "")


def _line(table: str, row: Row, reason: str) -> str:
    values = dict(zip(TABLES[table].names, row, strict=False))
    return json.dumps({"table": table, "reason": reason, "row": values}, default=str) + "\n"
