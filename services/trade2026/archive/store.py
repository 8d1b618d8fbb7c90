"""`history.db`: orders, where their events are, and how far each topic has come, in one transaction per batch.

Because the position is written with what was learnt up to it, every event counts exactly once, whatever is
killed when. After a power failure the newest transactions may be gone, their positions with them. Whoever
opens the history to write fences every earlier writer, as the owner of a partition does.
"""

import contextlib
import os
import sqlite3
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from trade2026.domain.orders import CLOSED, Order, number_of

FORMAT = 1
_BUSY_SECONDS = 1.0
_CHECKPOINT_PAGES = 8_000
"""32 MB. The write that reaches it waits until they are moved; `checkpoint` comes before it, as a rule."""

_SCHEMA = """
CREATE TABLE orders (
    number INTEGER PRIMARY KEY,
    order_id TEXT NOT NULL,
    account TEXT NOT NULL,
    client_order_id TEXT NOT NULL,
    status TEXT NOT NULL,
    is_open INTEGER NOT NULL,
    instrument TEXT NOT NULL,
    last_seq INTEGER NOT NULL,
    ts_created INTEGER NOT NULL,
    ts_updated INTEGER NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX orders_by_client_order_id ON orders (account, client_order_id);
CREATE INDEX orders_by_account ON orders (account);
CREATE INDEX open_orders ON orders (is_open) WHERE is_open = 1;
CREATE INDEX closed_orders ON orders (ts_updated) WHERE is_open = 0;
CREATE TABLE event_index (
    order_id TEXT NOT NULL,
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (order_id, topic, partition, seq)
) WITHOUT ROWID;
CREATE TABLE positions (topic TEXT PRIMARY KEY, next_seq INTEGER NOT NULL) WITHOUT ROWID;
"""

_UPSERT = """
INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (number) DO UPDATE SET
    status = excluded.status, is_open = excluded.is_open, last_seq = excluded.last_seq,
    ts_updated = excluded.ts_updated, body = excluded.body
"""

_FORGET_PARENT = """
DELETE FROM event_index WHERE topic = 'exeq.events' AND order_id =
(SELECT json_extract(body, '$.spec.parent_order_id') FROM orders WHERE order_id = ?)
"""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Order).decode


