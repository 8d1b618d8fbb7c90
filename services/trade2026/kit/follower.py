"""A follower folds a partition of the log: first to its end (recovery), then as it grows."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from trade2026.domain.events import Envelope, decode
from trade2026.kit.bus.port import Bus, Reader, Record

log = logging.getLogger(__name__)

_RECORDS_PER_TURN = 500


class Follower:
    """Folds every record once, in order.

    Args:
        fold: Called with each envelope; what it raises stops the follower for good (an event that a
            reader does not understand must not be skipped).
        from_seq: Where to begin, e.g. after a snapshot.
        on_batch: Awaited after each batch that was folded.
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
    ) -> None:
        self.bus, self.topic, self.partition = bus, topic, partition
        self.next_seq = from_seq
        """The position after the last folded record: what a report is `as_of`."""
        self.caught_up = False
        self.error = ""
        """Why it stopped; empty while it is well."""
        self.end_seen = from_seq
        self._fold, self._on_batch = fold, on_batch
        self._reader: Reader | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Fold to the end of the log, then go on in the background."""
        self._reader = await self.bus.open_reader(self.topic, self.partition, self.next_seq)
        self.end_seen = await self.bus.end(self.topic, self.partition)
        while self.next_seq < self.end_seen:
            await self._step()
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
        """Stop between two records. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._reader is not None:
            await self._reader.close()

    async def _step(self) -> None:
        assert self._reader is not None
        for record in await self._reader.read(_RECORDS_PER_TURN):
            assert record.seq == self.next_seq, f"{self.topic}: {record.seq} follows {self.next_seq - 1}"
            self._fold(decode(record.body), record)
            self.next_seq = record.seq + 1
        self.end_seen = max(self.end_seen, self.next_seq)
        if self._on_batch is not None:
            await self._on_batch()
        await asyncio.sleep(0)

    async def _run(self) -> None:
        try:
            while True:
                await self._step()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self.error = f"{self.topic}: stopped at {self.next_seq}: {error}"
            log.exception(self.error)
