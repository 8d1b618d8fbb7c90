"""Queries of strangers on QuestDB: they read, end in time, and answer no more than they may."""

import contextlib
import re
import threading
from collections.abc import Generator, Sequence
from datetime import datetime
from typing import Any

from trade2026.stores.timeseries.port import Answer, QueryRefused, QueryTooLarge
from trade2026.stores.timeseries.questdb_http import AnswerTooLarge, QuestDbHttp, QuestDbSettings, Refused
from trade2026.stores.timeseries.questdb_sql.tokens import Group, Node, SqlError, Word, is_word, name_of, read
from trade2026.stores.timeseries.schema import Kind, Row

QUERY_CHARACTERS_MAX = 16 * 1024
"""A query is part of a URL, whose length QuestDB limits."""
ANSWER_BYTES_MAX = 64 * 1024 * 1024
_BEGINS = re.compile(r"\s*(select|with|show)\b", re.IGNORECASE)
_A_TABLE = re.compile(r'\s*(?:\w+|"[^"]+")(?:\s+(?:where|latest|sample|order|limit)\b.*)?', re.IGNORECASE | re.DOTALL)
_CHANGES = re.compile(r"\b(insert|update|delete|merge|drop|alter|create|truncate|rename|copy)\b", re.IGNORECASE)
_NOT_FOR_STRANGERS = frozenset(
    {
        "cancel_query",
        "dump_memory_usage",
        "dump_thread_stacks",
        "export_files",
        "files",
        "flush_query_cache",
        "glob",
        "hydrate_table_metadata",
        "import_files",
        "parquet_scan",
        "pg_advisory_unlock_all",
        "read_parquet",
        "reload_config",
        "simulate_crash",
        "simulate_warnings",
        "touch",
        "wait_wal_table",
    }
)
"""Functions that change something in the server, or reach its files."""
_SHOWN = ("tables", "columns", "partitions")


class QuestDbQueries:
    """Answers queries, each on a connection of its own; may be called from several threads."""

    def __init__(self, settings: QuestDbSettings) -> None:
        self._settings = settings
        self._running: set[QuestDbHttp] = set()
        self._lock = threading.Lock()

    def ask(self, sql: str, *, rows_max: int, seconds_max: float, skip: int = 0) -> Answer:
        """See `SqlQueries.ask`."""
        answer = self._answer(sql, seconds_max, limit=f"{skip + 1},{skip + rows_max + 1}")
        columns = answer["columns"]
        types = [column["type"] for column in columns]
        rows = plain(answer["dataset"], types)
        return Answer(
            [column["name"] for column in columns], types, rows[:rows_max], answer["timestamp"], len(rows) > rows_max
        )

    def count(self, sql: str, *, seconds_max: float) -> int:
        """See `SqlQueries.count`."""
        return int(self._answer(sql, seconds_max, limit="1,1", count="true")["count"])

    def close(self) -> None:
        """End what runs."""
        with self._lock:
            for http in self._running:
                http.abort()

    def _answer(self, sql: str, seconds_max: float, **parameters: str) -> Any:
        require_query(sql)
        with self._connection() as http:
            try:
                answer = http.execute(sql, seconds_max=seconds_max, bytes_max=ANSWER_BYTES_MAX, **parameters)
            except Refused as error:
                raise QueryRefused(str(error), int(error.answer.get("position", 0))) from error
            except TimeoutError as error:
                raise QueryTooLarge(
                    f"the query was stopped: it may take {seconds_max:g} s; ask for a shorter time"
                ) from error
            except AnswerTooLarge as error:
                raise QueryTooLarge(
                    f"an answer has at most {ANSWER_BYTES_MAX >> 20} MiB; ask for less at once"
                ) from error
        if "dataset" not in answer:
            raise QueryRefused("one SELECT is answered here; what is stored is changed by its owners only")
        return answer

    @contextlib.contextmanager
    def _connection(self) -> Generator[QuestDbHttp, None, None]:
        http = QuestDbHttp(self._settings)
        with self._lock:
            self._running.add(http)
        try:
            yield http
        finally:
            with self._lock:
                self._running.discard(http)
            http.close()


def require_query(sql: str) -> None:
    """Raise `QueryRefused` unless a text is one query that changes nothing, and reaches nothing but tables.

    QuestDB has no connection that may only read, and takes one statement a request. A statement that begins with
    SELECT is a query whatever follows; one that begins with WITH may insert, so there no word may stand that changes.
    """
    if len(sql) > QUERY_CHARACTERS_MAX:
        raise QueryRefused(f"a query has at most {QUERY_CHARACTERS_MAX} characters")
    if not sql.strip():
        raise QueryRefused("empty query")
    begins = _BEGINS.match(sql)
    is_query = begins is not None and (begins[1].lower() == "select" or not _CHANGES.search(sql))
    if not is_query and (not _A_TABLE.fullmatch(sql) or _CHANGES.search(sql)):
        raise QueryRefused("one SELECT is answered here; what is stored is changed by its owners only")
    try:
        nodes = read(sql)
    except SqlError as error:
        raise QueryRefused(str(error), error.position) from error
    _require_harmless(nodes)


def _require_harmless(nodes: Sequence[Node]) -> None:
    for place, node in enumerate(nodes):
        following = nodes[place + 1] if place + 1 < len(nodes) else None
        if isinstance(node, Group):
            _require_harmless(node.nodes)
        elif isinstance(following, Group) and name_of(node).lower() in _NOT_FOR_STRANGERS:
            raise QueryRefused(f"{node.text} is not answered here: it reaches more than tables", node.position)
        elif is_word(node, "show") and isinstance(following, Word) and not is_word(following, *_SHOWN):
            raise QueryRefused(f"SHOW knows {', '.join(_SHOWN).upper()} here", node.position)
        elif node.text == ";":
            raise QueryRefused("one SELECT is answered here, without anything after it", node.position)


def plain(rows: list[list[Any]], types: Sequence[str]) -> list[Row]:
    """Rows of QuestDB's JSON with times as `datetime` in UTC without a zone."""
    times = [place for place, kind in enumerate(types) if kind == Kind.TIMESTAMP]
    for row in rows:
        for place in times:
            if row[place] is not None:
                row[place] = datetime.fromisoformat(row[place][:-1])
    return list(map(tuple, rows))
