"""The files of SQLite journals: their names, making and measuring them, and what their errors mean for a bus."""

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from trade2026.kit.bus.port import BusCorrupt, BusError, BusFull, BusUncertain

BUSY_SECONDS_MAX = 5.0


def as_bus_error(error: sqlite3.Error | OSError, what: str, folder: Path) -> BusError:
    """Return what an error means for the log: full, damaged, or nobody knows what was written."""
    if isinstance(error, sqlite3.Error):
        code = primary_code(error)
        if code == sqlite3.SQLITE_FULL:
            return BusFull(f"{what}: the disk under {folder} is full, nothing was written; make room")
        if is_damage(error):
            return BusCorrupt(f"{what}: {error}; restore {folder} from a backup")
    elif error.errno in (errno.ENOSPC, errno.EDQUOT):
        return BusFull(f"{what}: the disk under {folder} is full, nothing was written; make room")
    return BusUncertain(f"{what}: {error}; the log must be read again")


def primary_code(error: sqlite3.Error) -> int:
    """The primary result code, without its extension."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file is broken; one that was cut to nothing is a database without tables to SQLite."""
    code = primary_code(error)
    return (
        code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        or getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_SHORT_READ
        or (code == sqlite3.SQLITE_ERROR and "no such table" in str(error))
    )


def again(error: BusError) -> BusError:
    """Return a new exception of the same kind: one that is raised twice collects both traces."""
    return type(error)(*error.args)


def segment_path(folder: Path, segment: int) -> Path:
    """The file of a segment."""
    return folder / f"segment-{segment:020d}.db"


def segment_files(folder: Path, segment: int) -> list[Path]:
    """The file of a segment and those that SQLite keeps beside it."""
    path = segment_path(folder, segment)
    return [path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")]


def segments_in(names: Iterable[str]) -> list[int]:
    """First positions of the segments among the names in a folder, ascending."""
    return sorted(int(name[8:-3]) for name in names if name.startswith("segment-") and name.endswith(".db"))


def bytes_in(connection: sqlite3.Connection) -> int:
    """Size of a database, with what is still in its write-ahead log."""
    return connection.execute("PRAGMA page_count").fetchone()[0] * connection.execute("PRAGMA page_size").fetchone()[0]


def size_of(path: Path) -> int:
    """Bytes of a file; 0 if there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def identities(paths: Iterable[Path]) -> list[tuple[int, int]]:
    """Which files have these names now. Raises `FileNotFoundError`."""
    found = [os.stat(path) for path in paths]
    return [(each.st_dev, each.st_ino) for each in found]


def make_folders(folder: Path) -> None:
    """With their parents, durably."""
    if folder.is_dir():
        return
    make_folders(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
