"""The time-series store of a cluster: QuestDB, written to by its line protocol over HTTP, asked by its SQL.

Rows go first and the positions that they reach after them, so that nothing is passed over; a row that is written twice
is one, by the keys of its table (`DEDUP UPSERT KEYS`). A write returns when QuestDB has applied what it acknowledged.

What this trades away: a batch that is killed in the middle is there in part until it is written again, and old rows go
by whole days.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Generator, Iterable, Mapping
from datetime import UTC, datetime

from trade2026.stores.timeseries import questdb_progress as progress
from trade2026.stores.timeseries.ilp import lines_of
from trade2026.stores.timeseries.port import (
    Answer,
    Batch,
    Capabilities,
    Partition,
    RowsRefused,
    StoreDamaged,
    StoreUnavailable,
    TableStats,
)
from trade2026.stores.timeseries.questdb_http import QuestDbHttp, QuestDbSettings, Refused
from trade2026.stores.timeseries.questdb_progress import QuestDbProgress
from trade2026.stores.timeseries.questdb_queries import QuestDbQueries, plain
from trade2026.stores.timeseries.schema import TABLES, TIMESTAMP, Table

log = logging.getLogger(__name__)

APPLIED_SECONDS_MAX = 20.0
"""For QuestDB to apply what it acknowledged; it is waited for again after that."""
_CHECK_SECONDS_MAX = 5.0
_OURS_SECONDS = 1.0
"""For so long it is believed that the tables are ours, once that was seen: asking takes QuestDB as long as 1,000 rows."""
_OURS = frozenset((*TABLES, *progress.DDL))
_POLL_SECONDS_MIN, _POLL_SECONDS_MAX = 0.002, 0.02


class QuestDbStore:
    """See `QueryableStore`.

    Args:
        stack: Whose store it is; another's is left alone.
        tables: How the rows are given that are written.

    Raises:
        StoreUnavailable: QuestDB can't be reached, or its tables are not ours.
    """

    can = Capabilities(atomic=False, drops_rows=False)

    def __init__(self, settings: QuestDbSettings, stack: str, tables: Mapping[str, Table] = TABLES) -> None:
        self.settings = settings
        self._tables = tables
        self._http = QuestDbHttp(settings)
        self._progress = QuestDbProgress(self._http, stack)
        self._queries = QuestDbQueries(settings)
        self._lock = threading.Lock()
        """One request at a time on the writer's connection."""
        self._seen_ours = 0.0
        """When the tables were last seen to be ours, by the monotonic clock, which goes on while a process is stopped."""
        self._accepted: Batch | None = None
        """Acknowledged by QuestDB, and not known to be applied."""
        try:
            self._folders = self._made()
            self._claim()
        except BaseException:
            self._http.close()
            raise

    # ── opening ─────────────────────────────────────────────────────────────────────────────────

    def _made(self) -> dict[str, str]:
        """Make what is missing; returns the folder of each table, which tells a table from one of the same name."""
        there = self._http.rows("SELECT table_name FROM tables()")
        names = {name for (name,) in there}
        if progress.CLAIMS not in names and (others := sorted(names & TABLES.keys())):
            raise StoreUnavailable(
                f"QuestDB at {self.settings.url} has tables that are not ours ({', '.join(others)}): rename them, "
                "or name another QuestDB in spec.stores.timeseries"
            )
        self._wait_applied(names)
        for statement in progress.DDL.values():  # the claims first: they say that the rest is ours
            self._http.rows(statement)
        stack, folders = self._progress.last_claim()
        if stack not in ("", self._progress.stack):
            raise StoreUnavailable(f"QuestDB at {self.settings.url} belongs to the stack {stack}: name another one")
        self._check_folders(folders)
        for table in TABLES.values():
            self._http.rows(ddl_of(table))
            self._fit(table)
        self._say_what_is_at_risk()
        return self._folders_now()

    def _fit(self, table: Table) -> None:
        """Add columns that came later; rows with the same keys are one from here on, if they were not."""
        found = self._http.rows(f"SELECT \"column\", type, upsertKey FROM table_columns('{table.name}')")
        kinds = {name: kind for name, kind, _ in found}
        for column in table.columns:
            if column.name not in kinds:
                self._http.rows(f'ALTER TABLE {table.name} ADD COLUMN "{column.name}" {column.kind}')
            elif kinds[column.name] != column.kind:
                raise StoreUnavailable(
                    f"in QuestDB {table.name}.{column.name} is a {kinds[column.name]}, not a {column.kind}: "
                    f"ALTER TABLE {table.name} ALTER COLUMN {column.name} TYPE {column.kind}"
                )
        if {name for name, _, is_key in found if is_key} != set(table.keys):
            self._http.rows(f"ALTER TABLE {table.name} DEDUP ENABLE UPSERT KEYS({', '.join(table.keys)})")

    def _say_what_is_at_risk(self) -> None:
        rows = self._http.rows("SELECT value FROM (SHOW PARAMETERS) WHERE property_path = 'cairo.commit.mode'")
        if rows and rows[0][0] == "nosync":
            log.warning(
                "QuestDB at %s does not fsync (cairo.commit.mode=nosync): a power cut can lose rows that were "
                "acknowledged; set it to sync",
                self.settings.url,
            )

    def _claim(self) -> None:
        names = (progress.JOURNAL, progress.CLAIMS)
        self._wait_applied([*TABLES, *names])
        self._progress.copied()
        self._wait_applied(names)
        self._progress.claimed(self._folders)
        self._wait_applied(names)
        self._progress.drop_old()

    # ── writing ─────────────────────────────────────────────────────────────────────────────────

    def offsets(self) -> dict[Partition, int]:
        """See `TimeSeriesStore`."""
        return self._read_progress()[0]

    def state(self) -> dict[str, bytes]:
        """See `TimeSeriesStore`."""
        return self._read_progress()[1]

    def _read_progress(self) -> tuple[dict[Partition, int], dict[str, bytes]]:
        with self._lock:
            self._wait_applied([progress.JOURNAL])
            return self._progress.read()

    def write(self, batch: Batch) -> None:
        """See `TimeSeriesStore`."""
        names = [name for name, rows in batch.rows.items() if rows]
        lines = b"".join(lines_of(self._tables[name], batch.rows[name]) for name in names)
        remembers = bool(batch.offsets or batch.state)
        if not names and not remembers:
            return
        with self._lock:
            if self._accepted is not batch:
                self._accepted = None
                self._check_ours()
                if lines:
                    self._send(batch, lines)
                if remembers:
                    self._remember(batch)
                self._accepted = batch
            self._wait_applied(names)
            self._accepted = None
            if self._progress.is_long:
                self._claim()

    def _send(self, batch: Batch, lines: bytes) -> None:
        try:
            self._http.write(lines)
        except Refused as error:
            raise _refused(batch, error) from error

    def _remember(self, batch: Batch) -> None:
        try:
            self._http.write(self._progress.lines(batch))
        except Refused as error:
            raise StoreUnavailable(f"QuestDB does not take positions: {error}") from error

    def _check_ours(self) -> None:
        """A table that is gone would be made by the first line for it, with other types and without keys."""
        if time.monotonic() - self._seen_ours < _OURS_SECONDS:
            return
        self._check_folders(self._folders)
        newest = self._progress.newest_epoch()
        if newest != self._progress.epoch:
            raise StoreUnavailable(
                f"another writer has claimed QuestDB at {self.settings.url} (epoch {newest}, ours is "
                f"{self._progress.epoch}): stop one of them; this one goes on when it is started again"
            )
        self._seen_ours = time.monotonic()

    def _check_folders(self, folders: Mapping[str, str]) -> None:
        now = self._folders_now()
        for name, folder in folders.items():
            if now.get(name) != folder:
                raise StoreDamaged(f"QuestDB's table {name} was dropped or replaced")

    def _folders_now(self) -> dict[str, str]:
        rows = self._http.rows("SELECT table_name, directoryName FROM tables()")
        return {name: folder for name, folder in rows if name in _OURS}

    def _wait_applied(self, names: Iterable[str]) -> None:
        """Wait until what was acknowledged until now is in the tables."""
        goals: dict[str, int] = {}
        deadline, pause = time.monotonic() + APPLIED_SECONDS_MAX, _POLL_SECONDS_MIN
        names = _OURS.intersection(names)
        while True:
            rows = self._http.rows("SELECT name, writerTxn, sequencerTxn, suspended, errorMessage FROM wal_tables()")
            found = {name: rest for name, *rest in rows if name in names}
            for name, (_, _, suspended, reason) in found.items():
                if suspended:
                    self._http.rows(f"ALTER TABLE {name} RESUME WAL")
                    raise StoreUnavailable(f"QuestDB has suspended {name} ({reason or 'it says no reason'})")
            for name, (_, written, *_) in found.items():
                goals.setdefault(name, written)
            # A table that QuestDB is busy with may be left out of its list.
            late = [name for name in names if name not in found or found[name][0] < goals[name]]
            if not late:
                return
            if time.monotonic() > deadline:
                raise StoreUnavailable(f"QuestDB has acknowledged rows of {', '.join(late)}, and not applied them yet")
            time.sleep(pause)
            pause = min(2 * pause, _POLL_SECONDS_MAX)

    # ── reading ─────────────────────────────────────────────────────────────────────────────────

    def check(self) -> None:
        """See `TimeSeriesStore`."""
        with self._reading() as http:
            try:
                rows = http.execute("SELECT name FROM wal_tables() WHERE suspended", seconds_max=_CHECK_SECONDS_MAX)
            except (Refused, TimeoutError) as error:
                said = str(error) or f"no answer in {_CHECK_SECONDS_MAX:g} s"
                raise StoreUnavailable(f"QuestDB at {self.settings.url}: {said}") from error
        suspended = [name for (name,) in rows["dataset"] if name in self._folders]
        if suspended:
            raise StoreUnavailable(f"QuestDB has suspended {', '.join(suspended)}: see wal_tables() for why")

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
        """See `TimeSeriesStore`."""
        declared = TABLES[table]
        conditions = [f"{TIMESTAMP} >= {since_ns // 1000}::TIMESTAMP"]
        if until_ns:
            conditions.append(f"{TIMESTAMP} < {until_ns // 1000}::TIMESTAMP")
        for name, value in (equal or {}).items():
            assert declared.column(name) is not None, f"{table} has no column {name}"
            conditions.append("\"{}\" = '{}'".format(name, value.replace("'", "''")))
        names = ", ".join(f'"{name}"' for name in declared.names)
        sql = f"SELECT {names} FROM {table} WHERE {' AND '.join(conditions)} ORDER BY {TIMESTAMP}"
        sql += f"{' DESC' if newest_first else ''} LIMIT {limit + 1}"
        with self._reading() as http:
            rows = plain(http.rows(sql), [column.kind.value for column in declared.columns])
        types = [column.kind.value for column in declared.columns]
        return Answer(declared.names, types, rows[:limit], 0, len(rows) > limit)

    def ask(self, sql: str, *, rows_max: int, seconds_max: float, skip: int = 0) -> Answer:
        """See `SqlQueries`."""
        return self._queries.ask(sql, rows_max=rows_max, seconds_max=seconds_max, skip=skip)

    def count(self, sql: str, *, seconds_max: float) -> int:
        """See `SqlQueries`."""
        return self._queries.count(sql, seconds_max=seconds_max)

    def interrupt_queries(self) -> int:
        """See `SqlQueries`. Queries use memory of QuestDB, none that the writer needs."""
        return 0

    def tables(self) -> dict[str, TableStats]:
        """See `TimeSeriesStore`."""
        with self._reading() as http:
            rows = http.rows(
                "SELECT table_name, table_row_count, table_min_timestamp::LONG, table_max_timestamp::LONG FROM tables()"
            )
        ours = (row for row in rows if row[0] in TABLES and row[1])
        found = {name: TableStats(count, first * 1000, last * 1000) for name, count, first, last in ours}
        return {name: found.get(name, TableStats(0, 0, 0)) for name in TABLES}

    # ── dropping ────────────────────────────────────────────────────────────────────────────────

    def drop_before(self, table: str, before_ns: int) -> int:
        """See `TimeSeriesStore`."""
        assert table in TABLES
        moment = f"{before_ns // 1000}::TIMESTAMP"
        with self._lock:
            rows = self._http.rows(
                f"SELECT name, numRows FROM table_partitions('{table}') WHERE maxTimestamp < {moment} AND numRows > 0"
            )
            if rows:
                days = ", ".join(f"'{name}'" for name, _ in rows)
                self._http.rows(f"ALTER TABLE {table} DROP PARTITION LIST {days}")
                self._wait_applied([table])
        return sum(count for _, count in rows)

    def close(self) -> None:
        """See `TimeSeriesStore`."""
        self._queries.close()
        self._http.abort()

    @contextlib.contextmanager
    def _reading(self) -> Generator[QuestDbHttp, None, None]:
        with contextlib.closing(QuestDbHttp(self.settings)) as http:
            yield http


