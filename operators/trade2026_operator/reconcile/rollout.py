"""How far a change is rolled out: which revision each release is to be at now, and when all of them go back. Pure.

There is no memory but Helm's records. Each says what it was made of (`records.Origin`), so that these can be told from
them, whoever looks and whenever: what was asked for when a revision began, what ran before, what has failed.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from trade2026_operator.asked import good_ones
from trade2026_operator.helm.records import Record, Status
from trade2026_operator.helm.releases import STRATEGIES
from trade2026_operator.helm.revisions import Wanted
from trade2026_operator.inputs import desk_of, same_limits
from trade2026_operator.reconcile.allowed import narrows
from trade2026_operator.reconcile.conditions import Observation
from trade2026_operator.reconcile.objects import Manifest, condition_of
from trade2026_operator.reconcile.readiness import Readiness
from trade2026_operator.reconcile.state import Desired, Observed, ReleaseWanted
from trade2026_operator.reconcile.waves import waves
from trade2026_operator.way_back import failed_inputs, other_desk, way_back

FAILING_SECONDS = 60.0
"""Pods that fail, and are not only slow, have so long: an image that can't be had, a process that ends by itself."""
_MARGIN_SECONDS = 0.5
UNKNOWN = Observation("Progressing", None, "Unknown")
NOT_ROLLED_BACK = Observation("RolledBack", False, "NotRolledBack")

Look = Callable[[ReleaseWanted], Readiness]
"""Whether a release, as it is to be, does what it is for."""


@dataclass(frozen=True)
class Failure:
    """Why a change is given up."""

    release: str
    reason: str
    why: str


@dataclass(frozen=True)
class Course:
    """What is to be done about each release now.

    Attributes:
        releases: Each as it is to be for now.
        held: Whose turn has not come: they stay as they are.
        back: Which go back, and to which revision.
        missing: Secrets of revisions that are to be read before anything else can be said.
        failure: Why the change is given up, at this moment.
        instead_of: The input that has failed, where something else runs in its place.
        again_after: Seconds until a deadline ends.
        is_final: Whether all that was asked for runs.
    """

    releases: tuple[ReleaseWanted, ...] = ()
    held: frozenset[str] = frozenset()
    back: Mapping[str, Record] = field(default_factory=dict[str, Record])
    missing: tuple[str, ...] = ()
    failure: Failure | None = None
    instead_of: str = ""
    progressing: Observation = UNKNOWN
    rolled_back: Observation = NOT_ROLLED_BACK
    again_after: float | None = None
    is_final: bool = False


def course(desired: Desired, observed: Observed, theirs: Collection[str], ready: Look, now: datetime) -> Course:
    """What is to be done about each release now.

    Args:
        theirs: Releases that people have changed, and that are left to them.
        ready: Looks at a release.
        now: UTC.
    """
    ours = {
        release.name: list(observed.records.get(release.name, ()))
        for release in desired.releases
        if release.name not in theirs
    }
    revisions = _Revisions(observed.contents)
    if desired.instead_of:
        found = _going_back(desired, ours, desired.input, desired.instead_of, revisions)
    elif _has_failed(ours, desired.input) and (back := _undoing(desired, ours)):
        found = _going_back(desired, ours, back, desired.input, revisions)
    else:
        found = _going_on(desired, observed, ours, revisions, ready, now)
    return found if not revisions.missing else Course(missing=tuple(revisions.missing))


def _has_failed(ours: Mapping[str, Sequence[Record]], asked: str) -> bool:
    return any(asked in failed_inputs(each[-1]) for each in ours.values() if each)


def _undoing(desired: Desired, ours: Mapping[str, Sequence[Record]]) -> str:
    """The input to which a change of the same desk may go back: with the same limits, and to run nobody again who is
    not to run; empty: to none."""
    back = way_back(ours, desired.input)
    return back if back and same_limits(back, desired.input) and not _runs_again(desired, ours, back) else ""


def _runs_again(desired: Desired, ours: Mapping[str, Sequence[Record]], back: str) -> set[str]:
    """Strategies that ran before and are not to run now: they were paused or deleted."""
    apart = [release.name for release in desired.releases if STRATEGIES in release.services]
    before = [record for name in apart for record in good_ones(ours.get(name, ())) if back in record.origin.inputs]
    return {name for record in before[-1:] for name in record.origin.strategies} - {
        version.name for version in desired.strategies
    }


