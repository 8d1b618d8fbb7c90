"""The cache on a Valkey (or Redis) server, which any number of processes share.

Each operation is one call of one script, `valkey_cache.lua`: one round trip, and nobody sees half of it. Everything of
one stack lies in a few keys of the server, whose names begin with `{trade2026:STACK}`; what expires does so by the
clock of whoever asks, as in every cache of ours, not by the server's.

A server that began anew has no mark that somebody filled it, so it is not taken for one where nothing is known.
"""

import asyncio
import contextlib
import hashlib
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from valkey.asyncio import Valkey
from valkey.asyncio.connection import BlockingConnectionPool, Connection, SSLConnection
from valkey.asyncio.retry import Retry
from valkey.backoff import NoBackoff
from valkey.exceptions import NoScriptError, ResponseError, ValkeyError

from trade2026.stores.cache import (
    USER_BYTES_MAX,
    USER_KEYS_MAX,
    CacheLost,
    CacheUnavailable,
    Changes,
    Entry,
    require_room,
)

PASSWORD_VARIABLE = "TRADE2026_VALKEY_PASSWORD"
_SCRIPT = Path(__file__).with_suffix(".lua").read_text()
_DIGEST = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()
_KEYS = ("kept", "users", "names", "used", "deadlines", "meta")
_KEYS_PER_CALL = 500
"""The server does nothing else meanwhile: a millisecond or two."""
ANSWER_SECONDS_MAX = 1.0
_CONNECTIONS_MAX = 8
_RETRY_SECONDS = 0.2
"""So long nobody asks a server again that has just not answered."""
_WRITE_PAUSE = 0.02
_EVICTING = "allkeys"
_KEEP_ALIVE = {socket.TCP_KEEPIDLE: 10, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}
_HEAD = 65
"""Where the event begins in a value."""


class ValkeySettings(msgspec.Struct, kw_only=True, frozen=True):
    """The server, as `spec.stores.cache` names it."""

    url: str
    type: str = "valkey"
    username: str = ""
    password_file: str = ""
    ca_file: str = ""

    def password(self) -> str | None:
        """From the file, else from the environment; None where neither is. Raises `CacheUnavailable`."""
        if not self.password_file:
            return os.environ.get(PASSWORD_VARIABLE)
        try:
            return Path(self.password_file).read_text("utf-8").strip()
        except OSError as error:
            raise CacheUnavailable(f"spec.stores.cache.passwordFile can't be read: {error}") from error


