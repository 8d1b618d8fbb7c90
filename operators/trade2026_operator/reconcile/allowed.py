"""Whether two renderings of a release differ only in which versions of the platform it allows beside its own. Pure."""

import json
from collections.abc import Sequence
from typing import Any

from trade2026_operator.reconcile.objects import Manifest, ref_of

_READ_AT_START = ("allowed_versions", "config_hash")
"""Settings for which the chart starts no pod again (`checksum/settings-NAME`): they are read at the next start."""


def narrows(before: Sequence[Manifest], after: Sequence[Manifest]) -> bool:
    """Whether the later one allows fewer versions, and nothing else is new in it."""
    old, new = ({ref_of(each): each for each in manifests} for manifests in (before, after))
    if old.keys() != new.keys():
        return False
    differing = [ref for ref in old if old[ref] != new[ref]]
    return bool(differing) and all(ref.kind == "ConfigMap" and _is_narrower(old[ref], new[ref]) for ref in differing)


def _is_narrower(before: Manifest, after: Manifest) -> bool:
    if {**before, "data": None} != {**after, "data": None} or before["data"].keys() != after["data"].keys():
        return False
    for name, text in before["data"].items():
        if not name.endswith(".json"):
            return False
        old, new = json.loads(text), json.loads(after["data"][name])
        fewer = set(_versions(new)) <= set(_versions(old))
        if not fewer or _without_those(old) != _without_those(new):
            return False
    return True


def _versions(settings: dict[str, Any]) -> list[str]:
    return settings.get("allowed_versions", [])


def _without_those(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in _READ_AT_START}
