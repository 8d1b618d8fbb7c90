"""The state directory of one stack: who holds it, in which format it is, and where what lies in it."""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import stat
import tempfile
import time
from pathlib import Path
from typing import Any

FORMAT = 1
"""Format of the directory; a later one is refused, an earlier one is upgraded on opening."""
LOG_BYTES_MAX = 16 * 1024 * 1024
LOGS_KEPT = 3
_SOCKET_PATH_BYTES_MAX = 100
"""The kernel takes 108; some room for suffixes."""


class StateError(Exception):
    """The directory can't be used; the message says why and what to do."""


class Held(StateError):
    """Another process has the directory."""

    def __init__(self, path: Path, holder: int) -> None:
        super().__init__(
            f"{path} is in use{f' by process {holder}' if holder else ''}: stop it with "
            f"`trade2026 down --state-dir {path}`, or give this one another --state-dir and --port-offset"
        )
        self.path = path


class StateDir:
    """Paths and rules of one stack's state directory."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.run = self.path / "run"
        self.logs = self.path / "logs"
        self._lock: int | None = None

    def open(self, stack: str = "") -> None:
        """Create the directory if need be, and check its format.

        Args:
            stack: Name of the stack that will run here; empty where that does not matter.

        Raises:
            StateError: it was written by another version, holds another stack, or can't be written.
        """
        try:
            for path in (self.path, self.run, self.logs):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StateError(f"{error.filename} can't be made: {error.strerror}; choose another --state-dir") from error
        version = self.path / "VERSION"
        try:
            found = int(version.read_text().strip())
        except FileNotFoundError:
            write_atomically(version, f"{FORMAT}\n".encode())
            return
        except ValueError as error:
            raise StateError(f"{version} does not hold a number: this is no state directory of trade2026") from error
        if found != FORMAT:
            raise StateError(
                f"{self.path} has format {found}, this version reads {FORMAT}: install the version that wrote it, "
                "or choose another --state-dir"
            )
        held = self.running().get("stack", stack)
        if stack and held != stack:
            raise StateError(f"{self.path} holds the stack {held!r}, not {stack!r}: choose another --state-dir")

    def lock(self) -> None:
        """Take the directory for this process, until it ends.

        Raises:
            Held: somebody else has it; the message says who.
        """
        handle = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            raise Held(self.path, self.holder()) from error
        os.truncate(handle, 0)
        os.write(handle, json.dumps({"pid": os.getpid(), "since": time.time()}).encode())
        self.unlock()  # of one that was taken away
        self._lock = handle

    def holds_lock(self) -> bool:
        """Whether the file that keeps others out is still ours: not if it was deleted or replaced."""
        try:
            there = (self.path / "lock").stat()
        except FileNotFoundError:
            return False
        return self._lock is not None and os.path.samestat(there, os.fstat(self._lock))

    def unlock(self) -> None:
        """Let the directory go. Idempotent."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def is_locked(self) -> bool:
        """Whether a process, this one included, has the directory."""
        try:
            handle = os.open(self.path / "lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(handle)
        return False

    def holder(self) -> int:
        """Process id of who has, or last had, the directory; 0 if nobody did."""
        try:
            return int(json.loads((self.path / "lock").read_text())["pid"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    @property
    def socket(self) -> Path:
        """Where the runner is spoken to: in the directory, or in a private short one if its path is too long."""
        wanted = self.run / "control.sock"
        if len(os.fsencode(wanted)) <= _SOCKET_PATH_BYTES_MAX:
            return wanted
        private = Path(tempfile.gettempdir()) / f"trade2026-{os.getuid()}"
        private.mkdir(mode=0o700, exist_ok=True)
        status = private.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
            raise StateError(f"{private} belongs to others: remove it, or choose a shorter --state-dir")
        return private / f"{hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]}.sock"

    def settings(self, release: str) -> Path:
        """The settings of a release's process."""
        return self.run / f"{release}.json"

    def log(self, name: str) -> Path:
        """The log file of a release, or of the runner."""
        return self.logs / f"{name}.log"

    def write_running(self, record: dict[str, Any]) -> None:
        """Say what runs here (ports, releases), for those who only read the directory."""
        write_atomically(self.run / "stack.json", json.dumps(record, indent=1).encode())

    def running(self) -> dict[str, Any]:
        """What runs or last ran here; empty if nothing did."""
        try:
            found = json.loads((self.run / "stack.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file in one piece, readable only by its owner."""
    # Not by the process's number: in a pod, processes that share a directory all have the same one.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def rotate(log: Path) -> None:
    """Put a log aside if it has grown beyond `LOG_BYTES_MAX`; `LOGS_KEPT` old ones stay.

    It is copied and emptied, since a living process goes on writing to it (in append mode); what is written
    between the two is lost. Raises `OSError`.
    """
    if not log.exists() or log.stat().st_size <= LOG_BYTES_MAX:
        return
    for number in range(LOGS_KEPT - 1, 0, -1):
        older = log.with_name(f"{log.name}.{number}")
        if older.exists():
            os.replace(older, log.with_name(f"{log.name}.{number + 1}"))
    shutil.copyfile(log, log.with_name(f"{log.name}.1"))
    os.truncate(log, 0)


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log, for a person: of a line of JSON its level and message, the same one once."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 32_768))
            found = file.read().decode("utf-8", "replace").splitlines()[-lines:]
    except OSError:
        return ""
    return "\n".join(dict.fromkeys(map(_plain, found)))


def _plain(line: str) -> str:
    try:
        said = json.loads(line)
        return "\n".join([f"{said['level']}: {said['message']}", *filter(None, [said.get("error")])])
    except (ValueError, KeyError, TypeError, AttributeError):
        return line
