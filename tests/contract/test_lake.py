"""What every lake promises; each implementation is held to it."""

import contextlib
import random
import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
from deltalake import DeltaTable
from tests.infra import S3_KEYS

from trade2026.domain.numbers import COST_SCALE, SCALE
from trade2026.local.infra.seaweedfs import SeaweedFs
from trade2026.stores.delta import DeltaLake
from trade2026.stores.lake import (
    Column,
    Kind,
    Lake,
    LakeConflict,
    LakeError,
    NoSuchTable,
    NoSuchVersion,
    Selection,
    TableSpec,
)
from trade2026.stores.object_lake import ObjectLake
from trade2026.stores.s3 import S3Settings

_IS_FOLDER = 1 << 31
"""In the mode of a file, as the store tells it."""
DAY_NS = 86_400 * 10**9
DAY = 20_000
SPEC = TableSpec(
    name="prints",
    columns=(
        Column("date", Kind.DATE),
        Column("symbol", Kind.TEXT),
        Column("seq", Kind.INTEGER),
        Column("ts_event", Kind.INTEGER),
        Column("price", Kind.AMOUNT),
        Column("value", Kind.COST),
        Column("bids", Kind.LEVELS),
    ),
    order=("ts_event", "seq"),
    cluster=("ts_event",),
)
OFFSET = "market.ticks/0"
EVERYTHING = Selection(limit=10_000)
Make = Callable[[], Lake]


class Files(Protocol):
    """What lies below the root of a lake, as somebody sees it who harms it."""

    def names(self, folder: str) -> list[str]:
        """Every file below a folder, from the root on."""
        ...

    def write(self, name: str, text: str) -> None: ...
    def remove(self, name: str) -> None: ...
    def checkpoint(self, table: str) -> None: ...


