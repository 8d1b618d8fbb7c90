"""What a service is to the process that hosts it."""

import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trade2026.kit.bus.membership import EmbeddedMembership, Member, Membership
from trade2026.kit.bus.port import Bus
from trade2026.kit.clock import Clock
from trade2026.kit.disk import free_bytes
from trade2026.kit.lag import Followed
from trade2026.kit.memory import UNLIMITED, Memory
from trade2026.kit.settings import ProcessSettings

if TYPE_CHECKING:
    from trade2026.kit.http import App
    from trade2026.kit.metrics import Metrics


def instance() -> str:
    """A name that no other process of the release has: in a container, where each is process 1, that of its pod."""
    return socket.gethostname() if os.getpid() == 1 else str(os.getpid())


@dataclass
class Context:
    """What the shell hands to each service that it hosts."""

    settings: ProcessSettings
    bus: Bus
    clock: Clock
    metrics: "Metrics"
    instance: str = field(default_factory=instance)
    """Tells this process from another one of the same release, in the names of owners."""
    free_bytes: Callable[[Path], int] = free_bytes
    """Room on the disk of a directory; raises `OSError` if it cannot be read."""
    membership: Callable[[str, Member, int], Membership] = lambda service, me, partitions: EmbeddedMembership(
        me, partitions
    )
    """Makes a member of the group of a service's replicas, which share so many partitions."""
    memory: Callable[[], Memory] = lambda: UNLIMITED
    """What the process has, and may have."""


@dataclass(frozen=True)
class Health:
    """How one dependency is: `detail` says why, for a person."""

    ok: bool
    detail: str = ""


class Service:
    """Base of every service: subclass, set `name`, fill in what is needed.

    Life: `__init__` → `routes` → `start` (claims, replays; HTTP already answers probes meanwhile) → works
    until `stop`, which drains.
    """

    name: str = ""
    title: str = ""
    other_ports: tuple[str, ...] = ()
    """Names of further ports, as the facts have them, each with routes of its own."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.settings = context.settings

    def routes(self, app: "App") -> None:
        """Add the service's endpoints."""

    def other_routes(self, port: str, app: "App") -> None:
        """Add the endpoints of one of `other_ports`."""

    async def start(self) -> None:
        """Recover and begin to work; returns when ready."""

    async def stop(self) -> None:
        """Finish what was accepted, then let go."""

    def readiness(self) -> tuple[bool, str]:
        """Whether it can answer, and how far recovery is if not."""
        return True, "ready"

    def health(self) -> dict[str, Health]:
        """Each dependency by name; cheap, no I/O."""
        return {}

    def replaced(self) -> str:
        """Which other process owns what is ours now; empty while none does. It ends this process."""
        return ""

    def followed(self) -> Iterable[Followed]:
        """What it follows of the log now, each partition once."""
        return ()

    def disk(self) -> Health:
        """Whether there is room for new orders: below the floor, what is left belongs to cancels and fills."""
        try:
            free = self.context.free_bytes(self.settings.state)
        except OSError as error:
            return Health(False, f"the state directory cannot be read: {error}")
        least = self.settings.free_bytes_min
        low = free < least
        return Health(not low, f"{free >> 20} MiB are free, new orders need {least >> 20} MiB" if low else "")

    def stats(self) -> dict[str, Any]:
        """Counters that a person wants to see."""
        return {}
