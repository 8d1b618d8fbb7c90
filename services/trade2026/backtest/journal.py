"""What a run writes: one file a topic, a record a line, the same bytes in every run.

A run that was interrupted is run again: what is on disk is compared byte for byte, and gone on after. So
the half that was there before the interruption is proven, not believed.
"""

import hashlib
import os
from pathlib import Path
from typing import BinaryIO


class NotReproducible(Exception):
    """The run does otherwise than the one that it continues; a strategy decides by something that is not `ctx`."""


class TopicFile:
    """The records of one topic."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records = 0
        self.compared = 0
        """Records that were there already."""
        self._digest = hashlib.sha256()
        path.touch()
        _cut_last_line(path)
        self._before: BinaryIO | None = path.open("rb")
        self._after = path.open("ab")

    def add(self, body: bytes) -> None:
        """Write the next record, or compare it with the one that is there.

        Raises:
            NotReproducible: another one is there.
        """
        line = body + b"\n"
        self._digest.update(line)
        self.records += 1
        if self._before is not None:
            there = self._before.read(len(line))
            if there == line:
                self.compared += 1
                return
            if there:
                raise NotReproducible(f"{self.path.name}, line {self.records}: {there[:200]!r} was there, now {line!r}")
            self._before.close()
            self._before = None
        self._after.write(line)

    def close(self) -> str:
        """Make everything durable; return the SHA-256 of the file.

        Raises:
            NotReproducible: there are more records than this run has made.
        """
        if self._before is not None:
            more = self._before.read(1)
            self._before.close()
            if more:
                raise NotReproducible(f"{self.path.name} has more than the {self.records} records of this run")
        self._after.flush()
        os.fsync(self._after.fileno())
        self._after.close()
        return self._digest.hexdigest()

    def flush(self) -> None:
        """Hand what was written to the system: a kill does not lose it."""
        self._after.flush()


def _cut_last_line(path: Path) -> None:
    """A kill leaves half a line: it was never written."""
    with path.open("rb+") as file:
        content_end = file.seek(0, os.SEEK_END)
        at = content_end
        while at:
            step = min(at, 64 * 1024)
            file.seek(at - step)
            newline = file.read(step).rfind(b"\n")
            if newline >= 0:
                at = at - step + newline + 1
                break
            at -= step
        if at != content_end:
            file.truncate(at)
