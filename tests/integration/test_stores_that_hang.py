"""Stores that take a connection and never answer, or a byte at a time: the sinks wait and say so, and nothing else waits.

Requests have no end of their own here, so that what waits for one would wait for ever.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rig import Rig
from test_sink_alt import MOOD, post, record
from test_sink_ticks_s3 import TICKS, stored, trades
from tests.infra import S3_KEYS, started

from trade2026.local.infra.clickhouse import ClickHouse
from trade2026.local.infra.component import Component
from trade2026.local.infra.seaweedfs import SeaweedFs
from trade2026.sink_alt.service import SinkAltService
from trade2026.sink_ticks.service import SinkTicksService
from trade2026.sink_ticks.tables import TICKS as TABLE
from trade2026.sinks import topic
from trade2026.stores import s3
from trade2026.stores.analytics import server
from trade2026.stores.analytics.port import AnalyticsUnavailable
from trade2026.stores.delta import DeltaLake
from trade2026.stores.lake import LakeError, Selection
from trade2026.stores.s3 import S3Settings

NEVER_SECONDS = 600
STOP_SECONDS_MAX = 60.0
PATIENT_SECONDS = 60.0


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """We are soon to say that a store hangs; its clients alone would wait for ever."""
    for name in ("_SLOW_SECONDS", "ANSWER_SECONDS_MAX", "_STOP_SECONDS_MAX"):
        monkeypatch.setattr(topic, name, 1.0)
    monkeypatch.setattr(s3, "REQUEST_SECONDS_MAX", NEVER_SECONDS)
    monkeypatch.setattr(server, "_SILENT_SECONDS", NEVER_SECONDS)


@contextlib.contextmanager
def running(component: Component) -> Iterator[Any]:
    """One that is harmed, and not left hanging."""
    found = started(component)
    try:
        yield found
    finally:
        found.kill()


@pytest.fixture
def objects(tmp_path: Path) -> Iterator[SeaweedFs]:
    with running(SeaweedFs(tmp_path / "seaweedfs", keys=S3_KEYS)) as found:
        yield found


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    found = Rig(tmp_path / "state", "data")
    yield found
    await found.close()


def in_objects(rig: Rig, objects: SeaweedFs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the rig's lake be there."""
    for name, value in zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), S3_KEYS, strict=True):
        monkeypatch.setenv(name, value)
    lake = {"type": "s3", "url": f"s3://{objects.bucket}/desk", "endpoint": f"http://{objects.address}"}
    config = {"sink-ticks": {"batch_seconds": 0.05, "batch_rows": 50}}
    rig.settings = msgspec.structs.replace(rig.settings, stores={"lake": lake}, config=config)


async def ends(rig: Rig, service: Any) -> None:
    """The service stops, although its store hangs."""
    async with asyncio.timeout(STOP_SECONDS_MAX):
        await rig.stop(service)


