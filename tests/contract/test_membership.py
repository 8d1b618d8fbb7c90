"""What every membership promises (`kit/bus/membership.py`), asked of each backend in the same words."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import msgspec
import pytest
import pytest_asyncio
from tests.holders import Group, Holder
from tests.waiting import until

from trade2026.kit.bus.kafka_settings import KafkaSettings
from trade2026.kit.bus.membership import EmbeddedMembership, Member, Membership
from trade2026.kit.bus.membership_group import Unreachable
from trade2026.kit.bus.membership_kafka import kafka_membership
from trade2026.kit.bus.membership_member import GroupMembership, Timing
from trade2026.kit.bus.membership_memory import MemoryGroup

P = 8
TIMING = Timing(session_seconds=300.0, call_seconds_max=300.0)
"""No session ends because the machine is slow."""
CALL_SECONDS_SHORT = 2.0
SHORT_SECONDS = {"memory": 2.0, "kafka": 6.0}
"""Shorter sessions Kafka refuses."""

Make = Callable[[str], Membership]
Several = Callable[..., GroupMembership]


@pytest.fixture
def group() -> Group:
    return Group(P)


@pytest.fixture(params=["embedded", "memory", "kafka"])
def make(request: pytest.FixtureRequest) -> Make:
    """Makes a member, by name; of some memberships the only one."""
    if request.param == "embedded":
        return lambda name: EmbeddedMembership(member(name), P)
    return several_of(request, request.param, TIMING)


@pytest_asyncio.fixture(params=["memory", "kafka"])
async def several(request: pytest.FixtureRequest, group: Group) -> AsyncIterator[Several]:
    """Makes members of one group, by name and port; they leave when the test ends."""
    yield several_of(request, request.param, TIMING)
    await end(group)


@pytest_asyncio.fixture(params=["memory", "kafka"])
async def hasty(request: pytest.FixtureRequest, group: Group) -> AsyncIterator[Several]:
    """Makes members of a group whose sessions are short."""
    timing = msgspec.structs.replace(
        TIMING, session_seconds=SHORT_SECONDS[request.param], call_seconds_max=CALL_SECONDS_SHORT
    )
    yield several_of(request, request.param, timing)
    await end(group)


@pytest_asyncio.fixture(params=["memory", "kafka"])
async def strict(request: pytest.FixtureRequest, group: Group) -> AsyncIterator[Several]:
    """Makes members of a group that waits for no holder long."""
    timing = msgspec.structs.replace(TIMING, call_seconds_max=CALL_SECONDS_SHORT)
    yield several_of(request, request.param, timing)
    await end(group)


async def end(group: Group) -> None:
    """Let all leave, and see what was noted."""
    for holder in group.holders.values():
        holder.gate.set()
        with contextlib.suppress(asyncio.CancelledError):  # those that were killed
            await holder.membership.leave()
    assert not group.faults


def several_of(request: pytest.FixtureRequest, backend: str, timing: Timing) -> Several:
    if backend == "kafka":
        brokers = KafkaSettings(bootstrap_servers=request.getfixturevalue("kafka").address, prefix=uuid4().hex)
        return lambda name, port=8001: kafka_membership(brokers, "oms", member(name, port), P, timing)
    memory = MemoryGroup(P, timing)
    return lambda name, port=8001: memory.member(member(name, port))


def member(name: str, port: int = 8001) -> Member:
    return Member(name, f"{name}.local:{port}")


async def kill(membership: GroupMembership) -> None:
    """As `kill -9` would: no goodbye."""
    life = membership._life
    assert life is not None
    life.cancel()
    await asyncio.wait([life])


async def grown(group: Group, several: Several, *names: str) -> list[Holder]:
    """Members that join when those before them share."""
    holders: list[Holder] = []
    for name in names:
        holders.append(await group.join(several(name)))
        await until(lambda: group.settled, "each partition has one holder and all know whose it is")
    return holders


# ── one member ──────────────────────────────────────────────────────────────────────────────


async def test_one_member_has_all_partitions_when_it_has_joined(make: Make, group: Group) -> None:
    membership = make("orders-1")
    assert (membership.held, membership.whose(0)) == (frozenset(), None)
    holder = await group.join(membership)
    assert holder.told == [("take", [*range(P)])]
    assert membership.held == frozenset(range(P))
    assert [membership.whose(n) for n in range(P)] == [membership.me] * P
    assert (membership.detail, membership.replaced) == ("", "")
    await membership.look()
    assert membership.whose(P - 1) == membership.me
    await membership.leave()


async def test_a_member_that_leaves_lets_everything_go_once(make: Make, group: Group) -> None:
    membership = make("orders-1")
    holder = await group.join(membership)
    await asyncio.gather(membership.leave(), membership.leave())
    await membership.leave()
    assert holder.told == [("take", [*range(P)]), ("let go", [*range(P)])]
    assert (membership.held, membership.whose(0)) == (frozenset(), None)


async def test_what_leaves_before_it_joined_holds_nothing(make: Make) -> None:
    membership = make("orders-1")
    await membership.leave()
    assert membership.held == frozenset()


# ── several ─────────────────────────────────────────────────────────────────────────────────


async def test_shares_are_even_and_only_what_moves_is_touched_when_members_come_and_go(
    several: Several, group: Group
) -> None:
    first, second, third = await grown(group, several, "a", "b", "c")
    assert sorted(len(each.membership.held) for each in group.holders.values()) == [2, 3, 3]
    assert [each.moves["lose"] for each in (first, second, third)] == [0, 0, 0]
    assert first.moves["let go"] == 5, "8, then 4, then 3"
    assert first.moves["take"] == 8, "what it kept was not given anew"
    assert sum(each.moves["take"] for each in (first, second, third)) == 8 + 4 + 2
    del group.holders["a"]
    await first.membership.leave()
    await until(lambda: group.settled, "two share")
    del group.holders["c"]
    await third.membership.leave()
    await until(lambda: group.settled, "one has all")
    assert second.membership.held == frozenset(range(P))
    assert second.moves["let go"] <= 1, "what stayed was not touched"


async def test_a_partition_goes_to_another_only_when_its_holder_has_let_go(several: Several, group: Group) -> None:
    (first,) = await grown(group, several, "a")
    first.gate.clear()
    second = await group.join(several("b"))
    assert second.membership.held == frozenset()
    assert first.membership.held == frozenset(range(P)), "while it lets go it still has them"
    first.gate.set()
    await until(lambda: group.settled, "the others are free")
    assert second.moves == {"take": 4}


async def test_whose_is_nobodys_while_a_partition_is_on_its_way(several: Several, group: Group) -> None:
    (first,) = await grown(group, several, "a")
    first.gate.clear()
    second = await group.join(several("b"))
    known = second.known()
    assert len(known) == 4 and set(known.values()) == {first.membership.me}
    first.gate.set()
    await until(lambda: group.settled, "all is known")


async def test_what_a_holder_does_not_let_go_in_time_goes_its_way(strict: Several, group: Group) -> None:
    (first,) = await grown(group, strict, "a")
    first.gate.clear()
    second = await group.join(strict("b"))
    await until(lambda: len(second.membership.held) == 4, "the bound is over")
    assert first.told == [("take", [*range(P)])]
    assert len(first.membership.held) == 4


async def test_an_error_of_a_holder_changes_nothing(several: Several, group: Group) -> None:
    (first,) = await grown(group, several, "a")

    async def let_go(partitions: frozenset[int]) -> None:
        raise OSError("the disk is gone")

    first.let_go = let_go
    await group.join(several("b"))
    await until(lambda: group.settled, "they share")


async def test_a_member_that_comes_back_under_its_name_gets_its_partitions_and_nobody_else_is_touched(
    several: Several, group: Group
) -> None:
    first, second, _ = await grown(group, several, "a", "b", "c")
    for victim in (second, first):
        had = victim.membership.held
        others = [each for each in group.holders.values() if each.name != victim.name]
        told = [list(each.told) for each in others]
        await kill(victim.membership)
        back = await group.join(several(victim.name))
        assert back.told == [("take", sorted(had))]
        await until(lambda: group.settled, "all know")
        assert [each.told for each in others] == told


async def test_what_a_silent_member_had_goes_to_others_when_its_session_is_over_and_not_before(
    hasty: Several, group: Group
) -> None:
    first, second, third = await grown(group, hasty, "a", "b", "c")
    had = first.membership.held
    await kill(first.membership)
    session_ends = first.membership._lease_until
    del group.holders["a"]
    assert [second.membership.whose(n) for n in had] == [first.membership.me] * len(had), "as was heard last"
    await until(lambda: group.settled, "two share")
    taken = [at for each in (second, third) for n, at in each.taken_at.items() if n in each.membership.held & had]
    assert len(taken) == len(had)
    assert min(taken) >= session_ends


async def test_a_member_that_the_group_does_not_answer_once_keeps_what_it_has_while_its_session_runs(
    several: Several, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = await grown(group, several, "a", "b")
    coordinator, failures = first.membership._coordinator, [Unreachable("the connection was lost")] * 2
    join = coordinator.join

    async def joined(*args: Any) -> Any:
        if failures:
            raise failures.pop()
        return await join(*args)

    monkeypatch.setattr(coordinator, "join", joined)
    await group.join(several("c"))
    await until(lambda: group.settled and not failures, "three share")
    assert [what for what, _ in first.told if what == "lose"] == []


async def test_of_two_with_one_name_the_younger_stays(several: Several, group: Group) -> None:
    first, other = await grown(group, several, "a", "b")
    had = first.membership.held
    second = await group.join(several("a"))
    assert second.membership.held == had
    await until(lambda: first.membership.replaced, "the older hears of it")
    await until(lambda: first.told[-1] == ("lose", sorted(had)), "and loses all")
    assert first.membership.held == frozenset()
    assert (other.moves["lose"], second.membership.replaced) == (0, "")
    await first.membership.leave()


async def test_more_members_than_partitions_wait_with_nothing_and_follow_when_one_goes(several: Several) -> None:
    group = Group(P)
    holders = [await group.join(several(f"m-{n}")) for n in range(P + 1)]
    await until(lambda: group.settled, "each has one, one has none")
    idle = next(each for each in holders if not each.membership.held)
    assert "lose" not in idle.moves
    gone = next(each for each in holders if each is not idle)
    del group.holders[gone.name]
    await gone.membership.leave()
    await until(lambda: group.settled, "the idle one has the place")
    assert len(idle.membership.held) == 1
    for each in group.holders.values():
        await each.membership.leave()


async def test_looking_again_learns_where_one_is_that_came_back_elsewhere(several: Several, group: Group) -> None:
    first, second = await grown(group, several, "a", "b")
    had = next(iter(first.membership.held))
    await kill(first.membership)
    back = await group.join(several("a", 9001))
    assert second.membership.whose(had) == member("a"), "as was heard last"
    await second.membership.look()
    assert second.membership.whose(had) == back.membership.me == member("a", 9001)
    assert group.settled
