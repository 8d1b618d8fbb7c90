"""The records in the analytics store: which table, how they get there, and who is asked.

A stack without `spec.stores.analytics` has none, and none of it is imported.
"""

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from trade2026.stores.analytics.port import Analytics, AnalyticsError
from trade2026.stores.analytics.schema import Column, Kind, Table
from trade2026.stores.lake import Columns, TableSpec

PASSWORD_VARIABLE = "TRADE2026_CLICKHOUSE_PASSWORD"

RECORDS_TABLE = Table(
    "records",
    (
        Column("source", Kind.WORD),
        Column("symbol", Kind.WORD),
        Column("record_id", Kind.TEXT),
        Column("seq", Kind.INTEGER),
        Column("epoch", Kind.INTEGER),
        Column("schema_version", Kind.INTEGER),
        Column("ts_event", Kind.TIME),
        Column("ts_available", Kind.TIME),
        Column("ts_received", Kind.TIME),
        Column("data", Kind.TEXT),
    ),
    keys=("source", "symbol", "ts_available", "record_id"),
    version="seq",
    order=("ts_available", "ts_event", "epoch", "seq"),
    time="ts_available",
)


class StoreConfig(msgspec.Struct, frozen=True):
    """`spec.stores.analytics`, as the planner hands it on."""

    type: str
    url: str = ""
    database: str = ""
    username: str = ""
    password_file: str = ""
    memory_mib_max: int = 512


class RecordsInAnalytics:
    """A destination: rows one by key, positions after them. The store is opened when it is first needed.

    Args:
        directory: Of an embedded store.
        stack: Names the database on a server, unless the manifest does.
    """

    failures: tuple[type[Exception], ...] = (AnalyticsError, OSError)

    def __init__(self, config: StoreConfig, directory: Path, stack: str) -> None:
        self.config, self.directory, self.stack = config, directory, stack
        self._writes: Analytics | None = None
        self._answers: Analytics | None = None
        self._lock = threading.Lock()

    def writes(self) -> Analytics:
        """The store, for whoever writes. Raises `AnalyticsUnavailable`."""
        with self._lock:
            if self._writes is None:
                self._writes = self._opened()
            return self._writes

    def answers(self) -> Analytics:
        """The store, for questions: a server is asked on a connection of its own, so that none delays a batch."""
        if self.config.type == "embedded":
            return self.writes()
        with self._lock:
            if self._answers is None:
                self._answers = self._opened()
            return self._answers

    def offsets(self, table: str, names: Sequence[str]) -> dict[str, int]:
        del table
        return self.writes().offsets(names)

    def newest_day(self, table: str) -> int:
        del table
        return 0

    def append(self, spec: TableSpec, columns: Columns, offsets: Mapping[str, int]) -> None:
        rows = list(zip(*(columns[name] for name in RECORDS_TABLE.names), strict=True))
        self.writes().write(RECORDS_TABLE, rows, offsets)

    def close(self) -> None:
        """Let the store go. Idempotent."""
        with self._lock:
            for store in (self._writes, self._answers):
                if store is not None:
                    store.close()

    def _opened(self) -> Analytics:
        config = self.config
        if config.type == "embedded":
            from trade2026.stores.analytics.embedded import open_embedded

            return open_embedded(self.directory, memory_mib_max=config.memory_mib_max)
        from trade2026.stores.analytics.server import open_server

        return open_server(
            config.url, database=config.database or self.stack, username=config.username, password=self._password()
        )

    def _password(self) -> str:
        if self.config.password_file:
            return Path(self.config.password_file).read_text("utf-8").strip()
        return os.environ.get(PASSWORD_VARIABLE, "")


def row_as_mapping(row: Sequence[Any]) -> dict[str, Any]:
    """A row of the table by the names of its columns."""
    return dict(zip(RECORDS_TABLE.names, row, strict=True))
