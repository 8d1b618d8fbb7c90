"""The normalizer on a real log: bars once each, the same whenever it is stopped, and answers about them."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rig import SYMBOL, Rig

from trade2026.domain.events import Envelope
from trade2026.domain.market import Bar, Trade, VenueMessage
from trade2026.domain.numbers import SCALE
from trade2026.kit.bus.port import BusFull, BusUncertain
from trade2026.kit.clock import WallClock
from trade2026.kit.publisher import Publisher
from trade2026.normalizer.fold import MarketFold
from trade2026.normalizer.machine import Rules
from trade2026.normalizer.service import NormalizerService

RAW, TICKS, BARS = "market.raw", "market.ticks", "market.bars"
CONFIG = {"normalizer": {"intervals": ["1s", "5s", "7tick", "3volume"], "window_ms": 500}}
SECOND = 10**9
BEGIN = 1_700_000_000 * SECOND
TOTAL = 300


class TestClock(WallClock):
    """A clock that the test sets, so that a log is the same in each run."""

    __test__ = False
    at = BEGIN

    def now(self) -> int:
        return self.at


def make_rig(state: Path) -> Rig:
    rig = Rig(state, "venue")
    rig.settings = msgspec.structs.replace(rig.settings, config={**rig.settings.config, **CONFIG})
    rig.bus = type(rig.bus)(state / "bus", rig.settings)
    rig.clock = TestClock()
    return rig


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    found = make_rig(tmp_path)
    yield found
    await found.close()


def tick(number: int) -> tuple[int, Trade]:
    price = (100 + number * 7 % 13) * SCALE
    trade = Trade(SYMBOL, f"t{number}", price, (1 + number % 3) * SCALE // 4, venue_seq=number)
    return BEGIN + number * 170_000_000, trade


async def print_trades(rig: Rig, first: int, last: int, lost: tuple[int, ...] = ()) -> int:
    """Say trades as the gateway does; returns the position after them."""
    publisher = rig._publishers.get((RAW, 0))
    if publisher is None:
        publisher = Publisher(rig.bus, RAW, tenant="rig", clock=rig.clock, owner="test")  # type: ignore[arg-type]
        await publisher.start()
        rig._publishers[RAW, 0] = publisher
    for number in range(first, last):
        if number not in lost:
            ts, trade = tick(number)
            rig.clock.at = ts
            message = VenueMessage("SIM", "trades", "BTCUSDT", number, msgspec.Raw(msgspec.json.encode(trade)))
            await publisher.append([publisher.stamp(message, ts_event=ts, principal="market")])
    return publisher.next_seq


async def until_folded(rig: Rig, service: NormalizerService, position: int) -> None:
    def done() -> bool:
        followed = service._bars is not None and service._bars.next_seq == service.projection.outlets[BARS].next_seq
        return service.fold.next_seq >= position and service.projection.is_told and followed

    await rig.until(done, "the messages are folded, and the bars answered")


def told(envelopes: list[Envelope]) -> list[Any]:
    return [(envelope.data, envelope.causation_id) for envelope in envelopes]


async def expected(rig: Rig) -> list[Any]:
    """The bars of the messages in the log, folded in one go."""
    rules = msgspec.convert(CONFIG["normalizer"], Rules)
    fold, found = MarketFold(rig.settings.instruments, rules, {"SIM": "replay"}), []
    for envelope in await rig.said(RAW):
        bars = [event for _, event in fold.apply(envelope) if isinstance(event, Bar)]
        found += [(bar, f"{RAW}/0/{envelope.seq}") for bar in bars]
    return found


async def test_every_bar_is_published_once_with_the_message_that_completed_it(rig: Rig) -> None:
    service = await rig.start(NormalizerService)
    await until_folded(rig, service, await print_trades(rig, 0, TOTAL))
    found = told(await rig.said(BARS))
    assert found == await expected(rig)
    assert {bar.interval for bar, _ in found} == {"1s", "5s", "7tick", "3volume"}
    ticks = await rig.said(TICKS)
    assert [(envelope.ts_event, envelope.data) for envelope in ticks] == [tick(number) for number in range(TOTAL)]


@pytest.mark.parametrize("cut", [1, 97, 150, 299])
async def test_a_restart_in_the_middle_continues_the_bars_exactly(rig: Rig, cut: int) -> None:
    service = await rig.start(NormalizerService)
    await until_folded(rig, service, await print_trades(rig, 0, cut))
    await rig.stop(service)
    end = await print_trades(rig, cut, TOTAL)
    again = await rig.start(NormalizerService)
    await until_folded(rig, again, end)
    assert again.stats()["snapshot_as_of"] == cut - 1
    assert told(await rig.said(BARS)) == await expected(rig)
    assert [envelope.data for envelope in await rig.said(TICKS)] == [tick(number)[1] for number in range(TOTAL)]


async def test_a_crash_without_a_snapshot_publishes_nothing_twice(rig: Rig) -> None:
    service = await rig.start(NormalizerService)
    await until_folded(rig, service, await print_trades(rig, 0, 200))
    await rig.stop(service)
    shutil.rmtree(rig.state / "snapshots")
    again = await rig.start(NormalizerService)
    await until_folded(rig, again, await print_trades(rig, 200, TOTAL))
    assert told(await rig.said(BARS)) == await expected(rig)


async def test_a_dropped_topic_is_made_again_as_it_was(rig: Rig) -> None:
    service = await rig.start(NormalizerService)
    await until_folded(rig, service, await print_trades(rig, 0, TOTAL))
    before = told(await rig.said(BARS))
    await rig.close()
    shutil.rmtree(rig.state / "bus" / BARS)
    fresh = make_rig(rig.state)
    try:
        again = await fresh.start(NormalizerService)
        await until_folded(fresh, again, TOTAL)
        assert told(await fresh.said(BARS)) == before
    finally:
        await fresh.close()


@pytest.mark.parametrize("topic", [TICKS, BARS])
@pytest.mark.parametrize("written", [False, True])
async def test_an_append_that_failed_loses_and_doubles_nothing(rig: Rig, topic: str, written: bool) -> None:
    service = await rig.start(NormalizerService)
    await until_folded(rig, service, await print_trades(rig, 0, 100))
    rig.bus.fail_next(topic, BusUncertain("lost its answer") if written else BusFull("no room"), written=written)
    await until_folded(rig, service, await print_trades(rig, 100, TOTAL))
    assert told(await rig.said(BARS)) == await expected(rig)
    assert [envelope.data for envelope in await rig.said(TICKS)] == [tick(number)[1] for number in range(TOTAL)]
    assert service.health()[topic].ok


async def test_a_page_follows_the_one_before_and_a_restart_changes_no_answer(rig: Rig) -> None:
    service = await rig.start(NormalizerService)
    await until_folded(rig, service, await print_trades(rig, 0, TOTAL))
    path = "/bars/SIM/BTCUSDT/1s"
    _, whole = await rig.ask(service, "GET", f"{path}?limit=1000")
    assert len(whole["bars"]) == 50
    for order in ("asc", "desc"):
        bars, cursor = [], ""
        while cursor is not None:
            target = f"{path}?limit=7&order={order}" + (f"&cursor={cursor}" if cursor else "")
            status, page = await rig.ask(service, "GET", target)
            assert status == 200
            bars += page["bars"]
            cursor = page["cursor"]
        assert bars == (whole["bars"] if order == "asc" else whole["bars"][::-1])
    assert (await rig.ask(service, "GET", "/bars/SIM/BTCUSDT.SIM/1s?limit=1000"))[1] == whole, "with its venue too"
    await rig.stop(service)
    again = await rig.start(NormalizerService)
    assert (await rig.ask(again, "GET", f"{path}?limit=1000"))[1] == whole


async def test_bars_between_two_times_come_as_json_and_as_csv(rig: Rig) -> None:
    service = await rig.start(NormalizerService)
    await until_folded(rig, service, await print_trades(rig, 0, TOTAL))
    query = f"from=2023-11-14T22:13:25Z&to={BEGIN + 8 * SECOND}"
    _, found = await rig.ask(service, "GET", f"/bars/sim/btcusdt/1s?{query}")
    assert [bar["time"][11:19] for bar in found["bars"]] == ["22:13:25", "22:13:26", "22:13:27"]
    _, text = await rig.ask(service, "GET", f"/bars/SIM/BTCUSDT/1s?{query}&format=csv")
    head, *lines = text.splitlines()
    assert head == "time,end,open,high,low,close,volume,value,trades,missing,shifted,uncertain"
    assert [line.split(",")[2] for line in lines] == [bar["open"] for bar in found["bars"]]


async def test_a_gap_is_told_and_the_bars_that_it_touches_are_uncertain(rig: Rig) -> None:
    service = await rig.start(NormalizerService)
    await until_folded(rig, service, await print_trades(rig, 0, TOTAL, lost=(100, 101)))
    _, answer = await rig.ask(service, "GET", "/gaps/SIM/BTCUSDT")
    (gap,) = answer["gaps"]
    assert (gap["first"], gap["last"], gap["reason"]) == (100, 101, "lost")
    _, found = await rig.ask(service, "GET", "/bars/SIM/BTCUSDT/1s?limit=1000")
    uncertain = [bar for bar in found["bars"] if bar["uncertain"]]
    assert 1 <= len(uncertain) <= 3
    assert all(bar["time"] <= gap["to"] and bar["end"] >= gap["from"] for bar in uncertain)
    _, quality = await rig.ask(service, "GET", "/quality")
    (line,) = quality["venues"][0]["instruments"]
    assert (line["received"], line["lost"], line["gaps"]) == (TOTAL - 2, 2, 1)


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        ("/bars/SIM/NONE/1s", 404, "unknown_symbol"),
        ("/bars/SIM/BTCUSDT/fast", 422, "bad_interval"),
        ("/bars/SIM/BTCUSDT/2s", 404, "unknown_interval"),
        ("/bars/SIM/BTCUSDT/1s?from=yesterday", 422, "bad_from"),
        ("/bars/SIM/BTCUSDT/1s?from=1700000000", 422, "bad_from"),
        (f"/bars/SIM/BTCUSDT/1s?from={BEGIN + SECOND}&to={BEGIN}", 422, "bad_to"),
        ("/bars/SIM/BTCUSDT/1s?order=newest", 422, "bad_order"),
        ("/bars/SIM/BTCUSDT/1s?limit=0", 422, "bad_limit"),
        ("/bars/SIM/BTCUSDT/1s?cursor=999999", 422, "bad_cursor"),
        ("/bars/SIM/BTCUSDT/1s?cursor=x", 422, "bad_cursor"),
        ("/bars/SIM/BTCUSDT/1s?format=xml", 422, "bad_format"),
    ],
)
async def test_a_question_that_makes_no_sense_is_answered_in_words(
    rig: Rig, target: str, status: int, code: str
) -> None:
    service = await rig.start(NormalizerService)
    found, problem = await rig.ask(service, "GET", target)
    assert (found, problem["code"]) == (status, code)
