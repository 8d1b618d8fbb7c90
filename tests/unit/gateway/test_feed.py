"""When the market goes on: as soon as a trade is due, and not before."""

import asyncio
from decimal import Decimal

import pytest
from tests.unit.gateway.gateway_builders import BTC, RECORDING

from trade2026.domain.instruments import Instruments
from trade2026.gateway.book import BookModel
from trade2026.gateway.feed import Feed, Instrumented
from trade2026.gateway.replay import Replay
from trade2026.gateway.stream import MarketStream
from trade2026.kit.bus.memory import MemoryBus
from trade2026.kit.clock import ManualClock

MILLISECOND = 1_000_000


def feed(clock: ManualClock, *, may_publish: bool = True) -> tuple[Feed, Replay]:
    """A feed of one recording that begins now."""
    source = Replay(RECORDING, BTC, speed=Decimal(1), gap_seconds_max=0.05)
    source.start(clock.now())
    made = Feed(
        MemoryBus([]),
        clock,
        tenant="test",
        owner="test",
        instruments=[Instrumented(source, BookModel(BTC, 7))],
        stream=MarketStream(Instruments([BTC])),
        observe=lambda command: None,
        may_publish=lambda: may_publish,
    )
    return made, source


def test_it_sleeps_until_the_next_trade_is_due_and_never_shorter_than_what_goes_together() -> None:
    clock = ManualClock()
    found, source = feed(clock)
    source.due(clock.now())
    left = source.next_due - clock.now()
    assert left == 50 * MILLISECOND
    assert found._pause() == pytest.approx(0.05)
    clock.advance(left - 3 * MILLISECOND)
    assert found._pause() == pytest.approx(0.003)
    clock.advance(10 * MILLISECOND)
    assert found._pause() == 0.001


def test_a_venue_that_takes_no_more_is_asked_again_soon_but_not_at_once() -> None:
    assert feed(ManualClock(), may_publish=False)[0]._pause() == 0.02


async def test_one_that_fails_for_good_says_so() -> None:
    found, _ = feed(ManualClock())
    broken = asyncio.get_running_loop().create_future()
    broken.set_exception(ValueError("no bus error"))
    found._under_way = [broken]
    found.run()
    assert found._task is not None
    await found._task
    assert found.error == "market data is not published any more: ValueError('no bus error')"
