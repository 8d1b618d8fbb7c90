"""How far groups of consumers have come, in one small file beside the journals."""

import contextlib
import logging
import sqlite3
import threading
from pathlib import Path

from trade2026.kit.bus.files import BUSY_SECONDS_MAX, as_bus_error, is_damage, make_folders, sync_folder

log = logging.getLogger(__name__)

_OFFSETS_SCHEMA = """
CREATE TABLE IF NOT EXISTS offsets (consumers TEXT, topic TEXT, partition INTEGER, next_seq INTEGER NOT NULL,
    PRIMARY KEY (consumers, topic, partition)) WITHOUT ROWID
"""


class Offsets:
    """How far groups of consumers have come, in one small file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def commit(self, group: str, topic: str, partition: int, next_seq: int, durable: bool) -> None:
        synchronous = "FULL" if durable else "OFF"
        row = (group, topic, partition, next_seq)
        self._ask(f"PRAGMA synchronous = {synchronous}", "INSERT OR REPLACE INTO offsets VALUES (?, ?, ?, ?)", row)

    def committed(self, group: str, topic: str, partition: int) -> int:
        query = "SELECT next_seq FROM offsets WHERE consumers = ? AND topic = ? AND partition = ?"
        rows = self._ask("", query, (group, topic, partition))
        return rows[0][0] if rows else 0

    def all(self) -> list[tuple[str, str, int, int]]:
        """Group, topic, partition and next position of all; read only: no file is made or changed."""
        if not self._path.exists():
            return []
        uri = f"{self._path.absolute().as_uri()}?mode=ro"
        try:
            with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS_MAX)) as connection:
                return connection.execute("SELECT consumers, topic, partition, next_seq FROM offsets").fetchall()
        except sqlite3.Error as error:
            raise as_bus_error(error, "offsets of consumers", self._path.parent) from error

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _ask(self, pragma: str, query: str, values: tuple[object, ...]) -> "list[tuple[int]]":
        try:
            with self._lock:
                try:
                    return self._answer(pragma, query, values)
                except sqlite3.DatabaseError as error:
                    if not is_damage(error):
                        raise
                    self._put_aside(error)
                    return self._answer(pragma, query, values)
        except (sqlite3.Error, OSError) as error:
            raise as_bus_error(error, "offsets of consumers", self._path.parent) from error

    def _answer(self, pragma: str, query: str, values: tuple[object, ...]) -> "list[tuple[int]]":
        connection = self._connection = self._connection or self._open()
        connection.execute(pragma)
        return connection.execute(query, values).fetchall()

    def _put_aside(self, error: sqlite3.Error) -> None:
        """Without its offset a group reads from the start: whoever follows a log must be able to."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        aside = self._path.with_name(f"{self._path.name}.damaged")
        for suffix in ("-wal", "-shm", ""):
            with contextlib.suppress(FileNotFoundError):
                self._path.with_name(self._path.name + suffix).replace(aside.with_name(aside.name + suffix))
        log.error("%s is damaged (%s): it is put aside, and its readers begin again", self._path, error)

    def _open(self) -> sqlite3.Connection:
        make_folders(self._path.parent)
        connection = sqlite3.connect(
            self._path, timeout=BUSY_SECONDS_MAX, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(_OFFSETS_SCHEMA)
        sync_folder(self._path.parent)
        return connection
