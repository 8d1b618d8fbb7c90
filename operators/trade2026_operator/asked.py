"""What people have asked for, whatever an operator makes of it; and which versions of the platform it can run. Pure.

The input of a release is the hash of what is written down in a manifest and in the operator's own settings, without
defaults: an operator that renders the same input in another way, or knows more fields, changes nothing that runs.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from trade2026 import __version__
from trade2026.stack.model import TradingStack
from trade2026.stack.strategy import Strategy
from trade2026_operator.helm.records import Record, Status
from trade2026_operator.helm.releases import Cluster
from trade2026_operator.inputs import input_from

HOW = {
    "paused": True,
    "drift_policy": True,
    "drift_ignore": True,
    "drift_releases": True,
    "deletion_policy": True,
    "rollout": True,
}
"""Fields of a spec that say how the operator goes about it, and not what runs."""
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
    return input_from(_hash(asked), _hash(run), _hash(limits))


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
