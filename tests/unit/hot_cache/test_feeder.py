"""The feeder tells whoever listens each change, also the ones that come while the cache fails."""

from collections.abc import Mapping

from trade2026.hot_cache.feeder import Feeder
from trade2026.stores.cache import CacheUnavailable, Entry, MemoryCache

ONE, TWO = Entry(b"1", ts=1), Entry(b"2", ts=2)


async def test_what_comes_during_a_call_that_fails_is_told_with_what_was_in_it() -> None:
    cache = MemoryCache(lambda: 1)
    told: list[Mapping[str, Entry | None]] = []

    async def everything() -> Mapping[str, Entry]:
        return {}

    feeder = Feeder(cache, everything, told.append)
    await feeder._feed()

    async def failing(entries: Mapping[str, Entry]) -> None:
        feeder.offer({"tick:SIM:B": TWO})
        raise CacheUnavailable("it does not answer")

    cache.keep = failing  # type: ignore[method-assign]
    feeder.offer({"tick:SIM:A": ONE})
    await feeder._feed()
    assert feeder.error == "it does not answer"
    assert told == [{"tick:SIM:A": ONE, "tick:SIM:B": TWO}]
