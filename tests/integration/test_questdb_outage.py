"""QuestDB away, killed under load, hanging: the writer waits, says so, and goes on by itself; each event is there once."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from rig import SYMBOL, Rig, accepted
from tests.infra import require
from tests.questdb import on_questdb

from trade2026.domain.market import Trade
from trade2026.domain.numbers import SCALE
from trade2026.local.infra.component import Component
from trade2026.local.infra.questdb import QuestDb
from trade2026.questdb_writer import writing
from trade2026.questdb_writer.service import QuestDbWriterService
from trade2026.stores.timeseries import questdb_http
from trade2026.stores.timeseries.questdb_http import QuestDbSettings

NEVER_SECONDS, STOP_SECONDS_MAX = 600, 60
EPOCH = 1_385_337_600 * SCALE


@pytest_asyncio.fixture
async def questdb_of_one(tmp_path: Path) -> AsyncIterator[Component]:
    """One that may be harmed; it does not run yet."""
    component = QuestDb(tmp_path / "questdb")
    require(component)
    yield component
    if component.pid is not None:
        component.go_on()
    await asyncio.to_thread(component.stop)


@pytest_asyncio.fixture
async def rig(questdb_of_one: Component, tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path, "data")
    made.settings = on_questdb(made.settings, QuestDbSettings(url=f"http://{questdb_of_one.address}"))
    yield made
    await made.close()


class Market:
    """Trades and orders without an end."""

    def __init__(self, rig: Rig) -> None:
        self.rig, self.said = rig, 0
        self._task = asyncio.create_task(self._trade())

    async def _trade(self) -> None:
        while True:
            trades = [Trade(SYMBOL, str(n), 800 * SCALE, SCALE, "BUY", n, EPOCH, EPOCH) for n in self._next(50)]
            await self.rig.say("market.ticks", *trades)
            await self.rig.say("orders.events", *(accepted(f"o{trade.venue_seq}") for trade in trades[:5]))
            await asyncio.sleep(0.1)

    def _next(self, count: int) -> range:
        self.said += count
        return range(self.said - count, self.said)

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@pytest.mark.timeout(600)
async def test_the_writer_waits_for_questdb_says_so_and_goes_on_by_itself(
    rig: Rig, questdb_of_one: Component, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_SLOW_SECONDS", 0.5)
    service = await rig.start(QuestDbWriterService)  # there is no QuestDB yet: it starts, and is not ready
    assert not service.readiness()[0] and "can't be reached" in service.health()["store"].detail
    assert not service.health()["store"].ok
    market = Market(rig)

    async def well() -> bool:
        status, _ = await rig.ask(service, "GET", "/health")
        return status == 200 and service.readiness()[0]

    async def more_is_written() -> None:
        written = service.writing.written
        goal = written.batches + 2
        await rig.until(lambda: written.batches >= goal, "more batches")

    await asyncio.to_thread(questdb_of_one.start)
    await rig.until(well, "it has begun by itself")
    await more_is_written()

    await asyncio.to_thread(questdb_of_one.kill)
    await rig.until(lambda: not service.health()["store"].ok, "it is told")
    assert "can't be reached" in service.health()["store"].detail
    assert service.readiness() == (True, "ready"), "it answers, although with 503"
    assert 'trade2026_timeseries_up{service="questdb_writer"} 0' in (await rig.ask(service, "GET", "/metrics"))[1]
    assert (await rig.ask(service, "GET", "/query/ticks"))[0] == 503
    assert (await rig.ask(service, "GET", "/exec?query=SELECT%201", port="questdb"))[0] == 503
    await asyncio.to_thread(questdb_of_one.start)
    await rig.until(well, "it goes on by itself")
    await more_is_written()

    questdb_of_one.pause()
    await rig.until(lambda: "has not answered for" in service.health()["store"].detail, "a hanging one is told")
    questdb_of_one.go_on()
    await rig.until(well, "it goes on by itself")
    await more_is_written()

    await market.close()
    assert (await rig.ask(service, "POST", "/flush"))[0] == 200
    await each_event_is_there_once(rig, service, market.said)

    monkeypatch.setattr(questdb_http, "SECONDS_MAX", NEVER_SECONDS)
    questdb_of_one.pause()
    await rig.say("orders.events", accepted("last"))
    await rig.until(lambda: "has not answered for" in service.health()["store"].detail, "a hanging one is told")
    async with asyncio.timeout(STOP_SECONDS_MAX):
        await rig.stop(service)


async def each_event_is_there_once(rig: Rig, service: Any, ticks: int) -> None:
    end, orders = await rig.bus.end("market.ticks", 0), await rig.bus.end("orders.events", 0)
    followers = service._followers
    await rig.until(
        lambda: followers["market.ticks", 0].next_seq == end and followers["orders.events", 0].next_seq == orders,
        "all is read",
    )
    assert (await rig.ask(service, "POST", "/flush"))[0] == 200
    counts = "SELECT count(), count_distinct(seq), min(seq), max(seq) FROM ticks"
    assert service.store.ask(counts, rows_max=1, seconds_max=60).rows == [(end, end, 0, end - 1)]
    counts = "SELECT count(), count_distinct(order_id) FROM orders"
    assert service.store.ask(counts, rows_max=1, seconds_max=60).rows == [(orders, orders)]
    assert end <= ticks and service.stats()["dead_letters"] == 0
