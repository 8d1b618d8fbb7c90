"""The normalizer: follows `market.ticks`, owns `market.bars`.

What it promises: every bar once, with the tick that completed it as its cause; after a restart the bars go on as if
nothing had happened. The newest bars are answered from memory, which is read back from the own topic.
"""

import asyncio
import logging
from collections import deque
from typing import Any

import msgspec

from trade2026 import __version__
from trade2026.domain.events import Envelope, decode
from trade2026.domain.instruments import Instruments
from trade2026.domain.market import Bar
from trade2026.kit.bus.port import BusError, Fenced, Record
from trade2026.kit.follower import Follower
from trade2026.kit.http import App
from trade2026.kit.projection import snapshot_directory
from trade2026.kit.publisher import Publisher
from trade2026.kit.service import Context, Health, Service
from trade2026.kit.snapshots import SnapshotStore
from trade2026.normalizer import api
from trade2026.normalizer.fold import TickFold
from trade2026.normalizer.machine import Rules

log = logging.getLogger(__name__)

TICKS = "market.ticks"
BARS = "market.bars"
BARS_KEPT = 2_000
"""Newest bars of each instrument and interval that are answered."""
_READ_BACK_MAX = 50_000
_READ_RECORDS = 1_000
_SNAPSHOT_NS = 30 * 10**9
_RETRY_SECONDS_MAX = 2.0

Kept = deque[tuple[int, Bar]]
"""Bars with their positions in `market.bars`, oldest first."""


