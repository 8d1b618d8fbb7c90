"""Names of keys: they sort by what they are of, and nobody's name can reach into another's."""

import pytest

from trade2026.hot_cache import keys
from trade2026.hot_cache.api import may_read
from trade2026.kit.identity import Principal


def test_keys_lead_from_the_general_to_the_particular() -> None:
    assert keys.tick("BTCUSDT.SIM") == "tick:SIM:BTCUSDT"
    assert keys.book("BRK.B.NYSE") == "book:NYSE:BRK.B"
    assert keys.bar("BTCUSDT.SIM", "1m") == "bar:SIM:BTCUSDT:1m"
    assert keys.position("main", "BTCUSDT.SIM") == "position:main:SIM:BTCUSDT"
    assert keys.position("main", "BTCUSDT.SIM", "mm") == "position:main:SIM:BTCUSDT:mm"
    assert keys.position("main", "BTCUSDT.SIM", "") == "position:main:SIM:BTCUSDT:-"
    assert keys.position("main", "BTCUSDT.SIM", "-") == "position:main:SIM:BTCUSDT:%2D"
    assert (keys.pnl("main"), keys.pnl("main", "BTCUSDT.SIM")) == ("pnl:main", "pnl:main:SIM:BTCUSDT")


@pytest.mark.parametrize("account", ["a:b", "a/b%3A", "Zoë & Co", "100%", ":", "-"])
def test_an_account_with_any_name_has_keys_of_its_own(account: str) -> None:
    for key in (keys.position(account, "BTCUSDT.SIM", account), keys.pnl(account, "BTCUSDT.SIM"), keys.pnl(account)):
        assert keys.account_of(key) == account
        assert "/" not in key and len(key.split(":")) == len(keys.pnl("a").split(":")) + key.count(":") - 1
    assert keys.user_of(keys.namespace(account) + "x") == account


@pytest.mark.parametrize(
    ("key", "right"),
    [
        ("user:ann:x", True),
        ("user:ann:fair:BTCUSDT.SIM", True),
        ("user:ann:" + "x" * (256 - 9), True),
        ("user:ann:" + "x" * (257 - 9), False),
        ("user:ann", False),
        ("user:ann:", False),
        ("user:ann:a::b", False),
        ("user:ann:a b", False),
        ("user:ann:ä", False),
        ("user:ann:a\n", False),
        ("tick:SIM:BTCUSDT", False),
    ],
)
def test_only_well_formed_keys_below_user_are_users(key: str, right: bool) -> None:
    assert keys.is_user_key(key) is right


def test_who_has_some_accounts_sees_the_market_these_accounts_and_what_is_its_own() -> None:
    ann, all_of_it = Principal("ann", "trader", frozenset({"alpha"})), Principal("bob", "viewer")
    seen = ["tick:SIM:BTCUSDT", "position:alpha:SIM:BTCUSDT", "pnl:alpha", "user:ann:x"]
    hidden = ["position:beta:SIM:BTCUSDT", "position:", "pnl:beta", "user:bob:x", "user:", "user:ann%3Ax:y"]
    assert [key for key in (*seen, *hidden) if may_read(ann, key)] == seen
    assert all(may_read(all_of_it, key) for key in (*seen, *hidden))
