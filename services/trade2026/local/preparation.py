"""What is asked before anything of a stack runs: whether its manifest, ports, log, keys and components are right."""

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from trade2026 import __version__
from trade2026.kit.identity import ConfigurationError, Keyring
from trade2026.local.infra.component import Component, InfraError
from trade2026.local.infra.wanted import wanted
from trade2026.local.log_place import AnotherLog, refuse_another_log
from trade2026.local.migration import journal
from trade2026.local.migration.moves import MigrationRefused
from trade2026.local.ports import holder_of, is_free
from trade2026.local.state import StateDir
from trade2026.stack.manifest import load_all
from trade2026.stack.planner import Plan, plan
from trade2026.stack.strategy import Strategy

HOST = "127.0.0.1"
_COMMAND_SHOWN_MAX = 80


class RunError(Exception):
    """The stack can't be run as asked; the message says what to do."""


def prepare(text: str, *, base: Path = Path(), port_offset: int = 0, services: Collection[str] | None = None) -> Plan:
    """Read and plan a manifest for this version.

    Args:
        base: Directory against which the files of strategies are meant.

    Raises:
        ManifestError, PlanError: it is wrong.
        RunError: it asks for another version of the platform.
    """
    manifest = load_all(text)
    stack = manifest.stack
    if stack.spec.version != __version__:
        raise RunError(
            f"the manifest asks for version {stack.spec.version}, this is {__version__}: "
            "change spec.version, or install that version"
        )
    strategies = [_located(strategy, base) for strategy in manifest.strategies if not strategy.spec.paused]
    return plan(stack, strategies, port_offset=port_offset, services=services)


def _located(strategy: Strategy, base: Path) -> Strategy:
    """The same with the whole path of its file, and what is in it: an edited file is another strategy."""
    source = strategy.spec.source
    if not source.file:
        return strategy
    place, colon, name = source.file.partition(":")
    path = (base / place).absolute()
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise RunError(f"strategy {strategy.metadata.name}: {path} can't be read: {error.strerror}") from error
    found = source.model_copy(update={"file": f"{path}{colon}{name}", "digest": digest})
    return strategy.model_copy(update={"spec": strategy.spec.model_copy(update={"source": found})})


def check_ports(planned: Plan, components: Sequence[Component] = ()) -> None:
    """Raise `RunError` if a port is taken that the plan needs, or a component; the message says by whom and what to do."""
    taken: dict[str, str] = {}
    for release in planned.releases:
        for name, port in planned.ports_of(release).items():
            if not is_free(HOST, port):
                taken[f"{port} ({name})"] = _holder(port)
    _refuse(taken)
    _refuse({f"{each.port} ({each.name})": _holder(each.port) for each in components if each.answers()})


def require_its_log(before: dict[str, Any], planned: Plan) -> None:
    """Raise `RunError` if the log that there is lies elsewhere than the plan says."""
    try:
        refuse_another_log(before, planned)
    except AnotherLog as error:
        raise RunError(str(error)) from error


def require_moved_whole(state: StateDir) -> None:
    """Raise `RunError` if a move ended half-way: what was moved in part is no log to trade on."""
    try:
        if said := journal.unfinished(state.path):
            raise RunError(said)
    except MigrationRefused as error:
        raise RunError(str(error)) from error


def _holder(port: int) -> str:
    holder = holder_of(port)
    return f"process {holder.pid} ({_shortened(holder.command)})" if holder else "another program"


def _refuse(taken: dict[str, str]) -> None:
    """Raise `RunError` if there are ports that others have: a line for each of those processes."""
    if not taken:
        return
    lines = [
        f"  {holder} has {', '.join(port for port, by in taken.items() if by == holder)}"
        for holder in dict.fromkeys(taken.values())
    ]
    raise RunError(
        "\n".join(["ports of this stack are in use:", *lines])
        + "\nStop it (is another stack up?), or move this stack with --port-offset 1000"
    )


def _shortened(command: str) -> str:
    return command if len(command) <= _COMMAND_SHOWN_MAX else f"{command[: _COMMAND_SHOWN_MAX - 1]}…"


def components_of(planned: Plan, folder: Path, port_offset: int) -> list[Component]:
    """What the manifest asks of others and can be started here.

    Raises:
        RunError: nothing, or not here.
    """
    try:
        found = wanted(planned, folder, port_offset)
    except InfraError as error:
        raise RunError(f"--with-infra: {error}") from error
    if not found:
        raise RunError("--with-infra: the manifest asks for nothing that could be started: all is embedded")
    return found


def keys_digest(planned: Plan, base: Path) -> str:
    """What the keys are, so that a changed file is noticed: processes read it once.

    Raises:
        RunError: the file can't be read, or holds no keys.
    """
    name = planned.releases[0].settings["keys_file"]
    if not name:
        return ""
    try:
        digest = hashlib.sha256((base / name).read_bytes()).hexdigest()
        Keyring(str(base / name), HOST)
    except OSError as error:
        raise RunError(
            f"security.keysFile {base / name} can't be read: {error.strerror}; make it with `trade2026 keys new`"
        ) from error
    except ConfigurationError as error:
        raise RunError(f"security.keysFile: {error}") from error
    return digest
