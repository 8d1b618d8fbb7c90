"""The audit log: follows what people, strategies and services decide; owns `audit/` with the chain and its key.

What it promises: every event of its topics that is to be audited is one record, exactly once, whatever is killed when.
Commands, decisions, outcomes and limit changes are such events themselves. What processes say beside them, in the topic
`audit` (starts, manifests, and whose keys are used, once an hour and process), may be there twice, and is missing if it
had no room to wait (`trade2026.kit.audit`). The records are chained by hashes, and the chain is signed every thousand
records or every minute. `trade2026 audit verify` names each record that was changed, removed, inserted or put elsewhere
since.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from trade2026.kit.bus.port import BusError
from trade2026.kit.follower import Follower
from trade2026.kit.http import App
from trade2026.kit.lag import Followed
from trade2026.kit.service import Context, Health, Service
from trade2026.logger import api
from trade2026.logger.machine import Chain
from trade2026.logger.store import AuditDamaged, AuditReader, AuditStore, Found, set_aside

if TYPE_CHECKING:
    from trade2026.logger.signing import Signer
    from trade2026.logger.writing import Writing

log = logging.getLogger(__name__)

T = TypeVar("T")
TOPICS = ("orders.events", "risk.events", "exeq.events", "strategies.events", "audit")
DATABASE, KEY = "audit.db", "signing-key.pem"
_DAY_NS = 86_400 * 10**9
_RETENTION_SECONDS = 3_600.0
_DROP_ROWS = 5_000
_CATCH_UP_SECONDS_MAX = 3.0
"""Of the end: for what was written to the topics just before."""


class LoggerConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The service's `config` in the manifest."""

    key_file: str = ""
    """Ed25519 in PEM; one in the state directory is made if none is named."""
    batch_seconds: float = 1.0
    checkpoint_records: int = 1_000
    checkpoint_seconds: float = 60.0
    retention_days: int = 0
    """0 keeps everything."""


