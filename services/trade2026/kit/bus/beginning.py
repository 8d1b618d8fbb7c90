"""Where a partition on the disk begins: an empty file in its folder says so by its name, before anything is removed.

So whoever drops the beginning can be killed between any two steps: until the name is there all is kept, and from then
on nobody looks for what lies before it, whether it is still there or not. A segment that is gone without such a name
was lost, and is missed.
"""

import os
from bisect import bisect_right
from collections.abc import Iterable
from pathlib import Path

from trade2026.kit.bus.files import segment_files, segments_in, sync_folder

_PREFIX = "begins-"


def beginning_in(names: Iterable[str]) -> int:
    """Where a partition begins by the names in its folder; 0 if nothing was ever dropped on purpose."""
    return max(_beginnings_in(names), default=0)


def drop_before(folder: Path, seq: int) -> None:
    """Drop the whole segments that lie before a position. For any thread. Raises `OSError`."""
    names = os.listdir(folder) if folder.is_dir() else []
    segments = segments_in(names)
    index = bisect_right(segments, seq) - 1
    if index >= 0 and segments[index] > beginning_in(names):
        _marker(folder, segments[index]).touch()
        sync_folder(folder)  # durable before the first file goes: else a power cut could leave a hole
    _remove_dropped(folder)


def _remove_dropped(folder: Path) -> None:
    """Also what somebody who was killed has left."""
    names = os.listdir(folder) if folder.is_dir() else []
    beginning = beginning_in(names)
    paths = [path for segment in segments_in(names) if segment < beginning for path in segment_files(folder, segment)]
    paths += [_marker(folder, older) for older in _beginnings_in(names) if older < beginning]
    for path in paths:
        path.unlink(missing_ok=True)


def _beginnings_in(names: Iterable[str]) -> list[int]:
    return [int(name.removeprefix(_PREFIX)) for name in names if name.startswith(_PREFIX)]


def _marker(folder: Path, seq: int) -> Path:
    return folder / f"{_PREFIX}{seq:020d}"
