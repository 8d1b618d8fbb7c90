"""How the metrics server hears from the leader: it asks every operator there is, and the one that leads answers."""

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import aiohttp

from trade2026_operator.slo.board import Board, read

log = logging.getLogger(__name__)

PATH = "/demands"
ASK_SECONDS = 5.0
_ANSWER_SECONDS_MAX = 2.0


class LeaderSource:
    """Asks again and again.

    Args:
        url: Of the operators; a name that has several addresses means all of them.
        heard: Gets each board. None comes while nobody leads, and what was heard last grows stale.
    """

    def __init__(self, url: str, heard: Callable[[Board], None], now: Callable[[], float] = time.monotonic) -> None:
        self._parts, self._heard, self._now = urlsplit(url), heard, now

    async def run(self, pause_seconds: float = ASK_SECONDS) -> None:
        """Until cancelled."""
        timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS_MAX)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                boards = await asyncio.gather(*(self._ask(session, each) for each in await self._addresses()))
                for board in boards:
                    if board is not None:
                        self._heard(board)
                await asyncio.sleep(pause_seconds)

    async def _addresses(self) -> list[str]:
        host, port = self._parts.hostname or "", self._parts.port or 80
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            log.warning("no operator is found at %s: %s", host, error)
            return []
        return sorted({str(each[4][0]) for each in found})

    async def _ask(self, session: aiohttp.ClientSession, address: str) -> Board | None:
        host = f"[{address}]" if ":" in address else address
        try:
            async with session.get(f"http://{host}:{self._parts.port or 80}{PATH}") as answer:
                return read(await answer.text(), self._now()) if answer.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            log.warning("the operator at %s can't be asked: %r", address, error)
            return None
