"""How much room is left: what a service asks before it promises to write."""

import os
from pathlib import Path


def free_bytes(path: Path) -> int:
    """Bytes that we may still write where `path` lies.

    Raises:
        OSError: there is no such directory, or it cannot be read.
    """
    stat = os.statvfs(path)
    return stat.f_bavail * stat.f_frsize
