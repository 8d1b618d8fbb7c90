"""What of an object is left to others: it is applied as it is, whatever it is."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any, cast

from trade2026_operator.reconcile.objects import Manifest, Ref

_ABSENT = object()


def pointers_of(stack: Manifest, ref: Ref) -> Iterator[str]:
    """JSON pointers to what others may change of an object, by `spec.driftIgnore`."""
    for rule in stack["spec"].get("driftIgnore") or []:
        if rule.get("kind", "") in ("", ref.kind) and rule.get("name", "") in ("", ref.name):
            yield from rule["paths"]


def with_others(manifest: Manifest, live: Manifest, pointers: Sequence[str]) -> Manifest:
    """The manifest with what others may change as it is now: to leave it out would delete it where nobody else has it."""
    if not pointers:
        return manifest
    found = copy.deepcopy(manifest)
    for pointer in pointers:
        *path, last = (part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:])
        value = _at(live, [*path, last])
        place = _at(found, path)
        if isinstance(place, list):
            items = cast("list[Any]", place)
            if value is not _ABSENT and last.isdecimal() and int(last) < len(items):
                items[int(last)] = value
        elif value is _ABSENT:
            if isinstance(place, dict):
                cast("dict[str, Any]", place).pop(last, None)
        else:
            _made(found, path)[last] = value
    return found


def _at(value: Any, path: Sequence[str]) -> Any:
    for part in path:
        if isinstance(value, dict) and part in value:
            value = cast("dict[str, Any]", value)[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(cast("list[Any]", value)):
            value = value[int(part)]
        else:
            return _ABSENT
    return value


def _made(manifest: Manifest, path: Sequence[str]) -> dict[str, Any]:
    """The mapping at a path, which is made where it is missing."""
    place: Any = manifest
    for part in path:
        place = place[int(part)] if isinstance(place, list) else cast("dict[str, Any]", place).setdefault(part, {})
    return cast("dict[str, Any]", place)
