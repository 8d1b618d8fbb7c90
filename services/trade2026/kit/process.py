"""One process: hosts its services in one event loop, each on a port of its own, from birth to drain.

Probes answer from the first moment; a service's own routes when it has started. A service that can't start
ends the process: whoever runs it (the local runner, Kubernetes) tries again and tells the user.
"""

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from functools import partial
from typing import Any, NoReturn

import uvicorn

from trade2026 import __version__
from trade2026.domain.events import ProcessStarted, ProcessStopping
from trade2026.kit import log as process_log
from trade2026.kit import tracing
from trade2026.kit.access import Access
from trade2026.kit.audit import AuditTrail, KeyUse
from trade2026.kit.bounded import BoundedWebSocket
from trade2026.kit.bus.choice import open_bus, open_membership
from trade2026.kit.bus.port import Bus
from trade2026.kit.clock import WallClock
from trade2026.kit.connections import HttpConnection
from trade2026.kit.cpu import cpu_limit
from trade2026.kit.http import App
from trade2026.kit.identity import ConfigurationError, Keyring
from trade2026.kit.inspection import Inspection
from trade2026.kit.lag import Followed, LagWatch
from trade2026.kit.memory import Memory, memory_limit_bytes, resident_bytes
from trade2026.kit.metrics import Metrics
from trade2026.kit.peers import Peers
from trade2026.kit.probes import Heartbeat, Lifecycle, add_standard_routes
from trade2026.kit.service import Context, Health, Service
from trade2026.kit.settings import ProcessSettings

log = logging.getLogger(__name__)

DRAIN_SECONDS_MAX = 10.0
REQUESTS_SECONDS_MAX = 4
"""Of the drain: for the requests that are under way."""
ORPHAN_SECONDS_MAX = 5.0
"""For everything, when whoever started the process has died."""
WEBSOCKET_BYTES_MAX = 1024 * 1024
_BACKLOG = 2048
_KEEP_ALIVE_SECONDS = 65
_HEARTBEAT_SECONDS = 0.25
_REPLACED_SECONDS = 0.25
_SWITCH_SECONDS = 0.0005
_GC_THRESHOLDS = (50_000, 20, 50)
_GC_THRESHOLDS_AT_START = (500_000, 50, 1_000)
"""Recovery makes millions of objects that stay: to look at them again and again took half of its time."""
_PR_SET_PDEATHSIG = 1

Factory = Callable[[Context], Service]
Outside = Callable[[str], dict[str, Health]]
Factories = Mapping[str, Factory] | Iterable[Factory]
OpenBus = Callable[[ProcessSettings], Bus]


class Replaced(Exception):
    """Another process owns what is ours; the message says what."""


class Hosted:
    """One service with its ports, each with an app and a server."""

    def __init__(self, service: Service, life: Lifecycle, doors: list[tuple[App, socket.socket]]) -> None:
        self.service, self.life = service, life
        self.serving: list[asyncio.Task[None]] = []
        self.touched = False
        self._doors = [(web_server(app), listener) for app, listener in doors]

    def listen(self) -> None:
        """Answer requests from now on."""
        name = f"the HTTP server of {self.service.name} failed"
        self.serving = [
            asyncio.create_task(server.serve(sockets=[listener]), name=name) for server, listener in self._doors
        ]

    async def start(self) -> None:
        """Recover and begin to work. Raises whatever the service raises."""
        self.touched = True
        started_at = time.monotonic()
        await self.service.start()
        self.life.started = True
        log.info("%s is started after %.2f s", self.service.name, time.monotonic() - started_at)

    async def stop_listening(self) -> None:
        """Take no more requests; return when those under way are answered."""
        self.life.draining = True
        for server, listener in self._doors:
            server.should_exit = True
            if not self.serving:
                listener.close()
        await asyncio.gather(*self.serving, return_exceptions=True)

    async def stop(self) -> None:
        """Stop the service, if it ever began to start."""
        if not self.touched:
            return
        try:
            await self.service.stop()
        except Exception:
            log.exception("%s did not stop well", self.service.name)


class _Server(uvicorn.Server):
    """Leaves signals to the process, which may have several servers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def web_server(app: App, **changes: Any) -> uvicorn.Server:
    """Return the server of one app; `changes` are uvicorn's settings that differ from ours."""
    ours: dict[str, Any] = {
        "http": HttpConnection,
        "ws": BoundedWebSocket,
        "ws_max_size": WEBSOCKET_BYTES_MAX,
        "lifespan": "off",
        "log_config": None,
        "log_level": "warning",
        "access_log": False,
        "proxy_headers": False,
        "server_header": False,
        "backlog": _BACKLOG,
        "timeout_keep_alive": _KEEP_ALIVE_SECONDS,
        "timeout_graceful_shutdown": REQUESTS_SECONDS_MAX,
    }
    return _Server(uvicorn.Config(app, **ours | changes))


