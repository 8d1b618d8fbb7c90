"""What is known of one stack when it is looked at, and what is wanted of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from trade2026_operator.helm.records import Record
from trade2026_operator.helm.revisions import Wanted
from trade2026_operator.reconcile.conditions import Observation
from trade2026_operator.reconcile.objects import Manifest, Ref


@dataclass(frozen=True)
class ReleaseWanted:
    """A Helm release with everything that it consists of.

    Attributes:
        record: What its record is to say.
        manifests: Its objects, marked as Helm marks them.
        services: Of the platform, that it hosts.
    """

    record: Wanted
    manifests: tuple[Manifest, ...]
    services: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of the release."""
        return self.record.name


class Version(NamedTuple):
    """A strategy as it was asked for."""

    name: str
    generation: int
    uid: str = ""
    """One that was made again begins with generation 1, too."""


@dataclass(frozen=True)
class Desired:
    """What the manifest asks for; `fault` says why nothing can be asked for, and then all stays as it is."""

    releases: tuple[ReleaseWanted, ...] = ()
    objects: tuple[Manifest, ...] = ()
    """That belong to no release, such as the volume."""
    keys: Ref | None = None
    """The Secret with the stack's keys: made if there is none, and never changed."""
    fault: str = ""
    is_transient: bool = False
    """The fault is none of the manifest: it is tried again."""
    input: str = ""
    """Hash of what a person has asked for (`asked.input_of`), whatever an operator makes of it."""
    deadline_seconds: float = 600.0
    """Without progress for so long, a roll-out has failed."""
    bake_seconds: float = 300.0
    """For so long after its last wave a change may still be undone."""
    strategies: frozenset[Version] = frozenset()
    """Those that run."""
    instead_of: str = ""
    """The input that has failed, where this is not what the manifest asks for but what ran before: with the limits
    and the strategies of now."""
    specs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What it was made of, by the desk's part of the input (`inputs.desk_of`)."""


class Child(NamedTuple):
    """An object as a watch has told of it."""

    manifest: Manifest
    """What decisions need of it."""
    owned: str
    """Digest of what we have applied of it, as it is now (`ownership.owned_digest`)."""
    is_whole: bool = False
    """Whether the manifest is all of it but `managedFields`: where `driftIgnore` names something of it."""
    release: str = ""
    """The Helm release that it says it is part of."""


class Settled(NamedTuple):
    """An object after it was applied: what was asked of it, and the digest of what was ours of it then."""

    asked: str
    owned: str


class Refusal(NamedTuple):
    """Why an object was not taken, and what was asked of it: the same is not asked again before the resync."""

    asked: str
    message: str


@dataclass(frozen=True)
class Observed:
    """The world as of now, from watches alone.

    Attributes:
        children: Everything that carries the stack's label, by place.
        settled: Of those that were applied in this life of the operator.
        records: By release, all that there are, the oldest first.
        orders_cancelled: Of a stack that is being deleted: whether its working orders are known to be cancelled.
        refused: What the API server did not take.
        scaling: Conditions of what scales by its objectives; None while nobody has looked, empty where nothing scales.
        contents: The objects of revisions that were read, by the revision's content.
    """

    stack: Manifest
    children: Mapping[Ref, Child] = field(default_factory=dict[Ref, Child])
    settled: Mapping[Ref, Settled] = field(default_factory=dict[Ref, Settled])
    records: Mapping[str, Sequence[Record]] = field(default_factory=dict[str, Sequence[Record]])
    orders_cancelled: bool = False
    refused: Mapping[Ref, Refusal] = field(default_factory=dict[Ref, Refusal])
    scaling: Sequence[Observation] | None = None
    contents: Mapping[str, tuple[Manifest, ...]] = field(default_factory=dict[str, tuple[Manifest, ...]])
