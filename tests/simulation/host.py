"""One simulated process: its services with their HTTP routes, on its view of the bus, the clock and the disk."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple
from urllib.parse import urlsplit

from tests.simulation.bus import ProcessBus, Weather
from tests.simulation.loop import Process, SimLoop

from trade2026.kit.access import Access
from trade2026.kit.bus.archived import Archive, ArchivedBus
from trade2026.kit.bus.membership import Member, Membership
from trade2026.kit.bus.memory import MemoryBus
from trade2026.kit.http import App
from trade2026.kit.identity import Keyring
from trade2026.kit.metrics import Metrics
from trade2026.kit.probes import Heartbeat, Lifecycle, add_standard_routes
from trade2026.kit.service import Context, Service
from trade2026.kit.settings import ProcessSettings
from trade2026.log_archive.opening import ARCHIVED

log = logging.getLogger(__name__)

EPOCH_NS = 1_700_000_000 * 10**9
Reply = Callable[[int, bytes], None]


class SimClock:
    """A process's wall clock: virtual time, and how wrong it is."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self.offset_ns = 0

    def now(self) -> int:
        return EPOCH_NS + self._loop.ns + self.offset_ns


class _Hosted(NamedTuple):
    service: Service
    app: App
    life: Lifecycle


class Host:
    """A process from its birth to its death.

    Args:
        factories: Make the services, by name.
        on_death: Called once, however it ends.
        membership: As of a `Context`.
    """

    def __init__(
        self,
        loop: SimLoop,
        name: str,
        number: int,
        bus: MemoryBus,
        archive: Archive,
        weather: Weather,
        settings: ProcessSettings,
        factories: dict[str, Callable[[Context], Service]],
        free_bytes: Callable[[Path], int],
        on_death: Callable[["Host"], None],
        membership: Callable[[str, Member, int], Membership],
    ) -> None:
        self.name, self.number = name, number
        self.process = Process(loop, f"{name}-{number}")
        self.clock = SimClock(loop)
        self.bus = ProcessBus(bus, weather)
        self.unanswered: dict[int, Reply] = {}
        self.started = False
        self._requests = 0
        self._rng = weather.rng
        self._died = on_death
        self.process.on_death = self._on_death
        whole, metrics = ArchivedBus(self.bus, archive, ARCHIVED), Metrics(self.clock)
        context = Context(settings, whole, self.clock, metrics, str(number), free_bytes, membership)
        self.hosted: dict[str, _Hosted] = {}
        access = Access(Keyring("", "127.0.0.1"))
        for service_name, factory in factories.items():
            service = factory(context)
            life = Lifecycle(service)
            app = App(service_name, access=access, metrics=context.metrics, now=self.clock.now, gate=life.not_ready)
            add_standard_routes(app, life, Heartbeat(), context.metrics)
            service.routes(app)
            self.hosted[service_name] = _Hosted(service, app, life)
        self.process.spawn(self._live(), f"{self.process.name} lives")

    def service(self, name: str) -> Service:
        """The service itself, for faults that are inside of it."""
        return self.hosted[name].service

    async def _live(self) -> None:
        """As `kit.process`: a service that can't start ends the process."""
        try:
            await asyncio.gather(*(self._start(hosted) for hosted in self.hosted.values()))
            self.started = True
            while not any(hosted.service.replaced() for hosted in self.hosted.values()):
                await asyncio.sleep(0.25)
            await self.drain()
        except Exception as error:
            log.info("%s can't start: %r", self.process.name, error)
            await self.drain()

    async def _start(self, hosted: _Hosted) -> None:
        await hosted.service.start()
        hosted.life.started = True

    async def drain(self) -> None:
        """SIGTERM: answer what is under way, stop the services, end."""
        for hosted in self.hosted.values():
            hosted.life.draining = True
        try:
            async with asyncio.timeout(10.0):
                while self.unanswered:
                    await asyncio.sleep(0.01)
                for hosted in reversed(self.hosted.values()):
                    await hosted.service.stop()
                await self.bus.close()
        except Exception as error:
            log.info("%s did not drain: %r", self.process.name, error)
        self.process.kill()

    def crash(self) -> None:
        """`kill -9`."""
        self.process.kill()

    def _on_death(self) -> None:
        self.bus.crash(self._rng)
        waiting, self.unanswered = self.unanswered, {}
        for reply in waiting.values():
            reply(0, b"connection reset")
        self._died(self)

    def receive(
        self, service: str, method: str, target: str, body: bytes, headers: dict[str, str], reply: Reply
    ) -> None:
        """A request has arrived; `reply` is called once, with status 0 if the process dies first."""
        self._requests += 1
        number = self._requests
        self.unanswered[number] = reply

        async def answer() -> None:
            status, text = await self._serve(self.hosted[service].app, method, target, body, headers)
            if self.unanswered.pop(number, None) is not None:
                reply(status, text)

        self.process.spawn(answer(), f"{method} {target}")

    async def _serve(
        self, app: App, method: str, target: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, bytes]:
        parts = urlsplit(target)
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        raw.append((b"host", b"127.0.0.1"))
        if body:
            raw += [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
        scope = {
            "type": "http",
            "method": method,
            "path": parts.path,
            "query_string": parts.query.encode(),
            "headers": raw,
        }
        status, chunks = 0, []

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, object]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]  # type: ignore[assignment]
            else:
                chunks.append(message.get("body", b""))

        await app(scope, receive, send)
        return status, b"".join(chunks)  # type: ignore[arg-type]


def seeded(seed: int, purpose: str) -> Random:
    """A stream of its own for each purpose, so that a change of one leaves the others alone."""
    return Random(f"{seed}/{purpose}")
