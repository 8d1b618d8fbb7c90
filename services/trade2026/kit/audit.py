"""What a process has to say for the audit log, written to the topic `audit` behind everything else.

Many processes write there, and each seldom. So none keeps the partition: it claims it, appends what waits and lets it
go; whoever loses a race for it is fenced, and tries again. What must not happen is that a full disk or a broker that
is down stops a process from starting or a key from being used: what can't be written waits, within a bound, and what
is dropped is counted and said.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Collection

from trade2026.domain.events import AnyEvent, KeyRefused, KeyUsed
from trade2026.kit.bus.port import Bus, BusError
from trade2026.kit.clock import Clock
from trade2026.kit.identity import Principal
from trade2026.kit.publisher import Publisher

log = logging.getLogger(__name__)

TOPIC = "audit"
WAITING_MAX = 1_000
RETRY_SECONDS_MIN, RETRY_SECONDS_MAX = 0.1, 10.0
STOP_SECONDS_MAX = 2.0
USED_AGAIN_NS = 3_600 * 10**9
"""Whose key was used is said once in this time, not with every request."""
REFUSED_AGAIN_NS = 60 * 10**9
PRINCIPALS_MAX = 10_000


class AuditTrail:
    """Says things of one process; `say` neither waits nor raises.

    Args:
        topics: What the bus has; without `audit` among them nothing is said.
        owner: Who claims the partition, for the log's readers.
    """

    def __init__(self, bus: Bus, topics: Collection[str], *, stack: str, owner: str, clock: Clock) -> None:
        self.bus, self.stack, self.owner, self.clock = bus, stack, owner, clock
        self.is_on = TOPIC in topics
        self.dropped = 0
        """What had no room; the log of the process has it."""
        self._waiting: deque[tuple[AnyEvent, str, int]] = deque()
        self._there = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._warned = False

    def start(self) -> None:
        """Write in the background from now on."""
        if self.is_on:
            self._task = asyncio.create_task(self._run(), name="audit trail")

    def say(self, event: AnyEvent, principal: str = "local") -> None:
        """Say what happened now, and who did it."""
        if not self.is_on:
            return
        if len(self._waiting) >= WAITING_MAX:
            self.dropped += 1
            log.error("the audit topic can't be written, and this had no room to wait: %r", event)
            return
        self._waiting.append((event, principal, self.clock.now()))
        self._there.set()

    async def stop(self) -> None:
        """Write what waits, if that is done soon. Idempotent."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS_MAX):
                await self._write_all()
        for event, _, _ in self._waiting:
            log.error("the audit topic could not be written: %r", event)

    async def _run(self) -> None:
        while True:
            await self._there.wait()
            self._there.clear()
            await self._write_all()

    async def _write_all(self) -> None:
        delay = RETRY_SECONDS_MIN
        while self._waiting:
            try:
                await self._write()
                self._warned = False
            except BusError as error:
                if not self._warned:
                    log.warning("the audit topic can't be written now: %s", error)
                self._warned = True
                await asyncio.sleep(delay)
                delay = min(2 * delay, RETRY_SECONDS_MAX)

    async def _write(self) -> None:
        """Append all that waits in one piece. What is not known to be written is written again: twice is better."""
        publisher = Publisher(self.bus, TOPIC, tenant=self.stack, clock=self.clock, owner=self.owner)
        await publisher.start()
        try:
            told = list(self._waiting)
            await publisher.append(
                [
                    publisher.stamp(event, offset=offset, ts_event=at, principal=principal)
                    for offset, (event, principal, at) in enumerate(told)
                ]
            )
            for _ in told:
                self._waiting.popleft()
        finally:
            await publisher.stop()


class KeyUse:
    """Says whose keys are used at a process, and that wrong ones are tried; called with every request."""

    def __init__(self, trail: AuditTrail, release: str) -> None:
        self._trail, self._release = trail, release
        self._said: dict[str, int] = {}
        self._refused, self._refused_at = 0, 0

    def used(self, principal: Principal) -> None:
        """A key was good."""
        now = self._trail.clock.now()
        if now - self._said.get(principal.name, 0) < USED_AGAIN_NS:
            return
        if len(self._said) >= PRINCIPALS_MAX:
            self._said.clear()
        self._said[principal.name] = now
        self._trail.say(KeyUsed(release=self._release, role=principal.role), principal.name)

    def refused(self) -> None:
        """A key was wrong."""
        self._refused += 1
        now = self._trail.clock.now()
        if now - self._refused_at >= REFUSED_AGAIN_NS:
            self._trail.say(KeyRefused(release=self._release, count=self._refused), "anonymous")
            self._refused, self._refused_at = 0, now