def is_damaged(error: sqlite3.Error) -> bool:
    """Whether an error says that the file is broken, or another one: not that it is busy or the disk is full."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)
    primary = code & 0xFF
    return (
        primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
        or code == sqlite3.SQLITE_IOERR_SHORT_READ
    )


def fault_of(path: Path) -> str:
    """Look at every page of a history, beside its writer; return what is damaged, or nothing. Slow: for a thread."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_SECONDS)) as db:
            (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        return str(error) if is_damaged(error) else ""
    return "" if found == "ok" else str(found)


def set_aside(path: Path) -> Path:
    """Move a damaged history away; return where it is. The one before is dropped."""
    aside = path.with_name(f"{path.name}.damaged")
    for suffix in ("-wal", "-shm", ""):
        file = path.with_name(path.name + suffix)
        if file.exists():
            file.replace(aside.with_name(aside.name + suffix))
    return aside


class HistoryFormat(Exception):
    """A history that this code cannot use; the message says what to do."""


class HistoryFenced(Exception):
    """Another archive has opened the history since: nothing was written, and never will be."""


class IndexRow(NamedTuple):
    """Where one event of an order is."""

    order_id: str
    topic: str
    partition: int
    seq: int


class HistoryStore:
    """The one writer of `history.db`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_SECONDS)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        self._make_schema()
        self._epoch = self._claim()

    def next_seq(self, topic: str) -> int:
        """Where the history goes on in a topic."""
        row = self._db.execute("SELECT next_seq FROM positions WHERE topic = ?", (topic,)).fetchone()
        return row[0] if row else 0

    def write(
        self,
        topic: str,
        next_seq: int,
        index: Sequence[IndexRow],
        orders: Iterable[Order] = (),
    ) -> None:
        """Write what a batch of one topic brought, whole or not at all.

        Raises:
            sqlite3.Error: nothing was written (a full disk, usually); try again.
            HistoryFenced: nothing was written; another archive writes now.
        """
        db = self._db
        with self._transaction():
            assert next_seq >= self.next_seq(topic), f"{topic} went back to {next_seq}"
            db.executemany("INSERT OR IGNORE INTO event_index VALUES (?, ?, ?, ?)", index)
            db.executemany(_UPSERT, map(_row, orders))
            db.execute(
                "INSERT INTO positions VALUES (?, ?) ON CONFLICT (topic) DO UPDATE SET next_seq = excluded.next_seq",
                (topic, next_seq),
            )

    def order(self, order_id: str) -> Order | None:
        """A written order."""
        row = self._db.execute(
            "SELECT body FROM orders WHERE number = ? AND order_id = ?", (number_of(order_id), order_id)
        ).fetchone()
        return _decode(row[0]) if row else None

    def rewind(self, topic: str, end: int) -> None:
        """Forget positions of a topic that lost its newest records (one that is not fsynced)."""
        with self._transaction():
            self._db.execute("DELETE FROM event_index WHERE topic = ? AND seq >= ?", (topic, end))
            self._db.execute("UPDATE positions SET next_seq = ? WHERE topic = ?", (end, topic))

    def prune(self, before_ts: int, orders_max: int) -> int:
        """Drop orders that closed before a time (ns), oldest first, with their index and that of their parents.

        Returns:
            How many orders were dropped.
        """
        db = self._db
        with self._transaction():
            rows = db.execute(
                "SELECT order_id FROM orders WHERE is_open = 0 AND ts_updated < ? ORDER BY ts_updated LIMIT ?",
                (before_ts, orders_max),
            ).fetchall()
            db.executemany(_FORGET_PARENT, rows)
            db.executemany("DELETE FROM event_index WHERE order_id = ?", rows)
            db.executemany("DELETE FROM orders WHERE order_id = ?", rows)
        return len(rows)

    def make_durable(self) -> None:
        """Fsync all that is written; on any thread, and writing may go on.

        What has left the write-ahead log was fsynced then, so the log's file is all that is needed.

        Raises:
            OSError: it is not certain.
        """
        try:
            descriptor = os.open(f"{self.path}-wal", os.O_RDONLY)
        except FileNotFoundError:
            return
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def checkpoint(self) -> None:
        """Move what is written out of the write-ahead log; on any thread, and writing may go on.

        Raises:
            sqlite3.Error: not done; the next time does it.
        """
        uri = f"{self.path.absolute().as_uri()}?mode=rw"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS)) as db:
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def orders(self) -> int:
        """How many orders it holds, nearly: those that are dropped are the oldest, but for a few."""
        row = self._db.execute("SELECT max(number), min(number) FROM orders").fetchone()
        return row[0] - row[1] + 1 if row[0] is not None else 0

    def close(self) -> None:
        """Let the file go. Idempotent."""
        self._db.close()

    def _make_schema(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._db.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA user_version = {FORMAT};COMMIT;")
        elif version != FORMAT:
            raise HistoryFormat(
                f"{self.path} has format {version}, this version writes {FORMAT}; "
                "move it away and it is built again from the log"
            )

    def _claim(self) -> int:
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute("CREATE TABLE IF NOT EXISTS writer (id INTEGER PRIMARY KEY CHECK (id = 0), epoch INTEGER)")
        (epoch,) = self._db.execute(
            "INSERT INTO writer VALUES (0, 1) ON CONFLICT (id) DO UPDATE SET epoch = epoch + 1 RETURNING epoch"
        ).fetchone()
        self._db.execute("COMMIT")
        return epoch

    @contextmanager
    def _transaction(self) -> Generator[None, None, None]:
        """All or nothing, and only for the newest writer."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            (epoch,) = self._db.execute("SELECT epoch FROM writer").fetchone()
            if epoch != self._epoch:
                raise HistoryFenced(f"{self.path}: another archive has opened it since")
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise


def _row(order: Order) -> tuple[object, ...]:
    spec = order.spec
    return (
        number_of(order.order_id),
        order.order_id,
        spec.account,
        spec.client_order_id,
        str(order.status),
        int(order.status not in CLOSED),
        spec.instrument,
        order.seqs[-1] if order.seqs else -1,
        order.ts_created,
        order.ts_updated,
        _encode(order).decode(),
    )
