"""What goes wrong, each kind a class: `strike` does it once and puts right again what does not heal by itself."""

import asyncio
from random import Random

from tests.simulation import stack
from tests.simulation.world import World


class Fault:
    """Base of all."""

    async def strike(self, world: World, rng: Random) -> None:
        raise NotImplementedError


class Crash(Fault):
    """`kill -9` of a process between any two of its steps."""

    async def strike(self, world: World, rng: Random) -> None:
        host = world.newest(rng.choice(list(stack.PLACEMENT)))
        if host is not None:
            host.process.steps_left = rng.randint(1, 400)


KINDS: tuple[type[Fault], ...] = (Crash,)


async def rage(world: World, rng: Random) -> None:
    """Let faults strike for as long as this runs."""
    chosen = [kind() for kind in KINDS if rng.random() < 0.5]
    pause = rng.uniform(0.2, 1.5)
    while chosen:
        await asyncio.sleep(rng.expovariate(1 / pause))
        fault = rng.choice(chosen)
        world.injected[type(fault).__name__] += 1
        await fault.strike(world, rng)


def heal(world: World) -> None:
    """End everything that is wrong."""
    for hosts in world.hosts.values():
        for host in hosts:
            host.process.steps_left = -1
