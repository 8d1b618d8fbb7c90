"""A disk that can be filled: a small tmpfs where we may mount one, else a bus and a gauge that say so."""

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trade2026.kit.bus.port import BusFull
from trade2026.kit.bus.sqlite import SqliteBus

DISK_BYTES = 192 * 1024 * 1024
"""Each journal's write-ahead log may take 4 MiB before it is moved, and a stack has a dozen."""


def _mounted(path: Path) -> bool:
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(path)]
    try:
        return subprocess.run(mount, capture_output=True).returncode == 0
    except OSError:
        return False


class SmallDisk:
    """A directory whose free space is ours to take.

    Attributes:
        real: Whether it is a file system of its own.
    """

    def __init__(self, path: Path, *, simulated: bool = False) -> None:
        self.path = path
        path.mkdir(parents=True)
        self.real = not simulated and _mounted(path)
        self._ballast = path / "ballast"
        self._free: int | None = None

    def leave(self, free: int) -> None:
        """Take all room but so many bytes."""
        if not self.real:
            self._free = free
            return
        if free:
            self._ballast.unlink(missing_ok=True)
            stat = os.statvfs(self.path)
            self._ballast.write_bytes(b"\0" * max(0, stat.f_bavail * stat.f_frsize - free))
            return
        with self._ballast.open("ab", buffering=0) as file:
            for size in (1024 * 1024, 4096):
                with contextlib.suppress(OSError):
                    while file.write(b"\0" * size):
                        pass

    def release(self) -> None:
        """Give all room back."""
        self._free = None
        self._ballast.unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount it."""
        self.release()
        if self.real:
            subprocess.run(["umount", "-l", str(self.path)], check=True)

    # ── where nothing may be mounted ────────────────────────────────────────────────────────

    def free_bytes(self, _: Path) -> int:
        """What services are told."""
        return DISK_BYTES if self._free is None else self._free

    def bus(self, settings: Any) -> SqliteBus | None:
        """A bus that refuses to write while there is no room; None where the disk itself does."""
        if self.real:
            return None
        bus = SqliteBus(settings.state / "bus", settings.topics)
        claim = bus.claim

        async def claim_if_there_is_room(topic: str, partition: int, owner: str) -> Any:
            self._check(topic)
            writer = await claim(topic, partition, owner)
            writer.append = self._appending(topic, writer.append)  # type: ignore[method-assign]
            return writer

        bus.claim = claim_if_there_is_room  # type: ignore[method-assign]
        return bus

    def _check(self, topic: str) -> None:
        if self._free == 0:
            raise BusFull(f"{topic}: the disk is full, nothing was written; make room")

    def _appending(self, topic: str, append: Callable[[Sequence[bytes]], Any]) -> Callable[[Sequence[bytes]], Any]:
        def append_if_there_is_room(bodies: Sequence[bytes]) -> Any:
            try:
                self._check(topic)
            except BusFull as error:
                refused = asyncio.get_running_loop().create_future()
                refused.set_exception(error)
                return refused
            return append(bodies)

        return append_if_there_is_room