class _Revisions:
    """Releases as their revisions have them."""

    def __init__(self, contents: Mapping[str, tuple[Manifest, ...]]) -> None:
        self._contents = contents
        self.missing: list[str] = []

    def of(self, record: Record, release: ReleaseWanted) -> ReleaseWanted:
        """A release as it is in a revision."""
        if record.content == release.record.content:
            return release
        manifests = self._contents.get(record.content)
        if manifests is None:
            self.missing.append(record.secret_name)
            return release
        said = Wanted(
            record.name, record.namespace, {}, {}, "", record.description, record.origin, summary_of=record.content
        )
        return ReleaseWanted(said, manifests, release.services)


# ── back ─────────────────────────────────────────────────────────────────────────────────────


def _going_back(
    desired: Desired, ours: Mapping[str, Sequence[Record]], to: str, failed: str, revisions: _Revisions
) -> Course:
    """Every release to where it was before, all at once: what has failed may be what the others wait for.

    One that was never so, as with limits that were tightened since, is made so.

    Args:
        to: The input that is to run instead of the one that has failed.
    """
    releases, back, behind = list[ReleaseWanted](), dict[str, Record](), list[str]()
    for release in desired.releases:
        records = ours.get(release.name)
        if records is None:  # a person's
            releases.append(release)
            continue
        newest, before = records[-1] if records else None, _revision_for(release, records, to)
        content = before.content if before is not None else release.record.content
        if newest is None or newest.status is not Status.DEPLOYED or newest.content != content:
            behind.append(release.name)
        if before is not None and newest is not None:
            if newest.status is Status.FAILED or newest.content != content:
                back[release.name] = before
            release = revisions.of(before, release)
        releases.append(release)
    why = _evidence(ours, failed)
    reason, _, _ = why.partition(":")
    version = next((each[-1].origin.version for each in ours.values() if each), "")
    if behind:
        progressing = Observation("Progressing", True, "RollingBack", f"{', '.join(behind)} go back: {why}")
    else:
        said = f"version {version} runs as before, with the limits and strategies of now; change the spec to try again: {why}"
        progressing = Observation("Progressing", False, "RolledBack", said)
    rolled_back = Observation("RolledBack", True, reason or "Failed", why)
    return Course(tuple(releases), back=back, instead_of=failed, progressing=progressing, rolled_back=rolled_back)


def _revision_for(release: ReleaseWanted, records: Sequence[Record], to: str) -> Record | None:
    """The newest revision that is as it should be at an input; None if there is none."""
    good = good_ones(records)[::-1]
    same = (record for record in good if record.content == release.record.content)
    return next((record for record in good if to in record.origin.inputs), next(same, None))


def _evidence(records: Mapping[str, Sequence[Record]], asked: str) -> str:
    """What the revision that has failed says of it."""
    failed = [
        record
        for each in records.values()
        for record in each
        if record.status is Status.FAILED and record.by_operator and desk_of(asked) in record.origin.desks
    ]
    return max(failed, key=lambda record: record.last_deployed).description if failed else "Failed"


# ── on ───────────────────────────────────────────────────────────────────────────────────────


