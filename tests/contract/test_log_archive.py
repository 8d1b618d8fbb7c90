"""What every archive of the log promises (`kit/bus/archived.py`), in the same words for each."""

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.infra import S3_KEYS

from trade2026.kit.bus.archive_memory import MemoryArchive
from trade2026.kit.bus.archived import Archive, ArchiveConflict, Extent
from trade2026.kit.bus.port import BusError, Record
from trade2026.log_archive.lake_archive import TABLE, LakeArchive
from trade2026.stores.delta import DeltaLake
from trade2026.stores.s3 import S3Settings

ORDERS = "orders.events"
Reopen = Callable[[], Archive]


@pytest.fixture(params=["memory", "folder", "s3"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Reopen:
    """Each call is how another process, or the next one, sees the archive."""
    if request.param == "memory":
        memory = MemoryArchive()
        return lambda: memory
    if request.param == "folder":
        return lambda: LakeArchive(lambda: DeltaLake(tmp_path / "log"))
    store, (access, secret) = request.getfixturevalue("seaweedfs"), S3_KEYS
    settings = S3Settings(url=f"s3://{store.bucket}/{uuid.uuid4().hex}", endpoint=f"http://{store.address}")
    options = settings.options({"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret})
    return lambda: LakeArchive(lambda: DeltaLake(settings.url, options, names=[TABLE.name]))


def records(first: int, count: int, topic: str = ORDERS, partition: int = 0) -> list[Record]:
    """Bodies that a careless writer would change: another order of fields, spaces, letters beyond ASCII, quotes."""
    return [
        Record(topic, partition, seq, f'{{"ts_init": {seq * 10**13}, "a":"Zürich \\"{seq}\\"" , "1": 1.10}}'.encode())
        for seq in range(first, first + count)
    ]


async def test_an_empty_archive_says_so(reopen: Reopen) -> None:
    assert await reopen().extent(ORDERS, 0) is None
    assert await reopen().read(ORDERS, 0, 0, 10) == []


async def test_records_come_back_to_the_byte_from_any_position_on(reopen: Reopen) -> None:
    written = records(0, 40)
    assert await reopen().write(written[:25]) == Extent(0, 25)
    assert await reopen().write(written[25:]) == Extent(0, 40)
    archive = reopen()
    assert await archive.extent(ORDERS, 0) == Extent(0, 40)
    assert await archive.read(ORDERS, 0, 0, 1_000) == written
    for first, count in ((0, 1), (3, 5), (20, 10), (39, 10)):
        assert await archive.read(ORDERS, 0, first, count) == written[first : first + count]
    assert await archive.read(ORDERS, 0, 40, 10) == []


async def test_an_archive_may_begin_anywhere_and_answers_nothing_before(reopen: Reopen) -> None:
    await reopen().write(records(100, 10))
    archive = reopen()
    assert await archive.extent(ORDERS, 0) == Extent(100, 110)
    assert await archive.read(ORDERS, 0, 99, 5) == []
    assert await archive.read(ORDERS, 0, 105, 2) == records(105, 2)


async def test_partitions_and_topics_are_apart(reopen: Reopen) -> None:
    archive = reopen()
    for topic, partition, first in ((ORDERS, 0, 0), (ORDERS, 1, 5), ("venue.reports", 0, 9), (ORDERS, 10, 2)):
        await archive.write(records(first, 3, topic, partition))
    for topic, partition, first in ((ORDERS, 0, 0), (ORDERS, 1, 5), ("venue.reports", 0, 9), (ORDERS, 10, 2)):
        assert await reopen().extent(topic, partition) == Extent(first, first + 3)
        assert await reopen().read(topic, partition, first, 9) == records(first, 3, topic, partition)


@pytest.mark.parametrize("first", [0, 9, 11])
async def test_what_does_not_follow_is_refused_and_changes_nothing(reopen: Reopen, first: int) -> None:
    await reopen().write(records(0, 10))
    with pytest.raises(ArchiveConflict, match=f"{first} does not follow 9"):
        await reopen().write(records(first, 3))
    assert await reopen().read(ORDERS, 0, 0, 100) == records(0, 10)


async def test_of_two_who_write_the_same_one_is_refused(reopen: Reopen) -> None:
    one, other = reopen(), reopen()
    await one.write(records(0, 5))
    await other.write(records(5, 5))
    with pytest.raises(ArchiveConflict):
        await one.write(records(5, 5))
    assert await one.write(records(10, 1)) == Extent(0, 11)
    assert await reopen().read(ORDERS, 0, 0, 100) == records(0, 11)


async def test_a_lake_that_is_not_there_is_an_error_of_the_bus_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("no folder")
    archive = LakeArchive(lambda: DeltaLake(tmp_path / "log"))
    with pytest.raises(BusError, match="the lake, which has what the log has dropped, does not answer"):
        await archive.write(records(0, 1))
