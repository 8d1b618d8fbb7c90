"""Starts the components that a stack asks for, starts again what has died, and stops them at the end."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from trade2026.local.infra.component import Component, InfraError

_LOOK_SECONDS = 0.5
_RETRY_SECONDS = 5.0


class Attendant:
    """Looks after components from threads that live as long as they do: they end with them.

    Args:
        say: Told every event worth a line, on the loop.
    """

    def __init__(self, components: Sequence[Component], say: Callable[[str], None]) -> None:
        self.components = list(components)
        self._say = say
        self._threads = ThreadPoolExecutor(max(1, len(self.components)), thread_name_prefix="infra")
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start all, side by side, and look after them from now on. Raises `InfraError`: one does not come up."""
        for component in self.components:  # what is missing is said before anything is started
            await self._do(component.fetch)
        for component in self.components:
            self._say(f"{component.name}: starting on {component.address}")
        starts = (self._do(component.start) for component in self.components)
        for failed in filter(None, await asyncio.gather(*starts, return_exceptions=True)):
            raise failed
        self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Stop all, side by side: one that hangs is waited for, and then killed. Idempotent."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
            self._watching = None
        for component in self.components:
            if component.pid is not None:
                self._say(f"{component.name}: stopping")
        await asyncio.gather(*(self._do(component.stop) for component in self.components))
        self._threads.shutdown(wait=False)

    def status(self) -> list[dict[str, Any]]:
        """Each component: name, process id, address and log."""
        return [
            {"name": each.name, "pid": each.pid, "address": each.address, "log": str(each.log)}
            for each in self.components
        ]

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            for component in self.components:
                if component.pid is None:
                    self._say(f"{component.name}: died, starting it again; see {component.log}")
                    try:
                        await self._do(component.start)
                    except InfraError as error:
                        self._say(str(error))
                        await asyncio.sleep(_RETRY_SECONDS)

    async def _do(self, work: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, work)
