"""A thread is in another process's network for a while, and then is not."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from trade2026.local.cluster.network import join, joined
from trade2026.local.cluster.place import ClusterError

_NETWORK = "/proc/thread-self/ns/net"


@pytest.fixture
def apart() -> Iterator[int]:
    """A process with a network of its own."""
    words = ["unshare", "--net", sys.executable, "-c", "print('there', flush=True); input()"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if process.stdout.readline() != b"there\n":
            pytest.skip("a network of one's own needs root")
        yield process.pid
        process.stdin.close()


def test_what_a_block_starts_is_in_the_network_and_what_comes_after_is_not(apart: int) -> None:
    before, there = os.readlink(_NETWORK), os.readlink(f"/proc/{apart}/ns/net")
    seen: list[str] = []
    with joined(apart):
        seen.append(os.readlink(_NETWORK))
        thread = threading.Thread(target=lambda: seen.append(os.readlink(_NETWORK)))
        thread.start()
        thread.join()
        seen.append(subprocess.run(["readlink", "/proc/self/ns/net"], capture_output=True, text=True).stdout.strip())
    assert seen == [there] * 3
    assert os.readlink(_NETWORK) == before != there


def test_other_threads_stay_where_they_are(apart: int) -> None:
    before = os.readlink(_NETWORK)
    thread = threading.Thread(target=lambda: join(apart))
    thread.start()
    thread.join()
    assert os.readlink(_NETWORK) == before


def test_a_process_that_has_ended_can_not_be_joined() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    with pytest.raises(ClusterError, match="can't be joined"):
        join(process.pid)
