"""The second half of the recorded week over a bad line: the same bars, or a word why not."""

import sys
from pathlib import Path

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from faults import INSTRUMENT, SECOND, Doubts, Faults, Market, normalized, sent

from trade2026.domain.events import Envelope
from trade2026.domain.market import Bar, Trade, VenueMessage
from trade2026.gateway.recording import load_bitstamp
from trade2026.normalizer.fold import MarketFold
from trade2026.normalizer.machine import INTERVALS, Rules, Tick
from trade2026.normalizer.prints import BadPrintRule
from trade2026.normalizer.sequence import Gap

# The week was wild: with a nearer floor, real trades are set aside, other ones when some are lost before.
RULES = Rules(bad_prints=BadPrintRule(floor_bps=2_500))
WINDOW = RULES.window_ms * 1_000_000
Bars = dict[tuple[str, int, int], Bar]


@pytest.fixture(scope="module")
def week() -> Market:
    """The second half of the recorded week."""
    recording = load_bitstamp()
    times, name = recording.source_times(), INSTRUMENT.instrument_id
    return [
        (times[row], Trade(name, f"b-{row}", recording.prices[row], recording.quantities[row], venue_seq=row))
        for row in range(len(recording) // 2, len(recording))
    ]


@pytest.fixture(scope="module")
def clean(week: Market) -> Bars:
    """Its bars over a good line."""
    return bars_of(normalized(sent(week, Faults(), 0), RULES))


def bars_of(said: list[object]) -> Bars:
    return {(bar.interval, bar.ts_open, bar.ts_close): bar for bar in said if isinstance(bar, Bar)}


def test_messages_late_and_doubled_within_the_window_make_the_same_bars(week: Market, clean: Bars) -> None:
    faulty = normalized(sent(week, Faults(double=0.05, delay=0.2, delay_ns=WINDOW - 1), 1), RULES)
    assert not [item for item in faulty if isinstance(item, Gap)]
    assert bars_of(faulty) == clean
    assert {name for name, _, _ in clean} == set(INTERVALS)


def test_with_every_fault_each_bar_is_the_same_or_said_to_be_uncertain(week: Market, clean: Bars) -> None:
    faults = Faults(drop=0.0005, double=0.01, delay=0.02, bad=0.0002, delay_ns=WINDOW + SECOND)
    said = normalized(sent(week, faults, 2), RULES)
    found, doubts = bars_of(said), Doubts(said)
    differ = [bar for key, bar in found.items() if clean.get(key) != bar]
    assert not [bar for bar in differ if not doubts.of(bar)]
    assert not [bar for key, bar in clean.items() if found.get(key) != bar and not doubts.about(bar)]
    assert any(isinstance(item, Gap) for item in said)
    assert {item.mark for item in said if isinstance(item, Tick)} == {"", "bad_print", "late"}
    assert len(differ) < 0.1 * len(clean)


def test_of_a_bad_line_the_topics_have_each_trade_once_and_in_order_and_every_one_that_lacks_is_accounted_for(
    week: Market,
) -> None:
    faults = Faults(drop=0.0005, double=0.01, delay=0.02, bad=0.0002, delay_ns=WINDOW + SECOND)
    fold, told = MarketFold([INSTRUMENT], RULES, {"B": "replay"}), []
    for seq, (now, ts, trade) in enumerate(sent(week, faults, 3)):
        message = VenueMessage("B", "trades", "BTCUSD", trade.venue_seq, msgspec.Raw(msgspec.json.encode(trade)))
        told += [event for _, event in fold.apply(Envelope(seq, 1, ts, now, "", "", "", "", "", message))]
    ticks = [event for event in told if isinstance(event, Trade)]
    numbers = [tick.venue_seq for tick in ticks]
    assert numbers == sorted(set(numbers))
    clean = {trade.venue_seq: trade for _, trade in week}
    assert all(clean[tick.venue_seq] == tick for tick in ticks)
    counts, quality = fold.venues["B"].counts(INSTRUMENT.instrument_id)
    held = len(fold.venues["B"].lanes[INSTRUMENT.instrument_id].sequence.state.held)
    assert len(clean) - len(ticks) == counts.lost + counts.late + quality.bad_prints + held
    assert counts.lost > 0
    assert counts.late > 0
    assert quality.bad_prints > 0
