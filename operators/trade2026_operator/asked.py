"""What people have asked for, whatever an operator makes of it; and which versions of the platform it can run. Pure.

The input of a release is the hash of what is written down in a manifest and in the operator's own settings, without
defaults: an operator that renders the same input in another way, or knows more fields, changes nothing that runs.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

from trade2026 import __version__
from trade2026.stack.model import TradingStack
from trade2026.stack.rules import written
from trade2026.stack.strategy import Strategy
from trade2026_operator.helm.records import Record, Status
from trade2026_operator.helm.releases import Cluster

HOW = {
    "paused": True,
    "drift_policy": True,
    "drift_ignore": True,
    "drift_releases": True,
    "deletion_policy": True,
    "rollout": True,
}
"""Fields of a spec that say how the operator goes about it, and not what runs."""
_NOW = frozenset(map(written, (*HOW, "risk")))
"""Of a spec, as it is written: what holds now also where the rest of it has failed, and what ran before runs again."""
_HASH_CHARS = 24


@dataclass(frozen=True)
class Running:
    """What runs as a change begins.

    Attributes:
        versions: Of the platform, without the one that is asked for.
        event_format: That writers write, while one of those versions runs; 0: it is free.
    """

    versions: tuple[str, ...] = ()
    event_format: int = 0


def running(records: Mapping[str, Sequence[Record]], version: str) -> Running:
    """What the records say that runs.

    Args:
        records: By release, the oldest first.
        version: That is asked for.
    """
    now = [good[-1].origin for each in records.values() if (good := good_ones(each))]
    others = sorted({origin.version for origin in now if origin.version not in ("", version)})
    return Running(tuple(others), max((origin.event_format for origin in now), default=0) if others else 0)


def good_ones(records: Sequence[Record]) -> list[Record]:
    """Revisions that ran or run as they should."""
    return [record for record in records if record.status in (Status.DEPLOYED, Status.SUPERSEDED)]


def input_of(stack: TradingStack, cluster: Cluster, strategies: Sequence[Strategy] = ()) -> str:
    """Hashes of what is asked for: of the desk, the strategies and the limits.

    Args:
        strategies: Those that run. Their own limits are told while everything runs, and change no release.

    The version is always part of it: what is its default changes with each operator.
    """
    spec = stack.spec.model_dump(mode="json", exclude_defaults=True, exclude={**HOW, "risk": True})
    limits = stack.spec.risk.model_dump(mode="json", exclude_defaults=True)
    ours = {each.name: getattr(cluster, each.name) for each in fields(cluster)}
    given = {name: value for name, value in ours.items() if value != getattr(Cluster(), name)}
    asked = {**spec, "version": stack.spec.version, "cluster": given}
    run = {
        each.metadata.name: each.spec.model_dump(mode="json", exclude_defaults=True, exclude={"risk": True})
        for each in strategies
    }
    return f"{_hash(asked)}-{_hash(run)}-{_hash(limits)}"


def desk_of(asked: str) -> str:
    """The part of an input that is of the desk: all of it but its strategies and its limits."""
    return asked.partition("-")[0]


def same_limits(one: str, other: str) -> bool:
    """Whether two inputs have the same limits."""
    return one.rpartition("-")[2] == other.rpartition("-")[2]


# ── what has failed, and what ran before ─────────────────────────────────────────────────────


def way_back(records: Mapping[str, Sequence[Record]], asked: str) -> str:
    """The newest input, other than the one that is asked for, at which every release has been; empty: there is none.

    A release that has never been as it should be had nothing to do with it.
    """
    return next((one for one in _common(records) if one != asked), "")


def other_desk(records: Mapping[str, Sequence[Record]], asked: str) -> str:
    """The same, of another desk."""
    return next((one for one in _common(records) if desk_of(one) != desk_of(asked)), "")


def _common(records: Mapping[str, Sequence[Record]]) -> list[str]:
    """Inputs at which every release has been, the newest first."""
    inputs = [found for each in records.values() if (found := _inputs(each))]
    return [one for one in inputs[0] if all(one in other for other in inputs[1:])] if inputs else []


def _inputs(records: Sequence[Record]) -> list[str]:
    """At which a release was as it should be, the newest first."""
    return [one for record in reversed(good_ones(records)) for one in reversed(record.origin.inputs)]


def failed_inputs(newest: Record) -> tuple[str, ...]:
    """What the newest revision of a release says has failed: it is not tried again."""
    if not newest.by_operator:
        return ()
    if newest.status is Status.FAILED:
        return newest.origin.inputs
    return (newest.origin.instead_of,) if newest.origin.instead_of else ()


@dataclass(frozen=True)
class GaveWay:
    """A desk that has failed, and the one that runs instead.

    Attributes:
        failed: The input.
        to: The input that was everywhere before.
        secret: Of a record that has the spec of that.
    """

    failed: str
    to: str
    secret: str


def gave_way(records: Mapping[str, Sequence[Record]], desk: str) -> GaveWay | None:
    """What runs instead of a desk that has failed; None where it has not, or there was no other before.

    Args:
        records: By release, the oldest first.
    """
    ours = {name: each for name, each in records.items() if each and each[-1].by_operator}
    failed = next((one for each in ours.values() for one in failed_inputs(each[-1]) if desk_of(one) == desk), "")
    to = way_back(ours, failed) if failed else ""
    if not to or desk_of(to) == desk:
        return None
    good = (record for each in ours.values() for record in reversed(good_ones(each)))
    return GaveWay(failed, to, next(record.secret_name for record in good if to in record.origin.inputs))


def again(now: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """The spec that ran before, with what holds now in any case: limits are never undone.

    Args:
        now: As a person has written it.
    """
    held = {name: value for name, value in now.items() if name in _NOW}
    if "risk" in held:
        held["risk"] = _of_what_is_there(held["risk"], before)
    return {**{name: value for name, value in before.items() if name not in _NOW}, **held}


def _of_what_is_there(limits: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    """Limits without instruments and venues that came with what has failed: nobody can trade there, so none is loosened."""
    venues = {venue["name"] for venue in spec["venues"]}
    symbols = {each["symbol"] for each in spec["instruments"]}
    symbols |= {f"{each['symbol']}.{each.get('venue') or spec['venues'][0]['name']}" for each in spec["instruments"]}
    known = {"allowedInstruments": symbols, "restricted": symbols, "allowedVenues": venues}

    def kept(name: str, value: Any) -> Any:
        if isinstance(value, list) and name in known:
            return [each for each in cast("list[Any]", value) if each in known[name]]
        if isinstance(value, dict):
            return {inner: kept(inner, each) for inner, each in cast("dict[str, Any]", value).items()}
        return value

    of_instruments = {name: each for name, each in (limits.get("instruments") or {}).items() if name in symbols}
    return kept("", {**limits, "instruments": of_instruments})


def unsupported(version: str, own: str = __version__) -> str:
    """Why an operator can't run a version of the platform; empty if it can.

    It runs its own minor version, in every patch of it, and the one before: that is what it is tested with, and whose
    settings it knows how to write.
    """
    (major, minor), (ours, our_minor) = _parts(version), _parts(own)
    if (major, minor) == (ours, our_minor) or (major == ours and minor == our_minor - 1):
        return ""
    if our_minor == 0 and major == ours - 1:
        return ""  # the last one of the major version before, whichever that was
    before = f"{ours}.{our_minor - 1}" if our_minor else f"{ours - 1}"
    allowed = f"every {ours}.{our_minor}.x" + (f", and every {before}.x before it" if ours or our_minor else "")
    return (
        f"version: {version} is none that this operator ({own}) runs; it runs {allowed}: "
        "name one of those, or install the operator of that version"
    )


def _parts(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_CHARS]
