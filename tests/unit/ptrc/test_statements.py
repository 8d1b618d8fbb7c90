"""Statements as they are uploaded: JSON and CSV mean the same, and what is wrong is named."""

from typing import Any

import msgspec
import pytest

from trade2026.domain.instruments import Instrument, Instruments
from trade2026.kit.http import Problem, Request
from trade2026.kit.identity import Principal
from trade2026.ptrc.reconciliation import StatedFill
from trade2026.ptrc.statements import Stated, read_statement

INSTRUMENTS = Instruments(
    [
        Instrument(
            symbol=f"{base}USDT", venue="SIM", base=base, quote="USDT", settlement="USDT", tick_size=1, lot_size=1
        )
        for base in ("BTC", "ETH")
    ]
)
UNIT = 10**9


def read(body: Any, query: str = "account=main&venue=SIM") -> Stated:
    text = isinstance(body, str | bytes)
    raw = (body.encode() if isinstance(body, str) else body) if text else msgspec.json.encode(body)
    content_type = b"text/csv; charset=utf-8" if text else b"application/json"
    principal = Principal("ann", "viewer", None)
    headers = {b"content-type": content_type}
    return read_statement(Request("POST", "/reconcile", {}, query.encode(), headers, raw, principal, 0), INSTRUMENTS)


EXPECTED = Stated(
    "main",
    "SIM",
    {"BTCUSDT.SIM": 3 * UNIT // 2, "ETHUSDT.SIM": -UNIT},
    [StatedFill("x1", "BTCUSDT.SIM", 2 * UNIT, 100 * UNIT), StatedFill("x2", "BTCUSDT.SIM", -UNIT // 2)],
)


def test_json_and_csv_of_one_statement_mean_the_same() -> None:
    of_json = read(
        {
            "account": "main",
            "venue": "SIM",
            "positions": [{"symbol": "BTCUSDT", "quantity": "1.5"}, {"symbol": "ETHUSDT.SIM", "quantity": "-1"}],
            "fills": [
                {"exec_id": "x1", "symbol": "BTCUSDT", "side": "buy", "quantity": "2", "price": "100"},
                {"exec_id": "x2", "symbol": "BTCUSDT", "side": "SELL", "quantity": "0.5"},
            ],
        }
    )
    of_csv = read(
        "\ufeffexec_id,symbol,side,quantity,price\r\n"
        ",BTCUSDT,,1.5,\r\n,ETHUSDT.SIM,,-1,\r\n\r\n"
        "x1,BTCUSDT,buy,2,100\r\nx2,BTCUSDT,SELL,0.5,\r\n"
    )
    assert of_json == of_csv == EXPECTED


def test_a_csv_of_positions_states_no_executions_and_one_of_executions_no_positions() -> None:
    assert read("symbol,quantity\nBTCUSDT,1\n") == Stated("main", "SIM", {"BTCUSDT.SIM": UNIT}, None)
    assert read("exec_id,symbol,side,quantity\nx,BTCUSDT,BUY,1\n").positions is None
    assert read("symbol,quantity\n").positions == {}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("", "bad_header"),
        ("symbol\nBTCUSDT\n", "bad_header"),
        ("symbol,quantity,colour\n", "bad_header"),
        ("symbol,quantity,symbol\n", "bad_header"),
        ("symbol,quantity\nBTCUSDT\n", "bad_line"),
        ("symbol,side,quantity\nBTCUSDT,BUY,1\n", "bad_line"),
        ('symbol,quantity\n"BTCUSDT,1\n', "malformed_csv"),
        (b"symbol,quantity\n\xff,1\n", "malformed_csv"),
        ("symbol,quantity\nBTCUSDT,1\nBTCUSDT,2\n", "duplicate_symbol"),
        ("symbol,quantity\nXRPUSDT,1\n", "unknown_symbol"),
        ("symbol,quantity\nBTCUSDT,NaN\n", "not_finite"),
        ("symbol,quantity\nBTCUSDT,\n", "not_a_number"),
        ("exec_id,symbol,quantity\nx,BTCUSDT,1\n", "bad_fill"),
        ("exec_id,symbol,side,quantity\nx,BTCUSDT,HOLD,1\n", "bad_fill"),
        ("exec_id,symbol,side,quantity\nx,BTCUSDT,BUY,-1\n", "bad_fill"),
        ("symbol,quantity\n" + "BTCUSDT,1\n" * 10_001, "statement_size"),
        ({"account": "main", "venue": "SIM"}, "empty_statement"),
        ({"account": "main", "venue": "SIM", "positions": [], "fills": [{"exec_id": ""}]}, "bad_fill"),
        ({"account": "main", "venue": "ALT", "positions": [{"symbol": "BTCUSDT.SIM", "quantity": "1"}]}, "other_venue"),
    ],
)
def test_a_statement_that_makes_no_sense_is_refused_by_name(body: Any, code: str) -> None:
    with pytest.raises(Problem) as caught:
        read(body)
    assert (caught.value.status, caught.value.code) == (422, code)


@pytest.mark.parametrize("query", ["", "account=main", "venue=SIM"])
def test_a_csv_needs_its_account_and_venue(query: str) -> None:
    with pytest.raises(Problem) as caught:
        read("symbol,quantity\n", query)
    assert caught.value.code == "missing_field"
