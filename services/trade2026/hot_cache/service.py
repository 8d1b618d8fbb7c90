"""The hot cache: follows the order log and the market, owns nothing.

What it promises: the newest value of each key, with the position of the event that made it and its age. After a
restart it answers when it has folded the log to the end, from a snapshot or, of the market without one, from the
newest events; what it has not seen live says so. Users' own values live in memory, and a restart forgets them, unless
the cache is a server: then all replicas share them, and while it does not answer, questions get 503 and nothing else
waits for it.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import msgspec

from trade2026 import __version__
from trade2026.domain.events import Envelope
from trade2026.domain.instruments import Instruments
from trade2026.domain.shards import partition_name
from trade2026.hot_cache import api
from trade2026.hot_cache.feeder import Feeder
from trade2026.hot_cache.machine import ORDERS, TICKS, HotMachine
from trade2026.hot_cache.views import entry_of
from trade2026.hot_cache.watch import Watch
from trade2026.kit.bus.archived import resume_position
from trade2026.kit.bus.port import Record
from trade2026.kit.dead_letters import DeadLetters, dead_letters_folder
from trade2026.kit.follower import Follower
from trade2026.kit.followers import health_of
from trade2026.kit.http import App
from trade2026.kit.identity import ConfigurationError
from trade2026.kit.lag import Followed
from trade2026.kit.projection import snapshot_directory
from trade2026.kit.service import Context, Health, Service
from trade2026.kit.settings import ProcessSettings
from trade2026.kit.snapshots import SnapshotStore
from trade2026.stores.cache import USER_BYTES_MAX, USER_KEYS_MAX, Cache, Entry, MemoryCache

log = logging.getLogger(__name__)

TOPICS = (ORDERS, TICKS, "market.books", "market.bars")
_EVENTS_AT_START = 20_000
"""Newest events of each market topic that are read where there is no snapshot."""
_VALUE_SECONDS = 0.25
"""P&L follows prices at most so often."""
_SNAPSHOT_NS = 30 * 10**9
_KEYS_AT_ONCE = 200


class HotCacheConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`config` of the service: bounds of what users keep here."""

    user_keys_max: int = USER_KEYS_MAX
    """Keys under `user:`, of everyone together."""
    user_bytes_max: int = USER_BYTES_MAX
    """Of their values."""


def open_cache(settings: ProcessSettings, config: HotCacheConfig, now: Callable[[], int]) -> Cache:
    """Open the cache that the manifest names. Raises `ConfigurationError`: what it needs is not installed."""
    store = settings.stores.get("cache")
    if store is None:
        return MemoryCache(now, user_keys_max=config.user_keys_max, user_bytes_max=config.user_bytes_max)
    try:
        from trade2026.stores.valkey_cache import ValkeyCache, ValkeySettings
    except ImportError as error:
        raise ConfigurationError("spec.stores.cache.type valkey needs `pip install trade2026[data]`") from error
    return ValkeyCache(
        msgspec.convert(store, ValkeySettings),
        settings.stack,
        now,
        user_keys_max=config.user_keys_max,
        user_bytes_max=config.user_bytes_max,
    )


