"""A process that runs strategies on a real log, for a test that kills it: `python strategies_child.py STATE`."""

import asyncio
import sys
from pathlib import Path

from trade2026.domain.instruments import Instruments
from trade2026.kit.bus.port import TopicConfig
from trade2026.kit.bus.sqlite import SqliteBus
from trade2026.kit.clock import ManualClock
from trade2026.kit.origin import Origin
from trade2026.kit.snapshots import SnapshotStore
from trade2026.sdk.testing import BTCUSDT, EPOCH
from trade2026.strategies import runner
from trade2026.strategies.loading import StrategySettings, load
from trade2026.strategies.machine import Decision, StrategiesMachine
from trade2026.strategies.shard_log import SHARDS

TOPICS = [
    TopicConfig(name=name, durable=not name.startswith("market"))
    for name in (runner.ORDERS, *runner.MARKET, runner.TOPIC, SHARDS)
]
EXAMPLES = "trade2026.sdk.examples"
STRATEGIES = [
    StrategySettings(
        name="momentum",
        account="main",
        instruments=["BTCUSDT.SIM"],
        module=f"{EXAMPLES}.momentum:Momentum",
        parameters={"interval": "1s", "fast": 2, "slow": 4, "threshold": 0.1},
    ),
    StrategySettings(
        name="noise",
        account="main",
        instruments=["BTCUSDT.SIM"],
        file=str(Path(__file__).parent / "strategies_noise.py"),
    ),
]


async def run(state: Path) -> None:
    """Run until killed; every decision that leaves is a line of `sent`."""
    bus = SqliteBus(state / "bus", TOPICS)
    loaded = {one.name: load(one, [BTCUSDT]) for one in STRATEGIES}
    assert not any(one.trouble for one in loaded.values()), loaded
    sent = (state / "sent").open("a")

    def send(decision: Decision, origin: Origin) -> None:
        sent.write(f"{decision.strategy} {decision.number}\n")
        sent.flush()

    running = runner.Runner(
        bus,
        ManualClock(EPOCH),  # the time is that of the events, so that two runs can be compared
        lambda: StrategiesMachine(loaded, Instruments([BTCUSDT]).by_id),
        tenant="test",
        owner="child",
        snapshots=SnapshotStore(state / "snapshots", "strategies"),
        send=send,
        failed=lambda name, reason: print(name, reason, file=sys.stderr),
        catch_up_ns=10**18,
    )
    await running.start()
    (state / "ready").touch()
    while running.ready:
        await asyncio.sleep(0.5)
        if running.machine.cursors[runner.TICKS] % 3 == 0:
            await running._snapshot()


asyncio.run(run(Path(sys.argv[1])))
