"""Scopes that were stopped at the venue itself: in memory first, then in a file that a restart reads."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from trade2026.gateway.commands import Kill
from trade2026.kit.identity import ConfigurationError

_decode = msgspec.json.Decoder(dict[str, Kill]).decode


class Kills(Mapping[str, Kill]):
    """Kills and halts by scope.

    Args:
        path: Where the latches are kept; None keeps them in memory only.

    Raises:
        ConfigurationError: the file cannot be read, so the venue does not start.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.latched: dict[str, Kill] = {}
        self.unkept = ""
        """Why the file does not say what holds; empty while it does."""
        if path is not None and path.exists():
            try:
                self.latched = _decode(path.read_bytes())
            except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise ConfigurationError(
                    f"{path} says which scopes are stopped and cannot be read ({error}): nobody may trade on a guess. "
                    "Restore it from a backup, or, if you know that nothing is stopped, move it away"
                ) from error

    def __getitem__(self, scope: str) -> Kill:
        return self.latched[scope]

    def __iter__(self) -> Iterator[str]:
        return iter(self.latched)

    def __len__(self) -> int:
        return len(self.latched)

    def latch(self, scope: str, kill: Kill) -> None:
        """Stop a scope: it holds at once, whatever becomes of the file. A halt does not weaken a kill.

        Raises:
            OSError: it holds until the process ends, but could not be kept.
        """
        before = self.latched.get(scope)
        if kill.halt and before is not None and not before.halt:
            kill = msgspec.structs.replace(before, ts=kill.ts)
        self.latched[scope] = kill
        self._keep()

    def release(self, scope: str) -> bool:
        """Let a scope trade again at once, and return whether it was stopped; see `unkept`."""
        if self.latched.pop(scope, None) is None:
            return False
        with contextlib.suppress(OSError):
            self._keep()
        return True

    def keep_again(self) -> None:
        """Write the file if it could not be written before; see `unkept`."""
        if self.unkept:
            with contextlib.suppress(OSError):
                self._keep()

    def release_older(self, scope: str, ts: int) -> bool:
        """Release a scope that was stopped before `ts` (ns)."""
        kill = self.latched.get(scope)
        return kill is not None and kill.ts < ts and self.release(scope)

    def _keep(self) -> None:
        if self.path is None:
            return
        try:
            self._write(self.path)
        except OSError as error:
            self.unkept = str(error)
            raise
        self.unkept = ""

    def _write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            file.write(msgspec.json.encode(self.latched))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
