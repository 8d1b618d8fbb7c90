"""The loop that writes: a batch at a time, by size and age, until it is in the store."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from trade2026.kit.service import Health
from trade2026.questdb_writer.batches import Collected, Collector
from trade2026.questdb_writer.dead_letters import DeadLetters
from trade2026.stores.timeseries.port import QueryableStore, RowsRefused, StoreDamaged, StoreUnavailable

log = logging.getLogger(__name__)

_RETRY_SECONDS_MIN = 0.1
_RETRY_SECONDS_MAX = 2.0
_SLOW_SECONDS = 5.0
"""A batch that is under way for longer is told of."""
_STOP_SECONDS_MAX = 3.0
"""A store that hangs does not hold up the end of its process."""


@dataclass(frozen=True)
class Limits:
    """When a batch is written, and how many rows may wait for it."""

    batch_rows: int = 10_000
    batch_seconds: float = 0.7
    waiting_rows_max: int = 40_000


@dataclass
class Written:
    """What has been written since the start."""

    batches: int = 0
    rows: int = 0
    retries: int = 0
    seconds: float = 0.0
    """In the store, by the clock."""


class Writing:
    """Writes what a collector has; one batch is under way at a time.

    Args:
        damaged: Called when the store is of no use any more; the loop ends.
    """

    def __init__(
        self,
        store: QueryableStore,
        collector: Collector,
        dead: DeadLetters,
        limits: Limits,
        damaged: Callable[[str], None],
    ) -> None:
        self.store, self.collector, self.limits = store, collector, limits
        self.written = Written()
        self.error = ""
        self._began = 0.0
        """When the batch that is under way was given to the store, by the monotonic clock; 0 without one."""
        self._dead, self._damaged = dead, damaged
        self._now = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run(), name="time series writer")

    async def stop(self) -> None:
        """Write what waits, if the store takes it soon, and end. Idempotent."""
        self._stopping = True
        self._now.set()
        self.collector.waiting.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_STOP_SECONDS_MAX)
            if not self._task.done():
                await asyncio.to_thread(self.store.close)  # which ends what hangs; the log has the rows
            await asyncio.gather(self._task, return_exceptions=True)

    async def room(self) -> None:
        """Wait until there is room for more rows; called after each batch of events."""
        if self.collector.size >= self.limits.batch_rows:
            self._now.set()
        if self.collector.size >= self.limits.waiting_rows_max:
            self._room.clear()
            await self._room.wait()

    @property
    def full(self) -> bool:
        """Whether clients have to come again later."""
        return self.collector.size >= self.limits.waiting_rows_max

    async def flush(self) -> None:
        """Return when everything that was taken so far is durable."""
        written = self.collector.flushed()
        self._now.set()
        await asyncio.shield(written)

    def health(self) -> Health:
        """Whether it writes."""
        waiting = self.collector.size
        under_way = time.monotonic() - self._began if self._began else 0.0
        if under_way > _SLOW_SECONDS and not self.error:
            return Health(False, f"the store has not answered for {under_way:.0f} s; {waiting} rows wait")
        return Health(not self.error, self.error or (f"{waiting} rows wait" if waiting else ""))

    async def _run(self) -> None:
        while not self._stopping or self.collector.waiting.is_set():
            await self.collector.waiting.wait()
            if not self._stopping:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._now.wait(), self.limits.batch_seconds)
            self._now.clear()
            collected = self.collector.take()
            self._room.set()
            if not await self._write(collected):
                collected.written.set_exception(StoreUnavailable(self.error))
                collected.written.exception()  # nobody may be waiting for it
                return
            collected.written.set_result(None)
            if self._stopping:
                return

    async def _write(self, collected: Collected) -> bool:
        """Write one batch, however often that takes; False if the store is of no use."""
        delay = _RETRY_SECONDS_MIN
        while True:
            self._began = began = time.monotonic()
            try:
                await asyncio.to_thread(self._write_once, collected)
                self.error = ""
                self.written.batches += 1
                self.written.rows += collected.batch.size
                self.written.seconds += time.monotonic() - began
                return True
            except StoreDamaged as error:
                self.error = f"the store is of no use: {error}"
                self._damaged(str(error))
                return False
            except (StoreUnavailable, OSError) as error:
                self.error = f"rows can't be written: {error}"
            except RowsRefused as error:
                self.error = f"rows are refused, and none of them is known to be wrong: {error}"
            finally:
                self._began = 0.0
            log.warning("%s", self.error)
            self.written.retries += 1
            if self._stopping:
                return False  # the log has them
            self.store.interrupt_queries()
            await asyncio.sleep(delay)
            delay = min(2 * delay, _RETRY_SECONDS_MAX)

    def _write_once(self, collected: Collected) -> None:
        batch = collected.complete(self.store)
        while True:
            try:
                return self.store.write(batch)
            except RowsRefused as refused:
                if not self._dead.take_from(batch, refused):
                    raise
