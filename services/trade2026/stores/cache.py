"""What a cache promises, whichever it is: values by key, sorted keys, and a bound that the platform's own keys are not
subject to.

Backends pass one contract suite under `tests/contract`. The default, `MemoryCache`, lives in the process; `ValkeyCache`
(`stores/valkey_cache.py`) is a server that several processes share.
"""

import heapq
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import msgspec

USER_KEYS_MAX = 10_000
USER_BYTES_MAX = 64 * 1024 * 1024
_STALE_DEADLINES_MAX = 1_000
"""Deadlines of values that are gone or were set again; more of them are thrown away."""


class Entry(msgspec.Struct, frozen=True):
    """A value and where it comes from."""

    value: bytes
    """JSON."""
    ts: int
    """When it came to be (ns)."""
    as_of: str = ""
    """Id of the event that made it; empty for a user's value, and where the log has lost the event."""
    expires_at: int = 0
    """ns; 0 means never. From this moment on the value is not there."""
    restored: bool = False
    """It was not seen live: it comes from before the process began."""

    @property
    def version(self) -> tuple[int, int, bool]:
        """Greater in the newer of two values of one key; of the same event, in the one that was seen live."""
        _, _, seq = self.as_of.rpartition("/")
        return self.ts, int(seq) + 1 if seq else 0, not self.restored


class EntryTooLarge(ValueError):
    """A value that would not fit if it were the only one."""

    def __init__(self, size: int, bytes_max: int) -> None:
        super().__init__(f"the key and its value have {size:,} bytes, all together have at most {bytes_max:,}")
        self.size, self.bytes_max = size, bytes_max


class CacheUnavailable(Exception):
    """The cache does not answer now; the message says why. What was asked may or may not have been done."""


class CacheLost(CacheUnavailable):
    """The cache has lost what it had, and answers nothing until somebody fills it."""


Changes = Mapping[str, Entry | None]
"""The newest value of each key, None where it was deleted."""


class Cache(Protocol):
    """Values by key.

    Two kinds share it: what the platform keeps with `keep` stays until it is deleted; what users `put` expires,
    and the least recently used goes when there is no room.

    All but `listen` raise `CacheUnavailable` where the cache is a server that does not answer, and, all but `ping` and
    `fill`, `CacheLost` where it began anew. A cache is filled before it is used.
    """

    shared: bool
    """Other processes see it, too, and it outlives this one. Else it is empty when the process begins."""
    write_pause: float
    """Seconds to wait after a `keep`, so that what changes meanwhile goes with the next: 0 where it costs nothing."""

    async def ping(self) -> None:
        """Return when it answers."""
        ...

    async def fill(self, entries: Mapping[str, Entry]) -> None:
        """Keep these of the platform's values and no others. Users' values stay.

        Whatever was there gives way, but for the same event's value that was seen live.
        """
        ...

    async def keep(self, entries: Mapping[str, Entry]) -> None:
        """Keep the platform's values, all at once for whoever reads. An older one takes no newer one's place."""
        ...

    async def put(self, key: str, entry: Entry) -> int:
        """Keep a user's value; returns how many others had to go for it.

        Raises:
            EntryTooLarge: nothing was changed.
        """
        ...

    async def get(self, keys: Sequence[str]) -> list[Entry | None]:
        """Return the values of keys in their order, None where there is none. A user's value counts as used."""
        ...

    async def keys(self, prefix: str, after: str, limit: int) -> list[str]:
        """Return keys with a prefix that come after another key, sorted by code point."""
        ...

    async def delete(self, key: str) -> bool:
        """Forget a value; returns whether there was one."""
        ...

    async def delete_prefix(self, prefix: str) -> list[str]:
        """Forget all values whose key has a prefix, and return their keys."""
        ...

    async def size(self) -> tuple[int, int, int]:
        """The platform's keys, users' keys, and the bytes of users' keys and values."""
        ...

    def listen(self, told: Callable[[Changes], None]) -> None:
        """Be told of each value that a user puts or deletes, also through another process."""
        ...

    async def close(self) -> None:
        """Let go of it; what is shared stays."""
        ...


