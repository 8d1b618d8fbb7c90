"""A stack of real processes for one test: its own state directory, its own free ports, and nothing left at the end."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from bench.stack import ROOT, LocalStack, alive, environment, wait_for

from trade2026.local.preparation import RunError, check_ports, prepare
from trade2026.local.state import StateDir

QUICKSTART = ROOT / "manifests" / "quickstart.yaml"
_MANIFESTS = tempfile.TemporaryDirectory(prefix="trade2026-manifests-")
QUIET = Path(_MANIFESTS.name) / "quickstart.yaml"
"""The quickstart's stack without its strategies: nobody trades there but the test."""
QUIET.write_text(QUICKSTART.read_text().partition("\n---\n")[0] + "\n")
ORDER = {"symbol": "BTCUSDT", "side": "buy", "quantity": 0.001, "price": 45000, "order_type": "LIMIT"}
"""The order that the README places."""
WAIT_SECONDS = 60.0
"""For anything that should happen soon: a busy machine must not fail a test."""
_OFFSETS = (9_000, 23_000)
"""Every port then lies below those that the kernel gives to clients."""

running: list["Stack"] = []
"""The stacks that are up now, so that a failing test can show their logs."""


class Stack(LocalStack):
    """One stack.

    Args:
        manifest: File to run.
        state_dir: A directory of its own; it may hold the state of an earlier stack.
        port_offset: None chooses one at which every port is free, and keeps others from choosing it.
        services: Only these; None means all.
        with_infra: Start a broker with it, if its manifest names one.
    """

    def __init__(
        self,
        manifest: Path,
        state_dir: Path,
        *,
        port_offset: int | None = None,
        services: list[str] | None = None,
        with_infra: bool = False,
    ) -> None:
        self._claim: socket.socket | None = None
        if port_offset is None:
            port_offset, self._claim = free_port_offset(manifest)
        super().__init__(manifest, state_dir, port_offset=port_offset, services=services, with_infra=with_infra)
        self._clients: dict[str, httpx.Client] = {}

    # ── life ────────────────────────────────────────────────────────────────────────────────

    def up(self) -> float:
        """Start it and return the seconds until everything was ready."""
        if self not in running:
            running.append(self)
        return super().up()

    def close(self) -> None:
        """Stop it, whatever state it is in.

        Raises:
            AssertionError: a process was left behind after an orderly stop (it is killed now).
        """
        for client in self._clients.values():
            client.close()
        try:
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            self.down()
        finally:
            left = self._end_what_is_left()
            if self in running:
                running.remove(self)
            if self._claim is not None:
                self._claim.close()
        assert not left, f"processes were left behind: {left}"

    def _end_what_is_left(self) -> dict[int, str]:
        with contextlib.suppress(TimeoutError):
            wait_for("no process is left", lambda: not self.processes(), WAIT_SECONDS)
        left = self.processes()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return left

    def processes(self) -> dict[int, str]:
        """Every living process of this stack, runner included, found by its command line: not by what it says."""
        needle = os.fsencode(self.state_dir)
        found: dict[int, str] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid() and alive(int(entry.name)):
                with contextlib.suppress(OSError):
                    words = (entry / "cmdline").read_bytes()
                    if needle in words and b"trade2026" in words:
                        found[int(entry.name)] = words.replace(b"\0", b" ").decode(errors="replace").strip()
        return found

    @property
    def runner_pid(self) -> int:
        """Process id of the runner."""
        return self.status()["runner_pid"]

    def release_of(self, service: str) -> str:
        """Name of the release that hosts a service."""
        return next(
            release["name"]
            for release in self.status()["releases"]
            if service in [hosted["name"] for hosted in release["services"]]
        )

    def kill_process(self, release: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to a release's process; return the id that it had."""
        pid = self.pids()[release]
        os.kill(pid, number)
        return pid

    def kill_runner(self) -> None:
        """`kill -9` the runner and wait until nothing of the stack is left."""
        os.kill(self.runner_pid, signal.SIGKILL)
        wait_for("the runner and all it started are gone", lambda: not self.processes(), WAIT_SECONDS)

    def wait_started(self, release: str, old_pid: int) -> int:
        """Wait until a release has another process, ready or not; return its id."""

        def started() -> int | None:
            pid = self.pids().get(release)
            return pid if pid != old_pid else None

        return wait_for(f"{release} is started again", started, WAIT_SECONDS)

    def wait_restarted(self, release: str, old_pid: int) -> int:
        """Wait until a release runs again under another process id, and is ready; return that id."""

        def restarted() -> int | None:
            entry = next((entry for entry in self.status().get("releases", []) if entry["name"] == release), None)
            return entry["pid"] if entry and entry["ready"] and entry["pid"] not in (None, old_pid) else None

        return wait_for(f"{release} runs again", restarted, WAIT_SECONDS)

    def wait_ready(self) -> None:
        """Wait until the runner says that every service is ready."""
        wait_for("every service is ready", lambda: self.status().get("ready"), WAIT_SECONDS)

    # ── HTTP ────────────────────────────────────────────────────────────────────────────────

    def url(self, service: str, path: str = "", scheme: str = "http") -> str:
        """Address of a service."""
        return f"{scheme}://127.0.0.1:{self.port(service)}{path}"

    def http(self, service: str) -> httpx.Client:
        """A client of a service; it is closed with the stack."""
        if service not in self._clients:
            self._clients[service] = httpx.Client(base_url=self.url(service), timeout=30, trust_env=False)
        return self._clients[service]

    def get(self, service: str, path: str, **query: Any) -> Any:
        """The JSON of a GET that must answer 200."""
        answer = self.http(service).get(path, params=query)
        assert answer.status_code == 200, f"{service}{path}: {answer.status_code} {answer.text}"
        return answer.json()

    def submit(self, **terms: Any) -> httpx.Response:
        """Place the README's order, with other terms where some are given."""
        return self.http("oms").post("/orders", json={**ORDER, **terms})

    def order(self, order_id: str) -> dict[str, Any]:
        """An order with its history, from the OMS."""
        return self.get("oms", f"/orders/{order_id}")

    def wait_status(self, order_id: str, *statuses: str) -> dict[str, Any]:
        """Wait until an order is in one of these states; return it."""

        def reached() -> dict[str, Any] | None:
            order = self.order(order_id)
            return order if order["status"] in statuses else None

        return wait_for(f"order {order_id} is {' or '.join(statuses)}", reached, WAIT_SECONDS)

    def health(self, service: str) -> dict[str, Any]:
        """What `/health` answers, whatever its status; empty if nobody answers."""
        try:
            return self.http(service).get("/health", timeout=5).json()
        except httpx.HTTPError:
            return {}

    def cli(self, *words: str, timeout: float = 120, **options: Any) -> "subprocess.CompletedProcess[str]":
        """Run `trade2026` with these words and this stack's `--state-dir`; the caller looks at the exit code."""
        return subprocess.run(
            [sys.executable, "-m", "trade2026", *words, "--state-dir", str(self.state_dir)],
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=ROOT,
            env=environment(),
            **options,
        )

    def log(self, name: str) -> str:
        """The log of a release, or of the runner."""
        return (self.state_dir / "logs" / f"{name}.log").read_text(errors="replace")

    @property
    def is_locked(self) -> bool:
        """Whether a process holds the state directory."""
        return StateDir(self.state_dir).is_locked


def free_port_offset(manifest: Path) -> tuple[int, socket.socket]:
    """Return an offset at which every port is free, and a claim that keeps other tests from it until it is closed."""
    text = manifest.read_text("utf-8")
    for _ in range(200):
        offset = random.randrange(*_OFFSETS, 350)
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0trade2026-test-{offset}")
            check_ports(prepare(text, port_offset=offset))
        except (OSError, RunError):
            claim.close()
            continue
        return offset, claim
    raise AssertionError("no free ports")


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long something took: shown with `-rP`, and when the test fails."""
    started = time.monotonic()
    yield
    print(f"{what}: {time.monotonic() - started:.2f} s")
