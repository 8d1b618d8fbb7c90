"""The bus as everyone should open it: with what it has dropped behind it."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from trade2026.kit.bus import choice
from trade2026.kit.bus.archived import ArchivedBus
from trade2026.kit.bus.port import TopicConfig
from trade2026.kit.settings import ProcessSettings
from trade2026.log_archive.lake_archive import TABLE, VERSIONS_HOURS, LakeArchive
from trade2026.sinks.lake import folder_of, open_lake
from trade2026.stack.facts import TOPICS
from trade2026.stores.delta import DeltaLake

FOLDER = "log"
"""Of the lake."""
ARCHIVED = tuple(topic.name for topic in TOPICS if topic.archived)


def open_bus(settings: ProcessSettings) -> ArchivedBus:
    """Open the bus that the settings name. The lake is opened when somebody reads what is not on the bus.

    Raises:
        ConfigurationError: there is no such bus.
    """
    lake = partial(open_lake, settings, FOLDER, names=[TABLE.name], retention_hours=VERSIONS_HOURS)
    return ArchivedBus(choice.open_bus(settings), LakeArchive(lake), ARCHIVED)


def open_copy(state: Path, topics: Sequence[TopicConfig]) -> ArchivedBus:
    """Open the embedded bus of a state directory that no process was told of yet."""
    from trade2026.kit.bus.sqlite import SqliteBus

    lake = partial(DeltaLake, folder_of(state, FOLDER), retention_hours=VERSIONS_HOURS)
    return ArchivedBus(SqliteBus(state / "bus", topics), LakeArchive(lake), ARCHIVED)
