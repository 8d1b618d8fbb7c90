"""The time-series writer on a real log and a real store: what is there, when, and after what."""

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from rig import SYMBOL, Rig, accepted, filled
from tests.child import Child
from tests.questdb import emptied, on_questdb

from trade2026.domain import events as ev
from trade2026.domain.events import Envelope, encode
from trade2026.domain.market import Bar, Book, Level, Trade
from trade2026.domain.numbers import COST_SCALE, SCALE
from trade2026.kit.bus.sqlite import SqliteBus
from trade2026.questdb_writer.service import QuestDbWriterService
from trade2026.stores.timeseries.duckdb_store import DuckDbStore
from trade2026.stores.timeseries.port import StoreUnavailable

SECONDS_MAX = 60.0
EPOCH = 1_385_337_600 * SCALE
DAY_NS = 86_400 * 10**9


@pytest_asyncio.fixture
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path, "data")
    if getattr(request, "param", "embedded") == "questdb":
        made.settings = on_questdb(made.settings, emptied(request.getfixturevalue("questdb")))
    yield made
    await made.close()


on_each_store = pytest.mark.parametrize("rig", ["embedded", "questdb"], indirect=True)


def trade(number: int, price: str = "800") -> Trade:
    return Trade(SYMBOL, str(number), int(price) * SCALE, SCALE, "BUY", number, EPOCH, EPOCH)


async def execute(rig: Rig, service: Any, query: str, **parameters: str) -> tuple[int, Any]:
    target = f"/exec?query={quote(query)}" + "".join(f"&{name}={value}" for name, value in parameters.items())
    return await rig.ask(service, "GET", target, port="questdb")


async def rows(rig: Rig, service: Any, query: str) -> list[list[Any]]:
    """What a query has once everything is written that was said."""
    status, _ = await rig.ask(service, "POST", "/flush")
    assert status == 200
    status, body = await execute(rig, service, query)
    assert status == 200, body
    return body["dataset"]


async def caught_up(rig: Rig, service: Any, said: dict[str, int]) -> None:
    """Wait until every record was read."""
    followers = service._followers
    await rig.until(lambda: all(followers[topic, 0].next_seq >= end for topic, end in said.items()), "all is read")


# ── what is written ─────────────────────────────────────────────────────────────────────────────────


@on_each_store
async def test_every_event_is_a_row_of_its_table(rig: Rig) -> None:
    opens = rig.clock.now() // DAY_NS * DAY_NS  # what is older than the table keeps would be dropped soon
    ends = {
        "market.ticks": await rig.say("market.ticks", trade(1), trade(2, "801")),
        "market.books": await rig.say("market.books", Book(SYMBOL, [Level(799 * SCALE, SCALE)], [])),
        "market.bars": await rig.say(
            "market.bars", Bar(SYMBOL, "1m", opens, opens + 60, *[800 * SCALE] * 4, SCALE, 800 * COST_SCALE, 2)
        ),
        "orders.events": await rig.say("orders.events", accepted("o1"), filled(1, "0.5", "100")),
        "positions": await rig.say(
            "positions",
            ev.PositionChanged(
                account="main", instrument=SYMBOL, quantity=SCALE, open_cost=100 * COST_SCALE, realized=0, fees=0,
                order_id="o1", exec_id="SIM-1", as_of=1,
            ),
        ),
        "pnl": await rig.say(
            "pnl",
            ev.PnlRealized(
                account="main", instrument=SYMBOL, currency="USDT", realized=3 * COST_SCALE // 2, fee=0,
                total_realized=COST_SCALE, total_fees=0, order_id="o1", exec_id="SIM-1", as_of=1,
            ),
        ),
        "risk.events": await rig.say(
            "risk.events",
            ev.AlertRaised(alert_id="a1", severity="warning", scope="stack", message="drawdown"),
            ev.Killed(scope="stack", reason="drill", by="ann"),
        ),
    }  # fmt: skip
    service = await rig.start(QuestDbWriterService)
    await caught_up(rig, service, ends)
    assert await rows(rig, service, "SELECT trade_id, side, price, quantity FROM ticks ORDER BY seq") == [
        ["1", "BUY", 800, 1],
        ["2", "BUY", 801, 1],
    ]
    assert await rows(rig, service, "SELECT bid, ask FROM quotes") == [[799, None]]
    assert await rows(rig, service, "SELECT timestamp, interval, close, value, trades FROM bars") == [
        [f"{datetime.fromtimestamp(opens // 10**9, UTC):%Y-%m-%d}T00:00:00.000000Z", "1m", 800, 800, 2]
    ]
    assert await rows(rig, service, "SELECT order_id, status, cum_qty, avg_px FROM orders") == [
        ["o1", "Filled", 0.5, 100]
    ]
    assert await rows(rig, service, "SELECT exec_id, quantity, price FROM fills") == [["SIM-1", 0.5, 100]]
    assert await rows(rig, service, "SELECT quantity, open_cost FROM positions") == [[1, 100]]
    assert await rows(rig, service, "SELECT realized, total_realized FROM pnl") == [[1.5, 1]]
    assert await rows(rig, service, "SELECT type, scope, principal FROM risk_events ORDER BY seq") == [
        ["AlertRaised", "stack", "local"],
        ["Killed", "stack", "ann"],
    ]