class Folder:
    """A lake in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self, folder: str) -> list[str]:
        return [str(path.relative_to(self.root)) for path in (self.root / folder).rglob("*") if path.is_file()]

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)

    def remove(self, name: str) -> None:
        path = self.root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    def checkpoint(self, table: str) -> None:
        DeltaTable(str(self.root / table)).create_checkpoint()


class Bucket:
    """A lake in the bucket of a store, whose files are reached by a way of the store's own."""

    def __init__(self, store: SeaweedFs) -> None:
        self.prefix = uuid.uuid4().hex
        self.url = f"s3://{store.bucket}/{self.prefix}"
        access, secret = S3_KEYS
        settings = S3Settings(url=self.url, endpoint=f"http://{store.address}")
        self.options = settings.options({"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret})
        self._client = httpx.Client(base_url=f"http://{store.filer}/buckets/{store.bucket}/{self.prefix}")

    def names(self, folder: str) -> list[str]:
        found: list[str] = []
        answer = self._client.get(f"/{folder}/", params={"limit": 10_000}, headers={"Accept": "application/json"})
        for entry in answer.raise_for_status().json()["Entries"] or []:
            name = f"{folder}/{entry['FullPath'].rpartition('/')[2]}".lstrip("/")
            found += self.names(name) if entry["Mode"] & _IS_FOLDER else [name]
        return found

    def write(self, name: str, text: str) -> None:
        self._client.put(f"/{name}", content=text).raise_for_status()

    def remove(self, name: str) -> None:
        self._client.delete(f"/{name}", params={"recursive": "true"}).raise_for_status()

    def checkpoint(self, table: str) -> None:
        DeltaTable(f"{self.url}/{table}", storage_options=self.options).create_checkpoint()


@pytest.fixture(params=["folder", "url", "s3"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    if request.param == "s3":
        return Bucket(request.getfixturevalue("seaweedfs"))
    return Folder(tmp_path / "lake")


@pytest.fixture
def make(request: pytest.FixtureRequest, files: Files) -> Make:
    """Makes lakes over the same files, as a restarted process does."""
    if isinstance(files, Bucket):
        return lambda: ObjectLake(files.url, files.options, names=["prints"])
    assert isinstance(files, Folder)
    if request.node.callspec.params["files"] == "url":  # as object storage is named, with its options
        return lambda: DeltaLake(f"file://{files.root}", {"timeout": "30s"})
    return lambda: DeltaLake(files.root)


def rows(first: int, count: int, *, symbol: str = "BTCUSDT.SIM", day: int = DAY) -> dict[str, list[Any]]:
    """Rows whose every value follows from their number."""
    numbers = range(first, first + count)
    return {
        "date": [day] * count,
        "symbol": [symbol] * count,
        "seq": list(numbers),
        "ts_event": [day * DAY_NS + number for number in numbers],
        "price": [None if number % 7 == 3 else 50_000 * SCALE + number for number in numbers],
        "value": [5 * COST_SCALE + number for number in numbers],
        "bids": [[(SCALE + number, SCALE), (SCALE - number, number)] if number % 2 else [] for number in numbers],
    }


def as_rows(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def seqs(lake: Lake, wanted: Selection = EVERYTHING) -> list[int]:
    return [row["seq"] for row in lake.read(SPEC, wanted).rows]


def test_what_was_written_is_read_in_order_and_exactly(make: Make) -> None:
    lake, written = make(), rows(0, 20)
    lake.append(SPEC, written, {OFFSET: 20})
    answer = make().read(SPEC, Selection())
    assert answer.rows == as_rows(written)
    assert not answer.more


def test_the_greatest_amounts_are_kept_to_the_last_digit(make: Make) -> None:
    lake = make()
    written = rows(0, 2)
    written["price"], written["value"] = [9 * 10**18, -9 * 10**18], [9 * 10**37, -1]
    lake.append(SPEC, written, {OFFSET: 2})
    assert lake.read(SPEC, Selection()).rows == as_rows(written)
    written["price"] = [10**25, 1]  # a sum of many
    lake.append(SPEC, written, {OFFSET: 4})
    assert {row["price"] for row in lake.read(SPEC, Selection()).rows} == {9 * 10**18, -9 * 10**18, 10**25, 1}


def test_the_position_comes_with_the_rows_also_to_another_process(make: Make) -> None:
    lake = make()
    assert lake.offsets("prints", [OFFSET]) == {}
    lake.append(SPEC, rows(0, 5), {OFFSET: 5, "late": 1})
    lake.append(SPEC, rows(5, 5), {OFFSET: 10, "late": 3})
    again = make()
    assert again.offsets("prints", [OFFSET, "late", "other"]) == {OFFSET: 10, "late": 3}
    again.append(SPEC, rows(10, 5), {OFFSET: 15})
    assert make().offsets("prints", [OFFSET, "late"]) == {OFFSET: 15, "late": 3}
    assert seqs(again) == list(range(15))


def test_a_position_outlives_many_commits_and_an_optimisation(make: Make) -> None:
    lake = make()
    for number in range(105):
        lake.append(SPEC, rows(number, 1), {OFFSET: number + 1})
    lake.compact("prints", DAY, "BTCUSDT.SIM")
    assert make().offsets("prints", [OFFSET]) == {OFFSET: 105}
    assert seqs(make()) == list(range(105))


def test_of_two_writers_of_one_position_the_second_writes_nothing(make: Make) -> None:
    first, second = make(), make()
    first.append(SPEC, rows(0, 5), {OFFSET: 5})
    assert second.offsets("prints", [OFFSET]) == {OFFSET: 5}
    first.append(SPEC, rows(5, 5), {OFFSET: 10})
    with pytest.raises(LakeConflict):
        second.append(SPEC, rows(5, 5), {OFFSET: 10})
    assert seqs(make()) == list(range(10))
    assert second.offsets("prints", [OFFSET]) == {OFFSET: 10}
    second.append(SPEC, rows(10, 5), {OFFSET: 15})
    assert seqs(make()) == list(range(15))


def test_of_two_writers_that_both_begin_the_table_the_second_writes_nothing(make: Make) -> None:
    first, second = make(), make()
    assert first.offsets("prints", [OFFSET]) == second.offsets("prints", [OFFSET]) == {}
    first.append(SPEC, rows(0, 5), {OFFSET: 5})
    with pytest.raises(LakeConflict):
        second.append(SPEC, rows(0, 5), {OFFSET: 5})
    assert second.offsets("prints", [OFFSET]) == {OFFSET: 5}
    second.append(SPEC, rows(5, 5), {OFFSET: 10})
    assert seqs(make()) == list(range(10))


def test_two_writers_of_other_positions_do_not_disturb_each_other(make: Make) -> None:
    first, second = make(), make()
    first.append(SPEC, rows(0, 5), {"a": 5})
    second.offsets("prints", ["b"])
    first.append(SPEC, rows(5, 5), {"a": 10})
    second.append(SPEC, rows(10, 5), {"b": 5})
    assert make().offsets("prints", ["a", "b"]) == {"a": 10, "b": 5}
    assert seqs(make()) == list(range(15))


def test_a_position_may_go_back_because_a_log_may_lose_its_end(make: Make) -> None:
    lake = make()
    lake.append(SPEC, rows(0, 5), {OFFSET: 500})
    lake.append(SPEC, rows(5, 5), {OFFSET: 7})
    assert make().offsets("prints", [OFFSET]) == {OFFSET: 7}


def test_questions_are_about_a_time_range_a_symbol_and_a_limit(make: Make) -> None:
    lake = make()
    lake.append(SPEC, rows(0, 10), {OFFSET: 10})
    lake.append(SPEC, rows(10, 10, symbol="O'NEIL.SIM", day=DAY + 1), {OFFSET: 20})
    begin = DAY * DAY_NS
    assert seqs(lake, Selection(from_ns=begin + 3, to_ns=begin + 6)) == [3, 4, 5]
    assert seqs(lake, Selection(from_ns=begin + 8, to_ns=begin + DAY_NS + 12)) == [8, 9, 10, 11]
    assert seqs(lake, Selection(to_ns=begin + DAY_NS)) == list(range(10))
    assert seqs(lake, Selection(symbol="O'NEIL.SIM")) == list(range(10, 20))
    assert seqs(lake, Selection(symbol="' OR 1=1 --")) == []
    limited = lake.read(SPEC, Selection(limit=4))
    assert ([row["seq"] for row in limited.rows], limited.more) == ([0, 1, 2, 3], True)
    assert not lake.read(SPEC, Selection(limit=20)).more


def test_an_older_version_is_answered_by_number_and_by_time(make: Make) -> None:
    lake = make()
    first = lake.append(SPEC, rows(0, 5), {OFFSET: 5})
    ended_ns = lake.history("prints", 1)[0].ts
    while time.time_ns() // 1_000_000 * 1_000_000 <= ended_ns:  # a version's time is in milliseconds
        time.sleep(0.001)
    second = lake.append(SPEC, rows(5, 5), {OFFSET: 10})
    assert seqs(lake, Selection(version=first)) == list(range(5))
    assert seqs(lake, Selection(version=second)) == list(range(10))
    assert seqs(lake, Selection(at_ns=ended_ns)) == list(range(5))
    assert seqs(lake, Selection(at_ns=time.time_ns() + 10**9)) == list(range(10))
    with pytest.raises(NoSuchVersion, match="the newest is"):
        lake.read(SPEC, Selection(version=second + 1))
    with pytest.raises(NoSuchVersion, match="is as old as"):
        lake.read(SPEC, Selection(at_ns=10**18))


def test_optimising_changes_files_and_no_answer(make: Make) -> None:
    lake = make()
    for number in range(0, 30, 3):
        lake.append(SPEC, rows(number, 3), {OFFSET: number + 3})
    lake.append(SPEC, rows(30, 3, day=DAY + 1), {OFFSET: 33})
    assert [part.files for part in lake.state("prints").parts] == [10, 1]
    done = lake.compact("prints", DAY, "BTCUSDT.SIM")
    assert (done.files_removed, done.files_added) == (10, 1)
    lake.cluster(SPEC, DAY, "BTCUSDT.SIM")
    parts = lake.state("prints").parts
    assert [(part.day, part.symbol, part.files, part.rows) for part in parts] == [
        (DAY, "BTCUSDT.SIM", 1, 30),
        (DAY + 1, "BTCUSDT.SIM", 1, 3),
    ]
    assert seqs(lake) == list(range(33))


def test_rows_are_written_while_another_optimises(make: Make) -> None:
    writer, other = make(), make()
    for number in range(10):
        writer.append(SPEC, rows(number, 1), {OFFSET: number + 1})
    other.compact("prints", DAY, "BTCUSDT.SIM")
    writer.append(SPEC, rows(10, 1), {OFFSET: 11})
    assert seqs(make()) == list(range(11))
    assert make().offsets("prints", [OFFSET]) == {OFFSET: 11}


def test_a_vacuum_takes_what_only_old_versions_need_and_they_are_gone(make: Make) -> None:
    lake = make()
    old = lake.append(SPEC, rows(0, 5), {OFFSET: 5})
    lake.append(SPEC, rows(5, 5), {OFFSET: 10})
    lake.compact("prints", DAY, "BTCUSDT.SIM")
    assert lake.vacuum("prints", 24) == []
    assert len(lake.vacuum("prints", 0, dry_run=True)) == 2
    assert seqs(lake, Selection(version=old)) == list(range(5))
    assert len(lake.vacuum("prints", 0)) == 2
    assert seqs(lake) == list(range(10))
    with pytest.raises(NoSuchVersion, match="vacuumed"):
        lake.read(SPEC, Selection(version=old))


def test_a_column_is_added_by_a_newer_writer_and_older_files_and_writers_go_on(make: Make) -> None:
    lake = make()
    lake.append(SPEC, rows(0, 5), {OFFSET: 5})
    newer = replace(SPEC, columns=(*SPEC.columns, Column("venue_seq", Kind.INTEGER)))
    assert lake.read(newer, Selection()).rows[0]["venue_seq"] is None
    upgraded = make()
    upgraded.offsets("prints", [OFFSET])
    upgraded.append(newer, rows(5, 5) | {"venue_seq": list(range(5, 10))}, {OFFSET: 10})
    assert [row["venue_seq"] for row in make().read(newer, Selection()).rows] == [None] * 5 + list(range(5, 10))
    assert make().read(SPEC, Selection()).rows == as_rows(rows(0, 10))
    downgraded = make()
    downgraded.offsets("prints", [OFFSET])
    downgraded.append(SPEC, rows(10, 5), {OFFSET: 15})
    found = make().read(newer, Selection()).rows
    assert [row["venue_seq"] for row in found] == [None] * 5 + list(range(5, 10)) + [None] * 5


def test_what_was_never_written_is_no_table(make: Make) -> None:
    lake = make()
    assert lake.tables() == []
    for ask in (
        lambda: lake.read(SPEC, Selection()),
        lambda: lake.state("prints"),
        lambda: lake.history("prints", 1),
        lambda: lake.vacuum("prints", 24),
    ):
        with pytest.raises(NoSuchTable):
            ask()
    lake.append(SPEC, rows(0, 1), {OFFSET: 1})
    assert lake.tables() == ["prints"]
    assert [commit.rows for commit in lake.history("prints", 1)] == [1]


def test_another_retention_is_adopted_by_the_next_writer(tmp_path: Path) -> None:
    DeltaLake(tmp_path).append(SPEC, rows(0, 5), {OFFSET: 5})
    longer = DeltaLake(tmp_path, retention_hours=48)
    assert longer.offsets("prints", [OFFSET]) == {OFFSET: 5}
    longer.append(SPEC, rows(5, 5), {OFFSET: 10})
    operations = [commit.operation for commit in longer.history("prints", 10)]
    assert DeltaLake(tmp_path, retention_hours=48).offsets("prints", [OFFSET]) == {OFFSET: 10}
    assert [commit.operation for commit in longer.history("prints", 10)] == operations
    assert "SET TBLPROPERTIES" in operations


def commit(version: int) -> str:
    """The file of one commit."""
    return f"prints/_delta_log/{version:020d}.json"


def versions(make: Make, count: int) -> Lake:
    """A lake with a table of so many commits after the one that made it."""
    lake = make()
    for number in range(count):
        lake.append(SPEC, rows(number, 1), {OFFSET: number + 1})
    return lake


@pytest.mark.parametrize("cleaned", [(0, 1, 2), (0,), (2,)], ids=["with all before it", "its base", "alone"])
def test_a_version_whose_commits_were_cleaned_up_is_no_longer_kept(
    make: Make, files: Files, cleaned: tuple[int, ...]
) -> None:
    lake = versions(make, 4)
    files.checkpoint("prints")
    for version in cleaned:
        files.remove(commit(version))
    with pytest.raises(NoSuchVersion, match="version 2 of prints is no longer kept"):
        lake.read(SPEC, Selection(version=2))
    assert seqs(lake) == list(range(4))


def test_a_version_that_cannot_be_read_is_not_called_unkept(make: Make, files: Files) -> None:
    lake = versions(make, 4)
    files.checkpoint("prints")
    files.write(commit(2), "nonsense")
    with pytest.raises(LakeError, match="Json") as told:
        lake.read(SPEC, Selection(version=2))
    assert not isinstance(told.value, NoSuchVersion)


@pytest.mark.parametrize("taken", ["", "prints", "prints/_delta_log"], ids=["lake", "table", "log"])
def test_a_table_that_was_taken_away_is_made_again(make: Make, files: Files, taken: str) -> None:
    lake = versions(make, 2)
    files.remove(taken)
    with pytest.raises(LakeError):
        lake.append(SPEC, rows(2, 1), {OFFSET: 3})
    with contextlib.suppress(LakeError):  # what was open is closed first
        lake.offsets("prints", [OFFSET])
    assert lake.offsets("prints", [OFFSET]) == {}
    lake.append(SPEC, rows(0, 3), {OFFSET: 3})
    assert seqs(lake) == seqs(make()) == [0, 1, 2]


def test_a_data_file_that_is_gone_is_told_with_what_to_do(make: Make, files: Files) -> None:
    lake = versions(make, 1)
    files.remove(next(name for name in files.names("prints") if name.endswith(".parquet")))
    lake.append(SPEC, rows(1, 1), {OFFSET: 2})
    for ask in (lambda: lake.read(SPEC, Selection()), lambda: lake.compact("prints", DAY, "BTCUSDT.SIM")):
        with pytest.raises(LakeError, match="restore this file, or move the table's folder away") as told:
            ask()
        assert not isinstance(told.value, NoSuchVersion)


# ── as of a time ────────────────────────────────────────────────────────────────────────────────────

NEWS = TableSpec(
    name="news",
    columns=(
        Column("date", Kind.DATE),
        Column("source", Kind.TEXT),
        Column("symbol", Kind.TEXT),
        Column("known", Kind.INTEGER),
        Column("seq", Kind.INTEGER),
    ),
    order=("known", "seq"),
    cluster=("symbol", "known"),
    partition="source",
    dated_by_time=False,
)


def news(*said: tuple[str, str, int, int], day: int = DAY) -> dict[str, list[Any]]:
    """Rows of (source, symbol, known, seq), all of which came on one day."""
    names = ("source", "symbol", "known", "seq")
    return {"date": [day] * len(said)} | {name: [each[place] for each in said] for place, name in enumerate(names)}


def test_the_latest_row_as_of_a_time_is_never_from_after_it(make: Make) -> None:
    lake = make()
    lake.append(NEWS, news(("wire", "BTC", 100, 0), ("wire", "BTC", 200, 2), ("blog", "BTC", 150, 3)), {OFFSET: 3})
    lake.append(NEWS, news(("wire", "BTC", 200, 1), ("wire", "E'TH", 50, 4), day=DAY + 9), {OFFSET: 5})
    asked = [("BTC", at) for at in (300, 99, 100, 199, 200)] + [("E'TH", 60), ("DOGE", 999), ("BTC", 300)]
    answers = lake.latest(NEWS, "symbol", asked, {"source": "wire"})
    assert [row and row["seq"] for row in answers] == [2, None, 0, 0, 2, 4, None, 2]
    assert answers[2] == {"date": DAY, "source": "wire", "symbol": "BTC", "known": 100, "seq": 0}
    assert lake.latest(NEWS, "symbol", [], {"source": "wire"}) == []
    assert lake.latest(NEWS, "symbol", [("BTC", 300)], {"source": "none"}) == [None]
    with pytest.raises(NoSuchTable):
        lake.latest(replace(NEWS, name="nowhere"), "symbol", [("BTC", 1)], {})


def test_many_times_are_asked_at_once_and_each_answer_is_the_one_that_looking_through_finds(make: Make) -> None:
    chance = random.Random(7)
    said = [("wire", chance.choice("ABC"), chance.randrange(2_000), seq) for seq in range(500)]
    lake = make()
    lake.append(NEWS, news(*said), {OFFSET: 500})
    asked = [(chance.choice("ABCD"), chance.randrange(-10, 2_100)) for _ in range(1_000)]
    expected = [
        max((each[2:] for each in said if each[1] == symbol and each[2] <= at), default=None) for symbol, at in asked
    ]
    answers = lake.latest(NEWS, "symbol", asked, {"source": "wire"})
    assert [row and (row["known"], row["seq"]) for row in answers] == expected


def test_rows_are_found_by_words_and_from_a_place_on(make: Make) -> None:
    lake = make()
    said = [("wire", "AB"[seq % 2], 10 * (seq // 4), seq) for seq in range(20)]
    lake.append(NEWS, news(*said), {OFFSET: 20})
    wanted = Selection(equal={"source": "wire", "symbol": "A"}, limit=3)
    pages, after = [], None
    while True:
        answer = lake.read(NEWS, replace(wanted, after=after))
        pages.append([row["seq"] for row in answer.rows])
        if not answer.more:
            break
        after = (answer.rows[-1]["known"], answer.rows[-1]["seq"])
    assert pages == [[0, 2, 4], [6, 8, 10], [12, 14, 16], [18]]
    assert [row["seq"] for row in lake.read(NEWS, Selection(from_ns=10, to_ns=20)).rows] == [4, 5, 6, 7]


def test_a_table_may_be_parted_by_another_column_than_the_symbol(make: Make) -> None:
    lake = make()
    for seq in range(4):
        lake.append(NEWS, news(("wire", f"S{seq}", seq, seq), ("blog", "S", seq, seq + 10)), {OFFSET: seq + 1})
    assert [(part.day, part.symbol, part.files) for part in lake.state("news").parts] == [
        (DAY, "blog", 4),
        (DAY, "wire", 4),
    ]
    assert lake.compact("news", DAY, "wire").files_removed == 4
    assert lake.cluster(NEWS, DAY, "blog").files_removed == 4
    assert [row["seq"] for row in lake.read(NEWS, Selection(equal={"source": "wire"})).rows] == [0, 1, 2, 3]
