"""`audit.db`: the chain, its checkpoints, and how far each topic is in it, in one transaction a batch.

Because the positions are written with the records, every event counts exactly once, whatever is killed when. Each
commit is fsynced: what was signed must not be lost and made again in another order. Whoever opens it to write fences
every earlier writer.
"""

import contextlib
import sqlite3
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from trade2026.kit.bus.files import is_damage, make_folders
from trade2026.logger.machine import AuditRecord, Checkpoint, Entry

FORMAT = 1
_BUSY_SECONDS = 5.0
_ROWS_PER_FETCH = 2_000
_COLUMNS = "n, topic, part, seq, digest, ts, type, principal, account, subject, trace_id, cause, what, hash"
_SCHEMA = """
CREATE TABLE records (
    n INTEGER PRIMARY KEY,
    topic TEXT NOT NULL,
    part INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    digest TEXT NOT NULL,
    ts INTEGER NOT NULL,
    type TEXT NOT NULL,
    principal TEXT NOT NULL,
    account TEXT NOT NULL,
    subject TEXT NOT NULL,
    trace_id TEXT NOT NULL,
    cause TEXT NOT NULL,
    what TEXT NOT NULL,
    hash TEXT NOT NULL,
    of_account TEXT NOT NULL
);
CREATE INDEX by_subject ON records (subject) WHERE subject != '';
CREATE INDEX by_trace ON records (trace_id) WHERE trace_id != '';
CREATE INDEX by_account ON records (of_account) WHERE of_account != '';
CREATE INDEX by_principal ON records (principal);
CREATE TABLE checkpoints (n INTEGER NOT NULL, kind TEXT NOT NULL, ts INTEGER NOT NULL, body TEXT NOT NULL);
CREATE INDEX checkpoints_by_n ON checkpoints (n);
CREATE TABLE positions (place TEXT PRIMARY KEY, next_seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE keys (key TEXT PRIMARY KEY, public TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE about (stack TEXT NOT NULL, epoch INTEGER NOT NULL);
"""
_INSERT = f"INSERT INTO records ({_COLUMNS}, of_account) VALUES ({', '.join('?' * 15)})"


class AuditFenced(Exception):
    """Another logger has opened the store since: nothing was written, and never will be."""


class AuditDamaged(Exception):
    """The file is broken, or is none of ours; the message says so."""


class Found(NamedTuple):
    """How the chain ended when it was opened."""

    n: int
    head: str
    positions: dict[str, int]
    newest: Checkpoint | None


class AuditStore:
    """The one writer of `audit.db`; used by one thread at a time.

    Raises:
        AuditDamaged: it can't be used.
    """

    def __init__(self, path: Path, stack: str) -> None:
        make_folders(path.parent)
        self.path = path
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_SECONDS, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._epoch = self._claim(stack)
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                raise AuditDamaged(f"{path}: {error}") from error
            raise
        path.chmod(0o600)

    def found(self) -> Found:
        """How the chain ends."""
        row = self._db.execute("SELECT n, hash FROM records ORDER BY n DESC LIMIT 1").fetchone()
        newest = _newest_checkpoint(self._db)
        if row is None:  # nothing yet, or retention has deleted all there was
            n, head = (newest.n, newest.head) if newest is not None else (0, "")
        else:
            n, head = row[0] + 1, row[1]
        positions = dict(self._db.execute("SELECT place, next_seq FROM positions").fetchall())
        return Found(n, head, positions, newest)

    def write(
        self, records: Sequence[AuditRecord], positions: dict[str, int], checkpoint: Checkpoint | None = None
    ) -> None:
        """Write a batch and how far it goes, whole or not at all.

        Raises:
            sqlite3.Error: nothing was written; try again.
            AuditFenced: another logger writes now.
        """
        with self._transaction() as db:
            for record in records:
                entry = record.entry
                values = msgspec.structs.astuple(entry)
                db.execute(_INSERT, (record.n, *values, record.hash, entry.account or self._account_of(entry.subject)))
            db.executemany("INSERT OR REPLACE INTO positions VALUES (?, ?)", list(positions.items()))
            if checkpoint is not None:
                _add_checkpoint(db, checkpoint)

    def know_key(self, key: str, public: str) -> None:
        """Remember a public key, so that later readers can check what it has signed."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO keys VALUES (?, ?)", (key, public))

    def newest_before(self, ts: int) -> Checkpoint | None:
        """The last checkpoint that was made before a time (ns): everything up to it is as old.

        It is the last cut where no other goes beyond it.
        """
        row = self._db.execute(
            "SELECT body FROM checkpoints WHERE ts < ? OR kind = 'cut' ORDER BY n DESC, kind = 'cut' DESC LIMIT 1",
            (ts,),
        ).fetchone()
        return msgspec.json.decode(row[0], type=Checkpoint) if row else None

    def add(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint; of the kind `cut` it makes the chain begin there, and `drop` deletes what is before."""
        with self._transaction() as db:
            _add_checkpoint(db, checkpoint)

    def drop(self, before_n: int, rows_max: int) -> int:
        """Delete the oldest records before `n`, so many at most, and checkpoints before it; how many records went."""
        with self._transaction() as db:
            gone = db.execute(
                "DELETE FROM records WHERE n IN (SELECT n FROM records WHERE n < ? ORDER BY n LIMIT ?)",
                (before_n, rows_max),
            ).rowcount
            db.execute("DELETE FROM checkpoints WHERE n < ?", (before_n,))
        return gone

    def close(self) -> None:
        """Let the file go. Idempotent."""
        self._db.close()

    def _account_of(self, subject: str) -> str:
        """Whose an order is, or a strategy by now, for what happens to it and names no account."""
        if not subject:
            return ""
        row = self._db.execute(
            "SELECT account FROM records WHERE subject = ? AND subject != '' AND account != '' ORDER BY n DESC LIMIT 1",
            (subject,),
        ).fetchone()
        return row[0] if row else ""

    def _claim(self, stack: str) -> int:
        db = self._db
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            db.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA user_version = {FORMAT};COMMIT;")
        elif version != FORMAT:
            raise AuditDamaged(f"{self.path} has format {version}, this version writes {FORMAT}")
        db.execute("INSERT INTO about SELECT ?, 0 WHERE NOT EXISTS (SELECT 1 FROM about)", (stack,))
        (epoch,) = db.execute("UPDATE about SET epoch = epoch + 1 RETURNING epoch").fetchone()
        return epoch

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection, None, None]:
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            if db.execute("SELECT epoch FROM about").fetchone() != (self._epoch,):
                raise AuditFenced(f"{self.path}: another logger has opened it since")
            yield db
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise


