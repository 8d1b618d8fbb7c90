"""The lake on Delta Lake (delta-rs): Parquet files, and a log of versions beside them.

Positions are Delta's application transactions: one `txn` action for each, in the commit that adds the files. Two
writers that move the same one conflict, so a writer that was replaced and lives on can double nothing.

deltalake is imported when the first table is touched: it costs a process about 70 MB of shared memory (its own
program) and 20 MB that is not.
"""

import json
import os
import re
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trade2026.stores import delta_sql
from trade2026.stores.arrow import EPOCH, array_of, row_of, schema_of
from trade2026.stores.lake import (
    Answer,
    Columns,
    Commit,
    LakeConflict,
    LakeError,
    NoSuchTable,
    NoSuchVersion,
    Part,
    Rewritten,
    Selection,
    TableSpec,
    TableState,
)

if TYPE_CHECKING:
    from deltalake import DeltaTable

_ALLOCATOR = "narenas:1,tcache:false,dirty_decay_ms:500,muzzy_decay_ms:0"
"""The library's own (jemalloc) keeps what it once needed, for each thread: this saves 20 MB and costs 8 % of speed."""
_CHECKPOINT_COMMITS = 20
"""What lies between two checkpoints is held in memory, 0.1 MB a commit."""
_HISTORY_STEP = 32
_GONE = "not found"
_ADVICE = "; restore this file, or move the table's folder away: it is made again as far as the log reaches"
_NO_TABLE = "No files in log segment"
_NOT_KEPT = ("LogSegment end version", _NO_TABLE, "No table metadata or protocol found")
"""What the library says of a version whose commits were cleaned up: that one, those before it, or both."""
_REFUSED = "lacked the necessary privileges"
_CONFLICT = "Concurrent transaction failed"
_OBJECT_STORAGE = "Generic S3 error"
_DECORATION = re.compile("\x1b\\[[0-9;]*m|↳")
_PATH = re.compile(r"(https?://[^/\s]+)/\S*")
_WORDS_MAX = 400


