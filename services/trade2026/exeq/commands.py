"""What can be asked of the owner of the parents. A command carries all that its decision reads and the log has not."""

import msgspec

from trade2026.domain.commands import Command
from trade2026.domain.events import ChildReported
from trade2026.domain.parents import MarketSeen, ParentSpec


class AcceptParent(Command, kw_only=True):
    """Ask for a parent; `weights` is the expected volume of equal parts of its time."""

    spec: ParentSpec
    weights: tuple[int, ...] = ()
    market: MarketSeen | None = None


class AmendParent(Command, kw_only=True):
    """Ask for other terms; None leaves one as it is, and a price of 0 takes the limit away."""

    parent_id: str
    quantity: int | None = None
    price: int | None = None
    end_at: int | None = None
    child_quantity_max: int | None = None
    participation_bps: int | None = None
    weights: tuple[int, ...] = ()


class PauseParent(Command, kw_only=True):
    """Ask that no child works until `ResumeParent`."""

    parent_id: str
    reason: str = ""


class ResumeParent(Command, kw_only=True):
    """Ask that a paused parent goes on."""

    parent_id: str


class CancelParent(Command, kw_only=True):
    """Ask that nothing more is done."""

    parent_id: str
    reason: str = ""


class PassTime(Command, kw_only=True):
    """The shell's timer: slices may be due. `markets` is by instrument."""

    markets: dict[str, MarketSeen] = msgspec.field(default_factory=dict)


class ReportChild(Command, kw_only=True):
    """News of a child."""

    report: ChildReported
    market: MarketSeen | None = None


ParentCommand = AmendParent | PauseParent | ResumeParent | CancelParent
"""What is asked of one parent."""
