"""A QuestDB that several tests use, one after the other."""

import contextlib

import msgspec

from trade2026.kit.settings import ProcessSettings
from trade2026.local.infra.component import Component
from trade2026.stores.timeseries.questdb_http import QuestDbHttp, QuestDbSettings


def emptied(questdb: Component) -> QuestDbSettings:
    """Where it is, with nothing in its tables."""
    settings = QuestDbSettings(url=f"http://{questdb.address}")
    with contextlib.closing(QuestDbHttp(settings)) as http:
        for (name,) in http.rows("SELECT name FROM wal_tables() WHERE sequencerTxn > 0"):
            http.rows(f"TRUNCATE TABLE '{name}'")
    return settings


def on_questdb(settings: ProcessSettings, questdb: QuestDbSettings) -> ProcessSettings:
    """The settings of a process whose time series are there."""
    return msgspec.structs.replace(settings, stores={"timeseries": msgspec.to_builtins(questdb)})
