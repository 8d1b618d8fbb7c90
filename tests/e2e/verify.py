"""Compare what the services say with the log on disk: the log is the truth, and the checker folds it by itself."""

import asyncio
from typing import Any

from bench.stack import wait_for
from tests.checker import (
    ORDERS,
    Broken,
    OrderLog,
    check_image,
    check_venue,
    compare_positions,
    read_orders,
    read_partition,
)
from tests.e2e.load import Ledger
from tests.e2e.stack import WAIT_SECONDS, Stack

from trade2026.domain.events import Envelope
from trade2026.domain.shards import partition_of
from trade2026.kit.bus.port import TopicConfig
from trade2026.kit.bus.sqlite import SqliteBus
from trade2026.stack.facts import TOPICS

WITH_POSITIONS = ("oms", "risk", "ptrc", "pnl")


Known = dict[tuple[str, int], list[Envelope]]
"""Events that were read before, by topic and partition."""


def verify(stack: Stack, ledger: Ledger, accounts: tuple[str, ...], known: Known | None = None) -> OrderLog:
    """Check a stack that is up; clients may go on trading. Returns the log of the first account, found sound.

    Args:
        known: What earlier calls have read; only what came since is read from the disk.

    Raises:
        Broken: an acknowledged order is lost or doubled, a log has a gap, or a service disagrees with the log.
    """
    told = dict(ledger.orders)
    count = partitions(stack)
    homes = {account: partition_of(account, count) for account in accounts}
    as_of: dict[int, int] = {}
    for account, home in homes.items():
        if home not in as_of:
            as_of[home] = stack.get("oms", f"/positions/{account}")["as_of"]
    answers = [
        (name, answer_as_of(stack, name, account, as_of[home]))
        for account, home in homes.items()
        for name in (*WITH_POSITIONS, "P&L")
    ]
    logs = asyncio.run(verify_logs(stack, told, known))
    for name, answer in sorted(answers, key=lambda item: item[1]["as_of"]):
        compare_positions(logs[homes[answer["account"]]], answer, f"{name} of {answer['account']}")
    return logs[homes[accounts[0]]]


def partitions(stack: Stack) -> int:
    """How many partitions the order log of a stack has."""
    return max(int(path.name) + 1 for path in (stack.state_dir / "bus" / ORDERS).iterdir() if path.name.isdecimal())


def answer_as_of(stack: Stack, name: str, account: str, as_of: int) -> dict[str, Any]:
    """A service's positions of an account, once it has folded the event at `as_of`."""

    def asked() -> dict[str, Any] | None:
        if name == "P&L":
            answer = stack.http("pnl").get(f"/pnl/{account}")
            if answer.status_code == 404:  # it has not traded
                return {"account": account, "as_of": as_of, "positions": []}
            found = {**answer.json(), "positions": answer.json().get("by_symbol")}
        else:
            found = stack.http(name).get(f"/positions/{account}").json()
        return found if found.get("as_of", -1) >= as_of else None

    return wait_for(f"{name} has folded event {as_of}", asked, WAIT_SECONDS)


async def verify_log(stack: Stack, told: dict[tuple[str, str], str], known: Known | None = None) -> OrderLog:
    """Check the logs on disk of a stack whose order log has one partition; as `verify_logs`."""
    (log,) = await verify_logs(stack, told, known)
    return log


async def verify_logs(stack: Stack, told: dict[tuple[str, str], str], known: Known | None = None) -> list[OrderLog]:
    """Check the logs on disk, of a stack that runs or not; returns that of each partition.

    Args:
        told: The order id that a client was told, by account and client order id.
        known: See `verify`.

    Raises:
        Broken: see `verify`.
    """
    bus = open_bus(stack)
    try:
        known = {} if known is None else known
        known["risk.events", 0] = await read_partition(bus, "risk.events", known=known.get(("risk.events", 0), ()))
        count = partitions(stack)
        logs = [await _sound_log(bus, partition, known) for partition in range(count)]
        for partition, log in enumerate(logs):
            asked = {key: order_id for key, order_id in told.items() if partition_of(key[0], count) == partition}
            _compare_told(log, asked)
    finally:
        await bus.close()
    return logs


async def _sound_log(bus: SqliteBus, partition: int, known: Known) -> OrderLog:
    for topic in ("positions", "pnl", "venue.reports"):
        place = topic, partition
        known[place] = await read_partition(bus, topic, partition, known=known.get(place, ()))
    log = await read_orders(bus, partition, known=known.get((ORDERS, partition), ()))
    known[ORDERS, partition] = log.envelopes
    check_venue(log, known["venue.reports", partition])
    for topic in ("positions", "pnl"):
        check_image(log, known[topic, partition], topic)
    return log


def _compare_told(log: OrderLog, told: dict[tuple[str, str], str]) -> None:
    """What clients were told must be in the log."""
    log.require(told.values())
    ours = {(order.spec.account, order.spec.client_order_id): order_id for order_id, order in log.orders.items()}
    wrong = [
        f"{key} was told {value}, the log has {ours.get(key)}" for key, value in told.items() if ours.get(key) != value
    ]
    if wrong:
        raise Broken("clients were told other orders than those of the log", wrong)


def open_bus(stack: Stack) -> SqliteBus:
    """The stack's bus, for reading."""
    return SqliteBus(
        stack.state_dir / "bus",
        [
            TopicConfig(name=topic.name, durable=topic.durable, partitions=partitions(stack) if topic.by_account else 1)
            for topic in TOPICS
        ],
    )
