"""The time-series store of one machine: DuckDB in one file, owned by one process.

Columns go in by Arrow, many rows at a time. There is no index: what a batch may have in common with the rows that
are there is looked up by time, which DuckDB keeps ranges of, and only where times overlap. A commit is fsynced.

What this trades away: a second process can't open the file, so everybody asks the one that owns it.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Generator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import arro3.core as arrow
import duckdb

from trade2026.stores.timeseries.duckdb_queries import DuckDbQueries
from trade2026.stores.timeseries.port import (
    Answer,
    Batch,
    Capabilities,
    Partition,
    RowsRefused,
    StoreDamaged,
    StoreError,
    StoreUnavailable,
    TableStats,
)
from trade2026.stores.timeseries.questdb_sql.functions import MACROS
from trade2026.stores.timeseries.schema import TABLES, TIMESTAMP, Column, Kind, Row, Table, newest_by_key

log = logging.getLogger(__name__)

MEMORY_MIB_MAX = 128
SPILL_MIB_MAX = 1024
"""On disk, for queries that need more memory."""
_WAL_MIB_MAX = 16
_TYPES = {
    Kind.SYMBOL: "VARCHAR",
    Kind.VARCHAR: "VARCHAR",
    Kind.DOUBLE: "DOUBLE",
    Kind.LONG: "BIGINT",
    Kind.TIMESTAMP: "TIMESTAMP",
}
_SCHEMA = """
CREATE SCHEMA IF NOT EXISTS writer;
CREATE TABLE IF NOT EXISTS writer.offsets (topic VARCHAR, "partition" INTEGER, next_seq BIGINT NOT NULL,
    PRIMARY KEY (topic, "partition"));
