"""How much memory a process has and may have: one that takes more is killed, and is killed again while it recovers."""

import os
from pathlib import Path
from typing import NamedTuple

_ROOT = Path("/sys/fs/cgroup")
_UNLIMITED_BYTES = 1 << 60
"""Version 1 of control groups writes a number beyond it where nothing limits it."""
SHARE_MAX = 0.75
"""Of what a process may have, that is taken before new work is refused: recovery takes a little more than what it makes."""


class Memory(NamedTuple):
    """Bytes that a process has, and may have; 0 where nothing limits it."""

    resident: int
    limit: int


UNLIMITED = Memory(0, 0)


def memory_limit_bytes(root: Path = _ROOT) -> int:
    """0 where nothing limits it or that can't be read. In a container its own, of either version."""
    try:
        place = root / "memory.max"
        text = (place if place.exists() else root / "memory" / "memory.limit_in_bytes").read_text().strip()
        found = int(text) if text != "max" else 0
    except (OSError, ValueError):
        return 0
    return found if 0 < found < _UNLIMITED_BYTES else 0


def resident_bytes() -> int:
    """What this process has."""
    with open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def low_memory(memory: Memory) -> str:
    """Why no more work may be taken; empty while it may."""
    resident, limit = memory
    most = int(limit * SHARE_MAX)
    if not limit or resident <= most:
        return ""
    return f"{resident >> 20} of {limit >> 20} MiB are in use, new orders need {(limit - most) >> 20} MiB to be free"
