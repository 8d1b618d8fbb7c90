"""A projection goes on where it was: nothing twice, nothing left out."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.checker import OrderLog, check_derived
from tests.waiting import until

from trade2026.domain import events as ev
from trade2026.kit import follower as follower_module
from trade2026.kit.bus.memory import MemoryBus
from trade2026.kit.bus.port import BusError, BusFull, BusUncertain, TopicConfig
from trade2026.kit.clock import ManualClock
from trade2026.kit.projection import Projection, snapshot_directory
from trade2026.kit.publisher import Publisher
from trade2026.kit.snapshots import SnapshotStore
from trade2026.ptrc.machine import PositionMachine


class Stack:
    """An order log that a test writes, and the projection that follows it."""

    def __init__(self, state: Path) -> None:
        topics = [TopicConfig(name="orders.events"), TopicConfig(name="positions", durable=False)]
        self.bus, self.clock, self.state = MemoryBus(topics), ManualClock(), state
        self.fills = 0
        self.writer = Publisher(self.bus, "orders.events", tenant="desk", clock=self.clock, owner="oms")

    async def fill(self, count: int) -> None:
        if self.writer._writer is None:
            await self.writer.start()
        for _ in range(count):
            self.fills += 1
            event = ev.OrderFilled(
                order_id="o0-0", exec_id=f"x{self.fills}", account="main", instrument="BTCUSDT.SIM", side="BUY",
                last_qty=1, last_px=100, cum_qty=self.fills, leaves_qty=0, cum_cost=100 * self.fills,
            )  # fmt: skip
            await self.writer.publish(ev.OrderOpened(order_id="o0-0"))
            await self.writer.publish(event, correlation_id="o0-0", traceparent="00-trace")

    def make_projection(self) -> Projection:
        settings = SimpleNamespace(stack="desk", release="projections", state=self.state)
        context = SimpleNamespace(settings=settings, bus=self.bus, clock=self.clock, metrics=None)
        return Projection(context, "ptrc", PositionMachine, {"positions": (ev.PositionChanged,)})  # type: ignore[arg-type]

    async def projection(self) -> Projection:
        projection = self.make_projection()
        await projection.start()
        return projection

    async def published(self) -> list[ev.Envelope]:
        records = await self.bus.read("orders.events", 0, 0, 10_000)
        log = OrderLog([ev.decode(record.body) for record in records], {})
        return await check_derived(self.bus, log, "positions")


async def test_each_fill_is_published_once_with_its_cause_and_trace(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    await stack.fill(3)
    projection = await stack.projection()
    published = await stack.published()
    assert [getattr(envelope.data, "quantity", 0) for envelope in published] == [1, 2, 3]
    assert {(envelope.correlation_id, envelope.traceparent) for envelope in published} == {("o0-0", "00-trace")}
    assert projection.readiness()[0]
    await projection.stop()


async def test_after_a_clean_stop_it_goes_on_from_its_snapshot(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    await stack.fill(3)
    await (await stack.projection()).stop()
    await stack.fill(2)
    projection = await stack.projection()
    assert projection.stats()["snapshot_as_of"] == 5
    assert projection.machine.positions["main", "BTCUSDT.SIM"].quantity == 5
    assert len(await stack.published()) == 5
    await projection.stop()


async def test_without_a_snapshot_a_full_replay_publishes_nothing_again(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    await stack.fill(3)
    await (await stack.projection()).stop()
    for path in snapshot_directory(tmp_path, "ptrc").iterdir():
        path.unlink()
    await stack.fill(1)
    projection = await stack.projection()
    assert projection.machine.positions["main", "BTCUSDT.SIM"].quantity == 4
    assert len(await stack.published()) == 4
    await projection.stop()


async def test_records_that_the_topic_lost_are_published_again(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    await stack.fill(3)
    await (await stack.projection()).stop()
    log = stack.bus._partitions["positions", 0]
    del log.bodies[1:]
    projection = await stack.projection()
    assert len(await stack.published()) == 3
    assert projection.machine.positions["main", "BTCUSDT.SIM"].quantity == 3
    await projection.stop()


async def test_a_snapshot_of_another_shape_is_reported_and_the_log_is_folded_instead(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    await stack.fill(2)
    SnapshotStore(snapshot_directory(tmp_path, "ptrc"), "ptrc").write(b'{"shape":"other"}', 2, "0.0.1")
    projection = await stack.projection()
    assert projection.machine.positions["main", "BTCUSDT.SIM"].quantity == 2
    assert not projection.health()["snapshots"].ok
    await projection.stop()


async def test_another_owner_of_the_topic_stops_it_loudly(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    projection = await stack.projection()
    await stack.bus.claim("positions", 0, "another")
    await stack.fill(1)
    follower = projection._follower
    assert follower is not None
    assert follower._task is not None
    await follower._task
    assert not projection.health()["log"].ok
    assert "another process" in projection.health()["positions"].detail
    await projection.stop()


class SlowTopic:
    """Appends to `positions` are not written until the test says so."""

    def __init__(self, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
        self.held: list[Callable[[], None]] = []
        claim = stack.bus.claim

        async def claim_slow(topic: str, partition: int, owner: str):
            writer = await claim(topic, partition, owner)
            if topic == "positions":
                write = writer._make_all_durable
                writer._make_all_durable = lambda: self.held.append(write)  # type: ignore[method-assign]
            return writer

        monkeypatch.setattr(stack.bus, "claim", claim_slow)

    async def hold(self, appends: int) -> None:
        """Wait until so many turns of the writer are held back."""
        await until(lambda: len(self.held) >= appends, f"{appends} turns are held back")

    def write(self) -> None:
        held, self.held = self.held, []
        for write in held:
            write()


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower_module, "RECORDS_PER_BATCH_MAX", 4)


@pytest.mark.usefixtures("small_batches")
async def test_a_projection_that_is_behind_folds_on_while_its_topic_is_slow_a_few_batches_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = Stack(tmp_path)
    await stack.fill(100)
    slow, projection = SlowTopic(stack, monkeypatch), stack.make_projection()
    starting = asyncio.ensure_future(projection.start())
    await slow.hold(1)
    for _ in range(1_000):
        await asyncio.sleep(0)
    assert 8 <= projection.machine.next_seq < 40, "it goes on, but not without end"
    assert await stack.bus.end("positions", 0) == 0
    while not starting.done():
        slow.write()
        await asyncio.sleep(0)
    assert len(await stack.published()) == 100
    assert projection.stats()["published"] == 100
    await projection.stop()


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("error", [BusFull("no room"), BusUncertain("nobody knows")])
async def test_what_a_topic_refused_in_the_middle_is_published_once_and_in_order(
    tmp_path: Path, error: BusError, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = Stack(tmp_path)
    await stack.fill(50)
    slow, projection = SlowTopic(stack, monkeypatch), stack.make_projection()
    starting = asyncio.ensure_future(projection.start())
    await slow.hold(1)
    for _ in range(1_000):
        await asyncio.sleep(0)
    slow.write()
    stack.bus.fail_next("positions", error)
    async with asyncio.timeout(60):
        while not starting.done():
            slow.write()
            await asyncio.sleep(0.001)
    await starting
    assert len(await stack.published()) == 50
    assert projection.health()["positions"].ok
    await projection.stop()


@pytest.mark.usefixtures("small_batches")
async def test_a_stop_in_the_middle_leaves_no_snapshot_beyond_what_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = Stack(tmp_path)
    await stack.fill(1)
    first = await stack.projection()
    await first.stop()
    slow, projection = SlowTopic(stack, monkeypatch), stack.make_projection()
    await projection.start()
    await stack.fill(20)
    await slow.hold(1)
    stopping = asyncio.ensure_future(projection.stop())
    stack.bus.fail_next("positions", BusFull("no room"))
    async with asyncio.timeout(60):
        while not stopping.done():
            slow.write()
            await asyncio.sleep(0.001)
    monkeypatch.undo()
    again = await stack.projection()
    assert again.machine.positions["main", "BTCUSDT.SIM"].quantity == 21
    assert len(await stack.published()) == 21
    await again.stop()