class HotCacheService(Service):
    """The newest of everything, by key."""

    name = "hot_cache"
    title = "Newest values by key"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        config = msgspec.convert(self.settings.config.get(self.name, {}), HotCacheConfig)
        now = context.clock.now
        self.cache: Cache = open_cache(self.settings, config, now)
        self.watch = Watch(self.cache, api.may_read, now)
        self.machine = self._empty()
        self.followers: dict[str, Follower] = {}
        """By the name of their partition."""
        self._store = SnapshotStore(snapshot_directory(self.settings.state, self.name), self.name)
        self._snapshot_ts = now()
        self.feeder = Feeder(self.cache, self._everything, self.watch.tell)
        self.dead = DeadLetters(dead_letters_folder(self.settings.state), self.name, context.metrics)
        self._valuing: asyncio.Task[None] | None = None
        self._error = ""
        self._add_metrics()

    def routes(self, app: App) -> None:
        api.add_routes(app, self)

    async def start(self) -> None:
        bus = self.context.bus
        places = [(topic, part) for topic in TOPICS for part in range(self.settings.partitions(topic))]
        ends = {partition_name(*place): await bus.end(*place) for place in places}
        self.machine = self._store.restore(partial(self._restored, ends)) or self._empty()
        for topic, partition in places:
            name = partition_name(topic, partition)
            cold = max(0, ends[name] - _EVENTS_AT_START)
            next_seq = self.machine.next_seq.get(name, 0 if topic == ORDERS else cold)
            self.followers[name] = Follower(
                bus,
                topic,
                partial(self._fold, name),
                partition=partition,
                from_seq=await resume_position(bus, topic, partition, next_seq),
                on_batch=self._publish,
                dead=None if topic == ORDERS else self.dead,  # positions are made of all orders
            )
            await self.followers[name].start()
        self.machine.value()
        await self._publish()
        await self.feeder.start()
        self.cache.listen(self.watch.tell)
        self.machine.live = True
        self._valuing = asyncio.ensure_future(self._keep_valued())

    async def stop(self) -> None:
        if self._valuing is not None:
            self._valuing.cancel()
            await asyncio.gather(self._valuing, return_exceptions=True)
        for follower in self.followers.values():
            await follower.stop()
        await self.feeder.stop()
        if self.machine.live:
            await self._snapshot()
        await self.cache.close()

    def readiness(self) -> tuple[bool, str]:
        for follower in self.followers.values():
            if not follower.caught_up:
                return False, follower.error or follower.progress
        return self.machine.live, "ready" if self.machine.live else "reading a snapshot"

    def followed(self) -> Iterable[Followed]:
        return list(self.followers.values())

    def health(self) -> dict[str, Health]:
        unreadable = "; ".join(f"{name}: {reason}" for name, reason in self._store.unreadable.items())
        return {
            **health_of(self.followers.values()),
            "cache": Health(not self.feeder.error, self.feeder.error),
            "P&L": Health(not self._error, self._error),
            "snapshots": Health(not unreadable, unreadable),
            **self.dead.health(),
        }

    def stats(self) -> dict[str, Any]:
        system, users, size = self.feeder.size
        return {
            "keys": system,
            "user_keys": users,
            "user_bytes": size,
            "hits": self.hits.value,
            "misses": self.misses.value,
            "evictions": self.evictions.value,
            "readers": len(self.watch.readers),
            "readers_dropped": self.watch.dropped,
            "as_of": {topic: follower.next_seq - 1 for topic, follower in self.followers.items()},
            "fills": self.feeder.fills,
            "lag": sum(follower.lag for follower in self.followers.values()),
        }

    async def put(self, key: str, entry: Entry) -> None:
        """Keep a user's value. Raises `EntryTooLarge`, `CacheUnavailable`."""
        self.evictions.inc(await self.cache.put(key, entry))

    def _empty(self) -> HotMachine:
        return HotMachine(Instruments(self.settings.instruments).by_id, self.settings.base_currency)

    def _restored(self, ends: dict[str, int], state: bytes) -> HotMachine:
        machine = self._empty()
        machine.restore(state, ends)
        return machine

    def _fold(self, partition: str, envelope: Envelope, record: Record) -> None:
        self.machine.apply(partition, envelope)

    async def _publish(self) -> None:
        """Tell what has changed."""
        changes = self.machine.take_changes()
        if changes:
            self.feeder.offer({key: entry_of(change) for key, change in changes.items()})

    async def _everything(self) -> dict[str, Entry]:
        """All that was folded; what changes meanwhile is told as usual."""
        entries: dict[str, Entry] = {}
        for count, key in enumerate(self.machine.keys(), 1):
            entries[key] = entry_of(self.machine.newest(key))
            if count % _KEYS_AT_ONCE == 0:
                await asyncio.sleep(0)
        return entries

    async def _keep_valued(self) -> None:
        while True:
            await asyncio.sleep(_VALUE_SECONDS)
            try:
                self.machine.value()
                await self._publish()
                if self.context.clock.now() - self._snapshot_ts >= _SNAPSHOT_NS:
                    await self._snapshot()
                self._error = ""
            except Exception as error:
                self._error = f"P&L is not told: {error}"
                log.exception(self._error)

    async def _snapshot(self) -> None:
        """Keep the machine. It is of several logs, some of which may lose their ends: time says which is newest."""
        state, now = self.machine.snapshot(), self.context.clock.now()
        self._snapshot_ts = now
        try:
            await asyncio.to_thread(self._store.write, state, now, __version__)
        except OSError as error:
            log.warning("%s: no snapshot: %s", self.name, error)
            self._store.unreadable["newest"] = f"not written: {error}"
            return
        self._store.unreadable.pop("newest", None)

    def _add_metrics(self) -> None:
        metrics, name = self.context.metrics, self.name
        self.hits = metrics.counter("trade2026_cache_hits_total", "Keys asked for that were there", service=name)
        self.misses = metrics.counter("trade2026_cache_misses_total", "Keys asked for that were not", service=name)
        self.evictions = metrics.counter(
            "trade2026_cache_evictions_total", "Users' values that had to go for others", service=name
        )
        for position, (kind, help) in enumerate(
            (("keys", "The platform's keys"), ("user_keys", "Users' keys"), ("user_bytes", "Of users' values"))
        ):
            metrics.gauge(
                f"trade2026_cache_{kind}", help, lambda position=position: self.feeder.size[position], service=name
            )
        metrics.gauge(
            "trade2026_cache_up", "Whether the cache is what was folded", lambda: not self.feeder.error, service=name
        )
        metrics.gauge("trade2026_cache_fills", "How often it was filled anew", lambda: self.feeder.fills, service=name)
        metrics.gauge("trade2026_cache_readers", "Who watches", lambda: len(self.watch.readers), service=name)
        metrics.gauge("trade2026_cache_lag_events", "Known and not folded", lambda: self.stats()["lag"], service=name)
