"""The time-series writer: follows the market, orders, positions, P&L and risk; owns the time-series store.

What it promises: every event's rows are in the store exactly once, whatever is killed when, because the positions are
written with the rows; a row is visible within a second; a query never stalls the writer. The store is a fold of the
log: a damaged one is put aside and made again, as far as the topics reach. One that is away is waited for, also at the
start, and nothing else of the process waits with it.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from trade2026.domain.shards import partition_name
from trade2026.kit import dead_letters
from trade2026.kit.bus.archived import resume_position
from trade2026.kit.bus.port import BusError
from trade2026.kit.dead_letters import dead_letters_folder
from trade2026.kit.follower import Follower
from trade2026.kit.followers import health_of
from trade2026.kit.http import App, Problem
from trade2026.kit.lag import Followed
from trade2026.kit.service import Context, Health, Service
from trade2026.questdb_writer import api, questdb
from trade2026.questdb_writer.machine import ORDERS, RowMachine
from trade2026.stores.timeseries.schema import DAY_NS, TABLES

if TYPE_CHECKING:
    from trade2026.questdb_writer.batches import Collector
    from trade2026.questdb_writer.dead_letters import DeadLetters
    from trade2026.questdb_writer.writing import Writing
    from trade2026.stores.timeseries.port import Partition, Place, QueryableStore

log = logging.getLogger(__name__)

T = TypeVar("T")
NAME = "questdb_writer"
QUESTDB_PORT = "questdb"
"""The port that speaks as QuestDB does."""
QUERIES_MAX = 4
"""That run at a time."""
QUERIES_WAITING_MAX = 32
_HOUSEKEEPING_SECONDS = 1.0
_RETENTION_SECONDS = 600.0
_RETRY_SECONDS = 2.0


class WriterConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The service's `config` in the manifest."""

    batch_rows: int = 10_000
    """So many do not wait for others."""
    batch_seconds: float = 0.7
    """A row waits so long."""
    memory_mib_max: int = 96
    """Of DuckDB, for rows and queries together."""
    retention_days: dict[str, int] = {}
    """By table, for another than its own; 0 keeps everything."""
    query_seconds_max: float = 10.0
    """Then a query is ended."""


