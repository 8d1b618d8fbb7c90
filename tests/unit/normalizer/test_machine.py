"""The normalizer: whatever the line does, the bars are those of the market, or it says which are not."""

import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from faults import END, INSTRUMENT, SECOND, Doubts, Faults, Market, bars_by_hand, normalized, sent

from trade2026.domain.market import Bar, Book, Level, Quote, Trade, VenueMessage
from trade2026.domain.numbers import SCALE
from trade2026.normalizer.machine import Normalizer, Rules, Tick
from trade2026.normalizer.prints import BadPrintRule, BadPrints
from trade2026.normalizer.raw import BitstampTrade, PaperTrade
from trade2026.normalizer.sequence import Gap

NAME = INSTRUMENT.instrument_id
INTERVALS = ("1s", "5s", "10s", "7tick", "3volume", "300dollar")
RULES = Rules(intervals=INTERVALS, window_ms=500, session_seconds=20)
UNFILTERED = Rules(intervals=INTERVALS, window_ms=500, session_seconds=20, bad_prints=BadPrintRule(deviations=0))
WINDOW = 500_000_000

steps = st.lists(
    st.tuples(st.integers(1, 1_500_000_000), st.integers(95, 105), st.integers(1, 4)), min_size=1, max_size=90
)
seeds = st.integers(0, 10_000)


