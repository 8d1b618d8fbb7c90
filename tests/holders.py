"""Holders of partitions that write down what they are told, and watch that no two hold the same."""

import asyncio
from collections import Counter

from trade2026.kit.bus.membership import Membership


class Group:
    """The members of one group that live in this process."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.holders: dict[str, Holder] = {}
        self.faults: list[str] = []

    async def join(self, membership: Membership) -> "Holder":
        """A member joins; one that had its name is watched no more."""
        holder = self.add(membership)
        await membership.join(holder)
        return holder

    def add(self, membership: Membership) -> "Holder":
        """One that is to join with the holder returned."""
        self.holders[membership.me.name] = holder = Holder(membership, self)
        return holder

    @property
    def settled(self) -> bool:
        """Whether each partition has exactly one holder, all have their fair share, and each knows whose what is."""
        owners = {p: holder.membership.me for holder in self.holders.values() for p in holder.membership.held}
        sizes = [len(holder.membership.held) for holder in self.holders.values()]
        return (
            sum(sizes) == len(owners) == self.partitions
            and max(sizes) - min(sizes) <= 1
            and all(holder.known() == owners for holder in self.holders.values())
        )

    def watch(self, taker: "Holder", partitions: frozenset[int]) -> None:
        """Note when one takes what another holds. One that is cut off knows it by itself, and holds nothing then."""
        for other in self.holders.values():
            both = partitions & other.membership.held
            if other is not taker and both:
                self.faults.append(f"{taker.name} took {sorted(both)} of {other.name}: {self.told()}")

    def told(self) -> dict[str, list[tuple[str, list[int]]]]:
        """What each was told."""
        return {name: holder.told for name, holder in self.holders.items()}


class Holder:
    """Writes down each call. `gate` holds a letting go back until it is set."""

    def __init__(self, membership: Membership, group: Group) -> None:
        self.membership, self.group = membership, group
        self.name = membership.me.name
        self.told: list[tuple[str, list[int]]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.taken_at: dict[int, float] = {}
        """By the loop's clock."""

    async def take(self, partitions: frozenset[int]) -> None:
        self.told.append(("take", sorted(partitions)))
        self.taken_at |= dict.fromkeys(partitions, asyncio.get_running_loop().time())
        self.group.watch(self, partitions)

    async def let_go(self, partitions: frozenset[int]) -> None:
        await self.gate.wait()
        self.told.append(("let go", sorted(partitions)))

    async def lose(self, partitions: frozenset[int]) -> None:
        self.told.append(("lose", sorted(partitions)))

    def known(self) -> dict[int, object]:
        """Whose the partitions are, as its membership says."""
        found = {p: self.membership.whose(p) for p in range(self.group.partitions)}
        return {p: owner for p, owner in found.items() if owner is not None}

    @property
    def moves(self) -> Counter[str]:
        """How many partitions it took, let go and lost."""
        counted: Counter[str] = Counter()
        for what, partitions in self.told:
            counted[what] += len(partitions)
        return counted
