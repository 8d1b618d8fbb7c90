"""The state directory: one holder, one format, a socket that fits."""

import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from trade2026.local import state as state_module
from trade2026.local.backup import BackupError, backup, restore, verify
from trade2026.local.control import NotRunning, ask
from trade2026.local.state import Held, StateDir, StateError, rotate, tail


def test_a_second_holder_is_told_who_has_it_and_what_to_do(state: StateDir) -> None:
    import os

    state.lock()
    with pytest.raises(Held, match=rf"in use by process {os.getpid()}: stop it with `trade2026 down"):
        StateDir(state.path).lock()
    state.unlock()
    StateDir(state.path).lock()


@pytest.mark.parametrize(
    ("content", "message"), [("2\n", "format 2, this version reads 1"), ("x", "no state directory")]
)
def test_another_format_is_refused(state: StateDir, content: str, message: str) -> None:
    (state.path / "VERSION").write_text(content)
    with pytest.raises(StateError, match=message):
        state.open()


def test_a_deep_directory_gets_a_socket_path_that_the_kernel_takes(tmp_path: Path) -> None:
    deep = StateDir(tmp_path / ("d" * 60) / ("e" * 60))
    assert len(str(deep.socket)) <= 100
    assert deep.socket == StateDir(deep.path).socket
    assert deep.socket.parent.stat().st_mode & 0o077 == 0


def test_nobody_answers_for_a_stack_that_is_down(state: StateDir) -> None:
    with pytest.raises(NotRunning, match="no stack runs in"):
        ask(state, "status")


def test_a_log_is_put_aside_when_it_has_grown(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "LOG_BYTES_MAX", 10)
    log = state.log("orders")
    for content in ("first, long enough", "second, long enough", "third"):
        rotate(log)
        log.write_text(content)
    assert [path.read_text().split(",")[0] for path in sorted(state.logs.iterdir())] == ["third", "second", "first"]
    assert tail(log) == "third"


def test_a_process_that_holds_its_log_open_goes_on_writing_to_the_emptied_one(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_module, "LOG_BYTES_MAX", 10)
    log = state.log("orders")
    with log.open("ab", buffering=0) as writer:
        writer.write(b"before, long enough")
        rotate(log)
        writer.write(b"after")
    assert log.read_text() == "after"
    assert log.with_name("orders.log.1").read_text() == "before, long enough"


def test_the_state_of_another_stack_is_refused(state: StateDir) -> None:
    state.open("desk")
    state.write_running({"stack": "desk"})
    state.open("desk")
    with pytest.raises(StateError, match=r"holds the stack 'desk', not 'other': choose another --state-dir"):
        state.open("other")


def fill(state: StateDir) -> None:
    (state.path / "archive").mkdir()
    (state.path / "archive" / "snapshot.bin").write_bytes(b"\x00\x01")
    with closing(sqlite3.connect(state.path / "journal.db")) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t(x)")
        connection.execute("INSERT INTO t VALUES (1)")
        connection.commit()


def rows(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("SELECT x FROM t ORDER BY x")]


def test_a_backup_is_restored_and_what_was_there_is_kept_aside(state: StateDir, tmp_path: Path) -> None:
    fill(state)
    backup(state, tmp_path / "copy")
    (state.path / "archive" / "snapshot.bin").write_bytes(b"later")
    aside = restore(tmp_path / "copy", state)
    assert aside is not None
    assert (aside / "archive" / "snapshot.bin").read_bytes() == b"later"
    assert (state.path / "archive" / "snapshot.bin").read_bytes() == b"\x00\x01"
    assert rows(state.path / "journal.db") == [1]
    StateDir(state.path).open()


def test_files_of_servers_beside_a_stack_are_copied_only_while_none_writes_them(
    state: StateDir, tmp_path: Path
) -> None:
    fill(state)
    (state.path / "infra" / "seaweedfs").mkdir(parents=True)
    (state.path / "infra" / "seaweedfs" / "1.dat").write_bytes(b"objects")
    backup(state, tmp_path / "still")
    state.lock()
    backup(state, tmp_path / "running")
    state.unlock()
    assert (tmp_path / "still" / "infra" / "seaweedfs" / "1.dat").read_bytes() == b"objects"
    assert not (tmp_path / "running" / "infra").exists()
    assert (tmp_path / "running" / "archive" / "snapshot.bin").exists()


def test_a_journal_that_is_written_meanwhile_is_copied_as_of_one_instant(state: StateDir, tmp_path: Path) -> None:
    fill(state)
    started, stop = threading.Event(), threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(state.path / "journal.db", isolation_level=None, timeout=30)) as connection:
            value = 2
            while not stop.is_set():
                connection.execute("INSERT INTO t VALUES (?)", (value,))
                value += 1
                started.set()

    writer = threading.Thread(target=write)
    writer.start()
    started.wait()
    try:
        backup(state, tmp_path / "copy")
    finally:
        stop.set()
        writer.join()
    copied = rows(tmp_path / "copy" / "journal.db")
    assert copied == list(range(1, len(copied) + 1))
    assert len(copied) >= 2


@pytest.mark.parametrize("on_purpose", [True, False])
def test_a_segment_that_goes_while_a_backup_is_made(
    state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_purpose: bool
) -> None:
    """One that is dropped on purpose may be covered by a snapshot that the copy lacks."""
    fill(state)
    folder = state.path / "bus" / "orders.events" / "0"
    folder.mkdir(parents=True)
    segment = folder / "segment-0.db"
    shutil.copy(state.path / "journal.db", segment)
    copy_file = shutil.copy2

    def copied(source: Path, target: Path) -> None:
        copy_file(source, target)
        segment.unlink(missing_ok=True)
        if on_purpose:
            (folder / "begins-7").touch()

    monkeypatch.setattr(shutil, "copy2", copied)
    if on_purpose:
        with pytest.raises(BackupError, match="the beginning of a log was dropped meanwhile: make the backup again"):
            backup(state, tmp_path / "copy")
    else:
        backup(state, tmp_path / "copy")
        verify(tmp_path / "copy")
    assert not segment.exists(), "nothing is made where it was"


def test_a_changed_backup_is_refused(state: StateDir, tmp_path: Path) -> None:
    fill(state)
    backup(state, tmp_path / "copy")
    (tmp_path / "copy" / "archive" / "snapshot.bin").write_bytes(b"\x00\x02")
    with pytest.raises(BackupError, match=r"snapshot\.bin is not what was backed up"):
        verify(tmp_path / "copy")


def test_an_incomplete_backup_is_refused(state: StateDir, tmp_path: Path) -> None:
    fill(state)
    backup(state, tmp_path / "copy")
    (tmp_path / "copy" / "journal.db").unlink()
    with pytest.raises(BackupError, match=r"lacks journal\.db"):
        restore(tmp_path / "copy", state)
    with pytest.raises(BackupError, match="no complete backup"):
        verify(tmp_path)


def test_a_running_stack_is_not_restored_over(state: StateDir, tmp_path: Path) -> None:
    fill(state)
    backup(state, tmp_path / "copy")
    holder = StateDir(state.path)
    holder.lock()
    with pytest.raises(Held):
        restore(tmp_path / "copy", state)
    holder.unlock()


def test_a_backup_does_not_overwrite(state: StateDir) -> None:
    with pytest.raises(BackupError, match="is not empty"):
        backup(state, state.path)