@on_each_store
async def test_an_order_is_one_row_as_it_is_now_also_over_restarts_and_late_executions(rig: Rig) -> None:
    end = await rig.say("orders.events", accepted("o1", quantity="2"), accepted("o2"))
    service = await rig.start(QuestDbWriterService)
    query = "SELECT order_id, status, cum_qty, leaves_qty FROM orders ORDER BY order_id"
    await caught_up(rig, service, {"orders.events": end})
    assert await rows(rig, service, query) == [["o1", "PendingNew", 0, 2], ["o2", "PendingNew", 0, 1]]
    await rig.stop(service)
    end = await rig.say(
        "orders.events",
        ev.OrderOpened(order_id="o1"),
        ev.CancelRequested(order_id="o1"),
        ev.OrderCanceled(order_id="o2", reason="user"),
    )
    service = await rig.start(QuestDbWriterService)
    await caught_up(rig, service, {"orders.events": end})
    assert await rows(rig, service, query) == [["o1", "PendingCancel", 0, 2], ["o2", "Canceled", 0, 0]]
    await rig.stop(service)
    service = await rig.start(QuestDbWriterService)
    end = await rig.say("orders.events", ev.CancelRejected(order_id="o1", reason="late"), filled(2, "1", "99"))
    await caught_up(rig, service, {"orders.events": end})
    assert await rows(rig, service, query) == [["o1", "New", 0, 2], ["o2", "Canceled", 1, 0]]
    assert await rows(rig, service, "SELECT count() FROM orders") == [[2]]


@on_each_store
async def test_the_first_order_is_counted_without_a_flush(rig: Rig) -> None:
    service = await rig.start(QuestDbWriterService)
    status, body = await execute(rig, service, "SELECT COUNT(*) FROM orders")
    assert (status, body["dataset"]) == (200, [[0]])
    await rig.say("orders.events", accepted("o1"))

    async def counted() -> bool:
        _, body = await execute(rig, service, "SELECT COUNT(*) FROM orders")
        return body["dataset"] == [[1]]

    await rig.until(counted, "the order is counted")
    assert service.config.batch_seconds < 0.8, "a row is visible within a second"


@on_each_store
async def test_rows_that_do_not_fit_are_put_aside_and_the_rest_is_written(rig: Rig, tmp_path: Path) -> None:
    service = await rig.start(QuestDbWriterService)
    huge = ev.PositionChanged(
        account="main", instrument=SYMBOL, quantity=2**80, open_cost=0, realized=0, fees=0, order_id="o1",
        exec_id="SIM-1", as_of=1,
    )  # fmt: skip
    end = await rig.say(
        "positions", huge, ev.PositionChanged(**{**_fields(huge), "quantity": SCALE, "exec_id": "SIM-2"})
    )
    await caught_up(rig, service, {"positions": end})
    assert await rows(rig, service, "SELECT exec_id FROM positions") == [["SIM-2"]]
    [letter] = [json.loads(line) for line in (tmp_path / "timeseries" / "dead-letters.jsonl").read_text().splitlines()]
    assert letter["table"] == "positions" and letter["row"]["exec_id"] == "SIM-1" and "quantity" in letter["reason"]
    status, health = await rig.ask(service, "GET", "/health")
    assert status == 503 and "1 rows don't fit" in health["checks"]["dead_letters"]["detail"]


def _fields(event: Any) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__struct_fields__}


# ── what clients write and ask ──────────────────────────────────────────────────────────────────────


@on_each_store
async def test_clients_write_rows_that_are_durable_when_they_are_answered(rig: Rig) -> None:
    service = await rig.start(QuestDbWriterService)
    row = {"timestamp": "2013-11-25T10:00:00Z", "name": "var", "value": 1.5, "account": "main"}
    assert await rig.ask(service, "POST", "/write", {"table": "metrics", "row": row}) == (200, {"written": 1})
    later = [{**row, "timestamp": "2013-11-25T11:00:00Z"}, row]
    assert await rig.ask(service, "POST", "/write/batch", {"table": "metrics", "rows": later}) == (200, {"written": 2})
    status, body = await rig.ask(service, "GET", "/query/metrics?account=main&order=desc&since=2013-11-25T10:30:00Z")
    assert status == 200 and [row["timestamp"] for row in body["rows"]] == ["2013-11-25T11:00:00.000000Z"]
    status, body = await rig.ask(service, "GET", "/query/metrics?limit=1")
    assert body["rows"][0]["value"] == 1.5 and body["more"] is True
    status, body = await rig.ask(service, "GET", "/tables")
    assert status == 200, body
    [metrics] = [table for table in body["tables"] if table["name"] == "metrics"]
    assert metrics["rows"] == 2 and metrics["first"] == "2013-11-25T10:00:00.000000Z"


