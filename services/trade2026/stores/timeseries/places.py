"""Which time-series store a stack has: the embedded one, or what the manifest names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from trade2026.stores.timeseries.port import Place, QueryableStore
from trade2026.stores.timeseries.questdb_http import QuestDbSettings


def place_of(named: Mapping[str, Any] | None, path: Path, *, memory_mib_max: int, stack: str) -> Place:
    """Where the store is. Nothing is opened, and no library of one that is not used is imported.

    Args:
        named: `timeseries` of the process's stores; None for the embedded one.
        path: Of the embedded one.
        memory_mib_max: For the embedded one.
        stack: Whose store it is.
    """
    if named is None:
        return DuckDbPlace(path, memory_mib_max)
    return QuestDbPlace(msgspec.convert(named, QuestDbSettings), stack)


class DuckDbPlace:
    """A file."""

    def __init__(self, path: Path, memory_mib_max: int) -> None:
        self.name = str(path)
        self._path, self._memory_mib_max = path, memory_mib_max

    def open(self) -> QueryableStore:
        """See `Place`."""
        from trade2026.stores.timeseries.duckdb_store import DuckDbStore

        return DuckDbStore(self._path, memory_mib_max=self._memory_mib_max)

    def set_aside(self) -> str:
        """See `Place`."""
        from trade2026.stores.timeseries.duckdb_store import set_aside

        return str(set_aside(self._path))


class QuestDbPlace:
    """A server."""

    def __init__(self, settings: QuestDbSettings, stack: str) -> None:
        self.name = f"QuestDB at {settings.url}"
        self._settings, self._stack = settings, stack

    def open(self) -> QueryableStore:
        """See `Place`."""
        from trade2026.stores.timeseries.questdb_store import QuestDbStore

        return QuestDbStore(self._settings, self._stack)

    def set_aside(self) -> str:
        """See `Place`."""
        from trade2026.stores.timeseries.questdb_store import set_aside

        return f"in tables whose names end with {set_aside(self._settings)}"
