"""The stack that is simulated: two instruments, tight limits, the processes of the laptop's placement.

A third of the seeds has several partitions, and limits that span them.
"""

from pathlib import Path

import msgspec

from trade2026 import __version__
from trade2026.controls.limits import LimitBook, LimitSet, Rate
from trade2026.domain.instruments import Instrument
from trade2026.gateway.replay import Recording
from trade2026.kit.bus.port import TopicConfig
from trade2026.kit.settings import ProcessSettings, VenueSettings
from trade2026.stack.facts import SERVICES, TOPICS

ACCOUNTS = ("ann", "cid", "ivy")
"""Of three partitions each is in another."""
PARTITIONS = 3
UNIT = 10**9
SPEED = 90
PLACEMENT = {
    "orders": ("oms",),
    "venue": ("gateway", "normalizer"),
    "risk": ("risk",),
    "projections": ("ptrc", "pnl", "archive"),
}
"""Services by process."""


_PORTS_BETWEEN = 200
"""Two replicas of a service."""


def placement(replicas: int) -> dict[str, tuple[str, ...]]:
    """Services by process, with so many order services."""
    others = {f"orders-{number}": ("oms",) for number in range(1, replicas)}
    return {"orders": PLACEMENT["orders"], **others, **PLACEMENT}


INSTRUMENTS = [
    Instrument(
        symbol=symbol,
        venue="SIM",
        base=symbol.removesuffix("USDT"),
        quote="USDT",
        settlement="USDT",
        tick_size=UNIT // 100,
        lot_size=UNIT // 100,
        maker_fee_bps=1,
        taker_fee_bps=5,
    )
    for symbol in ("BTCUSDT", "ETHUSDT")
]

LIMITS = LimitBook(
    version=1,
    stack=LimitSet(max_gross_exposure=2_000_000 * UNIT),
    account_default=LimitSet(
        max_order_quantity=10 * UNIT,
        max_order_value=900_000 * UNIT,
        max_open_orders=12,
        max_position=6 * UNIT,
        price_collar_bps=2_000,
    ),
)

SPANNING_LIMITS = msgspec.structs.replace(
    LIMITS,
    stack=LimitSet(max_open_orders=9, max_gross_exposure=900_000 * UNIT, order_rate=Rate(count=30)),
    strategy_default=LimitSet(max_open_orders=6, max_net_exposure=500_000 * UNIT),
    strategies={"mm": LimitSet(max_open_orders=5)},
)
"""Reached now and then by a partition alone, and by all together."""


def partitions_of(seed: int) -> int:
    """How many partitions the stack of a seed has."""
    return PARTITIONS if seed % 3 == 2 else 1


def topics(partitions: int) -> list[TopicConfig]:
    """The log as it is made."""
    return [
        TopicConfig(name=topic.name, durable=topic.durable, partitions=partitions if topic.by_account else 1)
        for topic in TOPICS
    ]


def limits(partitions: int) -> LimitBook:
    """The ceilings of the manifest."""
    return SPANNING_LIMITS if partitions > 1 else LIMITS


def ports(replicas: int) -> dict[str, int]:
    """By service and replica."""
    oms = SERVICES["oms"].port
    others = {f"oms-{number}": oms + number * _PORTS_BETWEEN for number in range(1, replicas)}
    return {name: facts.port for name, facts in SERVICES.items()} | others


def settings(
    state: Path,
    services: tuple[str, ...],
    release: str,
    speed: int = SPEED,
    partitions: int = 1,
    *,
    archives: bool = False,
    replicas: int = 1,
) -> ProcessSettings:
    """What one process is told."""
    return ProcessSettings(
        stack="simulation",
        release=release,
        services=list(services),
        config_hash="c0ffee",
        allowed_versions=[__version__],
        instruments=INSTRUMENTS,
        venues=[VenueSettings(name="SIM", type="replay", config={"scale": 56, "speed": speed, "gap_seconds_max": 0.5})],
        topics=topics(partitions),
        ports=ports(replicas),
        default_account=ACCOUNTS[0],
        risk=msgspec.Raw(msgspec.json.encode(limits(partitions))),
        free_bytes_min=1_000,
        config={"archive": {"log_after_ns": UNIT}} if archives else {},
        state_dir=str(state),
    )


def cut(recording: Recording, begin: int, count: int) -> Recording:
    """Some trades of a recording."""
    rows = slice(begin, begin + count)
    return Recording(recording.name, recording.seconds[rows], recording.prices[rows], recording.quantities[rows])
