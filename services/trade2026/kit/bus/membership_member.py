"""A member of a group: it joins, says what it holds, takes and lets go what the group says, and knows when it is cut off.

A member counts its session from the moment it sent the last heartbeat that was answered, the coordinator from the
moment it got it, which is later. So a member that is cut off knows that it may have lost its partitions before
another is told that it has them; one that was stopped knows it when it wakes.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from trade2026.kit.bus.membership import Holder, Member
from trade2026.kit.bus.membership_group import (
    Coordinator,
    Forgotten,
    GroupError,
    Rebalancing,
    Replaced,
    StaleGeneration,
    Unreachable,
)
from trade2026.kit.bus.membership_shares import share

log = logging.getLogger(__name__)

_BEATS_PER_SESSION = 20
_BEAT_SECONDS_MAX = 0.5
"""A member hears within it that others come and go."""
_UNSETTLED_SECONDS = 0.05
"""As often a member listens while a partition is on its way from one to another."""
_RETRY_SECONDS = 0.2
_GOODBYE_SECONDS_MAX = 2.0
_NEVER = float("-inf")

_Call = Callable[[frozenset[int]], Coroutine[Any, Any, None]]


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """How patient a group is. All members say the same."""

    session_seconds: float = 10.0
    """A member that was not heard of for so long has lost its partitions."""
    call_seconds_max: float = 20.0
    """A holder's `take`, `let_go` and `lose` are cancelled after it."""

    @property
    def rebalance_seconds_max(self) -> float:
        """So long the others wait for one that joins again: it may be in two calls of its holder, or have slept."""
        return 2 * self.call_seconds_max + self.session_seconds + 5


class _Note(msgspec.Struct, frozen=True):
    """What a member says when it joins."""

    name: str
    address: str
    held: list[int]
    had: list[int]
    """Its share before."""
    generation: int
    """The last it had a share of. It makes each note another one: a coordinator passes over what it knows already."""


class _Share(msgspec.Struct, frozen=True):
    """One line of the table that each member gets."""

    name: str
    address: str
    partitions: list[int]


_decode_note = msgspec.json.Decoder(_Note).decode
_decode_table = msgspec.json.Decoder(list[_Share]).decode


