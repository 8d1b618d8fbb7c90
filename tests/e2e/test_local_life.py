"""A stack's life on one machine: up, watched, changed, killed, down."""

import asyncio
import contextlib
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bench.stack import ROOT, alive, environment, wait_for
from tests.e2e.conftest import MakeStack
from tests.e2e.load import Load
from tests.e2e.stack import QUIET, WAIT_SECONDS, Stack, timed
from tests.e2e.verify import verify_log

WHO_SAYS = {
    "gateway": ("oms",),
    "normalizer": ("oms", "pnl"),
    "risk": ("oms",),
    "oms": ("gateway", "risk", "ptrc", "pnl"),
}
"""Of each service, those that depend on it."""


def says_that(stack: Stack, service: str, dependency: str) -> bool:
    """Whether a service's `/health` names a dependency as failed."""
    checks = stack.health(service).get("checks", {})
    return checks.get(f"peer_{dependency}", {}).get("status") == "failed"


def test_health_names_the_dependency_that_stopped_and_forgets_it_when_it_is_back(stack: Stack) -> None:
    for stopped, dependants in WHO_SAYS.items():
        pid = stack.kill_process(stack.release_of(stopped), signal.SIGSTOP)
        with timed(f"{stopped} stopped, and {', '.join(dependants)} say so"):
            for service in dependants:
                wait_for(
                    f"{service} names {stopped}", lambda s=service, d=stopped: says_that(stack, s, d), WAIT_SECONDS
                )
        os.kill(pid, signal.SIGCONT)
        for service in dependants:
            wait_for(f"{service} is well", lambda s=service: stack.health(s).get("status") == "ok", WAIT_SECONDS)


def test_a_runner_killed_with_9_leaves_nothing_and_its_stack_comes_up_again_at_once_as_it_was(stack: Stack) -> None:
    order_id = stack.submit(client_order_id="kept").json()["order_id"]
    old, runner = stack.pids(), stack.runner_pid
    os.kill(runner, signal.SIGKILL)
    with timed("up again after the runner was killed"):
        stack.up()
    assert not [pid for pid in old.values() if alive(pid)]
    assert stack.runner_pid != runner
    assert stack.submit(client_order_id="kept").json()["order_id"] == order_id
    stack.kill_runner()
    assert not stack.is_locked


def test_a_second_stack_is_told_who_has_the_state_directory_and_who_the_ports(stack: Stack, tmp_path: Path) -> None:
    same_state = stack.cli("up", "-f", str(QUIET), "--detach", "--port-offset", "31000")
    assert same_state.returncode == 1
    assert f"is in use by process {stack.runner_pid}: stop it with `trade2026 down --state-dir" in same_state.stderr
    same_ports = Stack(QUIET, tmp_path / "other", port_offset=stack.port_offset)
    refused = same_ports.cli("up", "-f", str(QUIET), "--detach", "--port-offset", str(stack.port_offset))
    assert refused.returncode == 1
    holder = stack.pids()[stack.release_of("oms")]
    (line,) = (line for line in refused.stderr.splitlines() if line.startswith(f"  process {holder} ("))
    assert f"{stack.port('oms')} (oms)" in line
    assert "--port-offset" in refused.stderr
    assert stack.status()["ready"]
    assert not same_ports.processes()


def test_apply_starts_again_only_what_changed(stack: Stack, tmp_path: Path) -> None:
    old, text = stack.pids(), QUIET.read_text()
    changed = tmp_path / "changed.yaml"

    changed.write_text(text.replace("speed: 60", "speed: 61"))
    applied = stack.cli("apply", "-f", str(changed))
    assert applied.returncode == 0, applied.stderr
    assert "config.speed: 60 -> 61" in applied.stdout
    faster, venue = stack.pids(), stack.release_of("gateway")
    assert {name for name in old if old[name] != faster[name]} == {venue}

    changed.write_text(
        text.replace("speed: 60", "speed: 61").replace('maxOrderQuantity: "100"', 'maxOrderQuantity: "50"')
    )
    assert stack.cli("apply", "-f", str(changed)).returncode == 0
    tighter = stack.pids()
    assert {name for name in faster if faster[name] != tighter[name]} == {
        stack.release_of("oms"),
        stack.release_of("risk"),
    }
    refused = stack.submit(quantity=60)
    assert refused.status_code == 422, refused.text
    assert refused.json()["reject_code"]
    assert stack.submit(quantity=40).status_code == 200