class QuestDbWriterService(Service):
    """Time series and queries."""

    name = NAME
    title = "Time series"
    other_ports = (QUESTDB_PORT,)

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.config = msgspec.convert(self.settings.config.get(self.name, {}), WriterConfig, strict=False)
        if unknown := self.config.retention_days.keys() - TABLES.keys():
            raise ValueError(f"{self.name}: retention_days: there is no table {', '.join(sorted(unknown))}")
        self.path: Path = self.settings.state / "timeseries" / "series.duckdb"
        known = {topic.name for topic in self.settings.topics}
        topics = sorted({table.topic for table in TABLES.values() if table.topic in known})
        self.partitions = [(topic, part) for topic in topics for part in range(self.settings.partitions(topic))]
        """Every partition that is followed."""
        self.place: Place | None = None
        self.store: QueryableStore | None = None
        self.writing: Writing | None = None
        self.dead: DeadLetters | None = None
        """Rows that don't fit their tables."""
        self.unread = dead_letters.DeadLetters(dead_letters_folder(self.settings.state), self.name, context.metrics)
        """Records of which no row could be made."""
        self.queries = ThreadPoolExecutor(QUERIES_MAX, thread_name_prefix="query")
        self.skipped: dict[str, int] = {}
        """Events that a topic had dropped before they were written."""
        self._asked = 0
        self._followers: dict[Partition, Follower] = {}
        self._detail = "not started"
        self._away = ""
        """Why there is no store to write to now."""
        self._damage = ""
        self._repair: asyncio.Task[None] | None = None
        self._housekeeper: asyncio.Task[None] | None = None
        context.metrics.gauge(
            "trade2026_timeseries_up",
            "Whether the store of time series takes rows",
            lambda: self._store_health().ok,
            service=self.name,
        )

    def routes(self, app: App) -> None:
        api.add_routes(app, self)

    def other_routes(self, port: str, app: App) -> None:
        questdb.add_routes(app, self)

    async def start(self) -> None:
        from trade2026.questdb_writer.dead_letters import DeadLetters
        from trade2026.stores.timeseries.places import place_of
        from trade2026.stores.timeseries.port import StoreUnavailable

        self._detail = "opening the store"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.dead = DeadLetters(self.path.with_name("dead-letters.jsonl"))
        named = self.settings.stores.get("timeseries")
        memory = self.config.memory_mib_max
        self.place = place_of(named, self.path, memory_mib_max=memory, stack=self.settings.stack)
        try:
            await self._open_and_follow()
        except StoreUnavailable as error:
            self._begin_again(str(error))
        self._housekeeper = asyncio.create_task(self._keep_house(), name="housekeeping of the time series")

    async def stop(self) -> None:
        for task in (self._housekeeper, self._repair):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await self._let_go()
        self.queries.shutdown(wait=False, cancel_futures=True)

    def readiness(self) -> tuple[bool, str]:
        if self._detail != "ready":
            behind = [follower.progress for follower in self._followers.values() if not follower.caught_up]
            return False, behind[0] if behind else self._detail
        return True, "ready"

    def followed(self) -> Iterable[Followed]:
        return list(self._followers.values())

    def health(self) -> dict[str, Health]:
        checks = health_of(self._followers.values())
        checks["store"] = self._store_health()
        if self.dead is not None and self.dead.count:
            said = f"{self.dead.count} rows don't fit their tables: look at {self.dead.path}, and move it away"
            checks["dead_letters"] = Health(False, said)
        checks |= {f"unread_{name}": health for name, health in self.unread.health().items()}
        checks["disk"] = self.disk()
        return checks

    def _store_health(self) -> Health:
        if self._away:
            return Health(False, self._away)
        writes = self.writing.health() if self.writing is not None else Health(False, self._detail)
        return Health(True, self._damage) if writes.ok and self._damage else writes

    def stats(self) -> dict[str, Any]:
        written = self.writing.written if self.writing is not None else None
        return {
            "rows": written.rows if written else 0,
            "batches": written.batches if written else 0,
            "retries": written.retries if written else 0,
            "waiting": self.writing.collector.size if self.writing else 0,
            "dead_letters": self.dead.count if self.dead else 0,
            "skipped": sum(self.skipped.values()),
            "open_orders": self.writing.collector.machine.open_orders if self.writing else 0,
            "lag": sum(follower.lag for follower in self._followers.values()),
        }

    async def query(self, ask: Callable[..., T], *values: Any, **named: Any) -> T:
        """Ask the store in a thread of its own, a few at a time.

        Raises:
            QueryRefused: the query is to blame.
            Problem: 429 when too many wait already, 503 when the store can't answer.
        """
        from trade2026.stores.timeseries.port import QueryRefused, StoreError

        if self._asked >= QUERIES_MAX + QUERIES_WAITING_MAX:
            raise Problem(429, "overloaded", "too many queries wait; ask again in a moment", retry_after=1)
        self._asked += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self.queries, partial(ask, *values, **named))
        except QueryRefused:
            raise
        except StoreError as error:
            raise Problem(503, "unavailable", str(error), retry_after=1) from error
        finally:
            self._asked -= 1

    # ── its life ────────────────────────────────────────────────────────────────────────────

    async def _open_and_follow(self) -> bool:
        """Go on where the store ends; returns whether it begins anew."""
        from trade2026.questdb_writer.batches import Collector
        from trade2026.questdb_writer.writing import Limits, Writing

        assert self.dead is not None
        self.store = store = await asyncio.to_thread(self._open)
        offsets, state = await asyncio.to_thread(store.offsets), await asyncio.to_thread(store.state)
        if lost := await self._lost(offsets):
            await asyncio.to_thread(store.close)
            await asyncio.to_thread(self._put_aside, lost)
            self.store = store = await asyncio.to_thread(self._open)
            offsets, state = {}, {}
        positions = {place: await self._position(place, offsets.get(place, 0)) for place in self.partitions}
        orders = [position for (topic, _), position in positions.items() if topic == ORDERS]
        collector = Collector(RowMachine(orders, state))
        limits = Limits(self.config.batch_rows, self.config.batch_seconds, 4 * self.config.batch_rows)
        self.writing = Writing(store, collector, self.dead, limits, self._begin_again)
        self.writing.start()
        for place, position in positions.items():
            self._detail = f"following {place[0]}"
            await self._follow(place, position, collector)
        self._detail = "ready"
        return not offsets

    def _open(self) -> "QueryableStore":
        from trade2026.stores.timeseries.port import StoreDamaged

        assert self.place is not None
        try:
            return self.place.open()
        except StoreDamaged as error:
            self._put_aside(str(error))
            return self.place.open()

    def _put_aside(self, reason: str) -> None:
        assert self.place is not None
        self._damage = f"the store is made again from the log: {reason}; the old one is {self.place.set_aside()}"
        log.error("%s", self._damage)

    async def _lost(self, offsets: "dict[Partition, int]") -> str:
        """Why the store can't belong to this log; empty if it does."""
        for topic, partition in self.partitions:
            if topic == ORDERS:
                end, position = await self.context.bus.end(topic, partition), offsets.get((topic, partition), 0)
                if position > end:
                    return f"{partition_name(topic, partition)} ends at {end}, and it has the events to {position}"
        return ""

    async def _position(self, place: "Partition", position: int) -> int:
        """Where to go on: what the topic has dropped can't be written any more."""
        bus = self.context.bus
        topic, _ = place
        # A topic that is not fsynced may have lost its newest records.
        position = min(position, await bus.end(*place))
        if position < (start := await resume_position(bus, *place, position)):
            self.skipped[topic] = self.skipped.get(topic, 0) + start - position
            log.warning("%s: %d events were dropped before they could be stored", topic, start - position)
        return start

    async def _follow(self, place: "Partition", position: int, collector: "Collector") -> None:
        assert self.writing is not None
        topic, partition = place
        follower = Follower(
            self.context.bus,
            topic,
            collector.fold,
            partition=partition,
            from_seq=position,
            on_batch=self.writing.room,
            dead=None if topic == ORDERS else self.unread,  # a row of an order is made of all its events
        )
        self._followers[place] = follower
        await follower.start()

    async def _let_go(self) -> None:
        await asyncio.gather(*(follower.stop() for follower in self._followers.values()))
        if self.writing is not None:
            await self.writing.stop()
        if self.store is not None:
            await asyncio.to_thread(self.store.close)

    def _begin_again(self, reason: str) -> None:
        """Open the store once more, or make it again."""
        if self._repair is None or self._repair.done():
            self._away = self._detail = f"the store is opened again: {reason}"
            self._repair = asyncio.create_task(self._repaired(reason), name="repair of the time series")

    async def _repaired(self, reason: str) -> None:
        while True:
            try:
                await self._let_go()
                self._followers, self.writing, self.store = {}, None, None
                if await self._open_and_follow() and not self._damage:
                    self._damage = f"the store is made again from the log: {reason}"
                self._away = ""
                return
            except Exception as error:
                away = f"the store can't be opened: {error}"
                if away != self._away:
                    log.warning("%s", away)
                self._away = self._detail = away
                await asyncio.sleep(_RETRY_SECONDS)

    async def _keep_house(self) -> None:
        """Lag, whether the store answers, and rows that are older than their table keeps them."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            await asyncio.sleep(_HOUSEKEEPING_SECONDS)
            for (topic, _), follower in list(self._followers.items()):
                try:
                    await follower.measure_lag()
                except BusError as error:
                    log.warning("the end of %s is not known: %s", topic, error)
            await self._ask_the_store()
            if loop.time() >= due and self.store is not None:
                due = loop.time() + _RETENTION_SECONDS
                await asyncio.to_thread(partial(self._drop_old, self.store, self.context.clock.now()))

    async def _ask_the_store(self) -> None:
        """A store that is away is told of although nothing is to be written."""
        from trade2026.stores.timeseries.port import StoreDamaged, StoreUnavailable

        store = self.store
        if store is None or self.writing is None or (self._repair is not None and not self._repair.done()):
            return
        try:
            await asyncio.to_thread(store.check)
            self._away = ""
        except StoreDamaged as error:
            self._begin_again(str(error))
        except StoreUnavailable as error:
            if store is self.store:
                self._away = str(error)

    def _drop_old(self, store: "QueryableStore", now_ns: int) -> None:
        from trade2026.stores.timeseries.port import StoreError

        for table in TABLES.values():
            days = self.config.retention_days.get(table.name, table.retention_days)
            try:
                if days and (dropped := store.drop_before(table.name, now_ns - days * DAY_NS)):
                    log.info("%s: dropped %d rows older than %d days", table.name, dropped, days)
            except StoreError as error:
                log.warning("%s: old rows were not dropped: %s", table.name, error)
