"""A stack's state, put away and taken back: `backup`, `restore`."""

from pathlib import Path
from typing import Annotated

import typer

from trade2026.cli.output import FAILED, USAGE, AsJson, CliError, StatePath, show
from trade2026.cli.target import STATE_ROOT, find_state


def backup(
    directory: Annotated[Path, typer.Argument(help="Made anew; it must not exist yet, or be empty.")],
    state_dir: StatePath = None,
    as_json: AsJson = False,
) -> None:
    """Copy a stack's state, also while it runs.

    A running stack's journals are copied as of one instant, give or take some milliseconds.

    Example: trade2026 backup backups/monday
    """
    from trade2026.local.backup import BackupError
    from trade2026.local.backup import backup as make

    state = find_state(state_dir)
    try:
        manifest = make(state, directory)
    except BackupError as error:
        raise CliError(str(error), FAILED) from error
    size = sum(file["bytes"] for file in manifest["files"].values())
    show(
        {"directory": str(directory), **manifest},
        as_json,
        f"{manifest['stack']}: {len(manifest['files'])} files, {size:,} bytes in {directory}",
    )


def restore(
    directory: Annotated[Path, typer.Argument(help="Where the backup is.")],
    state_dir: StatePath = None,
    as_json: AsJson = False,
) -> None:
    """Put a backup in the place of a stack's state; the stack must be down, what was there is kept aside.

    Example: trade2026 restore backups/monday
    """
    from trade2026.local.backup import BackupError, read_manifest
    from trade2026.local.backup import restore as take
    from trade2026.local.state import StateDir, StateError

    try:
        manifest = read_manifest(directory)
        state = StateDir(state_dir or STATE_ROOT / manifest["stack"])
        aside = take(directory, state)
    except StateError as error:
        raise CliError(str(error), FAILED) from error
    except BackupError as error:
        raise CliError(str(error), USAGE) from error
    text = f"{manifest['stack']} is restored to {state.path}, as of {manifest['created']}"
    show(
        {"state_dir": str(state.path), "aside": str(aside) if aside else None, "created": manifest["created"]},
        as_json,
        text + (f"; what was there is in {aside}" if aside else ""),
    )
