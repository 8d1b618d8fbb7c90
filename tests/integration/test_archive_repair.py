"""A damaged history that can't be made again at once is made again later, and `/health` says why it is not yet."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from recovering import Desk, accepted
from tests.waiting import until

from trade2026.archive import keeper
from trade2026.archive.service import ArchiveService
from trade2026.archive.store import HistoryStore


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path)
    await desk.start()
    yield desk
    await desk.stop()


async def test_making_the_history_again_is_tried_until_it_works(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    order_id = await accepted(await desk.oms())
    archive = await desk._run(ArchiveService)  # pyright: ignore[reportPrivateUsage]
    history: ArchiveService = archive.service
    refused: list[Path] = []

    def no_space(path: Path) -> HistoryStore:
        refused.append(path)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keeper, "HistoryStore", no_space)
    history.keepers[0]._begin_again("noise")  # pyright: ignore[reportPrivateUsage]
    await until(lambda: len(refused) >= 2, "it has failed twice")
    check = history.health()["history"]
    assert (check.ok, "No space left" in check.detail) == (False, True)
    assert not history.readiness()[0]
    monkeypatch.setattr(keeper, "HistoryStore", HistoryStore)
    await until(lambda: history.readiness()[0], "it is made again")
    assert history.health()["history"].ok
    assert history.keepers[0].path.with_name("history.db.damaged").exists()
    assert (await archive.ask("GET", f"/orders/{order_id}")).json()["order_id"] == order_id
