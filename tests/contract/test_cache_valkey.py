"""A cache that is a server may be away, hang, begin anew or refuse: what is said then, and that it comes back."""

import asyncio
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.infra import started
from tests.waiting import until
from valkey.asyncio.client import PubSub

from trade2026.local.infra.component import HOST
from trade2026.local.infra.valkey import Valkey
from trade2026.stores import valkey_cache
from trade2026.stores.cache import CacheLost, CacheUnavailable, Changes, Entry
from trade2026.stores.valkey_cache import PASSWORD_VARIABLE, ValkeyCache, ValkeySettings

TICK = "tick:SIM:A"
ONE = Entry(b"1", ts=5)
Open = Callable[..., ValkeyCache]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Valkey]:
    """A server of its own, because it is harmed."""
    found = Valkey(tmp_path / "valkey")
    started(found)
    yield found
    found.stop()


@pytest.fixture
async def opened(server: Valkey, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Open]:
    monkeypatch.setattr(valkey_cache, "ANSWER_SECONDS_MAX", 60)  # a busy machine is no server that hangs
    made: list[ValkeyCache] = []

    def one(**settings: str) -> ValkeyCache:
        named = {"url": f"redis://{server.address}", **settings}
        made.append(ValkeyCache(ValkeySettings(**named), "harm", time.time_ns))
        return made[-1]

    yield one
    for cache in made:
        await cache.close()


def configure(server: Valkey, *words: str) -> None:
    from valkey import Valkey as Client

    with Client(port=server.port) as client:
        client.config_set(*words)


async def answers(cache: ValkeyCache) -> bool:
    try:
        await cache.ping()
    except CacheUnavailable:
        return False
    return True


async def test_a_server_that_began_anew_is_not_taken_for_one_where_nothing_is_known(
    opened: Open, server: Valkey
) -> None:
    cache = opened()
    with pytest.raises(CacheLost, match="not filled yet"):
        await cache.get([TICK])
    await cache.fill({TICK: ONE})
    server.kill()
    with pytest.raises(CacheUnavailable, match=f"Valkey at {server.address} does not answer"):
        await cache.get([TICK])
    server.start()
    await until(lambda: answers(cache), "it answers again")
    for ask in (cache.get([TICK]), cache.keep({TICK: ONE}), cache.keys("", "", 5), cache.put("user:a:b", ONE)):
        with pytest.raises(CacheLost):
            await ask
    await cache.fill({TICK: ONE})
    assert await cache.get([TICK]) == [ONE]


async def test_who_asks_a_server_that_hangs_waits_a_second_and_those_behind_not_at_all(
    opened: Open, server: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    await opened().fill({TICK: ONE})
    monkeypatch.setattr(valkey_cache, "_RETRY_SECONDS", 600)
    monkeypatch.setattr(valkey_cache, "ANSWER_SECONDS_MAX", 1)
    cache = opened()
    server.pause()
    try:
        with pytest.raises(CacheUnavailable, match="does not answer"):
            await cache.get([TICK])
        server.go_on()  # nobody asks it yet
        with pytest.raises(CacheUnavailable, match="does not answer"):
            await cache.get([TICK])
    finally:
        server.go_on()


async def test_a_server_that_would_forget_keys_of_its_own_accord_is_refused_with_what_to_set(
    opened: Open, server: Valkey
) -> None:
    configure(server, "maxmemory", "100mb", "maxmemory-policy", "allkeys-lru")
    with pytest.raises(CacheUnavailable, match="set maxmemory-policy noeviction"):
        await opened().fill({})
    configure(server, "maxmemory-policy", "noeviction")
    await opened().fill({})


async def test_a_server_that_is_full_refuses_and_says_so(opened: Open, server: Valkey) -> None:
    cache = opened()
    await cache.fill({})
    configure(server, "maxmemory", "1")
    with pytest.raises(CacheUnavailable, match=r"refuses: .*memory"):
        await cache.keep({TICK: ONE})
    configure(server, "maxmemory", "0")
    await cache.keep({TICK: ONE})


async def test_the_password_comes_from_a_file_or_from_the_environment(
    opened: Open, server: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(server, "requirepass", "open sesame")
    with pytest.raises(CacheUnavailable, match="Authentication required"):
        await opened().ping()
    (tmp_path / "password").write_text("open sesame\n")
    await opened(password_file=str(tmp_path / "password")).ping()
    with pytest.raises(CacheUnavailable, match=r"passwordFile can't be read.*nowhere"):
        await opened(password_file="nowhere").ping()
    monkeypatch.setenv(PASSWORD_VARIABLE, "open sesame")
    await opened(username="default").ping()


async def test_who_listens_is_told_again_after_the_server_was_away(opened: Open, server: Valkey) -> None:
    cache = opened()
    told: list[Changes] = []
    cache.listen(told.append)
    for life in range(2):
        await until(lambda: answers(cache), "it answers")
        await cache.fill({})

        async def heard(name: str = f"user:ann:{life}") -> bool:
            await cache.put(name, ONE)
            return {name: ONE} in told

        await until(heard, "it is told")
        server.kill()
        server.start()


async def test_who_listens_stays_subscribed_however_long_nothing_changes(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    teller = opened()
    await teller.fill({})
    monkeypatch.setattr(valkey_cache, "ANSWER_SECONDS_MAX", 0.2)
    listener = opened()
    told: list[Changes] = []
    subscriptions, silences = [], []
    subscribe, wait = PubSub.subscribe, PubSub.parse_response

    async def subscribed(channel: PubSub, *names: str) -> None:
        subscriptions.append(names)
        await subscribe(channel, *names)

    async def waited(channel: PubSub, *args: Any, **named: Any) -> Any:
        message = None
        try:
            message = await wait(channel, *args, **named)
        finally:
            if message is None:
                silences.append(channel)
        return message

    monkeypatch.setattr(PubSub, "subscribe", subscribed)
    monkeypatch.setattr(PubSub, "parse_response", waited)
    listener.listen(told.append)

    async def heard() -> bool:
        await teller.put("user:ann:first", ONE)
        return bool(told)

    await until(heard, "it is subscribed")
    before, quiet = len(subscriptions), len(silences)
    await until(lambda: len(silences) >= quiet + 3, "nothing was to be told for three times as long as it waits")
    await teller.put("user:ann:once", ONE)
    await until(lambda: {"user:ann:once": ONE} in told, "it is told")
    assert len(subscriptions) == before


async def test_tls_trusts_the_certificates_that_are_named_and_no_others(
    opened: Open, server: Valkey, tmp_path: Path
) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subject = ("-subj", "/CN=cache", "-addext", f"subjectAltName=IP:{HOST}")
    made = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, *subject)
    subprocess.run(made, check=True, capture_output=True)  # noqa: ASYNC221
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    async with tls_before(server, context) as port:
        url = f"rediss://{HOST}:{port}"
        await opened(url=url, ca_file=str(certificate)).ping()
        with pytest.raises(CacheUnavailable, match="does not answer"):
            await opened(url=url).ping()


@asynccontextmanager
async def tls_before(server: Valkey, context: ssl.SSLContext) -> AsyncIterator[int]:
    """A port that takes TLS off what goes to the server."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(HOST, server.port)
        await asyncio.gather(carry(reader, inner_writer), carry(inner_reader, writer), return_exceptions=True)

    listening = await asyncio.start_server(serve, HOST, 0, ssl=context)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
