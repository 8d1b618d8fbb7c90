"""The worked strategies, tried at a desk."""

from decimal import Decimal
from math import sin
from typing import Any

import pytest

from trade2026.sdk import ATR, EMA, RSI, SMA, StdDev, ZScore
from trade2026.sdk.examples.market_making import MarketMaking
from trade2026.sdk.examples.mean_reversion import MeanReversion
from trade2026.sdk.examples.momentum import Momentum
from trade2026.sdk.examples.quoting import Quoting
from trade2026.sdk.testing import SECOND, Desk


def test_the_market_maker_quotes_both_sides_and_leans_against_its_inventory() -> None:
    desk = Desk(MarketMaking, period=5)
    desk.trades([49_950, 50_050] * 5, after=SECOND // 100)
    desk.quote(49_990, 50_010)
    desk.wait(SECOND)
    bid, ask = desk.orders
    assert (bid.side, ask.side) == ("BUY", "SELL")
    assert bid.price < 50_000 < ask.price
    middle = (bid.price + ask.price) / 2
    desk.trade(bid.price - 1)
    assert desk.position.quantity == Decimal("0.05")
    desk.quote(49_990, 50_010)
    desk.wait(2 * SECOND)
    quotes = [order for order in desk.orders if order.is_open]
    assert sum((order.price for order in quotes), Decimal(0)) / 2 < middle


def test_the_market_maker_stops_buying_at_its_maximum_and_leaves_nothing_behind() -> None:
    desk = Desk(MarketMaking, inventory_max="0.1", period=1)
    for _ in range(5):
        desk.trade(50_000, after=1)
        desk.quote(49_990, 50_010)
        desk.wait(SECOND)
        desk.trade(49_000)
    assert desk.position.quantity == Decimal("0.1")
    desk.stop()
    assert not [order for order in desk.orders if order.is_open]


def test_momentum_goes_with_the_trend_and_turns_with_it() -> None:
    desk = Desk(Momentum, interval="1s", fast=3, slow=9)
    desk.trades(range(1_000, 1_060))
    assert desk.position.quantity == Decimal("0.1")
    desk.trades(range(1_060, 900, -1))
    assert desk.position.quantity == Decimal("-0.1")


def test_mean_reversion_sells_high_and_buys_back_near_the_average() -> None:
    desk = Desk(MeanReversion, interval="1s", window=10)
    desk.trades([1_000 + (n % 2) for n in range(20)])
    desk.trades([1_030, 1_031])
    assert desk.position.quantity == Decimal("-0.1")
    desk.trades([1_001 + (n % 2) for n in range(20)])
    assert desk.position.quantity == 0
    assert desk.position.pnl > 0


@pytest.mark.parametrize(
    ("make", "parameters"), [(MarketMaking, {}), (Momentum, {}), (MeanReversion, {"window": 10, "entry": 1.2})]
)
def test_a_restart_changes_no_decision(make: type, parameters: dict[str, Any]) -> None:
    whole, crashed = Desk(make, **parameters), Desk(make, **parameters)
    for n in range(300):
        price = round(50_000 + 400 * sin(n / 9) + 90 * sin(n * 1.7), 2)
        for desk in (whole, crashed):
            desk.quote(price - 5, price + 5)
            desk.trade(price, after=2 * SECOND)
        if n % 60 == 50:
            crashed.restart()
    assert crashed.decisions == whole.decisions
    assert whole.decisions


def test_indicators_say_nothing_before_they_have_seen_enough() -> None:
    sma, ema, deviation, score, rsi = SMA(3), EMA(3), StdDev(3), ZScore(3), RSI(3)
    for indicator in (sma, ema, deviation, score, rsi):
        assert [indicator.update(n) is None for n in (1, 2, 3)][:2] == [True, True]
    assert (sma.value, ema.value) == (2.0, 2.25)
    assert deviation.value == pytest.approx(0.8165, abs=1e-4)
    assert rsi.update(4) == 100.0
    assert ATR(2).value is None


def test_quoting_has_a_bid_and_an_ask_that_follow_the_price() -> None:
    desk = Desk(Quoting, every="1s")
    desk.trade(50_000)
    desk.wait(SECOND)
    assert sorted((order.side, order.price) for order in desk.orders) == [("BUY", 49_950), ("SELL", 50_050)]
    desk.trade(50_020)
    desk.wait(2 * SECOND)
    assert [order.price for order in desk.orders if order.is_open and order.side == "BUY"] != [49_950]
