"""What a time-series store promises, whichever it is.

The positions that rows were read to are written with the rows, and never before them: what was killed in between is
read again from the log, and a row with the keys of an older one takes its place. All backends pass one contract suite
under `tests/contract`; what one of them can't do is said by its `Capabilities`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from trade2026.stores.timeseries.schema import Row

Partition = tuple[str, int]
"""A topic and one of its partitions."""


class StoreError(Exception):
    """Base of what a store can answer."""


class StoreUnavailable(StoreError):
    """Nothing was written, and trying again may help: no room, no memory, a file that can't be reached."""


class StoreDamaged(StoreError):
    """The store can't be read, or is gone: it must be made again from the log."""


class RowsRefused(StoreError):
    """A row that doesn't fit its table is among them: nothing was written, and trying again is of no use.

    Attributes:
        row: Which one, where the store says it.
    """

    def __init__(self, message: str, row: Row | None = None) -> None:
        super().__init__(message)
        self.row = row


class QueryRefused(StoreError):
    """A query that can't be answered; `position` is where in its text, from 0."""

    def __init__(self, message: str, position: int = 0) -> None:
        super().__init__(message)
        self.position = position


class QueryTooLarge(QueryRefused):
    """It took longer, or more memory, than a query may."""


@dataclass
class Batch:
    """What is written together.

    Attributes:
        rows: By table, in the order in which they came.
        offsets: The position after the last record of each partition that the rows come from.
        state: What the writer must remember to go on from there, by key; None forgets a key.
    """

    rows: dict[str, list[Row]] = field(default_factory=dict[str, list[Row]])
    offsets: dict[Partition, int] = field(default_factory=dict[Partition, int])
    state: dict[str, bytes | None] = field(default_factory=dict[str, bytes | None])

    @property
    def size(self) -> int:
        """How many rows."""
        return sum(map(len, self.rows.values()))


@dataclass(frozen=True)
class TableStats:
    """A table at a glance; times in nanoseconds, 0 where there are no rows."""

    rows: int
    first_ns: int
    last_ns: int


@dataclass(frozen=True)
class Answer:
    """The rows of a query: `types` are in QuestDB's words, times are `datetime` in UTC without a zone.

    Attributes:
        timestamp: Which column is the designated timestamp that the rows are sorted by; -1 if none is.
        more: There were more rows than asked for.
    """

    names: Sequence[str]
    types: Sequence[str]
    rows: Sequence[Row]
    timestamp: int = -1
    more: bool = False


@dataclass(frozen=True)
class Capabilities:
    """What a store can do beyond the least that all of them promise.

    Attributes:
        atomic: A batch is there as a whole, in all of its tables, or not at all. Without it a batch whose writing
            failed or was killed may be there in part, until it is written again: never its positions without its rows.
        drops_rows: `drop_before` drops each row that is older. Without it, whole days.
        duckdb_sql: Answers any SELECT of DuckDB beside QuestDB's SQL.
    """

    atomic: bool = True
    drops_rows: bool = True
    duckdb_sql: bool = False


class TimeSeriesStore(Protocol):
    """Tables of rows in time. Blocks; methods may be called from several threads, `write` from one at a time."""

    can: Capabilities

    def check(self) -> None:
        """Ask whether it could take rows now; soon answered.

        Raises:
            StoreUnavailable, StoreDamaged: it could not.
        """
        ...

    def offsets(self) -> dict[Partition, int]:
        """Where each partition that was written goes on."""
        ...

    def state(self) -> dict[str, bytes]:
        """What the writer remembers."""
        ...

    def write(self, batch: Batch) -> None:
        """Write all of it; durable and visible to every query when it returns.

        Raises:
            StoreUnavailable, StoreDamaged: it is not written, but for a part of its rows where the store is not atomic.
            RowsRefused: nothing is written.
        """
        ...

    def scan(
        self,
        table: str,
        *,
        equal: Mapping[str, str] | None = None,
        since_ns: int = 0,
        until_ns: int = 0,
        limit: int = 100,
        newest_first: bool = False,
    ) -> Answer:
        """Rows of one table in time.

        Args:
            equal: Values of text columns.
            since_ns: Not before this.
            until_ns: Before this; 0 for no end.
        """
        ...

    def tables(self) -> dict[str, TableStats]:
        """Every table."""
        ...

    def drop_before(self, table: str, before_ns: int) -> int:
        """Drop rows that are older, as far as `can.drops_rows`; return how many."""
        ...

    def close(self) -> None:
        """Let the store go. Idempotent."""
        ...


class SqlQueries(Protocol):
    """A store that answers QuestDB's SQL."""

    def ask(self, sql: str, *, rows_max: int, seconds_max: float, skip: int = 0) -> Answer:
        """Answer one query that changes nothing.

        Raises:
            QueryRefused: it is no such query, or takes more than it may (`QueryTooLarge`).
            StoreUnavailable, StoreDamaged
        """
        ...

    def count(self, sql: str, *, seconds_max: float) -> int:
        """How many rows a query has; raises as `ask`."""
        ...

    def interrupt_queries(self) -> int:
        """End every query that runs, where the writer needs what it uses; return how many that were."""
        ...


class QueryableStore(TimeSeriesStore, SqlQueries, Protocol):
    """What the time-series service works on."""


class Place(Protocol):
    """Where a store is, also while it can't be opened."""

    name: str
    """What a person calls it."""

    def open(self) -> QueryableStore:
        """Open it, and make it if it is missing.

        Raises:
            StoreUnavailable: not now.
            StoreDamaged: it is of no use any more; `set_aside` makes room for a new one.
        """
        ...

    def set_aside(self) -> str:
        """Put what is there aside, if there is anything, and say where that is. The store is closed."""
        ...
