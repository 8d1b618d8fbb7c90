"""What a group's coordinator does for its members: the group protocol of Kafka's brokers, as a port.

Members that join are collected until all known ones have joined; one of them, the leader, gets the notes of all and
says what the shares are; each gets its share. Then they send heartbeats: from the answers they hear that they have to
join again. What notes and shares mean is up to the members (`membership_member`).
"""

from collections.abc import Mapping
from typing import Protocol

import msgspec


class GroupError(Exception):
    """Base of what a coordinator can answer instead."""


class Unreachable(GroupError):
    """It gave no answer that is of use now; nobody knows what it has done."""


class Rebalancing(GroupError):
    """Somebody came, went or has something to say: join again. The member was heard."""


class StaleGeneration(GroupError):
    """The group has gone on without this member's last join: join again."""


class Forgotten(GroupError):
    """The group does not know this member (any more): others may have what it had."""


class Replaced(GroupError):
    """Another has joined under this member's name since."""


class Joined(msgspec.Struct, frozen=True):
    """What a member gets when all have joined."""

    member_id: str
    """Of this life of the member; the name outlives it."""
    generation: int
    notes: dict[str, bytes]
    """By member id, for the leader; for the others empty."""


class Coordinator(Protocol):
    """The coordinator of one group as one member sees it. Every call may raise `Unreachable`."""

    async def join(self, member_id: str, note: bytes) -> Joined:
        """Join, or join again; waits for the others.

        One that joins under a name that has a share, without an id, gets the share back, and nobody else is asked.

        Args:
            member_id: Empty at first.

        Raises:
            Forgotten, Replaced
        """
        ...

    async def sync(self, member_id: str, generation: int, shares: Mapping[str, bytes]) -> bytes:
        """Get one's share; waits for the leader, who says them all by member id.

        Raises:
            Rebalancing, StaleGeneration, Forgotten, Replaced
        """
        ...

    async def heartbeat(self, member_id: str, generation: int) -> None:
        """Be alive for the time of another session. Raises as `sync`."""
        ...

    async def leave(self, member_id: str) -> None:
        """Go; the others are asked to join again."""
        ...

    async def describe(self) -> list[tuple[bytes, bytes]] | None:
        """Notes and shares of all members as they are now; None while shares are being made."""
        ...

    async def close(self) -> None: ...
