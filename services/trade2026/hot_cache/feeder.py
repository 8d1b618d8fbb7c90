"""Brings what was folded into the cache, and knows how the cache is.

The fold never waits for the cache. While a cache that is a server does not answer, or has begun anew, what changes is
not kept in a queue: everything is in the fold, and once the server answers, it is filled from there.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from trade2026.stores.cache import Cache, CacheUnavailable, Changes, Entry

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
"""So often a cache is asked how it is, also if nothing changes."""
_RETRY_SECONDS = 0.25

Everything = Callable[[], Awaitable[Mapping[str, Entry]]]


class Feeder:
    """Keeps the newest of each key, one call at a time.

    Args:
        everything: Makes all that the platform keeps.
        told: Told what has changed once it is in the cache, so that who asks the cache first and listens then misses
            nothing; and at once while the cache does not answer.
    """

    def __init__(self, cache: Cache, everything: Everything, told: Callable[[Changes], None]) -> None:
        self.error = ""
        """Why the cache is not what was folded; empty while it is."""
        self.size = (0, 0, 0)
        """As `Cache.size` last said."""
        self.fills = 0
        self._cache, self._everything, self._told = cache, everything, told
        self._pending: dict[str, Entry] = {}
        self._woken = asyncio.Event()
        self._filled = False
        self._looked_at = 0.0
        self._feeding: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Fill the cache, and go on in the background; one that does not answer is tried again there."""
        await self._feed()
        self._feeding = asyncio.create_task(self._run(), name="to the cache")

    async def stop(self) -> None:
        """Keep what is pending, if the cache answers."""
        if self._feeding is not None:
            self._feeding.cancel()
            await asyncio.gather(self._feeding, return_exceptions=True)
            await self._feed()

    def offer(self, entries: Mapping[str, Entry]) -> None:
        """Take the newest values of some keys."""
        self._pending.update(entries)
        self._woken.set()
        if self.error:
            self._told(entries)

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._woken.wait()
            except TimeoutError:
                pass
            await self._feed()
            await asyncio.sleep(_RETRY_SECONDS if self.error else self._cache.write_pause)

    async def _feed(self) -> None:
        self._woken.clear()
        taken, self._pending = self._pending, {}
        try:
            if self._filled:
                await self._cache.keep(taken)
                self._told(taken)
            else:
                await self._fill()
            await self._look()
        except CacheUnavailable as error:
            self._failed(str(error), taken)
        except Exception as error:
            log.exception("the cache can't be written")
            self._failed(f"can't be written: {error}", taken)
        else:
            if self.error:
                log.info("the cache is well again")
            self.error = ""

    async def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._looked_at >= _LOOK_SECONDS:
            self.size, self._looked_at = await self._cache.size(), now

    async def _fill(self) -> None:
        """With everything, once somebody answers: it is much to make for nobody."""
        await self._cache.ping()
        await self._cache.fill(await self._everything())
        self._filled = True
        self.fills += 1

    def _failed(self, why: str, taken: Changes) -> None:
        if not self.error:
            self._told({**taken, **self._pending})
        if why != self.error:
            log.warning("%s", why)
        self.error, self._filled = why, False
        self._woken.set()