def test_an_apply_that_fails_is_taken_back(stack: Stack, tmp_path: Path) -> None:
    old, venue = stack.pids(), stack.release_of("gateway")
    changed = tmp_path / "changed.yaml"
    changed.write_text(QUIET.read_text().replace("speed: 60", "speed: 61"))
    with ThreadPoolExecutor() as pool:
        applying = pool.submit(stack.cli, "apply", "-f", str(changed))
        with squatter(stack.port("gateway"), lambda: None):
            wait_for("it goes back", lambda: "going back to the manifest before" in stack.log("runner"), WAIT_SECONDS)
        failed = applying.result()
    assert failed.returncode == 1
    assert "the change was taken back" in failed.stderr
    assert f"can't listen on 127.0.0.1 port {stack.port('gateway')}" in failed.stderr
    stack.wait_ready()
    new = stack.pids()
    assert {name for name in old if old[name] != new[name]} == {venue}
    order_id = stack.submit(price=60000).json()["order_id"]
    stack.wait_status(order_id, "Filled")
    assert stack.cli("apply", "-f", str(changed)).returncode == 0


@contextlib.contextmanager
def squatter(port: int, otherwise: Callable[[], None]) -> Iterator[None]:
    """Take a service's port as soon as it is free; `otherwise` is called as long as it is not."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

        def taken() -> bool:
            with contextlib.suppress(OSError):
                listener.bind(("127.0.0.1", port))
                listener.listen()
                return True
            otherwise()
            return False

        deadline = time.monotonic() + WAIT_SECONDS
        while not taken():
            assert time.monotonic() < deadline, f"port {port} never was free"
            time.sleep(0.001)
        yield


async def test_down_answers_what_it_has_taken_and_stops_everything(make_stack: MakeStack) -> None:
    stack = await asyncio.to_thread(make_stack)
    accounts = ("alpha", "beta")
    async with Load(stack.url("oms"), stack.url("oms", scheme="ws"), accounts, 45_000, seed=1, pause_seconds=0) as load:
        await asyncio.to_thread(
            wait_for, "orders were acknowledged", lambda: len(load.ledger.orders) > 200, WAIT_SECONDS
        )
        with timed("down under load"):
            await asyncio.to_thread(stack.down)
        await asyncio.to_thread(wait_for, "nothing is left", lambda: not stack.processes(), WAIT_SECONDS)
        await load.end()
        load.check()
    await verify_log(stack, load.ledger.orders)
    assert "not everything stopped" not in stack.logs(lines=1_000)
    assert "killed" not in stack.logs(lines=1_000)


def test_a_second_signal_stops_at_once_what_does_not_listen(stack: Stack) -> None:
    runner = stack.runner_pid
    for release in stack.pids():
        stack.kill_process(release, signal.SIGSTOP)
    with timed("stopped at once"):
        os.kill(runner, signal.SIGTERM)
        wait_for("the runner is stopping", lambda: stack.status().get("stopping"), WAIT_SECONDS)
        os.kill(runner, signal.SIGTERM)
        wait_for("nothing is left", lambda: not stack.processes(), WAIT_SECONDS)
    assert "stopping at once" in stack.log("runner")


def test_only_the_services_that_were_asked_for_run(make_stack: MakeStack) -> None:
    stack = make_stack(services=["gateway", "ptrc"])
    releases = stack.status()["releases"]
    assert {service["name"] for release in releases for service in release["services"]} == {"gateway", "ptrc"}
    stack.get("gateway", "/ticker/BTCUSDT")
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", stack.port("oms")))


def test_a_process_that_does_not_start_is_shown_with_its_reason_and_comes_back_by_itself(stack: Stack) -> None:
    release, port = stack.release_of("ptrc"), stack.port("ptrc")

    def kill() -> None:
        with contextlib.suppress(KeyError, ProcessLookupError):
            stack.kill_process(release)

    with squatter(port, kill):

        def failing() -> dict[str, object] | None:
            found = next(entry for entry in stack.status()["releases"] if entry["name"] == release)
            return found if found["failing"] else None

        shown = wait_for("the release is said to fail", failing, WAIT_SECONDS)
        assert f"can't listen on 127.0.0.1 port {port}" in str(shown["reason"])
        status = stack.cli("status")
        assert status.returncode == 1
        assert "fails to start" in status.stdout
    stack.wait_ready()


class Terminal:
    """`trade2026 up` in a terminal of its own.

    Args:
        stack: Says which manifest, state and ports; it is not up yet.
    """

    def __init__(self, stack: Stack) -> None:
        self.screen = ""
        self._handle, slave = pty.openpty()
        options = ["--state-dir", str(stack.state_dir), "--port-offset", str(stack.port_offset)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "trade2026", "up", "-f", str(stack.manifest), *options],
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True, cwd=ROOT,
            env={**environment(), "TERM": "xterm", "COLUMNS": "200", "LINES": "50"},
            preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),  # it becomes the controlling terminal
        )  # fmt: skip
        os.close(slave)

    def read(self) -> str:
        """All that was drawn until now."""
        waiting = select.poll()  # not select(), which takes no descriptor above 1,023
        waiting.register(self._handle, select.POLLIN)
        while waiting.poll(0):
            try:
                self.screen += os.read(self._handle, 65_536).decode(errors="replace")
            except OSError:
                break
        return self.screen

    def press_ctrl_c(self) -> None:
        """As a person does."""
        os.write(self._handle, b"\x03")

    def close(self) -> None:
        """As a window that is closed."""
        os.close(self._handle)


@pytest.mark.parametrize("ending", ["ctrl-c", "closed"])
def test_a_person_sees_a_live_table_and_ends_the_stack_by_ctrl_c_or_by_closing_the_window(
    tmp_path: Path, ending: str
) -> None:
    stack = Stack(QUIET, tmp_path / "state")
    terminal = Terminal(stack)
    try:
        wait_for(
            "the table says ready", lambda: "ready" in terminal.read() and stack.status().get("ready"), WAIT_SECONDS
        )
        drawn = len(terminal.read())
        wait_for("the table is drawn again", lambda: "P99" in terminal.read()[drawn:], WAIT_SECONDS)
        for word in ("SERVICE", "READY", "P50", "P99", "ORDERS", "LAG", "gateway", "oms", "risk", "ptrc", "pnl"):
            assert word in terminal.screen
        if ending == "ctrl-c":
            terminal.press_ctrl_c()
            wait_for("the stack is down", lambda: terminal.read() and terminal.process.poll() is not None, WAIT_SECONDS)
            assert terminal.process.returncode == 0, terminal.screen[-2_000:]
        else:
            terminal.close()
            wait_for("the stack is down", lambda: terminal.process.poll() is not None, WAIT_SECONDS)
        wait_for("nothing is left", lambda: not stack.processes(), WAIT_SECONDS)
        assert not stack.is_locked
    finally:
        if ending == "ctrl-c":
            terminal.close()
        terminal.process.kill()
        terminal.process.wait()
        stack.close()


def test_an_account_may_send_a_thousand_orders_a_second_under_the_default_limits(stack: Stack) -> None:
    orders = [{"symbol": "BTCUSDT", "side": "buy", "quantity": 0.001, "price": 45000}] * 1_000
    started = time.monotonic()
    for second in range(5):
        answer = stack.http("oms").post("/orders/batch", json={"orders": orders})
        assert answer.status_code == 200, answer.text
        refused = [result for result in answer.json()["results"] if result["status"] != "PendingNew"]
        assert not refused, refused[0]
        time.sleep(max(0.0, started + second + 1 - time.monotonic()))
