"""The bus of one machine: each partition is a folder of SQLite files, shared by the processes that use it.

A partition's segments are `segment-<first position>.db`. A row of `frames` holds everything that was
committed together (one fsync), so a frame is there as a whole or not at all. The `owner` row lies in the
same file, and an append is one statement that inserts only while the epoch is still ours: a fenced owner
can't write, whenever it wakes up. Rolling seals the old segment and takes the epoch to the new one.

What this trades away: the files must be on a local disk (no network file system), and an owner that is
stopped (SIGSTOP) in the middle of a commit holds the file's lock until it goes on or is killed.
"""

import asyncio
import contextlib
import errno
import logging
import os
import secrets
import sqlite3
import threading
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar

from trade2026.kit.bus.port import (
    BusCorrupt,
    BusError,
    BusFull,
    BusUncertain,
    Fenced,
    Record,
    TopicConfig,
    Trimmed,
)
from trade2026.kit.bus.wake import FolderListing, Wakes

log = logging.getLogger(__name__)
T = TypeVar("T")

_BUSY_SECONDS_MAX = 5.0
_FRAME_BYTES_MAX = 4 * 1024 * 1024
_CHECKPOINT_PAGES = 1_000
"""4 MB. The commit that reaches it waits until they are moved into the segment."""
_READ_CONNECTIONS_MAX = 3
_CLAIM_ATTEMPTS_MAX = 100
_SEALED = -1

_SCHEMA = """
CREATE TABLE owner (id INTEGER PRIMARY KEY CHECK (id = 1), epoch INTEGER NOT NULL, name TEXT NOT NULL);
CREATE TABLE frames (seq INTEGER PRIMARY KEY, count INTEGER NOT NULL, crc INTEGER NOT NULL, body BLOB NOT NULL);
"""
_APPEND = "INSERT INTO frames (seq, count, crc, body) SELECT ?, ?, ?, ? WHERE (SELECT epoch FROM owner) = ?"
_END = "SELECT seq + count FROM frames ORDER BY seq DESC LIMIT 1"
_NEXT_FRAMES = "SELECT seq, count, crc, body FROM frames WHERE seq >= ? ORDER BY seq"
_FRAMES_AROUND = (
    "SELECT seq, count, crc, body FROM frames "
    "WHERE seq >= ifnull((SELECT max(seq) FROM frames WHERE seq <= ?), 0) ORDER BY seq"
)
_OFFSETS_SCHEMA = """
CREATE TABLE IF NOT EXISTS offsets (consumers TEXT, topic TEXT, partition INTEGER, next_seq INTEGER NOT NULL,
    PRIMARY KEY (consumers, topic, partition)) WITHOUT ROWID
"""


class SqliteBus:
    """A bus in a folder. Every process has its own object on the same folder; one event loop per object.

    Args:
        root: The folder; made when it is missing.
        topics: What there is. All processes must say the same.
    """

    def __init__(self, root: Path, topics: Iterable[TopicConfig]) -> None:
        self._partitions = {
            (topic.name, n): _Partition(root / topic.name / str(n), topic, n)
            for topic in topics
            for n in range(topic.partitions)
        }
        self._offsets = _Offsets(root / "offsets.db")
        self._writers: list[_SqliteWriter] = []

    async def claim(self, topic: str, partition: int, owner: str) -> "_SqliteWriter":
        """See `Bus.claim`. Raises `BusFull`, `BusUncertain` (e.g. the file stays locked) or `BusCorrupt`."""
        log = self._partitions[topic, partition]
        segment, epoch, next_seq = await asyncio.to_thread(log.claim, owner)
        writer = _SqliteWriter(log, segment, owner, epoch, next_seq)
        self._writers = [*(other for other in self._writers if not other.closed), writer]
        log.wakes.notify()
        return writer

    async def open_reader(self, topic: str, partition: int, from_seq: int = 0) -> "_SqliteReader":
        """See `Bus.open_reader`. Raises `BusCorrupt` beyond the end: what was read before is gone."""
        log = self._partitions[topic, partition]
        end = log.end()
        if from_seq > end:
            raise BusCorrupt(
                f"{log.label}: the log ends at {end} but {from_seq} was read before: it has lost its end; "
                f"restore {log.folder} from a backup, or rebuild what was derived from it"
            )
        if from_seq < log.start():
            raise log.trimmed(from_seq)
        log.wakes.listen()
        return _SqliteReader(log, from_seq)

    async def read(self, topic: str, partition: int, from_seq: int, records_max: int) -> list[Record]:
        """See `Bus.read`. Raises `Trimmed` or `BusCorrupt`."""
        return _Cursor(self._partitions[topic, partition], from_seq).take(records_max)

    async def start(self, topic: str, partition: int) -> int:
        """See `Bus.start`."""
        return self._partitions[topic, partition].start()

    async def end(self, topic: str, partition: int) -> int:
        """See `Bus.end`."""
        return self._partitions[topic, partition].end()

    async def commit(self, group: str, topic: str, partition: int, next_seq: int) -> None:
        """See `Bus.commit`. Raises `BusFull` or `BusUncertain`."""
        durable = self._partitions[topic, partition].config.durable
        await asyncio.to_thread(self._offsets.commit, group, topic, partition, next_seq, durable)

    async def committed(self, group: str, topic: str, partition: int) -> int:
        """See `Bus.committed`."""
        return await asyncio.to_thread(self._offsets.committed, group, topic, partition)

    async def close(self) -> None:
        """Write what waits, then let every file go. Idempotent."""
        for writer in self._writers:
            await writer.close()
        for log in self._partitions.values():
            log.close()
        self._offsets.close()