class ValkeyCache:
    """See `Cache`. Made in a moment; it connects when it is first asked.

    Args:
        stack: Whose values: several stacks may share a server.
        now: The clock, ns: what has expired is told by it.
    """

    shared = True
    write_pause = _WRITE_PAUSE

    def __init__(
        self,
        settings: ValkeySettings,
        stack: str,
        now: Callable[[], int],
        *,
        user_keys_max: int = USER_KEYS_MAX,
        user_bytes_max: int = USER_BYTES_MAX,
    ) -> None:
        assert user_keys_max > 0
        self.user_keys_max, self.user_bytes_max = user_keys_max, user_bytes_max
        self._settings, self._now = settings, now
        self._keys = [f"{{trade2026:{stack}}}:{name}" for name in _KEYS]
        self._channel = f"{{trade2026:{stack}}}:changes"
        self._address = urlsplit(settings.url).netloc
        self._opened: Valkey | None = None
        self._rest_until = 0.0
        self._fault = ""
        self._listening: asyncio.Task[None] | None = None

    async def ping(self) -> None:
        """See `Cache.ping`."""
        await self._answer("PING")

    async def fill(self, entries: Mapping[str, Entry]) -> None:
        """See `Cache.fill`."""
        await self._require_no_eviction()
        items = iter(entries.items())
        while some := list(islice(items, _KEYS_PER_CALL)):
            await self._call("fill", *_told(some))
        gone = iter({key.decode() for key in await self._call("kept")} - entries.keys())
        while some := list(islice(gone, _KEYS_PER_CALL)):
            await self._call("drop", *some)
        await self._call("filled")

    async def keep(self, entries: Mapping[str, Entry]) -> None:
        """See `Cache.keep`."""
        if entries:
            await self._call("keep", *_told(entries.items()))

    async def put(self, key: str, entry: Entry) -> int:
        """See `Cache.put`."""
        require_room(key, entry, self.user_bytes_max)
        bounds = (self.user_keys_max, self.user_bytes_max)
        return await self._call("put", self._next_ns(), key, _encode(entry), *bounds, self._channel)

    async def get(self, keys: Sequence[str]) -> list[Entry | None]:
        """See `Cache.get`."""
        found = await self._call("get", self._next_ns(), *keys) if keys else []
        return [_decode(value) if value is not None else None for value in found]

    async def keys(self, prefix: str, after: str, limit: int) -> list[str]:
        """See `Cache.keys`."""
        return [key.decode() for key in await self._call("keys", self._next_ns(), prefix, after, limit)]

    async def delete(self, key: str) -> bool:
        """See `Cache.delete`."""
        return bool(await self._call("delete", self._next_ns(), key, self._channel))

    async def delete_prefix(self, prefix: str) -> list[str]:
        """See `Cache.delete_prefix`."""
        return [key.decode() for key in await self._call("delete_prefix", self._next_ns(), prefix, self._channel)]

    async def size(self) -> tuple[int, int, int]:
        """See `Cache.size`."""
        kept, users, size = await self._call("size", self._next_ns())
        return kept, users, size

    def listen(self, told: Callable[[Changes], None]) -> None:
        """See `Cache.listen`. What changes while the connection is broken is not told."""
        self._listening = asyncio.ensure_future(self._listen(told))

    async def close(self) -> None:
        """See `Cache.close`."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        if self._opened is not None:
            with contextlib.suppress(ValkeyError, OSError):
                await self._opened.aclose(close_connection_pool=True)

    def _next_ns(self) -> str:
        """The moment after now: what expires before it has expired."""
        return f"{self._now() + 1:020d}"

    async def _call(self, operation: str, *arguments: str | bytes | int) -> Any:
        """Run an operation of the script."""
        named = (len(self._keys), *self._keys, operation, *arguments)
        try:
            return await self._answer("EVALSHA", _DIGEST, *named)
        except NoScriptError:
            return await self._answer("EVAL", _SCRIPT, *named)

    async def _answer(self, *command: str | bytes | int) -> Any:
        """What the server answers, within its time. One that has just failed is left alone for a moment.

        Raises:
            NoScriptError: it does not know the script yet.
        """
        loop = asyncio.get_running_loop()
        if loop.time() < self._rest_until:
            raise CacheUnavailable(self._fault)
        try:
            answer = await self._client().execute_command(*command)
        except NoScriptError:
            raise
        except ResponseError as error:
            if str(error).startswith("LOST"):
                raise CacheLost(f"Valkey at {self._address} has lost its values and is not filled yet") from error
            raise CacheUnavailable(f"Valkey at {self._address} refuses: {error}") from error
        except (ValkeyError, OSError, TimeoutError) as error:
            self._rest_until = loop.time() + _RETRY_SECONDS
            self._fault = f"Valkey at {self._address} does not answer: {error or type(error).__name__}"
            raise CacheUnavailable(self._fault) from error
        return answer

    def _client(self) -> Valkey:
        if self._opened is None:
            self._opened = _open(self._settings)
        return self._opened

    async def _require_no_eviction(self) -> None:
        memory = await self._answer("INFO", "memory")
        if memory["maxmemory"] and memory["maxmemory_policy"].startswith(_EVICTING):
            raise CacheUnavailable(
                f"Valkey at {self._address} forgets keys of its own accord: set maxmemory-policy noeviction"
            )

    async def _listen(self, told: Callable[[Changes], None]) -> None:
        while True:
            with contextlib.suppress(ValkeyError, OSError, CacheUnavailable):
                async with self._client().pubsub(ignore_subscribe_messages=True) as channel:
                    await channel.subscribe(self._channel)
                    while True:
                        message = await channel.get_message(timeout=ANSWER_SECONDS_MAX)
                        if message is None:  # nothing has changed meanwhile
                            continue
                        key, _, value = message["data"].partition(b"\0")
                        told({key.decode(): _decode(value) if value else None})
            await asyncio.sleep(_RETRY_SECONDS)


def _open(settings: ValkeySettings) -> Valkey:
    """A client that tries nothing twice: who asks decides that. Raises `CacheUnavailable`: a secret can't be read."""
    parts = urlsplit(settings.url)
    options: dict[str, Any] = {
        "host": parts.hostname,
        "port": parts.port,
        "db": int(parts.path.strip("/") or 0),
        "username": settings.username or None,
        "password": settings.password(),
        "socket_timeout": ANSWER_SECONDS_MAX,
        "socket_connect_timeout": ANSWER_SECONDS_MAX,
        "socket_keepalive": True,
        "socket_keepalive_options": _KEEP_ALIVE,
        "retry": Retry(NoBackoff(), 0),
        "connection_class": Connection,
    }
    if parts.scheme == "rediss":
        options |= {"connection_class": SSLConnection, "ssl_check_hostname": True}
        options |= {"ssl_ca_certs": settings.ca_file or None}
    pool = BlockingConnectionPool(max_connections=_CONNECTIONS_MAX, timeout=ANSWER_SECONDS_MAX, **options)  # type: ignore[arg-type]
    return Valkey(connection_pool=pool)


def _told(entries: Any) -> list[str | bytes]:
    """Keys and values in turn."""
    found: list[str | bytes] = []
    for key, entry in entries:
        found += (key, _encode(entry))
    return found


def _encode(entry: Entry) -> bytes:
    """As the script reads it."""
    ts, place, live = entry.version
    return b"%020d %020d %d %020d %s\n%s" % (ts, place, live, entry.expires_at, entry.as_of.encode(), entry.value)


def _decode(value: bytes) -> Entry:
    head, _, json = value.partition(b"\n")
    return Entry(json, int(head[:20]), head[_HEAD:].decode(), int(head[44:64]), head[42:43] == b"0")
