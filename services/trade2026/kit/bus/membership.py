"""Which replica of a service has which partition: what a membership promises, whichever it is.

Replicas share the partitions of the topics that are split by account. A membership tells each which are its own, and
whose the others are, so that a request finds its way. It is advice: two replicas that both believe they have a
partition can't both write to it, because its log has one fenced writer (`Bus.claim`).

Backends: `EmbeddedMembership` (one replica has all), `MemoryGroup` (simulation, tests), Kafka's groups. All pass one
contract suite under `tests/contract`.
"""

from typing import Protocol

import msgspec


class Member(msgspec.Struct, frozen=True, order=True):
    """One replica."""

    name: str
    """Stable: a replica that comes back under its name gets its partitions back."""
    address: str
    """HOST:PORT on which it answers HTTP."""


class Holder(Protocol):
    """What a member does with its partitions. Called one at a time, never two at once.

    A call that takes longer than the membership allows is cancelled, and what it was about goes its way: what was to
    be let go counts as let go. An error in it is logged and changes nothing.
    """

    async def take(self, partitions: frozenset[int]) -> None:
        """These are ours from now on. Begin to work on them and return; what takes long is a task of the holder's."""
        ...

    async def let_go(self, partitions: frozenset[int]) -> None:
        """Finish with these, because others are to have them: they get them when this returns."""
        ...

    async def lose(self, partitions: frozenset[int]) -> None:
        """These may be another's already: the group has not heard of us for too long. Stop at once."""
        ...


class Membership(Protocol):
    """One member of a group of replicas that share the partitions 0 to P-1."""

    me: Member
    partitions: int
    """P: as all members say."""

    @property
    def held(self) -> frozenset[int]:
        """What is ours now: between `take` and the end of `let_go`, or the moment of loss."""
        ...

    @property
    def detail(self) -> str:
        """Why the group can't be heard now, for a person; empty while it can."""
        ...

    @property
    def replaced(self) -> str:
        """Who has joined under our name: this member is none any more. Empty while nobody has."""
        ...

    async def join(self, holder: Holder) -> None:
        """Become a member. Returns when the holder has taken its first share, which may be nothing.

        A share changes when members come and go: shares differ by one partition at most, and few move. A partition
        goes to another only when its holder has let go, or was not heard of for the time of a session.
        """
        ...

    async def leave(self) -> None:
        """Let everything go, so that others have it at once, and be a member no more. Idempotent."""
        ...

    def whose(self, partition: int) -> Member | None:
        """Who has a partition, as was heard last; None while nobody has, or nothing is known."""
        ...

    async def look(self) -> None:
        """Ask the group again who has what. What can't be learned is not known from then on."""
        ...


class EmbeddedMembership:
    """The only replica: it has all partitions, and asks nobody."""

    detail = ""
    replaced = ""

    def __init__(self, me: Member, partitions: int) -> None:
        self.me, self.partitions = me, partitions
        self.held: frozenset[int] = frozenset()
        self._holder: Holder | None = None

    async def join(self, holder: Holder) -> None:
        """See `Membership.join`."""
        assert self._holder is None, "joined already"
        self._holder, self.held = holder, frozenset(range(self.partitions))
        await holder.take(self.held)

    async def leave(self) -> None:
        """See `Membership.leave`."""
        holder, self._holder = self._holder, None
        if holder is not None:
            await holder.let_go(self.held)
            self.held = frozenset()

    def whose(self, partition: int) -> Member | None:
        """See `Membership.whose`."""
        return self.me if partition in self.held else None

    async def look(self) -> None:
        """See `Membership.look`."""
