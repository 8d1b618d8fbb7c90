"""What the runner does about stores of others: finds the files that the manifest names."""

from pathlib import Path
from typing import Any


def with_files(stores: dict[str, dict[str, Any]], base: Path) -> dict[str, dict[str, Any]]:
    """Settings of stores whose files are named from the root, as processes need them.

    Args:
        base: Directory against which paths in the manifest are meant.
    """
    return {
        name: {
            field: str((base / value).absolute()) if field.endswith("_file") and value else value
            for field, value in store.items()
        }
        for name, store in stores.items()
    }
