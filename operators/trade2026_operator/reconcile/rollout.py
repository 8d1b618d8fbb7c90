"""How far a change is rolled out: which revision each release is to be at now, and when all of them go back. Pure.

There is no memory but Helm's records. Each says what it was made of (`records.Origin`), so that these can be told from
them, whoever looks and whenever: what was asked for when a revision began, what ran before, what has failed.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from trade2026_operator.asked import good_ones, same_limits
from trade2026_operator.helm.records import Record, Status
from trade2026_operator.helm.releases import STRATEGIES
from trade2026_operator.helm.revisions import Wanted
from trade2026_operator.reconcile.allowed import narrows
from trade2026_operator.reconcile.conditions import Observation
from trade2026_operator.reconcile.objects import Manifest, condition_of
from trade2026_operator.reconcile.readiness import Readiness
from trade2026_operator.reconcile.state import Desired, Observed, ReleaseWanted
from trade2026_operator.reconcile.waves import waves

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
        again_after: Seconds until a deadline ends.
        is_final: Whether all that was asked for runs.
    """

    releases: tuple[ReleaseWanted, ...] = ()
    held: frozenset[str] = frozenset()
    back: Mapping[str, Record] = field(default_factory=dict[str, Record])
    missing: tuple[str, ...] = ()
    failure: Failure | None = None
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
    failed = next((each[-1] for each in ours.values() if each and _stands_for_failure(each[-1], desired.input)), None)
    back = way_back(ours, desired.input) if failed is not None else ""
    if failed is not None and back:
        found = _going_back(desired, ours, back, revisions)
    else:
        found = _going_on(desired, observed, ours, revisions, ready, now)
    return found if not revisions.missing else Course(missing=tuple(revisions.missing))


def way_back(records: Mapping[str, Sequence[Record]], asked: str) -> str:
    """The newest input, other than the one that is asked for, at which every release has been; empty: there is none."""
    inputs = [_inputs(each) for each in records.values()]
    if not inputs:
        return ""
    return next((one for one in inputs[0] if one != asked and all(one in other for other in inputs[1:])), "")


def _inputs(records: Sequence[Record]) -> list[str]:
    """At which a release was as it should be, the newest first."""
    return [one for record in reversed(good_ones(records)) for one in reversed(record.origin.inputs)]


def _stands_for_failure(newest: Record, asked: str) -> bool:
    """Whether a revision says that what is asked for has failed: it is not tried again."""
    has_failed = newest.by_operator and newest.status is Status.FAILED and asked in newest.origin.inputs
    return has_failed or newest.origin.instead_of == asked


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


def _going_back(desired: Desired, ours: Mapping[str, Sequence[Record]], to: str, revisions: _Revisions) -> Course:
    """Every release to where it was before, all at once: what has failed may be what the others wait for."""
    releases, back, behind = list[ReleaseWanted](), dict[str, Record](), list[str]()
    for release in desired.releases:
        records = ours.get(release.name)
        if not records:  # a person's
            releases.append(release)
            continue
        newest = records[-1]
        before = next(record for record in reversed(good_ones(records)) if to in record.origin.inputs)
        if newest.status is Status.FAILED or newest.content != before.content:
            back[release.name] = before
        if newest.status is not Status.DEPLOYED or newest.content != before.content:
            behind.append(release.name)
        releases.append(revisions.of(before, release))
    why = _evidence(ours, desired.input)
    reason, _, _ = why.partition(":")
    version = next((each[-1].origin.version for each in ours.values() if each), "")
    if behind:
        progressing = Observation("Progressing", True, "RollingBack", f"{', '.join(behind)} go back: {why}")
    else:
        said = f"version {version} runs as before; change the spec to try again: {why}"
        progressing = Observation("Progressing", False, "RolledBack", said)
    rolled_back = Observation("RolledBack", True, reason or "Failed", why)
    return Course(tuple(releases), back=back, progressing=progressing, rolled_back=rolled_back)