class DeltaLake:
    """Delta tables under one root, each in a folder of its name.

    Args:
        root: A folder, or the address of object storage.
        storage_options: What object storage needs; see the documentation of deltalake.
        names: Of tables that may be there already: object storage is not listed, a folder is.
        retention_hours: How far back versions are kept: the log, and the names of deleted files.
    """

    def __init__(
        self,
        root: str | Path,
        storage_options: Mapping[str, str] | None = None,
        *,
        names: Collection[str] = (),
        retention_hours: int = 24,
    ) -> None:
        self.root = str(root).rstrip("/")
        self._names = frozenset(names)
        self._options = dict(storage_options) if storage_options else None
        kept = f"interval {retention_hours} hours"
        self._properties = {
            "delta.checkpointInterval": str(_CHECKPOINT_COMMITS),
            "delta.logRetentionDuration": kept,
            "delta.deletedFileRetentionDuration": kept,
            "delta.enableExpiredLogCleanup": "true",
        }
        self._writing: dict[str, DeltaTable] = {}
        """As of the last commit that this object has seen."""
        self._known: set[str] = set()
        self._lock = threading.Lock()

    def tables(self) -> list[str]:
        if "://" not in self.root:
            found = sorted(path.parent.name for path in Path(self.root).glob("*/_delta_log"))
            return [name for name in found if self._exists(name)]
        return [name for name in sorted(self._known | self._names) if self._exists(name)]

    def offsets(self, table: str, names: Sequence[str]) -> dict[str, int]:
        with self._lock:
            self._writing.pop(table, None)
        if not self._exists(table):
            return {}
        opened = self._open(table)
        with _told(table), self._lock:
            found = {name: opened.transaction_version(name) for name in names}
            if opened.metadata().configuration != self._properties:
                opened = self._set_properties(table, opened)
            self._writing[table] = opened
        return {name: offset for name, offset in found.items() if offset is not None}

    def append(self, spec: TableSpec, columns: Columns, offsets: Mapping[str, int]) -> int:
        with self._lock:
            table = self._writing.get(spec.name) or self._begin(spec, offsets)
            try:
                with _told(spec.name):
                    return _write(table, spec, columns, offsets)
            except LakeError:
                self._writing.pop(spec.name, None)
                raise

    def read(self, spec: TableSpec, wanted: Selection) -> Answer:
        table = self._open_as_of(spec.name, wanted)
        version = table.version()
        try:
            with _told(spec.name):
                found = _find(table, spec, wanted)
        except LakeError as error:
            if wanted.is_now or _GONE not in str(error):
                raise
            raise NoSuchVersion(f"files of version {version} of {spec.name} were vacuumed") from error
        rows = [row_of(spec, row) for row in found[: wanted.limit]]
        return Answer(version, rows, len(found) > wanted.limit)

    def latest(
        self, spec: TableSpec, by: str, asked: Sequence[tuple[str, int]], equal: Mapping[str, str]
    ) -> list[dict[str, Any] | None]:
        if not asked:
            return []
        table = self._open(spec.name)
        with _told(spec.name):
            found = _answered(table, delta_sql.latest(spec, by, asked, equal, _stored(table)))
        by_number = {row.pop(delta_sql.NUMBER): row_of(spec, row) for row in found}
        return [by_number.get(number) for number in range(len(asked))]

    def state(self, table: str) -> TableState:
        opened = self._open(table)
        with _told(table):
            files = opened.get_add_actions(flatten=True)
            other = _other_partition(opened)
            days, symbols, sizes, counts = (
                files.column(name).combine_chunks().to_pylist() if files.num_rows else []
                for name in ("partition.date", f"partition.{other}", "size_bytes", "num_records")
            )
            columns = {field.name: _type_text(field.type) for field in opened.schema().fields}
            version = opened.version()
        sums: dict[tuple[int, str], list[int]] = {}
        for day, symbol, size, rows in zip(days, symbols, sizes, counts, strict=True):
            part = sums.setdefault(((day - EPOCH).days, symbol), [0, 0, 0])
            part[0] += 1
            part[1] += rows
            part[2] += size
        return TableState(table, version, columns, [Part(*key, *sums[key]) for key in sorted(sums)])

    def history(self, table: str, limit: int) -> list[Commit]:
        opened = self._open(table)
        with _told(table):
            return [
                Commit(
                    entry["version"],
                    entry["timestamp"] * 1_000_000,
                    entry["operation"],
                    int(entry.get("operationMetrics", {}).get("num_added_rows", 0)),
                )
                for entry in opened.history(limit)
            ]

    def compact(self, table: str, day: int, symbol: str) -> Rewritten:
        opened = self._open(table)
        with _told(table):
            return _rewritten(
                opened.optimize.compact(
                    partition_filters=_partition(day, _other_partition(opened), symbol), max_concurrent_tasks=1
                )
            )

    def cluster(self, spec: TableSpec, day: int, symbol: str) -> Rewritten:
        opened = self._open(spec.name)
        with _told(spec.name):
            return _rewritten(
                opened.optimize.z_order(
                    spec.cluster, partition_filters=_partition(day, spec.partition, symbol), max_concurrent_tasks=1
                )
            )

    def vacuum(self, table: str, retention_hours: int, *, dry_run: bool = False) -> list[str]:
        opened = self._open(table)
        with _told(table):
            # Also what a killed writer left, which no version ever named: hence `full`.
            return opened.vacuum(
                retention_hours=retention_hours, dry_run=dry_run, enforce_retention_duration=False, full=True
            )

    def _set_properties(self, table: str, opened: "DeltaTable") -> "DeltaTable":
        """Returns the table as of then."""
        opened.alter.set_table_properties(self._properties)
        return opened

    def _address(self, table: str) -> str:
        return f"{self.root}/{table}"

    def _exists(self, table: str) -> bool:
        if table in self._known:
            return True
        with _told(table):
            found = _is_there(self._address(table), self._options)
        if found:
            self._known.add(table)
        return found

    def _open(self, table: str) -> "DeltaTable":
        if not self._exists(table):
            raise NoSuchTable(f"the lake has no table {table!r} yet")

        try:
            with _told(table):
                return _deltalake().DeltaTable(self._address(table), storage_options=self._options)
        except LakeError as error:
            if _NO_TABLE in str(error):  # it was taken away: the next question is whether there is one
                self._known.discard(table)
            raise

    def _open_as_of(self, name: str, wanted: Selection) -> "DeltaTable":
        table = self._open(name)
        newest, version = table.version(), wanted.version
        if version is None and wanted.at_ns is not None:
            with _told(name):
                version = _version_at(table, wanted.at_ns)
            if version is None:
                raise NoSuchVersion(f"no version of {name} is as old as that, or it is no longer kept")
        if version is None or version == newest:
            return table
        if version > newest:
            raise NoSuchVersion(f"{name} has no version {version} yet, the newest is {newest}")
        try:
            with _told(name):
                table.load_as_version(version)
        except LakeError as error:
            if not any(said in str(error) for said in _NOT_KEPT):
                raise
            raise NoSuchVersion(f"version {version} of {name} is no longer kept, the newest is {newest}") from error
        return table

    def _begin(self, spec: TableSpec, offsets: Mapping[str, int]) -> "DeltaTable":
        """The table of a writer that has not seen it; another one may have begun it meanwhile."""
        table = self._create(spec)
        with _told(spec.name):
            taken = [name for name in offsets if table.transaction_version(name) is not None]
        if taken:
            self._writing.pop(spec.name)
            raise LakeConflict(f"{spec.name}: another writer has stored {', '.join(taken)}")
        return table

    def _create(self, spec: TableSpec) -> "DeltaTable":

        with _told(spec.name):
            table = _deltalake().DeltaTable.create(
                self._address(spec.name),
                schema=schema_of(spec),
                mode="ignore",
                partition_by=["date", spec.partition],
                storage_options=self._options,
                configuration=self._properties,
            )
        self._writing[spec.name] = table
        self._known.add(spec.name)
        return table


