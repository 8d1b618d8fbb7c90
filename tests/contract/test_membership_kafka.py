"""What only members on real brokers must withstand: processes that are killed and stopped, a broker that is away."""

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio
from tests.holders import Group
from tests.infra import started
from tests.waiting import until

import trade2026
from trade2026.kit.bus.kafka_settings import KafkaSettings
from trade2026.kit.bus.membership import Member
from trade2026.kit.bus.membership_kafka import kafka_membership
from trade2026.kit.bus.membership_member import GroupMembership, Timing
from trade2026.local.infra.component import Component
from trade2026.local.infra.kafka import Kafka

P = 8
SESSION_SECONDS = 6.0
"""The least that a broker takes."""

_CHILD = """
import asyncio, sys, time
from trade2026.kit.bus.kafka_settings import KafkaSettings
from trade2026.kit.bus.membership import Member
from trade2026.kit.bus.membership_kafka import kafka_membership
from trade2026.kit.bus.membership_member import Timing

def say(what, partitions=()):
    print(time.monotonic(), what, *sorted(partitions), flush=True)

held = set()

class Holder:
    async def take(self, partitions):
        held.update(partitions)
        say("take", partitions)
    async def let_go(self, partitions):
        held.difference_update(partitions)
        say("let go", partitions)
    async def lose(self, partitions):
        held.difference_update(partitions)
        say("lose", partitions)

async def main(address, prefix, name):
    settings = KafkaSettings(bootstrap_servers=address, prefix=prefix)
    timing = Timing(session_seconds=6.0, call_seconds_max=2.0)
    membership = kafka_membership(settings, "oms", Member(name, name + ":1"), 8, timing)
    await membership.join(Holder())
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    loop.add_reader(0, asked.set)
    while not asked.is_set():
        if membership.replaced and not held:  # what it loses it is told by another task, a moment later perhaps
            say("replaced")
            break
        await asyncio.sleep(0.05)
    else:
        await membership.leave()

asyncio.run(main(*sys.argv[1:]))
"""
"""Writes down what it is told until it is replaced, or asked to leave by a line."""


class Child:
    """A member in a process of its own. `told`: when (by the machine's clock), what, which."""

    def __init__(self, name: str, process: Process) -> None:
        self.name, self.process = name, process
        self.told: list[tuple[float, str, frozenset[int]]] = []
        self.held: frozenset[int] = frozenset()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            at, *words = line.decode().split()
            what = " ".join(word for word in words if not word.isdigit())
            partitions = frozenset(int(word) for word in words if word.isdigit())
            self.told.append((float(at), what, partitions))
            self.held = self.held | partitions if what == "take" else self.held - partitions

    async def kill(self) -> None:
        """`kill -9`."""
        self._cut("killed")
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self._reading

    def stop(self) -> None:
        """Let it sleep (SIGSTOP)."""
        self._cut("stopped")
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it wake (SIGCONT)."""
        self.process.send_signal(signal.SIGCONT)

    def _cut(self, how: str) -> None:
        self.told.append((time.monotonic(), how, self.held))
        self.held = frozenset()

    async def leave(self) -> None:
        """Ask it to go, and wait until it has gone."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"leave\n")
        await self.process.wait()
        await self._reading

    def taken_since(self, count: int) -> list[tuple[float, frozenset[int]]]:
        """What it took, and when, after it had been told a number of things."""
        return [(at, partitions) for at, what, partitions in self.told[count:] if what == "take"]


Open = Callable[[str], Awaitable[Child]]


@pytest.fixture
def prefix() -> str:
    return f"t{uuid4().hex[:12]}"


@pytest_asyncio.fixture
async def open_child(kafka: Component, prefix: str) -> AsyncIterator[Open]:
    opened: list[Child] = []

    async def opens(name: str) -> Child:
        environment = {**os.environ, "PYTHONPATH": str(Path(trade2026.__file__).parents[1])}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _CHILD, kafka.address, prefix, name, stdin=PIPE, stdout=PIPE, env=environment
        )
        opened.append(Child(name, process))
        return opened[-1]

    yield opens
    for child in opened:
        await child.kill()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Component]:
    """One that may be harmed."""
    component = started(Kafka(tmp_path / "kafka"))
    yield component
    component.stop()


async def shared(*children: Child) -> None:
    """Each partition has one holder, and shares are even."""

    def even() -> bool:
        sizes = [len(child.held) for child in children]
        together = {partition for child in children for partition in child.held}
        return len(together) == sum(sizes) == P and max(sizes) - min(sizes) <= 1

    await until(even, f"{[child.name for child in children]} share")


def overlaps(*children: Child) -> list[str]:
    """Where one took what another, who was neither killed nor stopped, had not let go."""
    told = sorted((at, child.name, what, partitions) for child in children for at, what, partitions in child.told)
    held: dict[int, str] = {}
    found: list[str] = []
    for at, name, what, partitions in told:
        for partition in partitions:
            if what == "take":
                if held.get(partition, name) != name:
                    found.append(f"{at}: {name} took {partition} of {held[partition]}")
                held[partition] = name
            elif held.get(partition) == name:
                del held[partition]
    return found


