"""The lake's sink on a store of objects that is away: it says so, nothing is lost, and it goes on by itself."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rig import SYMBOL, Rig
from tests.infra import S3_KEYS, started

from trade2026.domain.market import Trade
from trade2026.domain.numbers import SCALE
from trade2026.kit.identity import ConfigurationError
from trade2026.local.infra.seaweedfs import SeaweedFs
from trade2026.sink_ticks.service import SinkTicksService

TICKS = "market.ticks"
MakeRig = Callable[[SeaweedFs], Rig]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SeaweedFs]:
    """A store of its own, because it is harmed."""
    found = SeaweedFs(tmp_path / "seaweedfs", keys=S3_KEYS)
    started(found)
    yield found
    found.stop()


@pytest.fixture
async def make_rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MakeRig]:
    """Makes a log whose sink keeps its lake in a store."""
    made: list[Rig] = []
    for name, value in zip(("LAKE_KEY", "LAKE_SECRET"), S3_KEYS, strict=True):
        monkeypatch.setenv(name, value)

    def one(store: SeaweedFs) -> Rig:
        rig = Rig(tmp_path / f"state-{len(made)}", "data")
        lake = {
            "type": "s3",
            "url": f"s3://{store.bucket}/{tmp_path.name}",
            "endpoint": f"http://{store.address}",
            "access_key_variable": "LAKE_KEY",
            "secret_key_variable": "LAKE_SECRET",
        }
        config = {"sink-ticks": {"batch_seconds": 0.05, "batch_rows": 50}}
        rig.settings = msgspec.structs.replace(rig.settings, stores={"lake": lake}, config=config)
        made.append(rig)
        return rig

    yield one
    for rig in made:
        await rig.close()


def trades(first: int, count: int) -> list[Trade]:
    return [Trade(SYMBOL, f"t{number}", number * SCALE, SCALE) for number in range(first, first + count)]


async def stored(rig: Rig, service: SinkTicksService) -> list[str]:
    """Ids of the trades in the lake, in their order."""
    status, answer = await rig.ask(service, "GET", "/query/ticks?limit=1000")
    return [row["trade_id"] for row in answer["rows"]] if status == 200 else []


async def test_a_store_that_is_away_is_told_and_what_came_meanwhile_is_stored_once(
    make_rig: MakeRig, store: SeaweedFs
) -> None:
    rig = make_rig(store)
    service = await rig.start(SinkTicksService)
    await rig.say(TICKS, *trades(0, 20))
    await rig.until(lambda: service.sinks["ticks"].stored_to == 20, "it is stored")
    store.kill()
    await rig.say(TICKS, *trades(20, 20))
    await rig.until(lambda: not service.health()[TICKS].ok, "health says so")
    assert "not stored, tried again" in service.health()[TICKS].detail
    assert "error sending request" in service.health()[TICKS].detail
    assert service.readiness()[0]
    await rig.say(TICKS, *trades(40, 5))
    await rig.until(lambda: service.stats()["lag"] == 25, "how far it is behind is known all the same")
    assert [position.next_seq for position in service.followed() if position.topic == TICKS] == [20]
    status, answer = await rig.ask(service, "GET", "/query/ticks")
    assert (status, answer["code"], answer["retry_after"]) == (503, "lake_unavailable", 5)
    store.start()
    await rig.until(lambda: service.sinks["ticks"].stored_to == 45, "it goes on by itself")
    assert await stored(rig, service) == [trade.trade_id for trade in trades(0, 45)]
    assert service.health()[TICKS].ok
    assert not list((rig.state / "lake").glob("*"))


async def test_it_starts_while_its_store_is_away_and_finds_the_tables_when_it_comes(
    make_rig: MakeRig, store: SeaweedFs
) -> None:
    rig = make_rig(store)
    service = await rig.start(SinkTicksService)
    await rig.say(TICKS, *trades(0, 20))
    await rig.until(lambda: service.sinks["ticks"].stored_to == 20, "it is stored")
    await rig.stop(service)
    store.kill()
    again = await rig.start(SinkTicksService)
    await rig.say(TICKS, *trades(20, 5))
    assert again.readiness()[0]
    assert not again.health()[TICKS].ok
    store.start()
    await rig.until(lambda: again.sinks["ticks"].stored_to == 25, "it goes on by itself")
    assert await stored(rig, again) == [trade.trade_id for trade in trades(0, 25)]
    _, catalog = await rig.ask(again, "GET", "/catalog")
    assert [(table["table"], table["rows"]) for table in catalog["tables"]] == [("ticks", 25)]


async def test_a_wrong_key_or_a_bucket_that_is_not_there_is_said_in_the_stores_words(
    make_rig: MakeRig, seaweedfs: SeaweedFs, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = make_rig(seaweedfs)
    monkeypatch.setenv("LAKE_SECRET", "guessed")
    service = await rig.start(SinkTicksService)
    assert "signature" in service.health()[TICKS].detail
    assert "guessed" not in service.health()[TICKS].detail
    await rig.stop(service)
    monkeypatch.setenv("LAKE_SECRET", S3_KEYS[1])
    lake: dict[str, Any] = {**rig.settings.stores["lake"], "url": "s3://nowhere/desk"}
    rig.settings = msgspec.structs.replace(rig.settings, stores={"lake": lake})
    elsewhere = await rig.start(SinkTicksService)
    await rig.say(TICKS, *trades(0, 1))
    await rig.until(lambda: "bucket does not exist" in elsewhere.health()[TICKS].detail, "health says so")


async def test_a_key_that_is_missing_is_named_before_anything_starts(
    make_rig: MakeRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = make_rig(SeaweedFs(tmp_path))  # it need not run
    monkeypatch.delenv("LAKE_SECRET")
    with pytest.raises(ConfigurationError, match="LAKE_SECRET is not set"):
        await rig.start(SinkTicksService)
