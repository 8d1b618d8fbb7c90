"""Time as an input: nobody else in the platform asks the machine what time it is."""

import time
from typing import Protocol


class Clock(Protocol):
    """Where the shell gets the time from."""

    def now(self) -> int:
        """Nanoseconds since the epoch, UTC."""
        ...


class WallClock:
    """The machine's clock."""

    now = staticmethod(time.time_ns)


class ManualClock:
    """A clock that moves only when told to: simulation and tests."""

    def __init__(self, ns: int = 1_700_000_000_000_000_000) -> None:
        self.ns = ns

    def now(self) -> int:
        return self.ns

    def advance(self, ns: int) -> None:
        """Move on; time never goes back."""
        assert ns >= 0
        self.ns += ns