@pytest.mark.parametrize(
    ("table", "row", "status", "code"),
    [
        ("trades", {}, 404, "unknown_table"),
        ("metrics", {"value": 1, "colour": "red"}, 422, "unknown_column"),
        ("metrics", {"value": "much"}, 422, "bad_value"),
        ("metrics", {"timestamp": "2013-11-25T10:00:00"}, 422, "bad_value"),
        ("metrics", {"timestamp": None}, 422, "bad_row"),
        ("metrics", {"name": 5}, 422, "bad_row"),
        ("ticks", {"price": "1e40"}, 422, "bad_value"),
    ],
)
async def test_a_row_that_does_not_fit_is_refused(rig: Rig, table: str, row: Any, status: int, code: str) -> None:
    service = await rig.start(QuestDbWriterService)
    found, body = await rig.ask(service, "POST", "/write", {"table": table, "row": row})
    assert (found, body["code"]) == (status, code)


@on_each_store
async def test_answers_have_the_shape_of_questdb(rig: Rig) -> None:
    service = await rig.start(QuestDbWriterService)
    await caught_up(rig, service, {"market.ticks": await rig.say("market.ticks", *map(trade, range(10)))})
    await rig.ask(service, "POST", "/flush")
    query = "SELECT venue_seq FROM ticks ORDER BY venue_seq"
    columns = [{"name": "venue_seq", "type": "LONG"}]
    status, body = await execute(rig, service, query, limit="2,4")
    assert (status, body) == (
        200,
        {"query": query, "columns": columns, "timestamp": -1, "dataset": [[1], [2], [3]], "count": 4},
    )
    _, body = await execute(rig, service, query, limit="2", nm="true", count="true", quoteLargeNum="true")
    assert body == {"dataset": [["0"], ["1"]], "count": 10}
    _, body = await execute(rig, service, "SELECT * FROM ticks", cols="price,timestamp", timings="true", explain="true")
    assert body["timestamp"] == 1 and body["timings"].keys() == {"authentication", "compiler", "execute", "count"}
    assert body["explain"] == {"jitCompiled": False} and len(body["dataset"][0]) == 2
    status, body = await execute(rig, service, "SELECT nosuch FROM ticks")
    assert (status, body) == (
        400,
        {"query": "SELECT nosuch FROM ticks", "error": "Invalid column: nosuch", "position": 7},
    )
    assert (await execute(rig, service, ""))[1] == {"query": "", "error": "empty query", "position": 0}
    too_many = "SELECT * FROM " + ("long_sequence" if rig.settings.stores else "range") + "(200000)"
    assert (await execute(rig, service, too_many))[0] == 400
    assert (await execute(rig, service, "DROP TABLE ticks"))[0] == 400
    status, text = await rig.ask(
        service, "GET", f"/exp?query={quote('SELECT side, price, ts_source AS at FROM ticks LIMIT 1')}", port="questdb"
    )
    assert text == '"side","price","at"\r\n"BUY",800.0,"2013-11-25T00:00:00.000000Z"\r\n'


async def test_too_many_queries_are_told_to_come_again(rig: Rig) -> None:
    service = await rig.start(QuestDbWriterService)
    service._asked = 1_000
    status, body = await execute(rig, service, "SELECT 1")
    assert (status, body["code"]) == (429, "overloaded")


# ── what goes wrong ─────────────────────────────────────────────────────────────────────────────────


async def test_a_store_that_cannot_be_written_is_told_and_tried_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await rig.start(QuestDbWriterService)
    real, failing = DuckDbStore.write, True

    def write(self: DuckDbStore, batch: Any) -> None:
        if failing:
            raise StoreUnavailable("no room")
        real(self, batch)

    monkeypatch.setattr(DuckDbStore, "write", write)
    await rig.say("market.ticks", trade(1))
    await rig.until(lambda: not service.health()["store"].ok, "it is told")
    assert "no room" in service.health()["store"].detail
    failing = False
    await rig.until(lambda: service.health()["store"].ok, "it is well again")
    assert await rows(rig, service, "SELECT count() FROM ticks") == [[1]]


