"""The whole stack in one loop: processes that die and are started again, a network between them, one bus, one disk.

Nothing here decides what goes wrong: `faults` do, by calling what a world offers.
"""

import asyncio
import contextlib
import errno
import json
import os
import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock
from urllib.parse import urlsplit

from tests.checker import Broken
from tests.simulation import stack
from tests.simulation.bus import Weather
from tests.simulation.host import Host, seeded
from tests.simulation.loop import SimLoop

from trade2026.archive import keeper as archive_keeper
from trade2026.archive.service import ArchiveService
from trade2026.archive.store import HistoryStore
from trade2026.gateway import service as gateway_service
from trade2026.gateway.recording import load_bitstamp
from trade2026.gateway.replay import Recording
from trade2026.gateway.service import GatewayService
from trade2026.kit import follower, projection
from trade2026.kit.bus.archive_memory import MemoryArchive
from trade2026.kit.bus.archived import ArchivedBus
from trade2026.kit.bus.membership import EmbeddedMembership, Member, Membership
from trade2026.kit.bus.membership_member import Timing
from trade2026.kit.bus.membership_memory import MemoryGroup
from trade2026.kit.bus.memory import MemoryBus
from trade2026.kit.bus.port import Record
from trade2026.kit.calls import Answer
from trade2026.kit.forward import HANDED_ON, HOP, SECONDS_MAX
from trade2026.kit.history import history_path
from trade2026.kit.messages import Response
from trade2026.kit.problem import Problem
from trade2026.kit.service import Context, Service
from trade2026.kit.settings import ProcessSettings
from trade2026.log_archive.opening import ARCHIVED
from trade2026.normalizer.service import NormalizerService
from trade2026.oms import lookup
from trade2026.oms.service import OmsService
from trade2026.pnl.service import PnlService
from trade2026.ptrc.service import PtrcService
from trade2026.risk.service import RiskService
from trade2026.stack.facts import SERVICES

_RESTART_SECONDS_MAX = 0.5
_NETWORK_SECONDS_MAX = 0.004
_ROOM = 10**12
_TRADES = 400
READY_SECONDS_MAX = 60.0
_COPIES = 0.03
"""Share of the history's transactions after which the disk has all of it."""
_TIMING = Timing(session_seconds=1.0, call_seconds_max=2.0)
_REPLICA_AWAY_SECONDS_MAX = 3.0
"""Longer than a session: others have its partitions by then, or it comes back to them."""
_SMALL: tuple[tuple[Any, str, int], ...] = (
    (archive_keeper, "_SNAPSHOT_EVENTS", 60),
    (projection, "_SNAPSHOT_EVENTS", 60),
    (follower, "RECORDS_PER_BATCH_MAX", 20),
    (gateway_service, "_SNAPSHOT_REPORTS", 40),
    (lookup, "CLOSED_KEPT", 10),
)
"""Numbers that are too big for a short run to reach what lies behind them."""

_recording: Recording | None = None


class NoAnswer(Exception):
    """Nobody answered in time: what was asked may or may not have been done."""


class Reply(NamedTuple):
    """An HTTP answer."""

    status: int
    body: dict[str, Any]


class Network:
    """How messages travel; faults change it for a while."""

    def __init__(self) -> None:
        self.seconds_max = _NETWORK_SECONDS_MAX
        self.request_lost = 0.0
        self.answer_lost = 0.0
        self.duplicated = 0.0
        """Probabilities."""


class Forwarding:
    """The way of one order service to the others, over the same network."""

    def __init__(self, world: "World") -> None:
        self._world = world

    async def send(
        self,
        member: Member,
        method: str,
        target: str,
        headers: Mapping[bytes, bytes],
        body: bytes,
        seconds_max: float = SECONDS_MAX,
    ) -> Response:
        """See `Forwarder.send`."""
        said = {name.decode(): headers[name].decode() for name in HANDED_ON if name in headers}
        said.pop("content-type", None)  # it comes with the body
        said[HOP.decode()] = headers.get(HOP, b"1").decode()
        try:
            status, text = await self._world.send("oms", method, target, body, said, seconds_max, member.name)
        except NoAnswer as error:
            raise Problem(503, "not_acknowledged", str(error), retry_after=1, replica=member.name) from error
        self._world.injected["Forwarded"] += 1
        return Response(text, status)

    async def close(self) -> None:
        """Nothing is kept."""


