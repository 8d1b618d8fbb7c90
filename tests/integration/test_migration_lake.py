"""The lake from a folder to a real store of objects: its tables with all versions and positions, also when cut short."""

from pathlib import Path
from uuid import uuid4

import pytest
from tests.infra import S3_KEYS

from trade2026.local.infra.component import Component
from trade2026.local.infra.seaweedfs import SeaweedFs
from trade2026.local.migration import lake
from trade2026.local.migration.moves import MigrationRefused
from trade2026.stores.delta import DeltaLake
from trade2026.stores.lake import Column, Kind, LakeError, Selection, TableSpec
from trade2026.stores.objects import Objects
from trade2026.stores.s3 import S3Settings

SPEC = TableSpec(
    name="ticks",
    columns=(Column("date", Kind.DATE), Column("symbol", Kind.TEXT), Column("seq", Kind.INTEGER)),
    order=("seq",),
    cluster=("seq",),
)
POSITION = "market.ticks/0"
SYMBOLS = ["BTCUSDT.SIM", "A/B #%20.SIM"]


class Killed(Exception):
    """In the place of `kill -9`."""


def nothing(what: str, done: int, total: int) -> None:
    pass


def killed(what: str, done: int, total: int) -> None:
    if done > total // 2:
        raise Killed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A lake with a checkpoint, deleted files and a symbol that no path can hold as it is."""
    root = tmp_path / "lake"
    made = DeltaLake(root)
    for number in range(25):
        columns = {"date": [20_000] * 2, "symbol": SYMBOLS, "seq": [2 * number, 2 * number + 1]}
        made.append(SPEC, columns, {POSITION: 2 * number + 2})
    made.compact("ticks", 20_000, SYMBOLS[0])
    return root


@pytest.fixture
def settings(seaweedfs: Component, monkeypatch: pytest.MonkeyPatch) -> S3Settings:
    assert isinstance(seaweedfs, SeaweedFs)
    for name, value in zip(("LAKE_KEY", "LAKE_SECRET"), S3_KEYS, strict=True):
        monkeypatch.setenv(name, value)
    return S3Settings(
        url=f"s3://{seaweedfs.bucket}/{uuid4().hex}",
        endpoint=f"http://{seaweedfs.address}",
        access_key_variable="LAKE_KEY",
        secret_key_variable="LAKE_SECRET",
    )


def objects(settings: S3Settings) -> Objects:
    return Objects(settings.url, settings.options())


def test_a_lake_has_its_rows_versions_and_positions_in_the_bucket_also_when_it_was_cut_short(
    folder: Path, settings: S3Settings
) -> None:
    files = lake.files_of(folder)
    with pytest.raises(Killed):
        lake.move(folder, objects(settings), "m1", killed)
    assert 0 < lake.move(folder, objects(settings), "m1", nothing) < len(files), "nothing is copied twice"
    assert lake.move(folder, objects(settings), "m1", nothing) == 0
    assert lake.compare(folder, objects(settings), nothing) == len(files)

    here, there = DeltaLake(folder), DeltaLake(settings.url, settings.options(), names=["ticks"])
    assert there.read(SPEC, Selection(limit=1_000)).rows == here.read(SPEC, Selection(limit=1_000)).rows
    assert there.history("ticks", 100) == here.history("ticks", 100)
    assert there.offsets("ticks", [POSITION]) == {POSITION: 50}
    there.append(SPEC, {"date": [20_000], "symbol": SYMBOLS[:1], "seq": [50]}, {POSITION: 51})
    assert len(there.read(SPEC, Selection(limit=1_000)).rows) == 51


def test_a_bucket_that_holds_another_lake_is_refused(folder: Path, settings: S3Settings) -> None:
    there = DeltaLake(settings.url, settings.options(), names=["ticks"])
    there.append(SPEC, {"date": [20_000], "symbol": ["X.SIM"], "seq": [0]}, {POSITION: 1})
    with pytest.raises(MigrationRefused, match=r"holds a table that is not of this move \(ticks\)"):
        lake.move(folder, objects(settings), "m1", nothing)


def test_a_file_that_differs_in_the_bucket_is_found(folder: Path, settings: S3Settings) -> None:
    lake.move(folder, objects(settings), "m1", nothing)
    path = lake.files_of(folder)[0]
    content = (folder / path).read_bytes()
    objects(settings).put(path.as_posix(), content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(MigrationRefused, match="start the move again"):
        lake.compare(folder, objects(settings), nothing)


def test_a_store_that_refuses_us_is_told_in_a_line(settings: S3Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKE_SECRET", "wrong")
    with pytest.raises(LakeError, match=r"migration\.json: "):
        objects(settings).read("migration.json")