async def test_the_log_is_not_read_on_while_nothing_can_be_written(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    import msgspec

    rig.settings = msgspec.structs.replace(rig.settings, config={"questdb_writer": {"batch_rows": 100}})
    service = await rig.start(QuestDbWriterService)
    failing, real = True, DuckDbStore.write

    def write(self: DuckDbStore, batch: Any) -> None:
        if failing:
            raise StoreUnavailable("no room")
        real(self, batch)

    monkeypatch.setattr(DuckDbStore, "write", write)
    for first in range(0, 5_000, 250):
        await rig.say("market.ticks", *map(trade, range(first, first + 250)))
    await rig.until(lambda: service.writing.full, "it is full")
    status, body = await rig.ask(service, "POST", "/write", {"table": "metrics", "row": {"name": "a"}})
    assert (status, body["code"]) == (429, "overloaded")
    assert service.writing.collector.size < 1_500
    failing = False
    await caught_up(rig, service, {"market.ticks": 5_000})
    assert await rows(rig, service, "SELECT count(), count(DISTINCT seq) FROM ticks") == [[5_000, 5_000]]


@pytest.mark.parametrize("harm", ["deleted", "overwritten"])
async def test_a_store_that_is_lost_is_made_again_from_the_log(rig: Rig, tmp_path: Path, harm: str) -> None:
    service = await rig.start(QuestDbWriterService)
    end = await rig.say("market.ticks", *map(trade, range(20)))
    await caught_up(rig, service, {"market.ticks": end})
    await rig.ask(service, "POST", "/flush")
    path = tmp_path / "timeseries" / "series.duckdb"
    if harm == "deleted":
        path.unlink()
    else:
        await rig.stop(service)
        path.write_bytes(b"not a database " * 1_000)
        service = await rig.start(QuestDbWriterService)
    await rig.say("market.ticks", trade(20))

    async def complete() -> bool:
        _, body = await execute(rig, service, "SELECT count(), count(DISTINCT seq) FROM ticks")
        return body.get("dataset") == [[21, 21]]

    await rig.until(complete, "all is there again")
    assert service.readiness() == (True, "ready")
    assert "is made again from the log" in service.health()["store"].detail


async def test_a_store_that_is_ahead_of_the_log_is_put_aside(rig: Rig, tmp_path: Path) -> None:
    service = await rig.start(QuestDbWriterService)
    end = await rig.say("orders.events", accepted("o1"), accepted("o2"))
    await caught_up(rig, service, {"orders.events": end})
    await rig.close()
    (tmp_path / "bus").rename(tmp_path / "lost")
    again = Rig(tmp_path, "data")
    await again.say("orders.events", accepted("o1"))
    try:
        service = await again.start(QuestDbWriterService)
        assert await rows(again, service, "SELECT count() FROM orders") == [[1]]
        assert "made again" in service.health()["store"].detail
    finally:
        await again.close()


# ── kill -9 ─────────────────────────────────────────────────────────────────────────────────────────

CHILD = Path(__file__).parent / "writer_child.py"
KILLS = int(os.environ.get("SINK_KILLS", "10"))
TICKS_PER_LIFE = 600
ORDERS_PER_LIFE = 40


@pytest.mark.timeout(600)
@on_each_store
async def test_kill_9_in_the_middle_of_batches_loses_and_doubles_nothing(rig: Rig, tmp_path: Path) -> None:
    settings = rig.settings
    child, rng = Child(CHILD, tmp_path, *(store["url"] for store in settings.stores.values())), random.Random(7)
    bus = SqliteBus(tmp_path / "bus", settings.topics)
    market, orders = await bus.claim("market.ticks", 0, "test"), await bus.claim("orders.events", 0, "test")
    ticks = taken = 0

    def bodies(events: list[Any], first: int) -> list[bytes]:
        return [
            encode(Envelope(seq, 1, EPOCH + seq, EPOCH + seq, "test", "local", "", "", "", event))
            for seq, event in enumerate(events, first)
        ]

    try:
        for _ in range(KILLS):
            await child.start()
            for _ in range(TICKS_PER_LIFE // 50):
                await market.append(bodies([trade(ticks + n) for n in range(50)], ticks))
                ticks += 50
                names = [f"o{taken + n}" for n in range(ORDERS_PER_LIFE * 50 // TICKS_PER_LIFE)]
                await orders.append(bodies([accepted(name) for name in names], taken))
                taken += len(names)
                await asyncio.sleep(rng.random() * 0.03)
            child.kill()
    finally:
        child.kill()
        await bus.close()
    service = await rig.start(QuestDbWriterService)
    count = "SELECT count(), count_distinct(seq), min(seq), max(seq) FROM ticks"
    assert await rows(rig, service, count) == [[ticks, ticks, 0, ticks - 1]]
    count = "SELECT count(), count_distinct(order_id) FROM orders WHERE status = 'PendingNew'"
    assert await rows(rig, service, count) == [[taken, taken]]
    assert len(service.writing.collector.machine.folds[0].open) == taken
