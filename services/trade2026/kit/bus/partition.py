"""One partition's segments on the disk: reading them in order, claiming them, making and dropping them."""

import contextlib
import os
import secrets
import sqlite3
import zlib
from bisect import bisect_right
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from trade2026.kit.bus.beginning import beginning_in, drop_before
from trade2026.kit.bus.files import (
    BUSY_SECONDS_MAX,
    as_bus_error,
    is_damage,
    make_folders,
    primary_code,
    segment_files,
    segment_path,
    segments_in,
    size_of,
    sync_folder,
)
from trade2026.kit.bus.port import BusCorrupt, BusError, Record, TopicConfig, Trimmed
from trade2026.kit.bus.wake import FolderListing, Wakes

T = TypeVar("T")

_CHECKPOINT_PAGES = 1_000
"""4 MB. The commit that reaches it waits until they are moved into the segment."""
_READ_CONNECTIONS_MAX = 3
_CLAIM_ATTEMPTS_MAX = 100
SEALED = -1

_SCHEMA = """
CREATE TABLE owner (id INTEGER PRIMARY KEY CHECK (id = 1), epoch INTEGER NOT NULL, name TEXT NOT NULL);
CREATE TABLE frames (seq INTEGER PRIMARY KEY, count INTEGER NOT NULL, crc INTEGER NOT NULL, body BLOB NOT NULL);
"""
_END = "SELECT seq + count FROM frames ORDER BY seq DESC LIMIT 1"
_NEXT_FRAMES = "SELECT seq, count, crc, body FROM frames WHERE seq >= ? ORDER BY seq"
_FRAMES_AROUND = (
    "SELECT seq, count, crc, body FROM frames "
    "WHERE seq >= ifnull((SELECT max(seq) FROM frames WHERE seq <= ?), 0) ORDER BY seq"
)


