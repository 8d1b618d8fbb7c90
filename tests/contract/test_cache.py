"""What every cache promises (`stores/cache.py`), asked of each backend in the same words."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from tests.waiting import until

from trade2026.local.infra.component import Component
from trade2026.stores import valkey_cache
from trade2026.stores.cache import Cache, Changes, Entry, EntryTooLarge, MemoryCache
from trade2026.stores.valkey_cache import ValkeyCache, ValkeySettings

SECOND = 10**9
Make = Callable[..., Awaitable[Cache]]
Open = Callable[..., Cache]
_stacks = itertools.count()


class Clock:
    """Stands still unless the test moves it."""

    now_ns = 1_000 * SECOND

    def now(self) -> int:
        return self.now_ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "valkey"])
def opened(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Opens a cache of the backend: takes the clock and bounds; the same `stack` is the same cache where one shares."""
    if request.param == "memory":
        return lambda now, stack="", **bounds: MemoryCache(now, **bounds)
    monkeypatch.setattr(valkey_cache, "ANSWER_SECONDS_MAX", 60)  # a busy machine is no server that hangs
    server: Component = request.getfixturevalue("valkey")
    address = ValkeySettings(url=f"redis://{server.address}")
    return lambda now, stack="", **bounds: ValkeyCache(address, stack or another_stack(), now, **bounds)


def another_stack() -> str:
    return f"contract-{os.getpid()}-{next(_stacks)}"


@pytest.fixture
async def make(opened: Open, clock: Clock) -> AsyncIterator[Make]:
    """Makes caches on the clock, filled with nothing; keyword arguments are their bounds."""
    made: list[Cache] = []

    async def one(**named: Any) -> Cache:
        made.append(opened(clock.now, **named))
        await made[-1].fill({})
        return made[-1]

    yield one
    for cache in made:
        await cache.close()


def entry(value: bytes = b"1", *, expires_at: int = 0) -> Entry:
    return Entry(value, ts=5, expires_at=expires_at)


async def read(cache: Cache, *keys: str) -> list[bytes | None]:
    return [found.value if found is not None else None for found in await cache.get(keys)]


async def test_values_come_back_in_the_order_of_their_keys_with_all_that_was_said_of_them(make: Make) -> None:
    cache = await make()
    tick = Entry(b'{"price":"1"}', ts=7, as_of="market.ticks/0/3", restored=True)
    await cache.keep({"tick:SIM:A": tick})
    await cache.put("user:ann:x", entry(b'"mine"'))
    assert await cache.get(["user:ann:x", "none", "tick:SIM:A"]) == [entry(b'"mine"'), None, tick]


async def test_a_newer_value_takes_the_place_of_the_older(make: Make) -> None:
    cache = await make()
    for value in (b"1", b"2"):
        await cache.keep({"tick:SIM:A": entry(value)})
        await cache.put("user:ann:x", entry(value))
    assert await read(cache, "tick:SIM:A", "user:ann:x") == [b"2", b"2"]
    assert await cache.size() == (1, 1, len("user:ann:x") + 1)


async def test_keys_are_sorted_and_can_be_read_in_pages(make: Make) -> None:
    cache = await make()
    await cache.keep({f"tick:SIM:{name}": entry() for name in "CABD"})
    await cache.keep({"tick": entry(), "tick;": entry(), "book:SIM:A": entry()})
    await cache.put("user:ann:x", entry())
    first = await cache.keys("tick:", "", 3)
    assert first == ["tick:SIM:A", "tick:SIM:B", "tick:SIM:C"]
    assert await cache.keys("tick:", first[-1], 3) == ["tick:SIM:D"]
    assert await cache.keys("", "", 100) == [
        "book:SIM:A", "tick", "tick:SIM:A", "tick:SIM:B", "tick:SIM:C", "tick:SIM:D", "tick;", "user:ann:x",
    ]  # fmt: skip


async def test_what_is_deleted_is_gone_and_a_prefix_takes_all_of_its_keys(make: Make) -> None:
    cache = await make()
    for name in ("user:ann:a:1", "user:ann:a:2", "user:ann:b", "user:bob:a:1"):
        await cache.put(name, entry())
    assert await cache.delete("user:ann:b")
    assert not await cache.delete("user:ann:b")
    assert await cache.delete_prefix("user:ann:a:") == ["user:ann:a:1", "user:ann:a:2"]
    assert await cache.delete_prefix("user:ann:") == []
    assert await cache.keys("", "", 10) == ["user:bob:a:1"]


async def test_a_value_is_there_until_its_last_moment_by_the_clock_that_was_given(make: Make, clock: Clock) -> None:
    cache = await make()
    await cache.put("user:ann:x", entry(expires_at=clock.now() + SECOND))
    clock.now_ns += SECOND - 1
    assert await read(cache, "user:ann:x") == [b"1"]
    clock.now_ns += 1
    assert await read(cache, "user:ann:x") == [None]
    assert await cache.keys("", "", 10) == []
    assert await cache.size() == (0, 0, 0)


