"""The table of wrong manifests, read: the same for a real API server and for a laptop."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]

_TABLE = Path(__file__).with_suffix(".yaml")
_GOOD = (Path(__file__).with_name("good_manifests.yaml"), *sorted((_TABLE.parents[1] / "manifests").glob("*.yaml")))
TAKES_IT = "takes it"


@dataclass(frozen=True)
class Wrong:
    """One wrong manifest.

    Attributes:
        before: What is there already, where the update is wrong.
        says: What the API server answers.
        laptop: What a laptop answers; `TAKES_IT` where it takes it.
    """

    title: str
    manifest: Manifest
    before: Manifest | None
    says: str
    laptop: str


def wrong_manifests() -> list[Wrong]:
    """Every one of the table."""
    table = yaml.safe_load(_TABLE.read_text("utf-8"))
    return [
        Wrong(
            title=f"{case.get('of', 'TradingStack')}: {case['is']}",
            manifest=_changed(table[case.get("of", "TradingStack")], case["set"]),
            before=_changed(table[case.get("of", "TradingStack")], case["was"]) if "was" in case else None,
            says=case["says"],
            laptop=case.get("laptop", case["says"]),
        )
        for case in table["cases"]
    ]


def good_manifests() -> list[tuple[str, Manifest]]:
    """Every document that is right, with its place."""
    return [
        (f"{path.stem}: {document['kind']} {document['metadata']['name']}", document)
        for path in _GOOD
        for document in yaml.safe_load_all(path.read_text("utf-8"))
    ]


def _changed(manifest: Manifest, changes: dict[str, Any]) -> Manifest:
    """A manifest with other values at some paths."""
    found = copy.deepcopy(manifest)
    for path, value in changes.items():
        *steps, last = (int(step) if step.isdigit() else step for step in path.split("."))
        inner: Any = found
        for step in steps:
            inner = inner[step]
        if value is None:
            del inner[last]
        else:
            inner[last] = value
    return found