class MemoryCache:
    """A cache in the memory of this process.

    Args:
        now: The clock, ns: what has expired is told by it.
    """

    shared = False
    write_pause = 0.0

    def __init__(
        self, now: Callable[[], int], *, user_keys_max: int = USER_KEYS_MAX, user_bytes_max: int = USER_BYTES_MAX
    ) -> None:
        assert user_keys_max > 0
        self.user_keys_max, self.user_bytes_max = user_keys_max, user_bytes_max
        self._now = now
        self._kept: dict[str, Entry] = {}
        self._users: OrderedDict[str, Entry] = OrderedDict()
        """The least recently used first."""
        self._user_bytes = 0
        self._sorted: list[str] = []
        self._deadlines: list[tuple[int, str]] = []
        """A heap; some may be of values that are not there any more."""
        self._told: Callable[[Changes], None] | None = None

    async def ping(self) -> None:
        """See `Cache.ping`."""

    async def fill(self, entries: Mapping[str, Entry]) -> None:
        """See `Cache.fill`."""
        for key in self._kept.keys() - entries.keys():
            self._forget(key)
        for key, entry in entries.items():
            known = self._kept.get(key)
            if known is None or known.version[:2] != entry.version[:2] or known.version <= entry.version:
                self._keep(key, entry)

    async def keep(self, entries: Mapping[str, Entry]) -> None:
        """See `Cache.keep`."""
        for key, entry in entries.items():
            known = self._kept.get(key)
            if known is None or known.version <= entry.version:
                self._keep(key, entry)

    def _keep(self, key: str, entry: Entry) -> None:
        if key not in self._kept:
            self._forget(key)
            insort(self._sorted, key)
        self._kept[key] = entry

    async def put(self, key: str, entry: Entry) -> int:
        """See `Cache.put`."""
        size = require_room(key, entry, self.user_bytes_max)
        self._expire()
        self._forget(key)
        evicted = 0
        while len(self._users) >= self.user_keys_max or self._user_bytes + size > self.user_bytes_max:
            self._forget(next(iter(self._users)))
            evicted += 1
        self._users[key] = entry
        self._user_bytes += size
        insort(self._sorted, key)
        if entry.expires_at:
            heapq.heappush(self._deadlines, (entry.expires_at, key))
            self._drop_stale_deadlines()
        self._tell({key: entry})
        return evicted

    async def get(self, keys: Sequence[str]) -> list[Entry | None]:
        """See `Cache.get`."""
        self._expire()
        return [self._kept.get(key) or self._use(key) for key in keys]

    async def keys(self, prefix: str, after: str, limit: int) -> list[str]:
        """See `Cache.keys`."""
        self._expire()
        found: list[str] = []
        for key in self._with_prefix(prefix, after):
            if len(found) == limit:
                break
            found.append(key)
        return found

    async def delete(self, key: str) -> bool:
        """See `Cache.delete`."""
        self._expire()
        found = self._forget(key)
        if found:
            self._tell({key: None})
        return found

    async def delete_prefix(self, prefix: str) -> list[str]:
        """See `Cache.delete_prefix`."""
        self._expire()
        found = list(self._with_prefix(prefix, ""))
        for key in found:
            self._forget(key)
        self._tell(dict.fromkeys(found))
        return found

    async def size(self) -> tuple[int, int, int]:
        """See `Cache.size`."""
        self._expire()
        return len(self._kept), len(self._users), self._user_bytes

    def listen(self, told: Callable[[Changes], None]) -> None:
        """See `Cache.listen`."""
        self._told = told

    async def close(self) -> None:
        """See `Cache.close`."""

    def _tell(self, changes: Changes) -> None:
        if self._told is not None and changes:
            self._told(changes)

    def _use(self, key: str) -> Entry | None:
        entry = self._users.get(key)
        if entry is not None:
            self._users.move_to_end(key)
        return entry

    def _with_prefix(self, prefix: str, after: str) -> Iterator[str]:
        position = bisect_left(self._sorted, max(prefix, after))
        while position < len(self._sorted) and self._sorted[position].startswith(prefix):
            if self._sorted[position] != after:
                yield self._sorted[position]
            position += 1

    def _forget(self, key: str) -> bool:
        entry = self._users.pop(key, None)
        if entry is not None:
            self._user_bytes -= _size(key, entry)
        elif self._kept.pop(key, None) is None:
            return False
        del self._sorted[bisect_left(self._sorted, key)]
        return True

    def _expire(self) -> None:
        now = self._now()
        while self._deadlines and self._deadlines[0][0] <= now:
            deadline, key = heapq.heappop(self._deadlines)
            entry = self._users.get(key)
            if entry is not None and entry.expires_at == deadline:
                self._forget(key)

    def _drop_stale_deadlines(self) -> None:
        if len(self._deadlines) > 2 * len(self._users) + _STALE_DEADLINES_MAX:
            self._deadlines = [(entry.expires_at, key) for key, entry in self._users.items() if entry.expires_at]
            heapq.heapify(self._deadlines)


def require_room(key: str, entry: Entry, bytes_max: int) -> int:
    """Return the bytes of a user's key and value. Raises `EntryTooLarge`: it would not fit alone."""
    size = _size(key, entry)
    if size > bytes_max:
        raise EntryTooLarge(size, bytes_max)
    return size


def _size(key: str, entry: Entry) -> int:
    return len(key.encode()) + len(entry.value)
