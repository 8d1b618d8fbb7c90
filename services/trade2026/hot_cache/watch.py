"""Changes over WebSocket: whoever subscribes to prefixes gets their values, then each that changes.

A slow reader gets the newest value of each key, never one after the other: so little waits for it, and what waits is
bounded. One that does not read for seconds, or would have too many keys to read, is dropped with the reason.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from starlette.websockets import WebSocket

from trade2026.hot_cache.views import entry_view
from trade2026.kit import readers
from trade2026.kit.body import parse
from trade2026.kit.identity import Principal
from trade2026.kit.problem import Problem
from trade2026.kit.readers import READERS_MAX, TRY_AGAIN_LATER
from trade2026.stores.cache import Cache, CacheUnavailable, Changes, Entry

PREFIXES_MAX = 100
WAITING_KEYS_MAX = 20_000
"""Of one reader."""
_ANSWERS_MAX = 100
_KEYS_PER_READ = 1_000

_encode = msgspec.json.encode


class Subscription(msgspec.Struct, forbid_unknown_fields=True):
    """What a reader asks: `op` is subscribe or unsubscribe."""

    op: str
    prefixes: list[str]


class Reader:
    """One reader: what it wants, and what waits for it."""

    def __init__(self, principal: Principal) -> None:
        self.principal = principal
        self.prefixes: dict[str, None] = {}
        self.wanted: tuple[str, ...] = ()
        self.woken = asyncio.Event()
        self.taken = asyncio.Event()
        """What waited is being sent."""
        self.too_slow = ""
        self._answers: list[bytes] = []
        self._waiting: dict[str, Entry | None] = {}

    def offer(self, changes: Changes) -> None:
        """Take what has changed, in the place of what was not read yet."""
        self.taken.clear()
        self._waiting.update(changes)
        if len(self._waiting) > WAITING_KEYS_MAX:
            self.too_slow = f"more than {WAITING_KEYS_MAX} keys were waiting"
            self._waiting.clear()
        self.woken.set()

    def answer(self, message: Any) -> None:
        """Answer what the reader has said."""
        if len(self._answers) == _ANSWERS_MAX:
            self.too_slow = f"more than {_ANSWERS_MAX} answers were waiting"
        else:
            self._answers.append(_encode(message))
        self.woken.set()

    def take(self) -> tuple[list[bytes], dict[str, Entry | None]]:
        """What is to be sent now: answers, then values."""
        self.woken.clear()
        self.taken.set()
        answers, waiting = self._answers, self._waiting
        self._answers, self._waiting = [], {}
        return answers, waiting


class Watch:
    """Fans changes out.

    Args:
        may_read: Whether a principal may see a key.
        now: The clock, ns.
    """

    def __init__(self, cache: Cache, may_read: Callable[[Principal, str], bool], now: Callable[[], int]) -> None:
        self.readers: set[Reader] = set()
        self.dropped = 0
        self._cache, self._may_read, self._now = cache, may_read, now

    def tell(self, changes: Changes) -> None:
        """Tell readers what has changed."""
        for reader in self.readers:
            if wanted := reader.wanted:
                found = {
                    key: entry
                    for key, entry in changes.items()
                    if key.startswith(wanted) and self._may_read(reader.principal, key)
                }
                if found:
                    reader.offer(found)

    async def serve(self, ws: WebSocket, principal: Principal) -> None:
        """Serve one reader until it leaves or is too slow."""
        if len(self.readers) >= READERS_MAX:
            await ws.close(TRY_AGAIN_LATER, f"at most {READERS_MAX} readers")
            return
        reader = Reader(principal)
        self.readers.add(reader)

        async def take(raw: bytes) -> None:
            """A broken subscription gets an error, not a hang-up."""
            try:
                await self._subscribe(reader, parse(raw, Subscription))
            except Problem as problem:
                reader.answer({"error": problem.detail, "code": problem.code})
            except CacheUnavailable as error:
                reader.answer({"error": f"{error}; what changes from now on is told", "code": "cache_unavailable"})

        try:
            if await readers.serve(ws, self._send(ws, reader), readers.received(ws, take)):
                self.dropped += 1
        finally:
            self.readers.discard(reader)

    async def _send(self, ws: WebSocket, reader: Reader) -> None:
        while True:
            await reader.woken.wait()
            if reader.too_slow:
                raise readers.TooSlow(reader.too_slow)
            answers, waiting = reader.take()
            for message in answers:
                await readers.send(ws, message)
            for key, entry in waiting.items():
                await readers.send(ws, self._message(key, entry))

    def _message(self, key: str, entry: Entry | None) -> bytes:
        shown = {"key": key, "deleted": True} if entry is None else entry_view(key, entry, self._now())
        return _encode(shown)

    async def _subscribe(self, reader: Reader, asked: Subscription) -> None:
        if asked.op not in ("subscribe", "unsubscribe"):
            raise Problem(422, "bad_op", "op is subscribe or unsubscribe", field="op")
        if asked.op == "unsubscribe":
            for prefix in asked.prefixes:
                reader.prefixes.pop(prefix, None)
        else:
            if len({*reader.prefixes, *asked.prefixes}) > PREFIXES_MAX:
                raise Problem(422, "too_many_prefixes", f"at most {PREFIXES_MAX} prefixes", field="prefixes")
            reader.prefixes.update(dict.fromkeys(asked.prefixes))
        reader.wanted = tuple(reader.prefixes)
        reader.answer({"op": asked.op, "prefixes": asked.prefixes})
        if asked.op == "subscribe":
            for prefix in asked.prefixes:
                await self._offer_all(reader, prefix)

    async def _offer_all(self, reader: Reader, prefix: str) -> None:
        """What is there now, as fast as it is read."""
        after = ""
        while found := await self._cache.keys(prefix, after, _KEYS_PER_READ):
            after = found[-1]
            allowed = [key for key in found if self._may_read(reader.principal, key)]
            entries = await self._cache.get(allowed)
            reader.offer({key: entry for key, entry in zip(allowed, entries, strict=True) if entry is not None})
            await reader.taken.wait()