class Partition:
    """The files of one partition: who may write, where things are, and connections for reading."""

    def __init__(self, folder: Path, config: TopicConfig, partition: int) -> None:
        self.folder, self.config, self.partition = folder, config, partition
        self.label = f"{config.name}/{partition}"
        self.wakes = Wakes(folder)
        self.durable_seq = 0
        """One past the last record that this process was told is durable: the log can end at no less."""
        self._made = folder.parents[1] / "made" / f"{config.name}-{partition}"
        """Says that there was a log, wherever it went."""
        self._listing = FolderListing(folder)
        self._listed: list[str] = []
        self._beginning = 0
        """What lies before it was dropped on purpose."""
        self._segments: list[int] = []
        self._joined: set[tuple[int, int]] = set()
        """Segments that were seen to follow each other without a gap."""
        self._connections: dict[int, sqlite3.Connection] = {}

    # ── reading, on the loop's thread ───────────────────────────────────────────────────────

    def segments(self) -> list[int]:
        """First positions, ascending."""
        names = self._listing.names()
        if names is not self._listed:
            self._listed, self._beginning = names, beginning_in(names)
            self._segments = [segment for segment in segments_in(names) if segment >= self._beginning]
            for dropped in [segment for segment in self._connections if segment < self._beginning]:
                self._connections.pop(dropped).close()  # its room on the disk is free only then
        return self._segments

    def start(self) -> int:
        segments = self.segments()
        return self._beginning if self._is_kept_whole or not segments else segments[0]

    @property
    def _is_kept_whole(self) -> bool:
        """Whether a segment goes only when somebody drops it."""
        return self.config.durable and not self.config.retention_bytes_max

    def end(self) -> int:
        def newest() -> int:
            segments = self.segments()
            return self._end_of(segments[-1]) if segments else self._beginning

        return self.answer(newest)

    def _end_of(self, segment: int) -> int:
        row = self.reading(segment).execute(_END).fetchone()
        return row[0] if row else segment

    def epoch(self) -> int:
        """Of its last owner; 0 if nobody ever claimed it."""

        def newest() -> int:
            segments = self.segments()
            return self.reading(segments[-1]).execute("SELECT epoch FROM owner").fetchone()[0] if segments else 0

        return self.answer(newest)

    def bytes(self) -> int:
        """Of its files."""
        return sum(size_of(path) for segment in self.segments() for path in segment_files(self.folder, segment))

    def faults(self) -> list[str]:
        """Segments that are gone although nobody dropped them. Raises `BusCorrupt`, `BusError`."""
        if not self.config.durable:
            return []

        def gaps() -> list[tuple[int, int]]:
            segments = self.segments()
            found = [(self.start(), first) for first in segments[:1] if first > self.start()]
            for pair in pairwise(segments):
                if pair not in self._joined and (end := self._end_of(pair[0])) < pair[1]:
                    found.append((end, pair[1]))
                else:
                    self._joined.add(pair)
            return found

        found = [self.missing(seq, following) for seq, following in self.answer(gaps)]
        return [str(fault) for fault in found if isinstance(fault, BusCorrupt)]

    def reading(self, segment: int) -> sqlite3.Connection:
        """A connection for reading a segment; the few that were used last are kept."""
        connection = self._connections.pop(segment, None)
        if connection is None:
            uri = f"{segment_path(self.folder, segment).absolute().as_uri()}?mode=ro"
            if self._is_complete(segment):
                uri += "&immutable=1"  # needs no file beside it, so it can be read from a full disk
            connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS_MAX, isolation_level=None)
            if len(self._connections) == _READ_CONNECTIONS_MAX:
                self._connections.pop(next(iter(self._connections))).close()
        self._connections[segment] = connection
        return connection

    def _is_complete(self, segment: int) -> bool:
        """Sealed, and nothing of it waits in a write-ahead log."""
        path, wal, _ = segment_files(self.folder, segment)
        return segment != self.segments()[-1] and path.exists() and size_of(wal) == 0

    def answer(self, question: Callable[[], T]) -> T:
        """Ask, and ask again if a segment was dropped just then. Raises `BusCorrupt`, `BusError`."""
        before: list[int] | None = None
        while True:
            try:
                return question()
            except sqlite3.Error as error:
                self._close_connections()
                self._listing.forget()
                code = primary_code(error)
                if code == sqlite3.SQLITE_CANTOPEN and before != (now := self.segments()):
                    before = now
                    continue
                if is_damage(error):
                    raise self.corrupt(str(error)) from error
                raise BusError(f"{self.label}: can't be read now: {error}") from error

    def corrupt(self, what: str) -> BusCorrupt:
        return BusCorrupt(f"{self.label}: {what}; restore {self.folder} from a backup")

    def missing(self, seq: int, following: int) -> BusError:
        """What is wrong where a segment should be: it was dropped just now, or is lost."""
        self._listing.forget()
        if seq < self.start():
            return self.trimmed(seq)
        return self.corrupt(f"{seq} is missing, the next segment begins at {following}")

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
            for _ in range(_CLAIM_ATTEMPTS_MAX):
                segments = segments_in(os.listdir(self.folder)) if self.folder.is_dir() else []
                if not segments:
                    self._make_first()
                elif (claimed := self._claim_newest(segments[-1], owner)) is not None:
                    if claimed[1] < self.durable_seq:
                        raise self.corrupt(f"it ended at {self.durable_seq}, and now at {claimed[1]}")
                    self._remember()
                    return segments[-1], *claimed
        except (sqlite3.Error, OSError) as error:
            raise as_bus_error(error, f"{self.label}: not claimed", self.folder) from error
        raise self.corrupt("its newest segment is sealed, the one after it is gone")

    def _make_first(self) -> None:
        """Make the log, unless there was one: whoever lost it must not begin as if nothing had happened."""
        if self.durable_seq:
            raise self.corrupt(f"it ended at {self.durable_seq}, and is gone")
        if self._made.exists():
            raise BusCorrupt(
                f"{self.label}: it was here before, and is gone; put a backup back with `trade2026 restore`, "
                f"or remove {self._made} to begin it anew"
            )
        make_folders(self.folder)
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            self.create_segment(beginning_in(os.listdir(self.folder)), 0, "")

    def _remember(self) -> None:
        """What is not durable may be lost, and begins anew."""
        if self.config.durable and not self._made.exists():
            make_folders(self._made.parent)
            self._made.touch()
            sync_folder(self._made.parent)

    def _claim_newest(self, segment: int, owner: str) -> tuple[int, int] | None:
        """None if it is no longer the newest."""
        with contextlib.closing(self.writing(segment)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            if segments_in(os.listdir(self.folder))[-1:] != [segment]:
                return None
            (epoch,) = connection.execute("SELECT epoch FROM owner").fetchone()
            if epoch == SEALED:
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
        uri = f"{segment_path(self.folder, segment).absolute().as_uri()}?mode=rw"
        connection = sqlite3.connect(
            uri, uri=True, timeout=BUSY_SECONDS_MAX, isolation_level=None, check_same_thread=False
        )
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        return connection

    def create_segment(self, first: int, epoch: int, owner: str) -> None:
        """Make a segment aside and let it appear in one step. Raises `FileExistsError`."""
        path = segment_path(self.folder, first)
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
        sync_folder(self.folder)

    def drop(self, before_seq: int) -> None:
        """Drop whole segments before a position. Raises `BusFull` or `BusUncertain`."""
        try:
            drop_before(self.folder, before_seq)
        except OSError as error:
            raise as_bus_error(error, f"{self.label}: not dropped before {before_seq}", self.folder) from error

    def was_dropped(self, segment: int) -> bool:
        """Whether a segment was dropped on purpose."""
        return segment < beginning_in(os.listdir(self.folder))

    def drop_oldest(self) -> None:
        """Drop whole segments until what is retained fits."""
        segments = segments_in(os.listdir(self.folder))
        sizes = {segment: sum(size_of(path) for path in segment_files(self.folder, segment)) for segment in segments}
        while len(segments) > 1 and sum(sizes.values()) > self.config.retention_bytes_max:
            oldest = segments.pop(0)
            del sizes[oldest]
            for path in segment_files(self.folder, oldest):
                path.unlink(missing_ok=True)

    @property
    def _synchronous(self) -> str:
        return "FULL" if self.config.durable else "OFF"


class Cursor:
    """Reads frames in order from a position, and checks that they are whole and without a gap."""

    def __init__(self, log: Partition, next_seq: int) -> None:
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
                raise self._log.missing(seq, segments[0])
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
            raise self._log.missing(seq, segments[index + 1])
        return expected > seq
