"""One seed from beginning to end: trade under faults, heal, come to rest, and ask the checker."""

import asyncio
import gc
import hashlib
import logging
import shutil
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.checker import Broken
from tests.simulation import faults, invariants, stack
from tests.simulation.clients import Client, Journal, Officer
from tests.simulation.host import seeded
from tests.simulation.loop import SimulationStuck
from tests.simulation.world import World

from trade2026.domain import events as ev

_ACTIONS = 30
_STOPS = 3
_QUIET_SECONDS = 2.0
_REST_SECONDS_MAX = 120.0
_ASK_SECONDS = 0.5
_SHM = Path("/dev/shm")


class Failed(AssertionError):
    """A seed that found something; the message says how to see it again."""

    def __init__(self, seed: int, error: BaseException | str, replicas: int = 1) -> None:
        where = "test_seeds.py" if replicas == 1 else "test_replicas.py"
        super().__init__(f"seed {seed}: {error}\nreplay it: SIM_SEED={seed} python -m pytest tests/simulation/{where}")
        self.seed, self.error = seed, error


@dataclass
class Outcome:
    """What a seed did."""

    seed: int
    digest: str
    """Of every byte on the bus and every line in the journals."""
    injected: dict[str, int]
    events: int
    dropped: int
    """Of the events, those that are in the archive alone."""
    acknowledged: int
    seconds: float
    """Of virtual time."""
    handed_over: int
    """How often a partition of the order log came to another process."""


def run_seed(seed: int, storm: tuple[type[faults.Fault], ...] = (), replicas: int = 1) -> Outcome:
    """Simulate a seed.

    Args:
        storm: Kinds of faults that strike all the time, instead of what the seed chooses.
        replicas: Order services, which share the partitions.

    Raises:
        Failed: something that must hold does not.
    """
    directory = Path(tempfile.mkdtemp(prefix="trade2026-sim-", dir=_SHM if _SHM.is_dir() else None))
    quiet = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    world = World(seed, directory, replicas=replicas)
    try:
        return world.run(_story(world, storm))
    except (Broken, SimulationStuck, AssertionError, TimeoutError) as error:
        raise Failed(seed, error, replicas) from error
    finally:
        del world
        gc.unfreeze()  # a replay freezes what it folds: without this every world that ended would live on
        gc.collect()
        logging.disable(quiet)
        shutil.rmtree(directory, ignore_errors=True)


async def _story(world: World, storm: tuple[type[faults.Fault], ...]) -> Outcome:
    journal = Journal()
    world.start()
    await world.until_ready()
    chaos = world.loop.world.spawn(faults.rage(world, seeded(world.seed, "faults"), storm))
    clients = [Client(world, journal, account, seeded(world.seed, account), _ACTIONS) for account in stack.ACCOUNTS]
    officer = Officer(world, journal, seeded(world.seed, "officer"), _STOPS)
    await asyncio.gather(*(client.run() for client in clients), officer.run())
    chaos.cancel()
    await asyncio.gather(chaos, return_exceptions=True)
    faults.heal(world)
    await world.until_ready()
    await rest(world)
    await invariants.check(world, journal)
    return _outcome(world, journal)


async def rest(world: World) -> None:
    """Cancel all, and wait until nothing is written any more."""
    why = "cancel-all was not answered"
    try:
        async with asyncio.timeout(_REST_SECONDS_MAX):
            while (await world.ask("oms", "POST", "/orders/cancel-all", {"reason": "the end"})).status != 200:
                await asyncio.sleep(0.1)
            why = "nobody else uses a limit, and a partition does not get all of it"
            while not await invariants.has_all(world):
                await asyncio.sleep(_ASK_SECONDS)
            why = ""
            before: list[int] = []
            while before != (before := await invariants.ends(world)) or (why := await invariants.behind(world)):
                await asyncio.sleep(_QUIET_SECONDS)
    except TimeoutError:
        raise Broken("the stack does not come to rest", [why or f"logs grow, they end at {before}"]) from None


def _outcome(world: World, journal: Journal) -> Outcome:
    digest = hashlib.sha256()
    events = 0
    for body in world.bodies():
        digest.update(body)
        events += 1
    digest.update("\n".join(journal.lines).encode())
    dropped = sum(world.bus.records(topic, partition)[0].seq for topic, partition in world.moved())
    return Outcome(
        world.seed,
        digest.hexdigest(),
        dict(world.injected),
        events,
        dropped,
        len(journal.orders),
        world.loop.ns / 1e9,
        _handed_over(world),
    )


def _handed_over(world: World) -> int:
    count = 0
    for partition in range(world.partitions):
        bodies = [record.body for record in world.records("orders.events", partition)]
        started = [event for body in bodies if isinstance(event := ev.decode(body).data, ev.OwnerStarted)]
        names = [event.owner.rpartition("-")[0] for event in started]
        count += sum(before != after for before, after in pairwise(names))
    return count
