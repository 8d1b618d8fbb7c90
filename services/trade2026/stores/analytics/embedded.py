"""ClickHouse in this process, by chdb: one directory, one process, no listener.

chdb is 533 MB on disk (the extra `analytics`) and takes 300 MB of memory from its import on, so it is imported when a
store is opened. One process has one engine, on one directory at a time. Statements run one after the other.
"""

import contextlib
import re
import threading
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from trade2026.stores.analytics import native
from trade2026.stores.analytics.port import AnalyticsUnavailable, QueryTooLarge
from trade2026.stores.analytics.schema import Row, Table
from trade2026.stores.analytics.tables import ClickHouseTables, EngineRefused, column_list

_FORMAT = "JSONCompactEachRowWithNamesAndTypes"
_CODE = re.compile(r"Code: (\d+)")
_TIMED_OUT, _NO_ROOM = (159,), (241, 243, 252, 75, 74, 76)
"""Codes: took too long; no memory, no disk, too many parts, files that can't be written, read or opened."""
_PLAIN_NUMBERS = "output_format_json_quote_64bit_integers=0, output_format_json_quote_denormals=0"


def open_embedded(directory: Path, *, memory_mib_max: int = 512) -> ClickHouseTables:
    """Open the store in a directory, which is made if it is missing.

    Args:
        memory_mib_max: Of one statement.

    Raises:
        AnalyticsUnavailable: chdb is not installed, or another process has the directory.
    """
    return ClickHouseTables(ChdbEngine(directory, memory_mib_max))


class ChdbEngine:
    """See `Engine`."""

    # Rows are acknowledged by the log, so what is lost with the power is written again; but positions must not
    # be there without their rows.
    settings = " SETTINGS fsync_after_insert = 1, fsync_part_directory = 1"

    def __init__(self, directory: Path, memory_mib_max: int) -> None:
        try:
            from chdb import session
        except ImportError as error:
            raise AnalyticsUnavailable(
                "chdb is not installed: `pip install 'trade2026[analytics]'`, or give spec.stores.analytics a server"
            ) from error
        directory.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._session: Any = session.Session(str(directory))
        except RuntimeError as error:
            raise AnalyticsUnavailable(f"{directory} can't be opened: {_first_line(error)}") from error
        self._lock = threading.Lock()
        self.run(f"SET max_memory_usage = {memory_mib_max * 1024 * 1024}")

    def version(self) -> tuple[int, int]:
        [(text,)] = self.select("SELECT version()")
        major, minor = text.split(".")[:2]
        return int(major), int(minor)

    def run(self, sql: str) -> None:
        self._query(sql, "Null")

    def insert(self, table: Table, rows: Sequence[Row], *, times: bool) -> None:
        content = native.block(table, rows, times=times)
        with (
            self._asking() as session,
            session.send_insert(f"INSERT INTO {table.name} ({column_list(table)})", "Native") as insert,
        ):
            insert.append(content)
            insert.finish()

    def select(self, sql: str) -> list[Row]:
        return self._table(f"{sql} SETTINGS {_PLAIN_NUMBERS}" if sql.startswith("SELECT") else sql)[2]

    def ask(self, sql: str, seconds_max: float) -> tuple[Sequence[str], Sequence[str], list[Row]]:
        return self._table(f"{sql} SETTINGS readonly = 1, max_execution_time = {seconds_max}, {_PLAIN_NUMBERS}")

    def close(self) -> None:
        if self._session is not None:
            session, self._session = self._session, None
            session.close()

    def _table(self, sql: str) -> tuple[Sequence[str], Sequence[str], list[Row]]:
        lines = self._query(sql, _FORMAT).splitlines()
        if not lines:
            return (), (), []
        names, types, *rows = (msgspec.json.decode(line) for line in lines if line)
        return names, types, [tuple(row) for row in rows]

    def _query(self, sql: str, form: str) -> bytes:
        with self._asking() as session:
            return session.query(sql, form).bytes() or b""

    @contextlib.contextmanager
    def _asking(self) -> Generator[Any, None, None]:
        """The session, for one statement."""
        if self._session is None:
            raise AnalyticsUnavailable("the store is closed")
        with self._lock:
            try:
                yield self._session
            except RuntimeError as error:
                # What it had answered before it failed would begin the next answer.
                self._session.query("SELECT 1", "CSV")
                raise _told(error) from error


def _told(error: RuntimeError) -> Exception:
    line = _first_line(error)
    found = _CODE.search(line)
    code = int(found.group(1)) if found else 0
    if code in _TIMED_OUT:
        return QueryTooLarge(line)
    return AnalyticsUnavailable(line) if code in (0, *_NO_ROOM) else EngineRefused(code, line)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
