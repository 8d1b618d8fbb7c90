"""The cluster's network, which a thread joins. Files and signals stay the caller's."""

import contextlib
import ctypes
import os
from collections.abc import Iterator

from trade2026.local.cluster.place import ClusterError

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def join(pid: int) -> None:
    """Move the calling thread, and every process and thread that it starts from now on, into a process's network.

    Raises:
        ClusterError: the process has ended, or may not be joined.
    """
    _set(f"/proc/{pid}/ns/net")


@contextlib.contextmanager
def joined(pid: int) -> Iterator[None]:
    """The same for the time of a block."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        join(pid)
        try:
            yield
        finally:
            _set_descriptor(before, "the network before")
    finally:
        os.close(before)


def _set(path: str) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ClusterError(f"the cluster's network can't be joined: {path}: {error.strerror}") from error
    try:
        _set_descriptor(descriptor, path)
    finally:
        os.close(descriptor)


def _set_descriptor(descriptor: int, what: str) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise ClusterError(f"{what} can't be joined ({os.strerror(ctypes.get_errno())}): this needs root")
