"""Queries of strangers on the store: they read, end in time, and take no more than they may."""

import contextlib
import difflib
import re
import threading
from collections.abc import Generator, Sequence
from decimal import Decimal
from typing import Any

import duckdb

from trade2026.stores.timeseries.port import Answer, QueryRefused, QueryTooLarge
from trade2026.stores.timeseries.questdb_sql.translate import SqlError, Translated, translate
from trade2026.stores.timeseries.schema import TABLES, Kind, Row

QUERY_CHARACTERS_MAX = 64 * 1024
ANSWER_CHARACTERS_MAX = 32 * 1024 * 1024
"""Of text in the rows of one answer."""
_ROWS_PER_FETCH = 2_000
_TEXTS = {
    column.name: column.kind.value
    for table in TABLES.values()
    for column in table.columns
    if column.kind in (Kind.SYMBOL, Kind.VARCHAR)
}
"""DuckDB has one type for texts; a column of a table keeps its name in most answers."""
_TYPES = {
    "BOOLEAN": "BOOLEAN",
    "TINYINT": "BYTE",
    "SMALLINT": "SHORT",
    "UTINYINT": "SHORT",
    "INTEGER": "INT",
    "USMALLINT": "INT",
    "BIGINT": "LONG",
    "UINTEGER": "LONG",
    "UBIGINT": "LONG",
    "HUGEINT": "LONG",
    "UHUGEINT": "LONG",
    "FLOAT": "FLOAT",
    "DOUBLE": "DOUBLE",
    "VARCHAR": "STRING",
    "TIMESTAMP": "TIMESTAMP",
    "TIMESTAMP WITH TIME ZONE": "TIMESTAMP",
    "TIMESTAMP_S": "TIMESTAMP",
    "TIMESTAMP_MS": "TIMESTAMP",
    "TIMESTAMP_NS": "TIMESTAMP",
    "DATE": "DATE",
    "UUID": "UUID",
    "BLOB": "BINARY",
}


