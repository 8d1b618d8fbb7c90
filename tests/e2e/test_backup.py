"""Copies of a stack's state, made while it trades, and put back."""

import asyncio
import json
from pathlib import Path

from bench.stack import wait_for
from tests.e2e.conftest import MakeStack
from tests.e2e.load import Load
from tests.e2e.stack import QUIET, WAIT_SECONDS, Stack
from tests.e2e.verify import verify, verify_log

ACCOUNTS = ("alpha", "beta")


async def test_a_backup_made_while_it_trades_comes_up_sound_with_all_that_was_acknowledged_before(
    make_stack: MakeStack, tmp_path: Path
) -> None:
    stack = await asyncio.to_thread(make_stack)
    copy, restored = tmp_path / "copy", tmp_path / "restored"
    price = float(stack.get("gateway", "/ticker/BTCUSDT")["last"])
    async with Load(stack.url("oms"), stack.url("oms", scheme="ws"), ACCOUNTS, price, seed=7) as load:
        await asyncio.to_thread(
            wait_for, "orders were acknowledged", lambda: len(load.ledger.orders) > 200, WAIT_SECONDS
        )
        before = dict(load.ledger.orders)
        made = await asyncio.to_thread(stack.cli, "backup", str(copy), "--json")
        assert made.returncode == 0, made.stderr
        assert json.loads(made.stdout)["running"] is True
        placed = len(load.ledger.orders)
        await asyncio.to_thread(
            wait_for, "it goes on trading", lambda: len(load.ledger.orders) > placed + 50, WAIT_SECONDS
        )
        await load.end()
        load.check()
    await asyncio.to_thread(stack.down)

    other = Stack(QUIET, restored)
    try:
        put_back = await asyncio.to_thread(other.cli, "restore", str(copy))
        assert put_back.returncode == 0, put_back.stderr
        await asyncio.to_thread(other.up)
        load.ledger.orders = before
        log = await asyncio.to_thread(verify, other, load.ledger, ACCOUNTS)
        assert log.fills
        answer = other.submit(account="alpha", client_order_id="after-the-restore", price=60_000)
        assert answer.status_code == 200, answer.text
        other.wait_status(answer.json()["order_id"], "Filled")
        account, client_order_id = next(iter(before))
        known = other.order(before[account, client_order_id])
        assert (known["account"], known["client_order_id"]) == (account, client_order_id)
        await asyncio.to_thread(other.down)
        await verify_log(other, before)
    finally:
        other.close()


def test_a_stack_that_is_up_is_not_restored_over_and_a_state_of_another_format_is_refused(
    stack: Stack, tmp_path: Path
) -> None:
    assert stack.cli("backup", str(tmp_path / "copy")).returncode == 0
    refused = stack.cli("restore", str(tmp_path / "copy"))
    assert refused.returncode == 1
    assert f"is in use by process {stack.runner_pid}" in refused.stderr
    assert stack.status()["ready"]
    stack.down()

    version = stack.state_dir / "VERSION"
    ours = version.read_text()
    version.write_text("99\n")
    newer = stack.cli("up", "-f", str(QUIET), "--detach", "--port-offset", str(stack.port_offset))
    assert newer.returncode == 1
    assert "has format 99" in newer.stderr
    assert "install the version that wrote it, or choose another --state-dir" in newer.stderr
    version.write_text(ours)

    renamed = tmp_path / "other.yaml"
    renamed.write_text(QUIET.read_text().replace("name: quickstart", "name: other"))
    other = stack.cli("up", "-f", str(renamed), "--detach", "--port-offset", str(stack.port_offset))
    assert other.returncode == 1
    assert "holds the stack 'quickstart', not 'other'" in other.stderr
    stack.up()
