"""The lake's sink: follows `market.ticks`, `market.books` and `market.bars`; owns the tables in `lake/`.

What it promises: each record is in its table exactly once, whatever is killed when, because the position in the topic
is committed with the rows; what the log dropped before it was stored is counted and told. A row can be asked for
`batch_seconds` after it happened at the latest, and a table as it was `retention_hours` ago.

The lake is called on two threads: one writes, one reads and tidies up, so that no question delays a commit.
"""

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import msgspec

from trade2026.domain.instruments import Instruments
from trade2026.kit.dead_letters import DeadLetters, dead_letters_folder
from trade2026.kit.http import App
from trade2026.kit.lag import Followed, Position
from trade2026.kit.service import Context, Health, Service
from trade2026.sink_ticks import api
from trade2026.sink_ticks.tables import FEEDS, SPECS
from trade2026.sinks.lake import is_folder, open_lake
from trade2026.sinks.machine import Feed
from trade2026.sinks.topic import InLake, Measured, TopicSink, on_thread, room_elsewhere
from trade2026.sinks.upkeep import Upkeep
from trade2026.stores.lake import Lake, TableState


class SinkTicksConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`config` of the service."""

    batch_seconds: float = 10.0
    """A record waits so long for others."""
    batch_rows: int = 50_000
    """So many do not wait."""
    compact_minutes: float = 10.0
    """How often small files are made one."""
    retention_hours: int = 24
    """How far back a table can be read as it was."""


class SinkTicksService(Service):
    """Market data in the lake."""

    name = "sink-ticks"
    title = "Market data lake"

    def __init__(self, context: Context, lake: Lake | None = None) -> None:
        super().__init__(context)
        self.config = msgspec.convert(self.settings.config.get(self.name, {}), SinkTicksConfig, strict=False)
        self.instruments = Instruments(self.settings.instruments)
        self.lake = lake or open_lake(self.settings, names=SPECS, retention_hours=self.config.retention_hours)
        self._writer = ThreadPoolExecutor(1, "lake-writer")
        self._reader = ThreadPoolExecutor(1, "lake-reader")
        self.dead = DeadLetters(dead_letters_folder(self.settings.state), self.name, context.metrics)
        topics = {topic.name for topic in self.settings.topics}
        self.sinks = {feed.spec.name: self._sink(feed) for feed in FEEDS if feed.topic in topics}
        self.upkeep = Upkeep(
            self.lake,
            context.clock,
            self.read,
            SPECS,
            compact_seconds=self.config.compact_minutes * 60,
            retention_hours=self.config.retention_hours,
        )
        self.asking = 0
        """Questions that wait for an answer."""
        self._upkeep: asyncio.Task[None] | None = None
        self._started = False

    def routes(self, app: App) -> None:
        api.add_routes(app, self)

    async def start(self) -> None:
        for sink in self.sinks.values():
            await sink.start()
        self._upkeep = asyncio.create_task(self.upkeep.run(), name="upkeep of the lake")
        self._started = True

    async def stop(self) -> None:
        if self._upkeep is not None:
            self._upkeep.cancel()
        await asyncio.gather(*(sink.stop() for sink in self.sinks.values()))
        self._writer.shutdown(wait=False, cancel_futures=True)
        self._reader.shutdown(wait=False, cancel_futures=True)

    def readiness(self) -> tuple[bool, str]:
        return self._started, "opening the tables"

    def followed(self) -> Iterable[Followed]:
        return [Position(sink.topic, 0, sink.stored_to) for sink in self.sinks.values() if sink.opened]

    def health(self) -> dict[str, Health]:
        checks: dict[str, Health] = {}
        for sink in self.sinks.values():
            checks |= sink.health()
        if is_folder(self.settings):
            checks["disk"] = self.disk()
        return checks | self.dead.health() | {"upkeep": self.upkeep.health()}

    def stats(self) -> dict[str, Any]:
        sinks = self.sinks.values()
        return {
            "lag": sum(sink.lag for sink in sinks),
            "rows": {sink.feed.spec.name: sink.measured.rows.value for sink in sinks},
            "late": sum(sink.intake.late for sink in sinks if sink.intake is not None),
            "lost": sum(sink.intake.lost for sink in sinks if sink.intake is not None),
            "files_deleted": self.upkeep.files_deleted,
        }

    async def read(self, question: Any, *args: Any, **named: Any) -> Any:
        """Ask the lake on the reader's thread."""
        return await on_thread(self._reader, question, *args, **named)

    async def states(self) -> list[TableState]:
        """Every table as it is now."""
        return [await self.read(self.lake.state, table) for table in await self.read(self.lake.tables)]

    def _sink(self, feed: Feed) -> TopicSink:
        metrics, labels = self.context.metrics, {"service": self.name, "table": feed.spec.name}
        sink = TopicSink(
            self.context.bus,
            InLake(self.lake),
            self.context.clock,
            feed,
            call=partial(on_thread, self._writer),
            room=self.disk if is_folder(self.settings) else room_elsewhere,
            measured=Measured.of(metrics, "lake", **labels),
            batch_rows=self.config.batch_rows,
            dead=self.dead,
            batch_seconds=self.config.batch_seconds,
        )
        metrics.gauge("trade2026_lake_lag_records", "In the log and not stored", lambda: sink.lag, **labels)
        return sink
