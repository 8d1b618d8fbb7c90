"""Several order services on Apache Kafka share the accounts: they come and go, hang and die, and clients notice
nothing but that they have to ask again."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from bench.stack import ROOT, open_bus, wait_for
from tests.checker import Broken, OrderLog, read_orders
from tests.checker_limits import over_spanning_limits
from tests.e2e.load import Ledger, Load
from tests.e2e.stack import WAIT_SECONDS, Stack, free_port_offset
from tests.infra import require

from trade2026.controls.limits import LimitBook, LimitSet
from trade2026.domain.shards import partition_of
from trade2026.local.infra.kafka import Kafka

PARTITIONS = 3
FIRST, SECOND = ("delta", "beta", "alpha"), ("eta", "zeta", "theta")
"""An account in each partition."""
SERVICES = ["oms", "gateway", "normalizer", "risk", "ptrc"]
SESSION_SECONDS = 6
OPEN_MAX = 40
"""Of the stack, over all its partitions."""


def manifest(path: Path, orders: int, positions: int, gross_exposure_max: str = "5000000000") -> Path:
    """The quickstart on Kafka with so many replicas of two services."""
    text = (ROOT / "manifests" / "kafka.yaml").read_text().partition("\n---\n")[0]
    before, _, rest = text.partition("  stores:")
    spec = f"""\
  placement: spread
  services:
    oms: {{replicas: {{min: {orders}}}}}
    ptrc: {{replicas: {{min: {positions}}}}}
"""
    before = before.replace("type: kafka\n", f"type: kafka\n    partitions: {PARTITIONS}\n")
    before = before.replace("kafka: {", f"kafka: {{sessionSeconds: {SESSION_SECONDS}, ")
    rest = rest.partition("  venues:")[2].replace("    limits:\n", f"    limits:\n      maxOpenOrders: {OPEN_MAX}\n")
    rest = rest.replace('maxGrossExposure: "5000000000"', f'maxGrossExposure: "{gross_exposure_max}"')
    path.write_text(f"{before}{spec}\n  venues:{rest}\n")
    return path


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    require(Kafka(tmp_path / "none"))
    offset, claim = free_port_offset(manifest(tmp_path / "three.yaml", 3, 2))
    stack = Stack(
        manifest(tmp_path / "one.yaml", 1, 1),
        tmp_path / "state",
        port_offset=offset,
        services=SERVICES,
        with_infra=True,
    )
    try:
        stack.up()
        yield stack
    finally:
        stack.close()
        claim.close()


async def answered(load: Load, each: int = 6) -> None:
    """Wait until every account has been told of so many more orders."""
    goal = {account: count + each for account, count in counts(load.ledger, load.accounts).items()}

    def reached() -> bool:
        now = counts(load.ledger, load.accounts)
        return all(now[account] >= least for account, least in goal.items())

    await asyncio.to_thread(wait_for, f"{each} more orders of {', '.join(load.accounts)}", reached, WAIT_SECONDS)


def counts(ledger: Ledger, accounts: tuple[str, ...]) -> dict[str, int]:
    told = [account for account, _ in list(ledger.orders)]
    return {account: told.count(account) for account in accounts}


async def scaled(stack: Stack, path: Path, *, changed: set[str], removed: set[str]) -> None:
    """Apply another manifest; nothing else may start again."""
    before = stack.pids()
    applied = await asyncio.to_thread(stack.cli, "apply", "-f", str(path))
    assert applied.returncode == 0, applied.stdout + applied.stderr
    after = stack.pids()
    assert after.keys() - before.keys() == changed, applied.stdout
    assert before.keys() - after.keys() == removed, applied.stdout
    assert {name: pid for name, pid in before.items() if name in after} == {
        name: after[name] for name in before if name in after
    }


async def rolled(stack: Stack, path: Path, names: tuple[str, ...]) -> None:
    """Apply another limit: every order service starts again, and never two are away together."""

    async def is_away(client: httpx.AsyncClient, name: str) -> bool:
        try:
            await client.get(f"{stack.url(name)}/livez")
        except httpx.ConnectError:
            return True
        except httpx.HTTPError:
            return False  # it is there, and slow, or was just then ended
        return False

    before, away_most = stack.pids(), 0
    applying = asyncio.create_task(asyncio.to_thread(stack.cli, "apply", "-f", str(path)))
    async with httpx.AsyncClient(timeout=WAIT_SECONDS) as client:
        while not applying.done():
            away_most = max(away_most, sum(await asyncio.gather(*(is_away(client, name) for name in names))))
            await asyncio.sleep(0.05)
    applied = applying.result()
    assert applied.returncode == 0, applied.stdout + applied.stderr
    after = stack.pids()
    assert all(after[name] != before[name] for name in names), applied.stdout
    assert away_most <= 1


async def read_logs(stack: Stack) -> list[OrderLog]:
    bus = open_bus(stack.state_dir)
    try:
        return [await read_orders(bus, partition) for partition in range(PARTITIONS)]
    finally:
        await bus.close()


def check(logs: list[OrderLog], told: dict[tuple[str, str], str]) -> None:
    """Every order that a client was told is in the log of its account's partition, once, under that id."""
    found = {(life.spec.account, life.spec.client_order_id): name for log in logs for name, life in log.orders.items()}
    assert len(found) == sum(len(log.orders) for log in logs), "a client order id names two orders"
    wrong = [
        f"{key} was told {name}, the log has {found.get(key)}" for key, name in told.items() if found.get(key) != name
    ]
    if wrong:
        raise Broken("clients were told other orders than those of the log", wrong)
    for log in logs:
        elsewhere = [
            life.spec.account
            for life in log.orders.values()
            if partition_of(life.spec.account, PARTITIONS) != log.partition
        ]
        assert not elsewhere


