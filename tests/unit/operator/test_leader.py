"""Of several operators one leads, on virtual time, whatever becomes of it."""

import asyncio
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from tests.simulation.loop import Process, SimLoop
from tests.unit.operator.fake_kube import FakeKube

from trade2026_operator.kube import KubeError
from trade2026_operator.leader import LEASE_SECONDS, RENEW_SECONDS_MAX, Lease
from trade2026_operator.reconcile.objects import Manifest, Ref


class CutOff(FakeKube):
    """An API server that some operators can't reach."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False

    async def get(self, ref: Ref) -> Manifest | None:
        if self.away:
            raise KubeError(0, "Unreachable", "cut off")
        return await super().get(ref)


class World:
    """Operators, each in a process of its own; what they did, and when."""

    def __init__(self, seed: int = 1) -> None:
        self.loop = SimLoop(Random(seed))
        self.kube = CutOff()
        self.leading: dict[str, bool] = {}
        self.history: list[tuple[float, str, bool]] = []
        self.processes: dict[str, Process] = {}

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.loop.time())

    def start(self, name: str) -> Lease:
        lease = Lease(self.kube, "system", "operator", name, self.now)
        process = self.processes[name] = Process(self.loop, name)
        process.spawn(self._life(name, lease), name)
        return lease

    async def _life(self, name: str, lease: Lease) -> None:
        await lease.acquired()
        self._became(name, True)
        await lease.lost()
        self._became(name, False)

    def _became(self, name: str, leads: bool) -> None:
        self.leading[name] = leads
        self.history.append((self.loop.time(), name, leads))

    @property
    def leaders(self) -> list[str]:
        return [name for name, leads in self.leading.items() if leads and self.processes[name].alive]

    def run(self, story: object) -> None:
        try:
            self.loop.run_until_complete(story)
            assert not self.loop.failures, self.loop.failures
        finally:
            self.loop.close()


@pytest.mark.parametrize("seed", range(10))
def test_one_of_three_leads_and_the_next_one_follows_when_it_dies(seed: int) -> None:
    world = World(seed)

    async def story() -> None:
        for name in ("a", "b", "c"):
            world.start(name)
        await asyncio.sleep(60)
        (first,) = world.leaders
        world.processes[first].kill()
        died = world.loop.time()
        await asyncio.sleep(LEASE_SECONDS + 5)
        (second,) = world.leaders
        assert second != first
        assert world.history[-1][0] - died <= LEASE_SECONDS + 5

    world.run(story())


def test_a_leader_that_lets_go_is_followed_at_once() -> None:
    world = World()

    async def story() -> None:
        lease = world.start("a")
        await asyncio.sleep(5)
        world.start("b")
        await asyncio.sleep(5)
        assert world.leaders == ["a"]
        world.processes["a"].kill()
        await lease.release()
        await asyncio.sleep(3)
        assert world.leaders == ["b"]

    world.run(story())


def test_a_leader_that_cannot_renew_stops_before_another_may_begin() -> None:
    world = World()

    async def story() -> None:
        world.start("a")
        await asyncio.sleep(5)
        world.kube.away = True
        cut = world.loop.time()
        await asyncio.sleep(RENEW_SECONDS_MAX + 3)
        assert world.leaders == []
        assert world.history[-1][0] - cut < LEASE_SECONDS
        world.kube.away = False
        world.start("b")
        await asyncio.sleep(LEASE_SECONDS + 5)
        assert world.leaders == ["b"]

    world.run(story())


def test_a_leader_that_fails_to_renew_once_goes_on() -> None:
    world = World()

    async def story() -> None:
        world.start("a")
        await asyncio.sleep(5)
        world.start("b")
        world.kube.away = True
        await asyncio.sleep(RENEW_SECONDS_MAX - 4)
        world.kube.away = False
        await asyncio.sleep(2 * LEASE_SECONDS)
        assert [(name, leads) for _, name, leads in world.history] == [("a", True)]

    world.run(story())


@pytest.mark.parametrize("seed", range(10))
def test_a_leader_that_slept_finds_out_that_another_leads_as_soon_as_it_wakes(seed: int) -> None:
    world = World(seed)

    async def story() -> None:
        world.start("a")
        await asyncio.sleep(5)
        world.start("b")
        world.processes["a"].pause(True)
        await asyncio.sleep(2 * LEASE_SECONDS)
        assert "b" in world.leaders
        world.processes["a"].pause(False)
        await asyncio.sleep(3)
        assert world.leaders == ["b"]

    world.run(story())
