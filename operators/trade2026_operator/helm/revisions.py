"""What the records of a release say, and which are to be written next: pure.

A reconcile begins with `standing`. Where it is to change a release it writes `begun`, applies the objects, and writes
what `finished` or `failed` says. Whatever is interrupted between the two is seen as `UNFINISHED` by the next one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any

from trade2026_operator.helm.records import NO_ORIGIN, Origin, Record, Status, content_of, superseded

KEPT_MAX = 5
"""Revisions of a release that are kept, the newest among them."""
DESCRIPTION_MAX = 256
INPUTS_MAX = 8
"""Inputs that are noted of a revision: as many changes in a row, none of which changes it."""


class Standing(StrEnum):
    """How a release is, as its records say."""

    ABSENT = "Absent"
    """There is none, and we have made none."""
    OURS = "Ours"
    """The newest revision is deployed, and the operator wrote it."""
    UNFINISHED = "Unfinished"
    """The operator began and did not end."""
    FAILED = "Failed"
    """The operator's newest revision has failed."""
    UPGRADED = "Upgraded"
    """A person has installed or upgraded it."""
    ROLLED_BACK = "RolledBack"
    """A person has rolled it back."""
    UNINSTALLED = "Uninstalled"
    """A person has uninstalled it."""
    BUSY = "Busy"
    """A person's command is at work."""

    @property
    def is_a_persons(self) -> bool:
        """Whether somebody has changed the release by hand: reported as `Drifted`, reason `HumanRelease`."""
        return self in (Standing.UPGRADED, Standing.ROLLED_BACK, Standing.UNINSTALLED, Standing.BUSY)


def standing(records: Sequence[Record], *, made: bool) -> Standing:
    """How a release is.

    Args:
        records: All of the release, the oldest first.
        made: Whether the operator has deployed it before, as its inventory says: then a release without records
            was uninstalled.
    """
    if not records:
        return Standing.UNINSTALLED if made else Standing.ABSENT
    newest = records[-1]
    if newest.status in (Status.UNINSTALLED, Status.UNINSTALLING):
        return Standing.UNINSTALLED
    if newest.by_operator:
        if newest.status.is_pending:
            return Standing.UNFINISHED
        return Standing.FAILED if newest.status is Status.FAILED else Standing.OURS
    if newest.status.is_pending:
        return Standing.BUSY
    return Standing.ROLLED_BACK if newest.rollback_revision else Standing.UPGRADED


def in_words(found: Standing, records: Sequence[Record]) -> str:
    """What a person is told of a release that another person has changed."""
    newest = records[-1] if records else None
    match found:
        case Standing.ROLLED_BACK if newest is not None:
            return f"revision {newest.revision} goes back to {newest.rollback_revision}: `helm rollback` by hand"
        case Standing.UPGRADED if newest is not None:
            return f"revision {newest.revision} is not the operator's: `helm upgrade` by hand"
        case Standing.UNINSTALLED:
            return "it was uninstalled by hand"
        case Standing.BUSY if newest is not None:
            return f"a person's command is at work on revision {newest.revision} ({newest.status})"
        case _:
            return f"the release is {found.value}"


@dataclass(frozen=True)
class Wanted:
    """A release as it should be."""

    name: str
    namespace: str
    chart: dict[str, Any]
    values: dict[str, Any]
    manifest: str
    description: str
    origin: Origin = NO_ORIGIN
    """With one input: what is asked for now."""
    specs: dict[str, Any] = field(default_factory=dict[str, Any])
    """See `records.Record`."""
    summary_of: str = ""
    """Of what a revision has already, and is not to be written again: its content."""

    @cached_property
    def content(self) -> str:
        """See `records.content_of`."""
        return self.summary_of or content_of(self.chart, self.values, self.manifest)


@dataclass(frozen=True)
class Writes:
    """Records to be written, in this order, and then names of Secrets to be deleted."""

    written: tuple[Record, ...]
    deleted: tuple[str, ...] = ()


