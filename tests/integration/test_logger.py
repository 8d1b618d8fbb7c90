"""The audit log on a real topic: it is searched, signed, cut, and verified after somebody has touched it."""

import asyncio
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rig import TRACE, Rig, accepted, filled

from trade2026.domain.events import (
    Delivered,
    LimitsChanged,
    OrderCanceled,
    OrderOpened,
    ProcessStarted,
    StrategyFailed,
    StrategyStarted,
)
from trade2026.kit.identity import Keyring, Principal
from trade2026.logger import checking, search, writing
from trade2026.logger.checking import Report, verify_file, verify_store
from trade2026.logger.service import LoggerService
from trade2026.logger.signing import KeyUnusable, load_or_make
from trade2026.logger.store import AuditReader

DAY_NS = 86_400 * 10**9


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path, "data")
    made.settings = msgspec.structs.replace(
        made.settings, config={"logger": {"batch_seconds": 0.01, "checkpoint_records": 4}}
    )
    yield made
    await made.close()


async def a_day(rig: Rig) -> None:
    """Ten events, one of which is not audited."""
    await rig.say("audit", ProcessStarted(release="orders", services=["oms"], code_version="1", config_hash="c"))
    await rig.say("risk.events", LimitsChanged(version=1, limits=msgspec.Raw(b"{}"), by="ann", reason="calmer"))
    await rig.say("orders.events", accepted("o0-1"), OrderOpened(order_id="o0-1"), filled(9, "1", "100", account="b"))
    await rig.say("orders.events", accepted("o0-2", account="b"), OrderCanceled(order_id="o0-2", reason="50%_off"))
    await rig.say("orders.events", accepted("o0-3", account="b"), OrderOpened(order_id="o0-3"))
    await rig.say("strategies.events", Delivered(runs=[]))


async def started(rig: Rig, records: int = 9) -> LoggerService:
    service = await rig.start(LoggerService)
    await rig.until(lambda: service.writing.written_n >= records, "all is written")
    return service


async def listed(rig: Rig, service: LoggerService, query: str) -> list[dict[str, Any]]:
    status, answer = await rig.ask(service, "GET", f"/records?{query}")
    assert status == 200, answer
    return answer["records"]


async def checked(rig: Rig, **options: Any) -> Report:
    reader = AuditReader(rig.state / "audit" / "audit.db")
    try:
        return await verify_store(reader, rig.bus, running=False, **options)  # type: ignore[arg-type]
    finally:
        reader.close()


def touched(rig: Rig, statement: str) -> None:
    with sqlite3.connect(rig.state / "audit" / "audit.db") as db:
        db.execute(statement)
    db.close()


async def test_records_are_found_by_all_that_they_say(rig: Rig) -> None:
    await a_day(rig)
    service = await started(rig)
    ids = [record["event_id"] for record in await listed(rig, service, "order_id=o0-1")]
    assert ids == ["orders.events/0/1", "orders.events/0/0"]
    assert len(await listed(rig, service, "account=b")) == 5  # also what names no account and is about its orders
    assert len(await listed(rig, service, f"trace_id={TRACE[3:35]}")) == 9
    assert [each["type"] for each in await listed(rig, service, "text=CALMER")] == ["LimitsChanged"]
    assert [each["subject"] for each in await listed(rig, service, "text=50%25_")] == ["o0-2"]
    assert len(await listed(rig, service, "type=OrderAccepted&topic=orders.events&principal=local")) == 3
    assert await listed(rig, service, "principal=bob") == []
    assert await listed(rig, service, "from=2000-01-01T00:00:00Z&to=2001-01-01T00:00:00Z") == []
    status, one = await rig.ask(service, "GET", "/records/0")
    assert (status, one["n"]) == (200, 0)
    assert (await rig.ask(service, "GET", "/records/99"))[0] == 404
    assert (await rig.ask(service, "GET", "/records?cursor=x"))[0] == 422


async def test_what_a_strategy_does_is_of_the_account_that_it_trades_now(rig: Rig) -> None:
    for account in ("a", "b"):
        await rig.say(
            "strategies.events",
            StrategyStarted(
                strategy="s", code="c", account=account, instruments=[], parameters=msgspec.Raw(b"{}"), ts=1
            ),
            StrategyFailed(strategy="s", reason=f"in {account}"),
        )
    service = await started(rig, 4)
    assert [each["what"] for each in await listed(rig, service, "account=a&type=StrategyFailed")] == ["reason in a"]
    assert [each["what"] for each in await listed(rig, service, "account=b&type=StrategyFailed")] == ["reason in b"]


