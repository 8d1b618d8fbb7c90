"""The lake on Delta Lake (delta-rs): Parquet files, and a log of versions beside them.

Positions are Delta's application transactions: one `txn` action for each, in the commit that adds the files. Two
writers that move the same one conflict, so a writer that was replaced and lives on can double nothing.

deltalake is imported when the first table is touched: it costs a process about 80 MB of shared and 15 MB of its
own memory. Amounts go to Arrow as 64-bit integers and are then told to be decimals, which is free.
"""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from decimal import Context, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trade2026.stores.lake import (
    PARTITION_BY,
    Answer,
    Columns,
    Commit,
    Kind,
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

_EPOCH = date(1970, 1, 1)
_DAY_NS = 86_400 * 10**9
_AMOUNT_SCALE, _COST_SCALE = 9, 18
_DIGITS = 38
_CHECKPOINT_COMMITS = 20
"""What lies between two checkpoints is held in memory, 0.1 MB a commit."""
_HISTORY_STEP = 32
_GONE = "not found"
_CONFLICT = "Concurrent transaction failed"
_WIDE = Context(prec=_DIGITS)


class DeltaLake:
    """Delta tables under one root, each in a folder of its name.

    Args:
        root: A folder, or the address of object storage.
        storage_options: What object storage needs; see the documentation of deltalake.
        retention_hours: How far back versions are kept: the log, and the names of deleted files.
    """

    def __init__(
        self, root: str | Path, storage_options: Mapping[str, str] | None = None, *, retention_hours: int = 24
    ) -> None:
        self.root = str(root).rstrip("/")
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
        return sorted(self._known)

    def offsets(self, table: str, names: Sequence[str]) -> dict[str, int]:
        with self._lock:
            self._writing.pop(table, None)
        if not self._exists(table):
            return {}
        opened = self._open(table)
        with _told(table), self._lock:
            found = {name: opened.transaction_version(name) for name in names}
            if opened.metadata().configuration != self._properties:
                opened.alter.set_table_properties(self._properties)
            self._writing[table] = opened
        return {name: offset for name, offset in found.items() if offset is not None}

    def append(self, spec: TableSpec, columns: Columns, offsets: Mapping[str, int]) -> int:
        with self._lock:
            table = self._writing.get(spec.name) or self._create(spec)
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
        rows = [_row(spec, row) for row in found[: wanted.limit]]
        return Answer(version, rows, len(found) > wanted.limit)

    def state(self, table: str) -> TableState:
        opened = self._open(table)
        with _told(table):
            files = opened.get_add_actions(flatten=True)
            days, symbols, sizes, counts = (
                files.column(name).combine_chunks().to_pylist() if files.num_rows else []
                for name in ("partition.date", "partition.symbol", "size_bytes", "num_records")
            )
            columns = {field.name: _type_text(field.type) for field in opened.schema().fields}
            version = opened.version()
        sums: dict[tuple[int, str], list[int]] = {}
        for day, symbol, size, rows in zip(days, symbols, sizes, counts, strict=True):
            part = sums.setdefault(((day - _EPOCH).days, symbol), [0, 0, 0])
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
                opened.optimize.compact(partition_filters=_partition(day, symbol), max_concurrent_tasks=1)
            )

    def cluster(self, spec: TableSpec, day: int, symbol: str) -> Rewritten:
        opened = self._open(spec.name)
        with _told(spec.name):
            return _rewritten(
                opened.optimize.z_order(spec.cluster, partition_filters=_partition(day, symbol), max_concurrent_tasks=1)
            )

    def vacuum(self, table: str, retention_hours: int, *, dry_run: bool = False) -> list[str]:
        opened = self._open(table)
        with _told(table):
            # Also what a killed writer left, which no version ever named: hence `full`.
            return opened.vacuum(
                retention_hours=retention_hours, dry_run=dry_run, enforce_retention_duration=False, full=True
            )

    def _address(self, table: str) -> str:
        return f"{self.root}/{table}"

    def _exists(self, table: str) -> bool:
        if table in self._known:
            return True
        from deltalake import DeltaTable

        with _told(table):
            if DeltaTable.is_deltatable(self._address(table), self._options):
                self._known.add(table)
                return True
        return False

    def _open(self, table: str) -> "DeltaTable":
        if not self._exists(table):
            raise NoSuchTable(f"the lake has no table {table!r} yet")
        from deltalake import DeltaTable

        with _told(table):
            return DeltaTable(self._address(table), storage_options=self._options)

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
            table.load_as_version(version)
        except Exception as error:
            raise NoSuchVersion(f"version {version} of {name} is no longer kept, the newest is {newest}") from error
        return table

    def _create(self, spec: TableSpec) -> "DeltaTable":
        from deltalake import DeltaTable

        with _told(spec.name):
            table = DeltaTable.create(
                self._address(spec.name),
                schema=_schema(spec),
                mode="ignore",
                partition_by=list(PARTITION_BY),
                storage_options=self._options,
                configuration=self._properties,
            )
        self._writing[spec.name] = table
        self._known.add(spec.name)
        return table


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
        lines = str(error).strip().splitlines()  # below the first there may be a backtrace
        raise LakeError(f"{table}: {lines[0] if lines else type(error).__name__}") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise LakeError(f"{table}: {error}") from error


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
    from deltalake import CommitProperties, Transaction, write_deltalake

    schema = _schema(spec)
    arrays = [_array(columns[column.name], column.kind) for column in spec.columns]
    differs = {field.name for field in table.schema().fields} != {column.name for column in spec.columns}
    write_deltalake(
        table,
        RecordBatch.from_arrays(arrays, schema=schema),
        mode="append",
        schema_mode="merge" if differs else None,
        commit_properties=CommitProperties(
            app_transactions=[Transaction(name, offset) for name, offset in offsets.items()]
        ),
    )
    return table.version()


