"""Watches whose connections died without a word: open at both ends, and nothing arrives any more."""

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from e2e.api_server import ApiServer, programs_or_skip, running
from e2e.beside import logs
from e2e.cluster import wait_for
from e2e.desk import ROOT, manifest
from e2e.soak import IS_SOAK

from trade2026_operator.handlers.watches import WATCHED

IDLE_SECONDS = 4.0
"""A connection on which the operator has asked nothing for so long is a watch: the Lease is renewed every two seconds."""
QUIET_SECONDS = 18
"""Of the quick test. Longer than an idle connection is kept for another request."""
IMPATIENT = f"""
from trade2026_operator import __main__, operator
ours = operator.settings
def impatient(**words):
    found = ours(**words)
    found.watching.inactivity_timeout = {QUIET_SECONDS}
    return found
operator.settings = impatient
__main__.main()
"""
"""The operator, that waits for a quarter of the time."""


@dataclass
class Connection:
    """Attributes:
    asked_at: When the operator has sent something last.
    """

    sockets: tuple[socket.socket, socket.socket]
    asked_at: float = field(default_factory=time.monotonic)
    is_silent: bool = False


class Wire:
    """What is between the operator and the API server. As a router that forgets who is idle, it swallows what comes."""

    def __init__(self, server: int) -> None:
        self._server, self.connections = server, list[Connection]()
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._door.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def forget_the_idle(self) -> int:
        """Swallow from now on what either end of an idle connection sends; how many there are."""
        long_ago = time.monotonic() - IDLE_SECONDS
        idle = [each for each in self.connections if each.asked_at < long_ago]
        for each in idle:
            each.is_silent = True
        return len(idle)

    def close(self) -> None:
        self._door.close()
        for each in self.connections:
            for end in each.sockets:
                end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._door.accept()
                made = Connection((near, socket.create_connection(("127.0.0.1", self._server))))
                self.connections.append(made)
                for number in (0, 1):
                    threading.Thread(target=self._carry, args=(made, number), daemon=True).start()

    def _carry(self, connection: Connection, number: int) -> None:
        here, there = connection.sockets[number], connection.sockets[1 - number]
        with suppress(OSError):
            while piece := here.recv(1 << 16):
                if number == 0:
                    connection.asked_at = time.monotonic()
                if not connection.is_silent:
                    there.sendall(piece)
        if not connection.is_silent:
            if connection in self.connections:
                self.connections.remove(connection)
            for end in connection.sockets:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def server() -> Iterator[tuple[ApiServer, Path]]:
    found = programs_or_skip()
    with tempfile.TemporaryDirectory() as folder, running(found, Path(folder)) as made:
        for crd in sorted((ROOT / "crds").glob("*.yaml")):
            assert made.kubectl("apply", "--server-side", "-f", str(crd))[0]
        yield made, found / "helm"


def test_watches_that_tell_nothing_any_more_are_opened_anew_by_the_same_operator(
    server: tuple[ApiServer, Path], tmp_path: Path
) -> None:
    api_server, helm = server
    with closing(Wire(_port_of(api_server.kubeconfig))) as wire:
        beyond = _through(api_server.kubeconfig, wire, tmp_path / "wire.conf")
        with _operator(beyond, helm, tmp_path / "operator.log") as operator:
            _kubectl(api_server, "apply", "-f", "-", given=manifest())
            wait_for("it is made", lambda: _has_service(api_server))
            last = _kubectl(api_server, "get", "services", "--output=name")
            time.sleep(IDLE_SECONDS + 1)
            assert wire.forget_the_idle() >= len(WATCHED)
            _kubectl(api_server, "delete", "service", "desk-oms")
            began = time.monotonic()
            while time.monotonic() < began + 2:
                assert not _has_service(api_server), "it has heard of it: this proves nothing"
            wait_for("it is back", lambda: _has_service(api_server))
            print(f"back {time.monotonic() - began:.1f} s after the wire fell silent")
            assert _kubectl(api_server, "get", "services", "--output=name") == last
            assert operator.poll() is None


@contextmanager
def _operator(kubeconfig: Path, helm: Path, log: Path) -> "Iterator[subprocess.Popen[bytes]]":
    patient = IS_SOAK
    program = ["-m", "trade2026_operator"] if patient else ["-c", IMPATIENT]
    words = ["--kubeconfig", str(kubeconfig), "--namespace", "default", "--helm", str(helm)]
    words += ["--identity", secrets.token_hex(4)]
    paths = os.pathsep.join([str(ROOT / "services"), str(ROOT / "operators")])
    logs.append(log)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *program, *words],
            env=os.environ | {"PYTHONPATH": paths},
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _port_of(kubeconfig: Path) -> int:
    return int(_read(kubeconfig)["clusters"][0]["cluster"]["server"].rpartition(":")[2])


def _through(kubeconfig: Path, wire: Wire, path: Path) -> Path:
    """The same kubeconfig, by the wire."""
    document = _read(kubeconfig)
    document["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{wire.port}"
    path.touch(mode=0o600)
    path.write_text(json.dumps(document))
    return path


def _read(kubeconfig: Path) -> dict[str, Any]:
    return json.loads(kubeconfig.read_text())


def _kubectl(server: ApiServer, *words: str, given: Any = None) -> str:
    succeeded, said = server.kubectl(*words, given=given)
    assert succeeded, said
    return said


def _has_service(server: ApiServer) -> bool:
    return server.kubectl("get", "service", "desk-oms")[0]