async def test_a_value_that_is_set_again_lives_by_its_new_time(make: Make, clock: Clock) -> None:
    cache = await make()
    await cache.put("user:ann:x", entry(b"1", expires_at=clock.now() + SECOND))
    await cache.put("user:ann:x", entry(b"2", expires_at=clock.now() + 3 * SECOND))
    clock.now_ns += 2 * SECOND
    assert await read(cache, "user:ann:x") == [b"2"]
    await cache.put("user:ann:x", entry(b"3"))
    clock.now_ns += 9 * SECOND
    assert await read(cache, "user:ann:x") == [b"3"]


async def test_the_least_recently_used_goes_when_there_are_too_many_keys(make: Make) -> None:
    cache = await make(user_keys_max=2)
    assert await cache.put("user:ann:a", entry()) == 0
    assert await cache.put("user:ann:b", entry()) == 0
    await cache.get(["user:ann:a"])
    assert await cache.put("user:ann:c", entry()) == 1
    assert await cache.keys("", "", 10) == ["user:ann:a", "user:ann:c"]


async def test_as_many_go_as_a_large_value_needs_and_one_that_never_fits_changes_nothing(make: Make) -> None:
    cache = await make(user_bytes_max=100)
    for name in "abc":
        await cache.put(f"user:ann:{name}", entry(b"1" * 20))
    assert await cache.put("user:ann:d", entry(b"1" * 50)) == 2
    assert await cache.keys("", "", 10) == ["user:ann:c", "user:ann:d"]
    with pytest.raises(EntryTooLarge, match="111 bytes, all together have at most 100"):
        await cache.put("user:ann:d", entry(b"1" * 101))
    assert await read(cache, "user:ann:c", "user:ann:d") == [b"1" * 20, b"1" * 50]


async def test_what_has_expired_goes_before_what_is_used(make: Make, clock: Clock) -> None:
    cache = await make(user_keys_max=2)
    await cache.put("user:ann:old", entry())
    await cache.put("user:ann:short", entry(expires_at=clock.now() + 1))
    clock.now_ns += 1
    assert await cache.put("user:ann:new", entry()) == 0
    assert await cache.keys("", "", 10) == ["user:ann:new", "user:ann:old"]


async def test_the_platforms_values_are_never_evicted_by_users(make: Make) -> None:
    cache = await make(user_keys_max=1, user_bytes_max=50)
    ticks = {f"tick:SIM:{n:03}": entry(b"1" * 100) for n in range(100)}
    await cache.keep(ticks)
    for n in range(5):
        await cache.put(f"user:ann:{n}", entry())
    assert await cache.keys("tick:", "", 1_000) == list(ticks)
    assert await cache.keys("user:", "", 10) == ["user:ann:4"]


async def test_an_older_value_never_takes_the_place_of_a_newer_one(make: Make) -> None:
    cache = await make()
    newest = Entry(b"3", ts=7, as_of="market.ticks/0/10")
    await cache.keep({"tick:SIM:A": newest})
    for older in (
        Entry(b"1", ts=6, as_of="market.ticks/0/11"),
        Entry(b"2", ts=7, as_of="market.ticks/0/9"),
        Entry(b"3", ts=7, as_of="market.ticks/0/10", restored=True),
    ):
        await cache.keep({"tick:SIM:A": older})
    assert await cache.get(["tick:SIM:A"]) == [newest]
    newer = Entry(b"4", ts=7, as_of="market.ticks/0/11", restored=True)
    await cache.keep({"tick:SIM:A": newer})
    assert await cache.get(["tick:SIM:A"]) == [newer]


async def test_what_is_filled_is_all_that_the_platform_keeps_and_users_values_stay(make: Make) -> None:
    cache = await make()
    await cache.keep({"tick:SIM:A": Entry(b"1", ts=9, as_of="market.ticks/0/9"), "tick:SIM:B": entry()})
    await cache.put("user:ann:x", entry())
    await cache.put("tick:SIM:D", entry())
    again = {f"tick:SIM:{name}": Entry(b"2", ts=6, as_of="market.ticks/0/3") for name in "ACD"}
    again |= {f"bar:SIM:{n:05}:1m": entry() for n in range(1_200)}
    await cache.fill(again)
    assert await cache.keys("", "", 2_000) == sorted([*again, "user:ann:x"])
    assert await cache.get(list(again)) == list(again.values())
    assert await cache.size() == (len(again), 1, len("user:ann:x") + 1)


async def test_a_value_that_was_seen_live_stays_so_when_another_fills_in_the_same_event(make: Make) -> None:
    cache = await make()
    live = Entry(b"1", ts=9, as_of="market.ticks/0/9")
    await cache.keep({"tick:SIM:A": live})
    await cache.fill({"tick:SIM:A": Entry(b"1", ts=9, as_of="market.ticks/0/9", restored=True)})
    assert await cache.get(["tick:SIM:A"]) == [live]


