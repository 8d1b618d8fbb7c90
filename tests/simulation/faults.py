"""What goes wrong, each kind a class: `strike` does it once, and ends it where it does not end by itself.

`rage` lets some kinds strike for as long as a seed trades; `heal` puts everything right afterwards.
"""

import asyncio
from random import Random

from tests.simulation.bus import Weather
from tests.simulation.world import Network, World

from trade2026.kit.bus.port import BusError, BusFull, BusUncertain

_PENDING_MAX = 20_000
_CHANCE = 0.4
"""That a seed knows a kind of fault."""
_STORM_SECONDS = 0.15


class Fault:
    """Base of all."""

    async def strike(self, world: World, rng: Random) -> bool:
        """Do it, and return whether there was anything to do it to."""
        raise NotImplementedError


# ── processes ───────────────────────────────────────────────────────────────────────────────────────


class Crash(Fault):
    """`kill -9` of a process between any two of its steps: memory is lost, appends under way are torn."""

    async def strike(self, world: World, rng: Random) -> bool:
        host = world.newest(rng.choice(list(world.placement)))
        if host is None:
            return False
        host.process.steps_left = rng.randint(1, 400)
        return True


class PowerCut(Fault):
    """Every process dies at once, and what was never fsynced is gone: the tails of topics that are not durable."""

    async def strike(self, world: World, rng: Random) -> bool:
        world.cut_power()
        return True


class GracefulRestart(Fault):
    """SIGTERM, a drain, a new process; mostly of the venue."""

    async def strike(self, world: World, rng: Random) -> bool:
        host = world.newest(rng.choice(("venue", "venue", *world.placement)))
        if host is None or not host.started:
            return False
        host.process.spawn(host.drain())
        return True


class ZombieOwner(Fault):
    """A process is paused and replaced; it wakes, thinks it still owns its logs, and is fenced."""

    async def strike(self, world: World, rng: Random) -> bool:
        name = rng.choice(list(world.placement))
        old = world.newest(name)
        if old is None or len(world.hosts[name]) > 1:
            return False
        old.process.pause(True)
        await asyncio.sleep(rng.random() * 0.2)
        new = world.start_process(name)
        await asyncio.sleep(rng.random())
        old.process.pause(False)
        await asyncio.sleep(0.2 + rng.random())
        if new.process.alive or old is not world.newest(name):
            old.crash()
        return True


class Stall(Fault):
    """A process stops for a while and goes on: a slow follower, a collector, a laptop that sleeps."""

    async def strike(self, world: World, rng: Random) -> bool:
        host = world.newest(rng.choice(("projections", "risk", *world.placement)))
        if host is None or host.process.paused:
            return False
        host.process.pause(True)
        await asyncio.sleep(rng.random() * 1.5)
        host.process.pause(False)
        return True


class ClockJump(Fault):
    """The wall clock of a process is set forward or back."""

    async def strike(self, world: World, rng: Random) -> bool:
        host = world.newest(rng.choice(list(world.placement)))
        if host is None:
            return False
        host.clock.offset_ns += rng.randint(-3 * 10**9, 3 * 10**9)
        return True


class FullQueue(Fault):
    """The order service takes no or few more commands."""

    async def strike(self, world: World, rng: Random) -> bool:
        cells = world.order_cells(world.a_partition(rng))
        if not cells:  # it starts
            return False
        owner = cells[0].owner
        owner.pending_max = rng.choice((0, 1, 2))
        await asyncio.sleep(rng.random())
        owner.pending_max = _PENDING_MAX
        return True


# ── the bus ─────────────────────────────────────────────────────────────────────────────────────────


class CommitFailure(Fault):
    """A commit is refused; whether it is there all the same is sometimes uncertain."""

    async def strike(self, world: World, rng: Random) -> bool:
        topic = rng.choice(
            (
                "orders.events",
                "orders.events",
                "venue.reports",
                "risk.events",
                "positions",
                "market.raw",
                "market.ticks",
            )
        )
        error = rng.choice((BusError("the disk said no"), BusFull("no room"), BusUncertain("the disk did not say")))
        world.bus.fail_next(topic, error, world.a_partition(rng, topic))
        return True


class SlowCommits(Fault):
    """An fsync takes long."""

    async def strike(self, world: World, rng: Random) -> bool:
        world.weather.commit_seconds_max = rng.uniform(0.1, 0.5)
        await asyncio.sleep(rng.random() * 1.5)
        world.weather.commit_seconds_max = Weather(rng).commit_seconds_max
        return True


class SlowReads(Fault):
    """Wake-ups and reads are late, in each partition by another time: events cross on their way."""

    async def strike(self, world: World, rng: Random) -> bool:
        world.weather.read_seconds_max = rng.uniform(0.02, 0.3)
        await asyncio.sleep(rng.random() * 2)
        world.weather.read_seconds_max = 0.0
        return True


class ShortReads(Fault):
    """Reads return fewer records than there are."""

    async def strike(self, world: World, rng: Random) -> bool:
        world.weather.records_max = rng.randint(1, 5)
        await asyncio.sleep(rng.random() * 2)
        world.weather.records_max = 0
        return True


class SpuriousWakeups(Fault):
    """Readers are woken again and again for nothing."""

    async def strike(self, world: World, rng: Random) -> bool:
        for _ in range(rng.randint(1, 20)):
            for topic in ("orders.events", "venue.reports", "risk.events", "market.raw", "market.ticks"):
                for partition in range(world.partitions_of(topic)):
                    world.bus.wake(topic, partition)
            await asyncio.sleep(rng.random() * 0.05)
        return True


# ── the network ─────────────────────────────────────────────────────────────────────────────────────


