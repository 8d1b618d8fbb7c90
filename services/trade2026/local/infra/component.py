"""One program of others as a process of ours: started, watched until it answers, never left behind."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path

HOST = "127.0.0.1"
READY_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 15.0
_POLL_SECONDS = 0.05
_LOG_LINES_SHOWN = 5
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class InfraError(Exception):
    """A component can't be fetched or started; the message says what to do."""


class Component(ABC):
    """A program with its files under one folder. Blocking: an event loop asks it in a thread.

    It ends with the thread that started it, however that ends, so start it from one that lives on.

    Args:
        folder: What it keeps, and its log; made if it is missing. A later start goes on with what is there.
        port: On which it answers; 0 takes a free one, once for all starts.
        host: Its address, by which clients find it, too. Nothing here asks who they are: keep to loopback, or to a
            network of which that is known.
    """

    name = ""
    stop_seconds_max = STOP_SECONDS_MAX
    """After it was asked to end; then it is ended."""

    def __init__(self, folder: Path, port: int = 0, *, host: str = HOST) -> None:
        self.folder = folder
        self.host = host
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """HOST:PORT of what a client asks."""
        return f"{self.host}:{self.port}"

    @property
    def log(self) -> Path:
        """What it says."""
        return self.folder / f"{self.name}.log"

    @property
    def pid(self) -> int | None:
        """Of the process while it lives."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    @abstractmethod
    def prepare(self) -> None:
        """Write its configuration and whatever its first start needs. Idempotent."""

    @abstractmethod
    def command(self) -> list[str]:
        """What runs it.

        Raises:
            InfraError: a part of it is missing.
        """

    def answers(self) -> bool:
        """Whether it takes requests now."""
        with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), timeout=1):
            return True
        return False

    def start(self) -> None:
        """Start it and return when it answers.

        Raises:
            InfraError: it did not come up; its log's last lines are in the message.
        """
        if self.pid is not None:
            return
        if self.answers():
            raise InfraError(f"{self.name}: another program listens on {self.address}; stop it, or choose another port")
        try:
            self._process = process = self._spawned()
        except OSError as error:
            raise InfraError(f"{self.name} can't be started: {error}") from error
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not self.answers():
            if process.poll() is not None:
                raise InfraError(f"{self.name} ended with {process.returncode}: {self._last_words()}")
            if time.monotonic() > deadline:
                self.kill()
                raise InfraError(f"{self.name} does not answer on {self.address}: {self._last_words()}")
            time.sleep(_POLL_SECONDS)

    def fetch(self) -> None:
        """Have all that it is made of. Raises `InfraError`: something is missing; the message says what to do."""
        self.command()

    def _spawned(self) -> "subprocess.Popen[bytes]":
        self.folder.mkdir(parents=True, exist_ok=True)
        command = self.command()
        self.prepare()
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    def stop(self) -> None:
        """Ask it to end, and end it if it does not. Idempotent."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(self.stop_seconds_max)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """`kill -9`, and wait until it is gone: its socket may accept once more before."""
        process = self._process
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()

    def pause(self) -> None:
        """Let it hang (SIGSTOP) until `go_on`."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it run again (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self.pid is not None, f"{self.name} does not run"
        os.kill(self.pid, number)

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = self.log.read_text(errors="replace").strip().splitlines()[-_LOG_LINES_SHOWN:]
            return f"{' / '.join(lines)} (all of it: {self.log})"
        return "it said nothing"


def free_port() -> int:
    """A port on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
