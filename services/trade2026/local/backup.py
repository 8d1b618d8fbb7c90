"""Copies of a state directory: files with their checksums, databases through SQLite's own backup."""

import hashlib
import json
import os
import shutil
import sqlite3
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from trade2026 import __version__
from trade2026.local.state import FORMAT, StateDir, write_atomically

MANIFEST = "backup.json"
_LEFT_OUT = ("run", "logs", "lock")
_LEFT_OUT_WHILE_RUNNING = ("timeseries", "analytics", "infra")
"""Stores that can't be copied under their writer's hands, and are made again from the log as far as it reaches."""
_SQLITE_MAGIC = b"SQLite format 3\x00"
_LAST = ("orders.events", "venue.reports")
"""Journals that others fold, or answer, are read after those: a copy never knows of a record that it lacks."""


class BackupError(Exception):
    """A backup can't be made, read or put back; the message says why."""


def backup(state: StateDir, directory: Path) -> dict[str, Any]:
    """Copy a state directory, of a stack that runs or not; return the backup's manifest.

    Raises:
        BackupError: the directory is not empty, a file can't be read, or the log is not here.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise BackupError(f"{directory} is not empty: choose a new directory")
    if (bus := state.running().get("bus", "embedded")) != "embedded":
        raise BackupError(
            f"the log of this stack is on {bus}, which is copied by its own means; see docs/how-to/kafka.md"
        )
    running = state.is_locked
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        beginnings = _beginnings(state.path)
        databases, plain = _sort(state.path, _LEFT_OUT + (_LEFT_OUT_WHILE_RUNNING if running else ()))
        for path in plain:  # before the journals: a snapshot that is copied then knows of no record that the copy lacks
            target = directory / path.relative_to(state.path)
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                shutil.copy2(path, target)
            except FileNotFoundError:
                continue  # a running stack has dropped it since
        _copy_databases(state.path, databases, directory)
        if _beginnings(state.path) != beginnings:
            raise BackupError("the beginning of a log was dropped meanwhile: make the backup again, in a new directory")
        names = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())
        manifest = {
            "format": FORMAT,
            "stack": state.running().get("stack", state.path.name),
            "version": __version__,
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "running": running,
            "files": {name: _described(directory / name) for name in names},
        }
        write_atomically(directory / MANIFEST, json.dumps(manifest, indent=1).encode())
    except (OSError, sqlite3.Error) as error:
        raise BackupError(f"the backup is not complete: {error}") from error
    return manifest


def read_manifest(directory: Path) -> dict[str, Any]:
    """Return a backup's manifest.

    Raises:
        BackupError: there is none, or another version wrote it.
    """
    try:
        manifest = json.loads((directory / MANIFEST).read_bytes())
        if manifest["format"] != FORMAT:
            raise BackupError(f"{directory} has format {manifest['format']}, this version reads {FORMAT}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackupError(f"{directory} holds no complete backup: {MANIFEST} is missing or damaged") from error
    return manifest


def verify(directory: Path) -> dict[str, Any]:
    """Check every file of a backup against its checksum; return the manifest.

    Raises:
        BackupError: something is missing or was changed.
    """
    manifest = read_manifest(directory)
    for name, described in manifest["files"].items():
        path = directory / name
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise BackupError(f"{directory} names a file outside itself: {name}")
        if not path.is_file():
            raise BackupError(f"{directory} lacks {name}: the backup is not complete")
        if _described(path) != described:
            raise BackupError(f"{path} is not what was backed up: its checksum differs")
    return manifest


def restore(directory: Path, state: StateDir) -> Path | None:
    """Put a verified backup in the place of a state directory; return where the old one was put.

    Raises:
        BackupError: the backup is damaged.
        StateError: the stack is up.
    """
    manifest = verify(directory)
    had_state = state.path.exists() and any(state.path.iterdir())
    if had_state:
        state.open()
        state.lock()
    try:
        fresh = state.path.with_name(f".{state.path.name}.restoring.{os.getpid()}")
        for name in manifest["files"]:
            target = fresh / name
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.copy2(directory / name, target)
            _sync(target)
        aside = None
        if had_state:
            aside = state.path.with_name(f"{state.path.name}.before-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
            os.replace(state.path, aside)
        os.replace(fresh, state.path)
        _sync(state.path.parent)
        return aside
    except OSError as error:
        raise BackupError(f"can't be restored: {error}") from error
    finally:
        state.unlock()


def _listed(root: Path) -> list[Path]:
    """Everything, the lake's logs first: a version that is copied then names no file that the copy lacks.

    `_last_checkpoint` is a hint that changes meanwhile, and is found without.
    """
    logs = [path for path in sorted(root.rglob("_delta_log/*")) if path.name != "_last_checkpoint"]
    return logs + [path for path in sorted(root.rglob("*")) if path.parent.name != "_delta_log"]


def _beginnings(root: Path) -> set[Path]:
    """Where logs begin: what a snapshot covers that is copied must not be dropped before the log is copied, too."""
    return set((root / "bus").glob("*/*/begins-*"))


def _sort(root: Path, left_out: tuple[str, ...]) -> tuple[list[Path], list[Path]]:
    databases: list[Path] = []
    plain: list[Path] = []
    for path in _listed(root):
        relative = path.relative_to(root)
        if relative.parts[0] in left_out or path.is_symlink() or not path.is_file():
            continue
        if path.name.endswith(("-wal", "-shm", "-journal")):
            continue  # the database's own backup holds what they hold
        with path.open("rb") as file:
            is_database = file.read(16) == _SQLITE_MAGIC
        (databases if is_database else plain).append(path)
    return sorted(databases, key=lambda path: _rank(path.relative_to(root).as_posix())), plain


def _rank(name: str) -> int:
    return next((number for number, last in enumerate(_LAST, 1) if last in name), 0)


def _copy_databases(root: Path, databases: list[Path], directory: Path) -> None:
    with ExitStack() as stack:
        sources: list[tuple[Path, sqlite3.Connection]] = []
        for path in databases:  # every snapshot is taken before any is copied, so that they are of one instant
            if not path.exists():
                continue  # a running stack has dropped it since
            uri = f"{path.absolute().as_uri()}?mode=rw"  # it must not be made anew here
            source = stack.enter_context(closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30)))
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM sqlite_master").fetchone()
            sources.append((path, source))
        for path, source in sources:
            target = directory / path.relative_to(root)
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with closing(sqlite3.connect(target)) as copy:
                source.backup(copy)
                (mode,) = source.execute("PRAGMA journal_mode").fetchone()
                copy.execute(f"PRAGMA journal_mode = {mode}")  # a journal is written only where it has its -wal file
            _sync(target)


def _described(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": path.stat().st_size}


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