def _evidence(records: Mapping[str, Sequence[Record]], asked: str) -> str:
    """What the revision that has failed says of it."""
    failed = [
        record
        for each in records.values()
        for record in each
        if record.status is Status.FAILED and record.by_operator and asked in record.origin.inputs
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
    begun = {name: each[-1] for name, each in ours.items() if _belongs(each, desired.input)}
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
    late = _late(suspects, since, desired.deadline_seconds, now)
    if not suspects and not all(map(good_ones, ours.values())):
        return Course(releases, held, progressing=Observation("Progressing", True, "Installing", said))
    if not isinstance(late, Failure):
        why = "; ".join(found.why for found in suspects.values())
        going = Observation("Progressing", True, "RollingOut", f"{said}{': ' if why else ''}{why}")
        return Course(releases, held, progressing=going, again_after=late)
    back = way_back(ours, desired.input)
    if back and same_limits(back, desired.input):
        return Course(
            releases, held, failure=late, progressing=Observation("Progressing", True, "RollingBack", late.why)
        )
    why = "going back would undo a change of the limits" if back else "there is nothing to go back to"
    stays = Observation("Progressing", False, "DeadlineExceeded", f"{said}: {late.why}; it stays, for {why}")
    return Course(releases, held, progressing=stays)


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


def _belongs(records: Sequence[Record], asked: str) -> bool:
    """Whether the newest revision of a release was made for what is asked for, and not only is as good for it."""
    if not records or not records[-1].by_operator:
        return False
    newest = records[-1]
    return newest.origin.inputs[:1] == (asked,) and not (newest.status.is_pending and newest.origin.deployed_at)


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
    suspects: Mapping[str, Readiness], since: datetime, seconds_max: float, now: datetime
) -> Failure | float | None:
    """What has had its time; or in how many seconds the first of them will have had it."""
    gone = (now - since).total_seconds()
    left: list[float] = []
    for name, found in suspects.items():
        limit = min(FAILING_SECONDS, seconds_max) if found.failed else seconds_max
        if gone >= limit:
            return Failure(name, found.reason, f"{name}: {found.why}")
        left.append(limit - gone + _MARGIN_SECONDS)
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
    back = way_back(ours, desired.input)
    apart = {release.name for release in desired.releases if STRATEGIES in release.services}
    # A strategy that somebody has paused would run again, so strategies alone are final at once.
    begun = {name: ours[name][-1] for name in looked if name not in apart and ours[name][-1].origin.deployed_at}
    if not begun or not back or not same_limits(back, desired.input):
        return None
    since = max(datetime.fromisoformat(record.origin.deployed_at) for record in begun.values())
    end = since + timedelta(seconds=desired.bake_seconds)
    suspects = {name: found for name, found in looked.items() if name in begun and not found.ready}
    failing_at = _turned_bad(stack, "Ready", now) if suspects else now
    if burning := _burning(stack, begun.values()):
        newest = max(begun, key=lambda name: begun[name].last_deployed)
        suspects.setdefault(newest, Readiness(False, burning, reason="SLOBurn"))
        failing_at = min(failing_at, _turned_bad(stack, "SLOMet", now))
    if now >= end and (not suspects or failing_at >= end):
        return None
    late = _late(suspects, max(since, failing_at), desired.deadline_seconds, now)
    if isinstance(late, Failure):
        undone = Observation("Progressing", True, "RollingBack", late.why)
        return Course(failure=late, progressing=undone)
    why = "".join(f"; {found.why}" for found in suspects.values())
    said = Observation("Progressing", True, "Baking", f"it runs, and is final at {end:%Y-%m-%dT%H:%M:%SZ}{why}")
    left = (end - now).total_seconds() + _MARGIN_SECONDS
    return Course(progressing=said, again_after=late if now >= end else min(left, left if late is None else late))


def _turned_bad(stack: Manifest, kind: str, now: datetime) -> datetime:
    """Since when the stack says that a condition is not met; now, if it does not say so yet."""
    found = condition_of(stack, kind)
    return now if found is None or found["status"] != "False" else datetime.fromisoformat(found["lastTransitionTime"])


def _burning(stack: Manifest, begun: Collection[Record]) -> str:
    """What the stack says of its objectives, if they are missed since the change began and were met before."""
    found = condition_of(stack, "SLOMet")
    if found is None or found["status"] != "False" or not begun:
        return ""
    since = datetime.fromisoformat(found["lastTransitionTime"])
    if since < min(record.last_deployed for record in begun).replace(microsecond=0):
        return ""
    return found.get("message") or found["reason"]
