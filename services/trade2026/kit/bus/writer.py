"""The owner's end of a partition: group commit on a thread of its own, so that the loop never waits for the disk."""

import asyncio
import contextlib
import logging
import sqlite3
import threading
import zlib
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue

from trade2026.kit.bus.files import again, as_bus_error, bytes_in, identities, segment_files
from trade2026.kit.bus.partition import SEALED, Partition
from trade2026.kit.bus.port import BusError, Fenced

log = logging.getLogger(__name__)

_FRAME_BYTES_MAX = 4 * 1024 * 1024
_APPEND = "INSERT INTO frames (seq, count, crc, body) SELECT ?, ?, ?, ? WHERE (SELECT epoch FROM owner) = ?"

_Append = tuple["asyncio.Future[int]", bytes, int]
"""Future, joined bodies, number of records."""


class SqliteWriter:
    """Appends are queued on the loop's thread; one thread commits what waits, as one frame."""

    def __init__(self, log: Partition, segment: int, owner: str, epoch: int, next_seq: int) -> None:
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
        self._files: list[tuple[int, int]] = []
        """Which files the connection writes into; known from its first commit on."""
        threading.Thread(target=self._run, name=f"log {log.label}", daemon=True).start()

    def append(self, bodies: Sequence[bytes]) -> "asyncio.Future[int]":
        assert bodies, "nothing to append"
        future: asyncio.Future[int] = self._loop.create_future()
        if self._error is not None:
            future.set_exception(again(self._error))
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
        self._log.durable_seq = last_seq + 1
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
                future.set_exception(again(error))

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
                    error = as_bus_error(failed, f"{self._log.label}: commit at {self._written_seq}", self._log.folder)
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
            if self._log.was_dropped(self._segment):  # others have left it since
                raise self._fenced()
            self._connection = self._log.writing(self._segment)
            self._segment_bytes = bytes_in(self._connection)
        if self._segment_bytes >= self._log.config.segment_bytes_max and self._written_seq > self._segment:
            self._roll()
        body = group[0][1] if len(group) == 1 else b"\n".join([body for _, body, _ in group])
        count = sum([count for _, _, count in group])
        frame = (self._written_seq, count, zlib.crc32(body), body, self.epoch)
        if self._connection.execute(_APPEND, frame).rowcount != 1:
            raise self._fenced()
        self._require_files()
        self._written_seq += count
        self._segment_bytes += len(body)

    def _require_files(self) -> None:
        """A commit into a file that was deleted or moved away succeeds, and is gone with this process."""
        path, wal, _ = segment_files(self._log.folder, self._segment)
        try:
            now = identities((path, wal))
        except FileNotFoundError as error:
            raise self._log.corrupt(f"{error.filename} was taken away") from error
        if not self._files:
            self._files = now
        elif now != self._files:
            raise self._log.corrupt(f"{path} was replaced while it was written")

    def _roll(self) -> None:
        """Seal the segment and go on in a new one, which takes the epoch along."""
        assert self._connection is not None
        old = self._connection
        old.execute("BEGIN IMMEDIATE")
        if old.execute("SELECT epoch FROM owner").fetchone() != (self.epoch,):
            old.execute("ROLLBACK")
            raise self._fenced()
        self._log.create_segment(self._written_seq, self.epoch, self._owner)
        old.execute("UPDATE owner SET epoch = ?", (SEALED,))
        old.execute("COMMIT")
        self._connection = self._log.writing(self._written_seq)
        self._segment, self._segment_bytes, self._files = self._written_seq, 0, []
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