async def test_a_lake_that_hangs_is_told_and_neither_answers_nor_the_end_wait_for_it(
    rig: Rig, objects: SeaweedFs, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_objects(rig, objects, monkeypatch)
    service = await rig.start(SinkTicksService)
    await rig.say(TICKS, *trades(0, 20))
    await rig.until(lambda: service.sinks["ticks"].stored_to == 20, "it is stored")
    objects.pause()
    await rig.say(TICKS, *trades(20, 20))
    await rig.until(lambda: "has not answered for" in service.health()[TICKS].detail, "health says so")
    assert not service.health()[TICKS].ok and service.readiness()[0]
    await rig.say(TICKS, *trades(40, 5))
    await rig.until(lambda: service.stats()["lag"] == 25, "how far it is behind is known all the same")
    for target in ("/query/ticks", "/catalog"):
        status, answer = await rig.ask(service, "GET", target)
        assert (status, answer["code"], answer["retry_after"]) == (503, "lake_unavailable", 5)
    monkeypatch.setattr(topic, "ANSWER_SECONDS_MAX", PATIENT_SECONDS)
    objects.go_on()
    await rig.until(lambda: service.sinks["ticks"].stored_to == 45, "it goes on by itself")
    await rig.until(lambda: service.health()[TICKS].ok, "it is well")
    assert await stored(rig, service) == [trade.trade_id for trade in trades(0, 45)]

    objects.pause()
    await rig.say(TICKS, *trades(45, 5))
    await rig.until(lambda: "has not answered for" in service.health()[TICKS].detail, "health says so")
    await ends(rig, service)
    monkeypatch.setattr(topic, "_START_SECONDS_MAX", 0.5)
    again = await rig.start(SinkTicksService)  # it starts, and finds the table later
    objects.go_on()
    await rig.until(lambda: again.sinks["ticks"].stored_to == 50, "it goes on by itself")
    assert await stored(rig, again) == [trade.trade_id for trade in trades(0, 50)]


async def test_an_analytics_server_that_hangs_holds_up_neither_the_lake_nor_records_nor_the_end(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(ClickHouse(tmp_path / "clickhouse")) as clickhouse:
        stores = {"analytics": {"type": "clickhouse", "url": f"clickhouse://{clickhouse.address}"}}
        rig.settings = msgspec.structs.replace(
            rig.settings, config={"sink-alt": {"batch_seconds": 0.05}}, stores=stores
        )
        service = await rig.start(SinkAltService)
        assert (await rig.ask(service, "POST", "/sources", MOOD))[0] == 200
        await post(rig, service, *(record(str(n), known=n) for n in range(10)))
        await rig.until(lambda: service.sinks["analytics"].stored_to == 11, "they are stored")

        async def hangs() -> bool:
            _, answer = await rig.ask(service, "GET", "/health")
            return "has not answered for" in answer["checks"]["analytics"].get("detail", "")

        clickhouse.pause()
        await post(rig, service, *(record(str(n), known=n) for n in range(10, 30)))
        await rig.until(hangs, "health says so")
        await rig.until(lambda: service.sinks["lake"].stored_to == 31, "the lake goes on")
        status, answer = await rig.ask(service, "POST", "/sql", {"query": "SELECT 1"})
        assert (status, answer["code"]) == (503, "analytics_unavailable")
        assert len((await rig.ask(service, "GET", "/sources/mood/records?seq=30"))[1]["records"]) == 30
        monkeypatch.setattr(topic, "ANSWER_SECONDS_MAX", PATIENT_SECONDS)
        clickhouse.go_on()
        await rig.until(lambda: service.sinks["analytics"].stored_to == 31, "it goes on by itself")
        query = {"query": "SELECT count(), uniqExact(record_id) FROM records FINAL"}
        assert (await rig.ask(service, "POST", "/sql", query))[1]["rows"] == [[30, 30]]
        clickhouse.pause()
        await post(rig, service, record("last", known=99))
        await rig.until(hangs, "health says so")
        await ends(rig, service)


@contextlib.asynccontextmanager
async def drip(first: bytes) -> AsyncIterator[int]:
    """A port that answers each connection with that, and then with a byte now and then."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read(1)
            writer.write(first)
            while not writer.is_closing():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.1)

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()


async def test_an_analytics_server_that_says_a_byte_at_a_time_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_ANSWER_SECONDS", 0.5)
    async with drip(b"\x00\xff\xff\x03") as port:  # a greeting whose first text is long
        store = server.open_server(f"clickhouse://127.0.0.1:{port}", database="desk")
        with pytest.raises(AnalyticsUnavailable):
            async with asyncio.timeout(STOP_SECONDS_MAX):
                await asyncio.to_thread(store.offsets, ["alt/0"])
        store.close()


async def test_a_lake_that_says_a_byte_at_a_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "REQUEST_SECONDS_MAX", 1)
    monkeypatch.setattr(s3, "_RETRIES_MAX", 0)
    async with drip(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n") as port:
        options = S3Settings(url="s3://lake/desk", endpoint=f"http://127.0.0.1:{port}").options({})
        lake = DeltaLake("s3://lake/desk", options, names=[TABLE.name])
        with pytest.raises(LakeError):
            async with asyncio.timeout(STOP_SECONDS_MAX):
                await asyncio.to_thread(lake.read, TABLE, Selection())