# ── columns ─────────────────────────────────────────────────────────────────────────────────────


def _types() -> dict[Kind, Any]:
    from arro3.core import DataType, Field

    amount = DataType.decimal128(_DIGITS, _AMOUNT_SCALE)
    level = DataType.struct([Field("price", amount), Field("quantity", amount)])
    return {
        Kind.DATE: DataType.date32(),
        Kind.TEXT: DataType.string(),
        Kind.INTEGER: DataType.int64(),
        Kind.AMOUNT: amount,
        Kind.COST: DataType.decimal128(_DIGITS, _COST_SCALE),
        Kind.LEVELS: DataType.list(Field("element", level)),
    }


def _schema(spec: TableSpec) -> Any:
    from arro3.core import Field, Schema

    types = _types()
    return Schema([Field(column.name, types[column.kind], nullable=True) for column in spec.columns])


def _array(values: Sequence[Any], kind: Kind) -> Any:
    from arro3.core import Array, DataType

    if kind is Kind.TEXT:
        return Array(values, DataType.string())
    if kind is Kind.INTEGER:
        return Array(values, DataType.int64())
    if kind is Kind.DATE:
        return Array(values, DataType.int32()).cast(DataType.date32())
    if kind is Kind.LEVELS:
        return _levels(values)
    return _decimals(values, _AMOUNT_SCALE if kind is Kind.AMOUNT else _COST_SCALE)


def _decimals(values: Sequence[int | None], scale: int) -> Any:
    from arro3.core import Array, DataType, Field

    wanted = DataType.decimal128(_DIGITS, scale)
    try:
        whole = Array(values, DataType.int64()).cast(DataType.decimal128(_DIGITS, 0))
    except OverflowError:
        texts = [None if value is None else format(Decimal(value).scaleb(-scale), "f") for value in values]
        return Array(texts, DataType.string()).cast(wanted)
    _, content = whole.__arrow_c_array__()
    return Array.from_arrow_pycapsule(Field("", wanted).__arrow_c_schema__(), content)


def _levels(values: Sequence[Sequence[tuple[int, int]]]) -> Any:
    from arro3.core import Array, DataType, Field, list_array, struct_array

    ends, prices, quantities = [0], [], []
    for levels in values:
        for price, quantity in levels:
            prices.append(price)
            quantities.append(quantity)
        ends.append(len(prices))
    parts = [_decimals(prices, _AMOUNT_SCALE), _decimals(quantities, _AMOUNT_SCALE)]
    amount = DataType.decimal128(_DIGITS, _AMOUNT_SCALE)
    steps = struct_array(parts, fields=[Field("price", amount), Field("quantity", amount)])
    return list_array(Array(ends, DataType.int32()), steps, type=_types()[Kind.LEVELS])


def _row(spec: TableSpec, found: Mapping[str, Any]) -> dict[str, Any]:
    """A row as it was written."""
    return {column.name: _value(found.get(column.name), column.kind) for column in spec.columns}


def _value(value: Any, kind: Kind) -> Any:
    if value is None:
        return None
    if kind is Kind.DATE:
        return (value - _EPOCH).days
    if kind is Kind.AMOUNT:
        return int(value.scaleb(_AMOUNT_SCALE, _WIDE))
    if kind is Kind.COST:
        return int(value.scaleb(_COST_SCALE, _WIDE))
    if kind is Kind.LEVELS:
        return [(_value(step["price"], Kind.AMOUNT), _value(step["quantity"], Kind.AMOUNT)) for step in value]
    return value


# ── questions ───────────────────────────────────────────────────────────────────────────────────


def _find(table: "DeltaTable", spec: TableSpec, wanted: Selection) -> list[dict[str, Any]]:
    from deltalake import QueryBuilder

    stored = {field.name for field in table.schema().fields}
    batches = QueryBuilder().register("wanted", table).execute(_query(spec, wanted, stored))
    return [row for batch in batches for row in batch.to_struct_array().to_pylist()]


def _query(spec: TableSpec, wanted: Selection, stored: set[str]) -> str:
    """SQL for a selection; one row more than the limit is asked for. Columns that are not stored yet are left out."""
    terms: list[str] = []
    if wanted.symbol is not None:
        terms.append(f"\"symbol\" = '{wanted.symbol.replace(chr(39), chr(39) * 2)}'")
    for bound, sign in ((wanted.from_ns, ">="), (wanted.to_ns, "<")):
        if bound is not None:
            day = _day(bound // _DAY_NS)
            terms.append(f'"{spec.time}" {sign} {bound}')
            terms.append(f"\"date\" {sign[0]}= DATE '{day}'")
    where = f" WHERE {' AND '.join(terms)}" if terms else ""
    names = ", ".join(f'"{column.name}"' for column in spec.columns if column.name in stored)
    order = ", ".join(f'"{name}"' for name in spec.order)
    return f"SELECT {names} FROM wanted{where} ORDER BY {order} LIMIT {wanted.limit + 1}"


def _day(day: int) -> str:
    return date.fromordinal(_EPOCH.toordinal() + day).isoformat()


def _partition(day: int, symbol: str) -> list[tuple[str, str, Any]]:
    return [("date", "=", _day(day)), ("symbol", "=", symbol)]


def _rewritten(metrics: Mapping[str, Any]) -> Rewritten:
    return Rewritten(metrics["numFilesRemoved"], metrics["numFilesAdded"])


def _type_text(kind: Any) -> str:
    described = json.loads(kind.to_json())
    return described if isinstance(described, str) else described["type"]
