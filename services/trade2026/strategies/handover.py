"""How one process of a strategy comes by its symbols, and lets go of those that another is to trade (see `shards`)."""

from trade2026.kit.clock import Clock
from trade2026.strategies.machine import StrategiesMachine
from trade2026.strategies.shard_log import ShardLog

_LEAVE_AGAIN_NS = 5 * 10**9
"""An order that would not be cancelled is asked again."""


class Handover:
    """Of every strategy of this process.

    Attributes:
        claims: Ours, and what the others have claimed.
        waiting: Why strategies that are to begin do not yet.
    """

    def __init__(self, claims: ShardLog, clock: Clock) -> None:
        self.claims, self._clock = claims, clock
        self.waiting: dict[str, str] = {}
        self._leaving_at: dict[str, int] = {}
        """When orders of a strategy were last asked to be cancelled because its symbols move, ns."""

    async def keep(self, machine: StrategiesMachine) -> None:
        """Claim where we have orders, before anything else is sent."""
        for name in machine.hosted:
            await self.claims.keep(name, machine.open_in(name))

    async def let_go(self, machine: StrategiesMachine) -> dict[str, frozenset[str]]:
        """Release symbols that are not to be traded here any more and in which the last order is over.

        Returns:
            By strategy, those in which its orders are to be cancelled now.
        """
        cancels: dict[str, frozenset[str]] = {}
        for name, claimed in list(self.claims.mine.held.items()):
            leaves, now = claimed - machine.wanted(name), self._clock.now()
            if leaves and not leaves & machine.open_in(name):
                await self.claims.release(name, leaves)
                self._leaving_at.pop(name, None)
            elif leaves and now - self._leaving_at.get(name, -_LEAVE_AGAIN_NS) >= _LEAVE_AGAIN_NS:
                self._leaving_at[name] = now
                cancels[name] = leaves
        return cancels

    def is_leaving(self, machine: StrategiesMachine) -> bool:
        """Whether symbols are claimed here that are not to be traded here any more."""
        return any(claimed - machine.wanted(name) for name, claimed in self.claims.mine.held.items())

    def unclaimed(self, machine: StrategiesMachine) -> list[str]:
        """Strategies that go on with what they were begun with, by a version that claimed no symbols."""
        running = {name for name, hosted in machine.hosted.items() if hosted.status == "running"}
        return [
            name for name in sorted(running - {*machine.to_begin}) if machine.wanted(name) - self.claims.mine.of(name)
        ]

    async def may_begin(self, machine: StrategiesMachine, name: str) -> bool:
        """Whether its symbols are ours: claimed here, and nowhere else."""
        wanted = machine.wanted(name)
        if self.claims.mine.of(name) - wanted:
            self.waiting[name] = "its orders in symbols that move are being cancelled"
            return False
        if self.claims.partition and not await self.claims.has_first(name):
            self.waiting[name] = "process 0 has not claimed its symbols yet"
            return False
        found = await self.claims.claim(name, wanted)
        if not found:
            self.waiting.pop(name, None)
            return True
        theirs = frozenset[str]().union(*found.values())
        self.waiting[name] = f"process {min(found)} still trades {', '.join(sorted(theirs))} of it"
        # Who has orders in a symbol keeps it; of two that have none the claims must not wait for each other.
        if free := theirs - machine.open_in(name):
            await self.claims.release(name, free)
        return False
