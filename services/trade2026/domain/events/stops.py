"""Kill, halt and their release, which stand in `orders.events` and `risk.events` alike."""

from trade2026.domain.events.base import Event


class Killed(Event, frozen=True, kw_only=True):
    """Trading in a scope is stopped (`halt`: new orders only) until a named person resumes it."""

    scope: str
    reason: str
    by: str
    halt: bool = False
    cause: str = "person"


class Resumed(Event, frozen=True, kw_only=True):
    """A named person released a kill or halt."""

    scope: str
    reason: str
    by: str
