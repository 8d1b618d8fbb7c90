"""T+n: obligations are netted per trade day, nothing is lost when days are summed up."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trade2026.domain.instruments import Instrument
from trade2026.ptrc.settlement import DAY_NS, DAYS_KEPT, EARLIER, Ledger, settlement_day


def instrument(session: str) -> Instrument:
    return Instrument(
        symbol="X", venue="SIM", base="X", quote="USD", settlement="USD", tick_size=1, lot_size=1, session=session
    )


def day(text: str) -> int:
    return (date.fromisoformat(text) - date(1970, 1, 1)).days


@pytest.mark.parametrize(
    ("traded", "days", "session", "settles"),
    [
        ("2026-11-27", 0, "24/7", "2026-11-27"),
        ("2026-11-27", 2, "24/7", "2026-11-29"),
        ("2026-11-27", 0, "09:30-16:00", "2026-11-27"),
        ("2026-11-27", 1, "09:30-16:00", "2026-11-30"),
        ("2026-11-27", 2, "09:30-16:00", "2026-12-01"),
        ("2026-11-28", 0, "09:30-16:00", "2026-11-30"),
        ("2026-11-25", 2, "09:30-16:00", "2026-11-27"),
    ],
)
def test_weekends_do_not_count_where_nobody_trades_on_them(traded: str, days: int, session: str, settles: str) -> None:
    assert settlement_day(day(traded), days, instrument(session)) == day(settles)


@given(st.lists(st.tuples(st.integers(0, 300), st.sampled_from("AB"), st.integers(-9, 9), st.integers(-99, 99))))
def test_days_are_netted_and_their_sum_is_never_lost(fills: list[tuple[int, str, int, int]]) -> None:
    ledger = Ledger()
    for when, name, quantity, cash in fills:
        ledger.add(when * DAY_NS + 5, name, quantity, cash)
    lines = list(ledger.lines())
    for name in "AB":
        assert sum(net.quantity for _, held, net in lines if held == name) == sum(f[2] for f in fills if f[1] == name)
        assert sum(net.cash for _, held, net in lines if held == name) == sum(f[3] for f in fills if f[1] == name)
    assert len({trade_day for trade_day, _, _ in lines} - {EARLIER}) <= DAYS_KEPT + 1


def test_only_the_oldest_days_are_summed_up() -> None:
    ledger = Ledger()
    for when in range(DAYS_KEPT + 5):
        ledger.add(when * DAY_NS, "A", 1, -100)
    days = [trade_day for trade_day, _, _ in ledger.lines()]
    assert days[0] == EARLIER
    assert days[-1] == DAYS_KEPT + 4
    assert ledger.days[EARLIER]["A"].quantity == DAYS_KEPT + 5 - (len(days) - 1)
