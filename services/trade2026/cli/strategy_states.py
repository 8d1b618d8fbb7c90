"""How strategies are after a command: begun, released, or not to be asked."""

import time
from typing import Any

from trade2026.cli.definitions import manifest_of, names_of
from trade2026.cli.output import STRATEGY_FAILED, UNREACHABLE, CliError
from trade2026.cli.target import Target, path_to

_BEGIN_SECONDS_MAX = 60.0
_RELEASE_SECONDS_MAX = 5.0
_WATCH_SECONDS = 1.5
"""Whoever has failed is looked at for so long after a release: it may fail again with the next trade."""
_LOOK_SECONDS = 0.1


def rows(target: Target) -> list[dict[str, Any]]:
    """Every strategy of a stack; none where it has none.

    Raises:
        CliError: it has some, and they do not answer.
    """
    try:
        return list(target.call("strategies", "GET", "/strategies")["strategies"])
    except CliError as error:
        state = target.state
        if error.exit_code != UNREACHABLE or state is None or not state.is_locked:
            raise
        hosted = [name for services in state.running().get("releases", {}).values() for name in services]
        defined = names_of(manifest_of(state))
        if not defined or "strategies" not in hosted:
            return []
        if isinstance(error.__cause__, TimeoutError):
            why = "one may hang, and is ended then"
        else:
            why = "their process is starting again"
        raise CliError(
            f"the strategies ({', '.join(defined)}) do not answer yet: {why}; see `trade2026 status`", UNREACHABLE
        ) from error


def row_of(target: Target, name: str) -> dict[str, Any] | None:
    """How a strategy is; None if there is none of this name, or nobody can say."""
    try:
        found: dict[str, Any] = target.call("strategies", "GET", path_to("strategies", name))
    except CliError:
        return None
    return found


def begun(target: Target, name: str) -> dict[str, Any]:
    """How a strategy is once it has begun, or failed to."""
    deadline = time.monotonic() + _BEGIN_SECONDS_MAX
    while True:
        row: dict[str, Any] = target.call("strategies", "GET", path_to("strategies", name))
        if row["status"] != "starting" or time.monotonic() > deadline:
            return row
        time.sleep(_LOOK_SECONDS)


def released(target: Target, name: str, *, had_failed: bool) -> dict[str, Any] | None:
    """How a strategy is once it knows of its release; one that had failed is looked at a moment longer."""
    deadline = time.monotonic() + _RELEASE_SECONDS_MAX
    while (row := row_of(target, name)) is not None and time.monotonic() < deadline:
        if f"strategy:{name}" not in row.get("halts", ()):
            break
        time.sleep(_LOOK_SECONDS)
    if row is not None and had_failed and row["status"] != "failed":
        deadline = time.monotonic() + _WATCH_SECONDS
        while row is not None and row["status"] != "failed" and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
            row = row_of(target, name)
    return row


def told_of_release(name: str, before: dict[str, Any], after: dict[str, Any], *, was_stopped: bool) -> str:
    """What a person is told of a release.

    Raises:
        CliError: the strategy has failed again.
    """
    why = str(after["reason"]).partition("\n")[0]
    if after["status"] == "failed":
        raise CliError(
            f"{name} is released, and has failed again: {why}; it will fail again until it is changed: "
            "mend its file or parameters, and run it anew with `trade2026 strategy run`",
            STRATEGY_FAILED,
        )
    if not was_stopped and before["status"] != "failed":
        return f"{name} was not halted: it is {after['status']}{f' ({why})' if why else ''}"
    if after["status"] == "halted":
        return f"{name} is released, but is still halted: {why}"
    return f"{name} may trade again: it is {after['status']}{f' ({why})' if why else ''}"
