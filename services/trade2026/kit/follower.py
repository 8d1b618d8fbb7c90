"""A follower folds a partition of the log: first to its end (recovery), then as it grows."""

import asyncio
import contextlib
import gc
import logging
from collections.abc import Awaitable, Callable

from trade2026.domain.events import Envelope, decode
from trade2026.kit.bus.port import Bus, BusCorrupt, BusError, Reader, Record, Trimmed
from trade2026.kit.dead_letters import DeadLetters

log = logging.getLogger(__name__)

RECORDS_PER_BATCH_MAX = 500
_RETRY_SECONDS, _RETRY_SECONDS_MAX = 0.5, 5.0
_STOP_SECONDS_MAX = 2.0


class Follower:
    """Folds every record once, in order, batch by batch; the next is read when the one before is dealt with.

    Args:
        fold: Called with each envelope; what it raises stops the follower for good (an event that a
            reader does not understand must not be skipped).
        from_seq: Where to begin, e.g. after a snapshot.
        on_batch: Awaited after each batch that was folded, before the next is read.
        dead: Where a record is put that can't be decoded or folded, for who may go on without it.
    """

    def __init__(
        self,
        bus: Bus,
        topic: str,
        fold: Callable[[Envelope, Record], None],
        *,
        partition: int = 0,
        from_seq: int = 0,
        on_batch: Callable[[], Awaitable[None]] | None = None,
        dead: DeadLetters | None = None,
    ) -> None:
        self.bus, self.topic, self.partition = bus, topic, partition
        self.next_seq = from_seq
        """The position after the last folded record: what a report is `as_of`."""
        self.caught_up = False
        self.error = ""
        """Why it stopped, or waits; empty while it is well."""
        self.end_seen = from_seq
        self._fold, self._on_batch, self._dead = fold, on_batch, dead
        self._reader: Reader | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._reading = False

    async def start(self) -> None:
        """Fold to the end of the log, then go on in the background."""
        self._reader = await self.bus.open_reader(self.topic, self.partition, self.next_seq)
        self.end_seen = await self.bus.end(self.topic, self.partition)
        while self.next_seq < self.end_seen:
            await self._take(await self._reader.read(RECORDS_PER_BATCH_MAX))
            if self.lag:
                gc.freeze()  # what was folded lives on: the collector need not look at it again and again
        self.caught_up = True
        self._task = asyncio.ensure_future(self._run())

    @property
    def lag(self) -> int:
        """Records known to exist that are not folded yet."""
        return max(0, self.end_seen - self.next_seq)

    @property
    def progress(self) -> str:
        """How far recovery is, for a person."""
        return f"{self.topic}: folded {self.next_seq} of {self.end_seen} events"

    async def measure_lag(self) -> int:
        """Look where the log ends now, and return the lag."""
        self.end_seen = max(self.end_seen, await self.bus.end(self.topic, self.partition))
        return self.lag

    async def stop(self) -> None:
        """Stop between two batches: one that was begun is dealt with, if that is done soon. Idempotent."""
        self._stopping = True
        if self._task is not None:
            if not self._reading:
                await asyncio.wait([self._task], timeout=_STOP_SECONDS_MAX)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._reader is not None:
            await self._reader.close()

    async def _take(self, records: list[Record]) -> None:
        if len(records) == RECORDS_PER_BATCH_MAX:
            await self.measure_lag()  # behind: there may be many more
        for record in records:
            assert record.seq == self.next_seq, f"{self.topic}: {record.seq} follows {self.next_seq - 1}"
            self._take_one(record)
            self.next_seq = record.seq + 1
        self.end_seen = max(self.end_seen, self.next_seq)
        if self._on_batch is not None:
            await self._on_batch()
        await asyncio.sleep(0)

    def _take_one(self, record: Record) -> None:
        try:
            self._fold(decode(record.body), record)
        except Exception as error:
            if self._dead is None:
                raise
            log.warning("%s: put down at %d: %s", self.topic, record.seq, error)
            self._dead.put(record, str(error))

    async def _run(self) -> None:
        try:
            while not self._stopping:
                await self._take(await self._read())
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self.error = f"{self.topic}: stopped at {self.next_seq}: {error}"
            log.exception(self.error)

    async def _read(self) -> list[Record]:
        """The next batch; a log that can't be read just now is asked again, less and less often."""
        assert self._reader is not None
        self._reading = True
        delay = _RETRY_SECONDS
        try:
            while True:
                try:
                    records = await self._reader.read(RECORDS_PER_BATCH_MAX)
                    self.error = ""
                    return records
                except (BusCorrupt, Trimmed):
                    raise
                except BusError as error:
                    if not self.error:  # one line an outage
                        log.warning("%s: waits at %d: %s", self.topic, self.next_seq, error)
                    self.error = f"{self.topic}: waits at {self.next_seq}: {error}"
                    await asyncio.sleep(delay)
                    delay = min(2 * delay, _RETRY_SECONDS_MAX)
                    await self._look_again()
        finally:
            self._reading = False

    async def _look_again(self) -> None:
        """It is well as soon as the log answers: the next record may be hours away."""
        with contextlib.suppress(BusError):
            await self.measure_lag()
            log.info("%s: goes on at %d", self.topic, self.next_seq)
            self.error = ""