class _Partition:
    """The files of one partition: who may write, where things are, and connections for reading."""

    def __init__(self, folder: Path, config: TopicConfig, partition: int) -> None:
        self.folder, self.config, self.partition = folder, config, partition
        self.label = f"{config.name}/{partition}"
        self.wakes = Wakes(folder)
        self._listing = FolderListing(folder)
        self._listed: list[str] = []
        self._segments: list[int] = []
        self._connections: dict[int, sqlite3.Connection] = {}

    # ── reading, on the loop's thread ───────────────────────────────────────────────────────

    def segments(self) -> list[int]:
        """First positions, ascending."""
        names = self._listing.names()
        if names is not self._listed:
            self._listed, self._segments = names, _segments_in(names)
        return self._segments

    def start(self) -> int:
        segments = self.segments()
        return segments[0] if segments else 0

    def end(self) -> int:
        def newest() -> int:
            segments = self.segments()
            if not segments:
                return 0
            row = self.reading(segments[-1]).execute(_END).fetchone()
            return row[0] if row else segments[-1]

        return self.answer(newest)

    def reading(self, segment: int) -> sqlite3.Connection:
        """A connection for reading a segment; a few are kept."""
        connection = self._connections.get(segment)
        if connection is None:
            uri = f"{_path(self.folder, segment).absolute().as_uri()}?mode=ro"
            if self._is_complete(segment):
                uri += "&immutable=1"  # needs no file beside it, so it can be read from a full disk
            connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS_MAX, isolation_level=None)
            self._connections[segment] = connection
            if len(self._connections) > _READ_CONNECTIONS_MAX:
                self._connections.pop(min(self._connections)).close()
        return connection

    def _is_complete(self, segment: int) -> bool:
        """Sealed, and nothing of it waits in a write-ahead log."""
        path, wal, _ = _files(self.folder, segment)
        return segment != self.segments()[-1] and path.exists() and _size(wal) == 0

    def answer(self, question: Callable[[], T]) -> T:
        """Ask, and ask again if a segment was dropped just then. Raises `BusCorrupt`, `BusError`."""
        before: list[int] | None = None
        while True:
            try:
                return question()
            except sqlite3.Error as error:
                self._close_connections()
                self._listing.forget()
                code = _code(error)
                if code == sqlite3.SQLITE_CANTOPEN and before != (now := self.segments()):
                    before = now
                    continue
                if _is_damage(error):
                    raise self.corrupt(str(error)) from error
                raise BusError(f"{self.label}: can't be read now: {error}") from error

    def corrupt(self, what: str) -> BusCorrupt:
        return BusCorrupt(f"{self.label}: {what}; restore {self.folder} from a backup")

    def trimmed(self, seq: int) -> Trimmed:
        return Trimmed(f"{self.label}: {seq} is gone, the oldest position kept is {self.start()}")

    def close(self) -> None:
        self._close_connections()
        self.wakes.close()

    def _close_connections(self) -> None:
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    # ── owning, on any thread ───────────────────────────────────────────────────────────────

    def claim(self, owner: str) -> tuple[int, int, int]:
        """Raise the epoch in the newest segment. Returns that segment, the epoch and the next position."""
        try:
            _make_folders(self.folder)
            for _ in range(_CLAIM_ATTEMPTS_MAX):
                segments = _segments_in(os.listdir(self.folder))
                if not segments:
                    with contextlib.suppress(FileExistsError, FileNotFoundError):
                        self.create_segment(0, 0, "")
                elif (claimed := self._claim_newest(segments[-1], owner)) is not None:
                    return segments[-1], *claimed
        except (sqlite3.Error, OSError) as error:
            raise _as_bus_error(error, f"{self.label}: not claimed", self.folder) from error
        raise self.corrupt("its newest segment is sealed, the one after it is gone")

    def _claim_newest(self, segment: int, owner: str) -> tuple[int, int] | None:
        """None if it is no longer the newest."""
        with contextlib.closing(self.writing(segment)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            if _segments_in(os.listdir(self.folder))[-1:] != [segment]:
                return None
            (epoch,) = connection.execute("SELECT epoch FROM owner").fetchone()
            if epoch == _SEALED:
                return None
            self._remove_unfinished()
            row = connection.execute(_END).fetchone()
            connection.execute("UPDATE owner SET epoch = ?, name = ?", (epoch + 1, owner))
            connection.execute("COMMIT")
            return epoch + 1, row[0] if row else segment

    def _remove_unfinished(self) -> None:
        """What a crash left of making a segment: whoever holds the newest segment's lock is the only maker."""
        for path in self.folder.glob("*.new*"):
            path.unlink(missing_ok=True)

    def writing(self, segment: int) -> sqlite3.Connection:
        """A connection for the owner; raises if the file is not there."""
        uri = f"{_path(self.folder, segment).absolute().as_uri()}?mode=rw"
        connection = sqlite3.connect(
            uri, uri=True, timeout=_BUSY_SECONDS_MAX, isolation_level=None, check_same_thread=False
        )
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        return connection

    def create_segment(self, first: int, epoch: int, owner: str) -> None:
        """Make a segment aside and let it appear in one step. Raises `FileExistsError`."""
        path = _path(self.folder, first)
        unfinished = path.with_suffix(f".{secrets.token_hex(4)}.new")
        try:
            with contextlib.closing(sqlite3.connect(unfinished, isolation_level=None)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute(f"PRAGMA synchronous = {self._synchronous}")
                connection.executescript(f"BEGIN; {_SCHEMA}")
                connection.execute("INSERT INTO owner VALUES (1, ?, ?)", (epoch, owner))
                connection.execute("COMMIT")
            os.link(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
        _sync_folder(self.folder)

    def drop_oldest(self) -> None:
        """Drop whole segments until what is retained fits."""
        segments = _segments_in(os.listdir(self.folder))
        sizes = {segment: sum(_size(path) for path in _files(self.folder, segment)) for segment in segments}
        while len(segments) > 1 and sum(sizes.values()) > self.config.retention_bytes_max:
            oldest = segments.pop(0)
            del sizes[oldest]
            for path in _files(self.folder, oldest):
                path.unlink(missing_ok=True)

    @property
    def _synchronous(self) -> str:
        return "FULL" if self.config.durable else "OFF"


class _Cursor:
    """Reads frames in order from a position, and checks that they are whole and without a gap."""

    def __init__(self, log: _Partition, next_seq: int) -> None:
        self.next_seq = next_seq
        self._log = log
        self._rest: list[bytes] = []
        """Bodies from `next_seq` on, to the end of a frame."""
        self._at_frame = False
        """Whether a frame begins after the rest."""

    def take(self, records_max: int) -> list[Record]:
        """The next records; none at the end of the log."""
        while len(self._rest) < records_max and self._log.answer(lambda: self._fetch(records_max)):
            pass
        bodies, self._rest = self._rest[:records_max], self._rest[records_max:]
        name, partition, seq = self._log.config.name, self._log.partition, self.next_seq
        self.next_seq += len(bodies)
        return [Record(name, partition, seq + n, body) for n, body in enumerate(bodies)]

    def _fetch(self, records_max: int) -> bool:
        """Read on in the segment that holds the next frame. Returns whether there was more."""
        seq = self.next_seq + len(self._rest)
        segments = self._log.segments()
        index = bisect_right(segments, seq) - 1
        if index < 0:
            if segments:
                raise self._log.trimmed(seq)
            return False
        connection = self._log.reading(segments[index])
        rows = connection.execute(_NEXT_FRAMES if self._at_frame else _FRAMES_AROUND, (seq,))
        expected = seq
        for first, count, crc, body in rows:
            if first + count <= seq:
                continue
            if first != expected and (self._at_frame or first > expected):
                raise self._log.corrupt(f"{expected} is missing, the next record there is {first}")
            if zlib.crc32(body) != crc:
                raise self._log.corrupt(f"the frame at {first} is damaged (its checksum differs)")
            bodies = body.split(b"\n")
            if len(bodies) != count:
                raise self._log.corrupt(f"the frame at {first} has {len(bodies)} records instead of {count}")
            self._rest.extend(bodies[expected - first :])
            self._at_frame, expected = True, first + count
            if len(self._rest) >= records_max:
                break
        rows.close()
        if expected == seq and index + 1 < len(segments):
            raise self._log.corrupt(f"{seq} is missing, the next segment begins at {segments[index + 1]}")
        return expected > seq


class _SqliteReader:
    def __init__(self, log: _Partition, from_seq: int) -> None:
        self.next_seq = from_seq
        self._log = log
        self._cursor = _Cursor(log, from_seq)
        self._closed = False

    async def read(self, records_max: int = 1000) -> list[Record]:
        assert records_max > 0
        while not self._closed:
            records = self._cursor.take(records_max)
            if records:
                self.next_seq = self._cursor.next_seq
                return records
            await self._log.wakes.waiters.wait()
        raise BusError(f"{self._log.label}: the reader is closed")

    async def close(self) -> None:
        self._closed = True
        self._log.wakes.waiters.wake()


_Append = tuple["asyncio.Future[int]", bytes, int]
"""Future, joined bodies, number of records."""


class _SqliteWriter:
    """Appends are queued on the loop's thread; one thread commits what waits, as one frame."""

    def __init__(self, log: _Partition, segment: int, owner: str, epoch: int, next_seq: int) -> None:
        self.topic, self.partition = log.config.name, log.partition
        self.epoch, self.next_seq = epoch, next_seq
        self.closed = False
        self._log, self._owner, self._segment = log, owner, segment
        self._loop = asyncio.get_running_loop()
        self._error: BusError | None = None
        self._queue: SimpleQueue[_Append | None] = SimpleQueue()
        self._stopped: asyncio.Future[None] = self._loop.create_future()
        self._written_seq = next_seq
        self._segment_bytes = 0
        self._connection: sqlite3.Connection | None = None
        threading.Thread(target=self._run, name=f"log {log.label}", daemon=True).start()

    def append(self, bodies: Sequence[bytes]) -> "asyncio.Future[int]":
        assert bodies, "nothing to append"
        future: asyncio.Future[int] = self._loop.create_future()
        if self._error is not None:
            future.set_exception(_again(self._error))
            return future
        count = len(bodies)
        body = bodies[0] if count == 1 else b"\n".join(bodies)
        assert body.count(b"\n") == count - 1, "a record is one line"
        self.next_seq += count
        self._queue.put((future, body, count))
        return future

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            if self._error is None:
                self._error = BusError(f"{self._log.label}: the writer is closed, nothing was written")
            self._queue.put(None)
        await asyncio.shield(self._stopped)

    def _resolve(self, group: list[_Append], last_seq: int) -> None:
        self._log.wakes.notify()
        seq = last_seq - sum(count for _, _, count in group)
        for future, _, count in group:
            seq += count
            if not future.done():
                future.set_result(seq)

    def _refuse(self, group: list[_Append], error: BusError) -> None:
        self._error = error
        for future, _, _ in group:
            if not future.done():
                future.set_exception(_again(error))

    def _has_stopped(self) -> None:
        if not self._stopped.done():
            self._stopped.set_result(None)

    # ── the thread ──────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        error: BusError | None = None
        while group := self._next_group():
            if error is None:
                try:
                    self._write(group)
                    self._on_loop(self._resolve, group, self._written_seq - 1)
                    continue
                except BusError as refused:
                    error = refused
                except (sqlite3.Error, OSError) as failed:
                    error = _as_bus_error(failed, f"{self._log.label}: commit at {self._written_seq}", self._log.folder)
                self._let_go()
            self._on_loop(self._refuse, group, error)
        self._let_go()
        self._on_loop(self._has_stopped)

    def _next_group(self) -> list[_Append]:
        """Everything that waits, up to a frame's limit; empty when the writer was closed."""
        append = self._queue.get()
        group: list[_Append] = []
        size = 0
        while append is not None:
            group.append(append)
            size += len(append[1])
            if size >= _FRAME_BYTES_MAX:
                return group
            try:
                append = self._queue.get_nowait()
            except Empty:
                return group
        if group:
            self._queue.put(None)  # closed: nothing comes after it
        return group

    def _write(self, group: list[_Append]) -> None:
        if self._connection is None:
            self._connection = self._log.writing(self._segment)
            self._segment_bytes = _bytes_in(self._connection)
        if self._segment_bytes >= self._log.config.segment_bytes_max and self._written_seq > self._segment:
            self._roll()
        body = group[0][1] if len(group) == 1 else b"\n".join([body for _, body, _ in group])
        count = sum([count for _, _, count in group])
        frame = (self._written_seq, count, zlib.crc32(body), body, self.epoch)
        if self._connection.execute(_APPEND, frame).rowcount != 1:
            raise self._fenced()
        self._written_seq += count
        self._segment_bytes += len(body)

    def _roll(self) -> None:
        """Seal the segment and go on in a new one, which takes the epoch along."""
        assert self._connection is not None
        old = self._connection
        old.execute("BEGIN IMMEDIATE")
        if old.execute("SELECT epoch FROM owner").fetchone() != (self.epoch,):
            old.execute("ROLLBACK")
            raise self._fenced()
        self._log.create_segment(self._written_seq, self.epoch, self._owner)
        old.execute("UPDATE owner SET epoch = ?", (_SEALED,))
        old.execute("COMMIT")
        self._connection = self._log.writing(self._written_seq)
        self._segment, self._segment_bytes = self._written_seq, 0
        old.execute("PRAGMA busy_timeout = 50")
        old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        old.close()
        if self._log.config.retention_bytes_max:
            self._log.drop_oldest()

    def _fenced(self) -> Fenced:
        return Fenced(f"{self._log.label}: another owner has claimed it since epoch {self.epoch}; nothing was written")

    def _let_go(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _on_loop(self, callback: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:
            log.warning("%s: the loop has stopped before the log was closed", self._log.label)


class _Offsets:
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
                    if not _is_damage(error):
                        raise
                    self._put_aside(error)
                    return self._answer(pragma, query, values)
        except (sqlite3.Error, OSError) as error:
            raise _as_bus_error(error, "offsets of consumers", self._path.parent) from error

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
        _make_folders(self._path.parent)
        connection = sqlite3.connect(
            self._path, timeout=_BUSY_SECONDS_MAX, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(_OFFSETS_SCHEMA)
        _sync_folder(self._path.parent)
        return connection


def _as_bus_error(error: sqlite3.Error | OSError, what: str, folder: Path) -> BusError:
    if isinstance(error, sqlite3.Error):
        code = _code(error)
        if code == sqlite3.SQLITE_FULL:
            return BusFull(f"{what}: the disk under {folder} is full, nothing was written; make room")
        if _is_damage(error):
            return BusCorrupt(f"{what}: {error}; restore {folder} from a backup")
    elif error.errno in (errno.ENOSPC, errno.EDQUOT):
        return BusFull(f"{what}: the disk under {folder} is full, nothing was written; make room")
    return BusUncertain(f"{what}: {error}; the log must be read again")


def _code(error: sqlite3.Error) -> int:
    """The primary result code, without its extension."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def _is_damage(error: sqlite3.Error) -> bool:
    """Whether the file is broken; one that was cut to nothing is a database without tables to SQLite."""
    code = _code(error)
    return (
        code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        or getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_SHORT_READ
        or (code == sqlite3.SQLITE_ERROR and "no such table" in str(error))
    )


def _again(error: BusError) -> BusError:
    return type(error)(*error.args)


def _path(folder: Path, segment: int) -> Path:
    return folder / f"segment-{segment:020d}.db"


def _files(folder: Path, segment: int) -> list[Path]:
    path = _path(folder, segment)
    return [path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")]


def _segments_in(names: Iterable[str]) -> list[int]:
    return sorted(int(name[8:-3]) for name in names if name.startswith("segment-") and name.endswith(".db"))


def _bytes_in(connection: sqlite3.Connection) -> int:
    return connection.execute("PRAGMA page_count").fetchone()[0] * connection.execute("PRAGMA page_size").fetchone()[0]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _make_folders(folder: Path) -> None:
    """With their parents, durably."""
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