def run(settings: ProcessSettings, factories: Factories, open_bus: OpenBus = open_bus) -> None:
    """Be this process until a signal ends it, and end it.

    It exits with 0 after a drain, 1 if it could not start or not drain in time; the log says why.
    """
    import uvloop

    process_log.configure(settings.release)
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS_AT_START)
    try:
        code = uvloop.run(_run(settings, factories, open_bus))
    except ConfigurationError as error:
        log.error("%s", error)
        code = 1
    _end(code)


async def serve(
    settings: ProcessSettings,
    factories: Factories,
    bus: Bus | None = None,
    *,
    stop: asyncio.Event | None = None,
    open_bus: OpenBus = open_bus,
) -> int:
    """Host the services until `stop` is set, or, without one, until SIGTERM or SIGINT; return the exit code.

    Args:
        factories: Make the services, in the order in which they start; they stop in the reverse order.
        bus: Instead of the one that the settings name; it is not closed at the end.
        open_bus: Opens the one that the settings name.

    Raises:
        ConfigurationError: open on a foreign address, a port is taken, the bus is unknown.
    """
    stop = stop or _stop_on_signals()
    keyring = Keyring(settings.keys_file, settings.host)
    tracing.configure(
        settings.otlp_endpoint, service=settings.release, version=__version__, sampling=settings.trace_sampling
    )
    clock, own_bus = WallClock(), bus is None
    metrics, membership = Metrics(clock), partial(open_membership, settings)
    limit = memory_limit_bytes()
    context = Context(
        settings, bus or open_bus(settings), clock, metrics, membership=membership,
        memory=lambda: Memory(resident_bytes(), limit),
    )  # fmt: skip
    trail = _trail(context)
    access = Access(keyring, KeyUse(trail, settings.release))
    heartbeat = Heartbeat()
    beating = asyncio.create_task(_beat(heartbeat, context.metrics), name="heartbeat")
    peers = Peers(settings)
    lags, inspection = LagWatch(context.bus, clock, context.metrics), Inspection(context.bus)
    hosted: list[Hosted] = []
    looking = [
        asyncio.create_task(lags.run(lambda: _followed(hosted)), name="lag"),
        asyncio.create_task(inspection.run(), name="inspection"),
    ]
    try:
        for factory in factories.values() if isinstance(factories, Mapping) else factories:
            life = _life(factory(context), _outside(peers, inspection), lags, hosted)
            hosted.append(_host(life, access, heartbeat))
        peers.start()
        _add_process_metrics(context.metrics, heartbeat)
        trail.start()
        trail.say(
            ProcessStarted(
                release=settings.release,
                services=settings.services,
                code_version=__version__,
                config_hash=settings.config_hash,
            )
        )
        code = await _live(hosted, stop)
    finally:
        stop.set()
        for task in looking:
            task.cancel()
        await peers.stop()
        trail.say(ProcessStopping(release=settings.release, services=settings.services))
        await trail.stop()  # before the services: who keeps the audit log may be one of them
        drained = await _drain(hosted, context.bus if own_bus else None)
        beating.cancel()
    return code if drained else 1


def _trail(context: Context) -> AuditTrail:
    settings = context.settings
    topics = [topic.name for topic in settings.topics]
    owner = f"{settings.release}-{context.instance}"
    return AuditTrail(context.bus, topics, stack=settings.stack, owner=owner, clock=context.clock)