def market(steps: list[tuple[int, int, int]]) -> Market:
    """Trades that follow each other by some nanoseconds."""
    ts, trades = 1_000 * SECOND, []
    for number, (step, price, quantity) in enumerate(steps, 1):
        ts += step
        trades.append((ts, Trade(NAME, f"t{number}", price * SCALE, quantity * SCALE // 4, venue_seq=number)))
    return trades


def bars(said: list[Any]) -> list[Bar]:
    return [item for item in said if isinstance(item, Bar)]


def complete(trades: Market) -> list[Bar]:
    """The bars of the complete market by hand, the last of a kind without an end left out."""
    found: list[Bar] = []
    for interval in INTERVALS:
        found += bars_by_hand(trades, interval, 20 * SECOND)
    return found


def key(bar: Bar) -> tuple[str, int, int]:
    return bar.interval, bar.ts_open, bar.ts_close


def is_open(bar: Bar, trades: Market) -> bool:
    """A bar without an end in time that has the last trade: it may not be full."""
    return not bar.interval.endswith("s") and bar.ts_close == trades[-1][0]


def is_in_the_last_session(bar: Bar, trades: Market) -> bool:
    """Bars of quantity may be moved into one that is still open."""
    return not bar.interval.endswith("s") and bar.ts_close // (20 * SECOND) == trades[-1][0] // (20 * SECOND)


@given(steps, seeds)
def test_the_bars_are_those_by_hand_when_messages_are_late_and_doubled(
    steps: list[tuple[int, int, int]], seed: int
) -> None:
    trades = market(steps)
    arrivals = sent(trades, Faults(double=0.3, delay=0.5, delay_ns=WINDOW - 1, spared=1), seed)
    said = normalized(arrivals, UNFILTERED)
    assert not [item for item in said if isinstance(item, Gap)]
    expected = {key(bar): bar for bar in complete(trades)}
    found = {key(bar): bar for bar in bars(said)}
    assert all(expected[name] == bar for name, bar in found.items())
    assert all(is_open(bar, trades) for name, bar in expected.items() if name not in found)


@given(steps, seeds)
def test_whatever_happens_a_bar_is_right_or_said_to_be_uncertain(steps: list[tuple[int, int, int]], seed: int) -> None:
    trades = market(steps)
    faults = Faults(drop=0.05, double=0.2, delay=0.3, bad=0.05, delay_ns=2 * WINDOW, spared=15)
    said = normalized(sent(trades, faults, seed), RULES)
    expected = {key(bar): bar for bar in complete(trades)}
    found = {key(bar): bar for bar in bars(said)}
    doubts = Doubts(said)
    for name, bar in found.items():
        assert expected.get(name) == bar or doubts.of(bar), bar
    for name, bar in expected.items():
        is_told = found.get(name) == bar or doubts.about(bar)
        assert is_told or is_open(bar, trades) or is_in_the_last_session(bar, trades), bar


@given(steps, seeds)
def test_no_message_is_lost_without_a_word(steps: list[tuple[int, int, int]], seed: int) -> None:
    faults = Faults(drop=0.1, double=0.2, delay=0.5, bad=0.1, delay_ns=2 * WINDOW, spared=3)
    arrivals = sent(market(steps), faults, seed)
    machine = Normalizer([INSTRUMENT], RULES)
    said = [item for now, ts, trade in arrivals for item in machine.on_trade(now, PaperTrade(ts, trade))]
    said += machine.advance(END)
    ticks = [item.trade.venue_seq for item in said if isinstance(item, Tick)]
    counts, _ = machine.counts(NAME)
    assert sorted(ticks) == sorted({trade.venue_seq for _, _, trade in arrivals})
    assert counts.received == len(arrivals) == counts.passed + counts.late + counts.doubled
    sent_last = max(ticks)
    gone = [item for item in said if isinstance(item, Gap) and item.reason == "lost"]
    late = {item.trade.venue_seq for item in said if isinstance(item, Tick) and item.mark == "late"}
    missing = {number for gap in gone for number in range(gap.first, gap.last + 1)}
    assert missing - late == set(range(1, sent_last)) - set(ticks)
    assert counts.lost == len(missing - late)


@given(steps, seeds, st.integers(0, 120))
def test_a_restored_normalizer_goes_on_as_if_nothing_had_happened(
    steps: list[tuple[int, int, int]], seed: int, cut: int
) -> None:
    faults = Faults(drop=0.1, double=0.2, delay=0.5, bad=0.1, delay_ns=2 * WINDOW, spared=3)
    arrivals = sent(market(steps), faults, seed)
    first, second = Normalizer([INSTRUMENT], RULES), Normalizer([INSTRUMENT], RULES)
    said = [item for now, ts, trade in arrivals[:cut] for item in first.on_trade(now, PaperTrade(ts, trade))]
    second.restore(first.snapshot())
    said += [item for now, ts, trade in arrivals[cut:] for item in second.on_trade(now, PaperTrade(ts, trade))]
    assert said + second.advance(END) == normalized(arrivals, RULES)


def numbered(number: int, price: int = 100, quantity: int = 1) -> Trade:
    return Trade(NAME, f"t{number}", price * SCALE, quantity * SCALE, venue_seq=number)


def told(machine: Normalizer, at: int, number: int, price: int = 100, quantity: int = 1) -> list[Any]:
    return machine.on_trade(at, PaperTrade(at, numbered(number, price, quantity)))


def test_a_gap_says_between_which_times_the_market_is_not_known() -> None:
    machine = Normalizer([INSTRUMENT], RULES)
    told(machine, 1 * SECOND, 1)
    assert told(machine, 2 * SECOND, 5) == []
    said = machine.advance(3 * SECOND)
    assert said[0] == Gap(NAME, 1 * SECOND, 2 * SECOND, 2, 4, "lost")
    assert said[1] == Tick(2 * SECOND, numbered(5))
    assert machine.counts(NAME)[0].lost == 3


def test_a_message_that_was_given_up_is_told_as_late_once() -> None:
    machine = Normalizer([INSTRUMENT], RULES)
    for number in (1, 3):
        told(machine, number * SECOND, number)
    machine.advance(10 * SECOND)
    late = PaperTrade(2 * SECOND, numbered(2))
    assert machine.on_trade(10 * SECOND, late) == [Tick(2 * SECOND, numbered(2), "late")]
    assert machine.on_trade(10 * SECOND, late) == []
    counts, _ = machine.counts(NAME)
    assert (counts.late, counts.lost, counts.doubled) == (1, 0, 1)


def test_a_venue_that_numbers_anew_goes_on_at_once_and_the_time_between_is_uncertain() -> None:
    machine = Normalizer([INSTRUMENT], RULES)
    told(machine, 1 * SECOND, 1_000)
    said = told(machine, 2 * SECOND, 0)
    assert said[0] == Gap(NAME, 1 * SECOND, 2 * SECOND, -1, -1, "restart")
    assert Tick(2 * SECOND, numbered(0)) in said
    assert [item.mark for item in told(machine, 3 * SECOND, 1) if isinstance(item, Tick)] == [""]


def test_a_trade_whose_bar_the_clock_has_closed_is_late_and_its_moment_uncertain() -> None:
    machine = Normalizer([INSTRUMENT], RULES)
    told(machine, 1 * SECOND, 1)
    assert [bar.interval for bar in bars(machine.advance(3 * SECOND))] == ["1s"]
    said = machine.on_trade(3 * SECOND, PaperTrade(SECOND + 1, numbered(2)))
    assert said == [Tick(SECOND + 1, numbered(2), "after_close"), Gap(NAME, SECOND + 1, SECOND + 1, 2, 2, "late")]
    assert machine.counts(NAME)[1].closed_before == 1


def test_a_bad_print_is_told_marked_and_is_in_no_bar() -> None:
    machine = Normalizer([INSTRUMENT], RULES)
    said = [
        item for number in range(1, 30) for item in told(machine, number * SECOND, number, 100 if number != 20 else 900)
    ]
    marked = [item for item in said if isinstance(item, Tick) and item.mark]
    assert [(item.trade.venue_seq, item.mark) for item in marked] == [(20, "bad_print")]
    assert max(bar.high for bar in bars(said)) == 100 * SCALE
    assert any(bar.missing == 1 for bar in bars(said) if bar.interval == "7tick")


def test_a_market_that_really_jumped_is_believed_after_some_prints() -> None:
    prints = BadPrints(BadPrintRule(confirm=3))
    assert not any(prints.is_bad(100 + number % 2) for number in range(40))
    assert [prints.is_bad(200) for _ in range(4)] == [True, True, False, False]


def test_bad_prints_on_both_sides_are_no_new_market() -> None:
    prints = BadPrints(BadPrintRule(confirm=2))
    assert not any(prints.is_bad(100) for _ in range(20))
    assert all(prints.is_bad(price) for price in (500, 5, 500, 5))


@given(st.lists(st.integers(50, 200), max_size=200), st.integers(0, 200))
def test_a_filter_judges_by_the_sorted_window_as_one_would_by_hand(prices: list[int], cut: int) -> None:
    rule = BadPrintRule(window=9, least=4, deviations=3, floor_bps=500, confirm=1_000)
    prints, window = BadPrints(rule), []  # type: ignore[var-annotated]
    for place, price in enumerate(prices):
        if place == cut:
            prints = BadPrints(rule, prints.save())
        ordered = sorted(window)
        bad = False
        if len(ordered) >= 4:
            median = ordered[len(ordered) // 2]
            spread = ordered[3 * len(ordered) // 4] - ordered[len(ordered) // 4]
            bad = abs(price - median) > median * 0.05 and abs(price - median) > spread * 3 / 1.349
        assert prints.is_bad(price) == bad
        if not bad:
            window = [*window, price][-9:]


@pytest.mark.parametrize(
    "raw",
    [
        BitstampTrade("ETHUSD", 1, "1385337600", "800.01", "1"),
        BitstampTrade("btcusd", 1, "yesterday", "800.01", "1"),
        BitstampTrade("btcusd", 1, "1385337600", "-800", "1"),
        BitstampTrade("btcusd", 1, "1385337600", "800", "NaN"),
        PaperTrade(1, Trade("X.Y", "t", 1, 1)),
    ],
)
def test_a_message_that_says_nothing_is_counted_with_its_fault(raw: Any) -> None:
    machine = Normalizer([INSTRUMENT], RULES, {"btcusd": NAME})
    assert machine.on_trade(0, raw) == []
    assert machine.unreadable == 1
    assert machine.last_fault


def test_a_line_of_the_recording_is_read_exactly() -> None:
    machine = Normalizer([INSTRUMENT], RULES, {"btcusd": NAME})
    raw = BitstampTrade("btcusd", 7, "1385337600", "800.010000000000", "0.123456789999")
    (tick,) = machine.on_trade(1385337600 * SECOND, raw)
    assert isinstance(tick, Tick)
    assert tick.ts == 1385337600 * SECOND
    assert (tick.trade.price, tick.trade.quantity, tick.trade.venue_seq) == (800_010_000_000, 123_456_789, 7)


def test_a_trade_of_nothing_is_marked_and_its_number_counts() -> None:
    machine = Normalizer([INSTRUMENT], RULES)
    told(machine, SECOND, 1)
    (tick,) = told(machine, SECOND, 2, quantity=0)
    assert tick.mark == "no_amount"
    assert isinstance(told(machine, SECOND, 3)[0], Tick)


def test_a_clock_that_runs_backwards_does_not_carry_a_trade_into_an_ended_bar() -> None:
    machine = Normalizer([INSTRUMENT], UNFILTERED)
    told(machine, 5 * SECOND, 1)
    (tick,) = machine.on_trade(5 * SECOND, PaperTrade(4 * SECOND, numbered(2)))
    assert tick.ts == 5 * SECOND  # type: ignore[union-attr]
    assert machine.counts(NAME)[1].time_reversals == 1


def levels(*pairs: tuple[int, int]) -> list[Level]:
    return [Level(price, quantity) for price, quantity in pairs]


def test_a_book_is_told_from_its_best_prices_and_a_quote_when_they_change() -> None:
    machine = Normalizer([INSTRUMENT], RULES)
    book = Book(NAME, levels((98, 1), (99, 2), (97, 0)), levels((103, 1), (101, 4)))
    said = machine.on_book(1, book)
    assert said == [Book(NAME, levels((99, 2), (98, 1)), levels((101, 4), (103, 1))), Quote(NAME, 99, 2, 101, 4)]
    assert [type(item) for item in machine.on_book(2, book)] == [Book]


def test_a_book_that_is_old_or_crossed_is_counted_and_not_told() -> None:
    machine = Normalizer([INSTRUMENT], RULES)
    machine.on_book(10, Book(NAME, levels((99, 1)), levels((101, 1))))
    assert machine.on_book(9, Book(NAME, levels((98, 1)), levels((101, 1)))) == []
    assert machine.on_book(11, Book(NAME, levels((101, 1)), levels((101, 1)))) == []
    _, quality = machine.counts(NAME)
    assert (quality.books, quality.books_stale, quality.books_crossed) == (3, 1, 1)


def said(at: int, number: int, channel: str = "trades", body: bytes = b"") -> VenueMessage:
    words = body or msgspec.json.encode(numbered(number))
    return VenueMessage("B", channel, "BTCUSD", number, msgspec.Raw(words), ts_recv=at)  # type: ignore[arg-type]


def speaking() -> Normalizer:
    return Normalizer([INSTRUMENT], RULES, {"BTCUSD": NAME, NAME: NAME})


def test_a_heartbeat_ends_a_bar_at_once_when_every_trade_has_come() -> None:
    machine = speaking()
    machine.on_message(SECOND, SECOND, said(SECOND, 1))
    assert machine.on_message(2 * SECOND - 1, 2 * SECOND - 1, said(0, 1, "heartbeat")) == []
    (bar,) = machine.on_message(2 * SECOND, 2 * SECOND, said(0, 1, "heartbeat"))
    assert (bar.interval, bar.trades) == ("1s", 1)  # type: ignore[union-attr]


def test_a_heartbeat_that_knows_of_more_trades_waits_for_them_and_then_gives_them_up() -> None:
    machine = speaking()
    machine.on_message(SECOND, SECOND, said(SECOND, 1))
    assert machine.on_message(SECOND + 1, SECOND + 1, said(0, 3, "heartbeat")) == []
    gone = machine.on_message(SECOND + 1 + WINDOW, SECOND + 1 + WINDOW, said(0, 3, "heartbeat"))
    assert gone[0] == Gap(NAME, SECOND, SECOND + 1 + WINDOW, 2, 3, "lost")
    assert machine.counts(NAME)[0].lost == 2
    late = machine.on_message(2 * SECOND, SECOND, said(0, 2))
    assert [item.mark for item in late if isinstance(item, Tick)] == ["late"]


def test_a_new_connection_gives_up_what_is_missing_without_waiting() -> None:
    machine = speaking()
    machine.on_message(SECOND, SECOND, said(SECOND, 1))
    assert machine.resume() == []
    gone = machine.on_message(SECOND + 1, SECOND + 1, said(0, 5))
    assert [type(item) for item in gone] == [Gap, Tick]
    assert machine.on_message(SECOND + 2, SECOND + 2, said(0, 7)) == [], "later ones wait again"


def test_a_message_carries_when_it_came_into_the_trade() -> None:
    (tick,) = speaking().on_message(SECOND + 5, SECOND, said(SECOND + 3, 1))
    assert isinstance(tick, Tick)
    assert (tick.ts, tick.trade.ts_recv) == (SECOND, SECOND + 3)


@pytest.mark.parametrize("body", [b"{}", b"[1]", b'{"type":"Trade","price":"x"}'])
def test_words_that_nobody_understands_are_counted_with_their_fault(body: bytes) -> None:
    machine = speaking()
    assert machine.on_message(SECOND, SECOND, said(0, 1, body=body)) == []
    assert (machine.unreadable, bool(machine.last_fault)) == (1, True)
    strange = Normalizer([INSTRUMENT], RULES, {"BTCUSD": NAME}, dialect="martian")
    assert strange.on_message(SECOND, SECOND, said(0, 1)) == []
    assert "martian" in strange.last_fault


def test_the_recorded_dialect_is_read_too() -> None:
    raw = BitstampTrade("BTCUSD", 7, "1385337600", "800.01", "0.5")
    machine = Normalizer([INSTRUMENT], RULES, {"BTCUSD": NAME}, dialect="bitstamp")
    tick, *_ = machine.on_message(1385337600 * SECOND, 0, said(0, 7, body=msgspec.json.encode(raw)))
    assert isinstance(tick, Tick)
    assert tick.trade.price == 800_010_000_000
