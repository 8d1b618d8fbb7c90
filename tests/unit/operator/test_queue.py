"""Who is looked at when, on virtual time."""

import asyncio
from collections import Counter
from itertools import pairwise
from random import Random

import pytest
from tests.simulation.loop import SimLoop

from trade2026_operator.queue import FAILURE_SECONDS_MAX, FAILURE_SECONDS_MIN, GONE, RESYNC_SECONDS, Key, WorkQueue

KEYS = [Key("trading", f"desk-{number}") for number in range(5)]


def run(story: object, seed: int = 1) -> SimLoop:
    loop = SimLoop(Random(seed))
    loop.ns_max = 48 * 3_600 * 10**9
    try:
        loop.run_until_complete(story)
        assert not loop.failures, loop.failures
    finally:
        loop.close()
    return loop


class Looks:
    """Counts, and sees that nobody is looked at twice at a time."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.times: dict[Key, list[float]] = {}
        self.busy: Counter[Key] = Counter()
        self.failing: set[Key] = set()
        self.after: float | None = None

    async def look(self, key: Key) -> float | None:
        self.times.setdefault(key, []).append(asyncio.get_running_loop().time())
        self.busy[key] += 1
        assert self.busy[key] == 1, f"two workers look at {key}"
        await asyncio.sleep(self.seconds)
        self.busy[key] -= 1
        if key in self.failing:
            raise RuntimeError("it fails")
        return self.after


async def working(queue: WorkQueue, seconds: float, workers: int = 3) -> None:
    task = asyncio.ensure_future(queue.work(workers))
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_a_stack_that_is_named_often_is_looked_at_once() -> None:
    looks = Looks()

    async def story() -> None:
        queue = WorkQueue(looks.look, rng=Random(1))
        for _ in range(50):
            for key in KEYS:
                queue.add(key)
        await working(queue, 1)

    run(story())
    assert {key: len(times) for key, times in looks.times.items()} == dict.fromkeys(KEYS, 1)


def test_what_happens_during_a_look_leads_to_one_more_after_it() -> None:
    looks = Looks(seconds=1.0)

    async def story() -> None:
        queue = WorkQueue(looks.look, rng=Random(1))
        queue.add(KEYS[0])
        task = asyncio.ensure_future(working(queue, 10))
        await asyncio.sleep(0.5)
        for _ in range(9):
            queue.add(KEYS[0])
        await task

    run(story())
    first, second = looks.times[KEYS[0]]
    assert 0.99 < second - first < 1.1


def test_everyone_is_looked_at_again_now_and_then_and_not_all_at_once() -> None:
    looks = Looks()

    async def story() -> None:
        queue = WorkQueue(looks.look, rng=Random(3))
        for key in KEYS:
            queue.add(key)
        await working(queue, RESYNC_SECONDS * 1.3)

    run(story())
    seconds = [times[1] for times in looks.times.values()]
    assert len(seconds) == len(KEYS) and max(seconds) - min(seconds) > 10
    assert all(0.7 * RESYNC_SECONDS < at < 1.3 * RESYNC_SECONDS for at in seconds)


def test_what_fails_is_tried_less_and_less_often_and_holds_up_nobody() -> None:
    looks = Looks()
    looks.failing.add(KEYS[0])

    async def story() -> None:
        queue = WorkQueue(looks.look, rng=Random(2))
        for key in KEYS:
            queue.add(key)
        await working(queue, 3_600, workers=1)
        assert set(queue.failures) == {KEYS[0]}

    run(story())
    times = looks.times[KEYS[0]]
    gaps = [after - before for before, after in pairwise(times)]
    assert gaps[0] < 1 and all(gap <= 1.3 * FAILURE_SECONDS_MAX for gap in gaps) and max(gaps) > 60
    assert all(times[0] < 1 for key, times in looks.times.items() if key != KEYS[0])


def test_a_stack_that_is_gone_is_forgotten() -> None:
    looks = Looks()
    looks.after = GONE

    async def story() -> None:
        queue = WorkQueue(looks.look, rng=Random(2))
        queue.add(KEYS[0])
        await working(queue, 3 * RESYNC_SECONDS)
        assert len(queue) == 0

    run(story())
    assert len(looks.times[KEYS[0]]) == 1


def test_what_happens_during_a_look_that_fails_does_not_wait_as_long_as_a_retry() -> None:
    looks = Looks(seconds=1.0)
    looks.failing.add(KEYS[0])

    async def story() -> None:
        queue = WorkQueue(looks.look, rng=Random(1))
        queue.add(KEYS[0])
        task = asyncio.ensure_future(working(queue, 600))
        while len(looks.times.get(KEYS[0], [])) < 9:  # by now it waits for minutes
            await asyncio.sleep(0.1)
        queue.add(KEYS[0])
        await task

    run(story())
    times = looks.times[KEYS[0]]
    assert times[8] - times[7] > 40 and times[9] - times[8] < 1.0 + 2 * FAILURE_SECONDS_MIN


def test_a_stack_that_asks_for_it_is_looked_at_again_soon() -> None:
    looks = Looks()
    looks.after = 5.0

    async def story() -> None:
        queue = WorkQueue(looks.look, rng=Random(2))
        queue.add(KEYS[0])
        await working(queue, 21)

    run(story())
    assert len(looks.times[KEYS[0]]) == 5


@pytest.mark.parametrize("seed", range(20))
def test_nothing_that_was_named_is_ever_forgotten(seed: int) -> None:
    rng, looks = Random(seed), Looks(seconds=0.3)
    named: dict[Key, float] = {}

    async def story() -> None:
        queue = WorkQueue(looks.look, rng=rng)
        task = asyncio.ensure_future(working(queue, 60, workers=2))
        for _ in range(100):
            key = rng.choice(KEYS)
            queue.add(key, rng.choice([0.0, 0.0, 1.0]))
            named[key] = asyncio.get_running_loop().time()
            await asyncio.sleep(rng.random() * 0.4)
        await task

    run(story(), seed)
    assert all(looks.times[key][-1] >= at for key, at in named.items())
