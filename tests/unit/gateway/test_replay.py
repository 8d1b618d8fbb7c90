"""Given recorded trades and a clock, when time passes, then these trades are due."""

from decimal import Decimal

import pytest
from gateway_builders import BTC, NAME, RECORDING, SECOND, replay
from hypothesis import given
from hypothesis import strategies as st

from trade2026.domain.numbers import to_nanos
from trade2026.gateway.recording import load_bitstamp
from trade2026.gateway.replay import LATE_NS_MAX, Replay

START = 1_700_000_000 * SECOND


def test_the_first_trade_is_due_at_once_and_the_next_after_the_recorded_time():
    source = replay()
    source.start(START)
    assert [(ts, trade.trade_id) for ts, trade in source.due(START)] == [(START, "t-0-0")]
    assert source.due(START + SECOND - 1) == []
    assert [ts for ts, _ in source.due(START + SECOND)] == [START + SECOND]


def test_a_trade_is_restamped_scaled_and_rounded_and_keeps_its_source_time():
    source = replay()
    trade = source.trade_at(2)
    assert (trade.instrument, trade.price, trade.venue_seq) == (NAME, to_nanos("44800.84"), 2)
    assert trade.quantity == BTC.lot_size, "less than a lot becomes a lot"
    assert trade.ts_source == 101 * SECOND + SECOND // 3


def test_trades_of_one_second_are_spread_evenly_over_it():
    times = list(RECORDING.source_times())
    assert times[1:4] == [101 * SECOND, 101 * SECOND + SECOND // 3, 101 * SECOND + 2 * SECOND // 3]


def test_speed_divides_the_time_between_trades():
    source = replay(speed=Decimal(10))
    source.start(START)
    assert [ts - START for ts, _ in source.due(START + SECOND // 5)][:2] == [0, SECOND // 10]


def test_a_long_gap_is_compressed():
    source = replay(gap_seconds_max=5.0)
    source.start(START, position=4)
    assert [ts - START for ts, _ in source.due(START)] == [0]
    assert source.next_due == START + 5 * SECOND


def test_a_loop_begins_again_with_ids_that_were_never_used():
    source = replay()
    trades = [source.trade_at(position) for position in range(3 * len(RECORDING))]
    assert len({trade.trade_id for trade in trades}) == len(trades)
    assert [source.position_of(trade.trade_id) for trade in trades] == list(range(len(trades)))
    assert trades[7].trade_id == "t-1-0"
    assert trades[7].price == trades[0].price


def test_without_loop_the_replay_ends():
    source = replay(loop=False, speed=Decimal(1000))
    source.start(START)
    assert len(source.due(START + SECOND)) == len(RECORDING)
    assert source.finished
    assert source.due(START + 2 * SECOND) == []


def test_after_a_long_sleep_the_replay_goes_on_from_now():
    source = replay()
    source.start(START)
    now = START + LATE_NS_MAX + 100 * SECOND
    assert [ts for ts, _ in source.due(now)] == [now]


def test_an_id_of_another_recording_has_no_position():
    source = replay()
    assert [source.position_of(name) for name in ("", "book", "b13-0-1", "t-x-1", "t-0-7")] == [None] * 5


@pytest.mark.parametrize("terms", [{"scale": Decimal(0)}, {"speed": Decimal(0)}, {"gap_seconds_max": 0}])
def test_a_replay_that_could_not_run_is_refused(terms):
    with pytest.raises(ValueError, match="needs"):
        replay(**terms)


@given(
    steps=st.lists(st.integers(0, LATE_NS_MAX), min_size=1, max_size=30),
    restarts=st.sets(st.integers(0, 29)),
    speed=st.sampled_from([Decimal("0.5"), Decimal(1), Decimal(60)]),
)
def test_no_trade_is_lost_or_doubled_over_restarts_and_time_never_goes_back(steps, restarts, speed):
    source, now, seen = replay(speed=speed), START, []
    source.start(now)
    for index, step in enumerate(steps):
        now += step
        seen.extend(source.due(now))
        if index in restarts:
            position, source = source.position, replay(speed=speed)
            source.start(now, position)
    assert [trade.venue_seq for _, trade in seen] == list(range(len(seen)))
    assert [ts for ts, _ in seen] == sorted(ts for ts, _ in seen)
    assert all(START <= ts <= now for ts, _ in seen)


def test_the_shipped_week_gives_ten_trades_a_second_and_sensible_prices_at_the_default_speed():
    recording = load_bitstamp()
    source = Replay(recording, BTC, scale=Decimal(56), speed=Decimal(60))
    source.start(START)
    count, now = 0, START
    for _ in range(600):
        now += SECOND
        count += len(source.due(now))
    assert len(recording) == 99_982
    assert count >= 5 * 600
    prices = [source.trade_at(position).price for position in range(0, len(recording), 50)]
    assert to_nanos("43000") < min(prices) < max(prices) < to_nanos("66000")
    assert source.trade_at(0).price == to_nanos("44800.56")
