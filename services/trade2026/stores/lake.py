"""What a lake promises, whichever it is: tables whose rows and read positions are written in one step.

A writer that follows a log gives, with each batch, how far it has come. Both are in the table or neither, so a
writer that was killed asks the table where to go on, and no row is lost or doubled. All implementations pass the
contract suite `tests/contract/test_lake.py`.

Calls block; whoever has an event loop makes them on another thread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol


class LakeError(Exception):
    """The lake did not do it. After a failed append only `offsets` knows whether it was written."""


class NoSuchTable(LakeError):
    """Nothing was ever written to it."""


class NoSuchVersion(LakeError):
    """The version is not there yet, or no longer; the message says which there are."""


class LakeConflict(LakeError):
    """Another writer has moved the same positions meanwhile: nothing was written."""


class Kind(StrEnum):
    """What a column holds, in Python and in the files."""

    DATE = "date"
    """Days since 1970."""
    TEXT = "text"
    INTEGER = "integer"
    """64 bits; times are nanoseconds."""
    AMOUNT = "amount"
    """Nanos; a decimal of scale 9 in the files. None for nothing."""
    COST = "cost"
    """At `COST_SCALE`; a decimal of scale 18 in the files. None for nothing."""
    LEVELS = "levels"
    """Steps of a book: a sequence of (price, quantity), nanos."""


@dataclass(frozen=True)
class Column:
    """A column; every column may be empty in files that are older than it."""

    name: str
    kind: Kind


@dataclass(frozen=True)
class TableSpec:
    """A table as its writer knows it.

    Columns are only ever added: what an older file lacks is read as None, and what a newer writer has added is left
    empty by an older one. The files are partitioned by the column `date` and by one other.
    """

    name: str
    columns: tuple[Column, ...]
    order: tuple[str, ...]
    """In which order rows are answered; they are made unique by it."""
    cluster: tuple[str, ...]
    """By which columns a closed day is sorted (Z-order)."""
    partition: str = "symbol"
    """The other column of the partitions; it is text."""
    dated_by_time: bool = True
    """`date` is the day of the first column of the order: a question about times needs only those days' files."""

    @property
    def time(self) -> str:
        """The column that a time range is about, nanoseconds."""
        return self.order[0]


Columns = Mapping[str, Sequence[Any]]
"""Rows as one sequence a column, all of one length."""


@dataclass(frozen=True)
class Selection:
    """Which rows are asked for. Times are nanoseconds; `to_ns` is not in it."""

    symbol: str | None = None
    from_ns: int | None = None
    to_ns: int | None = None
    limit: int = 1_000
    version: int | None = None
    at_ns: int | None = None
    """As the table was at that time."""
    equal: Mapping[str, str] = field(default_factory=dict[str, str])
    """Values of text columns."""
    after: tuple[int, ...] | None = None
    """Only rows beyond this place in the table's order."""

    @property
    def is_now(self) -> bool:
        """Whether the table is meant as it is."""
        return self.version is None and self.at_ns is None


@dataclass(frozen=True)
class Answer:
    """Rows of a table as of a version, in the order of the table."""

    version: int
    rows: list[dict[str, Any]]
    more: bool
    """There are more rows than the limit."""


@dataclass(frozen=True)
class Part:
    """One partition: the files of a symbol, or of what else the table is partitioned by, on a day."""

    day: int
    symbol: str
    files: int
    rows: int
    bytes: int


@dataclass(frozen=True)
class Commit:
    """One version of a table."""

    version: int
    ts: int
    operation: str
    rows: int


@dataclass(frozen=True)
class TableState:
    """A table as it is now."""

    name: str
    version: int
    columns: dict[str, str]
    parts: list[Part]


@dataclass(frozen=True)
class Rewritten:
    """What an optimisation did."""

    files_removed: int
    files_added: int


class Lake(Protocol):
    """Tables of files under one root."""

    def tables(self) -> list[str]:
        """Names of the tables that exist."""
        ...

    def offsets(self, table: str, names: Sequence[str]) -> dict[str, int]:
        """Return the positions that were written with the rows; those that never were are left out."""
        ...

    def append(self, spec: TableSpec, columns: Columns, offsets: Mapping[str, int]) -> int:
        """Write rows and positions in one step; the table is made when there is none.

        Returns:
            The version of the table with these rows.

        Raises:
            LakeConflict: somebody else has written one of these positions since this object last did.
            LakeError: it may or may not have been written; `offsets` says.
        """
        ...

    def read(self, spec: TableSpec, wanted: Selection) -> Answer:
        """Answer a question.

        Raises:
            NoSuchTable: nothing was ever written.
            NoSuchVersion: the version, or any as old as that, is not there.
        """
        ...

    def latest(
        self, spec: TableSpec, by: str, asked: Sequence[tuple[str, int]], equal: Mapping[str, str]
    ) -> list[dict[str, Any] | None]:
        """For each (value of `by`, time in ns): the last row, in the table's order, whose time is not after it.

        Raises:
            NoSuchTable: nothing was ever written.
        """
        ...

    def state(self, table: str) -> TableState:
        """What a table consists of. Raises `NoSuchTable`."""
        ...

    def history(self, table: str, limit: int) -> list[Commit]:
        """The newest versions, newest first. Raises `NoSuchTable`."""
        ...

    def compact(self, table: str, day: int, symbol: str) -> Rewritten:
        """Make few large files of many small ones; answers stay the same."""
        ...

    def cluster(self, spec: TableSpec, day: int, symbol: str) -> Rewritten:
        """Sort a partition by the table's cluster columns (Z-order); answers stay the same."""
        ...

    def vacuum(self, table: str, retention_hours: int, *, dry_run: bool = False) -> list[str]:
        """Delete files that no version of the last hours needs; return them. Older versions are gone then."""
        ...
