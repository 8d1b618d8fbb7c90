"""Stores that take a connection and never answer, or a byte at a time: the sinks wait and say so, and nothing else waits.

Requests have no end of their own here, so that what waits for one would wait for ever.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from rig import SYMBOL, Rig
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
from trade2026.stores import object_lake, s3
from trade2026.stores.analytics import server
from trade2026.stores.analytics.port import AnalyticsUnavailable
from trade2026.stores.delta import DeltaLake
from trade2026.stores.lake import LakeError, Selection
from trade2026.stores.object_lake import ObjectLake
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


class Between:
    """Hands on what a client says to a store and what that answers, until a request that goes no further."""

    def __init__(self, objects: SeaweedFs) -> None:
        self.requests = 0
        self.last = 0
        """The number of the request that is held, like those after it; 0 for none."""
        self.held, self.may_go_on = asyncio.Event(), asyncio.Event()
        self._store = objects.address.split(":")
        self._connections: list[asyncio.Task[Any]] = []

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """On that port."""
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as server:
            yield server.sockets[0].getsockname()[1]
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.append(cast("asyncio.Task[Any]", asyncio.current_task()))
        theirs, ours = await asyncio.open_connection(*self._store)
        await asyncio.gather(self._hand_on(reader, ours, asked=True), self._hand_on(theirs, writer, asked=False))

    async def _hand_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, asked: bool) -> None:
        with contextlib.suppress(OSError):
            while said := await reader.read(65_536):
                if asked and said.startswith((b"GET ", b"HEAD ", b"PUT ", b"POST ")):
                    self.requests += 1
                    if self.requests == self.last:
                        self.held.set()
                    if 0 < self.last <= self.requests:
                        await self.may_go_on.wait()
                writer.write(said)
                await writer.drain()
        writer.close()


def lake_at(port: int, root: str, retention_hours: int = 24) -> ObjectLake:
    """As a process has it that was started with so many hours."""
    settings = S3Settings(url=f"s3://lake/{root}", endpoint=f"http://127.0.0.1:{port}")
    keys = dict(zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), S3_KEYS, strict=True))
    return ObjectLake(settings.url, settings.options(keys), names=[TABLE.name], retention_hours=retention_hours)


def fill(lake: DeltaLake) -> None:
    rows = [(16_000, SYMBOL, n, 0, n, n, str(n), 1, 1, "BUY", n, n, n) for n in range(3)]
    names = [column.name for column in TABLE.columns]
    lake.append(TABLE, dict(zip(names, zip(*rows, strict=True), strict=True)), {"market.ticks/0": 3})


QUESTIONS: dict[str, Callable[[DeltaLake], Any]] = {
    "read": lambda lake: lake.read(TABLE, Selection()).rows,
    "history": lambda lake: lake.history(TABLE.name, 10),
    "other properties": lambda lake: lake.offsets(TABLE.name, ["market.ticks/0"]),
}


@pytest.mark.parametrize("question", QUESTIONS)
async def test_threads_go_on_while_a_store_of_objects_hangs_in_the_middle_of_an_answer(
    seaweedfs: SeaweedFs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, question: str
) -> None:
    monkeypatch.setattr(s3, "REQUEST_SECONDS_MAX", 20)
    between, ask, root = Between(seaweedfs), QUESTIONS[question], tmp_path.name
    async with between.listening() as port:
        await asyncio.to_thread(fill, lake_at(port, root))
        before = between.requests
        await asyncio.to_thread(ask, lake_at(port, root, 48))
        between.last = 2 * between.requests - before  # of the next time
        answer = asyncio.create_task(asyncio.to_thread(ask, lake_at(port, root, 72)))
        async with asyncio.timeout(PATIENT_SECONDS):
            await between.held.wait()
        assert not answer.done(), "nobody ran while it waited"
        between.may_go_on.set()
        assert await answer, "and then it is answered"


async def test_what_a_store_of_objects_does_not_answer_in_time_is_given_up(
    objects: SeaweedFs, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = lake_at(objects.port, "desk")
    await asyncio.to_thread(fill, lake)
    monkeypatch.setattr(object_lake, "ANSWER_SECONDS_MAX", 0.5)
    objects.pause()
    with pytest.raises(LakeError, match="has not answered"):
        await asyncio.to_thread(lake.read, TABLE, Selection())
    objects.go_on()
    monkeypatch.setattr(object_lake, "ANSWER_SECONDS_MAX", PATIENT_SECONDS)
    assert (await asyncio.to_thread(lake.read, TABLE, Selection())).rows


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