class World:
    """One run of one seed.

    Args:
        seed: Decides everything.
        directory: An empty one: the stack's state directory.
        recording: What the market does; some trades of the recorded week if none is given.
        speed: Recorded seconds in one of the stack.
        replicas: Order services, which share the partitions.
    """

    def __init__(
        self,
        seed: int,
        directory: Path,
        recording: Recording | None = None,
        speed: int = stack.SPEED,
        replicas: int = 1,
    ) -> None:
        self.seed, self.directory, self.replicas = seed, directory, replicas
        self.placement = stack.placement(replicas)
        self.loop = SimLoop(seeded(seed, "schedule"))
        self.rng = seeded(seed, "world")
        self.weather = Weather(seeded(seed, "weather"))
        self.network = Network()
        self.disk_full = False
        self.injected: Counter[str] = Counter()
        """How often each fault really happened."""
        self.hosts: dict[str, list[Host]] = {name: [] for name in self.placement}
        """Those that live, the newest last: one before it is a zombie."""
        self.deaths = 0
        self.order: list[tuple[int, int]] = []
        """Of the order log partition and position of every event, as they became durable one after the other."""
        self.partitions = stack.partitions_of(seed) if replicas == 1 else stack.PARTITIONS
        self.group: MemoryGroup | None = None
        """Of the order services, where there are several."""
        self.bus = MemoryBus(
            stack.topics(self.partitions),
            delay=self.weather.commit_delay,
            rng=seeded(seed, "bus"),
            on_added=self._added,
        )
        self.archive = MemoryArchive()
        self.log = ArchivedBus(self.bus, self.archive, ARCHIVED)
        """What was ever written: on the bus, or moved away by the archive in every other seed."""
        self._network_rng = seeded(seed, "network")
        begin = self.rng.randrange(10_000)
        self._recording = recording or stack.cut(recorded_week(), begin, _TRADES)
        self._speed = speed
        self._numbers: Counter[str] = Counter()
        self._started = False
        self._stopping = False
        self._factories: dict[str, Callable[[Context], Service]] = {
            "oms": lambda context: OmsService(context, self._post),
            "gateway": lambda context: GatewayService(context, self._recording),
            "normalizer": NormalizerService,
            "risk": lambda context: RiskService(context, self._post),
            "ptrc": PtrcService,
            "pnl": PnlService,
            "archive": self._archive_service,
        }

    def _archive_service(self, context: Context) -> Service:
        service = ArchiveService(context)
        if service.log_archiver is not None:
            service.log_archiver.records = 20 // self.partitions
            service.log_archiver.round_seconds = 1.0
        return service

    # ── processes ───────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Start every process."""
        self._started = True
        if self.replicas > 1:
            self.group = MemoryGroup(self.partitions, _TIMING)
        for name in self.placement:
            self.start_process(name)

    def start_process(self, name: str) -> Host:
        """Start a process, whether or not an older one still lives."""
        self._numbers[name] += 1
        services = self.placement[name]
        host = Host(
            self.loop,
            name,
            self._numbers[name],
            self.bus,
            self.archive,
            self.weather,
            self._settings(name),
            {service: self._factories[service] for service in services},
            self.free_bytes,
            self._died,
            self._membership,
        )
        if self.replicas > 1 and "oms" in services:
            oms: Any = host.service("oms")
            oms.cells.forwarder = Forwarding(self)
        self.hosts[name].append(host)
        return host

    def _settings(self, name: str) -> ProcessSettings:
        return stack.settings(
            self.directory,
            self.placement[name],
            name,
            self._speed,
            self.partitions,
            archives=self.seed % 2 == 1,
            replicas=self.replicas,
        )

    def _membership(self, service: str, me: Member, partitions: int) -> Membership:
        if self.group is not None and service == "oms":
            return self.group.member(me)
        return EmbeddedMembership(me, partitions)

    def newest(self, name: str) -> Host | None:
        """The process that holds the port."""
        return self.hosts[name][-1] if self.hosts[name] else None

    def service(self, name: str) -> Service:
        """A service as it runs now."""
        return self.hosts[self.processes_of(name)[0]][-1].service(name)

    def processes_of(self, service: str) -> list[str]:
        """The names of the processes that have a service."""
        return [name for name, services in self.placement.items() if service in services]

    def order_cells(self, partition: int) -> list[Any]:
        """Every cell that believes to have a partition of the order log: at rest one."""
        found: list[Any] = []
        for name in self.processes_of("oms"):
            if (host := self.newest(name)) is None:
                continue
            oms = host.service("oms")
            assert isinstance(oms, OmsService)
            if partition in oms.cells.here:
                found.append(oms.cells.here[partition])
        return found

    def _died(self, host: Host) -> None:
        self.deaths += 1
        self.hosts[host.name].remove(host)
        seconds_max = _RESTART_SECONDS_MAX if self.replicas == 1 else _REPLICA_AWAY_SECONDS_MAX
        self.loop.world.call_later(self.rng.random() * seconds_max, self._restart, host.name)

    def _restart(self, name: str) -> None:
        if not self.hosts[name] and not self._stopping:
            self.start_process(name)

    def end_zombies(self) -> None:
        """Leave one process of each name."""
        for hosts in self.hosts.values():
            for host in hosts[:-1]:
                host.crash()

    def cut_power(self) -> None:
        """Everything dies at once."""
        for host in [host for hosts in self.hosts.values() for host in hosts]:
            host.crash()
        self.bus.cut_power()
        self._lose_history()

    def _lose_history(self) -> None:
        """The newest transactions of the history were not fsynced either."""
        for history in self.histories():
            copy = self._copy_of(history)
            if copy.exists() and self.rng.random() < 0.5:
                for path in sorted(history.parent.glob(f"{history.name}*")):
                    path.unlink()
                copy.rename(history)

    async def until_ready(self) -> None:
        """Wait until every service answers."""
        reply, service = Reply(0, {}), ""
        try:
            async with asyncio.timeout(READY_SECONDS_MAX):
                for service in sorted(self._factories):
                    for name in self.processes_of(service):
                        while (reply := await self.ask(service, "GET", "/readyz", process=name)).status != 200:
                            await asyncio.sleep(0.05)
        except TimeoutError:
            raise Broken("the stack does not get ready", [f"{service}: {reply}"]) from None

    # ── the network ─────────────────────────────────────────────────────────────────────────

    async def ask(
        self,
        service: str,
        method: str,
        target: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        seconds_max: float = 2.0,
        process: str = "",
    ) -> Reply:
        """Ask a service as a client does; status 0 if nobody answers or the answer is lost.

        Args:
            process: Which replica; any if there is no name.
        """
        try:
            status, raw = await self.send(service, method, target, body, headers or {}, seconds_max, process)
        except NoAnswer as error:
            return Reply(0, {"detail": str(error)})
        return Reply(status, json.loads(raw) if raw else {})

    async def send(
        self,
        service: str,
        method: str,
        target: str,
        body: Any,
        headers: dict[str, str],
        seconds_max: float,
        process: str = "",
    ) -> tuple[int, bytes]:
        """Ask a service; the status and the body. Raises `NoAnswer`."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
        answer: asyncio.Future[tuple[int, bytes]] = self.loop.create_future()
        network, rng = self.network, self._network_rng

        def reply(status: int, text: bytes) -> None:
            if rng.random() >= network.answer_lost:
                self._travel(settle, status, text)
            else:
                self.injected["LostMessages"] += 1

        def settle(status: int, text: bytes) -> None:
            if answer.done():
                return
            if status:
                answer.set_result((status, text))
            else:
                answer.set_exception(NoAnswer(text.decode()))

        if rng.random() >= network.request_lost:
            self._travel(self._deliver, service, process, method, target, raw, headers, reply)
        else:
            self.injected["LostMessages"] += 1
        if rng.random() < network.duplicated:
            self.injected["DuplicatedRequests"] += 1
            self._travel(self._deliver, service, process, method, target, raw, headers, reply)
        try:
            async with asyncio.timeout(seconds_max):
                return await answer
        except TimeoutError:
            raise NoAnswer(f"no answer within {seconds_max} s") from None

    def _travel(self, callback: Callable[..., None], *args: Any) -> None:
        self.loop.world.call_later(self._network_rng.random() * self.network.seconds_max, callback, *args)

    def _deliver(
        self,
        service: str,
        process: str,
        method: str,
        target: str,
        raw: bytes,
        headers: dict[str, str],
        reply: Callable[..., None],
    ) -> None:
        names = [process] if process else self.processes_of(service)
        hosts = self.hosts[names[0] if len(names) == 1 else self._network_rng.choice(names)]
        if not hosts:
            reply(0, b"connection refused")
            return
        # An old connection may still lead to a process that was replaced.
        old = len(hosts) > 1 and self._network_rng.random() < 0.3
        hosts[-2 if old else -1].receive(service, method, target, raw, headers, reply)

    async def _post(self, url: str, body: bytes, *, authorization: str = "", seconds_max: float = 2.0) -> Answer:
        """How risk reaches the order service and the venue, and the order service risk."""
        parts = urlsplit(url)
        name = next(name for name, port in stack.ports(self.replicas).items() if port == parts.port)
        service, _, number = name.partition("-") if name not in SERVICES else (name, "", "")
        process = f"orders-{number}" if number else self.processes_of(service)[0]
        try:
            status, text = await self.send(service, "POST", parts.path, body, {}, seconds_max, process)
        except NoAnswer as error:
            return Answer(0, detail=str(error))
        return Answer(status, text)

    # ── the log ─────────────────────────────────────────────────────────────────────────────────

    def _added(self, topic: str, partition: int, seq: int) -> None:
        if topic == "orders.events":
            self.order.append((partition, seq))

    def partitions_of(self, topic: str) -> int:
        """How many partitions a topic has."""
        return next(config.partitions for config in stack.topics(self.partitions) if config.name == topic)

    def a_partition(self, rng: random.Random, topic: str = "orders.events") -> int:
        """One of a topic's; where there is one only, nothing is drawn."""
        partitions = self.partitions_of(topic)
        return rng.randrange(partitions) if partitions > 1 else 0

    # ── the disk ────────────────────────────────────────────────────────────────────────────

    def free_bytes(self, path: Path) -> int:
        """What `kit.disk` would say."""
        return 0 if self.disk_full else _ROOM

    def fill_disk(self, full: bool) -> None:
        """No room, for the bus and for files alike; or room again."""
        self.disk_full = full
        self.bus.fill(full)

    def fsync(self, descriptor: int) -> None:
        """In place of `os.fsync`: memory is the disk here."""
        if self.disk_full:
            raise OSError(errno.ENOSPC, "No space left on device")

    def bodies(self) -> list[bytes]:
        """Every record that was ever written, and is kept, topic by topic."""
        return [
            record.body
            for topic in stack.topics(self.partitions)
            for partition in range(topic.partitions)
            for record in self.records(topic.name, partition)
        ]

    def records(self, topic: str, partition: int = 0) -> list[Record]:
        """All that was ever written to a partition, and is kept, without waiting."""
        moved = self.archive.records(topic, partition)
        return moved + [record for record in self.bus.records(topic, partition) if record.seq >= len(moved)]

    def moved(self) -> list[tuple[str, int]]:
        """Partitions of which the archive has a part."""
        places = [(topic, partition) for topic in ARCHIVED for partition in range(self.partitions)]
        return [place for place in places if self.archive.records(*place)]

    def histories(self) -> list[Path]:
        """Where the archive keeps what happened, one file a partition."""
        return [history_path(self.directory, partition) for partition in range(self.partitions)]

    def _copy_of(self, history: Path) -> Path:
        return self.directory / f"{history.stem}.copy"

    def copy_history(self, path: Path) -> None:
        """What the disk has of the history, until more of it is fsynced."""
        copy = self._copy_of(path)
        copy.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(path)) as source, contextlib.closing(sqlite3.connect(copy)) as target:
            source.backup(target)

    # ── a run ───────────────────────────────────────────────────────────────────────────────

    def run(self, story: Any) -> Any:
        """Run a coroutine in this world, then end it."""
        world = self

        class Store(HistoryStore):
            """A history on our disk."""

            def write(self, *args: Any, **named: Any) -> None:
                if world.disk_full:
                    error = sqlite3.OperationalError("database or disk is full")
                    error.sqlite_errorcode = sqlite3.SQLITE_FULL
                    raise error
                super().write(*args, **named)
                if world.rng.random() < _COPIES:
                    world.copy_history(self.path)

            def make_durable(self) -> None:
                super().make_durable()
                world._copy_of(self.path).unlink(missing_ok=True)

        kept = random.getstate()
        random.seed(self.seed)
        try:
            with contextlib.ExitStack() as patches:
                patches.enter_context(mock.patch.object(os, "fsync", self.fsync))
                patches.enter_context(mock.patch.object(archive_keeper, "HistoryStore", Store))
                for module, name, value in _SMALL:
                    patches.enter_context(mock.patch.object(module, name, value))
                return self.loop.run_until_complete(story)
        finally:
            self._stopping = True
            random.setstate(kept)
            self.loop.close()


def recorded_week() -> Recording:
    """The trades that ship with the platform, read once."""
    global _recording
    if _recording is None:
        _recording = load_bitstamp()
    return _recording
