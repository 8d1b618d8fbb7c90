"""The hot cache on a real log: what it answers, and that a restart never answers with less, or older, in silence."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rig import SYMBOL, Rig, filled

from trade2026.domain.market import Bar, Book, Level, Trade
from trade2026.domain.numbers import SCALE, to_nanos
from trade2026.hot_cache import service as subject
from trade2026.hot_cache.service import HotCacheService

TICKS, BOOKS, BARS, ORDERS = "market.ticks", "market.books", "market.bars", "orders.events"
TICK, POSITION, PNL = "tick:SIM:BTCUSDT", "position:main:SIM:BTCUSDT", "pnl:main"


def make_rig(state: Path, **config: int) -> Rig:
    made = Rig(state, "data")
    made.settings = msgspec.structs.replace(made.settings, config={"hot_cache": config})
    return made


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    found = make_rig(tmp_path)
    yield found
    await found.close()


def trade(number: int, price: int) -> Trade:
    return Trade(SYMBOL, f"t{number}", price * SCALE, SCALE)


async def get(rig: Rig, service: HotCacheService, key: str) -> Any:
    status, answer = await rig.ask(service, "GET", f"/get/{key}")
    return answer if status == 200 else None


async def until(rig: Rig, service: HotCacheService, key: str, **wanted: Any) -> Any:
    """Wait until a key's value has some fields, and return the answer."""

    async def found() -> Any:
        answer = await get(rig, service, key)
        return answer if answer and wanted.items() <= answer["value"].items() else None

    return await rig.until(found, f"{key} has {wanted}")


async def killed(rig: Rig, state: Path) -> Rig:
    """The state as `kill -9` leaves it at this moment, and a rig on it."""
    shutil.copytree(rig.state, state, ignore=shutil.ignore_patterns("wake"))  # sockets, if their paths are short
    return make_rig(state)


async def test_the_newest_of_everything_is_there_with_its_place_in_the_log_and_its_age(rig: Rig) -> None:
    service = await rig.start(HotCacheService)
    await rig.say(TICKS, trade(1, 100), trade(2, 110))
    await rig.say(BOOKS, Book(SYMBOL, [Level(to_nanos("99.5"), SCALE)], [Level(101 * SCALE, SCALE)], venue_seq=4))
    await rig.say(BARS, Bar(SYMBOL, "1m", 0, 60 * SCALE, 1, 4, 1, 2, 9, 0, 3))
    await rig.say(ORDERS, filled(1, "2", "100", strategy="mm"))
    tick = await until(rig, service, TICK, price="110")
    assert (tick["as_of"], tick["value"]["trade_id"]) == ("market.ticks/0/1", "t2")
    assert tick["age_ms"] >= 0
    assert "restored" not in tick
    assert (await until(rig, service, "book:SIM:BTCUSDT"))["value"]["bids"] == [["99.5", "1"]]
    assert (await until(rig, service, "bar:SIM:BTCUSDT:1m"))["value"]["trades"] == 3
    position = await until(rig, service, POSITION, quantity="2", average_price="100")
    assert position["as_of"] == "orders.events/0/0"
    assert await until(rig, service, f"{POSITION}:mm", strategy="mm", quantity="2")
    assert (await until(rig, service, PNL, unrealized="20", total="20"))["as_of"] == "orders.events/0/0"
    of_symbol = await until(rig, service, f"{PNL}:SIM:BTCUSDT", mark="110")
    assert of_symbol["value"]["mark_as_of"] == "market.ticks/0/1"
    status, listed = await rig.ask(service, "GET", "/keys?prefix=position:")
    assert (status, listed) == (200, {"keys": [POSITION, f"{POSITION}:mm"], "cursor": None})


async def test_a_restart_answers_when_it_has_folded_to_the_end_and_says_what_it_has_not_seen_live(rig: Rig) -> None:
    service = await rig.start(HotCacheService)
    await rig.say(TICKS, trade(1, 100))
    await rig.say(ORDERS, filled(1, "2", "100"))
    await until(rig, service, PNL, total="0")
    await rig.stop(service)
    await rig.say(TICKS, trade(2, 130))
    await rig.say(ORDERS, filled(2, "1", "100"))
    service = await rig.start(HotCacheService)
    for key, wanted in ((TICK, "130"), (POSITION, "3"), (PNL, "90")):
        answer = await get(rig, service, key)
        assert wanted in answer["value"].values()
        assert answer["restored"] is True
    await rig.say(TICKS, trade(3, 140))
    assert "restored" not in await until(rig, service, TICK, price="140")
    assert (await get(rig, service, POSITION))["restored"] is True


