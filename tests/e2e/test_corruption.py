"""Damage that a kill or a bad disk leaves behind, met by a stack of real processes."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from bench.stack import wait_for
from tests.e2e.conftest import MakeStack
from tests.e2e.stack import WAIT_SECONDS, Stack


def orders_journal(stack: Stack) -> Path:
    return max((stack.state_dir / "bus" / "orders.events" / "0").glob("segment-*.db"))


def test_a_torn_journal_after_a_kill_costs_nothing_acknowledged(make_stack: MakeStack) -> None:
    stack = make_stack()
    names = [stack.submit(price=30000, client_order_id=f"t{n}").json()["client_order_id"] for n in range(100)]
    stack.kill_runner()
    segment = orders_journal(stack)
    with segment.with_name(f"{segment.name}-wal").open("ab") as wal:
        wal.write(os.urandom(9_000))
    stack.up()
    for name in names:
        assert stack.submit(price=30000, client_order_id=name).status_code == 200
    listed = [order["client_order_id"] for order in stack.get("oms", "/orders", limit=1000)["orders"]]
    assert sorted(name for name in listed if name in names) == sorted(names)


def test_a_damaged_history_comes_back_and_a_damaged_log_is_refused_in_words(make_stack: MakeStack) -> None:
    stack = make_stack()
    first = stack.submit(price=30000, client_order_id="first").json()["order_id"]
    stack.http("oms").delete(f"/orders/{first}")
    stack.wait_status(first, "Canceled")
    stack.down()
    history = stack.state_dir / "archive" / "history.db"
    for suffix in ("-wal", "-shm"):
        history.with_name(history.name + suffix).unlink(missing_ok=True)
    history.write_bytes(os.urandom(30_000))
    stack.up()
    wait_for(
        "the history is made again",
        lambda: stack.http("archive").get(f"/orders/{first}").status_code == 200,
        WAIT_SECONDS,
    )
    assert stack.get("archive", f"/orders/{first}")["status"] == "Canceled"

    stack.down()
    for snapshot in (stack.state_dir / "snapshots").rglob("*.snapshot"):
        snapshot.unlink()
    segment = orders_journal(stack)
    with closing(sqlite3.connect(segment)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    content = segment.read_bytes()
    place = content.index(b'"BTCUSDT.SIM"')
    segment.write_bytes(content[:place] + b'"BTCUSDX.SIM"' + content[place + 13 :])
    refused = stack.command("serve", "--settings", str(stack.state_dir / "run" / "orders.json"), check=False)
    assert refused.returncode == 1
    assert "its checksum differs" in refused.stdout + refused.stderr
    assert "from a backup" in refused.stdout + refused.stderr