class GroupMembership:
    """See `Membership`: on any coordinator that speaks the group protocol."""

    def __init__(self, me: Member, partitions: int, coordinator: Coordinator, timing: Timing) -> None:
        self.me, self.partitions = me, partitions
        self.detail = "has not joined yet"
        self.replaced = ""
        self.timing = timing
        self._coordinator = coordinator
        self._told: frozenset[int] = frozenset()
        """What the holder knows to be its own."""
        self._had: frozenset[int] = frozenset()
        self._table: dict[int, Member] = {}
        self._member_id, self._generation = "", -1
        self._lease_until = _NEVER
        self._leaving, self._rejoin, self._settled = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._calling: asyncio.Task[None] | None = None
        self._life: asyncio.Task[None] | None = None

    @property
    def held(self) -> frozenset[int]:
        """See `Membership.held`."""
        return self._told if self._connected else frozenset()

    @property
    def _connected(self) -> bool:
        return self._lease_until != _NEVER and self._now() <= self._lease_until

    async def join(self, holder: Holder) -> None:
        """See `Membership.join`. Without a coordinator it waits for one."""
        assert self._life is None, "joined already"
        self._holder = holder
        self._life = asyncio.create_task(self._live(), name=f"membership of {self.me.name}")
        await self._settled.wait()
        if self._life.done():
            self._life.result()

    async def leave(self) -> None:
        """See `Membership.leave`."""
        self._leaving.set()
        if self._life is not None:
            await asyncio.wait([self._life])
            self._life.result()

    def whose(self, partition: int) -> Member | None:
        """See `Membership.whose`."""
        if partition in self.held:
            return self.me
        found = self._table.get(partition) if self._connected else None
        return None if found is None or found.name == self.me.name else found

    async def look(self) -> None:
        """See `Membership.look`."""
        try:
            async with asyncio.timeout(self.timing.session_seconds):
                described = await self._coordinator.describe()
        except (GroupError, TimeoutError):
            self._table = {}
            return
        if described is not None and not self._leaving.is_set():
            addresses = {note.name: note.address for note in (_decode_note(each) for each, _ in described)}
            shares = next((_decode_table(each) for _, each in described if each), [])
            self._table = _table([each for each in shares if each.name in addresses], addresses)

    # ── sessions ────────────────────────────────────────────────────────────────────────────

    async def _live(self) -> None:
        """One session after another, until it leaves or another takes its name."""
        try:
            while not (self._leaving.is_set() or self.replaced):
                try:
                    await self._session()
                except Replaced:
                    self.replaced = f"another process has joined as {self.me.name}"
                    self.detail = self.replaced
                except GroupError as error:
                    self.detail = f"the group does not hear {self.me.name}: {error}"
                self._cut()
                await self._lose()
                if not (self._leaving.is_set() or self.replaced):
                    await self._rest()
        except Exception as error:  # a mistake of ours: nothing may stay held, and it must be seen
            log.exception("the membership of %s has ended", self.me.name)
            self._cut()
            await self._lose()
            self.detail = f"the membership has ended: {error!r}"
            raise
        finally:
            self._settled.set()
            await self._coordinator.close()

    async def _session(self) -> None:
        """Join as one that holds nothing, and work until the group forgets us or can't be heard for too long."""
        await self._require_name()
        self._member_id, self._generation = "", -1
        joined = asyncio.Event()
        rounds = asyncio.create_task(self._rounds(joined))
        beats = asyncio.create_task(self._beat(joined))
        leaving = asyncio.create_task(self._leaving.wait())
        try:
            await asyncio.wait((rounds, beats, leaving), return_when=asyncio.FIRST_COMPLETED)
            for ended in (rounds, beats):
                if ended.done():
                    ended.result()
            await _end(rounds)
            await self._go()
        finally:
            await _end(rounds, beats, leaving)

    async def _require_name(self) -> None:
        """Raise `Replaced` if another took our name while we were cut off: joining anew would take it back."""
        if self._member_id:
            with contextlib.suppress(Rebalancing, StaleGeneration, Forgotten):
                await self._coordinator.heartbeat(self._member_id, self._generation)

    async def _go(self) -> None:
        """Let go, while heartbeats go on, and say goodbye."""
        await self._call(self._let_go, self._told)
        with contextlib.suppress(GroupError, TimeoutError):
            async with asyncio.timeout(_GOODBYE_SECONDS_MAX):
                await self._coordinator.leave(self._member_id)
        self.detail = "has left"

    async def _rounds(self, joined: asyncio.Event) -> None:
        """Join, hear one's share, take and let go; again when anything changes."""
        while True:
            try:
                table = await self._round(joined)
            except Unreachable as error:
                if not (joined.is_set() and self._connected):
                    raise
                self.detail = f"the group can't be heard: {error}"  # what we have is ours while the session runs
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            if table is None:
                continue
            mine = frozenset(each for each, owner in table.items() if owner.name == self.me.name)
            self._had, gone, new = mine, self._told - mine, mine - self._told
            await self._call(self._take, new)
            await self._call(self._let_go, gone)
            self._settled.set()
            if gone:
                continue
            whole = len(table) == self.partitions
            with contextlib.suppress(TimeoutError):  # whoever had to let go may be gone: ask what became of it
                async with asyncio.timeout(None if whole else self.timing.session_seconds):
                    await self._rejoin.wait()

    async def _round(self, joined: asyncio.Event) -> dict[int, Member] | None:
        """Who has what from now on; None: it has changed meanwhile."""
        note = _Note(self.me.name, self.me.address, sorted(self._told), sorted(self._had), self._generation)
        answer = await self._coordinator.join(self._member_id, msgspec.json.encode(note))
        self._member_id, self._generation = answer.member_id, answer.generation
        self._rejoin.clear()
        sent = self._now()
        try:
            encoded = await self._coordinator.sync(answer.member_id, answer.generation, self._shares(answer.notes))
        except (Rebalancing, StaleGeneration):
            return None
        if not encoded:
            return None
        self._heard(sent)
        if not self._connected:
            raise Unreachable("its share came too late")
        joined.set()
        self._table = _table(_decode_table(encoded), {self.me.name: self.me.address})
        return self._table

    def _shares(self, notes: dict[str, bytes]) -> dict[str, bytes]:
        """As the leader: the table that all get."""
        if not notes:
            return {}
        members = {note.name: note for note in map(_decode_note, notes.values())}
        had = {name: set(note.had) for name, note in members.items()}
        for partition, owner in self._table.items():
            had.setdefault(owner.name, set()).add(partition)
        shares = share({name: set(note.held) for name, note in members.items()}, self.partitions, had)
        table = msgspec.json.encode([_Share(name, members[name].address, sorted(shares[name])) for name in members])
        return dict.fromkeys(notes, table)

    # ── heartbeats ──────────────────────────────────────────────────────────────────────────

    async def _beat(self, joined: asyncio.Event) -> None:
        """Raise when the session is over."""
        await joined.wait()
        while True:
            await asyncio.sleep(self._beat_seconds())
            sent, generation = self._now(), self._generation
            try:
                async with asyncio.timeout_at(self._lease_until):
                    await self._coordinator.heartbeat(self._member_id, generation)
                self._heard(sent)
            except (Rebalancing, StaleGeneration) as error:
                if isinstance(error, Rebalancing):
                    self._heard(sent)
                if generation == self._generation:  # else the news is older than the last join
                    self._rejoin.set()
            except Unreachable as error:
                self.detail = f"the group can't be heard: {error}"
            except TimeoutError:
                pass
            if not self._connected:
                raise Unreachable(f"no answer for {self.timing.session_seconds:g} s")

    def _heard(self, sent: float) -> None:
        self._lease_until = max(self._lease_until, sent + self.timing.session_seconds)
        self.detail = ""

    def _beat_seconds(self) -> float:
        if len(self._table) < self.partitions and not self.detail:
            return _UNSETTLED_SECONDS
        return min(_BEAT_SECONDS_MAX, self.timing.session_seconds / _BEATS_PER_SESSION)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    # ── the holder ──────────────────────────────────────────────────────────────────────────

    async def _take(self, partitions: frozenset[int]) -> None:
        self._told |= partitions
        await self._within(self._holder.take(partitions), f"take {sorted(partitions)}")

    async def _let_go(self, partitions: frozenset[int]) -> None:
        await self._within(self._holder.let_go(partitions), f"let go {sorted(partitions)}")
        self._told -= partitions

    async def _lose(self) -> None:
        """After whatever call is under way."""
        await self._called()
        if self._told:
            await self._within(self._holder.lose(self._told), f"lose {sorted(self._told)}")
        self._told = frozenset()

    def _cut(self) -> None:
        """Hold nothing and know nothing, from this moment."""
        self._table, self._lease_until = {}, _NEVER

    async def _call(self, call: _Call, partitions: frozenset[int]) -> None:
        """Run it to its end, also when who asked for it is cancelled."""
        await self._called()
        if partitions:
            self._calling = asyncio.create_task(call(partitions))
            await asyncio.shield(self._calling)

    async def _called(self) -> None:
        if self._calling is not None:
            await asyncio.wait([self._calling])

    async def _within(self, call: Coroutine[Any, Any, None], what: str) -> None:
        try:
            async with asyncio.timeout(self.timing.call_seconds_max):
                await call
        except TimeoutError:
            log.error("%s did not %s within %g s", self.me.name, what, self.timing.call_seconds_max)
        except Exception:
            log.exception("%s failed to %s", self.me.name, what)

    async def _rest(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_RETRY_SECONDS):
                await self._leaving.wait()


def _table(shares: list[_Share], addresses: dict[str, str]) -> dict[int, Member]:
    """By partition; `addresses` are newer than those in the shares."""
    return {
        partition: Member(each.name, addresses.get(each.name, each.address))
        for each in shares
        for partition in each.partitions
    }


async def _end(*tasks: "asyncio.Task[Any]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()
