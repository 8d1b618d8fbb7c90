"""The hot cache on a Valkey server: replicas agree, and a server that is killed costs answers, but nothing that is known."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rig import SYMBOL, Rig, filled
from starlette.websockets import WebSocketDisconnect
from tests.infra import started

from trade2026.domain.market import Trade
from trade2026.domain.numbers import SCALE
from trade2026.hot_cache.service import HotCacheService
from trade2026.kit.identity import Principal
from trade2026.local.infra.valkey import Valkey
from trade2026.stores import valkey_cache

TICKS, ORDERS = "market.ticks", "orders.events"
TICK, POSITION, MINE = "tick:SIM:BTCUSDT", "position:main:SIM:BTCUSDT", "user:local:x"
LOCAL = Principal("local", "admin")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Valkey]:
    """A server of its own, because it is harmed."""
    found = Valkey(tmp_path / "valkey")
    started(found)
    yield found
    found.stop()


@pytest.fixture
async def rig(server: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr(valkey_cache, "ANSWER_SECONDS_MAX", 60)  # a busy machine is no server that hangs
    made = Rig(tmp_path / "state", "data")
    stores = {"cache": {"type": "valkey", "url": f"redis://{server.address}"}}
    made.settings = msgspec.structs.replace(made.settings, stores=stores)
    yield made
    await made.close()


async def replica(rig: Rig, state: Path) -> HotCacheService:
    """Another process on the same log and the same server."""
    rig.settings = msgspec.structs.replace(rig.settings, state_dir=str(state))
    return await rig.start(HotCacheService)


def trade(number: int) -> Trade:
    return Trade(SYMBOL, f"t{number}", (100 + number) * SCALE, SCALE)


async def mget(rig: Rig, service: HotCacheService, *keys: str) -> tuple[int, Any]:
    status, answer = await rig.ask(service, "POST", "/mget", {"keys": keys})
    if status != 200:
        return status, answer["code"]
    return status, [found and {**found, "age_ms": 0} for found in answer["values"]]


async def until_price(rig: Rig, service: HotCacheService, price: str) -> None:
    async def reached() -> bool:
        status, values = await mget(rig, service, TICK)
        return status == 200 and values[0] is not None and values[0]["value"]["price"] == price

    await rig.until(reached, f"the last price is {price}")


class Listener:
    """A WebSocket that asks for everything of a prefix, and keeps what it is told."""

    def __init__(self, *prefixes: str) -> None:
        self.told: list[dict[str, Any]] = []
        self._said = [msgspec.json.encode({"op": "subscribe", "prefixes": prefixes}).decode()]
        self._left = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        if self._said:
            return {"type": "websocket.receive", "text": self._said.pop()}
        await self._left.wait()
        raise WebSocketDisconnect

    async def send_text(self, text: str) -> None:
        self.told.append(msgspec.json.decode(text))

    def prices(self) -> list[str]:
        return [message["value"]["price"] for message in self.told if message.get("key") == TICK]


async def test_two_replicas_agree_on_what_the_log_says_and_on_what_users_keep(rig: Rig, tmp_path: Path) -> None:
    one = await rig.start(HotCacheService)
    await rig.say(TICKS, *(trade(n) for n in range(20)))
    await rig.say(ORDERS, *(filled(n, "1", "100") for n in range(20)))
    await rig.until(lambda: one.stats()["lag"] == 0, "one has folded it")
    other = await replica(rig, tmp_path / "other")
    watching = Listener("user:")
    reading = asyncio.ensure_future(other.watch.serve(watching, LOCAL))  # type: ignore[arg-type]

    async def heard() -> bool:
        await rig.ask(one, "PUT", "/set", {"key": MINE, "value": [1, 2]})
        return any(message.get("value") == [1, 2] for message in watching.told)

    await rig.until(heard, "who listens to the other is told")
    await rig.say(TICKS, *(trade(n) for n in range(20, 40)))
    await rig.say(ORDERS, filled(20, "1", "100"))
    for service in (one, other):
        await until_price(rig, service, "139")
        await rig.until(lambda service=service: service.stats()["lag"] == 0, "it has folded it")
    keys = (TICK, POSITION, "pnl:main", MINE)

    async def agree() -> bool:
        _, values = await mget(rig, one, *keys)
        return values == (await mget(rig, other, *keys))[1] and values[2]["value"]["unrealized"] == "819"

    await rig.until(agree, "both answer the same")
    assert (await rig.ask(other, "DELETE", f"/keys/{MINE}"))[1] == {"deleted": 1}
    assert (await mget(rig, one, MINE))[1] == [None]
    reading.cancel()


async def test_a_server_killed_under_load_costs_answers_and_nothing_that_is_known(rig: Rig, server: Valkey) -> None:
    service = await rig.start(HotCacheService)
    watching = Listener("tick:")
    reading = asyncio.ensure_future(service.watch.serve(watching, LOCAL))  # type: ignore[arg-type]
    number = 0

    async def load(until_number: int) -> None:
        nonlocal number
        while number < until_number:
            await rig.say(TICKS, trade(number), trade(number + 1))
            await rig.say(ORDERS, filled(number, "1", "100"))
            number += 2

    await load(50)
    await until_price(rig, service, "149")
    server.kill()
    await load(100)
    await rig.until(lambda: not service.health()["cache"].ok, "health says so")
    assert "does not answer" in service.health()["cache"].detail
    assert service.readiness() == (True, "ready")
    await rig.until(lambda: service.stats()["lag"] == 0, "the log is followed all the same")
    await rig.until(lambda: "199" in watching.prices(), "who listens is told all the same")
    assert await mget(rig, service, TICK) == (503, "cache_unavailable")
    for method, target, body in (
        ("GET", f"/get/{TICK}", None),
        ("GET", "/keys", None),
        ("PUT", "/set", {"key": MINE, "value": 1}),
        ("DELETE", f"/keys/{MINE}", None),
        ("DELETE", "/keys?prefix=user:local:", None),
    ):
        status, answer = await rig.ask(service, method, target, body)
        assert (status, answer["code"], answer["retry_after"]) == (503, "cache_unavailable", 1)
    server.start()
    await load(150)
    await until_price(rig, service, "249")
    await rig.until(lambda: service.health()["cache"].ok, "health says so")
    assert (await rig.ask(service, "GET", "/keys"))[1]["keys"][-1] == TICK
    assert (await mget(rig, service, POSITION))[1][0]["value"]["quantity"] == "75"
    assert service.stats()["fills"] >= 2
    reading.cancel()


async def test_it_starts_without_its_server_and_fills_it_when_it_comes(rig: Rig, server: Valkey) -> None:
    server.stop()
    await rig.say(TICKS, trade(1))
    service = await rig.start(HotCacheService)
    assert service.readiness() == (True, "ready")
    assert (await mget(rig, service, TICK))[0] == 503
    watching = Listener("tick:")
    reading = asyncio.ensure_future(service.watch.serve(watching, LOCAL))  # type: ignore[arg-type]
    await rig.until(lambda: len(watching.told) == 2, "who asks for all there is is told that it can't be had now")
    assert watching.told[1]["code"] == "cache_unavailable"
    await rig.say(TICKS, trade(2))
    await rig.until(lambda: watching.prices() == ["102"], "what changes is told")
    server.start()
    await until_price(rig, service, "102")
    reading.cancel()


async def test_what_somebody_else_wipes_from_the_server_is_filled_in_again(rig: Rig, server: Valkey) -> None:
    from valkey import Valkey as Client

    service = await rig.start(HotCacheService)
    await rig.say(TICKS, trade(1))
    await until_price(rig, service, "101")
    with Client(port=server.port) as client:
        client.flushall()
    await until_price(rig, service, "101")


async def test_what_the_log_no_longer_says_goes_when_a_stack_begins_anew_on_its_server(
    rig: Rig, server: Valkey, tmp_path: Path
) -> None:
    service = await rig.start(HotCacheService)
    await rig.say(ORDERS, filled(1, "1", "100"))
    await rig.until(lambda: service.stats()["lag"] == 0, "it is folded")
    assert (await rig.ask(service, "PUT", "/set", {"key": MINE, "value": 1}))[0] == 200
    await rig.stop(service)
    anew = Rig(tmp_path / "anew", "data")
    anew.settings = msgspec.structs.replace(anew.settings, stores=rig.settings.stores)
    try:
        again = await anew.start(HotCacheService)
        assert (await anew.ask(again, "GET", "/keys"))[1]["keys"] == [MINE]
    finally:
        await anew.close()