def is_as_wanted(record: Record, wanted: Wanted) -> bool:
    """Whether a revision is what is wanted, so that none is to be written."""
    return record.content == wanted.content and record.status is Status.DEPLOYED


def begun(records: Sequence[Record], wanted: Wanted, now: datetime) -> Record:
    """The next revision, before its objects are applied. One that was interrupted is begun again under its number."""
    upgrades = any(record.status in (Status.DEPLOYED, Status.SUPERSEDED) for record in records)
    return Record(
        name=wanted.name,
        namespace=wanted.namespace,
        revision=_next(records),
        status=Status.PENDING_UPGRADE if upgrades else Status.PENDING_INSTALL,
        chart=wanted.chart,
        values=wanted.values,
        manifest=wanted.manifest,
        first_deployed=records[0].first_deployed if records else now,
        last_deployed=now,
        description=wanted.description[:DESCRIPTION_MAX],
        origin=wanted.origin,
        specs=wanted.specs,
    )


def gone_back(records: Sequence[Record], to: Record, instead_of: str, now: datetime) -> Record:
    """The next revision where the operator goes back to an earlier one, whose content it has.

    Args:
        instead_of: The input that has failed.
    """
    return replace(
        to,
        revision=_next(records),
        status=Status.PENDING_ROLLBACK,
        last_deployed=now,
        description=f"back to revision {to.revision} by itself",
        rollback_revision=to.revision,
        by_operator=True,
        origin=replace(to.origin, instead_of=instead_of, deployed_at=""),
    )


def heeded(record: Record, asked: str, specs: dict[str, Any], *, instead: bool = False) -> Record | None:
    """A revision that is also what is asked for now, as it is then; None where that is noted already.

    Args:
        asked: The input.
        specs: What was written for it.
        instead: It is asked for in the place of what has failed.
    """
    origin = record.origin
    inputs = origin.inputs if asked in origin.inputs else (*origin.inputs, asked)[-INPUTS_MAX:]
    noted = replace(origin, inputs=inputs, instead_of=origin.instead_of if instead else "")
    return None if noted == origin else replace(record, origin=noted, specs=specs)


def _next(records: Sequence[Record]) -> int:
    """The number of the revision to be begun: one of ours that was interrupted is begun again under its own."""
    newest = records[-1] if records else None
    if newest is None:
        return 1
    return newest.revision if newest.by_operator and newest.status.is_pending else newest.revision + 1


def finished(records: Sequence[Record], pending: Record, now: datetime) -> Writes:
    """What is written when the objects of a revision are there: it, and what it takes the place of.

    The new one is written first: a release without a deployed revision is none that Helm would upgrade.
    """
    origin = replace(pending.origin, deployed_at=pending.origin.deployed_at or now.isoformat(timespec="seconds"))
    before = [record for record in records if record.revision != pending.revision]
    replaced = [superseded(record) for record in before if record.status is Status.DEPLOYED]
    return Writes((replace(pending, status=Status.DEPLOYED, origin=origin), *replaced), _too_old(before))


def failed(records: Sequence[Record], pending: Record, reason: str) -> Writes:
    """What is written when the objects of a revision can't be applied: the one before stays deployed."""
    before = [record for record in records if record.revision != pending.revision]
    ended = replace(pending, status=Status.FAILED, description=reason[:DESCRIPTION_MAX])
    return Writes((ended,), _too_old(before))


def _too_old(before: Sequence[Record]) -> tuple[str, ...]:
    """Secrets beyond what is kept; the last one that was deployed always stays, to go back to."""
    good = [record for record in before if record.status in (Status.DEPLOYED, Status.SUPERSEDED)]
    spared = good[-1].revision if good else 0
    surplus = max(0, len(before) - (KEPT_MAX - 1))
    return tuple(record.secret_name for record in before[:surplus] if record.revision != spared)
