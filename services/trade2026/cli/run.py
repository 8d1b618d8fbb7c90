"""A stack on this machine: `up`, `apply`, `down`, `status`."""

import contextlib
import functools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trade2026.cli import TRACEBACK_VARIABLE
from trade2026.cli.manifests import PortOffset, ServiceNames, chosen, planned, read
from trade2026.cli.output import (
    FAILED,
    UNREACHABLE,
    AsJson,
    CliError,
    ManifestPath,
    SomeManifestPath,
    StatePath,
    console,
    print_json,
)
from trade2026.cli.target import STATE_ROOT, Target, find, find_state
from trade2026.local.state import StateDir

if TYPE_CHECKING:
    from trade2026.local.runner import Runner

_DETACHED_SECONDS_MAX = 150.0
_STOP_SECONDS_MAX = 60.0
_APPLY_SECONDS_MAX = 600.0
_WATCH_SECONDS = 1.0


def up(
    file: ManifestPath,
    state_dir: StatePath = None,
    port_offset: PortOffset = 0,
    services: ServiceNames = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Run in the background; return when all is ready.")
    ] = False,
    with_infra: Annotated[
        bool,
        typer.Option(
            "--with-infra", help="Start what the manifest asks of others, such as Kafka and Valkey, here, too."
        ),
    ] = False,
    no_table: Annotated[bool, typer.Option("--no-table", help="Print lines instead of a live table.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a stack on this machine until Ctrl-C (or `trade2026 down`).

    Examples:

    trade2026 up -f manifests/quickstart.yaml

    trade2026 up -f manifests/bench.yaml --detach --port-offset 1000

    trade2026 up -f manifests/kafka.yaml --with-infra
    """
    stack = read(file)
    state = StateDir(state_dir or STATE_ROOT / stack.metadata.name)
    if detach:
        _up_detached(file, state, port_offset, services, with_infra, as_json)
    else:
        _up_here(
            file,
            stack.metadata.name,
            state,
            port_offset,
            services,
            with_infra=with_infra,
            table=not no_table and not as_json and sys.stdout.isatty(),
        )


def _up_here(
    file: Path,
    stack: str,
    state: StateDir,
    port_offset: int,
    services: str | None,
    *,
    with_infra: bool,
    table: bool,
) -> None:
    import asyncio

    from trade2026.local.preparation import RunError
    from trade2026.local.runner import Runner
    from trade2026.local.state import StateError
    from trade2026.stack.planner import PlanError

    say: Callable[[str], None] = _say
    screen = console() if table else None
    if screen is not None:
        say = screen.print
    try:
        state.open(stack)
        state.lock()
        runner = Runner(
            state,
            file.read_text("utf-8"),
            base=file.absolute().parent,
            port_offset=port_offset,
            services=chosen(services),
            say=say,
            with_infra=with_infra,
        )
        asyncio.run(runner.run(_drawing(screen) if screen is not None else None))
    except (StateError, RunError, PlanError) as error:
        raise CliError(str(error), FAILED) from error
    except OSError as error:
        raise CliError(f"{state.path} can't be used: {error}; choose another --state-dir", FAILED) from error
    finally:
        state.unlock()


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # a full disk, or a terminal that is gone, stops no stack
        print(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {line}", flush=True)


def _drawing(screen: Any) -> Callable[["Runner"], Any]:
    async def draw(runner: "Runner") -> None:
        import asyncio

        from rich.live import Live

        from trade2026.cli.table import status_table

        with Live(console=screen, auto_refresh=False, transient=True) as live:
            while True:
                live.update(status_table(runner.status()), refresh=True)
                await asyncio.sleep(0.5)

    return draw


def _up_detached(
    file: Path, state: StateDir, port_offset: int, services: str | None, with_infra: bool, as_json: bool
) -> None:
    from trade2026.local.runner import open_runner_log
    from trade2026.local.state import StateError

    stack = planned(file, port_offset, services).stack
    try:
        state.open(stack)
        state.lock()
        state.unlock()
    except StateError as error:
        raise CliError(str(error), FAILED) from error
    command = [sys.executable, "-m", "trade2026", "up", "-f", str(file), "--state-dir", str(state.path), "--no-table"]
    command += ["--port-offset", str(port_offset), *(["--services", services] if services is not None else [])]
    command += ["--with-infra"] if with_infra else []
    log = open_runner_log(state)
    start = os.fstat(log).st_size
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
        close_fds=True,
        env={**os.environ, TRACEBACK_VARIABLE: "1"},
    )
    os.close(log)
    try:
        status = _wait_until_ready(state, process, start)
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise
    if as_json:
        print_json(status)
        return
    typer.echo(f"{status['stack']} is up (process {status['runner_pid']}, state in {state.path})")
    ports = {service["name"]: service["port"] for release in status["releases"] for service in release["services"]}
    width = max(map(len, ports), default=0)
    for name, port in ports.items():
        typer.echo(f"  {name.ljust(width)} http://127.0.0.1:{port}/docs")
    typer.echo(f"logs: {state.logs}")
    typer.echo(f"stop it with: trade2026 down --state-dir {state.path}")


def _wait_until_ready(state: StateDir, process: "subprocess.Popen[bytes]", log_start: int) -> dict[str, Any]:
    from trade2026.local.control import NotRunning, ask

    deadline = time.monotonic() + _DETACHED_SECONDS_MAX
    reason, waits = f"not ready after {_DETACHED_SECONDS_MAX:.0f} s; see {state.logs}", ""
    while time.monotonic() < deadline:
        if process.poll() is not None:
            with state.log("runner").open("rb") as file:
                file.seek(log_start)
                said = file.read().decode("utf-8", "replace").strip()
            raise CliError(f"the stack did not come up:\n{said}", FAILED)
        try:
            status = ask(state, "status")
        except NotRunning:
            time.sleep(0.05)
            continue
        if status["ready"]:
            return status
        before, waits = waits, status["waits"]
        if waits not in ("", before):
            typer.echo(f"{waits}\nwaiting for it, for at most {_DETACHED_SECONDS_MAX:.0f} s", err=True)
        failing = [release for release in status["releases"] if release["failing"]]
        if failing:
            reason = f"{failing[0]['name']} does not start. Its log ends with:\n{failing[0]['reason']}"
            break
        time.sleep(0.1)
    process.terminate()
    process.wait()
    reason = waits or reason
    raise CliError(f"the stack did not come up and was stopped: {reason}", FAILED)


def apply(file: ManifestPath, state_dir: StatePath = None, as_json: AsJson = False) -> None:
    """Bring a running stack to another manifest: only what changed starts again; if it fails, it is taken back.

    Example: trade2026 apply -f manifests/quickstart.yaml
    """
    from trade2026.local.control import NotRunning, Refused, ask

    read(file)
    state = find_state(state_dir, file)
    try:
        answer = ask(
            state,
            "apply",
            timeout_seconds=_APPLY_SECONDS_MAX,
            manifest=file.read_text("utf-8"),
            base=str(file.absolute().parent),
        )
    except NotRunning as error:
        name = state.running().get("stack", state.path.name)
        raise CliError(
            f"{name} is not up ({state.path}); start it with `trade2026 up -f {file}`", UNREACHABLE
        ) from error
    except Refused as error:
        raise CliError(str(error), FAILED) from error
    if as_json:
        print_json(answer)
        return
    if not (answer["changed"] or answer["removed"]):
        typer.echo(f"{answer['stack']}: nothing changed")
    for name in answer["removed"]:
        typer.echo(f"{name}: stopped, it is not planned any more")
    for name, lines in answer["changed"].items():
        if lines == ["is new"]:
            typer.echo(f"{name}: started, it is new")
            continue
        typer.echo(f"{name}: started again")
        for line in lines:
            typer.echo(f"  {line}")
    if answer["changed"] and answer["unchanged"]:
        typer.echo(f"untouched: {', '.join(answer['unchanged'])}")


def down(file: SomeManifestPath = None, state_dir: StatePath = None, as_json: AsJson = False) -> None:
    """Stop a stack that runs on this machine; its state stays.

    Example: trade2026 down --state-dir .trade2026/quickstart
    """
    from trade2026.local.control import NotRunning, ask

    state = find_state(state_dir, file)
    name = state.running().get("stack", state.path.name)
    if not state.is_locked:
        raise CliError(f"{name} is not up ({state.path})", UNREACHABLE)
    try:
        ask(state, "stop")
    except NotRunning as error:
        raise CliError(
            f"process {state.holder()} has {state.path} but does not answer; end it with `kill {state.holder()}`",
            FAILED,
        ) from error
    deadline = time.monotonic() + _STOP_SECONDS_MAX
    while state.is_locked:
        if time.monotonic() > deadline:
            raise CliError(f"{name} still runs after {_STOP_SECONDS_MAX:.0f} s; see {state.log('runner')}", FAILED)
        time.sleep(0.05)
    if as_json:
        print_json({"stack": name, "running": False, "state_dir": str(state.path)})
    else:
        typer.echo(f"{name} is down; its state stays in {state.path}")


def status(
    file: SomeManifestPath = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep showing it until Ctrl-C.")] = False,
    state_dir: StatePath = None,
    as_json: AsJson = False,
) -> None:
    """Show how a stack is, and in words what is unwell. Exit code 0 means that every service is ready.

    Example: trade2026 status --watch
    """
    ask = _asking(find(state_dir, file))
    if watch:
        _watch(ask, as_json)
        return
    answer = ask()
    if as_json:
        print_json(answer)
    else:
        from trade2026.cli.table import status_table

        console().print(status_table(answer))
    if not answer["ready"]:
        raise typer.Exit(FAILED)


def _asking(target: Target) -> Callable[[], dict[str, Any]]:
    """How a stack is asked: its runner, or in a cluster its services."""
    if target.state is not None:
        return functools.partial(_status, target.state)
    from trade2026.cli.cluster_status import status_of
    from trade2026.cli.remote import ClusterTarget

    if isinstance(target, ClusterTarget):
        return functools.partial(status_of, target)
    return functools.partial(_status, find_state(None))


def _status(state: StateDir) -> dict[str, Any]:
    from trade2026.local.control import NotRunning, Refused, ask

    try:
        return ask(state, "status")
    except NotRunning as error:
        name = state.running().get("stack", state.path.name)
        raise CliError(f"{name} is not up ({state.path}); start it with `trade2026 up`", UNREACHABLE) from error
    except Refused as error:
        raise CliError(str(error), FAILED) from error


def _watch(ask: Callable[[], dict[str, Any]], as_json: bool) -> None:
    """Until Ctrl-C or the end of the stack; as JSON one object a line."""
    if as_json:
        import json

        while True:
            typer.echo(json.dumps(ask()))
            time.sleep(_WATCH_SECONDS)
    from rich.live import Live

    from trade2026.cli.table import status_table

    with Live(console=console(), auto_refresh=False) as live:
        while True:
            live.update(status_table(ask()), refresh=True)
            time.sleep(_WATCH_SECONDS)