def members(address: str, prefix: str, session_seconds: float, *names: str) -> list[GroupMembership]:
    """Members in this process."""
    settings = KafkaSettings(bootstrap_servers=address, prefix=prefix)
    timing = Timing(session_seconds=session_seconds, call_seconds_max=2.0)
    return [kafka_membership(settings, "oms", Member(name, f"{name}:1"), P, timing) for name in names]


async def test_members_that_come_are_killed_and_go_never_hold_the_same(open_child: Open) -> None:
    first = await open_child("a")
    await shared(first)
    second, third = await open_child("b"), await open_child("c")
    await shared(first, second, third)
    killed_at, told = time.monotonic(), {child: len(child.told) for child in (first, second)}
    await third.kill()
    await shared(first, second)
    taken = [at for child, count in told.items() for at, _ in child.taken_since(count)]
    assert min(taken) > killed_at + SESSION_SECONDS / 2, "a session lasts from the last heartbeat, which is younger"
    await second.leave()
    await shared(first)
    assert not overlaps(first, second, third)


async def test_a_member_that_slept_for_longer_than_its_session_hears_that_it_lost_all_and_shares_again(
    open_child: Open,
) -> None:
    first, second = await open_child("a"), await open_child("b")
    await shared(first, second)
    had = first.held
    first.stop()
    await shared(second)
    told = len(first.told)
    first.go_on()
    await shared(first, second)
    assert next((what, partitions) for _, what, partitions in first.told[told:]) == ("lose", had)
    assert not overlaps(first, second)


async def test_of_two_processes_with_one_name_the_older_ends_when_it_wakes(open_child: Open) -> None:
    first, other = await open_child("a"), await open_child("b")
    await shared(first, other)
    had = first.held
    first.stop()
    second = await open_child("a")
    await shared(second, other)
    first.go_on()
    await asyncio.wait_for(first.process.wait(), 60)
    assert [what for _, what, _ in first.told[-2:]] == ["lose", "replaced"]
    assert first.told[-2][2] == had
    await shared(second, other)


async def test_when_a_broker_is_killed_members_hold_on_for_a_session_then_nothing_and_share_again_when_it_is_back(
    broker: Component, prefix: str
) -> None:
    patient, hasty = Group(P), Group(P)
    first, second, third = members(broker.address, f"{prefix}-patient", 300.0, "a", "b", "c")
    brief = members(broker.address, f"{prefix}-hasty", SESSION_SECONDS, "a", "b")
    for group, joining in ((patient, (first, second)), (hasty, brief)):
        for membership in joining:
            await group.join(membership)
    await until(lambda: patient.settled and hasty.settled, "both groups share")
    told = repr(patient.told())
    theirs = min(second.held)

    broker.kill()
    await until(lambda: first.detail and second.detail, "they say that they hear nothing")
    assert first.whose(theirs) == second.me, "as was heard last"
    await first.look()
    assert [first.whose(theirs), first.whose(min(first.held))] == [None, first.me], "of others nothing can be learned"
    await until(lambda: all(holder.told[-1][0] == "lose" for holder in hasty.holders.values()), "they know of the loss")
    assert [(each.held, each.whose(0)) for each in brief] == [(frozenset(), None)] * 2

    broker.start()
    await until(lambda: hasty.settled, "they share again")
    assert sorted(partition for membership in brief for partition in membership.held) == list(range(P))
    await until(lambda: not (first.detail or second.detail), "they are heard again")
    await first.look()
    assert first.whose(theirs) == second.me
    assert repr(patient.told()) == told, "who held on was told nothing"
    await patient.join(third)
    await until(lambda: patient.settled, "three share")
    await asyncio.gather(*(membership.leave() for membership in (first, second, third, *brief)))
    assert not patient.faults + hasty.faults


async def test_what_a_broker_refuses_is_said_in_words(kafka: Component, prefix: str) -> None:
    settings = KafkaSettings(bootstrap_servers=kafka.address, prefix=prefix)
    group = Group(P)
    (first,) = members(kafka.address, prefix, SESSION_SECONDS, "a")
    await group.join(first)
    other = kafka_membership(settings, "oms", Member("b", "b:1"), 2 * P)
    hasty = kafka_membership(settings, "oms", Member("c", "c:1"), P, Timing(session_seconds=0.1))
    nowhere = kafka_membership(KafkaSettings(bootstrap_servers="127.0.0.1:1", prefix=prefix), "oms", Member("d", ""), P)
    for membership, word in (
        (other, "another number of partitions"),
        (hasty, "group.min.session.timeout.ms"),
        (nowhere, "does not answer on 127.0.0.1:1"),
    ):
        joining = asyncio.create_task(membership.join(group.add(membership)))
        await until(lambda m=membership, w=word: w in m.detail, f"it says {word}")
        await membership.leave()
        await joining
        assert membership.held == frozenset()
    assert first.held == frozenset(range(P))
    await first.leave()