class DuckDbQueries:
    """Answers queries, each on a connection of its own in a read-only transaction; may be called from several threads."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._running: set[duckdb.DuckDBPyConnection] = set()
        self._lock = threading.Lock()

    def interrupt_all(self) -> int:
        """End what runs; return how many queries that were."""
        with self._lock:
            for cursor in self._running:
                cursor.interrupt()
            return len(self._running)

    def ask(self, sql: str, *, rows_max: int, seconds_max: float, skip: int = 0) -> Answer:
        """See `SqlQueries.ask`; other errors of DuckDB than those of the query are raised as they are."""
        translated = _translated(sql)
        with self._guarded(sql, seconds_max) as cursor:
            names, kinds, rows = self._run(cursor, translated.sql, rows_max + 1, skip)
        types = [_type_of(name, kind) for name, kind in zip(names, kinds, strict=True)]
        lower = [name.lower() for name in names]
        timestamp = lower.index(translated.timestamp.lower()) if translated.timestamp.lower() in lower else -1
        if timestamp >= 0 and types[timestamp] != Kind.TIMESTAMP:
            timestamp = -1
        plain = _plain_rows(rows[:rows_max], kinds)
        return Answer(names, types, plain, timestamp, len(rows) > rows_max)

    def count(self, sql: str, *, seconds_max: float) -> int:
        """See `SqlQueries.count`."""
        counted = f"SELECT count(*) FROM ({_translated(sql).sql}\n)"
        with self._guarded(sql, seconds_max) as cursor:
            return int(self._run(cursor, counted, 1, 0)[2][0][0])

    @contextlib.contextmanager
    def _guarded(self, sql: str, seconds_max: float) -> Generator[duckdb.DuckDBPyConnection, None, None]:
        """A connection for one query, which ends in time; its errors are those of the query."""
        with contextlib.closing(self._connection.cursor()) as cursor:
            with self._lock:
                self._running.add(cursor)
            timer = threading.Timer(seconds_max, cursor.interrupt)
            timer.daemon = True
            timer.start()
            try:
                yield cursor
            except duckdb.InterruptException as error:
                raise QueryTooLarge(
                    f"the query was stopped: it may take {seconds_max:g} s, and ends when the store needs its memory; "
                    "ask for a shorter time"
                ) from error
            except duckdb.OutOfMemoryException as error:
                raise QueryTooLarge("the query needs more memory than there is; ask for less at once") from error
            except _QUERY_ERRORS as error:
                raise _refused(sql, error) from error
            finally:
                timer.cancel()
                with self._lock:
                    self._running.discard(cursor)

    def _run(
        self, cursor: duckdb.DuckDBPyConnection, sql: str, rows_max: int, skip: int
    ) -> tuple[list[str], list[str], list[Row]]:
        statements = cursor.extract_statements(sql)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise QueryRefused("one SELECT is answered here; what is stored is changed by its owners only")
        cursor.execute("BEGIN TRANSACTION READ ONLY")
        cursor.execute(statements[0])
        described = cursor.description or []
        names, kinds = _distinct([str(column[0]) for column in described]), [str(column[1]) for column in described]
        while skip > 0:
            skipped = cursor.fetchmany(min(skip, _ROWS_PER_FETCH))
            if not skipped:
                break
            skip -= len(skipped)
        rows: list[Row] = []
        characters = 0
        while len(rows) < rows_max:
            part = cursor.fetchmany(min(rows_max - len(rows), _ROWS_PER_FETCH))
            if not part:
                break
            characters += sum(len(value) for row in part for value in row if isinstance(value, str | bytes | list))
            if characters > ANSWER_CHARACTERS_MAX:
                raise QueryTooLarge(f"an answer has at most {ANSWER_CHARACTERS_MAX >> 20} MiB; ask for less at once")
            rows += part
        return names, kinds, rows


def _translated(sql: str) -> Translated:
    if len(sql) > QUERY_CHARACTERS_MAX:
        raise QueryRefused(f"a query has at most {QUERY_CHARACTERS_MAX} characters")
    try:
        return translate(sql)
    except SqlError as error:
        raise QueryRefused(str(error), error.position) from error


_QUERY_ERRORS = (
    duckdb.ProgrammingError,
    duckdb.DataError,
    duckdb.NotSupportedError,
    duckdb.PermissionException,
    duckdb.InvalidInputException,
    duckdb.TransactionException,
    duckdb.IntegrityError,
)
_KEYWORDS = ("SELECT", "FROM", "WHERE", "GROUP", "ORDER", "LIMIT", "SAMPLE", "LATEST", "HAVING", "JOIN", "UNION")
_CARET = re.compile(r"LINE (\d+): (.*)\n( *)\^")
_COLUMN = re.compile(r'[Cc]olumn "([^"]+)" not found|does not have a column named "([^"]+)"')
_TABLE = re.compile(r"Table with name (\S+) does not exist")


def _refused(sql: str, error: duckdb.Error) -> QueryRefused:
    """DuckDB's message, in QuestDB's words where it has the same, and where in the text it is."""
    text = str(error)
    if found := _TABLE.search(text):
        return QueryRefused(f"table does not exist [table={found[1]}]", _place_of(found[1], sql))
    if found := _COLUMN.search(text):
        name = found[1] or found[2]
        return QueryRefused(f"Invalid column: {name}", _place_of(name, sql))
    message = text.partition("\n")[0]
    caret = _CARET.search(text)
    if caret is None:
        return QueryRefused(message)
    is_syntax = "syntax error" in message
    if is_syntax and (slip := _slip(sql)):
        return QueryRefused(f"syntax error at {slip[0]!r}: did you mean {slip[1]}?", slip[2])
    shown, column = caret[2], len(caret[3]) - len(f"LINE {caret[1]}: ")
    word = re.match(r"\W|\w+", shown[column:])
    if is_syntax and (word is None or word[0] not in sql):  # what it stumbled over is ours, behind the query's end
        return QueryRefused("syntax error: the query is not complete", len(sql))
    return QueryRefused(message, _place_of(word[0], sql) if word else 0)


def _slip(sql: str) -> tuple[str, str, int] | None:
    """The first word that is nearly one of SQL's, the one that was meant, and where it is."""
    names = {*TABLES, *(column.name for table in TABLES.values() for column in table.columns)}
    for word in re.finditer(r"[A-Za-z_]{3,}", sql):
        if word[0].lower() in names:
            continue
        meant = difflib.get_close_matches(word[0].upper(), _KEYWORDS, n=1, cutoff=0.75)
        if meant and meant[0] != word[0].upper():
            return word[0], meant[0], word.start()
    return None


def _place_of(word: str, sql: str) -> int:
    """Where a word is in the query as it was asked; 0 if it is not there."""
    edges = (r"\b", r"\b") if re.fullmatch(r"\w+", word) else ("", "")
    found = re.search(edges[0] + re.escape(word) + edges[1], sql)
    return found.start() if found else 0


def _distinct(names: list[str]) -> list[str]:
    """The second `price` is called `price_2`."""
    seen: dict[str, int] = {}
    for place, name in enumerate(names):
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            names[place] = f"{name}_{seen[name]}"
    return names


def _type_of(name: str, kind: str) -> str:
    if kind == "VARCHAR":
        return _TEXTS.get(name.lower(), "STRING")
    if kind.startswith("DECIMAL"):
        return "DOUBLE"
    return _TYPES.get(kind, "STRING")


def _plain_rows(rows: list[Row], kinds: Sequence[str]) -> list[Row]:
    """Decimals as floats, and values of types that QuestDB has not as text."""
    odd = [place for place, kind in enumerate(kinds) if kind not in _TYPES]
    if not odd:
        return rows
    return [tuple(_plain(value) if place in odd else value for place, value in enumerate(row)) for row in rows]


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    return value if value is None or isinstance(value, str) else str(value)
