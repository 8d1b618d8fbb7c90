"""What is to be done: each step once, in order, and harmless if it was done before."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trade2026_operator.helm.records import Record
from trade2026_operator.reconcile.objects import Manifest, Ref


@dataclass(frozen=True)
class Apply:
    """Server-side apply; it makes the object or takes back what somebody else has changed."""

    manifest: Manifest
    corrects: bool = False
    """Somebody has changed or deleted what was settled."""
    confirms: bool = False
    """It is there, and whether it is as wanted is not known in this life of the operator."""


@dataclass(frozen=True)
class KeepReplicas:
    """Say a workload's number of replicas under another name: it stays until its autoscaler says another one."""

    ref: Ref
    count: int
    version: str = ""
    """Only if it is still in this one; empty: whatever it is."""


@dataclass(frozen=True)
class MakeKeys:
    """Make the Secret with the stack's keys, if there is none."""


@dataclass(frozen=True)
class Delete:
    """Delete an object, if it is still the one that was seen."""

    ref: Ref
    uid: str


@dataclass(frozen=True)
class WriteRecord:
    """Write Helm's record of a revision; of a summary, what it leaves out is read first."""

    record: Record
    like: str = ""
    """Secret of the revision whose content a summary has; empty: its own."""


@dataclass(frozen=True)
class ReadRecord:
    """Read what a revision consists of, which is not kept: nothing else can be decided before."""

    secret: str


@dataclass(frozen=True)
class DropRecord:
    """Delete the Secret of a revision that is too old."""

    secret: str


@dataclass(frozen=True)
class CancelOrders:
    """Cancel every working order of the stack, or of the strategy."""

    final: bool = False
    """It can send no more: then nothing of it is left."""


@dataclass(frozen=True)
class TellLimits:
    """Tell the stack's risk service the limits of the strategy's own manifest, as the planner writes them; {}: none."""

    limits: Mapping[str, Any]


@dataclass(frozen=True)
class SetFinalizer:
    """Hold the stack until it is cleaned up, or let it go."""

    present: bool


@dataclass(frozen=True)
class PatchStatus:
    """Write the stack's status, whole."""

    status: dict[str, Any]


@dataclass(frozen=True)
class Say:
    """A Kubernetes Event on the stack."""

    reason: str
    message: str
    is_warning: bool = False


Action = (
    Apply
    | KeepReplicas
    | MakeKeys
    | Delete
    | WriteRecord
    | ReadRecord
    | DropRecord
    | CancelOrders
    | TellLimits
    | SetFinalizer
    | PatchStatus
    | Say
)


@dataclass(frozen=True)
class Steps:
    """What one look at a stack comes to.

    Attributes:
        again_after: Seconds until it is to be looked at once more although nothing has happened; None for the resync.
    """

    actions: tuple[Action, ...] = field(default=())
    again_after: float | None = None
