"""From events to a signed chain on the disk: a batch at a time, until it is there."""

import asyncio
import logging
import os
import sqlite3

from trade2026.domain.events import Envelope
from trade2026.kit.bus.port import Record
from trade2026.kit.clock import Clock
from trade2026.logger.machine import AuditRecord, Chain, Checkpoint, NotSigned
from trade2026.logger.signing import Signer
from trade2026.logger.store import AuditFenced, AuditStore

log = logging.getLogger(__name__)

WAITING_MAX = 10_000
"""Records; then the topics are not read on."""
ASKED_MAX = 100
"""Who wait for a checkpoint at a time."""
_ASKED_SECONDS_MAX = 5.0
_RETRY_SECONDS_MIN, _RETRY_SECONDS_MAX = 0.1, 5.0
_STOPPING = "the audit log stops"


class Writing:
    """Writes what the chain has; one batch is under way at a time.

    Args:
        newest: The last checkpoint that is kept.
        checkpoint_records: A checkpoint is made when so many records are not signed,
        checkpoint_seconds: or when the first of them has waited so long.
    """

    def __init__(
        self,
        store: AuditStore,
        chain: Chain,
        signer: Signer,
        clock: Clock,
        newest: Checkpoint | None,
        *,
        batch_seconds: float,
        checkpoint_records: int,
        checkpoint_seconds: float,
    ) -> None:
        self.store, self.chain, self.signer, self.clock = store, chain, signer, clock
        self.batch_seconds, self.checkpoint_records = batch_seconds, checkpoint_records
        self.checkpoint_ns = int(checkpoint_seconds * 1e9)
        self.newest = newest
        self.written_n = chain.n
        """Records before this one are on the disk."""
        self.turn = asyncio.Lock()
        """Whoever calls the store has it."""
        self.error = ""
        self.gone = ""
        """Why nothing can be written any more; this process has to begin again."""
        self._signed_at = clock.now()
        self._waiting: list[AuditRecord] = []
        self._dirty = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._asked: set[asyncio.Future[Checkpoint]] = set()
        self._stopping = False
        self._inode = os.stat(store.path).st_ino
        self._task: asyncio.Task[None] | None = None

    @property
    def unsigned(self) -> int:
        """Records that no checkpoint has."""
        return self.chain.n - (self.newest.n if self.newest is not None else 0)

    def fold(self, envelope: Envelope, record: Record) -> None:
        """Take the next event of a partition."""
        made = self.chain.take(record.topic, record.partition, envelope, record.body)
        if made is not None:
            self._waiting.append(made)
        self._dirty.set()

    async def room(self) -> None:
        """Wait until there is room for more records."""
        if len(self._waiting) >= WAITING_MAX:
            self._room.clear()
        await self._room.wait()

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run(), name="audit log")

    async def checkpoint(self) -> Checkpoint:
        """Sign everything that was taken so far; returns when it is on the disk.

        Raises:
            NotSigned: it is not within 5 s, or will never be, or too many wait for it.
        """
        if self.gone or self._stopping:
            raise NotSigned(self.gone or _STOPPING)
        if len(self._asked) >= ASKED_MAX:
            raise NotSigned(f"{ASKED_MAX} wait for a checkpoint already")
        asked: asyncio.Future[Checkpoint] = asyncio.get_running_loop().create_future()
        self._asked.add(asked)
        self._dirty.set()
        try:
            async with asyncio.timeout(_ASKED_SECONDS_MAX):
                return await asked
        except TimeoutError as error:
            raise NotSigned(self.error or f"it is not on the disk within {_ASKED_SECONDS_MAX:g} s") from error
        finally:
            self._asked.discard(asked)

    async def stop(self) -> None:
        """Write and sign what waits, if the disk takes it. Idempotent."""
        self._stopping = True
        self._dirty.set()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            while not self.gone:
                await self._due()
                stopping = self._stopping
                await self._write("stop" if stopping else "interval")
                if stopping:
                    return
        except Exception as error:
            self.gone = f"the audit log can't be written on: {error!r}"
            log.exception("%s", self.gone)
        finally:
            for asked in self._asked:
                if not asked.done():
                    asked.set_exception(NotSigned(self.gone or _STOPPING))

    async def _due(self) -> None:
        """Wait until there is something to write, and for what comes with it."""
        wait_seconds = max(0.0, (self._signed_at + self.checkpoint_ns - self.clock.now()) / 1e9)
        try:
            async with asyncio.timeout(wait_seconds if self.unsigned else None):
                await self._dirty.wait()
        except TimeoutError:
            return
        if not self._asked and not self._stopping and len(self._waiting) < WAITING_MAX:
            await asyncio.sleep(self.batch_seconds)
        self._dirty.clear()

    def _checkpoint_due(self, kind: str) -> bool:
        if self._asked or kind == "stop":
            return self.unsigned > 0 or self.newest is None
        waited = self.clock.now() - self._signed_at >= self.checkpoint_ns
        return self.unsigned >= self.checkpoint_records or (waited and self.unsigned > 0)

    async def _write(self, kind: str) -> None:
        records, self._waiting = self._waiting, []
        made = None
        if self._checkpoint_due(kind):
            made = self.signer.sign(self.chain.checkpoint(kind, self.clock.now(), self.signer.key))
        asked = set(self._asked)
        positions, n = dict(self.chain.positions), self.chain.n
        delay = _RETRY_SECONDS_MIN
        while not await self._written(records, positions, made):
            if self.gone or self._stopping:
                self._waiting[:0] = records  # for the last try; else the log has it all
                return
            await asyncio.sleep(delay)
            delay = min(2 * delay, _RETRY_SECONDS_MAX)
        self.written_n = n
        if made is not None:
            self.newest, self._signed_at = made, self.clock.now()
        elif not self.unsigned:
            self._signed_at = self.clock.now()
        self._asked -= asked
        for each in asked:
            if not each.done() and self.newest is not None:
                each.set_result(self.newest)
        self._room.set()

    async def _written(
        self, records: list[AuditRecord], positions: dict[str, int], checkpoint: Checkpoint | None
    ) -> bool:
        try:
            if os.stat(self.store.path).st_ino != self._inode:
                raise FileNotFoundError
            async with self.turn:
                await asyncio.to_thread(self.store.write, records, positions, checkpoint)
        except FileNotFoundError:
            self.gone = f"{self.store.path} was taken away"
        except AuditFenced as error:
            self.gone = str(error)
        except (sqlite3.Error, OSError) as error:
            self.error = f"the audit log can't be written: {error}"
            log.warning("%s", self.error)
        else:
            self.error = ""
            return True
        return False
