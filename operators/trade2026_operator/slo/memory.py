"""What the next leader has to know of a release, which it can't measure again at once: in a ConfigMap of the stack.

The rates of the last minute are not in it: a fresh leader measures those itself and says nothing before it has.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trade2026_operator.reconcile.objects import MANAGED_BY, Manifest, Ref, ref_of
from trade2026_operator.slo.demand import Fit
from trade2026_operator.slo.windows import Minute, minutes_of, minutes_to_text

SAVE_SECONDS = 300.0


@dataclass(frozen=True)
class Remembered:
    """Of one release: what was learned, and the last hour of its error budget.

    Attributes:
        limit_seconds, quantile: Of the objective that it was learned for, and that the minutes are of.
    """

    limit_seconds: float
    quantile: float
    fit: Fit
    minutes: Sequence[Minute] = ()


def place_of(stack: Manifest) -> Ref:
    """Where a stack's is."""
    return Ref("v1", "ConfigMap", stack["metadata"]["namespace"], f"{stack['metadata']['name']}-slo")


def to_manifest(stack: Manifest, remembered: Mapping[str, Remembered]) -> Manifest:
    """As it is written: it belongs to the stack and goes with it."""
    ref, place, meta = ref_of(stack), place_of(stack), stack["metadata"]
    owner = {"apiVersion": ref.api_version, "kind": ref.kind, "name": meta["name"], "uid": meta["uid"]}
    return {
        "apiVersion": place.api_version,
        "kind": place.kind,
        "metadata": {
            "name": place.name,
            "namespace": place.namespace,
            "labels": {**MANAGED_BY, "app.kubernetes.io/part-of": "trade2026"},
            "ownerReferences": [owner],
        },
        "data": {release: _text(each) for release, each in remembered.items()},
    }


def read(found: Manifest | None) -> dict[str, Remembered]:
    """What a ConfigMap has; what can't be read is forgotten, and learned again."""
    data: dict[str, str] = (found or {}).get("data") or {}
    return {release: each for release, text in data.items() if (each := _of(text)) is not None}


def _text(remembered: Remembered) -> str:
    fit = remembered.fit
    said = {
        "limit_seconds": remembered.limit_seconds,
        "quantile": remembered.quantile,
        "c": round(fit.c, 4),
        "measurements": fit.measurements,
        "service_seconds": float(f"{fit.service_seconds:.3g}"),
        "minutes": minutes_to_text(remembered.minutes),
    }
    return json.dumps(said, separators=(",", ":"))


def _of(text: str) -> Remembered | None:
    try:
        said: Any = json.loads(text)
        c, measurements = min(50.0, max(0.5, float(said["c"]))), max(0, int(said["measurements"]))
        service_seconds = float(said.get("service_seconds", 0.0))
        if not 0 <= service_seconds < 3_600:
            return None
        fit = Fit(c, measurements, service_seconds)
        objective = float(said["limit_seconds"]), float(said["quantile"])
        return Remembered(*objective, fit, minutes_of(said.get("minutes", [])))
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
