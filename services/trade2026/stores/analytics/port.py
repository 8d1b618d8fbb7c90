"""What an analytics store promises, whichever it is: rows by key, positions beside them, point-in-time look-ups, SQL.

An engine of columns has no transactions over tables. Rows are written first and are one by key, positions after
them: a writer that was killed in between writes the same rows again, and every question is answered with each key once.
Backends pass one contract suite, `tests/contract/test_analytics.py`. What one can't do is not in its `capabilities`.

Calls block; whoever has an event loop makes them on another thread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from trade2026.stores.analytics.schema import Row, Table


class AnalyticsError(Exception):
    """The store did not do it."""


class AnalyticsUnavailable(AnalyticsError):
    """It can't be reached or has no room; the same may work later."""


class RowsRefused(AnalyticsError):
    """A row does not fit its table: nothing was written."""


class QueryRefused(AnalyticsError):
    """It is no question that this engine answers."""


class QueryTooLarge(QueryRefused):
    """It took longer than a query may."""


class Lacking(AnalyticsError):
    """The engine can't do that: look at `capabilities` first."""


class Capability(StrEnum):
    """What an engine may be able to do."""

    TIMES = "times"
    """Times are times to its SQL, to the nanosecond. Elsewhere they are nanoseconds since 1970 to it."""
    WORDS = "words"
    """Words are kept once each. Elsewhere they are text."""
    RETENTION = "retention"
    """It drops old rows by itself. Elsewhere they stay."""
    LATEST = "latest"
    """It finds the newest rows as of many times at once (ASOF JOIN)."""
    WINDOWS = "windows"
    """Its SQL has window functions."""


@dataclass(frozen=True)
class Selection:
    """Which rows are asked for.

    Attributes:
        equal: Values of text columns.
        since_ns: Not before this, by the first column of the table's order.
        until_ns: Before this.
    """

    equal: Mapping[str, str] = field(default_factory=dict[str, str])
    since_ns: int | None = None
    until_ns: int | None = None
    limit: int = 1_000


@dataclass(frozen=True)
class Answer:
    """The rows of a query; `types` are in ClickHouse's words, times are text in UTC.

    Attributes:
        more: There were more rows than asked for.
    """

    names: Sequence[str]
    types: Sequence[str]
    rows: Sequence[Row]
    more: bool = False


class Analytics(Protocol):
    """Tables by key. One writer a table; methods may be called from several threads."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it can do; asks the server first where there is one. Raises `AnalyticsUnavailable`."""
        ...

    def offsets(self, names: Sequence[str]) -> dict[str, int]:
        """Return the positions that were written; those that never were are left out."""
        ...

    def write(self, table: Table, rows: Sequence[Row], offsets: Mapping[str, int]) -> None:
        """Write rows, then positions; the table is made, or gets its new columns, when it is first written.

        Raises:
            RowsRefused: nothing was written.
            AnalyticsUnavailable: rows may be there, and the positions then are not: write all of it again.
        """
        ...

    def count(self, table: Table) -> int:
        """How many keys there are."""
        ...

    def scan(self, table: Table, wanted: Selection) -> list[Row]:
        """Rows in the table's order, times in nanoseconds."""
        ...

    def latest(
        self, table: Table, by: str, asked: Sequence[tuple[str, int]], equal: Mapping[str, str]
    ) -> list[Row | None]:
        """For each (value of `by`, time in ns): the last row, in the table's order, whose time is not after it.

        Raises:
            Lacking: without `Capability.LATEST`.
        """
        ...

    def ask(self, sql: str, *, rows_max: int, seconds_max: float) -> Answer:
        """Answer a query that changes nothing.

        Raises:
            QueryRefused: it is no such query, or takes more than it may (`QueryTooLarge`).
        """
        ...

    def close(self) -> None:
        """Let the store go. Idempotent."""
        ...