class LostMessages(Fault):
    """Requests and answers get lost: a client does not know what became of its order."""

    async def strike(self, world: World, rng: Random) -> bool:
        world.network.request_lost = world.network.answer_lost = 0.3
        await asyncio.sleep(rng.random() * 1.5)
        world.network.request_lost = world.network.answer_lost = 0.0
        return True


class DuplicatedRequests(Fault):
    """A request arrives twice, perhaps at another time."""

    async def strike(self, world: World, rng: Random) -> bool:
        world.network.duplicated = 0.5
        await asyncio.sleep(rng.random() * 2)
        world.network.duplicated = 0.0
        return True


class SlowNetwork(Fault):
    """Messages travel long and overtake each other."""

    async def strike(self, world: World, rng: Random) -> bool:
        world.network.seconds_max = rng.uniform(0.1, 1.5)
        await asyncio.sleep(rng.random() * 1.5)
        world.network.seconds_max = Network().seconds_max
        return True


# ── the disk ────────────────────────────────────────────────────────────────────────────────────────


class DiskFull(Fault):
    """No room for anything for a while."""

    async def strike(self, world: World, rng: Random) -> bool:
        world.fill_disk(True)
        await asyncio.sleep(rng.random() * 1.5)
        world.fill_disk(False)
        return True


class DamagedSnapshot(Fault):
    """A snapshot cannot be read when a process starts again."""

    async def strike(self, world: World, rng: Random) -> bool:
        found = sorted(world.directory.glob("snapshots/*/*.snapshot"))
        if not found:
            return False
        path = rng.choice(found)
        body = bytearray(path.read_bytes())
        place = rng.randrange(len(body))
        path.write_bytes(
            body[:place] if rng.random() < 0.5 else body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]
        )
        for host in [host for hosts in world.hosts.values() for host in hosts]:
            host.crash()
        return True


class LostHistory(Fault):
    """The history of a partition is gone when the archive starts again."""

    async def strike(self, world: World, rng: Random) -> bool:
        host = world.newest("projections")
        history = world.histories()[world.a_partition(rng)]
        if host is None or not history.exists():
            return False
        host.crash()
        for path in sorted(history.parent.glob(f"{history.name}*")):
            path.unlink()
        return True


# ── the group of order services ─────────────────────────────────────────────────────────────────────


class CutOff(Fault):
    """A replica is not heard by its group, for less or more than a session: others have its partitions."""

    async def strike(self, world: World, rng: Random) -> bool:
        assert world.group is not None
        name = rng.choice(world.processes_of("oms"))
        world.group.cut_off(name)
        await asyncio.sleep(rng.random() * 3)
        world.group.mend(name)
        return True


class GroupAway(Fault):
    """Who says which partition is whose answers nobody."""

    async def strike(self, world: World, rng: Random) -> bool:
        assert world.group is not None
        world.group.stop()
        await asyncio.sleep(rng.random() * 2)
        world.group.start()
        return True


class HandOver(Fault):
    """A replica ends in order and comes back later: its partitions go to others, and some come back."""

    async def strike(self, world: World, rng: Random) -> bool:
        host = world.newest(rng.choice(world.processes_of("oms")))
        if host is None or not host.started:
            return False
        host.process.spawn(host.drain())
        return True


GROUP_KINDS: tuple[type[Fault], ...] = (CutOff, GroupAway, HandOver)
"""What else goes wrong where several replicas share the partitions."""
KINDS: tuple[type[Fault], ...] = (
    Crash,
    PowerCut,
    GracefulRestart,
    ZombieOwner,
    Stall,
    ClockJump,
    FullQueue,
    CommitFailure,
    SlowCommits,
    SlowReads,
    ShortReads,
    SpuriousWakeups,
    LostMessages,
    DuplicatedRequests,
    SlowNetwork,
    DiskFull,
    DamagedSnapshot,
    LostHistory,
)


async def rage(world: World, rng: Random, storm: tuple[type[Fault], ...] = ()) -> None:
    """Let faults strike, sometimes several at a time, for as long as this runs.

    Args:
        storm: These kinds, close upon each other; without them the seed chooses, and how often they strike.
    """
    kinds = KINDS if world.group is None else (*GROUP_KINDS, *KINDS)
    chosen = [kind() for kind in storm or kinds if storm or rng.random() < _CHANCE]
    pause = _STORM_SECONDS if storm else rng.uniform(0.15, 1.2)
    striking: list[asyncio.Task[None]] = []
    try:
        while chosen:
            await asyncio.sleep(rng.expovariate(1 / pause))
            striking.append(asyncio.ensure_future(_strike(rng.choice(chosen), world, rng)))
    finally:
        for task in striking:
            task.cancel()


async def _strike(fault: Fault, world: World, rng: Random) -> None:
    if await fault.strike(world, rng):
        world.injected[type(fault).__name__] += 1


def heal(world: World) -> None:
    """End everything that is wrong."""
    fair = Weather(world.weather.rng)
    weather, network = world.weather, world.network
    weather.commit_seconds_max, weather.read_seconds_max = fair.commit_seconds_max, fair.read_seconds_max
    weather.records_max = 0
    network.seconds_max = Network().seconds_max
    network.request_lost = network.answer_lost = network.duplicated = 0.0
    world.fill_disk(False)
    world.bus.fail_no_more()
    world.end_zombies()
    for hosts in world.hosts.values():
        for host in hosts:
            host.process.steps_left = -1
            host.process.pause(False)
    if world.group is not None:
        world.group.start()
        for name in world.placement:
            world.group.mend(name)
    for partition in range(world.partitions):
        for cell in world.order_cells(partition):
            cell.owner.pending_max = _PENDING_MAX
