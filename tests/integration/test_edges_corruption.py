"""Damaged files: each is recovered from, or refused in words that say what to do; never a silent lie."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from one_process import ORDER, OneProcess

from trade2026.archive import integrity
from trade2026.archive import keeper as archive_keeper

FAR = {**ORDER, "price": "30000"}


@pytest.fixture(autouse=True)
def quick_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integrity, "STEP_SECONDS", 0.01)
    monkeypatch.setattr(integrity, "ROUND_SECONDS", 0.1)
    monkeypatch.setattr(archive_keeper, "_SNAPSHOT_EVENTS", 40)


@pytest.fixture(scope="module")
def traded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a stack that has traded: fills, closed orders, one that rests."""
    path = tmp_path_factory.mktemp("traded") / "state"
    with OneProcess(path) as stack:
        trade(stack, 40)
    return path


@pytest.fixture
def state(traded: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return shutil.copytree(traded, tmp_path / "state", ignore=shutil.ignore_patterns("wake"))


def trade(stack: OneProcess, count: int) -> list[str]:
    """Place and cancel orders, fill one; return the ids once every service knows them."""
    placed = stack.call("oms", "POST", "/orders/batch", {"orders": [FAR] * count}).json["results"]
    assert all("order_id" in order for order in placed), placed[:3]
    ids = [order["order_id"] for order in placed]
    market = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.001", "order_type": "MARKET"}
    ids.append(stack.call("oms", "POST", "/orders", market).json["order_id"])
    for order_id in ids[: count - 1]:
        assert stack.call("oms", "DELETE", f"/orders/{order_id}").status == 200
    stack.wait_until(lambda: status_of(stack, "oms", ids[-1]) == "Filled", "the market order is filled")
    for order_id in (ids[0], ids[-1]):
        stack.wait_until(
            lambda order_id=order_id: status_of(stack, "archive", order_id) in ("Canceled", "Filled"), "it is archived"
        )
    return ids


def status_of(stack: OneProcess, service: str, order_id: str) -> str:
    answer = stack.call(service, "GET", f"/orders/{order_id}")
    return answer.json["status"] if answer.status == 200 else f"{answer.status}"


def books(stack: OneProcess) -> dict[str, Any]:
    """What each service says of the account."""
    end = len(stack.events()) - 1
    found: dict[str, Any] = {}
    for service in ("oms", "risk", "ptrc", "pnl"):
        stack.wait_until(
            lambda service=service: stack.call(service, "GET", "/positions/main").json["as_of"] >= end,
            f"{service} has followed",
        )
        lines = stack.call(service, "GET", "/positions/main").json["positions"]
        found[service] = [(line["symbol"], line["quantity"], line["realized"], line["fees"]) for line in lines]
    return found


def journal(state: Path, topic: str = "orders.events") -> Path:
    """The only segment of a topic, with nothing in its write-ahead log."""
    (segment,) = (state / "bus" / topic / "0").glob("segment-*.db")
    with closing(sqlite3.connect(segment)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return segment


def damage(path: Path, needle: bytes, instead: bytes) -> None:
    """Change bytes in place, in the file that others may have open."""
    content = path.read_bytes()
    place = content.index(needle)
    with path.open("r+b") as file:
        file.seek(place)
        file.write(instead)
        file.flush()
        os.fsync(file.fileno())


def refused(state: Path, caplog: pytest.LogCaptureFixture) -> str:
    """What a stack says that does not start."""
    OneProcess(state).fail_to_start()
    return caplog.text


# ── the log ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_flipped_byte_in_the_order_log_stops_the_start_with_what_to_do(
    state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for snapshots in ("oms", "ptrc", "pnl"):
        for snapshot in (state / "snapshots" / snapshots).glob("*"):
            snapshot.unlink()
    damage(journal(state), b'"BTCUSDT.SIM"', b'"BTCUSDX.SIM"')
    said = refused(state, caplog)
    assert "is damaged (its checksum differs)" in said
    assert "from a backup" in said


@pytest.mark.parametrize("topic", ["orders.events", "venue.reports"])
def test_a_flipped_byte_in_a_living_log_is_found_by_the_archive(state: Path, topic: str) -> None:
    with OneProcess(state) as stack:
        check = stack.call("archive", "GET", "/health").json["checks"]["integrity"]
        assert check["status"] == "ok"
        damage(journal(state, topic), b"o0-3", b"o0-4")
        trade(stack, 2)
        found = stack.wait_until(
            lambda: (
                (check := stack.call("archive", "GET", "/health").json["checks"]["integrity"])["status"] != "ok"
                and check
            ),
            "the damage is found",
        )
        assert f"{topic}/0: the frame at" in found["detail"]
        assert "restore" in found["detail"]


def test_whole_logs_are_checked_round_by_round(state: Path) -> None:
    with OneProcess(state) as stack:
        rounds = stack.wait_until(lambda: stack.call("archive", "GET", "/stats").json["integrity_rounds"], "one round")
        stack.wait_until(
            lambda: stack.call("archive", "GET", "/stats").json["integrity_rounds"] > rounds, "another round"
        )
        end = len(stack.events())
        stack.wait_until(
            lambda: stack.hosted["archive"].integrity.checked["orders.events", 0] >= end, "it has come to the end"
        )
        assert stack.call("archive", "GET", "/health").json["checks"]["integrity"]["status"] == "ok"


@pytest.mark.parametrize("size", [0, 100, 8_192])
def test_a_cut_journal_is_refused_with_what_to_do(state: Path, caplog: pytest.LogCaptureFixture, size: int) -> None:
    os.truncate(journal(state), size)
    said = refused(state, caplog)
    assert "orders.events/0" in said
    assert "restore" in said
    assert "backup" in said


def test_a_log_that_has_lost_its_end_is_refused(state: Path, caplog: pytest.LogCaptureFixture) -> None:
    with closing(sqlite3.connect(journal(state))) as connection:
        (last,) = connection.execute("SELECT max(seq) FROM frames").fetchone()
        connection.execute("DELETE FROM frames WHERE seq >= ?", (last // 2,))
        connection.commit()
    said = refused(state, caplog)
    assert "has lost its end" in said
    assert "`trade2026 restore`" in said


def test_torn_bytes_behind_a_journal_cost_nothing(state: Path) -> None:
    segment = journal(state)
    segment.with_name(f"{segment.name}-wal").write_bytes(os.urandom(10_000))
    with OneProcess(state) as stack:
        assert len(set(map(str, books(stack).values()))) == 1
        assert stack.call("oms", "POST", "/orders", FAR).status == 200


# ── what is derived from it ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("damaged", ["noise", "nothing", "half", "another database"])
def test_a_damaged_history_is_made_again_from_the_log(state: Path, damaged: str) -> None:
    history = state / "archive" / "history.db"
    for suffix in ("-wal", "-shm"):
        history.with_name(history.name + suffix).unlink(missing_ok=True)
    if damaged == "noise":
        history.write_bytes(os.urandom(20_000))
    elif damaged == "half":
        os.truncate(history, history.stat().st_size // 2)
    else:
        history.unlink()
        history.touch()
        if damaged == "another database":
            with closing(sqlite3.connect(history)) as connection:
                connection.execute("CREATE TABLE orders (a)")
                connection.commit()
    with OneProcess(state) as stack:
        end = len(stack.events()) - 1
        stack.wait_until(lambda: stack.call("archive", "GET", "/stats").json["as_of"] >= end, "it is made again")
        for order_id in ("o0-0", "o0-20", "o0-40"):
            stack.wait_until(
                lambda order_id=order_id: status_of(stack, "archive", order_id) == status_of(stack, "oms", order_id),
                "it is there, as the order service knows it",
            )
        orders = stack.call("archive", "GET", "/orders?limit=1000").json["orders"]
        assert len(orders) == 41
        trade(stack, 3)


def test_a_history_that_is_damaged_while_it_is_used_is_made_again(state: Path) -> None:
    history = state / "archive" / "history.db"
    with OneProcess(state) as stack:
        with closing(sqlite3.connect(history)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        with history.open("r+b") as file:
            file.seek(4_096)
            file.write(os.urandom(history.stat().st_size - 4_096))
        stack.wait_until(
            lambda: history.with_name("history.db.damaged").exists() and stack.answers("archive"), "it is made again"
        )
        check = stack.call("archive", "GET", "/health").json["checks"]["history"]
        assert "made again from the log" in check["detail"]
        stack.wait_until(lambda: status_of(stack, "archive", "o0-20") == "Canceled", "old orders are there again")
        trade(stack, 3)
        assert status_of(stack, "oms", "o0-20") == "Canceled"


@pytest.mark.parametrize("how", ["flipped", "cut", "empty", "noise", "of another fold"])
def test_a_damaged_snapshot_means_the_one_before_or_the_whole_log(state: Path, how: str) -> None:
    snapshots = sorted((state / "snapshots").rglob("*.snapshot"))
    assert {snapshot.parent.name for snapshot in snapshots} >= {"oms", "ptrc", "pnl"}
    for snapshot in snapshots:
        fold = snapshot.parent.name
        content = bytearray(snapshot.read_bytes())
        match how:
            case "flipped":
                content[-len(content) // 3] ^= 1
            case "cut":
                content = content[: len(content) // 2]
            case "empty":
                content = bytearray()
            case "noise":
                content = bytearray(os.urandom(1_000))
            case _:
                content = content.replace(f'"name":"{fold}"'.encode(), b'"name":"other"')
        snapshot.write_bytes(content)
    with OneProcess(state) as stack:
        assert len(set(map(str, books(stack).values()))) == 1
        assert status_of(stack, "oms", "o0-20") == "Canceled"
        assert status_of(stack, "oms", "o0-39") == "New"


def test_damaged_offsets_mean_that_readers_begin_again(state: Path) -> None:
    (state / "bus" / "offsets.db").write_bytes(os.urandom(5_000))
    for suffix in ("-wal", "-shm"):
        (state / "bus" / f"offsets.db{suffix}").unlink(missing_ok=True)
    with OneProcess(state) as stack:
        assert stack.call("oms", "POST", "/orders", FAR).status == 200
    assert (state / "bus" / "offsets.db.damaged").exists()


def test_a_venue_that_cannot_know_what_is_stopped_does_not_start(state: Path, caplog: pytest.LogCaptureFixture) -> None:
    kills = state / "gateway" / "kills.json"
    kills.parent.mkdir(exist_ok=True)
    for content in (b"{", b"\xff\xfe", b"[]", b'{"stack": {"reason": 1}}'):
        kills.write_bytes(content)
        caplog.clear()
        OneProcess(state, services=["gateway"]).fail_to_start()


def test_a_stack_whose_folds_were_all_damaged_says_the_same_as_before(state: Path) -> None:
    with OneProcess(state) as stack:
        before = books(stack)
    for path in [*(state / "snapshots").rglob("*.snapshot"), state / "archive" / "history.db"]:
        path.write_bytes(os.urandom(3_000))
    for suffix in ("-wal", "-shm"):
        (state / "archive" / f"history.db{suffix}").unlink(missing_ok=True)
    with OneProcess(state) as stack:
        assert books(stack) == before