class AuditReader:
    """Reads `audit.db` beside its writer, or where none runs.

    Raises:
        FileNotFoundError: there is none.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise FileNotFoundError(path)
        self._db = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro",
            uri=True,
            isolation_level=None,
            timeout=_BUSY_SECONDS,
            check_same_thread=False,
        )

    @property
    def stack(self) -> str:
        """Whose it is."""
        return self._db.execute("SELECT stack FROM about").fetchone()[0]

    @property
    def end(self) -> int:
        """One past the newest record."""
        return self._db.execute("SELECT coalesce(max(n) + 1, 0) FROM records").fetchone()[0]

    def records(self, topic: str = "", partition: int = 0) -> Iterator[AuditRecord]:
        """Every record in order, or those of one partition."""
        where, values = ("WHERE topic = ? AND part = ?", (topic, partition)) if topic else ("", ())
        cursor = self._db.execute(f"SELECT {_COLUMNS} FROM records {where} ORDER BY n", values)
        while rows := cursor.fetchmany(_ROWS_PER_FETCH):
            yield from map(_record, rows)

    def select(self, where: str, values: Sequence[object], limit: int) -> list[AuditRecord]:
        """The newest records for a condition; see `search`."""
        query = f"SELECT {_COLUMNS} FROM records WHERE {where} ORDER BY n DESC LIMIT ?"
        return list(map(_record, self._db.execute(query, (*values, limit)).fetchall()))

    def checkpoints(self, before_n: int | None = None, limit: int = -1) -> list[Checkpoint]:
        """Checkpoints, newest first."""
        bound = before_n if before_n is not None else 1 << 62
        query = "SELECT body FROM checkpoints WHERE n < ? ORDER BY n DESC, rowid DESC LIMIT ?"
        return [msgspec.json.decode(row[0], type=Checkpoint) for row in self._db.execute(query, (bound, limit))]

    def places(self) -> list[tuple[str, int]]:
        """The partitions that records are of."""
        return self._db.execute("SELECT DISTINCT topic, part FROM records").fetchall()

    def positions(self) -> dict[str, int]:
        """How far each topic is in the chain."""
        return dict(self._db.execute("SELECT place, next_seq FROM positions").fetchall())

    def keys(self) -> dict[str, str]:
        """Public keys by fingerprint."""
        return dict(self._db.execute("SELECT key, public FROM keys").fetchall())

    @contextmanager
    def at_one_moment(self) -> Generator[None, None, None]:
        """What is read within is of one moment."""
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("ROLLBACK")

    def close(self) -> None:
        """Let the file go."""
        self._db.close()


def set_aside(path: Path) -> Path:
    """Move a damaged store away; returns where it is now. One that was put aside before stays, too."""
    aside = next(
        place for count in range(1, 1_000) if not (place := path.with_name(f"{path.name}.damaged-{count}")).exists()
    )
    for suffix in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).replace(aside.with_name(aside.name + suffix))
    return aside


def _record(row: tuple[Any, ...]) -> AuditRecord:
    return AuditRecord(row[0], Entry(*row[1:13]), row[13])


def _newest_checkpoint(db: sqlite3.Connection) -> Checkpoint | None:
    row = db.execute("SELECT body FROM checkpoints ORDER BY n DESC, rowid DESC LIMIT 1").fetchone()
    return msgspec.json.decode(row[0], type=Checkpoint) if row else None


def _add_checkpoint(db: sqlite3.Connection, checkpoint: Checkpoint) -> None:
    body = msgspec.json.encode(checkpoint).decode()
    db.execute("INSERT INTO checkpoints VALUES (?, ?, ?, ?)", (checkpoint.n, checkpoint.kind, checkpoint.ts, body))
