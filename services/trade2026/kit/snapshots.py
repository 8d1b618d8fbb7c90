"""Snapshots of a fold: written whole or not at all, checked when read, and never the only way back.

A file is one line of JSON (the header) and the state. The newest two are kept; one that cannot be read
means the one before, and none means a full replay of the log.
"""

import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from trade2026.domain.shards import partition_name
from trade2026.kit.bus.port import BusCorrupt

log = logging.getLogger(__name__)
T = TypeVar("T")

FORMAT = 1
_KEPT = 2
_HEADER_BYTES_MAX = 4096
_FILE_NAME = re.compile(r"^(\d{20})\.snapshot$")


class SnapshotHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot is of. `next_seq` is the position of the first event that it does not contain."""

    name: str
    next_seq: int
    code_version: str
    format: int
    sha256: str
    """Of the state."""
    positions: dict[str, int] = {}
    """The same by partition, of a fold of several."""


class Snapshot(msgspec.Struct, frozen=True):
    """A snapshot that was read and found whole."""

    header: SnapshotHeader
    state: bytes


class SnapshotUnreadable(Exception):
    """A file that is damaged, of another fold, or of a newer format."""


class SnapshotStore:
    """The snapshots of one fold in one directory.

    Args:
        directory: Made when the first snapshot is written.
        name: Of the fold; a snapshot of another one is not taken.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.directory, self.name = directory, name
        self.unreadable: dict[str, str] = {}
        """File name to reason, of what the last `load` had to leave aside and is still there."""

    def write(self, state: bytes, next_seq: int, code_version: str, positions: Mapping[str, int] | None = None) -> Path:
        """Keep a state durably, then drop all but the newest two.

        Raises:
            OSError: nothing was kept; the earlier snapshots are as they were.
        """
        assert next_seq >= 0
        header = SnapshotHeader(
            name=self.name,
            next_seq=next_seq,
            code_version=code_version,
            format=FORMAT,
            sha256=hashlib.sha256(state).hexdigest(),
            positions=dict(positions or {}),
        )
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self._path(next_seq)
        partial = path.with_suffix(".partial")
        try:
            with partial.open("wb") as file:
                file.write(msgspec.json.encode(header) + b"\n")
                file.write(state)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        self._sync_directory()
        for old in self._newest_first()[_KEPT:]:
            old.unlink(missing_ok=True)
        self.unreadable = {name: reason for name, reason in self.unreadable.items() if (self.directory / name).exists()}
        return path

    def refuse_lost_end(self, topic: str, end: int) -> None:
        """Refuse a durable log that ends before a snapshot of its fold: what was acknowledged is not in it any more.

        To begin with what is left would forget it, and give its numbers to other events.

        Raises:
            BusCorrupt: it does; the message says what to do.
        """
        newest = next((int(path.stem) for path in self._newest_first()), 0)
        self.refuse_lost(topic, end, newest)

    def refuse_lost(self, topic: str, end: int, next_seq: int) -> None:
        """The same, where it is known how far a snapshot is."""
        if next_seq > end:
            raise BusCorrupt(
                f"{topic} ends at {end}, but {self.directory} has its events to {next_seq}: the log has lost its end; "
                "put a backup back with `trade2026 restore`, or begin anew with another --state-dir"
            )

    def covered(self, topic: str, partition: int) -> int:
        """Up to where even the older of the two newest snapshots contains a partition; 0 while there are not two.

        A snapshot of several partitions says in its header how far it is in each; another is of one.
        """
        try:
            headers = [self._header_of(path)[0] for path in self._newest_first()[:_KEPT]]
        except (OSError, SnapshotUnreadable):
            return 0
        if len(headers) < _KEPT:
            return 0
        return min(header.positions.get(partition_name(topic, partition), header.next_seq) for header in headers)

    def load(self, *, next_seq_max: int | None = None) -> Snapshot | None:
        """Return the newest snapshot that is whole, or None; what cannot be read is reported and left aside.

        Args:
            next_seq_max: Snapshots beyond this position are left aside too, e.g. the end of the log.
        """
        return next(self._readable(next_seq_max), None)

    def restore(self, make: Callable[[bytes], T], *, next_seq_max: int | None = None) -> T | None:
        """Return what `make` makes of the newest state that it takes; a state that it refuses is left aside too."""
        for snapshot in self._readable(next_seq_max):
            try:
                return make(snapshot.state)
            except Exception as error:
                self._leave_aside(self._path(snapshot.header.next_seq), f"it does not fit: {error}")
        return None

    def _readable(self, next_seq_max: int | None) -> Iterator[Snapshot]:
        self.unreadable = {}
        for path in self._newest_first():
            try:
                snapshot = self._read(path)
                if next_seq_max is not None and snapshot.header.next_seq > next_seq_max:
                    raise SnapshotUnreadable(f"ends at {snapshot.header.next_seq}, beyond {next_seq_max}")
            except (OSError, SnapshotUnreadable) as error:
                self._leave_aside(path, str(error))
            else:
                yield snapshot

    def _leave_aside(self, path: Path, reason: str) -> None:
        self.unreadable[path.name] = reason
        log.warning("snapshot %s of %s is left aside: %s", path.name, self.name, reason)

    def _path(self, next_seq: int) -> Path:
        return self.directory / f"{next_seq:020d}.snapshot"

    def _read(self, path: Path) -> Snapshot:
        header, length = self._header_of(path)
        with path.open("rb", buffering=0) as file:
            file.seek(length + 1)
            state = file.readall()  # in one piece: there may be hundreds of megabytes
        if header.name != self.name:
            raise SnapshotUnreadable(f"it is of {header.name!r}")
        if header.format > FORMAT:
            raise SnapshotUnreadable(f"its format {header.format} is newer than {FORMAT}")
        if hashlib.sha256(state).hexdigest() != header.sha256:
            raise SnapshotUnreadable("its checksum does not match")
        return Snapshot(header, state)

    def _header_of(self, path: Path) -> tuple[SnapshotHeader, int]:
        """And how many bytes it takes."""
        with path.open("rb", buffering=0) as file:
            line = file.read(_HEADER_BYTES_MAX).partition(b"\n")[0]
        try:
            return msgspec.json.decode(line, type=SnapshotHeader), len(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise SnapshotUnreadable(f"its header cannot be read: {error}") from error

    def _newest_first(self) -> list[Path]:
        if not self.directory.is_dir():
            return []
        return sorted((path for path in self.directory.iterdir() if _FILE_NAME.match(path.name)), reverse=True)

    def _sync_directory(self) -> None:
        descriptor = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
