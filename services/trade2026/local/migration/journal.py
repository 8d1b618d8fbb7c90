"""What a state directory says of the move into it: from where, and whether it is finished."""

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

from trade2026.local.migration.moves import MigrationRefused
from trade2026.local.state import write_atomically

NAME = "migration.json"


def read(folder: Path) -> dict[str, Any]:
    """What is said; empty where nothing was ever moved. Raises `MigrationRefused`: it can't be read."""
    try:
        found = json.loads((folder / NAME).read_bytes())
        if found.keys() >= {"id", "from", "finished"}:
            return found
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        raise MigrationRefused(f"{folder / NAME} can't be read: {error}; remove {folder}, and move again") from error
    raise MigrationRefused(f"{folder / NAME} is damaged: remove {folder}, and move again")


def begin(folder: Path, source: Path) -> dict[str, Any]:
    """Go on with a move, or begin one.

    Raises:
        MigrationRefused: the directory holds something else.
    """
    found = read(folder)
    if found and found["from"] != str(source):
        raise MigrationRefused(f"{folder} holds what was moved from {found['from']}: name another --to")
    if not found:
        found = {"id": uuid4().hex, "from": str(source), "finished": False}
        write(folder, found)
    return found


def write(folder: Path, said: dict[str, Any]) -> None:
    """Say it durably."""
    write_atomically(folder / NAME, json.dumps(said, indent=1).encode())


def unfinished(folder: Path) -> str:
    """Why a stack can't be brought up there; empty if it can."""
    found = read(folder)
    if not found or found["finished"]:
        return ""
    return (
        f"the move from {found['from']} into {folder} is not finished: "
        f"go on with `trade2026 migrate -f MANIFEST --from {found['from']} --to {folder}`"
    )
