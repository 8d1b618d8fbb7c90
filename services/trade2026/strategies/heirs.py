"""What processes have left that are not planned any more: their claims, and orders that nobody looks after.

An heir claims the log of such a process, which fences it wherever it may still be, reads it to its end, sends again what
may not have arrived, cancels what is open, and lets the symbols go. Then others may trade them.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from trade2026.kit.bus.port import Bus, BusError
from trade2026.strategies.shard_log import is_claimed

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0


class Heir(Protocol):
    """Runs one such log without a strategy of its own."""

    @property
    def is_done(self) -> bool:
        """Whether nothing is claimed there any more, or somebody else has the log."""
        ...

    async def start(self) -> None: ...
    async def stop(self) -> None: ...


class Heirs:
    """Looks for what was left, for as long as this process lives.

    Args:
        partitions: Of processes that are not planned, for which this one cares.
        make: Makes the heir of one of them.
    """

    def __init__(self, bus: Bus, partitions: Iterable[int], make: Callable[[int], Heir]) -> None:
        self._bus, self._partitions, self._make = bus, tuple(partitions), make
        self.here: dict[int, Heir] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look from now on, in the background."""
        if self._partitions:
            self._task = asyncio.create_task(self._look(), name="heirs")

    async def stop(self) -> None:
        """Look no more; what is not let go is found by whoever looks next. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for partition in list(self.here):
            await self.here.pop(partition).stop()

    async def _look(self) -> None:
        while True:
            for partition in self._partitions:
                with contextlib.suppress(BusError):
                    await self._care(partition)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _care(self, partition: int) -> None:
        heir = self.here.get(partition)
        if heir is None and await is_claimed(self._bus, partition):
            log.info("process %s is not planned any more: its orders are cancelled and its symbols let go", partition)
            heir = self._make(partition)
            await heir.start()
            self.here[partition] = heir
        elif heir is not None and heir.is_done:
            await self.here.pop(partition).stop()
