"""Positions and P&L on a real log: folds of the fills, published once each, that can be deleted and made again."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rig import SYMBOL, TRACE, Rig, filled, spec

from trade2026.domain import events as ev
from trade2026.domain.market import Trade
from trade2026.domain.numbers import to_nanos
from trade2026.kit.bus.port import BusFull, BusUncertain
from trade2026.pnl.service import PnlService
from trade2026.ptrc.service import PtrcService

ORDERS = "orders.events"
SERVICES: dict[str, Any] = {"positions": PtrcService, "pnl": PnlService}
FILLS = [
    filled(0, "2", "100", strategy="a", fee=5),
    filled(1, "-1", "110", strategy="b"),
    filled(2, "-3", "120", strategy="a", fee=-2),
    filled(3, "1.5", "90", account="other"),
    filled(4, "4", "95", strategy="b", fee=1),
]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    found = Rig(tmp_path, "projections")
    yield found
    await found.close()


async def until_folded(rig: Rig, service: Any, position: int) -> None:
    await rig.until(lambda: service.cells.here[0].as_of >= position - 1, "the fills are folded")


async def published(rig: Rig, topic: str, count: int) -> list[ev.Envelope]:
    """What the topic holds, once it holds that many."""

    async def enough() -> list[ev.Envelope]:
        found = await rig.said(topic)
        return found if len(found) >= count else []

    return await rig.until(enough, f"{count} events are in {topic}")


def untold(events: list[ev.Envelope]) -> list[Any]:
    return [(envelope.data, envelope.causation_id, envelope.traceparent) for envelope in events]


async def answers(rig: Rig, service: Any) -> list[Any]:
    """All that it says of its accounts."""
    paths = ["/positions", "/positions/main", "/settlement/main"] if service.name == "ptrc" else ["/pnl", "/pnl/main"]
    return [await rig.ask(service, "GET", path) for path in paths]


@pytest.mark.parametrize("topic", SERVICES)
async def test_each_fill_is_published_once_with_its_cause_and_in_its_trace(rig: Rig, topic: str) -> None:
    await rig.start(SERVICES[topic])
    await rig.say(ORDERS, *FILLS)
    found = await published(rig, topic, len(FILLS))
    assert [envelope.data.as_of for envelope in found] == list(range(len(FILLS)))  # type: ignore[union-attr]
    assert [envelope.causation_id for envelope in found] == [f"{ORDERS}/0/{n}" for n in range(len(FILLS))]
    assert {envelope.traceparent for envelope in found} == {TRACE}


@pytest.mark.parametrize("topic", SERVICES)
async def test_a_restart_publishes_what_it_missed_and_nothing_twice(rig: Rig, topic: str) -> None:
    service = await rig.start(SERVICES[topic])
    await until_folded(rig, service, await rig.say(ORDERS, *FILLS[:2]))
    await published(rig, topic, 2)
    await rig.stop(service)
    await rig.say(ORDERS, *FILLS[2:])
    again = await rig.start(SERVICES[topic])
    assert again.stats()["snapshot_as_of"] == 1
    found = await published(rig, topic, len(FILLS))
    assert [envelope.data.as_of for envelope in found] == list(range(len(FILLS)))  # type: ignore[union-attr]


@pytest.mark.parametrize("topic", SERVICES)
async def test_a_dropped_topic_is_made_again_as_it_was(rig: Rig, topic: str) -> None:
    service = await rig.start(SERVICES[topic])
    await until_folded(rig, service, await rig.say(ORDERS, *FILLS))
    before, said = untold(await published(rig, topic, len(FILLS))), await answers(rig, service)
    await rig.close()
    shutil.rmtree(rig.state / "bus" / topic)
    fresh = Rig(rig.state, "projections")
    try:
        again = await fresh.start(SERVICES[topic])
        assert untold(await published(fresh, topic, len(FILLS))) == before
        assert await answers(fresh, again) == said
    finally:
        await fresh.close()


@pytest.mark.parametrize("topic", SERVICES)
async def test_a_dropped_projection_is_made_again_as_it_was(rig: Rig, topic: str) -> None:
    service = await rig.start(SERVICES[topic])
    await until_folded(rig, service, await rig.say(ORDERS, *FILLS))
    said = await answers(rig, service)
    await rig.stop(service)
    shutil.rmtree(rig.state / "snapshots")
    again = await rig.start(SERVICES[topic])
    assert await answers(rig, again) == said
    assert len(await published(rig, topic, len(FILLS))) == len(FILLS)


@pytest.mark.parametrize("topic", SERVICES)
async def test_a_snapshot_that_cannot_be_read_is_told_and_costs_nothing_but_time(rig: Rig, topic: str) -> None:
    service = await rig.start(SERVICES[topic])
    await until_folded(rig, service, await rig.say(ORDERS, *FILLS))
    said = await answers(rig, service)
    await rig.stop(service)
    (path,) = (rig.state / "snapshots" / service.name).glob("*.snapshot")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    again = await rig.start(SERVICES[topic])
    status, health = await rig.ask(again, "GET", "/health")
    assert (status, health["checks"]["snapshots"]["status"]) == (503, "failed")
    assert "checksum" in health["checks"]["snapshots"]["detail"]
    assert (await rig.ask(again, "GET", "/readyz"))[0] == 200
    assert await answers(rig, again) == said


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("topic", SERVICES)
async def test_an_append_that_failed_loses_and_doubles_nothing(rig: Rig, topic: str, written: bool) -> None:
    service = await rig.start(SERVICES[topic])
    await until_folded(rig, service, await rig.say(ORDERS, FILLS[0]))
    await published(rig, topic, 1)
    rig.bus.fail_next(topic, BusUncertain("lost its answer") if written else BusFull("no room"), written=written)
    await rig.say(ORDERS, *FILLS[1:])
    found = await published(rig, topic, len(FILLS))
    assert [envelope.data.as_of for envelope in found] == list(range(len(FILLS)))  # type: ignore[union-attr]
    await until_folded(rig, service, len(FILLS))

    async def well() -> bool:
        return (await rig.ask(service, "GET", "/health"))[0] == 200

    await rig.until(well, "it is well again")


@pytest.mark.parametrize("topic", SERVICES)
async def test_a_process_that_was_thought_dead_publishes_no_more(rig: Rig, topic: str) -> None:
    zombie = await rig.start(SERVICES[topic])
    await rig.say(ORDERS, *FILLS[:2])
    await published(rig, topic, 2)
    await rig.start(SERVICES[topic])
    await rig.say(ORDERS, *FILLS[2:])
    found = await published(rig, topic, len(FILLS))

    async def noticed() -> bool:
        return (await rig.ask(zombie, "GET", "/health"))[0] == 503

    await rig.until(noticed, "the zombie says that it is unwell")
    assert [envelope.data.as_of for envelope in found] == list(range(len(FILLS)))  # type: ignore[union-attr]


@pytest.mark.parametrize("topic", SERVICES)
async def test_an_event_that_it_does_not_understand_stops_it_and_health_says_where(rig: Rig, topic: str) -> None:
    service = await rig.start(SERVICES[topic])
    await until_folded(rig, service, await rig.say(ORDERS, *FILLS[:2]))
    await rig.say_newer(ORDERS)
    await rig.say(ORDERS, *FILLS[2:])

    async def told() -> Any:
        status, health = await rig.ask(service, "GET", "/health")
        check = health["checks"]["log"]
        return status == 503 and check["status"] == "failed" and check["detail"]

    detail = await rig.until(told, "health says so")
    assert "stopped at 2" in detail
    assert "OrderTeleported" in detail
    assert service.cells.here[0].as_of == 1
    assert {answer["as_of"] for _, answer in await answers(rig, service)} == {1}


@pytest.mark.parametrize("topic", SERVICES)
async def test_an_answer_is_the_fold_of_exactly_the_events_up_to_its_as_of(rig: Rig, topic: str) -> None:
    service = await rig.start(SERVICES[topic])
    total = 400

    async def write() -> None:
        for number in range(0, total, 5):
            await rig.say(ORDERS, *(filled(n, "1", "100") for n in range(number, number + 5)))

    writing = asyncio.ensure_future(write())
    seen: set[int] = set()
    while service.cells.here[0].as_of < total - 1:
        _, answer = await rig.ask(service, "GET", "/positions/main")
        held = to_nanos(answer["positions"][0]["quantity"]) if answer["positions"] else 0
        assert held == to_nanos(answer["as_of"] + 1)
        seen.add(answer["as_of"])
        await asyncio.sleep(0.005)  # a loop that never rests leaves the log's writer, a thread, hardly any turn
    await writing
    assert len(seen) > 1


async def test_both_services_say_the_same_of_one_account_and_strategies_sum_up_to_it(rig: Rig) -> None:
    ptrc, pnl = await rig.start(PtrcService), await rig.start(PnlService)
    end = await rig.say(ORDERS, *FILLS)
    await until_folded(rig, ptrc, end)
    await until_folded(rig, pnl, end)
    (ours,) = (await rig.ask(ptrc, "GET", "/positions/main"))[1]["positions"]
    (theirs,) = (await rig.ask(pnl, "GET", "/positions/main"))[1]["positions"]
    assert {key: theirs[key] for key in ("quantity", "average_price", "realized", "fees")} == {
        key: ours[key] for key in ("quantity", "average_price", "realized", "fees")
    }
    parts = ours["strategies"]
    assert sum(to_nanos(part["quantity"]) for part in parts) == to_nanos(ours["quantity"])
    assert sum(to_nanos(part["fees"]) for part in parts) == to_nanos(ours["fees"])
    view = (await rig.ask(pnl, "GET", "/pnl/main"))[1]
    assert sum(to_nanos(part["total"]) for part in view["by_strategy"]) == to_nanos(view["total"])


async def test_the_market_moves_what_is_not_realized(rig: Rig) -> None:
    pnl = await rig.start(PnlService)
    await until_folded(rig, pnl, await rig.say(ORDERS, filled(0, "2", "100")))
    await rig.say("market.ticks", Trade(SYMBOL, "t-0-0", to_nanos(107), to_nanos(1)))

    async def moved() -> Any:
        view = (await rig.ask(pnl, "GET", "/pnl/main"))[1]
        return view["unrealized"] == "14" and view

    view = await rig.until(moved, "the mark has moved")
    assert (view["realized"], view["total"]) == ("0", "14")
    days = (await rig.ask(pnl, "GET", "/pnl/main/days"))[1]["days"]
    assert len(days) == 1
    assert (await rig.ask(pnl, "GET", "/pnl/nobody"))[0] == 404


async def test_lots_are_closed_first_in_first_out_when_the_manifest_says_so(rig: Rig) -> None:
    rig.settings = msgspec.structs.replace(rig.settings, config={"pnl": {"method": "fifo"}})
    pnl = await rig.start(PnlService)
    end = await rig.say(ORDERS, filled(0, "1", "100"), filled(1, "1", "120"), filled(2, "-1", "130"))
    await until_folded(rig, pnl, end)
    assert (await rig.ask(pnl, "GET", "/pnl/main"))[1]["realized"] == "30"
    await rig.stop(pnl)
    rig.settings = msgspec.structs.replace(rig.settings, config={})
    again = await rig.start(PnlService)
    assert (await rig.ask(again, "GET", "/pnl/main"))[1]["realized"] == "20"


# ── reconciliation, settlement, reports ─────────────────────────────────────────────────────────


async def trade(rig: Rig, number: int, signed: str, price: str, *, taken_over: bool = True) -> None:
    """An execution at the venue, and what the OMS makes of it."""
    fill = filled(number, signed, price)
    order = spec(fill.order_id, side=fill.side, quantity=signed.lstrip("-"), price=price)
    accept = ev.VenueAccepted(order_id=fill.order_id, venue_order_id="v", spec=order)
    executed = ev.VenueFilled(
        order_id=fill.order_id, exec_id=fill.exec_id, last_qty=fill.last_qty, last_px=fill.last_px
    )
    end = await rig.say("venue.reports", accept, executed)
    opened = ev.OrderOpened(order_id=fill.order_id, report_seq=end - 2)
    ours = msgspec.structs.replace(fill, report_seq=end - 1)
    await rig.say(ORDERS, opened, *([ours] if taken_over else []))


async def test_books_are_reconciled_with_the_venues_own_record(rig: Rig) -> None:
    ptrc = await rig.start(PtrcService)
    await trade(rig, 0, "2", "100")
    await trade(rig, 1, "-0.5", "101")
    await until_folded(rig, ptrc, 4)
    status, answer = await rig.ask(ptrc, "GET", "/reconcile/SIM?account=main")
    assert (status, answer["matched"], answer["report_seq"]) == (200, True, 3)
    await trade(rig, 2, "1", "102", taken_over=False)
    await trade(rig, 3, "1", "103")
    await until_folded(rig, ptrc, 7)
    _, answer = await rig.ask(ptrc, "GET", "/reconcile/SIM")
    (found,) = answer["accounts"][0]["breaks"]
    assert (found["our_quantity"], found["venue_quantity"], found["explained"]) == ("2.5", "3.5", True)
    assert [(cause["kind"], cause["exec_id"]) for cause in found["causes"]] == [("missing_fill", "SIM-2")]
    assert (await rig.ask(ptrc, "GET", "/reconcile/NOPE"))[0] == 404


async def test_a_statement_is_taken_as_csv(rig: Rig) -> None:
    ptrc = await rig.start(PtrcService)
    await until_folded(rig, ptrc, await rig.say(ORDERS, filled(0, "2", "100"), filled(1, "-0.5", "101")))
    text = b"exec_id,symbol,side,quantity,price\nSIM-0,BTCUSDT,BUY,2,100\nSIM-1,BTCUSDT,SELL,0.5,102\n,BTCUSDT,,1.5,\n"
    target = "/reconcile?account=main&venue=SIM"
    status, answer = await rig.ask(ptrc, "POST", target, text, content_type="text/csv")
    assert status == 200
    (found,) = answer["breaks"]
    assert [(cause["kind"], cause["exec_id"]) for cause in found["causes"]] == [("price_differs", "SIM-1")]


async def test_a_long_statement_is_read_whole(rig: Rig) -> None:
    ptrc = await rig.start(PtrcService)
    lines = [{"exec_id": f"SIM-{n}", "symbol": "BTCUSDT", "side": "BUY", "quantity": "1"} for n in range(10_000)]
    statement = {"account": "main", "venue": "SIM", "fills": lines}
    status, answer = await rig.ask(ptrc, "POST", "/reconcile", statement)
    assert (status, answer["matched"]) == (200, False)
    assert answer["breaks"][0]["venue_quantity"] == "10000"


async def test_obligations_settle_n_days_after_the_trade(rig: Rig) -> None:
    rig.settings = msgspec.structs.replace(rig.settings, config={"ptrc": {"settlement_days": 2}})
    ptrc = await rig.start(PtrcService)
    end = await rig.say(ORDERS, filled(0, "2", "100", fee=to_nanos(1) * 10**9), filled(1, "-0.5", "101"))
    await until_folded(rig, ptrc, end)
    (line,) = (await rig.ask(ptrc, "GET", "/settlement/main"))[1]["obligations"]
    assert (line["state"], line["quantity"], line["cash"], line["currency"]) == ("pending", "1.5", "-150.5", "USDT")
    rig.settings = msgspec.structs.replace(rig.settings, config={})
    await rig.stop(ptrc)
    again = await rig.start(PtrcService)
    (line,) = (await rig.ask(again, "GET", "/settlement/main"))[1]["obligations"]
    assert (line["state"], line["trade_date"]) == ("settled", line["settlement_date"])


async def test_every_execution_is_in_the_report_as_json_and_as_csv(rig: Rig) -> None:
    ptrc = await rig.start(PtrcService)
    events: list[Any] = []
    for fill in FILLS:
        events += [ev.OrderOpened(order_id=fill.order_id), fill]
    await until_folded(rig, ptrc, await rig.say(ORDERS, *events))
    rows: list[dict[str, str]] = []
    cursor: str | None = "0"
    while cursor is not None:
        _, page = await rig.ask(ptrc, "GET", f"/reports/transactions?limit=2&cursor={cursor}")
        rows += page["transactions"]
        cursor = page["cursor"]
    assert [row["trading_venue_transaction_id"] for row in rows] == [fill.exec_id for fill in FILLS]
    status, text = await rig.ask(ptrc, "GET", "/reports/transactions?format=csv&account=other")
    assert status == 200
    lines = text.splitlines()
    assert len(lines) == 2
    assert "SIM-3" in lines[1]
