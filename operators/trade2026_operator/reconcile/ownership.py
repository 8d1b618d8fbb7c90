"""What of an object is a field manager's own: by that, and nothing else, it is seen whether somebody has changed it.

Controllers and defaults add fields of their own all the time, which is no drift. Who takes over a field of ours, e.g.
by `kubectl edit`, takes it out of ours, and so it is missed.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, cast

from trade2026_operator.reconcile.objects import Manifest

_ABSENT = object()


def owned_digest(manifest: Manifest, manager: str) -> str:
    """SHA-256 of the fields that a manager has applied; empty if it has applied none."""
    entries = manifest["metadata"].get("managedFields") or []
    fields = [
        entry["fieldsV1"]
        for entry in entries
        if entry["manager"] == manager and entry["operation"] == "Apply" and not entry.get("subresource")
    ]
    if not fields:
        return ""
    text = json.dumps([_owned(manifest, each) for each in fields], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _owned(value: Any, fields: Mapping[str, Any]) -> Any:
    """The part of a value that a set of fields (`fieldsV1`) names; the whole where it names nothing inside."""
    inner = {key: below for key, below in fields.items() if key != "."}
    if not inner:
        return value
    found: dict[str, Any] = {}
    for key, below in inner.items():
        part = _part(value, key)
        found[key] = None if part is _ABSENT else _owned(part, below)
    return found


def _part(value: Any, key: str) -> Any:
    """One step down: `f:NAME` a field, `k:{…}` the item of a list with these keys, `v:…` a value of a set, `i:N` an index."""
    kind, _, name = key.partition(":")
    if kind == "f":
        return cast("dict[str, Any]", value).get(name, _ABSENT) if isinstance(value, dict) else _ABSENT
    items = cast("list[Any]", value) if isinstance(value, list) else []
    if kind == "v":
        wanted = json.loads(name)
        return wanted if wanted in items else _ABSENT
    if kind == "i":
        return items[int(name)] if int(name) < len(items) else _ABSENT
    keys = json.loads(name)
    return next((item for item in items if all(_key(item, name) == told for name, told in keys.items())), _ABSENT)


def _key(item: Any, name: str) -> Any:
    """Of a list's item; what the key's schema has as default may be left out of the item."""
    return item.get(name, "TCP" if name == "protocol" else None) if isinstance(item, dict) else None
