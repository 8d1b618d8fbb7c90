"""The lake: files of its tables from a folder to a bucket; what a version names first, the versions after it, in order."""

from collections.abc import Sequence
from pathlib import Path

from trade2026.local.migration.log import Told
from trade2026.local.migration.moves import MigrationRefused
from trade2026.stores.objects import Objects

_MARK = "migration.json"
"""In the bucket: of which move its tables are."""
_LOG = "_delta_log"


def files_of(root: Path) -> list[Path]:
    """Paths below the root: data, then the logs of versions by their numbers; the hint at the last checkpoint ends it."""
    found = [path.relative_to(root) for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    return sorted(found, key=lambda path: (_LOG in path.parts, path.name.startswith("_"), path.as_posix()))


def move(root: Path, bucket: Objects, move_id: str, told: Told) -> int:
    """Copy what is missing; return how many files that were.

    Raises:
        MigrationRefused: the bucket holds tables that are not of this move.
        LakeError
    """
    files = files_of(root)
    if bucket.read(_MARK) != move_id.encode():
        _require_none(files, bucket)
        bucket.put(_MARK, move_id.encode())
    copied = 0
    for number, path in enumerate(files, 1):
        if not _is_copied(root, path, bucket):
            bucket.copy_from(root / path, path.as_posix())
            copied += 1
        told("lake", number, len(files))
    return copied


def compare(root: Path, bucket: Objects, told: Told) -> int:
    """See that each file is the same here and there; return how many they are.

    Raises:
        MigrationRefused: one differs or is missing.
        LakeError
    """
    files = files_of(root)
    for number, path in enumerate(files, 1):
        if not bucket.is_same(root / path, path.as_posix()):
            raise MigrationRefused(f"{bucket.root}/{path} is not {root / path}: start the move again")
        told("lake compared", number, len(files))
    return len(files)


def _is_copied(root: Path, path: Path, bucket: Objects) -> bool:
    """The name of a file of data is its own for ever; what is in a log is looked at."""
    if _LOG in path.parts:
        return bucket.is_same(root / path, path.as_posix())
    return bucket.size(path.as_posix()) == (root / path).stat().st_size


def _require_none(files: Sequence[Path], bucket: Objects) -> None:
    """A table that is there has the first version, or one of those that ours has."""
    tables = {path.parent for path in files if path.parent.name == _LOG} | {
        Path(name) / _LOG for name in ("ticks", "books", "bars")
    }
    versions = [path for path in files if path.parent in tables] + [table / f"{0:020d}.json" for table in tables]
    for path in versions:
        if bucket.size(path.as_posix()) >= 0:
            raise MigrationRefused(
                f"{bucket.root} holds a table that is not of this move ({path.parent.parent}): name another prefix "
                "in spec.stores.lake"
            )