async def test_one_with_some_accounts_may_open_what_a_list_shows_and_nothing_else(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await a_day(rig)
    service = await started(rig)
    ann = Principal("ann", "viewer", frozenset({"b", "c"}))
    monkeypatch.setattr(Keyring, "principal_of", lambda *_: ann)
    shown = {record["n"] for record in await listed(rig, service, "account=b")}
    assert len(shown) == 5
    opened = {n for n in range(9) if (await rig.ask(service, "GET", f"/records/{n}"))[0] == 200}
    assert opened == shown


async def test_pages_reach_everything_once_however_little_one_page_reads(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "READ_MAX", 2)
    await a_day(rig)
    service = await started(rig)
    found, cursor = [], ""
    for _ in range(20):
        status, page = await rig.ask(service, "GET", f"/records?limit=3&type=OrderAccepted{cursor}")
        assert status == 200
        found += [record["subject"] for record in page["records"]]
        if page["cursor"] is None:
            break
        cursor = f"&cursor={page['cursor']}"
    assert found == ["o0-3", "o0-2", "o0-1"]


async def test_the_chain_is_signed_as_it_grows_when_asked_and_at_the_end(rig: Rig) -> None:
    await a_day(rig)
    service = await started(rig)
    status, made = await rig.ask(service, "POST", "/checkpoints")
    assert (status, made["n"]) == (200, 9)
    await rig.say("orders.events", OrderOpened(order_id="o0-9"))
    await rig.stop(service)  # what came last is taken, and signed
    report = await checked(rig)
    assert (report.faults, report.end, report.signed_to, report.events) == ([], 10, 10, 11)


async def test_who_asks_for_a_checkpoint_gets_an_answer_whatever_becomes_of_the_log(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await a_day(rig)
    service = await started(rig)
    disk_is_full = True
    written = service.store.write  # type: ignore[union-attr]

    def write(*values: Any) -> None:
        if disk_is_full:
            raise OSError("no space")
        written(*values)

    monkeypatch.setattr(service.store, "write", write)
    monkeypatch.setattr(writing, "ASKED_MAX", 2)
    monkeypatch.setattr(writing, "_ASKED_SECONDS_MAX", 0.01)
    status, answer = await rig.ask(service, "POST", "/checkpoints")
    assert (status, answer["code"]) == (503, "not_signed")
    monkeypatch.setattr(writing, "_ASKED_SECONDS_MAX", 600)
    asked = [asyncio.create_task(rig.ask(service, "POST", "/checkpoints")) for _ in range(3)]
    await rig.until(lambda: sum(each.done() for each in asked) == 1, "there is no room for a third")
    await rig.stop(service)
    assert [(await each)[0] for each in asked] == [503] * 3
    assert (await rig.ask(service, "POST", "/checkpoints"))[0] == 503

    disk_is_full = False
    again = await started(rig)
    assert (await rig.ask(again, "POST", "/checkpoints"))[0] == 200
    (rig.state / "audit" / "audit.db").unlink()
    await rig.say("orders.events", OrderOpened(order_id="o0-9"))
    assert (await rig.ask(again, "POST", "/checkpoints"))[0] == 503


async def test_a_batch_that_fails_while_the_logger_stops_is_in_the_last_one(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await a_day(rig)
    service = await started(rig)
    at_work, store = service.writing, service.store
    assert at_work is not None
    assert store is not None
    written, failed_at_the_end = store.write, 0

    def write(*values: Any) -> None:
        nonlocal failed_at_the_end
        if failed_at_the_end:
            return written(*values)
        failed_at_the_end += at_work._stopping
        raise OSError("no space")

    monkeypatch.setattr(store, "write", write)
    await rig.say("orders.events", OrderOpened(order_id="o0-9"))
    await rig.until(lambda: at_work.error, "the disk is full")
    await rig.stop(service)
    report = await checked(rig)
    assert (failed_at_the_end, report.faults, report.end) == (1, [], 10)


async def test_a_writer_that_ends_on_an_error_says_so_and_ends_the_process(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await a_day(rig)
    service = await started(rig)
    await rig.say("orders.events", OrderOpened(order_id="o0-9"))
    monkeypatch.setattr(service.store, "write", lambda *_: 1 / 0)
    assert (await rig.ask(service, "POST", "/checkpoints"))[0] == 503
    assert "division by zero" in service.replaced()
    assert "division by zero" in service.health()["written"].detail


async def test_a_logger_that_starts_again_goes_on_and_the_key_is_its_owners(rig: Rig) -> None:
    await a_day(rig)
    first = await started(rig)
    key = first.stats()["key"]
    await rig.stop(first)
    await rig.say("orders.events", OrderOpened(order_id="o0-9"))
    second = await started(rig, 10)
    assert second.stats()["key"] == key
    mode = (rig.state / "audit" / "signing-key.pem").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600
    status, answer = await rig.ask(second, "GET", "/checkpoints?limit=1")
    assert (status, list(answer["keys"])) == (200, [key])
    await rig.stop(second)
    assert (await checked(rig)).faults == []


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("UPDATE records SET what = 'nothing' WHERE n = 4", "record 4 (orders.events/0/4) was changed"),
        ("DELETE FROM records WHERE n = 4", "record 4 is missing"),
        ("DELETE FROM records WHERE n >= 7", "records 7 to 8 are missing at the end: the checkpoint at 9 has them"),
        ("UPDATE records SET n = 100 - n WHERE n = 5", "record 5 is missing"),
        ("UPDATE positions SET next_seq = 0", ""),
    ],
)
async def test_whoever_touches_the_store_is_found_out(rig: Rig, statement: str, fault: str) -> None:
    await a_day(rig)
    await rig.stop(await started(rig))
    touched(rig, statement)
    report = await checked(rig)
    assert (fault in [each.what for each in report.faults]) if fault else not report.faults


async def test_a_log_that_was_cut_at_a_checkpoint_with_its_end_is_found_by_its_source(rig: Rig) -> None:
    await a_day(rig)
    await rig.stop(await started(rig))
    touched(rig, "DELETE FROM records WHERE n >= 4")
    touched(rig, "DELETE FROM checkpoints WHERE n > 4")
    found = [each.what for each in (await checked(rig)).faults]
    assert "no record says what orders.events/0/4 says (OrderCanceled)" in found


async def test_a_logger_that_finds_its_end_gone_says_so_and_the_evidence_stays(rig: Rig) -> None:
    await a_day(rig)
    await rig.stop(await started(rig))
    touched(rig, "DELETE FROM records WHERE n >= 7")
    service = await started(rig, 7)
    assert "a signed checkpoint says 9" in service.health()["store"].detail
    await rig.say("orders.events", *(OrderOpened(order_id="o0-9") for _ in range(5)))
    await rig.until(lambda: service.writing is not None and service.writing.written_n == 12, "it goes on")
    await rig.stop(service)
    assert any("are not those that were signed at 9" in each.what for each in (await checked(rig)).faults)


async def test_an_export_is_verified_elsewhere_and_fits_what_comes_later(rig: Rig) -> None:
    await a_day(rig)
    await rig.stop(await started(rig))
    reader = AuditReader(rig.state / "audit" / "audit.db")
    lines = list(checking.export(reader))
    reader.close()
    assert verify_file(lines, None).faults == []
    assert [fault.what for fault in verify_file([*lines[:6], *lines[7:]], None).faults]
    assert verify_file([*lines, b"{"], None).faults[0].what.startswith("line ")
    assert verify_file(lines, {}).faults[0].what.endswith("is not signed by a trusted key")
    with pytest.raises(ValueError, match="no exported audit log"):
        verify_file([b"{}"], None)
    kept = checking.checkpoints_in(lines)
    assert (await checked(rig, others=kept)).faults == []
    touched(rig, "DELETE FROM records WHERE n >= 4")
    touched(rig, "DELETE FROM checkpoints")
    assert any("at the end" in each.what for each in (await checked(rig, others=kept)).faults)


async def test_retention_cuts_at_a_checkpoint_and_what_is_left_is_whole(rig: Rig) -> None:
    await a_day(rig)
    service = await started(rig)
    await rig.ask(service, "POST", "/checkpoints")
    assert await service.drop_before(0) == 0
    await rig.say("orders.events", OrderOpened(order_id="o0-9"))
    await rig.until(lambda: service.writing is not None and service.writing.written_n == 10, "it is written")
    assert await service.drop_before(rig.clock.now() + DAY_NS) in (9, 10)
    await rig.stop(service)
    report = await checked(rig)
    assert (report.faults, report.end) == ([], 10)
    assert report.base in (9, 10)


async def test_retention_cuts_once_at_a_checkpoint_and_goes_on_where_it_was_ended(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await a_day(rig)
    service = await started(rig)
    await rig.ask(service, "POST", "/checkpoints")
    store = service.store
    assert store is not None

    def cuts() -> list[int]:
        with sqlite3.connect(store.path) as db:
            found = db.execute("SELECT n FROM checkpoints WHERE kind = 'cut'").fetchall()
        db.close()
        return [n for (n,) in found]

    with monkeypatch.context() as patch:
        patch.setattr(store, "drop", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await service.drop_before(rig.clock.now() + DAY_NS)
    assert cuts() == [9]
    assert await service.drop_before(rig.clock.now() + DAY_NS) == 9
    assert await service.drop_before(rig.clock.now() + DAY_NS) == 0
    assert cuts() == [9]


async def test_a_call_to_the_store_keeps_its_turn_until_it_is_over_though_its_caller_is_cancelled(rig: Rig) -> None:
    service = await started(rig, 0)
    began, go = threading.Event(), threading.Event()

    def call() -> None:
        began.set()
        go.wait()

    calling = asyncio.create_task(service.on_writer(call))
    try:
        await rig.until(began.is_set, "it runs")
        calling.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        assert (calling.done(), service.writing.turn.locked()) == (False, True)  # type: ignore[union-attr]
    finally:
        go.set()
    await rig.until(calling.done, "it is over")
    assert calling.cancelled()


async def test_a_damaged_store_is_put_aside_and_made_again_from_the_log(rig: Rig) -> None:
    await a_day(rig)
    await rig.stop(await started(rig))
    (rig.state / "audit" / "audit.db").write_bytes(b"no database" * 1_000)
    for suffix in ("-wal", "-shm"):
        (rig.state / "audit" / f"audit.db{suffix}").unlink(missing_ok=True)
    service = await started(rig)
    assert "was damaged" in service.health()["store"].detail
    assert (rig.state / "audit" / "audit.db.damaged-1").exists()
    await rig.stop(service)
    assert (await checked(rig)).faults == []


async def test_a_store_that_is_taken_away_or_opened_by_another_ends_the_process(rig: Rig) -> None:
    await a_day(rig)
    first = await started(rig)
    second = await started(rig)
    await rig.say("orders.events", OrderOpened(order_id="o0-9"))
    await rig.until(lambda: first.replaced(), "the first is fenced")
    await rig.until(lambda: second.writing is not None and second.writing.written_n == 10, "the second goes on")
    (rig.state / "audit" / "audit.db").unlink()
    await rig.say("orders.events", OrderOpened(order_id="o0-9"))
    await rig.until(lambda: "taken away" in second.replaced(), "the second notices")


async def test_a_log_that_has_lost_its_end_is_told(rig: Rig, tmp_path: Path) -> None:
    await a_day(rig)
    service = await started(rig)
    await rig.stop(service)
    touched(rig, "UPDATE positions SET next_seq = 99 WHERE place = 'orders.events/0'")
    service = await started(rig)
    assert "lost its end" in service.health()["orders.events/0"].detail


async def test_lines_of_the_processes_logs_are_found(rig: Rig) -> None:
    service = await started(rig, 0)
    logs = rig.state / "logs"
    logs.mkdir()
    (logs / "orders.log").write_text(
        '{"time":"2026-01-01T00:00:00Z","level":"info","message":"ready"}\n'
        '{"time":"2026-01-01T00:00:02Z","level":"error","message":"failed","trace_id":"abc"}\nTraceback\n'
    )
    (logs / "venue.log.1").write_text('{"time":"2026-01-01T00:00:01Z","level":"warning","message":"slow"}\n')

    async def found(query: str) -> list[str]:
        status, answer = await rig.ask(service, "GET", f"/logs?{query}")
        assert status == 200, answer
        return [line["message"] for line in answer["lines"]]

    assert await found("") == ["Traceback", "failed", "slow", "ready"]
    assert await found("level=warning") == ["failed", "slow"]
    assert await found("trace_id=abc") == ["failed"]
    assert await found("process=venue&text=SLOW") == ["slow"]
    assert await found("limit=1") == ["Traceback"]
    assert (await rig.ask(service, "GET", "/logs?level=loud"))[0] == 422


def test_a_key_must_be_there_private_and_of_its_kind(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    with pytest.raises(KeyUnusable, match="openssl genpkey"):
        load_or_make(path, given=True)
    made = load_or_make(path, given=False)
    assert load_or_make(path, given=True).public == made.public
    path.chmod(0o644)
    with pytest.raises(KeyUnusable, match="chmod 600"):
        load_or_make(path, given=True)
    path.chmod(0o600)
    path.write_text("no key")
    with pytest.raises(KeyUnusable, match="no private key"):
        load_or_make(path, given=True)


def test_the_service_takes_the_settings_that_the_manifest_may_have(tmp_path: Path) -> None:
    from trade2026.logger.service import LoggerConfig
    from trade2026.stack.configs import SERVICE_CONFIGS

    assert set(SERVICE_CONFIGS["logger"]) == set(LoggerConfig.__struct_fields__)
