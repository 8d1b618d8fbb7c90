"""The sink between two commits, and which row each event is."""

import pytest

from trade2026.domain.events import Envelope
from trade2026.domain.market import Bar, Book, Level, Trade
from trade2026.domain.numbers import COST_SCALE, SCALE
from trade2026.sink_ticks.tables import DAY_NS, FEEDS
from trade2026.sinks.machine import Feed, Intake

TICKS, BOOKS, BARS = FEEDS
DAY = 20_000


def envelope(seq: int, data: object, *, day: int = DAY, epoch: int = 3) -> Envelope:
    ts = day * DAY_NS + seq
    return Envelope(seq, epoch, ts, ts + 1, "test", "market", "", "", "", data)  # type: ignore[arg-type]


def trade(number: int = 0) -> Trade:
    return Trade("BTCUSDT.SIM", f"t-{number}", 100 * SCALE, SCALE, "SELL", 1, 2, 3)


def row(feed: Feed, data: object) -> dict[str, object]:
    """The row of an event, by column."""
    found = feed.row(envelope(7, data))
    assert found is not None
    return dict(zip((column.name for column in feed.spec.columns), found, strict=True))


def test_a_trade_is_a_row_with_its_place_in_the_log() -> None:
    found = row(TICKS, trade())
    assert (found["date"], found["symbol"], found["seq"], found["epoch"]) == (DAY, "BTCUSDT.SIM", 7, 3)
    assert (found["ts_event"], found["ts_init"]) == (DAY * DAY_NS + 7, DAY * DAY_NS + 8)
    assert (found["price"], found["aggressor"], found["ts_source"]) == (100 * SCALE, "SELL", 3)


def test_a_book_is_a_row_with_its_best_prices_or_none() -> None:
    found = row(BOOKS, Book("BTCUSDT.SIM", [Level(2, 3), Level(1, 4)], []))
    assert (found["bid"], found["bid_quantity"], found["ask"], found["ask_quantity"]) == (2, 3, None, None)
    assert (found["bids"], found["asks"]) == ([(2, 3), (1, 4)], [])


def test_a_bar_is_a_row_on_the_day_when_it_began() -> None:
    bar = Bar("BTCUSDT.SIM", "1h", (DAY - 1) * DAY_NS + 5, DAY * DAY_NS, 1, 4, 1, 2, 9, 5 * COST_SCALE, 3)
    found = row(BARS, bar)
    assert (found["date"], found["ts_event"], found["interval"]) == (DAY - 1, DAY * DAY_NS + 7, "1h")
    assert (found["open"], found["high"], found["value"], found["trades"]) == (1, 4, 5 * COST_SCALE, 3)


def test_records_are_taken_in_order_and_no_other() -> None:
    intake = Intake(TICKS, {}, 0, 5)
    intake.take(envelope(5, trade()))
    with pytest.raises(ValueError, match="7 follows 5"):
        intake.take(envelope(7, trade()))


def test_an_event_that_is_no_row_moves_the_position() -> None:
    intake = Intake(TICKS, {}, 0, 0)
    intake.take(envelope(0, Book("BTCUSDT.SIM", [], [])))
    assert (intake.rows, intake.offsets()["market.ticks/0"]) == ([], 1)


def test_the_table_says_where_to_go_on_and_what_was_counted() -> None:
    intake = Intake(TICKS, {"market.ticks/0": 40, "market.ticks/0/lost": 2, "market.ticks/0/late": 1}, DAY, 10)
    intake.take(envelope(40, trade(), day=DAY - 1))
    assert intake.offsets() == {"market.ticks/0": 41, "market.ticks/0/lost": 2, "market.ticks/0/late": 2}
    assert intake.columns()["trade_id"] == ("t-0",)


def test_late_is_what_is_of_an_earlier_day_than_the_newest_before_it() -> None:
    intake = Intake(TICKS, {}, 0, 0)
    for seq, day in enumerate((DAY, DAY + 1, DAY, DAY + 1, DAY - 5, DAY + 2)):
        intake.take(envelope(seq, trade(), day=day))
    assert intake.late == 2


def test_records_that_are_gone_are_counted_once() -> None:
    intake = Intake(TICKS, {"market.ticks/0": 40}, 0, 0)
    assert intake.skip_to(50) == 10
    assert intake.skip_to(50) == 0
    assert intake.skip_to(20) == 0
    assert (intake.lost, intake.next_seq) == (10, 50)


def test_a_log_that_ends_earlier_is_followed_from_its_end() -> None:
    intake = Intake(TICKS, {"market.ticks/0": 40}, 0, 0)
    intake.rewind_to(30)
    intake.take(envelope(30, trade()))
    assert intake.offsets()["market.ticks/0"] == 31
