"""An order as a user writes it: what its words mean, what is missing and what does not go together."""

from typing import Any

import msgspec
import pytest

from trade2026.domain.instruments import Instrument, Instruments
from trade2026.domain.orders import OrderSpec, OrderType, TimeInForce
from trade2026.kit.body import parse
from trade2026.kit.problem import Problem
from trade2026.oms.order_input import OrderInput, OrderReader

UNIT = 10**9
NOW = 1_700_000_000 * UNIT
DAY = 86_400 * UNIT
BTC = Instrument(
    symbol="BTCUSDT",
    venue="SIM",
    base="BTC",
    quote="USDT",
    settlement="USDT",
    tick_size=UNIT // 100,
    lot_size=UNIT // 1000,
    min_notional=UNIT,
)
LIMIT = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.5", "price": 45000}


@pytest.fixture
def reader() -> OrderReader:
    return OrderReader(Instruments([BTC]), "main")


def read(reader: OrderReader, **changes: Any) -> OrderSpec:
    fields = {name: value for name, value in (LIMIT | changes).items() if value is not None}
    return reader.read(parse(msgspec.json.encode(fields), OrderInput), "given", NOW)


def refusal(reader: OrderReader, **changes: Any) -> tuple[str, str | None]:
    with pytest.raises(Problem) as refused:
        read(reader, **changes)
    assert refused.value.status == 422
    return refused.value.code, refused.value.field


def test_the_least_that_an_order_says(reader: OrderReader) -> None:
    for _ in range(2):  # the second time from memory
        assert read(reader) == OrderSpec(
            client_order_id="given",
            account="main",
            instrument="BTCUSDT.SIM",
            side="BUY",
            order_type=OrderType.LIMIT,
            quantity=UNIT // 2,
            price=45_000 * UNIT,
        )


@pytest.mark.parametrize("word", ["stop_limit", "STOP-LIMIT", "Stop Limit", "stoplimit"])
def test_a_type_is_known_however_it_is_written(reader: OrderReader, word: str) -> None:
    assert read(reader, order_type=word, stop_price="44000").order_type is OrderType.STOP_LIMIT
    assert read(reader, type=word, stop_price="44000").order_type is OrderType.STOP_LIMIT


def test_without_a_type_the_price_decides_each_time(reader: OrderReader) -> None:
    assert read(reader).order_type is OrderType.LIMIT
    assert read(reader, price=None).order_type is OrderType.MARKET
    assert read(reader).order_type is OrderType.LIMIT


def test_who_and_what_for_is_kept(reader: OrderReader) -> None:
    names = {name: name[:3] for name in ("strategy", "trader", "desk", "client", "algo", "parent_order_id", "account")}
    spec = read(reader, client_order_id="mine", **names)
    assert {name: getattr(spec, name) for name in names} == names
    assert spec.client_order_id == "mine"


def test_a_day_order_ends_with_its_day(reader: OrderReader) -> None:
    spec = read(reader, time_in_force="day")
    assert (spec.time_in_force, spec.expire_at) == (TimeInForce.DAY, NOW - NOW % DAY + DAY)
    spec = read(reader, time_in_force="GTD", expire_at="2030-01-31T17:00:00+01:00")
    assert spec.expire_at == 1_896_105_600 * UNIT


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"symbol": "X"}, ("unknown_symbol", "symbol")),
        ({"side": "long"}, ("bad_side", "side")),
        ({"order_type": "FUNNY"}, ("bad_order_type", "order_type")),
        ({"order_type": "LIMIT", "type": "STOP"}, ("contradiction", "type")),
        ({"time_in_force": "LATER"}, ("bad_time_in_force", "time_in_force")),
        ({"quantity": 0}, ("not_positive", "quantity")),
        ({"quantity": "-1"}, ("not_positive", "quantity")),
        ({"quantity": "x"}, ("not_a_number", "quantity")),
        ({"quantity": "0.0005"}, ("off_lot", "quantity")),
        ({"price": "45000.001"}, ("off_tick", "price")),
        ({"price": "0"}, ("not_positive", "price")),
        ({"price": "1", "quantity": "0.5"}, ("below_min_notional", "quantity")),
        ({"order_type": "LIMIT", "price": None}, ("missing_field", "price")),
        ({"order_type": "MARKET"}, ("unexpected_field", "price")),
        ({"order_type": "STOP", "price": None}, ("missing_field", "stop_price")),
        ({"stop_price": "44000"}, ("unexpected_field", "stop_price")),
        ({"order_type": "STOP_LIMIT", "stop_price": "1.001"}, ("off_tick", "stop_price")),
        ({"trailing_offset": "1"}, ("bad_trailing_offset", "trailing_offset")),
        ({"order_type": "TRAILING_STOP", "price": None, "stop_price": 9}, ("bad_trailing_offset", "trailing_offset")),
        ({"client_order_id": ""}, ("bad_text", "client_order_id")),
        ({"order_type": "ICEBERG"}, ("bad_display_quantity", "display_quantity")),
        ({"order_type": "ICEBERG", "display_quantity": "0.6"}, ("bad_display_quantity", "display_quantity")),
        ({"display_quantity": "0.1"}, ("unexpected_field", "display_quantity")),
        ({"order_type": "MARKET", "price": None, "post_only": True}, ("bad_post_only", "post_only")),
        ({"time_in_force": "IOC", "post_only": True}, ("bad_post_only", "post_only")),
        ({"expire_at": "2030-01-31T16:00:00Z"}, ("unexpected_field", "expire_at")),
        ({"time_in_force": "GTD"}, ("missing_field", "expire_at")),
        ({"time_in_force": "GTD", "expire_at": "2020-01-31T16:00:00Z"}, ("bad_time", "expire_at")),
        ({"strategy": "x" * 65}, ("bad_text", "strategy")),
        ({"algo": "a\nb"}, ("bad_text", "algo")),
        ({"account": "a/b"}, ("bad_text", "account")),
    ],
)
def test_what_is_wrong_is_named_with_its_field(
    reader: OrderReader, changes: dict[str, Any], expected: tuple[str, str]
) -> None:
    read(reader)
    for _ in range(2):
        assert refusal(reader, **changes) == expected
    read(reader)


def test_memory_for_words_is_bounded(reader: OrderReader) -> None:
    for number in range(3_000):
        read(reader, order_type="LIM" + "_" * (number % 1500) + "IT")
    assert len(reader._terms) <= 1_024
    assert max(len(str(words)) for words in reader._terms) < 200