async def test_while_it_folds_it_is_not_ready_and_answers_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.say(ORDERS, *(filled(n, "1", "100") for n in range(5)))
    asked: list[Any] = []
    publish = HotCacheService._publish

    async def publish_and_ask(service: HotCacheService) -> None:
        if not asked:
            asked.append(service.readiness())
            asked.append(await rig.ask(service, "GET", f"/get/{POSITION}"))
        await publish(service)

    monkeypatch.setattr(HotCacheService, "_publish", publish_and_ask)
    service = await rig.start(HotCacheService)
    assert asked[0] == (False, "orders.events: folded 5 of 5 events")
    assert (asked[1][0], asked[1][1]["code"]) == (503, "not_ready")
    assert service.readiness() == (True, "ready")


async def test_after_kill_9_nothing_is_older_than_what_was_answered_before(rig: Rig, tmp_path: Path) -> None:
    service = await rig.start(HotCacheService)
    await rig.say(TICKS, trade(1, 100))
    await rig.say(ORDERS, filled(1, "2", "100"))
    await until(rig, service, POSITION, quantity="2")
    await service._snapshot()
    await rig.say(TICKS, *(trade(n, 100 + n) for n in range(50)))
    await rig.say(ORDERS, *(filled(n, "1", "100") for n in range(2, 50)))
    await until(rig, service, TICK, price="149")
    await until(rig, service, POSITION, quantity="50")
    after = await killed(rig, tmp_path / "killed")
    try:
        again = await after.start(HotCacheService)
        assert (await get(after, again, TICK))["value"]["price"] == "149"
        assert (await get(after, again, POSITION))["value"]["quantity"] == "50"
    finally:
        await after.close()


async def test_an_instrument_that_trades_seldom_is_still_known_after_a_restart(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "_EVENTS_AT_START", 5)
    await rig.say(BARS, Bar(SYMBOL, "1d", 0, 60, 1, 1, 1, 1, 1, 1, 1))
    service = await rig.start(HotCacheService)
    assert await get(rig, service, "bar:SIM:BTCUSDT:1d") is not None
    await rig.stop(service)
    await rig.say(BARS, *(Bar(SYMBOL, "1m", 60 * n, 60, 1, 1, 1, 1, 1, 1, 1) for n in range(50)))
    again = await rig.start(HotCacheService)
    assert (await get(rig, again, "bar:SIM:BTCUSDT:1d"))["restored"] is True
    assert (await get(rig, again, "bar:SIM:BTCUSDT:1m"))["as_of"] == "market.bars/0/50"


async def test_without_a_snapshot_the_newest_events_of_the_market_and_the_whole_order_log_are_read(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "_EVENTS_AT_START", 5)
    await rig.say(TICKS, *(trade(n, 100 + n) for n in range(50)))
    await rig.say(ORDERS, *(filled(n, "1", "100") for n in range(20)))
    service = await rig.start(HotCacheService)
    assert (await get(rig, service, POSITION))["value"]["quantity"] == "20"
    assert (await get(rig, service, TICK))["as_of"] == "market.ticks/0/49"
    assert service.stats()["as_of"] == {ORDERS: 19, TICKS: 49, BOOKS: -1, BARS: -1}


async def test_a_damaged_snapshot_is_said_and_the_log_is_folded_instead(rig: Rig) -> None:
    service = await rig.start(HotCacheService)
    await rig.say(ORDERS, filled(1, "2", "100"))
    await until(rig, service, POSITION, quantity="2")
    await rig.stop(service)
    for file in (rig.state / "snapshots" / "hot_cache").iterdir():
        file.write_bytes(file.read_bytes()[:-3] + b"xxx")
    again = await rig.start(HotCacheService)
    assert (await get(rig, again, POSITION))["value"]["quantity"] == "2"
    assert not again.health()["snapshots"].ok


async def test_users_keep_values_of_their_own_for_a_time_and_nobody_writes_the_platforms(rig: Rig) -> None:
    service = await rig.start(HotCacheService)
    await rig.say(TICKS, trade(1, 100))
    await until(rig, service, TICK)
    own = {"key": "user:local:fair", "value": {"bid": 1.50, "n": [1, "x", None]}, "ttl_seconds": 60}
    status, answer = await rig.ask(service, "PUT", "/set", own)
    assert (status, answer["value"], answer["as_of"]) == (200, own["value"], None)
    assert (await get(rig, service, "user:local:fair"))["expires_at"] > answer["ts"]
    for key in (TICK, "user:", "anything", POSITION):
        status, answer = await rig.ask(service, "PUT", "/set", {"key": key, "value": 1})
        assert (status, answer["code"]) == ((422, "bad_key") if key == "user:" else (403, "key_not_yours"))
        status, answer = await rig.ask(service, "DELETE", f"/keys/{key}")
        assert (status, answer["code"]) == ((422, "bad_key") if key == "user:" else (403, "key_not_yours"))
    assert (await rig.ask(service, "DELETE", "/keys?prefix=tick:"))[1]["code"] == "key_not_yours"
    assert (await rig.ask(service, "DELETE", "/keys"))[1]["code"] == "key_not_yours"
    assert (await get(rig, service, TICK))["value"]["price"] == "100"