def _going_on(
    desired: Desired,
    observed: Observed,
    ours: Mapping[str, Sequence[Record]],
    revisions: _Revisions,
    ready: Look,
    now: datetime,
) -> Course:
    by_name = {release.name: release for release in desired.releases}
    states = {name: _state(by_name[name], records, desired.input) for name, records in ours.items()}
    order = waves({release.name: release.services for release in desired.releases})
    number = next((n for n, wave in enumerate(order) if any(states.get(each, _DONE) != _DONE for each in wave)), None)
    young = now - timedelta(seconds=desired.bake_seconds)
    begun = {name: each[-1] for name, each in ours.items() if _belongs(each, desired.input, young)}
    burning = _burning(observed.stack, begun.values())
    looked = {
        name: ready(revisions.of(records[-1], by_name[name]) if records else by_name[name])
        for name, records in ours.items()
        if name in begun
    }
    before = {name for wave in order[:number] for name in wave}
    waiting = [name for name, found in looked.items() if not found.ready and (name in before or states[name] != _DONE)]
    gate_open = not burning and not any(name in before for name in waiting)
    admitted = set(order[number]) if number is not None and gate_open else set[str]()
    held = frozenset(name for name, state in states.items() if state == _WAITING and name not in admitted)
    releases = tuple(
        revisions.of(records[-1], release)
        if (records := ours.get(release.name)) and (states[release.name] in (_DONE, _ROLLING) or release.name in held)
        else release
        for release in desired.releases
    )
    if number is None:
        baking = _baking(desired, observed.stack, ours, looked, now)
        if baking is not None:
            return replace(baking, releases=releases)
        final = tuple(_narrowed(was, is_to_be, ours) for was, is_to_be in zip(releases, desired.releases, strict=True))
        return Course(final, progressing=Observation("Progressing", False, "Complete"), is_final=final == releases)
    said = f"wave {number + 1} of {len(order)}: {', '.join(n for n in order[number] if states.get(n, _DONE) != _DONE)}"
    suspects = {name: looked[name] for name in waiting if good_ones(ours[name])}
    if burning and begun:
        suspects[max(begun, key=lambda name: begun[name].last_deployed)] = Readiness(False, burning, reason="SLOBurn")
    since = max((record.last_deployed for record in begun.values()), default=now)
    failing_at = max(since, _turned(observed.stack, "Stalled", "True", now))
    late = _late(suspects, since, failing_at, desired.deadline_seconds, now)
    if not suspects and not all(map(good_ones, ours.values())):
        return Course(releases, held, progressing=Observation("Progressing", True, "Installing", said))
    if not isinstance(late, Failure):
        why = "; ".join(found.why for found in suspects.values())
        going = Observation("Progressing", True, "RollingOut", f"{said}{': ' if why else ''}{why}")
        return Course(releases, held, progressing=going, again_after=late)
    back = way_back(ours, desired.input)
    if _undoing(desired, ours) or (back and desk_of(back) != desk_of(desired.input)):
        return Course(
            releases, held, failure=late, progressing=Observation("Progressing", True, "RollingBack", late.why)
        )
    why = _why_it_stays(desired, ours, back)
    stays = Observation("Progressing", False, "DeadlineExceeded", f"{said}: {late.why}; it stays, for {why}")
    return Course(releases, held, progressing=stays)


def _why_it_stays(desired: Desired, ours: Mapping[str, Sequence[Record]], back: str) -> str:
    if not back:
        return "there is nothing to go back to"
    if not same_limits(back, desired.input):
        return "going back would undo a change of the limits"
    return f"going back would run again who is not to run: {', '.join(sorted(_runs_again(desired, ours, back)))}"


_NEW, _DONE, _ROLLING, _WAITING = "new", "done", "rolling", "waiting"


def _state(release: ReleaseWanted, records: Sequence[Record], asked: str) -> str:
    """How far a release is."""
    newest = records[-1] if records else None
    if newest is not None and _is_good_for(newest, release, asked):
        return _DONE if newest.status is Status.DEPLOYED else _ROLLING
    return _WAITING if good_ones(records) else _NEW  # a new one waits for nobody


def _is_good_for(newest: Record, release: ReleaseWanted, asked: str) -> bool:
    """Whether a revision of ours is what is asked for, whether or not it is there already."""
    lives = newest.status is Status.DEPLOYED or newest.status.is_pending
    is_it = asked in newest.origin.inputs or newest.content == release.record.content
    return newest.by_operator and lives and is_it


def _belongs(records: Sequence[Record], asked: str, young: datetime) -> bool:
    """Whether the newest revision of a release was made for what is asked for, and not only is as good for it.

    Args:
        young: What was deployed since then bakes; of the same desk, it is part of the same change, whichever strategy
            has come or gone meanwhile.
    """
    if not records or not records[-1].by_operator:
        return False
    newest, origin = records[-1], records[-1].origin
    first = origin.inputs[0] if origin.inputs else ""
    at = origin.deployed_at
    is_of_it = desk_of(first) == desk_of(asked) and (not at or datetime.fromisoformat(at) > young)
    return (first == asked or is_of_it) and not (newest.status.is_pending and at)


