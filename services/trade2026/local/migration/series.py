"""Time series: from DuckDB's file to QuestDB, rows with the positions that they reach, and compared some hours at a time.

It works on a copy of the file, which DuckDB brings to the tables of today: the file itself is not opened. How far each
table is written stands in QuestDB beside the rows, as the positions of the sink do.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from trade2026.local.migration.log import Told
from trade2026.local.migration.moves import MigrationRefused
from trade2026.stores.timeseries.duckdb_store import DuckDbStore
from trade2026.stores.timeseries.port import Batch, Partition
from trade2026.stores.timeseries.questdb_http import QuestDbSettings
from trade2026.stores.timeseries.questdb_store import QuestDbStore, held
from trade2026.stores.timeseries.schema import EPOCH, TABLES, TIMESTAMP, Kind, Row, Table

FILE = "timeseries/series.duckdb"
"""Below a state directory."""
_ROWS = 10_000
"""That are read and written together."""
_ROWS_COMPARED = 50_000
"""Together, at most, where an hour has no more."""
_HOUR_US = 3_600_000_000
_ID, _OF, _DONE, _ROW = "migration:id", "migration:of", "migration:done", "migration:row:"
_STORED = {
    name: replace(table, columns=tuple(replace(column, amount=False) for column in table.columns))
    for name, table in TABLES.items()
}
"""The tables as a store holds them: amounts are no nanos any more."""


class SeriesCopy:
    """The copy of the file that is moved.

    Args:
        source: DuckDB's file; it may be missing.
        folder: Where the copy lies until `remove`.
    """

    def __init__(self, source: Path, folder: Path) -> None:
        self._source, self.path = source, folder / "series.duckdb"
        self.offsets: dict[Partition, int] = {}
        self.state: dict[str, bytes] = {}
        self.rows: dict[str, int] = dict.fromkeys(TABLES, 0)

    def open(self) -> None:
        """Copy the file, unless its copy is there. Raises `StoreError`, `OSError`."""
        if not self._source.exists():
            return
        if not self._is_copied():
            self._copy()
        with contextlib.closing(DuckDbStore(self.path)) as store:
            self.offsets, self.state = store.offsets(), store.state()
            self.rows = {name: stats.rows for name, stats in store.tables().items()}

    @property
    def exists(self) -> bool:
        """Whether there is anything."""
        return self._source.exists()

    def remove(self) -> None:
        """Idempotent."""
        shutil.rmtree(self.path.parent, ignore_errors=True)

    def _is_copied(self) -> bool:
        """The mark says of which file, as it was when it was copied."""
        with contextlib.suppress(FileNotFoundError):
            return self._mark.read_text() == self.identity()
        return False

    def _copy(self) -> None:
        shutil.rmtree(self.path.parent, ignore_errors=True)
        self.path.parent.mkdir(mode=0o700, parents=True)
        for suffix in ("", ".wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copy2(f"{self._source}{suffix}", f"{self.path}{suffix}")
        with contextlib.closing(DuckDbStore(self.path)):
            pass  # its tables are brought up to date, and its rows stay where they are from here on
        self._mark.write_text(self.identity())

    @property
    def _mark(self) -> Path:
        return self.path.with_suffix(".of")

    def identity(self) -> str:
        """Of the file as it is now."""
        found = [os.stat(path) for suffix in ("", ".wal") if os.path.exists(path := f"{self._source}{suffix}")]
        return " ".join(f"{each.st_size}/{each.st_mtime_ns}" for each in found)

    def batches(self, table: Table, after: int) -> Iterator[tuple[int, list[Row]]]:
        """Rows in the order in which they lie there, after a row; with each batch the number of its last."""
        sql = f"SELECT rowid, {_columns_sql(table)} FROM {table.name} WHERE rowid > ? ORDER BY rowid"
        with self._reading() as connection:
            found = connection.execute(sql, [after])
            while rows := found.fetchmany(_ROWS):
                yield rows[-1][0], [row[1:] for row in rows]

    def spans(self, table: Table) -> Iterator[tuple[int, int]]:
        """Whole hours, as many together as have not too many rows, from the first to the last; in microseconds."""
        sql = f"SELECT epoch_us({TIMESTAMP}) // {_HOUR_US} AS hour, count(*) FROM {table.name} GROUP BY hour ORDER BY hour"
        with self._reading() as connection:
            hours = connection.execute(sql).fetchall()
        begin, rows = 0, 0
        for hour, count in hours:
            if rows and rows + count > _ROWS_COMPARED:
                yield begin * _HOUR_US, hour * _HOUR_US
                rows = 0
            begin, rows = (begin if rows else hour), rows + count
        if rows:
            yield begin * _HOUR_US, (hours[-1][0] + 1) * _HOUR_US

    def between(self, table: Table, begin_us: int, end_us: int) -> list[Row]:
        """Rows of a time, times in nanoseconds."""
        sql = (
            f"SELECT {_columns_sql(table)} FROM {table.name} WHERE {TIMESTAMP} >= make_timestamp(?)"
            f" AND {TIMESTAMP} < make_timestamp(?)"
        )
        with self._reading() as connection:
            return connection.execute(sql, [begin_us, end_us]).fetchall()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with duckdb.connect(self.path, read_only=True, config={"threads": "1", "memory_limit": "256MiB"}) as found:
            found.execute("SET TimeZone = 'UTC'")
            yield found


def require_ours(settings: QuestDbSettings, stack: str, move_id: str) -> None:
    """See that QuestDB holds nothing but what this move has written. Nothing is claimed or changed.

    Raises:
        MigrationRefused: it holds what is not of this move.
        StoreError
    """
    rows, offsets, state = held(settings, stack)
    if (rows or offsets) and state.get(_ID, b"").decode() != move_id:
        raise MigrationRefused(
            f"QuestDB at {settings.url} holds {rows:,} rows that are not of this move: rename its tables, or name "
            "another QuestDB in spec.stores.timeseries"
        )


def move(source: SeriesCopy, settings: QuestDbSettings, stack: str, move_id: str, told: Told) -> int:
    """Write what is missing; at last, and in one piece, the positions from which the sink goes on.

    Returns:
        How many rows were written.

    Raises:
        StoreError
    """
    written = 0
    with contextlib.closing(QuestDbStore(settings, stack, _STORED)) as store:
        state, identity = store.state(), source.identity().encode()
        if state.get(_OF) != identity:
            state = {}  # of a file that has changed since: written rows take the places of those before them
            store.write(Batch(state={_ID: move_id.encode(), _OF: identity, _DONE: None}))
        if _DONE in state:
            return 0
        for table in _STORED.values() if source.exists else ():
            after = int(state.get(f"{_ROW}{table.name}", b"-1"))
            for last, rows in source.batches(table, after):
                store.write(Batch({table.name: rows}, state={f"{_ROW}{table.name}": str(last).encode()}))
                written += len(rows)
                told(table.name, min(last + 1, source.rows[table.name]), source.rows[table.name])
        forgotten: dict[str, bytes | None] = dict.fromkeys(f"{_ROW}{name}" for name in TABLES)
        store.write(Batch(offsets=source.offsets, state={**source.state, **forgotten, _DONE: b"1"}))
    return written


def compare(source: SeriesCopy, settings: QuestDbSettings, stack: str, told: Told) -> None:
    """Read all rows here and there, and see that they are the same, and the positions that they reach.

    Raises:
        MigrationRefused: some differ.
        StoreError
    """
    with contextlib.closing(QuestDbStore(settings, stack)) as store:
        found = {name: stats.rows for name, stats in store.tables().items()}
        if found != source.rows:
            wrong = {name: (count, found[name]) for name, count in source.rows.items() if found[name] != count}
            raise MigrationRefused(f"rows here and in QuestDB differ: {wrong}; start the move again")
        if store.offsets() != source.offsets:
            raise MigrationRefused("the positions that QuestDB's rows reach are not those of the embedded store")
        for table in _STORED.values() if source.exists else ():
            done = 0
            for begin, end in source.spans(table):
                rows = source.between(table, begin, end)
                answer = store.scan(table.name, since_ns=begin * 1000, until_ns=end * 1000, limit=len(rows) + 1)
                _require_same(table, rows, [tuple(map(_plain, row)) for row in answer.rows], begin)
                told(f"{table.name} compared", done := done + len(rows), source.rows[table.name])


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        since = value - EPOCH
        return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    return value


def _require_same(table: Table, here: list[Row], there: list[Row], begin_us: int) -> None:
    def key(row: Row) -> tuple[str, ...]:
        return tuple(str(row[place]) for place in table.key_places)

    ours = sorted((tuple(_microseconds(table, row)) for row in here), key=key)
    theirs = sorted(there, key=key)
    for mine, other in zip(ours, theirs, strict=False):
        if mine != other:
            raise MigrationRefused(f"{table.name}: QuestDB has {other}, the embedded store {mine}")
    if len(ours) != len(theirs):
        raise MigrationRefused(f"{table.name}: {len(ours)} rows from {begin_us} µs on, {len(theirs)} in QuestDB")


def _microseconds(table: Table, row: Row) -> Iterator[Any]:
    for column, value in zip(table.columns, row, strict=True):
        yield value // 1000 if column.kind is Kind.TIMESTAMP and value is not None else value


def _columns_sql(table: Table) -> str:
    """As rows are given: times in nanoseconds."""
    shown = (
        f'epoch_us("{column.name}") * 1000' if column.kind is Kind.TIMESTAMP else f'"{column.name}"'
        for column in table.columns
    )
    return ", ".join(shown)
