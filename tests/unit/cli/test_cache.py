"""`trade2026 cache`, against a stack that answers from a table."""

import json
from typing import Any

import pytest
from tests.unit.cli.conftest import Cli, FakeStack

TICK = {"key": "tick:SIM:BTCUSDT", "value": {"symbol": "BTCUSDT.SIM", "price": "5"}, "as_of": "market.ticks/0/7"}
TICK |= {"ts": "2026-01-01T00:00:00.000000Z", "age_ms": 1500}


def test_values_are_printed_with_their_age_and_their_event(cli: Cli, stack: FakeStack) -> None:
    stack.answers["POST /mget"] = (200, {"values": [{**TICK, "restored": True}]})
    done = cli("cache", "get", "tick:SIM:BTCUSDT")
    assert done.out == "tick:SIM:BTCUSDT  symbol=BTCUSDT.SIM price=5  (market.ticks/0/7, 1.500 s old, restored)\n"
    assert (done.code, stack.asked) == (0, [("POST /mget", {"keys": ["tick:SIM:BTCUSDT"]})])


def test_what_is_not_known_is_said_and_is_a_failure(cli: Cli, stack: FakeStack) -> None:
    stack.answers["POST /mget"] = (200, {"values": [TICK, None]})
    done = cli("cache", "get", "tick:SIM:BTCUSDT", "x")
    assert (done.code, done.out.splitlines()[1]) == (1, "x: nothing is known of it")
    assert cli("cache", "get", "tick:SIM:BTCUSDT", "x", "--json").json == [TICK, None]


def test_keys_are_listed_page_by_page(cli: Cli, stack: FakeStack) -> None:
    stack.answers["GET /keys?prefix=a&cursor=&limit=1000"] = (200, {"keys": ["a1", "a2"], "cursor": "a2"})
    stack.answers["GET /keys?prefix=a&cursor=a2&limit=1000"] = (200, {"keys": ["a3"], "cursor": None})
    assert cli("cache", "keys", "a").out == "a1\na2\na3\n"
    stack.answers["GET /keys?prefix=b&cursor=&limit=1000"] = (200, {"keys": [], "cursor": None})
    assert cli("cache", "keys", "b").out == "no key begins with 'b'\n"
    assert cli("cache", "keys", "b", "--json").json == []


@pytest.mark.parametrize(
    ("text", "value"), [("1.5", 1.5), ('{"a": [1]}', {"a": [1]}), ("some text", "some text"), ("007", "007")]
)
def test_a_value_is_json_and_what_is_none_is_text(cli: Cli, stack: FakeStack, text: str, value: Any) -> None:
    kept = {"key": "user:local:x", "value": value, "as_of": None, "ts": "t", "age_ms": 0, "expires_at": "later"}
    stack.answers["PUT /set"] = (200, kept)
    done = cli("cache", "set", "user:local:x", text, "--ttl", "60")
    assert stack.asked == [("PUT /set", {"key": "user:local:x", "value": value, "ttl_seconds": 60.0})]
    assert done.out.endswith("(until later, 0.000 s old)\n")


def test_a_key_or_a_prefix_is_deleted(cli: Cli, stack: FakeStack) -> None:
    stack.answers["DELETE /keys/user%3Alocal%3Ax"] = stack.answers["DELETE /keys?prefix=user%3Alocal%3A"] = (
        200,
        {"deleted": 1},
    )
    assert cli("cache", "delete", "user:local:x").out == "1 deleted\n"
    assert cli("cache", "delete", "user:local:", "--prefix", "--json").json == {"deleted": 1}


def test_the_platform_refuses_with_its_words(cli: Cli, stack: FakeStack) -> None:
    stack.answers["PUT /set"] = (403, {"detail": "not yours", "code": "key_not_yours", "status": 403})
    done = cli("cache", "set", "tick:SIM:BTCUSDT", "1", "--json")
    assert (done.code, json.loads(done.err)["problem"]["code"]) == (4, "key_not_yours")


def test_a_watch_where_nothing_speaks_websocket_is_not_reachable(cli: Cli, stack: FakeStack) -> None:
    done = cli("cache", "watch", "tick:")
    assert (done.code, "hot_cache of desk at 127.0.0.1:" in done.err) == (3, True)
