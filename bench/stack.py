"""A stack of real processes for measurements and end-to-end tests: `trade2026 up --detach`, in a directory of its own."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parent.parent
_COMMAND_SECONDS_MAX = 150
_POLL_SECONDS = 0.02

T = TypeVar("T")


def wait_for(what: str, condition: Callable[[], T | None], seconds: float) -> T:
    """Return the first true answer of a condition.

    Raises:
        TimeoutError: it stayed false; the message says what was waited for.
    """
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() >= deadline:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(_POLL_SECONDS)


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in ("Z", "X")


class Answer:
    """What a service answered."""

    def __init__(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.status, self.raw, self.headers = status, body, headers

    def json(self) -> Any:
        return json.loads(self.raw)

    def __repr__(self) -> str:
        return f"{self.status} {self.raw[:400]!r}"


class LocalStack:
    """One stack; `with LocalStack(…) as stack:` stops it at the end, also when something failed.

    Args:
        services: Only these; None means all.
        with_infra: Start a broker with it, if its manifest names one.
    """

    def __init__(
        self,
        manifest: Path,
        state_dir: Path,
        *,
        port_offset: int = 0,
        services: list[str] | None = None,
        with_infra: bool = False,
    ) -> None:
        self.manifest, self.state_dir, self.port_offset, self.services = manifest, state_dir, port_offset, services
        self.with_infra = with_infra

    def __enter__(self) -> "LocalStack":
        try:
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def up(self) -> float:
        """Start it and return the seconds until everything was ready."""
        chosen = ["--services", ",".join(self.services)] if self.services else []
        chosen += ["--with-infra"] if self.with_infra else []
        started = time.monotonic()
        self.command(
            "up", "-f", str(self.manifest), "--detach", "--port-offset", str(self.port_offset), *chosen, *self._where
        )
        wait_for("every service is ready", lambda: self.status().get("ready"), _COMMAND_SECONDS_MAX)
        return time.monotonic() - started

    def down(self) -> None:
        """Stop it; nothing happens if it does not run."""
        if (self.state_dir / "VERSION").exists():
            self.command("down", *self._where, check=False)

    def status(self) -> dict[str, Any]:
        """What the runner says; empty if it does not answer."""
        from trade2026.local.control import NotRunning, Refused, ask
        from trade2026.local.state import StateDir

        try:
            return ask(StateDir(self.state_dir), "status")
        except (NotRunning, Refused):
            return {}

    def pids(self) -> dict[str, int]:
        """Process id per release that lives."""
        return {release["name"]: release["pid"] for release in self.status().get("releases", []) if release["pid"]}

    def kill(self, release: str) -> int:
        """`kill -9` a release's process, and return the id that it had."""
        pid = self.pids()[release]
        os.kill(pid, signal.SIGKILL)
        return pid

    def kill_all(self) -> None:
        """`kill -9` every process at once, the runner too; return when they are gone."""
        pids = [self.status()["runner_pid"], *self.pids().values()]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_for("the killed processes are gone", lambda: not any(map(alive, pids)), _COMMAND_SECONDS_MAX)

    def command(self, *words: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run one `trade2026` command to its end.

        Raises:
            RuntimeError: it failed; the message has what it printed and the ends of the logs.
        """
        done = subprocess.run(
            [sys.executable, "-m", "trade2026", *words],
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS_MAX,
            cwd=ROOT,
            env=environment(),
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}{self.logs()}")
        return done

    def logs(self, lines: int = 15) -> str:
        """The last lines of every log of the stack."""
        text = ""
        for path in sorted((self.state_dir / "logs").glob("*.log")):
            tail = path.read_text(errors="replace").splitlines()[-lines:]
            text += f"\n── {path.name}\n" + "\n".join(tail)
        return text

    def port(self, service: str) -> int:
        """Where a service, or one of its replicas, listens; a service's other ports have names of their own."""
        from trade2026.local.state import StateDir

        if service in (noted := StateDir(self.state_dir).running().get("ports", {})):
            return noted[service]
        from trade2026.stack.facts import SERVICES, ports_of

        return {name: port for each in SERVICES for name, port in ports_of(each).items()}[service] + self.port_offset

    def call(self, service: str, method: str, path: str, body: Any = None, *, timeout: float = 10.0) -> Answer:
        """One request over a connection of its own. `body` is sent as JSON, bytes as they are.

        Raises:
            OSError: nobody answers.
        """
        payload = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port(service)}{path}", payload, method=method)
        if payload is not None:
            request.add_header("content-type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return Answer(answer.status, answer.read(), dict(answer.headers.items()))
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.read(), dict(error.headers.items()))

    @property
    def _where(self) -> list[str]:
        return ["--state-dir", str(self.state_dir)]


def environment() -> dict[str, str]:
    """Of a process that runs the platform out of this tree."""
    inherited = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT / "services"), inherited]))}


def open_bus(state_dir: Path) -> Any:
    """The bus of a stack, to be read beside it."""
    from trade2026.kit.bus import choice
    from trade2026.kit.settings import load

    names = ("orders", "oms")
    return choice.open_bus(load(next(path for name in names if (path := state_dir / "run" / f"{name}.json").exists())))


def read_log(state_dir: Path, topic: str, from_seq: int = 0) -> list[Any]:
    """Every envelope of a topic from a position on, read from the stack's files."""
    from trade2026.domain.events import decode

    async def read() -> list[Any]:
        bus = open_bus(state_dir)
        position, found = from_seq, []
        try:
            while records := await bus.read(topic, 0, position, 5_000):
                found += [decode(record.body) for record in records]
                position = records[-1].seq + 1
        finally:
            await bus.close()
        return found

    return asyncio.run(read())
