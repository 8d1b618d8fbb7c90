"""The lake's sink on a real log: what is in the topics is in the tables, once, and what is not is told."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rig import SYMBOL, Rig

from trade2026.domain.market import Book, Level, Trade
from trade2026.domain.numbers import SCALE
from trade2026.kit.bus.port import TopicConfig
from trade2026.sink_ticks.service import SinkTicksService
from trade2026.sink_ticks.tables import DAY_NS
from trade2026.stores.lake import LakeError

TICKS, BOOKS = "market.ticks", "market.books"
QUICK = {"batch_seconds": 0.05}


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    found = Rig(tmp_path, "data")
    configure(found)
    yield found
    await found.close()


def configure(rig: Rig, **config: Any) -> None:
    rig.settings = msgspec.structs.replace(rig.settings, config={"sink-ticks": QUICK | config})


def trade(number: int, symbol: str = SYMBOL) -> Trade:
    return Trade(symbol, f"t-{number}", 50_000 * SCALE + number, SCALE + number, "BUY", number, 5, 6)


async def stored(rig: Rig, service: Any, position: int, table: str = "ticks") -> None:
    await rig.until(lambda: service.sinks[table].stored_to >= position, f"{table} are stored to {position}")


async def trade_ids(rig: Rig, service: Any, query: str = "") -> list[str]:
    status, answer = await rig.ask(service, "GET", f"/query/ticks?limit=10000{query}")
    assert status == 200, answer
    return [row["trade_id"] for row in answer["rows"]]


def ids(*numbers: int) -> list[str]:
    return [f"t-{number}" for number in numbers]


async def test_trades_and_books_are_answered_as_they_were_published(rig: Rig) -> None:
    service = await rig.start(SinkTicksService)
    await rig.say(TICKS, trade(0), trade(1))
    await rig.say(BOOKS, Book(SYMBOL, [Level(2 * SCALE, 5)], [], 7), Book(SYMBOL, [], [Level(3 * SCALE, SCALE)], 8))
    await stored(rig, service, 2)
    await stored(rig, service, 2, "books")
    (envelope, _) = await rig.said(TICKS)
    _, answer = await rig.ask(service, "GET", "/query/ticks?symbol=BTCUSDT&limit=1")
    (row,) = answer["rows"]
    assert answer["more"]
    assert {key: row[key] for key in ("symbol", "trade_id", "price", "quantity", "aggressor", "ts_recv")} == {
        "symbol": SYMBOL, "trade_id": "t-0", "price": "50000", "quantity": "1", "aggressor": "BUY", "ts_recv": 5
    }  # fmt: skip
    assert (row["ts_event"], row["seq"], row["epoch"]) == (envelope.ts_event, 0, envelope.epoch)
    _, answer = await rig.ask(service, "GET", "/query/books")
    first, second = answer["rows"]
    assert (first["bid"], first["bid_quantity"], first["ask"], first["bids"]) == (
        "2", "0.000000005", None, [["2", "0.000000005"]]
    )  # fmt: skip
    assert (second["bid"], second["ask"], second["asks"]) == (None, "3", [["3", "1"]])
    _, text = await rig.ask(service, "GET", "/query/ticks?format=csv")
    assert [line.split(",")[7] for line in text.splitlines()] == ["trade_id", "t-0", "t-1"]


async def test_a_restart_goes_on_where_the_table_says(rig: Rig) -> None:
    service = await rig.start(SinkTicksService)
    await rig.say(TICKS, *(trade(n) for n in range(5)))
    await stored(rig, service, 5)
    await rig.stop(service)
    await rig.say(TICKS, *(trade(n) for n in range(5, 9)))
    again = await rig.start(SinkTicksService)
    await stored(rig, again, 9)
    assert await trade_ids(rig, again) == ids(*range(9))


async def test_a_stop_stores_what_is_in_the_log(rig: Rig) -> None:
    configure(rig, batch_seconds=3_600)
    service = await rig.start(SinkTicksService)
    await rig.say(TICKS, trade(0))
    await rig.stop(service)
    again = await rig.start(SinkTicksService)
    assert await trade_ids(rig, again) == ids(0)


async def test_many_records_do_not_wait_for_the_time(rig: Rig) -> None:
    configure(rig, batch_seconds=3_600, batch_rows=10)
    service = await rig.start(SinkTicksService)
    await rig.say(TICKS, *(trade(n) for n in range(25)))
    await stored(rig, service, 25)
    _, answer = await rig.ask(service, "GET", "/catalog/ticks")
    assert [version["rows"] for version in answer["versions"]] == [5, 10, 10, 0]
    assert await trade_ids(rig, service) == ids(*range(25))


async def test_a_replay_of_the_topic_changes_nothing(rig: Rig) -> None:
    service = await rig.start(SinkTicksService)
    await rig.say(TICKS, *(trade(n) for n in range(5)))
    await stored(rig, service, 5)
    version = (await rig.ask(service, "GET", "/catalog/ticks"))[1]["version"]
    await rig.stop(service)
    for _ in range(3):
        again = await rig.start(SinkTicksService)
        await rig.until(lambda again=again: again.sinks["ticks"].stored_to == 5)
        await rig.stop(again)
    last = await rig.start(SinkTicksService)
    assert (await rig.ask(last, "GET", "/catalog/ticks"))[1]["version"] == version
    assert await trade_ids(rig, last) == ids(*range(5))


async def test_an_append_that_failed_and_is_there_is_not_written_again(rig: Rig) -> None:
    service = await rig.start(SinkTicksService)
    append, outcomes = service.lake.append, ["written", "not written", "well"]

    def failing(*args: Any) -> int:
        outcome = outcomes.pop(0) if outcomes else "well"
        if outcome != "not written":
            version = append(*args)
        if outcome != "well":
            raise LakeError("the connection was lost")
        return version

    service.lake.append = failing
    await rig.say(TICKS, *(trade(n) for n in range(5)))
    await rig.until(lambda: len(outcomes) < 3)
    await rig.say(TICKS, *(trade(n) for n in range(5, 8)))
    await stored(rig, service, 8)
    assert await trade_ids(rig, service) == ids(*range(8))
    assert (await rig.ask(service, "GET", "/health"))[0] == 200


async def test_two_sinks_of_one_topic_store_each_record_once(rig: Rig) -> None:
    services = [await rig.start(SinkTicksService) for _ in range(2)]
    for first in range(0, 100, 5):
        await rig.say(TICKS, *(trade(n) for n in range(first, first + 5)))
        await asyncio.sleep(0.01)
    for service in services:
        await stored(rig, service, 100)
    assert await trade_ids(rig, services[0]) == ids(*range(100))


async def test_what_the_log_dropped_before_it_was_stored_is_counted_and_told(rig: Rig, tmp_path: Path) -> None:
    small = TopicConfig(name=TICKS, durable=False, segment_bytes_max=20_000, retention_bytes_max=60_000)
    others = [topic for topic in rig.settings.topics if topic.name != TICKS]
    rig.settings = msgspec.structs.replace(rig.settings, topics=[*others, small])
    await rig.bus.close()
    rig.bus = type(rig.bus)(tmp_path / "bus", rig.settings)
    service = await rig.start(SinkTicksService)
    await rig.say(TICKS, *(trade(n) for n in range(10)))
    await stored(rig, service, 10)
    await rig.stop(service)
    number = 10
    while await rig.bus.start(TICKS, 0) <= 10:
        await rig.say(TICKS, *(trade(n) for n in range(number, number + 50)))
        number += 50
    again = await rig.start(SinkTicksService)
    await stored(rig, again, number)
    start = await rig.bus.start(TICKS, 0)
    found = await trade_ids(rig, again)
    assert found == ids(*range(10), *range(start, number))
    assert again.stats()["lost"] == start - 10
    _, answer = await rig.ask(again, "GET", "/health")
    assert answer["checks"][f"{TICKS} kept"]["status"] == "failed"
    assert f"{start - 10} records from 10 on" in answer["checks"][f"{TICKS} kept"]["detail"]
    await rig.stop(again)
    last = await rig.start(SinkTicksService)
    assert last.stats()["lost"] == start - 10
    assert f'table="ticks"}} {start - 10}' not in (await rig.ask(last, "GET", "/metrics"))[1]


async def test_a_topic_that_lost_its_end_is_followed_from_there(rig: Rig, tmp_path: Path) -> None:
    service = await rig.start(SinkTicksService)
    await rig.say(TICKS, *(trade(n) for n in range(5)))
    await stored(rig, service, 5)
    await rig.close()
    shutil.rmtree(tmp_path / "bus" / TICKS)  # what is not fsynced may be gone after a power cut
    fresh = Rig(tmp_path, "data")
    configure(fresh)
    try:
        again = await fresh.start(SinkTicksService)
        await fresh.say(TICKS, *(trade(n) for n in range(100, 103)))
        await stored(fresh, again, 3)
        assert sorted(await trade_ids(fresh, again)) == sorted(ids(*range(5), 100, 101, 102))
        await fresh.stop(again)
        last = await fresh.start(SinkTicksService)
        assert last.sinks["ticks"].stored_to == 3
    finally:
        await fresh.close()


async def test_late_rows_go_to_their_day_and_are_counted_once(rig: Rig) -> None:
    service = await rig.start(SinkTicksService)
    await rig.say(TICKS, trade(0))
    publisher = rig._publishers[TICKS, 0]
    now = rig.clock.now()
    await publisher.publish(trade(1), ts_event=now - 2 * DAY_NS)
    await publisher.publish(trade(2), ts_event=now)
    await stored(rig, service, 3)
    _, answer = await rig.ask(service, "GET", "/catalog/ticks")
    assert [part["rows"] for part in answer["partitions"]] == [2, 1]
    assert answer["late"] == 1
    await rig.stop(service)
    again = await rig.start(SinkTicksService)
    await publisher.publish(trade(3), ts_event=now - 2 * DAY_NS)
    await stored(rig, again, 4)
    assert again.stats()["late"] == 2
    day_before = (now - DAY_NS) // 1_000
    assert await trade_ids(rig, again, f"&to={day_before}000") == ids(1, 3)


async def test_small_files_become_large_ones_and_no_answer_changes(rig: Rig) -> None:
    service = await rig.start(SinkTicksService)
    for number in range(4):
        await rig.say(TICKS, trade(number))
        await stored(rig, service, number + 1)
    version = (await rig.ask(service, "GET", "/catalog/ticks"))[1]["version"]
    status, answer = await rig.ask(service, "POST", "/optimize", {"table": "ticks"})
    assert (status, answer["tables"][0]["files_removed"], answer["tables"][0]["files_added"]) == (200, 4, 1)
    assert await trade_ids(rig, service) == ids(*range(4))
    assert await trade_ids(rig, service, f"&version={version - 1}") == ids(*range(3))
    await rig.say(TICKS, trade(4))
    await stored(rig, service, 5)
    assert await trade_ids(rig, service) == ids(*range(5))
    status, answer = await rig.ask(service, "POST", "/vacuum", {"dry_run": True})
    assert (status, answer["files"]["ticks"]) == (200, 0)  # all of them are younger than the retention


async def test_upkeep_compacts_what_grows_and_sorts_what_is_over(rig: Rig) -> None:
    configure(rig, compact_minutes=0.001)
    service = await rig.start(SinkTicksService)
    old = rig.clock.now() - 3 * DAY_NS
    for number in range(3):
        await rig.say(TICKS, trade(2 * number))
        await rig._publishers[TICKS, 0].publish(trade(2 * number + 1), ts_event=old + number)
        await stored(rig, service, 2 * number + 2)

    async def sorted_by_time() -> bool:
        _, answer = await rig.ask(service, "GET", "/catalog/ticks")
        return any(version["operation"] == "OPTIMIZE" for version in answer["versions"]) and (
            answer["partitions"][-1]["files"] == 1
        )

    await rig.until(sorted_by_time, "the day that is over is one file")
    assert sorted(await trade_ids(rig, service)) == ids(*range(6))


async def test_a_table_is_answered_as_it_was(rig: Rig) -> None:
    service = await rig.start(SinkTicksService)
    await rig.say(TICKS, trade(0))
    await stored(rig, service, 1)
    at = (await rig.ask(service, "GET", "/catalog/ticks?limit=1"))[1]["versions"][0]["time"]
    await asyncio.sleep(0.002)
    await rig.say(TICKS, trade(1))
    await stored(rig, service, 2)
    assert await trade_ids(rig, service, f"&at={at}") == ids(0)
    assert await trade_ids(rig, service) == ids(0, 1)
    for query, code in (("version=99", "unknown_version"), ("at=2001-01-01", "unknown_version")):
        status, answer = await rig.ask(service, "GET", f"/query/ticks?{query}")
        assert (status, answer["code"]) == (404, code)


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        ("/query/nothing", 404, "unknown_table"),
        ("/query/ticks", 404, "no_rows_yet"),
        ("/query/ticks?symbol=NOPE", 404, "unknown_symbol"),
        ("/query/ticks?limit=0", 422, "bad_limit"),
        ("/query/ticks?limit=10001", 422, "bad_limit"),
        ("/query/ticks?from=yesterday", 422, "bad_from"),
        ("/query/ticks?to=0001-01-01", 422, "bad_to"),
        ("/query/ticks?version=-1", 422, "bad_version"),
        ("/query/ticks?version=1&at=2026-01-01", 422, "bad_at"),
        ("/query/ticks?format=xml", 422, "bad_format"),
        ("/query/ticks?symbl=X", 422, "unknown_parameter"),
        ("/catalog/nothing", 404, "unknown_table"),
    ],
)
async def test_a_wrong_question_is_told_what_is_wrong(rig: Rig, target: str, status: int, code: str) -> None:
    service = await rig.start(SinkTicksService)
    answered, answer = await rig.ask(service, "GET", target)
    assert (answered, answer["code"]) == (status, code)


@pytest.mark.parametrize(
    ("target", "body", "code"),
    [
        ("/vacuum", {"retention_hours": 0}, "bad_retention_hours"),
        ("/optimize", {"date": "soon"}, "bad_date"),
        ("/optimize", {"tabel": "ticks"}, "unknown_field"),
    ],
)
async def test_a_wrong_order_is_told_what_is_wrong(rig: Rig, target: str, body: Any, code: str) -> None:
    service = await rig.start(SinkTicksService)
    status, answer = await rig.ask(service, "POST", target, body)
    assert (status, answer["code"]) == (422, code)


async def test_a_damaged_table_is_told_and_the_other_one_goes_on(rig: Rig, tmp_path: Path) -> None:
    service = await rig.start(SinkTicksService)
    await rig.say(TICKS, trade(0))
    await stored(rig, service, 1)
    await rig.stop(service)
    log = tmp_path / "lake" / "ticks" / "_delta_log"
    newest = sorted(log.glob("*.json"))[-1]
    whole = newest.read_bytes()
    newest.write_bytes(b'{"nonsense')
    again = await rig.start(SinkTicksService)
    await rig.say(BOOKS, Book(SYMBOL, [Level(2, 5)], []))
    await rig.say(TICKS, trade(1))
    await stored(rig, again, 1, "books")
    _, answer = await rig.ask(again, "GET", "/health")
    assert answer["checks"][TICKS]["status"] == "failed"
    assert (await rig.ask(again, "GET", "/query/ticks"))[0] == 503
    (tmp_path / "whole").write_bytes(whole)
    (tmp_path / "whole").replace(newest)  # in one step: an empty one would be a version without rows
    await stored(rig, again, 2)
    assert await trade_ids(rig, again) == ids(0, 1)
    assert (await rig.ask(again, "GET", "/health"))[0] == 200


@pytest.mark.parametrize("taken", ["lake", "lake/ticks/_delta_log"])
async def test_a_table_that_is_taken_away_is_made_again_from_the_log_and_that_is_told(
    rig: Rig, tmp_path: Path, taken: str
) -> None:
    service = await rig.start(SinkTicksService)
    await rig.say(TICKS, *(trade(n) for n in range(3)))
    await stored(rig, service, 3)
    shutil.rmtree(tmp_path / taken)
    await rig.say(TICKS, trade(3))
    await stored(rig, service, 4)
    assert await trade_ids(rig, service) == ids(*range(4))
    _, answer = await rig.ask(service, "GET", "/health")
    assert answer["checks"][TICKS]["status"] == "ok"
    said = answer["checks"][f"{TICKS} kept"]
    assert said == {"status": "failed", "detail": "the table was taken away, and is made again from record 0 on"}


async def test_below_the_floor_of_the_disk_nothing_is_written(rig: Rig) -> None:
    service = await rig.start(SinkTicksService)
    rig.settings = service.settings
    service.context.free_bytes = lambda path: 10
    service.settings = msgspec.structs.replace(service.settings, free_bytes_min=1_000)
    await rig.say(TICKS, trade(0))
    await rig.until(lambda: "waits" in service.sinks["ticks"].error, "it waits")
    assert (await rig.ask(service, "GET", "/query/ticks"))[1]["code"] == "no_rows_yet"
    service.context.free_bytes = lambda path: 10_000
    await stored(rig, service, 1)
    assert await trade_ids(rig, service) == ids(0)


async def test_a_full_batch_below_the_floor_of_the_disk_leaves_the_others_their_turn(rig: Rig) -> None:
    configure(rig, batch_rows=1)
    service = await rig.start(SinkTicksService)
    looks = 0

    def low(path: Path) -> int:
        nonlocal looks
        looks += 1
        assert looks < 5_000, "it looks all the time"
        return 10

    service.context.free_bytes = low
    service.settings = msgspec.structs.replace(service.settings, free_bytes_min=1_000)
    await rig.say(TICKS, trade(0))
    await rig.until(lambda: "waits" in service.sinks["ticks"].error, "it waits")
    _, answer = await rig.ask(service, "GET", "/health")
    assert "waits at 0" in answer["checks"][TICKS]["detail"]
    await rig.stop(service)
    assert (service.sinks["ticks"].stopped, service.sinks["ticks"].stored_to) == ("", 0)


async def test_an_event_of_a_later_version_is_put_down_and_the_others_are_stored(rig: Rig) -> None:
    service = await rig.start(SinkTicksService)
    await rig.say(TICKS, trade(0))
    await rig.say_newer(TICKS)
    await rig.say(TICKS, trade(1))
    await stored(rig, service, 3)
    assert await trade_ids(rig, service) == ids(0, 1)
    _, health = await rig.ask(service, "GET", "/health")
    assert health["checks"]["dead_letters"]["status"] == "failed"
    assert health["checks"][TICKS]["status"] == "ok"
    (letter,) = [json.loads(line) for line in service.dead.path.read_text().splitlines()]
    assert (letter["topic"], letter["seq"]) == (TICKS, 1) and "OrderTeleported" in letter["body"]
    service.dead.path.unlink()
    _, health = await rig.ask(service, "GET", "/health")
    assert "dead_letters" not in health["checks"]
