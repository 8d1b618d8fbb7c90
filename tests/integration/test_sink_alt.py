"""Alternative data on a real log and a real lake: what was acknowledged is there, once, and as it was known."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rig import Rig

from trade2026.kit.bus.port import BusUncertain
from trade2026.sink_alt.service import SinkAltService
from trade2026.sink_alt.tables import RECORDS, TOPIC
from trade2026.stores.delta import DeltaLake
from trade2026.stores.lake import LakeError, Selection

SECOND = 10**9
START = 1_385_337_600
"""Seconds of the tests are counted from here."""
MOOD = {
    "name": "mood",
    "about": "what the news feel like",
    "schema": {
        "type": "object",
        "additionalProperties": False,
        "required": ["score"],
        "properties": {"score": {"type": "number", "minimum": -1, "maximum": 1}, "headline": {"type": "string"}},
    },
}
LABELLED = {**MOOD["schema"], "properties": {**MOOD["schema"]["properties"], "score": {"type": ["number", "string"]}}}


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    found = Rig(tmp_path, "data")
    configure(found)
    yield found
    await found.close()


def configure(rig: Rig, **config: Any) -> None:
    rig.settings = msgspec.structs.replace(rig.settings, config={"sink-alt": {"batch_seconds": 0.05, **config}})


def record(record_id: str, score: Any = 0.5, event: int = 100, known: int | None = None, **more: Any) -> dict[str, Any]:
    """A record about second `event`, known since second `known`."""
    times = {"ts_event": ns(event)} | ({} if known is None else {"ts_available": ns(known)})
    return {"record_id": record_id, "data": {"score": score}, **times, **more}


def ns(second: int) -> int:
    return (START + second) * SECOND


async def started(rig: Rig) -> Any:
    service = await rig.start(SinkAltService)
    status, answer = await rig.ask(service, "POST", "/sources", MOOD)
    assert (status, answer["version"]) == (200, 1), answer
    return service


async def post(rig: Rig, service: Any, *records: dict[str, Any]) -> dict[str, Any]:
    status, answer = await rig.ask(service, "POST", "/sources/mood/records/batch", {"records": list(records)})
    assert status == 200, answer
    return answer


async def found(rig: Rig, service: Any, query: str = "", seq: int | None = None) -> list[dict[str, Any]]:
    at = service.machine.next_seq - 1 if seq is None else seq
    status, answer = await rig.ask(service, "GET", f"/sources/mood/records?seq={at}&limit=1000{query}")
    assert status == 200, answer
    return answer["records"]


def ids(records: list[dict[str, Any]]) -> list[str]:
    return [each["record_id"] for each in records]


async def test_a_record_is_answered_as_it_was_given_with_what_we_know_of_it(rig: Rig) -> None:
    service = await started(rig)
    given = record("a", 0.25, symbol="BTCUSDT") | {"ts_event": "2013-11-25T10:00:00.5Z"}
    status, answer = await rig.ask(service, "POST", "/sources/mood/records", given)
    assert (status, answer) == (200, {"record_id": "a", "status": "accepted", "seq": 1})
    [kept] = await found(rig, service)
    assert {key: kept[key] for key in ("record_id", "symbol", "time", "data", "seq", "schema_version")} == {
        "record_id": "a",
        "symbol": "BTCUSDT.SIM",
        "time": "2013-11-25T10:00:00.500000Z",
        "data": {"score": 0.25},
        "seq": 1,
        "schema_version": 1,
    }
    assert kept["ts_available"] == kept["ts_received"] and kept["ts_event"] == 1385373600_500_000_000
    assert await found(rig, service, "&symbol=BTCUSDT") == [kept]
    assert await found(rig, service, "&symbol=OTHER") == []
    assert [each.correlation_id for each in await rig.said(TOPIC)] == ["mood", "mood"]


async def test_a_batch_is_answered_record_by_record(rig: Rig) -> None:
    service = await started(rig)
    await post(rig, service, record("a"))
    answer = await post(rig, service, record("a"), record("a", 0.75), record("b", 2), record("c"))
    assert {key: answer[key] for key in ("accepted", "quarantined", "refused", "seq")} == {
        "accepted": 2,
        "quarantined": 1,
        "refused": 1,
        "seq": 3,
    }
    first, second, third, _ = answer["results"]
    assert first["duplicate"] and second["code"] == "record_id_reused"
    assert third["reasons"] == ["data.score: 2 is against maximum 1"]
    assert ids(await found(rig, service)) == ["a", "c"]


async def test_what_does_not_fit_waits_in_quarantine_until_the_schema_was_mended(rig: Rig) -> None:
    service = await started(rig)
    status, answer = await rig.ask(service, "POST", "/sources/mood/records", record("a", "high"))
    assert (status, answer["code"], answer["field"]) == (422, "quarantined", "data.score")
    assert (answer["record_id"], answer["seq"], len(answer["reasons"])) == ("a", 1, 1)
    await post(rig, service, record("b", "low"), record("c", []))
    _, page = await rig.ask(service, "GET", "/sources/mood/quarantine?limit=2")
    _, rest = await rig.ask(service, "GET", f"/sources/mood/quarantine?cursor={page['cursor']}")
    assert (ids(page["records"]), ids(rest["records"]), rest["cursor"]) == (["a", "b"], ["c"], None)
    assert page["records"][0]["reasons"] == ["data.score: is a string, not number"]
    assert page["records"][0]["data"] == {"score": "high"}
    _, answer = await rig.ask(service, "POST", "/sources/mood/quarantine/release", {})
    assert (answer["released"], ids(answer["left"])) == (0, ["a", "b", "c"])
    await rig.ask(service, "POST", "/sources", {"name": "mood", "schema": LABELLED})
    status, answer = await rig.ask(service, "POST", "/sources/mood/quarantine/release", {"record_ids": ["a", "c"]})
    assert (status, answer["released"], ids(answer["left"])) == (200, 1, ["c"])
    status, answer = await rig.ask(service, "POST", "/sources/mood/quarantine/discard", {"record_ids": ["c"]})
    assert (status, answer) == (200, {"discarded": 1})
    [kept] = await found(rig, service)
    assert (kept["record_id"], kept["schema_version"]) == ("a", 2)
    assert kept["ts_available"] > kept["ts_received"], "nobody could ask for it before it was released"
    _, page = await rig.ask(service, "GET", "/sources/mood/quarantine")
    assert ids(page["records"]) == ["b"]
    assert service.stats()["in_quarantine"] == 1
    assert "1 records do not fit" in (await rig.ask(service, "GET", "/health"))[1]["checks"]["quarantine"]["detail"]


async def test_a_restart_keeps_sources_records_and_quarantine(rig: Rig) -> None:
    service = await started(rig)
    await post(rig, service, record("a"), record("b", 7))
    before = await rig.ask(service, "GET", "/sources/mood")
    await rig.stop(service)
    for snapshots in (True, False):
        if not snapshots:
            for file in (rig.state / "snapshots").rglob("*.snapshot"):
                file.unlink()
        again = await rig.start(SinkAltService)
        assert await rig.ask(again, "GET", "/sources/mood") == before
        assert (await post(rig, again, record("a"), record("b", 7)))["results"][0]["duplicate"]
        assert ids(await found(rig, again, seq=1)) == ["a"]
        await rig.stop(again)


async def test_pages_follow_each_other_without_gap(rig: Rig) -> None:
    service = await started(rig)
    await post(rig, service, *(record(str(n), known=n // 3) for n in range(20)))
    pages, cursor = [], ""
    while cursor is not None:
        query = f"?seq=20&limit=6{f'&cursor={cursor}' if cursor else ''}"
        _, answer = await rig.ask(service, "GET", f"/sources/mood/records{query}")
        pages.append(ids(answer["records"]))
        cursor = answer["cursor"]
    assert pages == [[str(n) for n in range(first, min(20, first + 6))] for first in range(0, 20, 6)]
    assert ids(await found(rig, service, f"&from={ns(2)}&to={ns(3)}")) == ["6", "7", "8"]


async def join(rig: Rig, service: Any, *asked: tuple[str, int]) -> list[str | None]:
    rows = [{"symbol": symbol, "time": ns(second)} for symbol, second in asked]
    status, answer = await rig.ask(
        service, "POST", f"/sources/mood/join?seq={service.machine.next_seq - 1}", {"rows": rows}
    )
    assert status == 200, answer
    return [row["record"] and row["record"]["record_id"] for row in answer["rows"]]


async def test_a_join_finds_the_latest_record_that_was_known_then(rig: Rig) -> None:
    service = await started(rig)
    assert await join(rig, service, ("BTC", 1)) == [None]
    await post(
        rig,
        service,
        record("old news late", event=10, known=50, symbol="BTC"),
        record("early", event=20, known=20, symbol="BTC"),
        record("same moment, later event", event=30, known=20, symbol="BTC"),
        record("of another", event=20, known=20, symbol="ETH"),
        record("of none", event=20, known=20),
    )
    asked = [("BTC", 19), ("BTC", 20), ("BTC", 49), ("BTC", 50), ("ETH", 99), ("", 20), ("DOGE", 99)]
    assert await join(rig, service, *asked) == [
        None,
        "same moment, later event",
        "same moment, later event",
        "old news late",
        "of another",
        "of none",
        None,
    ]


symbols = st.sampled_from(["A", "B", ""])
moments = st.integers(0, 12)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(symbols, moments, moments), min_size=1, max_size=12),
    st.lists(st.tuples(symbols, moments), min_size=1),
)
def test_no_join_ever_looks_ahead(
    tmp_path_factory: pytest.TempPathFactory, said: list[tuple[str, int, int]], asked: list[tuple[str, int]]
) -> None:
    """Of what was known by then, the last: in order of when it became known, then of what it is about."""

    async def answered() -> list[str | None]:
        rig = Rig(tmp_path_factory.mktemp("ahead"), "data")
        configure(rig)
        try:
            service = await started(rig)
            await post(rig, service, *(record(str(n), event=e, known=k, symbol=s) for n, (s, e, k) in enumerate(said)))
            return await join(rig, service, *asked)
        finally:
            await rig.close()

    expected = [
        max(((k, e, n) for n, (s, e, k) in enumerate(said) if s == symbol and k <= at), default=(0, 0, None))[2]
        for symbol, at in asked
    ]
    assert asyncio.run(answered()) == [None if n is None else str(n) for n in expected]


async def test_an_append_that_failed_and_is_there_is_not_written_again(rig: Rig) -> None:
    service = await started(rig)
    append, outcomes = service.lake.append, ["written", "not written", "well"]

    def failing(*args: Any) -> int:
        outcome = outcomes.pop(0) if outcomes else "well"
        if outcome != "not written":
            version = append(*args)
        if outcome != "well":
            raise LakeError("the connection was lost")
        return version

    service.lake.append = failing
    await post(rig, service, *(record(str(n), known=n) for n in range(5)))
    await rig.until(lambda: len(outcomes) < 3)
    await post(rig, service, *(record(str(n), known=n) for n in range(5, 8)))
    await rig.until(lambda: not outcomes, "each outcome has come to pass")
    assert ids(await found(rig, service)) == [str(n) for n in range(8)]
    assert (await rig.ask(service, "GET", "/health"))[0] == 200


async def test_a_lake_that_is_down_stalls_no_record_and_gets_all_of_them_when_it_is_back(rig: Rig) -> None:
    service = await started(rig)
    append = service.lake.append

    def down(*args: Any) -> int:
        raise LakeError("no route to the storage")

    service.lake.append = down
    assert (await post(rig, service, record("a", known=1), record("b", known=2)))["accepted"] == 2

    async def told() -> bool:
        _, answer = await rig.ask(service, "GET", "/health")
        return "no route to the storage" in answer["checks"]["lake"].get("detail", "")

    await rig.until(told, "health says so")
    assert (await rig.ask(service, "GET", "/readyz"))[0] == 200
    service.lake.append = append
    assert ids(await found(rig, service)) == ["a", "b"]


async def test_an_append_that_failed_after_events_without_rows_is_no_table_that_was_taken_away(rig: Rig) -> None:
    service = await started(rig)
    await rig.until(lambda: service.sinks["lake"].stored_to == 1, "the source is passed over")
    append, failures = service.lake.append, [LakeError("the connection was lost")]

    def failing(*args: Any) -> int:
        if failures:
            raise failures.pop()
        return append(*args)

    service.lake.append = failing
    await post(rig, service, record("a", known=1))
    assert ids(await found(rig, service)) == ["a"]
    assert not failures
    _, answer = await rig.ask(service, "GET", "/health")
    assert answer["checks"]["lake_kept"]["status"] == "ok", answer


def below_the_floor(service: Any) -> None:
    service.context.free_bytes = lambda path: 10
    service.settings = msgspec.structs.replace(service.settings, free_bytes_min=1_000)


async def until_told(rig: Rig, service: Any, check: str, words: str) -> None:
    async def told() -> bool:
        _, answer = await rig.ask(service, "GET", "/health")
        return words in answer["checks"][check].get("detail", "")

    await rig.until(told, f"{check} says {words}")


async def test_below_the_floor_of_the_disk_nothing_is_written_to_it(rig: Rig) -> None:
    service = await started(rig)
    append = service.lake.append

    def away(*args: Any) -> int:
        raise LakeError("no route to the storage")

    service.lake.append = away
    await post(rig, service, record("a", known=1))
    await until_told(rig, service, "lake", "no route")
    below_the_floor(service)
    service.lake.append = append
    await until_told(rig, service, "lake", "waits")
    service.context.free_bytes = lambda path: 10_000
    assert ids(await found(rig, service)) == ["a"]


async def test_stores_elsewhere_need_no_room_on_the_disk_of_this_machine(rig: Rig, tmp_path: Path) -> None:
    stores = {"lake": {"type": "s3", "url": "s3://bucket"}, "analytics": {"type": "clickhouse", "url": "http://far"}}
    rig.settings = msgspec.structs.replace(rig.settings, stores=stores)
    lake, down, rows = DeltaLake(tmp_path / "elsewhere", retention_hours=24), True, []
    append = lake.append

    def to_lake(*args: Any) -> int:
        if down:
            raise LakeError("no route to the storage")
        return append(*args)

    def to_analytics(spec: Any, columns: Any, offsets: Any) -> None:
        if down:
            raise OSError("no route to the server")
        rows.extend(columns["record_id"])

    def make(context: Any) -> SinkAltService:
        service = SinkAltService(context, lake)
        assert service.analytics is not None
        service.analytics.offsets = lambda table, names: {}  # type: ignore[method-assign]
        service.analytics.append = to_analytics  # type: ignore[method-assign]
        return service

    lake.append = to_lake  # type: ignore[method-assign]
    service: Any = await rig.start(make)
    assert (await rig.ask(service, "POST", "/sources", MOOD))[0] == 200
    await post(rig, service, record("a", known=1))
    await until_told(rig, service, "lake", "no route")
    await until_told(rig, service, "analytics", "no route")
    below_the_floor(service)
    down = False
    await rig.until(lambda: {sink.stored_to for sink in service.sinks.values()} == {2}, "both are stored")
    assert (ids(await found(rig, service)), rows) == (["a"], ["a"])
    status, answer = await rig.ask(service, "POST", "/sources/mood/records", record("b"))
    assert (status, answer["code"]) == (503, "disk_low"), "our own log is on this disk"


async def test_a_list_of_sources_says_how_many_of_each_wait_and_looks_at_the_quarantine_once(rig: Rig) -> None:
    service = await started(rig)
    for name in ("calm", "rage"):
        assert (await rig.ask(service, "POST", "/sources", {**MOOD, "name": name}))[0] == 200
    await post(rig, service, record("a", "high"), record("b", "low"))
    looks = 0

    class Watched(dict[Any, Any]):
        def __iter__(self) -> Iterator[Any]:
            nonlocal looks
            looks += 1
            return super().__iter__()

    service.machine.quarantine = Watched(service.machine.quarantine)
    _, answer = await rig.ask(service, "GET", "/sources")
    waiting = {source["name"]: source["in_quarantine"] for source in answer["sources"]}
    assert (waiting, looks) == ({"calm": 0, "mood": 2, "rage": 0}, 1)


async def test_what_was_not_recorded_is_not_acknowledged_and_a_retry_keeps_it_once(rig: Rig) -> None:
    service = await started(rig)
    rig.bus.fail_next(TOPIC, BusUncertain("the disk is gone"), written=True)
    status, answer = await rig.ask(service, "POST", "/sources/mood/records", record("a"))
    assert (status, answer["code"]) == (503, "not_acknowledged")

    async def taken() -> bool:
        return (await rig.ask(service, "POST", "/sources/mood/records", record("a")))[0] == 200

    await rig.until(taken, "it is acknowledged")
    assert ids(await found(rig, service)) == ["a"]
    lake = DeltaLake(rig.state / "lake" / "alternative")
    assert len(lake.read(RECORDS, Selection()).rows) == 1


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "code"),
    [
        ("GET", "/sources/nothing", None, 404, "unknown_source"),
        ("POST", "/sources/nothing/records", record("a"), 404, "unknown_source"),
        ("POST", "/sources", {**MOOD, "name": "No Name"}, 422, "bad_source"),
        ("POST", "/sources", {"name": "x", "schema": {"type": "object"}}, 422, "bad_schema"),
        ("POST", "/sources", {"name": "mood", "schema": {"type": "object", "additionalProperties": False}}, 409,
         "incompatible_schema"),
        ("POST", "/sources/mood/records", {}, 422, "missing_field"),
        ("POST", "/sources/mood/records", [], 422, "bad_field"),
        ("POST", "/sources/mood/records/batch", {"records": []}, 422, "bad_records"),
        ("POST", "/sources/mood/records", record(""), 422, "bad_record_id"),
        ("POST", "/sources/mood/records", record("a") | {"ts_event": "yesterday"}, 422, "bad_time"),
        ("POST", "/sources/mood/records", record("a") | {"ts_event": "2026-01-01T00:00:00"}, 422, "bad_time"),
        ("POST", "/sources/mood/records", record("a") | {"ts_available": -(2**62)}, 422, "bad_time"),
        ("POST", "/sources/mood/records", record("a") | {"ts_available": START}, 422, "bad_time"),
        ("POST", "/sources/mood/records", record("a", symbol="x" * 129), 422, "bad_symbol"),
        ("POST", "/sources/mood/records", record("a", "x" * 70_000), 422, "record_too_large"),
        ("POST", "/sources/mood/records", record("a", headlines=1), 422, "unknown_field"),
        ("GET", "/sources/mood/records?cursor=here", None, 422, "bad_cursor"),
        ("GET", "/sources/mood/records?from=soon", None, 422, "bad_from"),
        ("GET", "/sources/mood/records?seq=1", None, 422, "bad_seq"),
        ("GET", "/sources/mood/records?symbl=x", None, 422, "unknown_parameter"),
        ("POST", "/sources/mood/join", {"rows": []}, 422, "bad_rows"),
        ("POST", "/sources/mood/join", {"rows": [{"time": "x"}]}, 422, "bad_time"),
        ("POST", "/sources/mood/quarantine/release", {"record_ids": ["a"]}, 404, "not_in_quarantine"),
    ],
)  # fmt: skip
async def test_a_wrong_request_is_told_what_is_wrong(
    rig: Rig, method: str, target: str, body: Any, status: int, code: str
) -> None:
    service = await started(rig)
    answered, answer = await rig.ask(service, method, target, body)
    assert (answered, answer["code"]) == (status, code), answer
    assert service.machine.next_seq == 1, "nothing was recorded"
