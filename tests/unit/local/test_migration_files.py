"""Files of a state directory: copied once, whole, and nothing that belongs to one run."""

from pathlib import Path

import pytest

from trade2026.local.migration import files, journal
from trade2026.local.migration.moves import MigrationRefused


def nothing(what: str, done: int, total: int) -> None:
    pass


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "here"
    for name in ("snapshots/oms/1.snapshot", "audit/audit.db", "audit/audit.db-shm", "bus/x/0/segment-0.db"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    for name in ("run/oms.json", "logs/oms.log"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text(name)
    (root / "lock").touch()
    (root / "VERSION").write_text("1")
    return root


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "there").mkdir()
    return tmp_path / "there"


def test_what_is_kept_is_copied_and_what_belongs_to_one_run_is_not(source: Path, target: Path) -> None:
    assert files.copy(source, target, ["bus"], nothing) == 2
    found = sorted(path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file())
    assert found == ["audit/audit.db", "snapshots/oms/1.snapshot"]
    assert files.compare(source, target, ["bus"], nothing) == 2


def test_a_second_copy_takes_what_changed_only_and_removes_what_is_gone(source: Path, target: Path) -> None:
    files.copy(source, target, ["bus"], nothing)
    (source / "audit/audit.db").write_text("more of it")
    (source / "snapshots/oms/1.snapshot").rename(source / "snapshots/oms/2.snapshot")
    (target / "audit/.audit.db.copying").write_text("what a kill has left")
    assert files.copy(source, target, ["bus"], nothing) == 2
    assert sorted(path.name for path in target.rglob("*") if path.is_file()) == ["2.snapshot", "audit.db"]
    assert files.copy(source, target, ["bus"], nothing) == 0


def test_a_file_that_differs_is_found(source: Path, target: Path) -> None:
    files.copy(source, target, ["bus"], nothing)
    (target / "audit/audit.db").write_text("audit/audit.dB")
    with pytest.raises(MigrationRefused, match=r"is not .*audit\.db: start the move again"):
        files.compare(source, target, ["bus"], nothing)


def test_a_move_from_elsewhere_is_not_gone_on_with(source: Path, target: Path) -> None:
    said = journal.begin(target, source)
    assert journal.begin(target, source) == said
    assert "is not finished: go on with `trade2026 migrate" in journal.unfinished(target)
    with pytest.raises(MigrationRefused, match="holds what was moved from"):
        journal.begin(target, source / "other")
    journal.write(target, {**said, "finished": True})
    assert not journal.unfinished(target) and not journal.unfinished(source)


def test_a_journal_that_is_damaged_stops_everything(target: Path) -> None:
    for text in ("{", "[]", "{}"):
        (target / journal.NAME).write_text(text)
        with pytest.raises(MigrationRefused, match=r"migration\.json (is damaged|can't be read)"):
            journal.read(target)
