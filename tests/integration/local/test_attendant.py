"""What a stack asks of others is started with it, started again when it dies, and stopped at the end."""

import os
import signal
import socket
import sys
from pathlib import Path

import pytest
from tests.waiting import until

from trade2026.local.infra.attendant import Attendant
from trade2026.local.infra.component import Component, InfraError
from trade2026.local.preparation import RunError
from trade2026.local.runner import Runner
from trade2026.local.state import StateDir

_SERVE = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(600)"


class Server(Component):
    """Listens, and nothing else."""

    name = "server"

    def prepare(self) -> None:
        pass

    def command(self) -> list[str]:
        return [sys.executable, "-c", _SERVE, str(self.port)]


class Missing(Server):
    def command(self) -> list[str]:
        raise InfraError("Java 17 or newer is missing")


async def test_a_component_that_dies_is_started_again(tmp_path: Path) -> None:
    said: list[str] = []
    component = Server(tmp_path)
    attendant = Attendant([component], said.append)
    await attendant.start()
    first = component.pid
    assert first is not None and attendant.status()[0]["address"] == component.address
    os.kill(first, signal.SIGKILL)
    await until(lambda: component.pid not in (None, first) and component.answers(), "another process")
    await attendant.stop()
    assert component.pid is None
    assert [line.partition(";")[0] for line in said] == [
        f"server: starting on {component.address}",
        "server: died, starting it again",
        "server: stopping",
    ]


_END_TOGETHER = """
import pathlib, signal, socket, sys, time
here, other = map(pathlib.Path, sys.argv[2:])
def end(*_):
    (here / "asked").touch()
    while not (other / "asked").exists():
        time.sleep(0.05)
    (here / "ended").touch()
    sys.exit()
signal.signal(signal.SIGTERM, end)
s = socket.create_server(('127.0.0.1', int(sys.argv[1])))
time.sleep(600)
"""


class EndsWithTheOther(Server):
    """Ends when it was asked to, and the other one too."""

    stop_seconds_max = 60.0

    def command(self) -> list[str]:
        other = self.folder.with_name({"a": "b", "b": "a"}[self.folder.name])
        return [sys.executable, "-c", _END_TOGETHER, str(self.port), str(self.folder), str(other)]


async def test_one_that_is_long_about_its_end_holds_up_no_other(tmp_path: Path) -> None:
    attendant = Attendant([EndsWithTheOther(tmp_path / "a"), EndsWithTheOther(tmp_path / "b")], print)
    await attendant.start()
    await attendant.stop()
    assert (tmp_path / "a" / "ended").exists() and (tmp_path / "b" / "ended").exists()


async def test_a_start_that_fails_is_said_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trade2026.local.infra.attendant._RETRY_SECONDS", 0.01)
    said: list[str] = []
    component = Server(tmp_path)
    attendant = Attendant([component], said.append)
    await attendant.start()
    assert component.pid is not None
    component.log.unlink()
    component.log.mkdir()
    os.kill(component.pid, signal.SIGKILL)
    await until(lambda: any("server can't be started" in line for line in said), "why it does not start")
    component.log.rmdir()
    await until(lambda: component.pid is not None and component.answers(), "another process")
    await attendant.stop()


def test_another_program_on_the_port_is_not_taken_for_the_component(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        component = Server(tmp_path, other.getsockname()[1])
        with pytest.raises(InfraError, match="another program listens on"):
            component.start()
    assert component.pid is None


async def test_a_part_that_is_missing_is_said_before_anything_runs(tmp_path: Path) -> None:
    there = Server(tmp_path / "there")
    attendant = Attendant([there, Missing(tmp_path / "missing")], lambda line: None)
    with pytest.raises(InfraError, match="Java 17 or newer is missing"):
        await attendant.start()
    assert not there.folder.exists(), "the other one was never begun"
    await attendant.stop()


def test_a_manifest_that_needs_nothing_of_others_is_told_so(state: StateDir, manifest: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="asks for nothing that could be started"):
        Runner(state, manifest, base=tmp_path, with_infra=True)


async def test_a_state_directory_serves_one_bus(state: StateDir, manifest: str, tmp_path: Path) -> None:
    state.write_running({"stack": "desk", "bus": "embedded"})
    kafka = manifest.replace("spec:\n", 'spec:\n  bus: {type: kafka, kafka: {bootstrapServers: "127.0.0.1:1"}}\n')
    with pytest.raises(RunError, match=r"has its log on embedded: .* another --state-dir"):
        await Runner(state, kafka, base=tmp_path).run()
