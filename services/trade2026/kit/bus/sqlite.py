"""The bus on one machine: SQLite journals, a row per group commit, one fenced writer per partition.

A partition is a folder of segments, each a SQLite file in WAL mode with its owner's epoch in it. An append
is one statement that inserts the frame only if the epoch is still the writer's, so fencing and writing are
one transaction and one fsync. Readers are woken through Unix datagram sockets; they never poll.
"""

import asyncio
import contextlib
import hashlib
import os
import queue
import socket
import sqlite3
import tempfile
import threading
import zlib
from collections.abc import Sequence
from pathlib import Path

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

_INSERT = "INSERT INTO frames SELECT ?, ?, ?, ? WHERE (SELECT epoch FROM owner) = ?"
_SOCKET_PATH_MAX = 100
_FRAME_BYTES_MAX = 8 * 1024 * 1024


def _connect(path: Path, *, durable: bool = True, create: bool = False) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    if create:
        connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'OFF'}")
    connection.execute("PRAGMA wal_autocheckpoint=4000")
    return connection


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Partition:
    """Where one partition lies, and how its segments are named."""

    def __init__(self, root: Path, config: TopicConfig, number: int) -> None:
        self.config, self.number = config, number
        self.folder = root / config.name / str(number)
        self.wake = self.folder / "wake"
        if len(str(self.wake)) > _SOCKET_PATH_MAX - 40:
            digest = hashlib.sha256(str(self.folder.resolve()).encode()).hexdigest()[:16]
            self.wake = Path(tempfile.gettempdir()) / f"trade2026-{digest}"

    def make(self) -> None:
        """Create the folders and the first segment."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.wake.mkdir(parents=True, exist_ok=True)
        if not self.segments():
            self.create_segment(0, 0)

    def segments(self) -> list[tuple[int, Path]]:
        """First position and file of each segment, oldest first."""
        return sorted((int(path.stem.partition("-")[2]), path) for path in self.folder.glob("segment-*.db"))

    def create_segment(self, first_seq: int, epoch: int) -> sqlite3.Connection:
        """Make a segment that begins at a position, owned at an epoch."""
        path = self.folder / f"segment-{first_seq:020d}.db"
        connection = _connect(path, durable=self.config.durable, create=True)
        connection.executescript(
            "BEGIN IMMEDIATE;"
            "CREATE TABLE IF NOT EXISTS frames(seq INTEGER PRIMARY KEY, count INTEGER NOT NULL, body BLOB NOT NULL, crc INTEGER NOT NULL);"
            "CREATE TABLE IF NOT EXISTS owner(epoch INTEGER NOT NULL, name TEXT NOT NULL);"
            f"INSERT INTO owner SELECT {int(epoch)}, '' WHERE NOT EXISTS (SELECT 1 FROM owner);"
            "COMMIT"
        )
        _sync_folder(self.folder)
        return connection

    def end(self) -> int:
        """The position after the last durable record."""
        segments = self.segments()
        if not segments:
            return 0
        first, path = segments[-1]
        with contextlib.closing(_connect(path)) as connection:
            row = connection.execute("SELECT seq + count FROM frames ORDER BY seq DESC LIMIT 1").fetchone()
        return row[0] if row else first


class _Waker:
    """The writer's side: a byte to each socket in the wake folder, without ever blocking."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._stamp = -1
        self._names: list[str] = []

    def wake(self) -> None:
        stamp = os.stat(self.folder).st_mtime_ns
        if stamp != self._stamp:
            self._stamp, self._names = stamp, [entry.path for entry in os.scandir(self.folder)]
        for name in self._names:
            try:
                self._socket.sendto(b"!", name)
            except BlockingIOError:
                continue  # it has a wake-up waiting already
            except OSError:
                with contextlib.suppress(OSError):
                    os.unlink(name)

    def close(self) -> None:
        self._socket.close()


