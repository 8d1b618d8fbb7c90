"""Alternative data in the analytics store, embedded and on a server: each record by its key once, also when it was down."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rig import Rig
from test_sink_alt import MOOD, ids, ns, post, record
from tests.infra import started as running

from trade2026.local.infra.clickhouse import ClickHouse
from trade2026.local.infra.component import Component
from trade2026.sink_alt.analytics import RECORDS_TABLE
from trade2026.sink_alt.service import SinkAltService
from trade2026.stores.analytics.server import open_server


def configure(rig: Rig, store: dict[str, Any]) -> None:
    rig.settings = msgspec.structs.replace(
        rig.settings, config={"sink-alt": {"batch_seconds": 0.05}}, stores={"analytics": store}
    )


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    found = Rig(tmp_path, "data")
    yield found
    await found.close()


async def started(rig: Rig) -> Any:
    service = await rig.start(SinkAltService)
    assert (await rig.ask(service, "POST", "/sources", MOOD))[0] == 200
    return service


async def sql(rig: Rig, service: Any, query: str, **more: Any) -> Any:
    seq = service.machine.next_seq - 1
    status, answer = await rig.ask(service, "POST", f"/sql?seq={seq}", {"query": query, **more})
    assert status == 200, answer
    return answer["rows"]


async def join(rig: Rig, service: Any, store: str, *asked: tuple[str, int]) -> list[Any]:
    rows = [{"symbol": symbol, "time": ns(second)} for symbol, second in asked]
    seq = service.machine.next_seq - 1
    status, answer = await rig.ask(service, "POST", f"/sources/mood/join?seq={seq}", {"rows": rows, "store": store})
    assert status == 200, answer
    return [row["record"] for row in answer["rows"]]


async def test_the_embedded_store_answers_sql_and_joins_as_the_lake_does(rig: Rig) -> None:
    configure(rig, {"type": "embedded"})
    service = await started(rig)
    await post(
        rig,
        service,
        record("late", event=10, known=50, symbol="BTC"),
        record("early", 0.25, event=20, known=20, symbol="BTC"),
        record("same moment, later event", event=30, known=20, symbol="BTC"),
        record("of none", event=20, known=20),
        record("wrong", "high"),
    )
    asked = [("BTC", 19), ("BTC", 20), ("BTC", 49), ("BTC", 50), ("", 20), ("DOGE", 99)]
    from_analytics = await join(rig, service, "analytics", *asked)
    assert ids([each for each in from_analytics if each]) == ["same moment, later event"] * 2 + ["late", "of none"]
    assert from_analytics == await join(rig, service, "lake", *asked)
    rows = await sql(
        rig, service, "SELECT symbol, avg(JSONExtractFloat(data, 'score')) FROM records GROUP BY symbol ORDER BY symbol"
    )
    assert [row[0] for row in rows] == ["", "BTC"] and rows[1][1] == pytest.approx(1.25 / 3)
    status, answer = await rig.ask(service, "POST", "/sql", {"query": "DROP TABLE records"})
    assert (status, answer["code"]) == (422, "query_refused")
    await rig.stop(service)
    again = await rig.start(SinkAltService)
    assert await sql(rig, again, "SELECT count() FROM records FINAL") == [[4]]


async def test_a_server_gets_every_record_once_also_after_it_was_killed(rig: Rig, tmp_path: Path) -> None:
    server = running(ClickHouse(tmp_path / "clickhouse"))
    try:
        configure(rig, {"type": "clickhouse", "url": f"clickhouse://{server.address}"})
        service = await started(rig)
        await post(rig, service, *(record(str(n), known=n) for n in range(10)))
        await rig.until(lambda: service.sinks["analytics"].stored_to == 11, "they are stored")
        server.kill()
        await post(rig, service, *(record(str(n), known=n) for n in range(10, 30)))

        async def told() -> bool:
            _, answer = await rig.ask(service, "GET", "/health")
            return server.address in answer["checks"]["analytics"].get("detail", "")

        await rig.until(told, "health names the server")
        assert (await rig.ask(service, "GET", "/readyz"))[0] == 200
        assert ids((await rig.ask(service, "GET", "/sources/mood/records?seq=30"))[1]["records"]) == [
            str(n) for n in range(30)
        ]
        status, answer = await rig.ask(service, "POST", "/sql", {"query": "SELECT 1"})
        assert (status, answer["code"]) == (503, "analytics_unavailable")
        server.start()
        await rig.until(lambda: service.sinks["analytics"].stored_to == 31, "the rest is stored")
        assert await sql(rig, service, "SELECT count(), uniqExact(record_id) FROM records FINAL") == [[30, 30]]
    finally:
        server.stop()


async def test_rows_whose_position_was_lost_are_written_again_and_are_there_once(
    rig: Rig, clickhouse: Component
) -> None:
    configure(rig, {"type": "clickhouse", "url": f"clickhouse://{clickhouse.address}", "database": "once"})
    service = await started(rig)
    append, failures = service.analytics.append, [True, False]

    def failing(spec: Any, columns: Any, offsets: Any) -> None:
        if failures and failures.pop(0):
            append(spec, columns, {})  # the rows are there, their position is not
            raise OSError("the connection was lost")
        append(spec, columns, offsets)

    service.analytics.append = failing
    await post(rig, service, *(record(str(n), known=n) for n in range(5)))
    await rig.until(lambda: not failures, "they are written again")
    await post(rig, service, *(record(str(n), known=n) for n in range(5, 8)))
    await rig.until(lambda: service.sinks["analytics"].stored_to == 9, "they are stored")
    store = open_server(f"clickhouse://{clickhouse.address}", database="once")
    assert store.count(RECORDS_TABLE) == 8
    store.close()


async def test_an_old_server_says_that_it_can_t_join(rig: Rig, clickhouse: Component) -> None:
    configure(rig, {"type": "clickhouse", "url": f"clickhouse://{clickhouse.address}", "database": "old"})
    service = await started(rig)
    body = {"rows": [{"time": ns(1)}], "store": "analytics"}
    status, answer = await rig.ask(service, "POST", "/sources/mood/join", body)
    assert (status, answer["code"]) == (422, "query_refused") and "or the lake" in answer["detail"]


@pytest.mark.parametrize(
    ("target", "body", "status", "code"),
    [
        ("/sql", {"query": "SELECT 1"}, 404, "no_analytics"),
        ("/sql", {"query": "SELECT 1", "limit": 0}, 422, "bad_limit"),
        ("/sources/mood/join", {"rows": [{"time": 0}], "store": "analytics"}, 404, "no_analytics"),
        ("/sources/mood/join", {"rows": [{"time": 0}], "store": "cellar"}, 422, "bad_store"),
    ],
)
async def test_a_stack_without_analytics_says_so(rig: Rig, target: str, body: Any, status: int, code: str) -> None:
    service = await started(rig)
    answered, answer = await rig.ask(service, "POST", target, body)
    assert (answered, answer["code"]) == (status, code)
