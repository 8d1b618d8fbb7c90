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
from trade2026.kit.bus.port import TopicConfig
from trade2026.kit.bus.sqlite import SqliteBus
from trade2026.stack.facts import TOPICS

WITH_POSITIONS = ("oms", "risk", "ptrc", "pnl")


Known = dict[str, list[Envelope]]
"""Events that were read before, by topic."""


def verify(stack: Stack, ledger: Ledger, accounts: tuple[str, ...], known: Known | None = None) -> OrderLog:
    """Check a stack that is up; clients may go on trading. Returns the log that was found sound.

    Args:
        known: What earlier calls have read; only what came since is read from the disk.

    Raises:
        Broken: an acknowledged order is lost or doubled, a log has a gap, or a service disagrees with the log.
    """
    told = dict(ledger.orders)
    as_of = stack.get("oms", f"/positions/{accounts[0]}")["as_of"]
    answers = [
        (name, answer_as_of(stack, name, account, as_of)) for account in accounts for name in (*WITH_POSITIONS, "P&L")
    ]
    log = asyncio.run(verify_log(stack, told, known))
    for name, answer in sorted(answers, key=lambda item: item[1]["as_of"]):
        compare_positions(log, answer, f"{name} of {answer['account']}")
    return log


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
    """Check the logs on disk, of a stack that runs or not.

    Args:
        told: The order id that a client was told, by account and client order id.
        known: See `verify`.

    Raises:
        Broken: see `verify`.
    """
    bus = open_bus(stack)
    try:
        known = {} if known is None else known
        for topic in ("positions", "pnl", "risk.events", "venue.reports"):
            known[topic] = await read_partition(bus, topic, known=known.get(topic, ()))
        log = await read_orders(bus, known=known.get(ORDERS, ()))
        known[ORDERS] = log.envelopes
        log.require(told.values())
        ours = {(order.spec.account, order.spec.client_order_id): order_id for order_id, order in log.orders.items()}
        wrong = [
            f"{key} was told {value}, the log has {ours.get(key)}"
            for key, value in told.items()
            if ours.get(key) != value
        ]
        if wrong:
            raise Broken("clients were told other orders than those of the log", wrong)
        check_venue(log, known["venue.reports"])
        for topic in ("positions", "pnl"):
            check_image(log, known[topic], topic)
    finally:
        await bus.close()
    return log


def open_bus(stack: Stack) -> SqliteBus:
    """The stack's bus, for reading."""
    return SqliteBus(
        stack.state_dir / "bus",
        [TopicConfig(name=topic.name, durable=topic.durable) for topic in TOPICS],
    )
