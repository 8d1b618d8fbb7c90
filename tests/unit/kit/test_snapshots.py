"""A snapshot is whole or not taken; the one before it is the way back."""

from pathlib import Path

import pytest

from trade2026.kit.bus.port import BusCorrupt
from trade2026.kit.snapshots import SnapshotStore


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(tmp_path / "snapshots" / "oms", "oms")


def test_an_empty_directory_has_no_snapshot(store: SnapshotStore) -> None:
    assert store.load() is None
    assert store.unreadable == {}


def test_the_newest_snapshot_is_loaded_with_its_header(store: SnapshotStore) -> None:
    store.write(b"first", 10, "1.0.0")
    store.write(b"second\nline", 2_000, "1.0.1")
    snapshot = store.load()
    assert snapshot is not None
    assert snapshot.state == b"second\nline"
    assert (snapshot.header.name, snapshot.header.next_seq, snapshot.header.code_version) == ("oms", 2_000, "1.0.1")


def test_the_newest_two_are_kept_and_nothing_else(store: SnapshotStore) -> None:
    for next_seq in (1, 2, 30, 4_000):
        store.write(b"state", next_seq, "1")
    assert sorted(path.name for path in store.directory.iterdir()) == [f"{seq:020d}.snapshot" for seq in (30, 4_000)]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: b"",
        lambda data: b"\xff\x00 no header",
        lambda data: data.replace(b'"format":1', b'"format":9'),
        lambda data: data.replace(b'"name":"oms"', b'"name":"pnl"'),
    ],
    ids=["cut", "flipped", "empty", "garbage", "newer_format", "other_fold"],
)
def test_a_damaged_snapshot_is_reported_and_the_one_before_is_loaded(store: SnapshotStore, damage: object) -> None:
    store.write(b"good", 10, "1")
    path = store.write(b"bad", 20, "1")
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    snapshot = store.load()
    assert snapshot is not None
    assert snapshot.state == b"good"
    assert list(store.unreadable) == [path.name]


def test_a_snapshot_beyond_the_end_of_the_log_is_left_aside(store: SnapshotStore) -> None:
    store.write(b"old", 10, "1")
    store.write(b"ahead", 20, "1")
    snapshot = store.load(next_seq_max=15)
    assert snapshot is not None
    assert snapshot.state == b"old"


def test_a_write_that_was_cut_short_leaves_the_snapshots_as_they_were(
    store: SnapshotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(b"good", 10, "1")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        store.write(b"lost", 20, "1")
    snapshot = store.load()
    assert snapshot is not None
    assert snapshot.state == b"good"
    assert len(list(store.directory.iterdir())) == 1


def test_a_log_that_ends_before_a_snapshot_is_refused_with_what_to_do(store: SnapshotStore) -> None:
    store.refuse_lost_end("orders.events", 0)
    store.write(b"state", 7, "1")
    store.refuse_lost_end("orders.events", 7)
    with pytest.raises(BusCorrupt, match=r"orders.events ends at 6, .* events to 7: .*`trade2026 restore`"):
        store.refuse_lost_end("orders.events", 6)
