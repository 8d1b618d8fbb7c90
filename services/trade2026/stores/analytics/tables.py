"""The port on ClickHouse, whichever engine runs the SQL."""

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from trade2026.stores.analytics import dialect
from trade2026.stores.analytics.guard import guarded
from trade2026.stores.analytics.port import Answer, Capability, Lacking, QueryRefused, RowsRefused, Selection
from trade2026.stores.analytics.schema import Row, Table, misfit

_QUESTIONS_PER_QUERY = 1_000
_UNKNOWN_TABLE = 60


class EngineRefused(QueryRefused):
    """The engine says that a statement is wrong; `code` is ClickHouse's."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Engine(Protocol):
    """What runs SQL. Raises `EngineRefused`, `QueryTooLarge` or `AnalyticsUnavailable`."""

    settings: str
    """Of every table that is made."""

    def version(self) -> tuple[int, int]:
        """Of ClickHouse."""
        ...

    def run(self, sql: str) -> None:
        """Run a statement that answers nothing."""
        ...

    def insert(self, table: Table, rows: Sequence[Row], *, times: bool) -> None:
        """Insert rows that fit; with `times`, time columns are times."""
        ...

    def select(self, sql: str) -> list[Row]:
        """The rows of our own query."""
        ...

    def ask(self, sql: str, seconds_max: float) -> tuple[Sequence[str], Sequence[str], list[Row]]:
        """Names, types and rows of somebody's query, which can change nothing."""
        ...

    def close(self) -> None: ...


class ClickHouseTables:
    """See `Analytics`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._able: frozenset[Capability] | None = None
        self._made: set[str] = set()
        self._lock = threading.Lock()

    @property
    def capabilities(self) -> frozenset[Capability]:
        if self._able is None:
            self._able = dialect.capabilities_of(self._engine.version())
        return self._able

    def offsets(self, names: Sequence[str]) -> dict[str, int]:
        found = {name: position for name, position, _ in self._rows(dialect.POSITIONS, Selection(limit=1_000_000))}
        return {name: found[name] for name in names if name in found}

    def write(self, table: Table, rows: Sequence[Row], offsets: Mapping[str, int]) -> None:
        if wrong := misfit(table, rows):
            raise RowsRefused(f"{table.name}: {wrong}")
        times = Capability.TIMES in self.capabilities
        with self._lock:
            try:
                self._make(table)
                if rows:
                    self._engine.insert(table, rows, times=times)
                if offsets:
                    self._make(dialect.POSITIONS)
                    now = time.time_ns()
                    positions = [(name, position, now) for name, position in offsets.items()]
                    self._engine.insert(dialect.POSITIONS, positions, times=times)
            except EngineRefused:
                self._made.clear()  # a table may have been taken away: the next write makes it again
                raise

    def count(self, table: Table) -> int:
        try:
            [(count,)] = self._engine.select(dialect.count(table))
        except EngineRefused as error:
            if error.code == _UNKNOWN_TABLE:
                return 0
            raise
        return count

    def scan(self, table: Table, wanted: Selection) -> list[Row]:
        return self._rows(table, wanted)

    def latest(
        self, table: Table, by: str, asked: Sequence[tuple[str, int]], equal: Mapping[str, str]
    ) -> list[Row | None]:
        if not {Capability.LATEST, Capability.TIMES} <= self.capabilities:
            raise Lacking("this ClickHouse has no ASOF JOIN by times in nanoseconds: ask a newer one, or the lake")
        found: list[Row | None] = [None] * len(asked)
        for first in range(0, len(asked), _QUESTIONS_PER_QUERY):
            some = asked[first : first + _QUESTIONS_PER_QUERY]
            sql = dialect.latest(table, by, some, equal, self.capabilities)
            for number, *row in self._select_or_nothing(sql):
                found[first + number] = tuple(row)
        return found

    def ask(self, sql: str, *, rows_max: int, seconds_max: float) -> Answer:
        names, types, rows = self._engine.ask(dialect.limited(guarded(sql), rows_max + 1), seconds_max)
        return Answer(names, types, rows[:rows_max], len(rows) > rows_max)

    def close(self) -> None:
        self._engine.close()

    def _make(self, table: Table) -> None:
        if table.name in self._made:
            return
        self._engine.run(dialect.create(table, self.capabilities, self._engine.settings))
        there = {name for name, *_ in self._engine.select(f"DESCRIBE TABLE {table.name}")}
        for column in table.columns:
            if column.name not in there:
                self._engine.run(dialect.add(table, column, self.capabilities))
        self._made.add(table.name)

    def _rows(self, table: Table, wanted: Selection) -> list[Row]:
        return self._select_or_nothing(dialect.scan(table, wanted, self.capabilities))

    def _select_or_nothing(self, sql: str) -> list[Row]:
        """The rows; none where the table was never written."""
        try:
            return self._engine.select(sql)
        except EngineRefused as error:
            if error.code == _UNKNOWN_TABLE:
                return []
            raise


def column_list(table: Table) -> str:
    """The columns of an INSERT."""
    return ", ".join(column.name for column in table.columns)


def plain(value: Any) -> Any:
    """An answered value as JSON knows it: times, decimals and the like as text."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return str(value)