def ddl_of(table: Table) -> str:
    """`CREATE TABLE` in QuestDB's words."""
    columns = ", ".join(f'"{column.name}" {column.kind}' for column in table.columns)
    return (
        f"CREATE TABLE IF NOT EXISTS {table.name} ({columns}) TIMESTAMP({TIMESTAMP})"
        f" PARTITION BY DAY WAL DEDUP UPSERT KEYS({', '.join(table.keys)})"
    )


def held(settings: QuestDbSettings, stack: str) -> tuple[int, dict[Partition, int], dict[str, bytes]]:
    """Rows in tables of ours, positions and state, without a claim: whoever writes there goes on undisturbed."""
    with contextlib.closing(QuestDbHttp(settings)) as http:
        counts = dict(http.rows("SELECT table_name, table_row_count FROM tables()"))
        rows = sum(int(count or 0) for name, count in counts.items() if name in TABLES)
        if progress.CLAIMS not in counts or progress.JOURNAL not in counts:
            return rows, {}, {}
        journal = QuestDbProgress(http, stack)
        journal.epoch = journal.newest_epoch()
        return rows, *journal.read()


def set_aside(settings: QuestDbSettings) -> str:
    """Rename every table of ours that is there; returns what their names end with, empty if there is none."""
    ending = f"_aside_{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
    with contextlib.closing(QuestDbHttp(settings)) as http:
        there = {name for (name,) in http.rows("SELECT table_name FROM tables()")}
        # Positions go first, that none is left without its rows; the claims last, which say that the rest is ours.
        ours = [name for name in (progress.JOURNAL, *TABLES, progress.CLAIMS) if name in there]
        for name in ours:
            http.rows(f"RENAME TABLE {name} TO {name}{ending}")
    return ending if ours else ""


def _refused(batch: Batch, error: Refused) -> RowsRefused:
    """The row that QuestDB means: it counts from 1."""
    place = error.answer.get("line")
    rows = [row for name in batch.rows for row in batch.rows[name]]
    culprit = rows[place - 1] if isinstance(place, int) and 0 < place <= len(rows) else None
    return RowsRefused(f"QuestDB: {error}", culprit)
