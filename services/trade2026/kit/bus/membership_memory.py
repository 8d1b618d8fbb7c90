"""A group in memory, for simulation and tests: the coordinator of `membership_group` without brokers.

Its timers run on the loop's time, so a virtual loop and a seed replay a run exactly. Faults are injected: `cut_off`
takes a member's connection away, `stop` the coordinator's.
"""

import asyncio
import contextvars
import functools
from collections.abc import Callable, Mapping
from typing import Literal

from trade2026.kit.bus.membership import Member
from trade2026.kit.bus.membership_group import (
    Forgotten,
    GroupError,
    Joined,
    Rebalancing,
    Replaced,
    StaleGeneration,
    Unreachable,
)
from trade2026.kit.bus.membership_member import GroupMembership, Timing


class MemoryGroup:
    """One group of replicas and its coordinator. Make it where its timers are to run."""

    def __init__(self, partitions: int, timing: Timing | None = None) -> None:
        self.partitions, self.timing = partitions, timing or Timing()
        self._context = contextvars.copy_context()
        self._members: dict[str, _Seat] = {}
        self._state: Literal["stable", "joining", "syncing"] = "stable"
        self._generation = 0
        self._ids = 0
        self._leader = ""
        self._deadline: asyncio.TimerHandle | None = None
        self._stopped = False
        self._cut_off: set[str] = set()

    def member(self, me: Member) -> GroupMembership:
        """One who may join; a member that was killed comes back as another one with the same name."""
        return GroupMembership(me, self.partitions, _Line(self, me.name), self.timing)

    def cut_off(self, name: str) -> None:
        """Nothing that a member says arrives, and nothing is told to it."""
        self._cut_off.add(name)

    def mend(self, name: str) -> None:
        """It is heard again."""
        self._cut_off.discard(name)

    def stop(self) -> None:
        """Answer nobody."""
        self._stopped = True
        for seat in self._members.values():
            seat.fail(Unreachable("the coordinator has stopped"))
            seat.rest()

    def start(self) -> None:
        """Answer again, with what was known before; sessions begin anew."""
        self._stopped = False
        if self._state != "stable":
            self._collect()
        for seat in self._members.values():
            self._watch(seat)

    # ── what members ask ────────────────────────────────────────────────────────────────────

    async def join(self, name: str, member_id: str, note: bytes) -> Joined:
        """See `Coordinator.join`."""
        await self._reach(name)
        seat = self._seat(name, member_id) if member_id else self._enter(name)
        if not member_id and seat.share and self._state == "stable":
            seat.note = note
            self._watch(seat)
            return Joined(seat.member_id, self._generation, {})
        seat.note = note
        seat.rest()
        seat.joining = joining = asyncio.get_running_loop().create_future()
        if self._state == "joining":
            self._close_if_complete()
        else:
            self._collect()
        joined = await joining
        await self._reach(name)
        return joined

    async def sync(self, name: str, member_id: str, generation: int, shares: Mapping[str, bytes]) -> bytes:
        """See `Coordinator.sync`."""
        await self._reach(name)
        seat = self._current(name, member_id, generation)
        if self._state == "joining":
            raise Rebalancing
        if shares and self._state == "syncing":
            self._hand_out(shares)
        if self._state == "syncing":
            seat.syncing = syncing = asyncio.get_running_loop().create_future()
            await syncing
            await self._reach(name)
        return seat.share

    async def heartbeat(self, name: str, member_id: str, generation: int) -> None:
        """See `Coordinator.heartbeat`."""
        await self._reach(name)
        seat = self._current(name, member_id, generation)
        if seat.joining is None:
            self._watch(seat)
        if self._state == "joining":
            raise Rebalancing

    async def leave(self, name: str, member_id: str) -> None:
        """See `Coordinator.leave`."""
        await self._reach(name)
        self._remove(self._seat(name, member_id))

    async def describe(self, name: str) -> list[tuple[bytes, bytes]] | None:
        """See `Coordinator.describe`."""
        await self._reach(name)
        if self._state != "stable":
            return None
        return [(seat.note, seat.share) for seat in self._members.values()]

    # ── members ─────────────────────────────────────────────────────────────────────────────

    async def _reach(self, name: str) -> None:
        await asyncio.sleep(0)
        if self._stopped or name in self._cut_off:
            raise Unreachable("no connection")

    def _enter(self, name: str) -> "_Seat":
        """A new life of a member takes the seat of the one before."""
        self._ids += 1
        seat = self._members.setdefault(name, _Seat(name))
        seat.fail(Replaced())
        seat.member_id = f"{name}-{self._ids}"
        return seat

    def _seat(self, name: str, member_id: str) -> "_Seat":
        seat = self._members.get(name)
        if seat is None:
            raise Forgotten
        if seat.member_id != member_id:
            raise Replaced
        return seat

    def _current(self, name: str, member_id: str, generation: int) -> "_Seat":
        seat = self._seat(name, member_id)
        if generation != self._generation:
            raise StaleGeneration
        return seat

    def _watch(self, seat: "_Seat") -> None:
        seat.rest()
        seat.timer = self._later(self.timing.session_seconds, self._expire, seat, seat.member_id)

    def _expire(self, seat: "_Seat", member_id: str) -> None:
        if self._members.get(seat.name) is seat and seat.member_id == member_id:
            self._remove(seat)

    def _remove(self, seat: "_Seat") -> None:
        seat.rest()
        seat.fail(Forgotten())
        del self._members[seat.name]
        if self._state == "joining":
            self._close_if_complete()
        else:
            self._collect()

    def _later(self, seconds: float, callback: Callable[..., None], *args: object) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, callback, *args, context=self._context)

    # ── generations ─────────────────────────────────────────────────────────────────────────

    def _collect(self) -> None:
        """All are to join (again), and have a while for it."""
        self._state = "joining"
        for seat in self._members.values():
            seat.fail_sync(Rebalancing())
        self._patience(self._close)
        self._close_if_complete()

    def _patience(self, callback: Callable[[], None]) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._later(self.timing.rebalance_seconds_max, callback)

    def _close_if_complete(self) -> None:
        if all(seat.joining is not None for seat in self._members.values()):
            self._close()

    def _close(self) -> None:
        """Begin a generation with those that have joined; who has not keeps its seat until its session ends."""
        if self._deadline is not None:
            self._deadline.cancel()
        joined = [seat for seat in self._members.values() if seat.joining is not None]
        self._generation += 1
        self._state = "syncing" if joined else "stable"
        if not joined:
            return
        names = [seat.name for seat in joined]
        self._leader = self._leader if self._leader in names else names[0]
        notes = {seat.member_id: seat.note for seat in self._members.values()}
        for seat in joined:
            self._watch(seat)
            seat.answer(Joined(seat.member_id, self._generation, notes if seat.name == self._leader else {}))

    def _hand_out(self, shares: Mapping[str, bytes]) -> None:
        self._state = "stable"
        for seat in self._members.values():
            seat.share = shares.get(seat.member_id, b"")
            if seat.syncing is not None and not seat.syncing.done():
                seat.syncing.set_result(None)
            seat.syncing = None


