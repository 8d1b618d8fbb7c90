"""A cell that keeps one projection: the fold of one partition, and what it publishes."""

from typing import Any

from trade2026.kit.follower import Follower
from trade2026.kit.projection import Projection
from trade2026.kit.service import Health


class ProjectionCell:
    """See `Cell`."""

    def __init__(self, projection: Projection) -> None:
        self.projection = projection
        self.partition = projection.partition

    @property
    def machine(self) -> Any:
        """The fold; another object after a recovery."""
        return self.projection.machine

    @property
    def as_of(self) -> int:
        """Position of the newest event that answers contain; -1 before the first."""
        return self.projection.as_of

    @property
    def fenced(self) -> bool:
        """See `Cell.fenced`."""
        return bool(self.projection.replaced)

    @property
    def followed(self) -> list[Follower]:
        """What it follows, for the lag."""
        return [self.projection.followed] if self.projection.followed is not None else []

    def readiness(self) -> tuple[bool, str]:
        """See `Cell.readiness`."""
        return self.projection.readiness()

    def health(self) -> dict[str, Health]:
        """See `Cell.health`."""
        return self.projection.health()

    async def start(self) -> None:
        """See `Cell.start`."""
        await self.projection.start()

    async def stop(self) -> None:
        """See `Cell.stop`."""
        await self.projection.stop()
