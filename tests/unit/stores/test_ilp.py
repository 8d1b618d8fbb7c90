"""Rows as QuestDB's lines: what is written, what is left out, and what is refused before anything is sent."""

import pytest

from trade2026.stores.timeseries.ilp import lines_of
from trade2026.stores.timeseries.port import RowsRefused
from trade2026.stores.timeseries.schema import TABLES, Row

TICKS, METRICS = TABLES["ticks"], TABLES["metrics"]
AT = 1_385_337_600_000_001_999


def tick(trade_id: str = "1", side: str | None = "BUY", price: int | None = 800 * 10**9, at: int = AT) -> Row:
    return (at, "BTCUSDT.SIM", trade_id, side, price, 10**8, 7, at, 0, 9)


def test_a_line_has_symbols_then_fields_then_microseconds() -> None:
    assert lines_of(TICKS, [tick()]) == (
        b'ticks,symbol=BTCUSDT.SIM,side=BUY trade_id="1",price=800.0,quantity=0.1,venue_seq=7i,'
        b"ts_recv=1385337600000001t,seq=9i 1385337600000001\n"
    )


def test_what_has_no_value_is_left_out_of_its_line_only() -> None:
    first, second, third = lines_of(TICKS, [tick(), tick("", None, None), tick("3", "", 0)]).splitlines()
    assert b"side=BUY" in first and b"price=800.0" in first
    assert second.startswith(b"ticks,symbol=BTCUSDT.SIM quantity=0.1,") and b"price" not in second
    assert b"side" not in third and b'trade_id="3"' in third and b"price=0.0" in third


def test_a_row_without_any_value_writes_a_null_because_a_line_needs_a_field() -> None:
    rows = [(AT, None, None, None, None, None), (AT, "var", 1, None, None, None)]
    assert (
        lines_of(METRICS, rows) == b"metrics value=NaN 1385337600000001\nmetrics,name=var value=1.0 1385337600000001\n"
    )


@pytest.mark.parametrize(
    ("text", "symbol", "quoted"),
    [
        ("a b,c=d", rb"a\ b\,c\=d", b"a b,c=d"),
        ('say "x"', rb'say\ "x"', rb"say \"x\""),
        ("back\\slash", rb"back\\slash", rb"back\\slash"),
        ("two\nlines", b"two\\\nlines", b"two\\\nlines"),
        ("100%d", b"100%d", b"100%d"),
        ("ü", "ü".encode(), "ü".encode()),
    ],
)
def test_text_is_escaped_as_its_place_needs_it(text: str, symbol: bytes, quoted: bytes) -> None:
    line = lines_of(TICKS, [(AT, text, text, "BUY", 1, 1, 1, AT, 0, 1)])
    assert line.startswith(b"ticks,symbol=" + symbol + b',side=BUY trade_id="' + quoted + b'",')


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (tick()[:-1], "9 values for 10 columns"),
        (tick(price=2**63), "price"),
        (tick(price=1.5), "price"),  # type: ignore[arg-type]
        (tick(trade_id=7), "trade_id"),  # type: ignore[arg-type]
        (tick(trade_id="\ud800"), "trade_id"),
        (tick(at=0), "not after 1970"),
        (tick(at=-1), "not after 1970"),
    ],
)
def test_the_row_that_does_not_fit_is_named(row: Row, reason: str) -> None:
    with pytest.raises(RowsRefused, match=reason) as refused:
        lines_of(TICKS, [tick(), row, tick("2")])
    assert refused.value.row is row


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "1.5", 10**400])
def test_a_number_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(RowsRefused, match="value"):
        lines_of(METRICS, [(AT, "var", value, "", "", "")])
