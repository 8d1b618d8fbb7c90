"""Whether another service lives: asked often, in the background, so that `/health` need not wait for anyone."""

import asyncio
import contextlib
from urllib.parse import urlsplit

from trade2026.kit.clock import Clock
from trade2026.kit.service import Health

POLL_SECONDS = 0.5
TIMEOUT_SECONDS = 0.5
SILENT_NS_MAX = 1_400_000_000
"""A peer that has not answered for so long is down: `/health` says so within 2 s of its stop."""


class PeerHealth:
    """Polls `/livez` of one service.

    Args:
        url: Of the service, e.g. `settings.url("oms")`.
    """

    def __init__(self, url: str, clock: Clock) -> None:
        parts = urlsplit(url)
        assert parts.hostname, f"{url} has no host"
        assert parts.port, f"{url} has no port"
        self.url = url
        self._host, self._port = parts.hostname, parts.port
        self._request = f"GET /livez HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode()
        self._clock = clock
        self._answered_ns = 0
        self._detail = "not asked yet"
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Ask once, then go on in the background."""
        await self.poll()
        self._task = asyncio.create_task(self._run(), name=f"peer {self.url}")

    async def stop(self) -> None:
        """Ask no more. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def health(self) -> Health:
        """How it is now; no I/O."""
        if not self._answered_ns:
            return Health(False, f"{self.url}: {self._detail}")
        silent_ns = self._clock.now() - self._answered_ns
        if silent_ns <= SILENT_NS_MAX:
            return Health(True, "")
        return Health(False, f"{self.url} has not answered for {silent_ns / 1e9:.1f} s: {self._detail}")

    async def poll(self) -> None:
        """Ask once, for at most `TIMEOUT_SECONDS`."""
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                status = await self._ask()
        except TimeoutError:
            self._detail = f"no answer within {TIMEOUT_SECONDS} s"
        except (OSError, ValueError, IndexError) as error:
            self._detail = "nobody listens" if isinstance(error, ConnectionRefusedError) else f"no answer: {error}"
        else:
            self._detail = f"/livez answers {status}"
            if status == 200:
                self._answered_ns = self._clock.now()

    async def _ask(self) -> int:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            writer.write(self._request)
            return int((await reader.readline()).split()[1])
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self.poll()
