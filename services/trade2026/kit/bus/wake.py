"""How a reader learns that a partition has grown: it is told, in its own process or across processes.

Every process that follows a partition binds one Unix datagram socket in the partition's `wake` folder; the
writer sends one byte to each socket there after a commit. A byte says "look again" and nothing else, so a
lost one among many does no harm.
"""

import asyncio
import contextlib
import hashlib
import logging
import os
import secrets
import socket
import tempfile
import time
from pathlib import Path

log = logging.getLogger(__name__)

_SOCKET_PATH_BYTES_MAX = 100
_NAME_BYTES = 16
_LOOK_SECONDS = 1.0
"""How often a process looks whether its sockets are still there."""
_LISTING_SETTLED_NS_MIN = 100_000_000


class Waiters:
    """The readers of this process that wait for a partition to grow."""

    def __init__(self) -> None:
        self._futures: dict[asyncio.Future[None], None] = {}
        """In the order of their coming: who is woken first must not depend on addresses."""

    async def wait(self) -> None:
        """Wait for the next `wake`; whoever looked before, without an await in between, misses nothing."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._futures[future] = None
        try:
            await future
        finally:
            self._futures.pop(future, None)

    def wake(self) -> None:
        """Let everyone look again."""
        for future in self._futures:
            if not future.done():
                future.set_result(None)


class FolderListing:
    """The names in a folder, read again only when the folder has changed.

    A folder's time of change is coarse: a listing made right after a change may miss the next one, so it
    is not kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = os.fspath(folder)
        self._names: list[str] = []
        self._changed_ns = -1

    def names(self) -> list[str]:
        """Sorted; empty while there is no such folder."""
        try:
            changed_ns = os.stat(self._path).st_mtime_ns
            if changed_ns != self._changed_ns:
                settled = time.time_ns() - changed_ns > _LISTING_SETTLED_NS_MIN
                self._names = sorted(os.listdir(self._path))
                self._changed_ns = changed_ns if settled else -1
        except FileNotFoundError:
            self._names, self._changed_ns = [], -1
        return self._names

    def forget(self) -> None:
        """Read the folder the next time in any case."""
        self._changed_ns = -1


class Wakes:
    """Both ends of waking for one partition, in one process: `listen` and `Waiters.wait`, or `notify`."""

    def __init__(self, partition_folder: Path) -> None:
        self.waiters = Waiters()
        self.folder = _socket_folder(partition_folder)
        self._listing = FolderListing(self.folder)
        self._name = ""
        self._inbox: socket.socket | None = None
        self._outbox: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._looking: asyncio.TimerHandle | None = None

    def listen(self) -> None:
        """Be told of what other processes write, from now on. Idempotent."""
        if self._inbox is not None:
            return
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.folder.stat().st_uid != os.getuid():
            raise PermissionError(f"{self.folder} belongs to another user")
        name = secrets.token_hex(_NAME_BYTES // 2)
        inbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        inbox.setblocking(False)
        inbox.bind(os.fspath(self.folder / name))
        self._inbox, self._name = inbox, name
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(inbox.fileno(), self._woken)
        self._looking = self._loop.call_later(_LOOK_SECONDS, self._look)

    def notify(self) -> None:
        """Wake every reader, here and in other processes. Never blocks."""
        self.waiters.wake()
        for name in self._listing.names():
            if name != self._name:
                self._send(name)

    def close(self) -> None:
        """Let the sockets go, and wake who still waits. Idempotent."""
        self._stop_listening()
        if self._outbox is not None:
            self._outbox.close()
            self._outbox = None
        self.waiters.wake()

    def _stop_listening(self) -> None:
        if self._inbox is None or self._loop is None or self._looking is None:
            return
        self._looking.cancel()
        if not self._loop.is_closed():
            self._loop.remove_reader(self._inbox.fileno())
        self._inbox.close()
        self._inbox = None
        (self.folder / self._name).unlink(missing_ok=True)

    def _look(self) -> None:
        """Listen again where the socket was deleted: nobody would wake us any more, and nothing would say so."""
        assert self._loop is not None
        path = self.folder / self._name
        if path.exists() or not self.folder.parent.is_dir():  # without its parent the log itself was taken away
            self._looking = self._loop.call_later(_LOOK_SECONDS, self._look)
            return
        log.warning("%s was deleted: listening again", path)
        self._stop_listening()
        try:
            self.listen()
        except OSError as error:
            log.error("%s: nobody can wake this process: %s", self.folder, error)
        self.waiters.wake()

    def _woken(self) -> None:
        assert self._inbox is not None
        with contextlib.suppress(BlockingIOError):
            while True:
                self._inbox.recv(1)
        self.waiters.wake()

    def _send(self, name: str) -> None:
        if self._outbox is None:
            self._outbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._outbox.setblocking(False)
        path = f"{self.folder}/{name}"
        try:
            self._outbox.sendto(b"\n", path)
        except BlockingIOError:
            pass  # its inbox is full of the same message
        except ConnectionRefusedError:
            Path(path).unlink(missing_ok=True)  # its process has died
        except OSError:
            self._listing.forget()


def _socket_folder(partition_folder: Path) -> Path:
    """In the partition, or where a path is short enough for a socket; the same in every process."""
    folder = partition_folder.resolve() / "wake"
    if len(os.fsencode(folder)) + 1 + _NAME_BYTES <= _SOCKET_PATH_BYTES_MAX:
        return folder
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"trade2026-{os.getuid()}-{digest}"
