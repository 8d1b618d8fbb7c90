"""Of little memory, on a full disk, and ahead of those behind it the order service refuses what adds risk, and nothing else."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from recovering import Desk, accepted, submit, until_status
from tests.waiting import until

from trade2026.domain import events as ev
from trade2026.kit.memory import Memory
from trade2026.oms import cell


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path)
    await desk.start()
    yield desk
    await desk.stop()


async def test_of_little_memory_only_what_adds_risk_is_refused(desk: Desk) -> None:
    oms = await desk.oms()
    order_id = await accepted(oms)
    oms.memory = Memory(76 << 20, 100 << 20)

    async def refused() -> bool:
        return (await submit(oms)).status_code == 503

    await until(refused, "new orders are refused")
    answer = (await submit(oms)).json()
    assert answer["code"] == "memory_low"
    assert "76 of 100 MiB are in use, new orders need 25 MiB" in answer["detail"]
    assert (await oms.ask("DELETE", f"/orders/{order_id}")).status_code == 200
    assert (await oms.ask("GET", "/health")).json()["checks"]["memory"]["status"] == "failed"
    assert (await oms.ask("GET", "/readyz")).status_code == 200, "it still answers"
    oms.memory = Memory(74 << 20, 100 << 20)
    await until(lambda: oms.service.health()["memory"].ok, "there is room again")
    await accepted(oms)


async def test_below_the_floor_of_free_disk_only_what_adds_risk_is_refused(desk: Desk) -> None:
    desk.settings = msgspec.structs.replace(desk.settings, free_bytes_min=1024**3)
    oms = await desk.oms()
    cancelled, filled = await accepted(oms), await accepted(oms)
    oms.free_bytes = 1024**2

    async def refused() -> bool:
        return (await submit(oms)).status_code == 503

    await until(refused, "new orders are refused")
    answer = await submit(oms)
    assert (answer.json()["code"], answer.headers["retry-after"]) == ("disk_low", "5")
    assert (await oms.ask("PATCH", f"/orders/{cancelled}", {"quantity": "0.002"})).status_code == 503
    assert (await oms.ask("DELETE", f"/orders/{cancelled}")).status_code == 200
    await desk.say(ev.VenueCanceled(order_id=cancelled), desk.fill(filled))
    await until_status(oms, cancelled, "Canceled")
    await until_status(oms, filled, "Filled")
    assert (await oms.ask("POST", "/kill", {"scope": "stack", "reason": "full"})).status_code == 200
    assert (await oms.ask("GET", "/health")).json()["checks"]["disk"]["status"] == "failed"


@pytest.mark.parametrize(
    ("bound", "code"), [("ORDERS_IN_MEMORY_MAX", "history_behind"), ("REPORTS_BEHIND_MAX", "reports_behind")]
)
async def test_new_orders_wait_when_those_behind_cannot_follow_and_cancels_do_not(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, bound: str, code: str
) -> None:
    oms = await desk.oms()
    order_id = await accepted(oms)
    monkeypatch.setattr(cell, bound, -1)
    refused = await submit(oms)
    assert (refused.status_code, refused.json()["code"]) == (429, code)
    assert refused.headers["retry-after"]
    assert (await oms.ask("DELETE", f"/orders/{order_id}")).status_code == 200
    monkeypatch.undo()
    assert (await submit(oms)).status_code == 200
