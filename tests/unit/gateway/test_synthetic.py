"""A synthetic market: the same for the same seed, wherever one begins, and like a market in the large."""

from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from gateway_builders import BTC, SECOND
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from trade2026.domain.numbers import to_nanos
from trade2026.gateway.replay import Recording
from trade2026.gateway.synthetic import Synthetic
from trade2026.gateway.venues import SyntheticConfig, make_source, read_configs
from trade2026.kit.identity import ConfigurationError
from trade2026.kit.settings import VenueSettings

PRICE = to_nanos(45_000)


def market(**terms: Any) -> Synthetic:
    return Synthetic(BTC, **{"seed": 7, "price": PRICE, **terms})


@given(st.integers(0, 10**9), st.integers(0, 2**70))
def test_every_trade_can_be_traded(position: int, seed: int) -> None:
    trade = market(seed=seed).trade_at(position)
    assert trade.price > 0
    assert trade.price % BTC.tick_size == 0
    assert trade.quantity > 0
    assert trade.quantity % BTC.lot_size == 0
    assert trade.aggressor in ("BUY", "SELL")


@given(st.integers(0, 10**6), st.integers(1, 2 * SECOND))
def test_a_market_goes_on_from_any_position_as_if_it_had_never_stopped(position: int, elapsed: int) -> None:
    one, other = market(), market()
    one.start(0, position)
    first = one.due(elapsed // 2) + one.due(elapsed)
    other.start(0, position)
    assert other.due(elapsed) == first
    assert one.position == other.position == position + len(first)
    for at, (_, trade) in enumerate(first, position):
        assert trade == market().trade_at(at)
        assert one.position_of(trade.trade_id) == at


def test_the_seed_and_the_instrument_make_the_market() -> None:
    def prices(source: Synthetic) -> list[int]:
        return [source.trade_at(position).price for position in range(50)]

    assert prices(market()) == prices(market())
    assert prices(market()) != prices(market(seed=8))
    other = replace(BTC, symbol="ETHUSDT")
    assert prices(market()) != prices(Synthetic(other, seed=7, price=PRICE))


def test_trades_come_in_order_of_time_and_as_often_as_asked() -> None:
    source = market(trades_per_second=50)
    source.start(0, 0)
    times = [at for second in range(1, 21) for at, _ in source.due(second * SECOND)]
    assert times == sorted(set(times))
    assert abs(len(times) - 20 * 50) <= 1


def test_prices_move_by_the_volatility_and_stay_around_where_they_began() -> None:
    prices = [market(volatility_bps=2).trade_at(position).price for position in range(20_000)]
    moves = [abs(after - before) / before * 10_000 for before, after in pairwise(prices)]
    assert 0.5 < sum(moves) / len(moves) < 6
    assert max(moves) < 60
    assert all(PRICE // 2 < price < 2 * PRICE for price in prices)
    assert len(set(prices)) > 1_000


def test_a_machine_that_slept_goes_on_from_now() -> None:
    source = market()
    source.start(0, 5)
    assert len(source.due(3_600 * SECOND)) == 1
    assert source.position == 6


def test_ids_of_other_sources_are_not_taken_for_ours() -> None:
    assert [market().position_of(name) for name in ("", "s7-", "s8-3", "b13-0-3", "s7-x")] == [None] * 5
    assert market().position_of("s7-12") == 12


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"price": 0}, "price is"),
        ({"quantity": 0}, "quantity above"),
        ({"trades_per_second": 0}, "trades_per_second is"),
        ({"volatility_bps": 6}, "volatility_bps is"),
        ({"volatility_bps": -1}, "volatility_bps is"),
    ],
)
def test_terms_that_make_no_market_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        market(**wrong)


# ── the venue's configuration ───────────────────────────────────────────────────────────────────


def no_recording() -> Recording:
    raise AssertionError("a synthetic market needs no recording")


def test_a_synthetic_venue_is_configured_like_a_replay() -> None:
    config = {"seed": 3, "price": 100, "prices": {"BTCUSDT": 45000.5}, "trades_per_second": 20}
    (found,) = read_configs([VenueSettings(name="SIM", type="synthetic", config=config)]).values()
    assert found == SyntheticConfig(3, Decimal(100), {"BTCUSDT": Decimal("45000.5")}, 20.0)
    source = make_source(found, BTC, no_recording)
    assert source.describe()["price"] == "45000.5"


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        ("replay", {"sped": 1}, "config of venue SIM: .*sped"),
        ("replay", {"speed": "fast"}, "config of venue SIM: "),
        ("synthetic", {"scale": 1}, "config of venue SIM: .*scale"),
    ],
)
def test_a_wrong_configuration_names_the_venue(kind: str, config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_configs([VenueSettings(name="SIM", type=kind, config=config)])


@pytest.mark.parametrize("config", [{"price": "1e-12"}, {"volatility_bps": 99}, {"price": 0}])
def test_numbers_that_make_no_sense_name_the_venue(config: dict[str, Any]) -> None:
    (found,) = read_configs([VenueSettings(name="SIM", type="synthetic", config=config)]).values()
    with pytest.raises(ConfigurationError, match="config of venue SIM: "):
        make_source(found, BTC, no_recording)


def test_other_kinds_of_venue_are_run_elsewhere() -> None:
    assert read_configs([VenueSettings(name="X", type="ccxt", config={})]) == {}