async def test_whoever_listens_is_told_what_users_put_and_delete_and_nothing_else(make: Make) -> None:
    cache = await make(stack=another_stack())
    told: list[Changes] = []
    cache.listen(told.append)
    long = entry(b'"\\u0000 x"' * 50, expires_at=10**19)
    async for _ in asked_until(lambda: any("user:ann:x" in changes for changes in told)):
        await cache.put("user:ann:x", long)
    told.clear()
    await cache.keep({"tick:SIM:A": entry()})
    await cache.delete("user:ann:none")
    await cache.put("user:ann:y", long)
    await cache.delete("user:ann:y")
    await cache.delete_prefix("user:ann:")
    await until(lambda: len([c for c in told if "user:ann:x" in c and c["user:ann:x"] is None]), "all is told")
    flat = [(key, value) for changes in told for key, value in changes.items() if key != "user:ann:x" or not value]
    assert flat == [("user:ann:y", long), ("user:ann:y", None), ("user:ann:x", None)]


async def asked_until(condition: Callable[[], bool]) -> AsyncIterator[None]:
    """Go on until a condition holds, with a pause: somebody else needs to come to know."""
    async with asyncio.timeout(60):
        while not condition():
            yield
            await asyncio.sleep(0.02)


async def test_a_cache_that_is_shared_is_one_for_all_and_any_other_is_its_processes_own(make: Make) -> None:
    stack = another_stack()
    one = await make(stack=stack)
    other, foreign = await make(stack=stack), await make(stack=another_stack())
    told: list[Changes] = []
    other.listen(told.append)
    await one.keep({"tick:SIM:A": entry()})
    await one.put("user:ann:x", entry())
    async for _ in asked_until(lambda: bool(told) or not one.shared):
        await one.put("user:ann:x", entry())
    expected = [b"1", b"1"] if one.shared else [None, None]
    assert await read(other, "tick:SIM:A", "user:ann:x") == expected
    assert await read(foreign, "tick:SIM:A", "user:ann:x") == [None, None]
    assert [*told[:1]] == ([{"user:ann:x": entry()}] if one.shared else [])


def test_whatever_is_done_it_answers_as_a_plain_list_would(opened: Open) -> None:
    loop = asyncio.new_event_loop()
    done: Callable[[Coroutine[Any, Any, Any]], Any] = loop.run_until_complete
    names = st.sampled_from([f"user:u:{n}" for n in range(6)] + ["user:u", "user:v:1"])

    class Comparison(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.clock = Clock()
            self.cache = opened(self.clock.now, user_keys_max=4, user_bytes_max=60)
            done(self.cache.fill({}))
            self.plain: list[tuple[str, Entry]] = []  # the least recently used first

        def live(self) -> list[tuple[str, Entry]]:
            now = self.clock.now_ns
            self.plain = [(key, e) for key, e in self.plain if not e.expires_at or e.expires_at > now]
            return self.plain

        def bytes(self) -> int:
            return sum(len(key) + len(e.value) for key, e in self.plain)

        @rule(key=names, size=st.integers(1, 30), ttl=st.sampled_from([0, 1, 5]))
        def put(self, key: str, size: int, ttl: int) -> None:
            made = entry(b"1" * size, expires_at=self.clock.now_ns + ttl if ttl else 0)
            self.plain, gone = [(k, e) for k, e in self.live() if k != key], 0
            while len(self.plain) >= 4 or self.bytes() + len(key) + size > 60:
                del self.plain[0]
                gone += 1
            self.plain.append((key, made))
            assert done(self.cache.put(key, made)) == gone

        @rule(key=names)
        def get(self, key: str) -> None:
            found = dict(self.live()).get(key)
            if found is not None:
                self.plain = [(k, e) for k, e in self.plain if k != key] + [(key, found)]
            assert done(self.cache.get([key])) == [found]

        @rule(prefix=st.sampled_from(["user:u:", "user:u", "user:v", "user:u:3"]))
        def delete_prefix(self, prefix: str) -> None:
            gone = sorted(key for key, _ in self.live() if key.startswith(prefix))
            self.plain = [(key, e) for key, e in self.plain if key not in gone]
            assert done(self.cache.delete_prefix(prefix)) == gone

        @rule(ns=st.integers(1, 3))
        def wait(self, ns: int) -> None:
            self.clock.now_ns += ns

        @invariant()
        def same(self) -> None:
            assert done(self.cache.keys("", "", 100)) == sorted(key for key, _ in self.live())
            assert done(self.cache.size()) == (0, len(self.plain), self.bytes())

        def teardown(self) -> None:
            done(self.cache.close())

    try:
        run_state_machine_as_test(Comparison, settings=settings(max_examples=30, stateful_step_count=30, deadline=None))
    finally:
        loop.close()