def _narrowed(release: ReleaseWanted, wanted: ReleaseWanted, ours: Mapping[str, Sequence[Record]]) -> ReleaseWanted:
    """A release that nobody of another version needs to be allowed in any more, if that alone is new in it.

    It is the same change, and as final as it was: no pod starts again, so there is nothing to wait for or to undo.
    """
    records = ours.get(release.name)
    if (
        not records
        or wanted.record.content == release.record.content
        or not narrows(release.manifests, wanted.manifests)
    ):
        return release
    return replace(wanted, record=replace(wanted.record, origin=records[-1].origin))


def _late(
    suspects: Mapping[str, Readiness], since: datetime, failing_at: datetime, seconds_max: float, now: datetime
) -> Failure | float | None:
    """What has had its time; or in how many seconds the first of them will have had it.

    Args:
        since: From when whatever is not ready has the deadline.
        failing_at: From when pods that fail have less, which may be long after.
    """
    left: list[float] = []
    for name, found in suspects.items():
        ends = since + timedelta(seconds=seconds_max)
        if found.failed:
            ends = min(ends, failing_at + timedelta(seconds=FAILING_SECONDS))
        if now >= ends:
            return Failure(name, found.reason, f"{name}: {found.why}")
        left.append((ends - now).total_seconds() + _MARGIN_SECONDS)
    return min(left, default=None)


# ── after the last wave ──────────────────────────────────────────────────────────────────────


def _baking(
    desired: Desired,
    stack: Manifest,
    ours: Mapping[str, Sequence[Record]],
    looked: Mapping[str, Readiness],
    now: datetime,
) -> Course | None:
    """A change that is everywhere and not final yet; None if it is, or if nothing could be undone.

    What began to fail while it baked is waited for beyond its end: it gets well, or the change is undone.

    Args:
        looked: How the releases are that were changed.
    """
    apart = {release.name for release in desired.releases if STRATEGIES in release.services}
    # Strategies and limits alone are final at once: one that somebody has paused would run again, and what was
    # tightened would be undone.
    begun = {
        name: newest
        for name in looked
        if name not in apart and (newest := ours[name][-1]).origin.deployed_at and _is_other_desk(ours[name])
    }
    if not begun or not other_desk(ours, desired.input):
        return None
    since = max(datetime.fromisoformat(record.origin.deployed_at) for record in begun.values())
    end = since + timedelta(seconds=desired.bake_seconds)
    suspects = {name: found for name, found in looked.items() if name in begun and not found.ready}
    failing_at = _turned(stack, "Ready", "False", now) if suspects else now
    if burning := _burning(stack, begun.values()):
        newest = max(begun, key=lambda name: begun[name].last_deployed)
        suspects.setdefault(newest, Readiness(False, burning, reason="SLOBurn"))
        failing_at = min(failing_at, _turned(stack, "SLOMet", "False", now))
    if now >= end and (not suspects or failing_at >= end):
        return None
    began = max(since, failing_at)
    late = _late(suspects, began, began, desired.deadline_seconds, now)
    if isinstance(late, Failure):
        undone = Observation("Progressing", True, "RollingBack", late.why)
        return Course(failure=late, progressing=undone)
    why = "".join(f"; {found.why}" for found in suspects.values())
    said = Observation("Progressing", True, "Baking", f"it runs, and is final at {end:%Y-%m-%dT%H:%M:%SZ}{why}")
    left = (end - now).total_seconds() + _MARGIN_SECONDS
    return Course(progressing=said, again_after=late if now >= end else min(left, left if late is None else late))


def _is_other_desk(records: Sequence[Record]) -> bool:
    """Whether the newest revision is of another desk than the one before."""
    last = [record.origin.inputs for record in good_ones(records)[-2:] if record.origin.inputs]
    return len(last) == 2 and desk_of(last[0][-1]) != desk_of(last[1][0])


def _turned(stack: Manifest, kind: str, status: str, now: datetime) -> datetime:
    """Since when the stack says so of a condition; now, if it does not say so yet."""
    found = condition_of(stack, kind)
    return now if found is None or found["status"] != status else datetime.fromisoformat(found["lastTransitionTime"])


def _burning(stack: Manifest, begun: Collection[Record]) -> str:
    """What the stack says of its objectives, if they are missed since the change began and were met before."""
    found = condition_of(stack, "SLOMet")
    if found is None or found["status"] != "False" or not begun:
        return ""
    since = datetime.fromisoformat(found["lastTransitionTime"])
    if since < min(record.last_deployed for record in begun).replace(microsecond=0):
        return ""
    return found.get("message") or found["reason"]
