"""How the services are that a service depends on: asked often, in the background, so that `/health` waits for nobody.

Each peer is asked for `/readyz` over one connection that is kept. A peer that has gone is noticed by the broken
connection, one that hangs by two answers that did not come: within 2 s either way. What is told is never
older than that; a process that could not ask says so.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection

import msgspec

from trade2026.kit.addresses import reachable
from trade2026.kit.identity import is_loopback
from trade2026.kit.service import Health
from trade2026.kit.settings import ProcessSettings

POLL_SECONDS = 0.5
RETRY_SECONDS = 0.2
"""To the next question while a peer is not well."""
TIMEOUT_SECONDS = 0.5
TIMEOUTS_MAX = 2
"""So many answers that did not come in a row, and the peer is down: one may be a busy machine."""
STALE_SECONDS = 2.0
_BODY_BYTES_MAX = 64 * 1024


class Answer(msgspec.Struct):
    """What a peer says of itself: the part of its `/readyz` that is of use here."""

    status: str
    detail: str = ""
    service: str = ""
    version: str = ""


_decode = msgspec.json.Decoder(Answer).decode


class Peer:
    """One service that others depend on.

    Args:
        allowed_versions: Of the release; a peer of another version is not well.
        now: Seconds on a clock that never goes back.
    """

    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        *,
        allowed_versions: Collection[str] = (),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._host, self._port = reachable(host), port
        self._place = f"port {port}" if is_loopback(self._host) else f"{self._host}:{port}"
        self._allowed, self._now = allowed_versions, now
        netloc = f"[{self._host}]:{port}" if ":" in self._host else f"{self._host}:{port}"
        self._request = f"GET /readyz HTTP/1.1\r\nHost: {netloc}\r\n\r\n".encode()
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._health = Health(False, f"{self._place}: not asked yet")
        self._asked_at: float | None = None
        self._timeouts = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Ask from now on, in the background."""
        self._task = asyncio.create_task(self._run(), name=f"peer {self.name}")

    async def stop(self) -> None:
        """Ask no more. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self._disconnect()

    def health(self) -> Health:
        """How it is, as far as is known; no I/O."""
        if self._asked_at is not None and (age := self._now() - self._asked_at) > STALE_SECONDS:
            return Health(False, f"{self._place}: not asked for {age:.1f} s, this process was too busy")
        return self._health

    async def poll(self) -> bool:
        """Ask once, for at most `TIMEOUT_SECONDS`; whether there was an answer."""
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                answer = await self._ask()
        except TimeoutError:
            self._disconnect()
            self._timeouts += 1
            if self._timeouts >= TIMEOUTS_MAX or self._asked_at is None:
                self._health = Health(False, f"{self._place}: does not answer within {TIMEOUT_SECONDS} s")
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError, msgspec.MsgspecError) as error:
            self._disconnect()
            why = "nobody listens" if isinstance(error, ConnectionRefusedError) else f"no answer: {error}"
            self._health = Health(False, f"{self._place}: {why}")
        else:
            self._timeouts = 0
            self._health = self._judge(answer)
            self._asked_at = self._now()
            return True
        self._asked_at = self._now()
        return False

    def _judge(self, answer: Answer) -> Health:
        if answer.service and answer.service != self.name:
            return Health(False, f"{self._place}: {answer.service} answers there")
        if self._allowed and answer.version and answer.version not in self._allowed:
            allowed = " or ".join(self._allowed)
            return Health(False, f"{self._place}: runs version {answer.version}, this release has {allowed}")
        return Health(True) if answer.status == "ok" else Health(False, f"{self._place}: not ready: {answer.detail}")

    async def _ask(self) -> Answer:
        if self._connection is not None and not self._connection[0].at_eof():
            with contextlib.suppress(OSError, EOFError):  # an idle connection may end any time: once more on a new one
                return await self._exchange(*self._connection)
        self._disconnect()
        self._connection = await asyncio.open_connection(self._host, self._port)
        return await self._exchange(*self._connection)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Answer:
        writer.write(self._request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.strip().lower() == b"content-length":
                length = int(value)
        if not 0 < length <= _BODY_BYTES_MAX:
            raise ValueError("it does not answer like a service of this platform")
        return _decode(await reader.readexactly(length))

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection[1].close()
            self._connection = None

    async def _run(self) -> None:
        while True:
            answered = await self.poll()
            await asyncio.sleep(POLL_SECONDS if answered and self._health.ok else RETRY_SECONDS)


class Peers:
    """All peers of one process, each asked once however many of its services depend on it."""

    def __init__(self, settings: ProcessSettings) -> None:
        self._by_service: dict[str, list[Peer]] = {}
        self._all: dict[tuple[str, int], Peer] = {}
        for service, named in settings.peers.items():
            for peer in named:
                key = (peer.name, peer.port)
                if key not in self._all:
                    self._all[key] = Peer(
                        peer.name, settings.host_of(peer.name), peer.port, allowed_versions=settings.allowed_versions
                    )
                self._by_service.setdefault(service, []).append(self._all[key])

    def start(self) -> None:
        """Begin to ask."""
        for peer in self._all.values():
            peer.start()

    async def stop(self) -> None:
        """Ask no more. Idempotent."""
        await asyncio.gather(*(peer.stop() for peer in self._all.values()))

    def health(self, service: str) -> dict[str, Health]:
        """How the peers of one service are, by `peer_NAME`; no I/O."""
        return {f"peer_{peer.name}": peer.health() for peer in self._by_service.get(service, ())}