async def test_replicas_come_and_go_hang_and_die_under_load_and_nothing_is_lost_or_doubled(
    stack: Stack, tmp_path: Path
) -> None:
    price = float(stack.get("gateway", "/ticker/BTCUSDT")["last"])
    async with Load(stack.url("oms"), stack.url("oms", scheme="ws"), FIRST, price, seed=1) as first:
        await answered(first)
        await scaled(stack, tmp_path / "three.yaml", changed={"oms-1", "oms-2", "ptrc-1"}, removed=set())
        other = stack.url("oms-1"), stack.url("oms-1", scheme="ws")
        async with Load(*other, SECOND, price, seed=2) as second:
            await answered(second)

            held = {name: stack.get(name, "/stats")["partitions"] for name in ("oms", "oms-1", "oms-2")}
            assert sorted(part for parts in held.values() for part in parts) == list(range(PARTITIONS))
            assert all(held.values()), held
            asleep = stack.kill_process("oms-1", signal.SIGSTOP)
            try:
                await answered(first)  # of all three partitions, so others have its own by now
            finally:
                os.kill(asleep, signal.SIGCONT)
            await answered(second)  # what was in flight at the one that slept, too

            killed = stack.kill_process("oms")
            await answered(second)
            await asyncio.to_thread(stack.wait_restarted, "oms", killed)
            await answered(first)
            await rolled(stack, manifest(tmp_path / "rolled.yaml", 3, 2, "4000000000"), ("oms", "oms-1", "oms-2"))
            await answered(second)
            second.check()
            await second.end()
        fewer = manifest(tmp_path / "fewer.yaml", 1, 1, "4000000000")
        await scaled(stack, fewer, changed=set(), removed={"oms-1", "oms-2", "ptrc-1"})
        await answered(first)
        first.check()
        await first.end()
    logs = await read_logs(stack)
    check(logs, first.ledger.orders | second.ledger.orders)
    limits = LimitBook(stack=LimitSet(max_open_orders=OPEN_MAX))
    assert over_spanning_limits([log.envelopes for log in logs], limits) == []
    for account in (*FIRST, *SECOND):
        await asyncio.to_thread(
            wait_for, f"the position of {account}", lambda of=account: is_right(stack, logs, of), WAIT_SECONDS
        )


def is_right(stack: Stack, logs: list[OrderLog], account: str) -> bool:
    """Whether positions are those of the log, once they have read it to its end."""
    log = logs[partition_of(account, PARTITIONS)]
    answer = stack.get("ptrc", f"/positions/{account}")
    if answer["as_of"] < log.envelopes[-1].seq:
        return False
    held = log.positions(account, log.envelopes[-1].seq).values()
    shown = [position["quantity"] for position in answer["positions"] if float(position["quantity"])]
    assert [round(float(each) * 1e9) for each in shown] == [each.quantity for each in held if each.quantity]
    return True
