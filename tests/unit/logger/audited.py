"""Events, a chain of them, and a key, for tests of the audit log."""

from collections.abc import Sequence
from functools import cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from trade2026.domain.events import (
    AlertRaised,
    AnyEvent,
    Delivered,
    Envelope,
    Killed,
    OrderAccepted,
    OrderCanceled,
    OrderFilled,
    OrderOpened,
    encode,
)
from trade2026.domain.numbers import SCALE
from trade2026.domain.orders import OrderSpec, OrderType
from trade2026.logger.machine import AuditRecord, Chain, Checkpoint
from trade2026.logger.signing import Signer

STACK = "desk"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SPEC = OrderSpec(
    client_order_id="c-1",
    account="main",
    instrument="BTCUSDT.SIM",
    side="BUY",
    order_type=OrderType.LIMIT,
    quantity=SCALE // 2,
    price=45_000 * SCALE,
)
FILL = OrderFilled(
    order_id="o0-1",
    exec_id="SIM-1",
    account="main",
    instrument="BTCUSDT.SIM",
    side="BUY",
    last_qty=SCALE // 2,
    last_px=45_000 * SCALE,
    cum_qty=SCALE // 2,
    leaves_qty=0,
    cum_cost=0,
)
ORDERS: tuple[AnyEvent, ...] = (
    OrderAccepted(order_id="o0-1", spec=SPEC, reserved_price=SPEC.price),
    OrderOpened(order_id="o0-1", venue_order_id="v-1"),
    FILL,
    Killed(scope="account:main", reason="too fast", by="ann"),
    OrderCanceled(order_id="o0-2", reason="killed"),
)
RISK: tuple[AnyEvent, ...] = (AlertRaised(alert_id="a-1", severity="info", scope="stack", message="look"),)
STRATEGIES: tuple[AnyEvent, ...] = (Delivered(runs=[]),)


@cache
def signer() -> Signer:
    """The same key in every test of a run."""
    return Signer(Ed25519PrivateKey.generate())


def enveloped(seq: int, data: AnyEvent, principal: str = "ann") -> Envelope:
    ts = 10**18 + seq
    return Envelope(seq, 1, ts, ts, STACK, principal, "", "r-1", TRACE, data)


def chained(count: int, every: int) -> tuple[list[AuditRecord], list[Checkpoint]]:
    """A chain of so many records, with a checkpoint after each `every` of them and, as at a stop, at its end."""
    chain, records, checkpoints = Chain(STACK), [], []
    for n in range(count):
        envelope = enveloped(n, ORDERS[n % len(ORDERS)])
        record = chain.take("orders.events", 0, envelope, encode(envelope))
        assert record is not None
        records.append(record)
        if chain.n % every == 0 or chain.n == count:
            checkpoints.append(signed(chain, "interval"))
    return records, checkpoints


def signed(chain: Chain, kind: str) -> Checkpoint:
    return signer().sign(chain.checkpoint(kind, 10**18, signer().key))


def bodies(events: Sequence[AnyEvent]) -> list[bytes]:
    return [encode(enveloped(seq, event)) for seq, event in enumerate(events)]
