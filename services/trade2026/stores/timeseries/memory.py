"""A time-series store in a dictionary, for unit tests of what uses one."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from trade2026.stores.timeseries.port import Answer, Batch, Capabilities, Partition, RowsRefused, TableStats
from trade2026.stores.timeseries.schema import EPOCH, TABLES, Column, Kind, Row, Table

_TYPES: dict[Kind, type] = {
    Kind.SYMBOL: str,
    Kind.VARCHAR: str,
    Kind.LONG: int,
    Kind.TIMESTAMP: int,
}


class MemoryStore:
    """See `TimeSeriesStore`."""

    can = Capabilities()

    def __init__(self) -> None:
        self._rows: dict[str, dict[Row, Row]] = {name: {} for name in TABLES}
        self._offsets: dict[Partition, int] = {}
        self._state: dict[str, bytes] = {}

    def check(self) -> None:
        pass

    def offsets(self) -> dict[Partition, int]:
        return dict(self._offsets)

    def state(self) -> dict[str, bytes]:
        return dict(self._state)

    def write(self, batch: Batch) -> None:
        kept = {name: [_kept(TABLES[name], row) for row in rows] for name, rows in batch.rows.items()}
        for name, rows in kept.items():
            places = TABLES[name].key_places
            self._rows[name].update({tuple(row[place] for place in places): row for row in rows})
        self._offsets |= batch.offsets
        for name, value in batch.state.items():
            if value is None:
                self._state.pop(name, None)
            else:
                self._state[name] = value

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
        declared = TABLES[table]
        wanted = {declared.names.index(name): value for name, value in (equal or {}).items()}
        rows = [
            row
            for row in sorted(self._rows[table].values(), key=lambda row: row[0], reverse=newest_first)
            if all(row[place] == value for place, value in wanted.items())
            and _ns(row[0]) >= since_ns // 1000 * 1000
            and (not until_ns or _ns(row[0]) < until_ns // 1000 * 1000)
        ]
        types = [column.kind.value for column in declared.columns]
        return Answer(declared.names, types, rows[:limit], 0, len(rows) > limit)

    def tables(self) -> dict[str, TableStats]:
        times = {name: [_ns(row[0]) for row in rows.values()] for name, rows in self._rows.items()}
        return {name: TableStats(len(ns), min(ns, default=0), max(ns, default=0)) for name, ns in times.items()}

    def drop_before(self, table: str, before_ns: int) -> int:
        rows = self._rows[table]
        old = [key for key, row in rows.items() if _ns(row[0]) < before_ns // 1000 * 1000]
        for key in old:
            del rows[key]
        return len(old)

    def close(self) -> None:
        pass


def _kept(table: Table, row: Row) -> Row:
    if len(row) != len(table.columns):
        raise RowsRefused(f"{table.name}: {len(row)} values for {len(table.columns)} columns")
    if row[0] is None:
        raise RowsRefused(f"{table.name}: it has no timestamp")
    return tuple(_value(column, value) for column, value in zip(table.columns, row, strict=True))


def _value(column: Column, value: Any) -> Any:
    if value is None:
        return None
    expected = int if column.amount else _TYPES.get(column.kind, (int, float))
    if not isinstance(value, expected) or (isinstance(value, int) and abs(value) >= 2**63):
        raise RowsRefused(f"{column.name}: {value!r} is no {column.kind}")
    if column.kind is Kind.TIMESTAMP:
        return EPOCH + timedelta(microseconds=value // 1000) if value else None
    if column.kind is Kind.DOUBLE:
        return value / 1e9 if column.amount else float(value)
    return None if value == "" else value


def _ns(time: datetime) -> int:
    return (time.replace(tzinfo=None) - EPOCH) // timedelta(microseconds=1) * 1000