class SqliteWriter:
    """The one writer of a partition; a thread commits what the loop hands over."""

    def __init__(
        self, partition: Partition, connection: sqlite3.Connection, epoch: int, first: int, next_seq: int
    ) -> None:
        self.topic, self.partition = partition.config.name, partition.number
        self.epoch, self.next_seq = epoch, next_seq
        self._place, self._connection, self._segment_first = partition, connection, first
        self._segment_bytes = 0
        self._written = next_seq
        self._dead: BusError | None = None
        self._waker = _Waker(partition.wake)
        self._queue: queue.SimpleQueue[tuple[list[bytes], asyncio.Future[int]] | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name=f"journal-{self.topic}", daemon=True)
        self._thread.start()
        self._closed = False

    def append(self, bodies: Sequence[bytes]) -> "asyncio.Future[int]":
        future: asyncio.Future[int] = self._loop.create_future()
        if self._dead is not None or self._closed:
            future.set_exception(self._dead or BusUncertain("the writer is closed"))
            return future
        self.next_seq += len(bodies)
        self._queue.put((list(bodies), future))
        return future

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        self._connection.close()
        self._waker.close()

    # ── the thread ──────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        while True:
            item = self._queue.get()
            if item is None:
                return
            batch, size, last = [item], sum(map(len, item[0])), False
            while size < _FRAME_BYTES_MAX:
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
                if item is None:
                    last = True
                    break
                batch.append(item)
                size += sum(map(len, item[0]))
            error = self._dead or self._write([body for bodies, _ in batch for body in bodies])
            self._dead = error
            done = [(future, len(bodies)) for bodies, future in batch]
            with contextlib.suppress(RuntimeError):  # the loop is gone: nobody waits for an answer
                self._loop.call_soon_threadsafe(self._settle, done, self._written, error)
            if last:
                return

    def _write(self, bodies: list[bytes]) -> BusError | None:
        frame = b"\n".join(bodies)
        try:
            if (
                self._segment_bytes + len(frame) > self._place.config.segment_bytes_max
                and self._written > self._segment_first
            ):
                self._roll()
            row = (self._written, len(bodies), frame, zlib.crc32(frame), self.epoch)
            if self._connection.execute(_INSERT, row).rowcount != 1:
                return Fenced(
                    f"{self.topic}/{self.partition}: epoch {self.epoch} is over, another owner has claimed it"
                )
        except sqlite3.Error as error:
            kind = BusFull if "full" in str(error) else BusUncertain
            return kind(f"{self.topic}/{self.partition}: {error}")
        except OSError as error:
            return BusUncertain(f"{self.topic}/{self.partition}: {error}")
        self._written += len(bodies)
        self._segment_bytes += len(frame)
        with contextlib.suppress(OSError):
            self._waker.wake()
        return None

    def _roll(self) -> None:
        """Begin a segment; the old one takes no more writes from anyone."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            epoch = self._connection.execute("SELECT epoch FROM owner").fetchone()[0]
            if epoch == self.epoch:
                fresh = self._place.create_segment(self._written, self.epoch)
                self._connection.execute("UPDATE owner SET epoch = -1")
            self._connection.execute("COMMIT")
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        if epoch != self.epoch:
            return  # fenced: the insert that follows finds out
        self._connection.close()
        self._connection, self._segment_first, self._segment_bytes = fresh, self._written, 0
        self._retain()

    def _retain(self) -> None:
        most = self._place.config.retention_bytes_max
        if not most:
            return
        segments = self._place.segments()
        sizes = [path.stat().st_size for _, path in segments]
        for (_, path), size in list(zip(segments, sizes, strict=True))[:-1]:
            if sum(sizes) <= most:
                return
            sizes.remove(size)
            for suffix in ("", "-wal", "-shm"):
                Path(f"{path}{suffix}").unlink(missing_ok=True)

    @staticmethod
    def _settle(done: list[tuple["asyncio.Future[int]", int]], written: int, error: BusError | None) -> None:
        position = written - sum(count for _, count in done)
        for future, count in done:
            position += count
            if future.done():
                continue
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(position - 1)


class SqliteReader:
    """Follows one partition; woken by its writer."""

    def __init__(self, partition: Partition, from_seq: int) -> None:
        self.next_seq = from_seq
        self._place = partition
        self._connection: sqlite3.Connection | None = None
        self._first = -1
        self._name = partition.wake / f"{os.getpid()}-{os.urandom(6).hex()}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(str(self._name))
        self._woken = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket.fileno(), self._on_wake)

    def _on_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._socket.recv(64):
                pass
        self._woken.set()

    async def read(self, records_max: int = 1000) -> list[Record]:
        while True:
            self._woken.clear()
            records = self.take(records_max)
            if records:
                return records
            await self._woken.wait()

    def take(self, records_max: int) -> list[Record]:
        """Return what is there, at most about `records_max`."""
        records: list[Record] = []
        while len(records) < records_max:
            taken = self._take_segment(records_max - len(records))
            records += taken
            if not taken and not self._next_segment():
                break
        return records

    def _take_segment(self, records_max: int) -> list[Record]:
        connection = self._open()
        topic, number = self._place.config.name, self._place.number
        records: list[Record] = []
        row = connection.execute("SELECT max(seq) FROM frames WHERE seq <= ?", (self.next_seq,)).fetchone()
        start = row[0] if row[0] is not None else self.next_seq
        rows = connection.execute("SELECT seq, count, body, crc FROM frames WHERE seq >= ? ORDER BY seq", (start,))
        for seq, count, frame, crc in rows:
            if seq + count <= self.next_seq:
                continue
            if seq > self.next_seq or zlib.crc32(frame) != crc:
                raise BusCorrupt(
                    f"{topic}/{number} is damaged at {seq} (expected {self.next_seq}): restore it from a backup"
                )
            bodies = frame.split(b"\n")
            for offset in range(self.next_seq - seq, min(count, self.next_seq - seq + records_max - len(records))):
                records.append(Record(topic, number, seq + offset, bodies[offset]))
            self.next_seq = records[-1].seq + 1
            if len(records) >= records_max:
                break
        rows.close()
        return records

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            segments = self._place.segments()
            behind = [(first, path) for first, path in segments if first <= self.next_seq]
            if not behind:
                raise Trimmed(
                    f"{self._place.config.name}/{self._place.number} begins at {segments[0][0]}, not at {self.next_seq}"
                )
            self._first, path = behind[-1]
            self._connection = _connect(path)
        return self._connection

    def _next_segment(self) -> bool:
        newer = [first for first, _ in self._place.segments() if self._first < first <= self.next_seq]
        if not newer:
            return False
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        return True

    async def close(self) -> None:
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        self._name.unlink(missing_ok=True)
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class SqliteBus:
    """All partitions below one folder."""

    def __init__(self, root: Path, topics: Sequence[TopicConfig]) -> None:
        self.root = root
        self._partitions = {
            (config.name, number): Partition(root, config, number)
            for config in topics
            for number in range(config.partitions)
        }
        self._readers: dict[tuple[str, int], SqliteReader] = {}
        self._offsets: sqlite3.Connection | None = None

    def _partition(self, topic: str, partition: int) -> Partition:
        place = self._partitions.get((topic, partition))
        if place is None:
            raise BusError(f"there is no {topic}/{partition} on this bus")
        place.make()
        return place

    async def claim(self, topic: str, partition: int, owner: str) -> SqliteWriter:
        place = self._partition(topic, partition)
        while True:
            first, path = place.segments()[-1]
            connection = _connect(path, durable=place.config.durable)
            try:
                connection.execute("BEGIN IMMEDIATE")
                epoch = connection.execute("SELECT epoch FROM owner").fetchone()[0]
                if epoch >= 0:
                    connection.execute("UPDATE owner SET epoch = ?, name = ?", (epoch + 1, owner))
                    row = connection.execute("SELECT seq + count FROM frames ORDER BY seq DESC LIMIT 1").fetchone()
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                connection.close()
                kind = BusFull if "full" in str(error) else BusCorrupt if "malformed" in str(error) else BusUncertain
                raise kind(f"{topic}/{partition} can not be claimed: {error}") from error
            if epoch >= 0:
                return SqliteWriter(place, connection, epoch + 1, first, row[0] if row else first)
            connection.close()  # rolled meanwhile: the newest segment is another one

    async def open_reader(self, topic: str, partition: int, from_seq: int = 0) -> SqliteReader:
        place = self._partition(topic, partition)
        end, start = place.end(), place.segments()[0][0]
        if from_seq > end:
            raise BusCorrupt(
                f"{topic}/{partition} ends at {end} but {from_seq} was read before: restore it from a backup"
            )
        if from_seq < start:
            raise Trimmed(f"{topic}/{partition} begins at {start}, not at {from_seq}")
        return SqliteReader(place, from_seq)

    async def read(self, topic: str, partition: int, from_seq: int, records_max: int) -> list[Record]:
        reader = self._readers.get((topic, partition))
        if reader is None or from_seq < reader._first:
            if reader is not None:
                await reader.close()
            reader = self._readers[topic, partition] = SqliteReader(self._partition(topic, partition), from_seq)
        reader.next_seq = from_seq
        return reader.take(records_max)

    async def start(self, topic: str, partition: int) -> int:
        return self._partition(topic, partition).segments()[0][0]

    async def end(self, topic: str, partition: int) -> int:
        return self._partition(topic, partition).end()

    def _offsets_db(self) -> sqlite3.Connection:
        if self._offsets is None:
            self.root.mkdir(parents=True, exist_ok=True)
            self._offsets = _connect(self.root / "offsets.db", create=True)
            self._offsets.execute(
                "CREATE TABLE IF NOT EXISTS offsets(grp TEXT, topic TEXT, partition INTEGER, next_seq INTEGER, "
                "PRIMARY KEY (grp, topic, partition)) WITHOUT ROWID"
            )
        return self._offsets

    async def commit(self, group: str, topic: str, partition: int, next_seq: int) -> None:
        self._offsets_db().execute(
            "INSERT OR REPLACE INTO offsets VALUES (?, ?, ?, ?)", (group, topic, partition, next_seq)
        )

    async def committed(self, group: str, topic: str, partition: int) -> int:
        row = (
            self._offsets_db()
            .execute(
                "SELECT next_seq FROM offsets WHERE grp = ? AND topic = ? AND partition = ?", (group, topic, partition)
            )
            .fetchone()
        )
        return row[0] if row else 0

    async def close(self) -> None:
        for reader in self._readers.values():
            await reader.close()
        self._readers.clear()
        if self._offsets is not None:
            self._offsets.close()
            self._offsets = None