def _deltalake() -> Any:
    """The library, imported when it is needed first."""
    os.environ.setdefault("_RJEM_MALLOC_CONF", _ALLOCATOR)
    import deltalake

    return deltalake


def _is_there(address: str, options: Mapping[str, str] | None) -> bool:
    """Whether there is a table.

    A store of objects is asked by opening it: `is_deltatable` keeps the GIL while it waits, and the process stands still.
    """
    library = _deltalake()
    if "://" not in address:
        return library.DeltaTable.is_deltatable(address, options)
    try:
        library.DeltaTable(address, storage_options=options)
    except library.exceptions.TableNotFoundError:
        return False
    except Exception as error:
        if _REFUSED in str(error):  # the other one says why, in the store's words
            library.DeltaTable.is_deltatable(address, options)
        raise
    return True


@contextmanager
def _told(table: str) -> Iterator[None]:
    """Say in our words what went wrong; also a panic of the engine, which is no `Exception`."""
    try:
        yield
    except LakeError:
        raise
    except Exception as error:
        if _CONFLICT in str(error):
            raise LakeConflict(f"{table}: another writer has stored these records") from error
        line = _said(error)
        raise LakeError(f"{table}: {line}{_ADVICE if _GONE in line else ''}") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise LakeError(f"{table}: {error}") from error


def _said(error: Exception) -> str:
    """The library's words in one line. Below the first there may be a backtrace, or what object storage has answered."""
    lines = [_DECORATION.sub("", line).strip() for line in str(error).strip().splitlines()]
    if not lines:
        return type(error).__name__
    if _OBJECT_STORAGE not in lines[0]:
        return lines[0]
    whole = _PATH.sub(r"\1/…", ": ".join(line for line in lines if line and not line.startswith("<")))
    told = re.search("<Message>(.*?)</Message>", str(error))
    return f"{told[1]} ({whole[:_WORDS_MAX]})" if told else whole[:_WORDS_MAX]


def _version_at(table: "DeltaTable", at_ns: int) -> int | None:
    """The newest version that was there at a time: by what the commits say, not by the times of files."""
    limit = _HISTORY_STEP
    while True:
        entries = table.history(limit)
        for entry in entries:
            if entry["timestamp"] * 1_000_000 <= at_ns:
                return entry["version"]
        if len(entries) < limit:
            return None
        limit *= _HISTORY_STEP


def _write(table: "DeltaTable", spec: TableSpec, columns: Columns, offsets: Mapping[str, int]) -> int:
    from arro3.core import RecordBatch

    schema = schema_of(spec)
    arrays = [array_of(columns[column.name], column.kind) for column in spec.columns]
    differs = _stored(table) != {column.name for column in spec.columns}
    delta = _deltalake()
    delta.write_deltalake(
        table,
        RecordBatch.from_arrays(arrays, schema=schema),
        mode="append",
        schema_mode="merge" if differs else None,
        commit_properties=delta.CommitProperties(
            app_transactions=[delta.Transaction(name, offset) for name, offset in offsets.items()]
        ),
    )
    return table.version()


# ── questions ───────────────────────────────────────────────────────────────────────────────────


def _find(table: "DeltaTable", spec: TableSpec, wanted: Selection) -> list[dict[str, Any]]:
    return _answered(table, delta_sql.select(spec, wanted, _stored(table)))


def _answered(table: "DeltaTable", sql: str) -> list[dict[str, Any]]:
    batches = _deltalake().QueryBuilder().register(delta_sql.TABLE, table).execute(sql)
    return [row for batch in batches for row in batch.to_struct_array().to_pylist()]


def _stored(table: "DeltaTable") -> set[str]:
    return {field.name for field in table.schema().fields}


def _other_partition(table: "DeltaTable") -> str:
    _, other = table.metadata().partition_columns
    return other


def _partition(day: int, other: str, value: str) -> list[tuple[str, str, Any]]:
    return [("date", "=", delta_sql.day_text(day)), (other, "=", value)]


def _rewritten(metrics: Mapping[str, Any]) -> Rewritten:
    return Rewritten(metrics["numFilesRemoved"], metrics["numFilesAdded"])


def _type_text(kind: Any) -> str:
    described = json.loads(kind.to_json())
    return described if isinstance(described, str) else described["type"]