class _Seat:
    """A member as its group sees it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.member_id = ""
        self.note = self.share = b""
        self.joining: asyncio.Future[Joined] | None = None
        self.syncing: asyncio.Future[None] | None = None
        self.timer: asyncio.TimerHandle | None = None

    def rest(self) -> None:
        """Its session does not end by itself."""
        if self.timer is not None:
            self.timer.cancel()

    def answer(self, joined: Joined) -> None:
        joining, self.joining = self.joining, None
        if joining is not None and not joining.done():
            joining.set_result(joined)

    def fail(self, error: GroupError) -> None:
        """Whatever it waits for."""
        joining, self.joining = self.joining, None
        if joining is not None and not joining.done():
            joining.set_exception(error)
        self.fail_sync(error)

    def fail_sync(self, error: GroupError) -> None:
        syncing, self.syncing = self.syncing, None
        if syncing is not None and not syncing.done():
            syncing.set_exception(error)


class _Line:
    """The group as one member sees it."""

    def __init__(self, group: MemoryGroup, name: str) -> None:
        self.join = functools.partial(group.join, name)
        self.sync = functools.partial(group.sync, name)
        self.heartbeat = functools.partial(group.heartbeat, name)
        self.leave = functools.partial(group.leave, name)
        self.describe = functools.partial(group.describe, name)

    async def close(self) -> None:
        """Nothing to close."""