class NormalizerService(Service):
    """Bars and the quality of market data."""

    name = "normalizer"
    title = "Bars and data quality"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.instruments = Instruments(self.settings.instruments)
        self.rules = msgspec.convert(self.settings.config.get(self.name, {}), Rules, strict=False)
        self.fold = self._empty()
        self.kept: dict[tuple[str, str], Kept] = {}
        self.published = 0
        self._publish_error = ""
        self._replaced = ""
        self._publisher: Publisher | None = None
        self._follower: Follower | None = None
        self._store = SnapshotStore(snapshot_directory(self.settings.state, self.name), self.name)
        self._snapshot_seq, self._snapshot_ts = 0, context.clock.now()
        self._told_seq = -1
        """The newest tick whose bars are in the topic, as far as the topic says."""
        self._waiting: list[tuple[Bar, Envelope]] = []

    def routes(self, app: App) -> None:
        api.add_routes(app, self)

    async def start(self) -> None:
        bus = self.context.bus
        begin, end = await bus.start(TICKS, 0), await bus.end(TICKS, 0)
        await self._claim(end)
        restored = self._store.restore(self._from_snapshot, next_seq_max=end)
        if restored is not None and restored.last_bar_seq > self._told_seq:
            log.warning("%s ends before the snapshot at %s, folding from the oldest tick", BARS, restored.next_seq)
        elif restored is not None:
            self.fold, self._snapshot_seq = restored, restored.next_seq
        self._follower = Follower(
            bus, TICKS, self._on_tick, from_seq=max(begin, self.fold.next_seq), on_batch=self._on_batch
        )
        await self._follower.start()

    async def stop(self) -> None:
        if self._follower is not None:
            await self._follower.stop()
            if not self._waiting and self.fold.next_seq > self._snapshot_seq:
                await self._snapshot()
        if self._publisher is not None:
            await self._publisher.stop()

    def readiness(self) -> tuple[bool, str]:
        if self._follower is None:
            return False, f"claiming {BARS}"
        return self._follower.caught_up, self._follower.error or self._follower.progress

    def replaced(self) -> str:
        return self._replaced

    def health(self) -> dict[str, Health]:
        error = self._follower.error if self._follower is not None else "not started"
        unreadable = "; ".join(f"{name}: {reason}" for name, reason in self._store.unreadable.items())
        return {
            "market_data": Health(not error, error),
            BARS: Health(not self._publish_error, self._publish_error),
            "snapshots": Health(not unreadable, unreadable),
        }

    def stats(self) -> dict[str, Any]:
        return {
            "ticks_next": self.fold.next_seq,
            "lag": self._follower.lag if self._follower is not None else 0,
            "published": self.published,
            "snapshot_as_of": self._snapshot_seq - 1,
            "unknown_venue": self.fold.unknown,
        }

    def _empty(self) -> TickFold:
        return TickFold(self.settings.instruments, self.rules)

    def _from_snapshot(self, state: bytes) -> TickFold:
        fold = self._empty()
        fold.restore(state)
        return fold

    async def _claim(self, ticks_end: int) -> None:
        """Own the topic, and learn from it which bars it has."""
        publisher = Publisher(
            self.context.bus,
            BARS,
            tenant=self.settings.stack,
            clock=self.context.clock,
            owner=f"{self.settings.release}-{self.name}",
        )
        await publisher.start()
        self._publisher = publisher
        begin = max(await self.context.bus.start(BARS, 0), publisher.next_seq - _READ_BACK_MAX)
        self.kept = {}
        while begin < publisher.next_seq:
            records = await self.context.bus.read(BARS, 0, begin, _READ_RECORDS)
            for record in records:
                envelope = decode(record.body)
                assert isinstance(envelope.data, Bar)
                self._keep(record.seq, envelope.data)
            if not records:
                break
            begin = records[-1].seq + 1
        cause = publisher.last.causation_id if publisher.last is not None else ""
        told = int(cause.rpartition("/")[2]) if cause else -1
        # Ticks are not durable: after a power cut their numbers may be given again, to ticks without bars.
        self._told_seq = min(told, ticks_end - 1)

    def _on_tick(self, envelope: Envelope, record: Record) -> None:
        bars = self.fold.apply(envelope, record.seq)
        if bars and record.seq > self._told_seq:
            self._waiting += [(bar, envelope) for bar in bars]

    async def _on_batch(self) -> None:
        delay = 0.1
        while self._waiting:
            try:
                await self._publish()
                self._publish_error = ""
            except Fenced as error:
                self._replaced = self._publish_error = f"another process owns {BARS}: {error}"
                raise
            except BusError as error:
                self._publish_error = f"{BARS} cannot be written: {error}"
                log.warning(self._publish_error)
                await asyncio.sleep(delay)
                delay = min(2 * delay, _RETRY_SECONDS_MAX)
                await self._claim_again()
        if self.context.clock.now() - self._snapshot_ts >= _SNAPSHOT_NS and self.fold.next_seq > self._snapshot_seq:
            await self._snapshot()

    async def _publish(self) -> None:
        """Append what waits in one piece, so that the bars of a tick are there together or not at all."""
        assert self._publisher is not None
        first, waiting = self._publisher.next_seq, self._waiting
        envelopes = [
            self._publisher.stamp(
                bar,
                offset=offset,
                ts_event=cause.ts_event,
                causation_id=f"{TICKS}/0/{cause.seq}",
                principal="market",
            )
            for offset, (bar, cause) in enumerate(waiting)
        ]
        await asyncio.shield(self._publisher.append(envelopes))
        for offset, (bar, _) in enumerate(waiting):
            self._keep(first + offset, bar)
        self._told_seq = waiting[-1][1].seq
        self.published += len(waiting)
        self._waiting = []

    async def _claim_again(self) -> None:
        """After a failed append it may be there all the same: learn from the topic."""
        try:
            if self._publisher is not None:
                await self._publisher.stop()
            await self._claim(self.fold.next_seq)
        except Fenced:
            raise
        except BusError as error:
            self._publish_error = str(error)
            return
        self._waiting = [(bar, cause) for bar, cause in self._waiting if cause.seq > self._told_seq]
        if not self._waiting:
            self._publish_error = ""

    def _keep(self, seq: int, bar: Bar) -> None:
        kept = self.kept.setdefault((bar.instrument, bar.interval), deque(maxlen=BARS_KEPT))
        kept.append((seq, bar))

    async def _snapshot(self) -> None:
        state, next_seq = self.fold.snapshot(), self.fold.next_seq
        self._snapshot_ts = self.context.clock.now()
        try:
            await asyncio.to_thread(self._store.write, state, next_seq, __version__)
        except OSError as error:
            log.warning("%s: no snapshot at %s: %s", self.name, next_seq, error)
            self._store.unreadable["newest"] = f"not written: {error}"
            return
        self._store.unreadable.pop("newest", None)
        self._snapshot_seq = next_seq
