"""What has failed of what was asked for, and what ran before, by Helm's records. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from trade2026.stack.rules import written
from trade2026_operator.asked import HOW, good_ones
from trade2026_operator.helm.records import Record, Status
from trade2026_operator.inputs import desk_of

_NOW = frozenset(map(written, (*HOW, "risk")))
"""Of a spec, as it is written: what holds now also where the rest of it has failed, and what ran before runs again."""


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
    """The spec that ran before, with what holds now in any case: limits are never undone, and what was taken away is not
    traded again.

    Args:
        now: As a person has written it.
    """
    held = {name: value for name, value in now.items() if name in _NOW}
    if "risk" in held:
        held["risk"] = _of_what_is_there(held["risk"], before)
    if taken_away := _instruments(before) - _instruments(now):
        risk = held.get("risk") or {}
        limits = risk.get("limits") or {}
        restricted = sorted(taken_away.union(limits.get("restricted") or []))
        held["risk"] = {**risk, "limits": {**limits, "restricted": restricted}}
    return {**{name: value for name, value in before.items() if name not in _NOW}, **held}


def _instruments(spec: Mapping[str, Any]) -> set[str]:
    """`SYMBOL.VENUE` of each: with a venue its instruments go, too."""
    return {f"{each['symbol']}.{each.get('venue') or spec['venues'][0]['name']}" for each in spec["instruments"]}


def _of_what_is_there(limits: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    """Limits without instruments and venues that came with what has failed: nobody can trade there, so none is loosened."""
    venues = {venue["name"] for venue in spec["venues"]}
    symbols = {each["symbol"] for each in spec["instruments"]} | _instruments(spec)
    known = {"allowedInstruments": symbols, "restricted": symbols, "allowedVenues": venues}

    def kept(name: str, value: Any) -> Any:
        if isinstance(value, list) and name in known:
            return [each for each in cast("list[Any]", value) if each in known[name]]
        if isinstance(value, dict):
            return {inner: kept(inner, each) for inner, each in cast("dict[str, Any]", value).items()}
        return value

    of_instruments = {name: each for name, each in (limits.get("instruments") or {}).items() if name in symbols}
    return kept("", {**limits, "instruments": of_instruments})
