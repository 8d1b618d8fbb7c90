"""Files of a state directory that are kept as they are: snapshots, history, audit, keys, the lake, strategies' state."""

import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from trade2026.local.migration.log import Told
from trade2026.local.migration.moves import MigrationRefused

NEVER = ("run", "logs", "lock", "infra", "VERSION", "manifest.yaml", "migration.json", "migration")
"""Of one run, of one directory, or of the other manifest."""
_ROOM_BYTES = 64 * 1024 * 1024
"""To be left free."""


def files_of(root: Path, left_out: Collection[str]) -> list[Path]:
    """What is kept, as paths below the root.

    Args:
        left_out: Paths below the root, of files or directories.
    """
    return sorted(path.relative_to(root) for path in _walk(root, root, frozenset((*NEVER, *left_out))))


def _walk(root: Path, folder: Path, left_out: frozenset[str]) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.relative_to(root).as_posix() in left_out or path.name.endswith("-shm"):
            continue  # SQLite makes its shared memory anew
        if path.is_symlink():
            continue
        if path.is_dir():
            yield from _walk(root, path, left_out)
        elif path.is_file():
            yield path


def bytes_of(root: Path, paths: Collection[Path]) -> int:
    """What files take together."""
    return sum((root / path).stat().st_size for path in paths)


def copy(root: Path, target: Path, left_out: Collection[str], told: Told) -> int:
    """Copy what is kept, durably, and remove what the source no longer has; return how many files that were.

    A file that is there already, of the same size and time, is not copied again.

    Raises:
        MigrationRefused: there is no room.
        OSError
    """
    wanted = files_of(root, left_out)
    there = files_of(target, left_out)
    missing = [path for path in wanted if not _is_copied(root / path, target / path)]
    size, free = bytes_of(root, missing), shutil.disk_usage(target).free
    if size + _ROOM_BYTES > free:
        raise MigrationRefused(
            f"{target} has room for {free:,} bytes, the files have {size:,}: make room, or name another --to"
        )
    for path in sorted(set(there) - set(wanted)):
        (target / path).unlink()
    folders: set[Path] = set()
    for number, path in enumerate(missing, 1):
        _copy_one(root / path, target / path)
        folders.add((target / path).parent)
        told("files", number, len(missing))
    for folder in folders:
        _sync(folder)
    return len(missing)


def compare(root: Path, target: Path, left_out: Collection[str], told: Told) -> int:
    """See that each file is the same here and there; return how many they are.

    Raises:
        MigrationRefused: one differs or is missing.
    """
    wanted = files_of(root, left_out)
    for number, path in enumerate(wanted, 1):
        if not (target / path).is_file() or not _is_same(root / path, target / path):
            raise MigrationRefused(f"{target / path} is not {root / path}: start the move again")
        told("files compared", number, len(wanted))
    return len(wanted)


def _is_copied(source: Path, target: Path) -> bool:
    try:
        there, here = target.stat(), source.stat()
    except FileNotFoundError:
        return False
    return (there.st_size, there.st_mtime_ns) == (here.st_size, here.st_mtime_ns)


def _copy_one(source: Path, target: Path) -> None:
    """Aside, and then in its place in one step: what is there under its name is whole."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.copying")
    shutil.copy2(source, unfinished)
    _sync(unfinished)
    os.replace(unfinished, target)


def _is_same(here: Path, there: Path) -> bool:
    with here.open("rb") as ours, there.open("rb") as theirs:
        while True:
            a, b = ours.read(1 << 20), theirs.read(1 << 20)
            if a != b:
                return False
            if not a:
                return True


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
