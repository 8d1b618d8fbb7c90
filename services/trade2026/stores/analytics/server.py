"""A ClickHouse server, by its native protocol (clickhouse-driver, imported when the first statement runs)."""

import contextlib
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from trade2026.stores.analytics.port import AnalyticsUnavailable, QueryTooLarge
from trade2026.stores.analytics.schema import Row, Table
from trade2026.stores.analytics.tables import ClickHouseTables, EngineRefused, column_list, plain

NATIVE_PORT = 9000
_CONNECT_SECONDS, _SILENT_SECONDS, _ANSWER_SECONDS = 5, 20, 60
"""To be taken, to hear anything, and to have the whole answer: one that says a byte a minute is cut off too."""
_TIMED_OUT, _NO_ROOM = (159,), (241, 243, 252, 202, 209, 210)
"""Codes: took too long; no memory, no disk, too many parts, too many queries, network."""

T = TypeVar("T")


def open_server(url: str, *, database: str, username: str = "", password: str = "") -> ClickHouseTables:
    """A store on a server; nothing is asked of it yet.

    Args:
        url: `clickhouse://HOST:PORT`, or `clickhouses://` with TLS.
        database: Made if it is missing.
    """
    return ClickHouseTables(ServerEngine(url, database, username, password))


class ServerEngine:
    """See `Engine`. One connection, opened when it is needed, and again when it was lost."""

    settings = ""

    def __init__(self, url: str, database: str, username: str, password: str) -> None:
        parts = urlsplit(url)
        self._address = f"{parts.hostname}:{parts.port or NATIVE_PORT}"
        self._connect = {
            "host": unquote(parts.hostname or ""),
            "port": parts.port or NATIVE_PORT,
            "secure": parts.scheme == "clickhouses",
            "user": username or "default",
            "password": password,
            "connect_timeout": _CONNECT_SECONDS,
            "send_receive_timeout": _SILENT_SECONDS,
        }
        self._database = database
        self._client: Any = None
        self._lock = threading.Lock()
        self._closed = False

    def version(self) -> tuple[int, int]:
        [(text,)] = self.select("SELECT version()")
        major, minor = text.split(".")[:2]
        return int(major), int(minor)

    def run(self, sql: str) -> None:
        self._do(lambda client: client.execute(sql))

    def insert(self, table: Table, rows: Sequence[Row], *, times: bool) -> None:
        statement = f"INSERT INTO {table.name} ({column_list(table)}) VALUES"
        self._do(lambda client: client.execute(statement, list(rows)))

    def select(self, sql: str) -> list[Row]:
        return [tuple(row) for row in self._do(lambda client: client.execute(sql))]

    def ask(self, sql: str, seconds_max: float) -> tuple[Sequence[str], Sequence[str], list[Row]]:
        # The last one, because it refuses those after it.
        settings = {"max_execution_time": max(1, round(seconds_max)), "readonly": 1}
        rows, columns = self._do(lambda client: client.execute(sql, with_column_types=True, settings=settings))
        names, types = [name for name, _ in columns], [kind for _, kind in columns]
        return names, types, [tuple(plain(value) for value in row) for row in rows]

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._let_go()

    def _do(self, question: Callable[[Any], T]) -> T:
        from clickhouse_driver import errors

        with self._lock:
            if self._closed:
                raise AnalyticsUnavailable("the store is closed")
            deadline = threading.Timer(_ANSWER_SECONDS, self._cut)
            deadline.daemon = True
            deadline.start()
            try:
                if self._client is None:
                    self._open()
                return question(self._client)
            except errors.ServerException as error:
                raise _told(error) from error
            except (errors.Error, OSError, EOFError) as error:
                self._let_go()
                line = next(iter(str(error).strip().splitlines()), type(error).__name__)
                raise AnalyticsUnavailable(f"ClickHouse at {self._address}: {line}") from error
            finally:
                deadline.cancel()

    def _open(self) -> None:
        """Open a connection, by way of the database that is always there: ours may have to be made."""
        from clickhouse_driver import Client

        self._client = first = Client(**self._connect)
        try:
            first.execute(f"CREATE DATABASE IF NOT EXISTS `{self._database}`")
        finally:
            self._let_go()
        self._client = Client(**self._connect, database=self._database)

    def _cut(self) -> None:
        """End what is under way, from another thread: whoever waits for an answer there hears that there is none."""
        connection = self._client.connection.socket if self._client is not None else None
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _let_go(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            client.disconnect()


def _told(error: Any) -> Exception:
    line = next(iter(str(error.message or error).strip().splitlines()), "").partition(" Stack trace")[0]
    if error.code in _TIMED_OUT:
        return QueryTooLarge(line)
    if error.code in _NO_ROOM:
        return AnalyticsUnavailable(line)
    return EngineRefused(error.code, line)
