"""Given readers of some prefixes, when values change and readers read or do not, then this is what they get."""

import asyncio
from typing import Any

import msgspec
import pytest

from trade2026.hot_cache import watch as subject
from trade2026.hot_cache.api import may_read
from trade2026.hot_cache.watch import Watch
from trade2026.kit import readers
from trade2026.kit.identity import Principal
from trade2026.stores.cache import Entry, MemoryCache

NOW = 5_000_000_000
LOCAL = Principal("local", "admin")


class Socket:
    """A WebSocket whose reader reads only while `reads` is set."""

    def __init__(self) -> None:
        self.inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.outbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.reads = asyncio.Event()
        self.reads.set()
        self.closed: tuple[int, str] | None = None

    async def receive(self) -> dict[str, Any]:
        return await self.inbox.get()

    async def send_text(self, text: str) -> None:
        await self.reads.wait()
        self.outbox.put_nowait(msgspec.json.decode(text))

    async def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    def say(self, text: str) -> None:
        self.inbox.put_nowait({"type": "websocket.receive", "text": text})

    def subscribe(self, *prefixes: str, op: str = "subscribe") -> None:
        self.say(msgspec.json.encode({"op": op, "prefixes": prefixes}).decode())

    def leave(self) -> None:
        self.inbox.put_nowait({"type": "websocket.disconnect"})


class Market:
    """A cache and who watches it."""

    def __init__(self) -> None:
        self.cache = MemoryCache(lambda: NOW)
        self.watch = Watch(self.cache, may_read, lambda: NOW)

    async def keep(self, **values: int) -> None:
        entries = {
            key.replace("_", ":"): Entry(b"%d" % value, NOW, "market.ticks/0/1") for key, value in values.items()
        }
        await self.cache.keep(entries)
        self.watch.tell(entries)

    def serve(self, socket: Socket, principal: Principal = LOCAL) -> "asyncio.Future[None]":
        return asyncio.ensure_future(self.watch.serve(socket, principal))  # type: ignore[arg-type]


async def told(socket: Socket, count: int) -> list[tuple[str, Any]]:
    messages = [await socket.outbox.get() for _ in range(count)]
    return [(message["key"], message.get("value", "deleted")) for message in messages]


async def test_a_reader_gets_what_is_there_then_what_changes_and_leaves() -> None:
    market, socket = Market(), Socket()
    await market.keep(tick_A=1, tick_B=2, book_A=3)
    serving = market.serve(socket)
    socket.subscribe("tick:")
    assert await socket.outbox.get() == {"op": "subscribe", "prefixes": ["tick:"]}
    assert await told(socket, 2) == [("tick:A", 1), ("tick:B", 2)]
    await market.keep(tick_B=4, book_A=5)
    market.watch.tell({"tick:A": None})
    assert await told(socket, 2) == [("tick:B", 4), ("tick:A", "deleted")]
    socket.leave()
    await serving
    assert socket.outbox.empty()
    assert (market.watch.readers, socket.closed) == (set(), None)


async def test_what_is_unsubscribed_is_told_no_more() -> None:
    market, socket = Market(), Socket()
    serving = market.serve(socket)
    socket.subscribe("tick:", "book:")
    socket.subscribe("tick:", op="unsubscribe")
    assert [(await socket.outbox.get())["op"] for _ in range(2)] == ["subscribe", "unsubscribe"]
    await market.keep(tick_A=1, book_A=2)
    assert await told(socket, 1) == [("book:A", 2)]
    socket.leave()
    await serving


async def test_a_slow_reader_gets_the_newest_of_each_key_and_no_more_waits_for_it() -> None:
    market, socket = Market(), Socket()
    serving = market.serve(socket)
    socket.subscribe("tick:")
    await socket.outbox.get()
    socket.reads.clear()
    for value in range(1_000):
        await market.keep(tick_A=value, tick_B=-value)
        await asyncio.sleep(0)
    socket.reads.set()
    values: list[tuple[str, Any]] = []
    while ("tick:A", 999) not in values or ("tick:B", -999) not in values:
        values += await told(socket, 1)
    assert len(values) <= 6
    socket.leave()
    await serving


async def test_a_reader_for_whom_too_many_keys_wait_is_dropped_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "WAITING_KEYS_MAX", 3)
    market, socket = Market(), Socket()
    serving = market.serve(socket)
    socket.subscribe("")
    await socket.outbox.get()
    await market.keep(a=1, b=2, c=3, d=4)
    await serving
    assert socket.closed is not None
    assert (socket.closed[0], "too slow" in socket.closed[1]) == (1013, True)
    assert (market.watch.readers, market.watch.dropped) == (set(), 1)


async def test_more_than_may_wait_can_be_there_at_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "WAITING_KEYS_MAX", 3)
    monkeypatch.setattr(subject, "_KEYS_PER_READ", 2)
    market, socket = Market(), Socket()
    await market.keep(a=1, b=2, c=3, d=4, e=5)
    serving = market.serve(socket)
    socket.subscribe("")
    await socket.outbox.get()
    assert await told(socket, 5) == [("a", 1), ("b", 2), ("c", 3), ("d", 4), ("e", 5)]
    socket.leave()
    await serving


async def test_a_reader_that_asks_and_never_reads_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "_SEND_SECONDS_MAX", 0.01)
    market, socket = Market(), Socket()
    socket.reads.clear()
    serving = market.serve(socket)
    for _ in range(500):
        socket.subscribe("tick:")
    await serving
    assert socket.closed is not None
    assert "too slow" in socket.closed[1]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", "malformed_json"),
        ('{"op":"shout","prefixes":[]}', "bad_op"),
        ('{"op":"subscribe"}', "missing_field"),
        ('{"op":"subscribe","prefixes":[1]}', "bad_field"),
        ("[" * 5000, "too_deep"),
        (
            msgspec.json.encode({"op": "subscribe", "prefixes": [str(n) for n in range(101)]}).decode(),
            "too_many_prefixes",
        ),
    ],
)
async def test_a_broken_message_gets_an_error_and_the_line_stays(text: str, code: str) -> None:
    market, socket = Market(), Socket()
    serving = market.serve(socket)
    socket.say(text)
    answer = await socket.outbox.get()
    assert answer["error"]
    assert answer["code"] == code
    socket.subscribe("tick:")
    assert (await socket.outbox.get())["op"] == "subscribe"
    socket.leave()
    await serving


async def test_who_may_see_some_accounts_is_told_of_these_only() -> None:
    market, socket = Market(), Socket()
    await market.keep(position_alpha_SIM_A=1, position_beta_SIM_A=2)
    serving = market.serve(socket, Principal("ann", "viewer", frozenset({"alpha"})))
    socket.subscribe("position:", "pnl:beta")
    await socket.outbox.get()
    assert await told(socket, 1) == [("position:alpha:SIM:A", 1)]
    await market.keep(position_beta_SIM_A=3, pnl_beta=4, position_alpha_SIM_A=5)
    assert await told(socket, 1) == [("position:alpha:SIM:A", 5)]
    socket.leave()
    await serving
    assert socket.outbox.empty()


async def test_there_are_so_many_readers_and_the_next_is_told_to_come_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "READERS_MAX", 0)
    market, socket = Market(), Socket()
    await market.serve(socket)
    assert socket.closed == (1013, "at most 0 readers")
