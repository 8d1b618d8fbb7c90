"""Members of a group under faults, seed by seed: whatever happens, no two hold the same, and it settles again.

`SIM_SEEDS=1000` runs more of them.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from tests.holders import Group
from tests.simulation.loop import Process, SimLoop

from trade2026.kit.bus.membership import Member, Membership
from trade2026.kit.bus.membership_member import Timing
from trade2026.kit.bus.membership_memory import MemoryGroup

SEEDS = int(os.environ.get("SIM_SEEDS", 60))
FAULTS = 12
NAMES = {"a", "b", "c", "d", "e"}
TIMING = Timing(session_seconds=10.0, call_seconds_max=5.0)
SETTLE_SECONDS_MAX = 200.0
"""Virtual."""


class World:
    """Up to five members, each a process of its own."""

    def __init__(self, loop: SimLoop, rng: Random) -> None:
        self.loop, self.rng = loop, rng
        partitions = rng.choice((1, 4, 8, 64))
        self.group, self.memory = Group(partitions), MemoryGroup(partitions, TIMING)
        self.processes: dict[str, Process] = {}
        self.older: list[Membership] = []
        """Of two with one name, those that found out."""

    @property
    def settled(self) -> bool:
        """Whether the members share."""
        return bool(self.group.holders) and self.group.settled

    def start(self, name: str) -> None:
        """A process of this name, the first or the next one."""
        self.processes[name] = process = Process(self.loop, name)
        process.spawn(self._live(name))

    async def _live(self, name: str) -> None:
        slow = Random(self.rng.random())
        holder = self.group.add(self.memory.member(Member(name, f"{name}:1")))
        let_go = holder.let_go

        async def slowly(partitions: frozenset[int]) -> None:
            await asyncio.sleep(slow.choice((0, 0.01, 1, 4, 7)))
            await let_go(partitions)

        holder.let_go = slowly
        await holder.membership.join(holder)

    def kill(self, name: str) -> None:
        """It takes no further step."""
        self.processes.pop(name).kill()
        self.group.holders.pop(name, None)

    async def fault(self) -> None:
        """One, or a change of those who are there."""
        living = sorted(self.processes)
        absent = sorted(NAMES - set(living))
        name = self.rng.choice(living)
        kinds: list[Callable[[], Any]] = [
            self._outage,
            lambda: self._cut_off(name),
            lambda: self._pause(name),
            lambda: self._restart(name),
            lambda: self._twin(name),
        ]
        if absent:
            kinds += [lambda: self.start(self.rng.choice(absent))] * 2
        if len(living) > 1:
            kinds += [lambda: self.kill(name), lambda: self._leave(name)]
        done = self.rng.choice(kinds)()
        if asyncio.iscoroutine(done):
            await done
        await asyncio.sleep(self.rng.choice((0, 0.1, 1, 5, 15)))

    async def _leave(self, name: str) -> None:
        holder = self.group.holders.get(name)
        if holder is not None:
            await self.processes[name].spawn(holder.membership.leave())
        self.kill(name)

    def _restart(self, name: str) -> None:
        self.kill(name)
        self.start(name)

    async def _twin(self, name: str) -> None:
        """One that sleeps is taken for dead, and another started in its place; then it wakes."""
        older = self.group.holders.get(name)
        if older is None or older.membership.detail:
            return  # it has no place yet that another could take
        process = self.processes.pop(name)
        process.pause(True)
        self.start(name)
        while self.group.holders[name] is older or self.group.holders[name].membership.detail:
            await asyncio.sleep(0.1)
        await self._while()
        process.pause(False)
        while not older.membership.replaced:  # where the group had forgotten both, either might stay
            await asyncio.sleep(0.1)
        self.older.append(older.membership)

    async def _cut_off(self, name: str) -> None:
        self.memory.cut_off(name)
        await self._while()
        self.memory.mend(name)

    async def _pause(self, name: str) -> None:
        self.processes[name].pause(True)
        await self._while()
        self.processes[name].pause(False)

    async def _outage(self) -> None:
        self.memory.stop()
        await self._while()
        self.memory.start()

    async def _while(self) -> None:
        await asyncio.sleep(self.rng.choice((0.5, 5, 12, 30)))


def run(seed: int) -> World:
    """A world that was harmed and has settled."""
    rng = Random(seed)
    loop = SimLoop(rng)

    async def live() -> World:
        world = World(loop, rng)
        world.start("a")
        for _ in range(FAULTS):
            await world.fault()
        deadline = loop.time() + SETTLE_SECONDS_MAX
        while not world.settled:
            assert loop.time() < deadline, f"it does not settle: {world.group.told()}"
            await asyncio.sleep(0.5)
        return world

    with contextlib.closing(loop):
        world = loop.run_until_complete(live())
    assert not loop.failures
    return world


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_goes_wrong_no_two_hold_the_same_and_it_settles_again(seed: int) -> None:
    world = run(seed)
    assert not world.group.faults
    assert not any(older.held for older in world.older)


def test_the_same_seed_tells_the_same() -> None:
    first, second = run(7), run(7)
    assert (first.group.told(), first.loop.ns) == (second.group.told(), second.loop.ns)
