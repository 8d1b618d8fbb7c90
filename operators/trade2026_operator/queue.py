"""Which stacks are to be looked at: each once however often it was named, the failing ones less and less often."""

import asyncio
import heapq
import logging
import random
from collections.abc import Awaitable, Callable
from typing import NamedTuple

log = logging.getLogger(__name__)

FAILURE_SECONDS_MIN, FAILURE_SECONDS_MAX = 0.5, 120.0
RESYNC_SECONDS = 600.0
_JITTER = 0.2


class Key(NamedTuple):
    """A stack."""

    namespace: str
    name: str


Look = Callable[[Key], Awaitable[float | None]]
"""Looks at a stack; returns in how many seconds it wants to be asked again, None for the resync, `GONE` for never."""
GONE = -1.0


class WorkQueue:
    """Hands stacks to workers.

    A stack that is named while it is looked at is looked at once more afterwards, never by two workers at a time; soon
    also where that look fails, for what was named may be what mends it.

    Args:
        look: What is done.
        rng: Of the jitter.
    """

    def __init__(self, look: Look, *, rng: random.Random | None = None, resync_seconds: float = RESYNC_SECONDS) -> None:
        self.resync_seconds = resync_seconds
        self.failures: dict[Key, int] = {}
        """In a row, by stack."""
        self._look, self._rng = look, rng or random.Random()
        self._due: list[tuple[float, int, Key]] = []
        self._when: dict[Key, float] = {}
        """The earliest time at which a stack is to be looked at; what else is in the heap is out of date."""
        self._busy: set[Key] = set()
        self._again: set[Key] = set()
        self._count = 0
        self._wake = asyncio.Event()

    def add(self, key: Key, after: float = 0.0) -> None:
        """Look at a stack, in so many seconds at the latest."""
        if key in self._busy and after == 0.0:
            self._again.add(key)
            return
        at = asyncio.get_running_loop().time() + after
        if at < self._when.get(key, float("inf")):
            self._count += 1
            self._when[key] = at
            heapq.heappush(self._due, (at, self._count, key))
            self._wake.set()

    def forget(self, key: Key) -> None:
        """A stack is gone."""
        self._when.pop(key, None)
        self.failures.pop(key, None)
        self._again.discard(key)

    def __len__(self) -> int:
        """How many wait, now or for their resync."""
        return len(self._when)

    async def work(self, workers: int) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            key = await self._next()
            self._busy.add(key)
            try:
                after = await self._look(key)
                self.failures.pop(key, None)
                delay = self._jittered(self.resync_seconds) if after is None else after
            except asyncio.CancelledError:
                raise
            except Exception as error:
                log.warning("%s/%s is looked at again: %r", *key, error)
                count = self.failures[key] = self.failures.get(key, 0) + 1
                delay = self._jittered(min(FAILURE_SECONDS_MAX, FAILURE_SECONDS_MIN * 2 ** min(count - 1, 20)))
            finally:
                self._busy.discard(key)
            if delay == GONE and key not in self._again:
                self.forget(key)
                continue
            if key in self._again:
                self._again.discard(key)
                # News is no retry. What a failing look has written itself is news, too, and must not spin.
                delay = min(delay, FAILURE_SECONDS_MIN) if key in self.failures else 0.0
            self.add(key, delay or 1e-9)

    async def _next(self) -> Key:
        loop = asyncio.get_running_loop()
        while True:
            while self._due and self._when.get(self._due[0][2]) != self._due[0][0]:
                heapq.heappop(self._due)
            wait = self._due[0][0] - loop.time() if self._due else None
            if wait is not None and wait <= 0:
                _, _, key = heapq.heappop(self._due)
                del self._when[key]
                return key
            self._wake.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _jittered(self, seconds: float) -> float:
        return seconds * self._rng.uniform(1 - _JITTER, 1 + _JITTER)