def listen(host: str, port: int, service: str) -> socket.socket:
    """Take a port.

    Raises:
        ConfigurationError: it is taken, or the address is not ours; the message says what to do.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"{service} can't listen on {host} port {port}: {error.strerror or error}. Stop what uses the port "
            f"(`ss -ltnp 'sport = :{port}'` shows it), or move the stack with --port-offset 1000"
        ) from error
    listener.setblocking(False)
    return listener


def _outside(peers: Peers, inspection: Inspection) -> Outside:
    """How that is which a service does not see itself."""
    return lambda service: peers.health(service) | inspection.health()


def _followed(hosted: list[Hosted]) -> list[tuple[str, list[Followed]]]:
    return [(host.service.name, list(host.service.followed())) for host in hosted if host.touched]


def _life(service: Service, outside: Outside, lags: LagWatch, hosted: list[Hosted]) -> Lifecycle:
    """The life of a service, and of those that share the process: `hosted`, as it grows."""
    name = service.name
    return Lifecycle(service, partial(outside, name), partial(lags.of, name), lambda: [each.life for each in hosted])


def _host(life: Lifecycle, access: Access, heartbeat: Heartbeat) -> Hosted:
    service, settings, registry = life.service, life.service.settings, life.service.context.metrics
    app = _app(service, access, life)
    add_standard_routes(app, life, heartbeat, registry)
    service.routes(app)
    doors = [(app, listen(settings.host, settings.ports[service.name], service.name))]
    for port in service.other_ports:
        other = _app(service, access, life)
        service.other_routes(port, other)
        doors.append((other, listen(settings.host, settings.ports[port], f"{service.name} ({port})")))
    return Hosted(service, life, doors)


def _app(service: Service, access: Access, life: Lifecycle) -> App:
    return App(
        service.name,
        title=service.title,
        version=__version__,
        access=access,
        metrics=service.context.metrics,
        now=service.context.clock.now,
        gate=life.not_ready,
    )


async def _live(hosted: list[Hosted], stop: asyncio.Event) -> int:
    """Listen, start every service, then wait for the end; return the exit code."""
    for host in hosted:
        host.listen()
    starts = [asyncio.create_task(host.start(), name=f"{host.service.name} can't start") for host in hosted]
    stopped = asyncio.create_task(stop.wait())
    replaced = asyncio.create_task(_watch_for_another(hosted), name="another process has taken over")
    serving = [task for host in hosted for task in host.serving]
    pending: set[asyncio.Task[Any]] = {stopped, replaced, *starts, *serving}
    try:
        while not stopped.done():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopped}:
                error = task.exception()
                if error is not None or task not in starts:
                    log.error("%s: %s", task.get_name(), error or "it has ended", exc_info=error)
                    return 1
            if done.intersection(starts) and all(task.done() for task in starts):
                _settle()
                log.info("ready: %s", ", ".join(host.service.name for host in hosted))
        return 0
    finally:
        for task in (stopped, replaced, *starts):
            task.cancel()
        await asyncio.gather(stopped, replaced, *starts, return_exceptions=True)


async def _watch_for_another(hosted: list[Hosted]) -> None:
    """A process that was replaced can do nothing any more. Whoever runs it may start it again.

    Raises:
        Replaced: another process owns what is ours.
    """
    while True:
        await asyncio.sleep(_REPLACED_SECONDS)
        for host in hosted:
            if reason := host.service.replaced():
                raise Replaced(reason)


async def _drain(hosted: list[Hosted], bus: Bus | None) -> bool:
    """Answer what is under way, stop the services, close the bus; whether it was done in time."""
    try:
        async with asyncio.timeout(DRAIN_SECONDS_MAX):
            await asyncio.gather(*(host.stop_listening() for host in hosted))
            for host in reversed(hosted):
                await host.stop()
            if bus is not None:
                await bus.close()
            await asyncio.to_thread(tracing.shutdown)
    except TimeoutError:
        log.error("not everything stopped within %s s; what was acknowledged is durable", DRAIN_SECONDS_MAX)
        return False
    return True


async def _beat(heartbeat: Heartbeat, metrics: Metrics) -> None:
    while True:
        due_at = time.monotonic() + _HEARTBEAT_SECONDS
        await asyncio.sleep(_HEARTBEAT_SECONDS)
        heartbeat.beat(due_at)
        metrics.tick()


def _settle() -> None:
    """What recovery built lives as long as the process: the collector need not look at it again, nor now."""
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


def _end(code: int) -> NoReturn:
    """Exit without taking apart what is in memory: with very many orders that takes seconds."""
    logging.shutdown()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _add_process_metrics(metrics: Metrics, heartbeat: Heartbeat) -> None:
    metrics.gauge(
        "trade2026_event_loop_lag_seconds", "How late the event loop last was", lambda: round(heartbeat.lag, 6)
    )
    metrics.gauge("process_resident_memory_bytes", "Resident memory", resident_bytes)
    memory = memory_limit_bytes()
    metrics.gauge(
        "process_memory_limit_bytes", "Memory that the process may have; 0: all that there is", lambda: memory
    )
    metrics.gauge("process_cpu_seconds", "CPU time, user and system", lambda: round(time.process_time(), 3))
    metrics.counted(
        "trade2026_event_loop_cpu_seconds_total",
        "CPU time of the thread of the event loop, which asks for metrics itself",
        lambda: round(time.thread_time(), 6),
    )
    limit = cpu_limit()
    metrics.gauge("process_cpu_limit_cores", "Cores that the process may use; 0: all that there are", lambda: limit)


# ── the whole process ───────────────────────────────────────────────────────────────────────────────


async def _run(settings: ProcessSettings, factories: Factories, open_bus: OpenBus) -> int:
    stop = _stop_on_signals()
    if os.environ.get("TRADE2026_PARENT_PIPE") == "1":
        _stop_with_parent(stop)
    bound = asyncio.create_task(_bound_end(stop))
    try:
        return await serve(settings, factories, stop=stop, open_bus=open_bus)
    finally:
        bound.cancel()


async def _bound_end(stop: asyncio.Event) -> None:
    """From the drain on, the process ends in time even if a thread or the loop hangs."""
    await stop.wait()
    timer = threading.Timer(DRAIN_SECONDS_MAX + 1, os._exit, (1,))
    timer.daemon = True
    timer.start()


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _stop_with_parent(stop: asyncio.Event) -> None:
    """Standard input is a pipe that whoever started us holds open: its end is theirs."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    loop = asyncio.get_running_loop()

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        log.warning("whoever started this process has died: stopping")
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(stop.set)
        time.sleep(ORPHAN_SECONDS_MAX)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