CREATE TABLE IF NOT EXISTS writer.state (name VARCHAR PRIMARY KEY, value BLOB NOT NULL);
"""
_NOT_A_DATABASE = ("not a valid DuckDB", "Corrupt", "corrupt", "checksum")


class DuckDbStore:
    """See `QueryableStore`.

    Args:
        path: The file; made when it is missing.
        memory_mib_max: For everything that DuckDB keeps in memory.

    Raises:
        StoreDamaged: the file is no database any more; `set_aside` makes room for a new one.
        StoreUnavailable: another process has it, or it can't be reached.
    """

    can = Capabilities(duckdb_sql=True)

    def __init__(self, path: Path, *, memory_mib_max: int = MEMORY_MIB_MAX) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with _errors():
            self._connection = _connect(path, memory_mib_max)
        self._lock = threading.Lock()
        """One statement at a time on the writer's connection."""
        try:
            with _errors():
                self._make_tables()
                self._newest = {name: stats.last_ns // 1000 for name, stats in self.tables().items()}
        except StoreError:
            self._connection.close()
            raise
        self._inode = path.stat().st_ino
        self._queries = DuckDbQueries(self._connection)

    def _make_tables(self) -> None:
        connection = self._connection
        connection.begin()
        connection.execute(_SCHEMA)
        for table in TABLES.values():
            connection.execute(ddl_of(table))
            there = {str(name) for name, *_ in connection.execute(f"DESCRIBE {table.name}").fetchall()}
            for column in table.columns:
                if column.name not in there:
                    connection.execute(f'ALTER TABLE {table.name} ADD COLUMN "{column.name}" {_TYPES[column.kind]}')
        for macro in MACROS:
            connection.execute(macro)
        connection.commit()
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")

    def offsets(self) -> dict[Partition, int]:
        """See `TimeSeriesStore`."""
        with self._lock, _errors():
            rows = self._connection.execute('SELECT topic, "partition", next_seq FROM writer.offsets').fetchall()
        return {(topic, partition): next_seq for topic, partition, next_seq in rows}

    def state(self) -> dict[str, bytes]:
        """See `TimeSeriesStore`."""
        with self._lock, _errors():
            return dict(self._connection.execute("SELECT name, value FROM writer.state").fetchall())

    def write(self, batch: Batch) -> None:
        """See `TimeSeriesStore`."""
        spans = {name: _span(name, rows) for name, rows in batch.rows.items() if rows}
        if not spans and not batch.offsets and not batch.state:
            return
        kept = {name: newest_by_key(TABLES[name], batch.rows[name]) for name in spans}
        columns = {name: _arrow_of(TABLES[name], rows) for name, rows in kept.items()}
        with self._lock, _errors():
            self._check_file()
            self._connection.begin()
            try:
                for name, incoming in columns.items():
                    self._insert(TABLES[name], incoming, spans[name][0])
                self._remember(batch)
                self._connection.commit()
            except BaseException:
                with contextlib.suppress(duckdb.Error):
                    self._connection.rollback()
                raise
        for name, (_, last) in spans.items():
            self._newest[name] = max(self._newest[name], last)

    def _insert(self, table: Table, incoming: arrow.Table, oldest: int) -> None:
        connection = self._connection
        connection.register("incoming", incoming)
        try:
            if oldest <= self._newest[table.name]:
                connection.execute(_replace_sql(table), [oldest])
            connection.execute(_insert_sql(table))
        finally:
            connection.unregister("incoming")

    def _remember(self, batch: Batch) -> None:
        connection = self._connection
        if batch.offsets:
            columns = [
                list(column) for column in zip(*((*key, seq) for key, seq in batch.offsets.items()), strict=True)
            ]
            connection.execute(
                "INSERT OR REPLACE INTO writer.offsets"
                " SELECT unnest(?::VARCHAR[]), unnest(?::INTEGER[]), unnest(?::BIGINT[])",
                columns,
            )
        if not batch.state:
            return
        names = list(batch.state)
        connection.execute("DELETE FROM writer.state WHERE list_contains(?, name)", [names])
        kept = [(name, value) for name, value in batch.state.items() if value is not None]
        if kept:
            connection.execute(
                "INSERT INTO writer.state SELECT unnest(?::VARCHAR[]), unnest(?::BLOB[])",
                [[name for name, _ in kept], [value for _, value in kept]],
            )

    def check(self) -> None:
        """See `TimeSeriesStore`."""
        self._check_file()

    def _check_file(self) -> None:
        """What is written to a file that was deleted, or replaced, is lost at the end of the process."""
        try:
            if self.path.stat().st_ino == self._inode:
                return
        except FileNotFoundError:
            pass
        raise StoreDamaged(f"{self.path} was deleted or replaced while it was in use")

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
        """See `TimeSeriesStore`."""
        declared = TABLES[table]
        conditions, values = [f"{TIMESTAMP} >= make_timestamp(?)"], [since_ns // 1000]
        if until_ns:
            conditions.append(f"{TIMESTAMP} < make_timestamp(?)")
            values.append(until_ns // 1000)
        for name, value in (equal or {}).items():
            assert declared.column(name) is not None, f"{table} has no column {name}"
            conditions.append(f'"{name}" = ?')
            values.append(value)  # type: ignore[arg-type]
        sql = f"SELECT {_names(declared)} FROM {table} WHERE {' AND '.join(conditions)} ORDER BY {TIMESTAMP}"
        sql += f"{' DESC' if newest_first else ''} LIMIT {limit + 1}"
        with _errors(), contextlib.closing(self._connection.cursor()) as cursor:
            rows = cursor.execute(sql, values).fetchall()
        types = [column.kind.value for column in declared.columns]
        return Answer(declared.names, types, rows[:limit], 0, len(rows) > limit)

    def ask(self, sql: str, *, rows_max: int, seconds_max: float, skip: int = 0) -> Answer:
        """See `SqlQueries`."""
        with _errors():
            return self._queries.ask(sql, rows_max=rows_max, seconds_max=seconds_max, skip=skip)

    def count(self, sql: str, *, seconds_max: float) -> int:
        """See `SqlQueries`."""
        with _errors():
            return self._queries.count(sql, seconds_max=seconds_max)

    def tables(self) -> dict[str, TableStats]:
        """See `TimeSeriesStore`."""
        parts = (
            f"SELECT '{name}', count(*), epoch_us(min({TIMESTAMP})), epoch_us(max({TIMESTAMP})) FROM {name}"
            for name in TABLES
        )
        with _errors(), contextlib.closing(self._connection.cursor()) as cursor:
            rows = cursor.execute(" UNION ALL ".join(parts)).fetchall()
        return {name: TableStats(count, (first or 0) * 1000, (last or 0) * 1000) for name, count, first, last in rows}

    def drop_before(self, table: str, before_ns: int) -> int:
        """See `TimeSeriesStore`."""
        assert table in TABLES
        sql = f"DELETE FROM {table} WHERE {TIMESTAMP} < make_timestamp(?)"
        with self._lock, _errors():
            found = self._connection.execute(sql, [before_ns // 1000]).fetchone()
        return int(found[0]) if found else 0

    def interrupt_queries(self) -> int:
        """See `SqlQueries`: the memory is shared."""
        return self._queries.interrupt_all()

    def close(self) -> None:
        """See `TimeSeriesStore`."""
        self.interrupt_queries()
        with self._lock, contextlib.suppress(duckdb.Error):
            self._connection.close()


def set_aside(path: Path) -> Path:
    """Move a damaged store away, so that a new one can be made; return where it is now."""
    aside = path.with_name(f"{path.name}.damaged")
    for suffix in (".wal", ""):
        with contextlib.suppress(FileNotFoundError):
            os.replace(f"{path}{suffix}", f"{aside}{suffix}")
    return aside


def ddl_of(table: Table) -> str:
    """The DuckDB statement that makes a table where it is missing."""
    columns = ", ".join(f'"{column.name}" {_TYPES[column.kind]}' for column in table.columns)
    return f"CREATE TABLE IF NOT EXISTS {table.name} ({columns})"


def _connect(path: Path, memory_mib_max: int) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(
        path,
        config={
            "threads": "1",  # a query runs in the thread that asks it
            "memory_limit": f"{memory_mib_max}MiB",
            "temp_directory": f"{path}.spill",
            "max_temp_directory_size": f"{SPILL_MIB_MAX}MiB",
            "checkpoint_threshold": f"{_WAL_MIB_MAX}MiB",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "python_enable_replacements": "false",  # a query must not see the variables of this program
        },
    )
    connection.execute("SET TimeZone = 'UTC'")
    return connection


_ARROW = {
    Kind.SYMBOL: arrow.DataType.string(),
    Kind.VARCHAR: arrow.DataType.string(),
    Kind.DOUBLE: arrow.DataType.float64(),
    Kind.LONG: arrow.DataType.int64(),
    Kind.TIMESTAMP: arrow.DataType.int64(),
}


def _span(name: str, rows: Sequence[Row]) -> tuple[int, int]:
    """The oldest and the newest time, in microseconds. Raises `RowsRefused`: a row has none."""
    try:
        times = [row[0] for row in rows]
        return min(times) // 1000, max(times) // 1000
    except (TypeError, IndexError) as error:
        raise RowsRefused(f"{name}: a row has no timestamp") from error


def _arrow_of(table: Table, rows: Sequence[Row]) -> arrow.Table:
    """Rows as columns.

    Raises:
        RowsRefused: a value is of another type than its column, or too large for it.
    """
    try:
        columns = zip(*rows, strict=True)
        arrays = [
            arrow.Array(values, type=_ARROW[Kind.LONG if column.amount else column.kind])
            for column, values in zip(table.columns, columns, strict=True)
        ]
    except (TypeError, ValueError, OverflowError) as error:
        raise RowsRefused(f"{table.name}: {error}") from error
    return arrow.Table.from_arrays(arrays, names=list(table.names))


def _names(table: Table) -> str:
    return ", ".join(f'"{name}"' for name in table.names)


@lru_cache
def _insert_sql(table: Table) -> str:
    values = ", ".join(map(_value_sql, table.columns))
    return f"INSERT INTO {table.name} ({_names(table)}) SELECT {values} FROM incoming"


@lru_cache
def _replace_sql(table: Table) -> str:
    same = " AND ".join(
        f'{table.name}."{column.name}" IS NOT DISTINCT FROM {_value_sql(column, "incoming.")}'
        for column in table.columns
        if column.name in table.keys
    )
    return f"DELETE FROM {table.name} USING incoming WHERE {table.name}.{TIMESTAMP} >= make_timestamp(?) AND {same}"


def _value_sql(column: Column, prefix: str = "") -> str:
    """From what a row holds to what the table holds: no text and no time are no value."""
    name = f'{prefix}"{column.name}"'
    if column.amount:
        return f"{name} / 1e9"
    if column.kind is Kind.TIMESTAMP:
        return f"make_timestamp(nullif({name}, 0) // 1000)"
    if column.kind in (Kind.SYMBOL, Kind.VARCHAR):
        return f"nullif({name}, '')"
    return name


@contextlib.contextmanager
def _errors() -> Generator[None, None, None]:
    """DuckDB's errors in the words of the port."""
    try:
        yield
    except (duckdb.FatalException, duckdb.InternalException, duckdb.SerializationException) as error:
        raise StoreDamaged(_first_line(error)) from error
    except (duckdb.ConversionException, duckdb.OutOfRangeException, duckdb.ConstraintException) as error:
        raise RowsRefused(_first_line(error)) from error
    except duckdb.Error as error:
        text = _first_line(error)
        if isinstance(error, duckdb.IOException) and any(word in text for word in _NOT_A_DATABASE):
            raise StoreDamaged(text) from error
        raise StoreUnavailable(text) from error


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
