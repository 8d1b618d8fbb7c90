"""Followers fold every partition of a topic, each in its order and from its own position."""

import pytest
from tests.waiting import until

from trade2026.domain import events as ev
from trade2026.domain.events import Envelope
from trade2026.kit.bus.memory import MemoryBus
from trade2026.kit.bus.port import Record, TopicConfig
from trade2026.kit.clock import ManualClock
from trade2026.kit.followers import Followers
from trade2026.kit.publisher import Publisher

TOPIC = "orders.events"


class Log:
    """A topic of some partitions, their writers, and what was folded of each."""

    def __init__(self, partitions: int) -> None:
        self.partitions = range(partitions)
        self.bus = MemoryBus([TopicConfig(name=TOPIC, partitions=partitions)])
        self.publishers = [
            Publisher(self.bus, TOPIC, tenant="desk", clock=ManualClock(), owner="test", partition=partition)
            for partition in self.partitions
        ]
        self.seen: dict[int, list[int]] = {partition: [] for partition in self.partitions}

    async def write(self, partition: int, count: int) -> None:
        publisher, event = self.publishers[partition], ev.Resumed(scope="stack", reason="test", by="ann")
        await publisher.append([publisher.stamp(event, offset=number) for number in range(count)])

    def fold(self, envelope: Envelope, record: Record) -> None:
        assert envelope.seq == record.seq
        self.seen[record.partition].append(record.seq)


@pytest.mark.parametrize("partitions", [1, 4])
async def test_each_partition_is_folded_from_its_own_position(partitions: int) -> None:
    log = Log(partitions)
    for publisher in log.publishers:
        await publisher.start()
        await log.write(publisher.partition, publisher.partition + 2)
    followers = Followers(log.bus, TOPIC, log.fold, from_seqs=dict.fromkeys(log.partitions, 1))
    await followers.start()
    assert log.seen == {partition: list(range(1, partition + 2)) for partition in log.partitions}
    assert (followers.caught_up, followers.lag, followers.error) == (True, 0, "")
    assert followers.positions == {partition: partition + 2 for partition in log.partitions}
    total = sum(followers.positions.values())
    assert followers.progress == f"{TOPIC}: folded {total} of {total} events"
    assert followers.as_of == (1 if partitions == 1 else {0: 1, 1: 2, 2: 3, 3: 4})
    last = partitions - 1
    await log.write(last, 5)
    await until(lambda: log.seen[last][-1] == last + 6, "what comes later is folded")
    await followers.stop()
    await log.bus.close()


async def test_one_partition_that_stops_does_not_stop_the_others() -> None:
    log = Log(2)

    def fold(envelope: Envelope, record: Record) -> None:
        if (record.partition, record.seq) == (0, 1):
            raise ValueError("what is that?")
        log.fold(envelope, record)

    followers = Followers(log.bus, TOPIC, fold, from_seqs={0: 0, 1: 0})
    for publisher in log.publishers:
        await publisher.start()
        await log.write(publisher.partition, 1)
    await followers.start()
    await log.write(0, 2)
    await until(lambda: followers.error, "the first stops")
    await log.write(1, 2)
    await until(lambda: log.seen[1] == [0, 1, 2], "the second goes on")
    assert (log.seen[0], "what is that?" in followers.error) == ([0], True)
    assert (await followers.measure_lag(), followers.positions) == (2, {0: 1, 1: 3})
    await followers.stop()
    await log.bus.close()