async def test_values_are_forgotten_by_key_by_prefix_and_when_their_time_is_over(rig: Rig) -> None:
    service = await rig.start(HotCacheService)
    for name in ("a:1", "a:2", "b", "c"):
        body = {"key": f"user:local:{name}", "value": name, "ttl_seconds": 0.000001 if name == "c" else None}
        assert (await rig.ask(service, "PUT", "/set", body))[0] == 200
    await rig.until(lambda: service.feeder.size[1] == 3, "the shortest has expired")
    assert (await rig.ask(service, "DELETE", "/keys/user:local:b"))[1] == {"deleted": 1}
    assert (await rig.ask(service, "DELETE", "/keys/user:local:b"))[1] == {"deleted": 0}
    assert (await rig.ask(service, "DELETE", "/keys?prefix=user:local:a:"))[1] == {"deleted": 2}
    assert (await rig.ask(service, "GET", "/get/user:local:a:1"))[1]["code"] == "unknown_key"


async def test_many_are_asked_for_at_once_and_hits_misses_and_evictions_are_counted(tmp_path: Path) -> None:
    rig = make_rig(tmp_path, user_keys_max=1)
    try:
        service = await rig.start(HotCacheService)
        for name in "ab":
            await rig.ask(service, "PUT", "/set", {"key": f"user:local:{name}", "value": name})
        status, answer = await rig.ask(service, "POST", "/mget", {"keys": ["user:local:b", "user:local:a", "none"]})
        assert (status, [found and found["value"] for found in answer["values"]]) == (200, ["b", None, None])
        _, text = await rig.ask(service, "GET", "/metrics")
        for line in ("hits_total", "misses_total", "evictions_total", "user_keys", "lag_events"):
            assert f'trade2026_cache_{line}{{service="hot_cache"}}' in text
        assert (service.hits.value, service.misses.value, service.evictions.value) == (1, 2, 1)
    finally:
        await rig.close()


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "code"),
    [
        ("PUT", "/set", {"key": "user:local:x", "value": 1, "ttl_seconds": 0}, 422, "bad_ttl_seconds"),
        ("PUT", "/set", {"key": "user:local:x", "value": 1, "ttl_seconds": 1e300}, 422, "bad_ttl_seconds"),
        ("PUT", "/set", {"key": "user:local:x"}, 422, "missing_field"),
        ("PUT", "/set", {"key": "user:local:a b", "value": 1}, 422, "bad_key"),
        ("PUT", "/set", b'{"key": "user:local:x", "value": "' + b"x" * 70_000 + b'"}', 413, "body_too_long"),
        ("POST", "/mget", {"keys": ["x"] * 1_001}, 422, "bad_field"),
        ("GET", "/keys?limit=0", None, 422, "bad_limit"),
        ("GET", "/keys?prefx=tick:", None, 422, "unknown_parameter"),
    ],
)
async def test_what_is_wrong_is_told(rig: Rig, method: str, target: str, body: Any, status: int, code: str) -> None:
    service = await rig.start(HotCacheService)
    answer = await rig.ask(service, method, target, body)
    assert (answer[0], answer[1]["code"]) == (status, code)


async def test_a_value_larger_than_all_room_is_refused(tmp_path: Path) -> None:
    rig = make_rig(tmp_path, user_bytes_max=20)
    try:
        service = await rig.start(HotCacheService)
        status, answer = await rig.ask(service, "PUT", "/set", {"key": "user:local:x", "value": "123456789"})
        assert (status, answer["code"]) == (413, "value_too_large")
    finally:
        await rig.close()


async def test_a_log_that_it_does_not_understand_makes_it_unwell_and_the_rest_goes_on(rig: Rig) -> None:
    service = await rig.start(HotCacheService)
    await rig.say(ORDERS, filled(1, "2", "100"))
    await rig.say_newer(ORDERS)
    await rig.until(lambda: not service.health()[ORDERS].ok, "health says so")
    await rig.say(TICKS, trade(1, 100))
    await until(rig, service, TICK, price="100")