class LoggerService(Service):
    """The audit log."""

    name = "logger"
    title = "Audit log"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.config = msgspec.convert(self.settings.config.get(self.name, {}), LoggerConfig, strict=False)
        self.folder = self.settings.state / "audit"
        self.path = self.folder / DATABASE
        self.store: AuditStore | None = None
        self.signer: Signer | None = None
        self.writing: Writing | None = None
        self._reader: AuditReader | None = None
        self._asking = ThreadPoolExecutor(1, "audit questions")
        self._followers: dict[str, Follower] = {}
        self._faults: dict[str, str] = {}
        """By place, why it is not followed; and what was found wrong with the store."""
        self._detail = "not started"
        self._tasks: list[asyncio.Task[None]] = []
        metrics = context.metrics
        self._dropped = metrics.counter(
            "trade2026_audit_dropped_total", "Records that retention has deleted", service=self.name
        )
        metrics.gauge("trade2026_audit_records", "Records ever made", lambda: self._n, service=self.name)
        metrics.gauge(
            "trade2026_audit_unsigned_records",
            "Records that no checkpoint has yet",
            lambda: self.writing.unsigned if self.writing else 0,
            service=self.name,
        )

    def routes(self, app: App) -> None:
        api.add_routes(app, self)

    async def start(self) -> None:
        # Cryptography costs 10 MB: only the process that signs pays for it.
        from trade2026.logger.signing import load_or_make
        from trade2026.logger.writing import Writing

        self._detail = "opening the audit log"
        given = self.config.key_file
        key = self.settings.state / given if given else self.folder / KEY  # an absolute name stays as it is
        self.signer = await asyncio.to_thread(partial(load_or_make, key, given=bool(given)))
        self.store = await asyncio.to_thread(self._open)
        await asyncio.to_thread(self.store.know_key, self.signer.key, self.signer.public)
        found = await asyncio.to_thread(self.store.found)
        self._look_for_a_cut(found)
        self._reader = await self._ask(AuditReader, self.path)
        chain = Chain(self.settings.stack, found.n, found.head, found.positions)
        self.writing = Writing(
            self.store,
            chain,
            self.signer,
            self.context.clock,
            found.newest,
            batch_seconds=self.config.batch_seconds,
            checkpoint_records=self.config.checkpoint_records,
            checkpoint_seconds=self.config.checkpoint_seconds,
        )
        self.writing.start()
        for topic in self.settings.topics:
            for partition in range(topic.partitions if topic.name in TOPICS else 0):
                await self._follow(topic.name, partition)
        self._detail = "ready"
        self._tasks = [
            asyncio.create_task(self._keep_retention(), name="retention of the audit log"),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(TimeoutError, BusError):
            async with asyncio.timeout(_CATCH_UP_SECONDS_MAX):
                await self._catch_up()
        for follower in self._followers.values():
            await follower.stop()
        if self.writing is not None:
            await self.writing.stop()
        if self.store is not None:
            await asyncio.to_thread(self.store.close)
        self._asking.shutdown(wait=True, cancel_futures=True)
        if self._reader is not None:
            self._reader.close()

    def readiness(self) -> tuple[bool, str]:
        if self._detail != "ready":
            behind = [follower.progress for follower in self._followers.values() if not follower.caught_up]
            return False, behind[0] if behind else self._detail
        return True, "ready"

    def replaced(self) -> str:
        return self.writing.gone if self.writing is not None else ""

    def followed(self) -> Iterable[Followed]:
        return list(self._followers.values())

    def health(self) -> dict[str, Health]:
        checks = {
            place: Health(not follower.error, follower.error or f"{follower.lag} behind")
            for place, follower in self._followers.items()
        }
        checks |= {place: Health(False, fault) for place, fault in self._faults.items()}
        if self.writing is not None:
            fault = self.writing.gone or self.writing.error
            checks["written"] = Health(not fault, fault)
        return checks | {"disk": self.disk()}

    def stats(self) -> dict[str, Any]:
        newest = self.writing.newest if self.writing is not None else None
        return {
            "records": self._n,
            "signed": newest.n if newest is not None else 0,
            "key": self.signer.key if self.signer is not None else "",
            "dropped": self._dropped.value,
            "lag": sum(follower.lag for follower in self._followers.values()),
        }

    async def read(self, question: Callable[..., T], *values: Any) -> T:
        """Ask the store on a thread of its own, beside the writer."""
        assert self._reader is not None
        return await self._ask(question, self._reader, *values)

    async def _ask(self, question: Callable[..., T], *values: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._asking, partial(question, *values))

    @property
    def _n(self) -> int:
        return self.writing.chain.n if self.writing is not None else 0

    def _open(self) -> AuditStore:
        try:
            return AuditStore(self.path, self.settings.stack)
        except AuditDamaged as error:
            aside = set_aside(self.path)
            self._faults["store"] = f"it was damaged ({error}), is in {aside}, and is made again from the log"
            log.error("%s", self._faults["store"])
            return AuditStore(self.path, self.settings.stack)

    def _look_for_a_cut(self, found: Found) -> None:
        """What was signed and is not there is evidence: the chain goes on, and the checkpoint contradicts it for ever."""
        if found.newest is not None and found.newest.n > found.n:
            self._faults["store"] = (
                f"it ends at {found.n}, and a signed checkpoint says {found.newest.n}: records were removed; "
                "see `trade2026 audit verify`"
            )
            log.error("%s", self._faults["store"])

    async def _follow(self, topic: str, partition: int) -> None:
        assert self.writing is not None
        place, bus = f"{topic}/{partition}", self.context.bus
        position, end = self.writing.chain.positions.get(place, 0), await bus.end(topic, partition)
        if position > end:
            self._faults[place] = f"it ends at {end}, and the audit log has its events to {position}: it lost its end"
            log.error("%s: %s", place, self._faults[place])
            return
        follower = Follower(
            bus, topic, self.writing.fold, partition=partition, from_seq=position, on_batch=self.writing.room
        )
        self._followers[place] = follower
        await follower.start()

    async def _catch_up(self) -> None:
        """Take what the topics have now."""
        for follower in self._followers.values():
            end = await self.context.bus.end(follower.topic, follower.partition)
            while follower.next_seq < end and not follower.error:  # noqa: ASYNC110 (at the end, 3 s at most: no event)
                await asyncio.sleep(0.01)

    async def _keep_retention(self) -> None:
        while self.config.retention_days:
            try:
                await self.drop_before(self.context.clock.now() - self.config.retention_days * _DAY_NS)
            except Exception as error:
                log.warning("old audit records were not dropped: %s", error)
            await asyncio.sleep(_RETENTION_SECONDS)

    async def drop_before(self, ts: int) -> int:
        """Cut the chain at the last checkpoint before a time (ns), and delete what is before it."""
        assert self.store is not None and self.signer is not None
        signer = self.signer
        old = await self.on_writer(self.store.newest_before, ts)
        if old is None:
            return 0
        if old.kind != "cut":  # else it is made, and what it has cut off may still be there
            cut = msgspec.structs.replace(old, kind="cut", ts=self.context.clock.now(), key=signer.key, signature="")
            await self.on_writer(self.store.add, signer.sign(cut))
        gone = 0
        while count := await self.on_writer(self.store.drop, old.n, _DROP_ROWS):
            gone += count
            self._dropped.inc(count)
            await asyncio.sleep(0)
        if gone:
            log.info("the audit log begins at record %s now: %s older ones were deleted", old.n, gone)
        return gone

    async def on_writer(self, call: Callable[..., T], *values: Any) -> T:
        """Call the store while no batch is written. It is finished even if whoever asked is cancelled."""
        assert self.writing is not None
        async with self.writing.turn:
            called = asyncio.ensure_future(asyncio.to_thread(call, *values))
            try:
                return await asyncio.shield(called)
            finally:
                await asyncio.wait([called])
