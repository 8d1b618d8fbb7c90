"""Bars: given trades in any order, when all are there, then the same bars."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trade2026.domain.market import Bar, Trade
from trade2026.domain.numbers import SCALE
from trade2026.marketdata.bars import Bars, BarSpec, read_state

SECOND = 10**9
ALL = ("1s", "10s", "7tick", "3volume", "300dollar")

prints = st.lists(
    st.tuples(st.integers(0, 400_000_000), st.integers(90, 110), st.integers(1, 4)), min_size=1, max_size=80
)


def market(steps: list[tuple[int, int, int]]) -> list[tuple[int, Trade]]:
    """Trades that follow each other by some nanoseconds."""
    ts, trades = 1_000 * SECOND, []
    for number, (step, price, quantity) in enumerate(steps, 1):
        ts += step
        trades.append((ts, Trade("A.X", f"t{number}", price * SCALE, quantity * SCALE // 4, venue_seq=number)))
    return trades


def folded(trades: list[tuple[int, Trade]], lateness_ns: int = 0) -> list[Bar]:
    """Bars of trades in the order of their arrival; the end has come for all of them."""
    bars = Bars("A.X", ALL, lateness_ns=lateness_ns)
    closed = [bar for ts, trade in trades for bar in bars.on_trade(ts, trade)]
    return sorted(closed + bars.advance(10_000 * SECOND), key=lambda bar: (bar.interval, bar.ts_open, bar.ts_close))


@pytest.mark.parametrize("text", ["", "1", "m", "-1m", "1.5tick", "0s", "1 m", "1w", "1e3tick"])
def test_a_text_that_is_no_bar_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match="is no bar"):
        BarSpec.parse(text)


@pytest.mark.parametrize(
    ("text", "kind", "size"),
    [
        ("250ms", "time", 250_000_000),
        ("1.5m", "time", 90 * SECOND),
        ("100tick", "tick", 100),
        ("0.5volume", "volume", SCALE // 2),
    ],
)
def test_a_bar_is_written_as_a_number_and_a_unit(text: str, kind: str, size: int) -> None:
    spec = BarSpec.parse(text)
    assert (spec.kind, spec.size, spec.name) == (kind, size, text)


@given(prints)
def test_every_trade_is_in_one_bar_of_each_interval(steps: list[tuple[int, int, int]]) -> None:
    trades = market(steps)
    bars = Bars("A.X", ALL)
    closed = [bar for ts, trade in trades for bar in bars.on_trade(ts, trade)]
    for name, builder in bars.builders.items():
        ended = [bar for bar in closed if bar.interval == name]
        assert sum(bar.trades for bar in ended) + builder.state.trades == len(trades)
        assert sum(bar.volume for bar in ended) + builder.state.volume == sum(trade.quantity for _, trade in trades)
        assert all(bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high for bar in ended)


@given(prints)
def test_a_time_bar_has_the_trades_of_its_interval(steps: list[tuple[int, int, int]]) -> None:
    trades = market(steps)
    for bar in (bar for bar in folded(trades) if bar.interval == "1s"):
        inside = [trade for ts, trade in trades if bar.ts_open <= ts < bar.ts_close]
        assert bar.ts_open % SECOND == 0
        assert bar.ts_close - bar.ts_open == SECOND
        assert (bar.trades, bar.open, bar.close) == (len(inside), inside[0].price, inside[-1].price)


@given(prints, st.randoms(use_true_random=False))
def test_late_and_doubled_trades_make_the_bars_of_the_clean_stream(
    steps: list[tuple[int, int, int]], random: object
) -> None:
    trades = market(steps)
    late = [
        (ts + random.randint(0, 400_000_000), ts, trade) for ts, trade in trades for _ in range(random.randint(1, 2))
    ]  # type: ignore[attr-defined]
    arrived = [(ts, trade) for _, ts, trade in sorted(late, key=lambda item: item[0])]
    assert folded(arrived, lateness_ns=500_000_000) == folded(trades)


def test_a_trade_that_is_too_late_is_counted_and_changes_no_bar() -> None:
    bars = Bars("A.X", ["1s"])
    (first, second) = market([(0, 100, 1), (2 * SECOND, 101, 1)])
    bars.on_trade(*second)
    assert bars.on_trade(*first) == []
    assert bars.sequencer.state.late == 1


def test_a_bar_says_how_many_trades_are_missing() -> None:
    bars = Bars("A.X", ["2tick"])
    trades = market([(1, 100, 1)] * 6)
    closed = [bar for n in (0, 1, 4, 5) for bar in bars.on_trade(*trades[n])]
    assert [bar.missing for bar in closed] == [0, 2]


@given(prints, st.integers(0, 80))
def test_saved_and_restored_bars_go_on_as_if_nothing_had_happened(steps: list[tuple[int, int, int]], cut: int) -> None:
    trades = market(steps)
    whole, first = Bars("A.X", ALL, lateness_ns=SECOND), Bars("A.X", ALL, lateness_ns=SECOND)
    expected = [bar for ts, trade in trades for bar in whole.on_trade(ts, trade)]
    found = [bar for ts, trade in trades[:cut] for bar in first.on_trade(ts, trade)]
    state = read_state(msgspec.json.decode(msgspec.json.encode(first.save())))
    second = Bars("A.X", ALL, lateness_ns=SECOND, state=state)
    found += [bar for ts, trade in trades[cut:] for bar in second.on_trade(ts, trade)]
    assert found == expected
