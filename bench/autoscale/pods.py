"""What the pods of a run say of themselves, for the fit of the simulation."""

import json
import urllib.request
from dataclasses import dataclass
from typing import Any

from e2e.scaling import PORT

from trade2026_operator.reconcile.objects import condition_of
from trade2026_operator.slo.samples import Unreadable, read_sample

_ANSWER_SECONDS_MAX = 2.0


@dataclass(frozen=True)
class Counts:
    """Of one process since it started.

    Attributes:
        restarts: Of its container: why a pod is not ready any more.
        requests, busy_seconds: None where it does not answer.
        partitions: That it has now, of those that are shared; None where none are.
    """

    pod: str
    ready: bool
    restarts: int
    requests: float | None
    busy_seconds: float | None
    partitions: int | None = None


def counts_of(pod: dict[str, Any], key: str, is_split: bool) -> Counts | None:
    """None before it has an address.

    Args:
        key: Of the stack.
        is_split: It shares partitions with others.
    """
    status = pod.get("status", {})
    if not (address := status.get("podIP")):
        return None
    ready = condition_of(pod, "Ready")
    restarts = sum(each.get("restartCount", 0) for each in status.get("containerStatuses", []))
    name, is_ready = pod["metadata"]["name"], ready is not None and ready["status"] == "True"
    try:
        with urllib.request.urlopen(f"http://{address}:{PORT}/metrics", timeout=_ANSWER_SECONDS_MAX) as answer:
            sample = read_sample(answer.read().decode("utf-8", "replace"), "oms")
        if not is_split:
            return Counts(name, is_ready, restarts, sample.requests, sample.busy_seconds)
        asked = urllib.request.Request(f"http://{address}:{PORT}/stats", headers={"authorization": f"Bearer {key}"})
        with urllib.request.urlopen(asked, timeout=_ANSWER_SECONDS_MAX) as answer:
            partitions = len(json.load(answer)["partitions"])
    except (OSError, Unreadable):
        return Counts(name, is_ready, restarts, None, None, 0 if is_split else None)
    return Counts(name, is_ready, restarts, sample.requests, sample.busy_seconds, partitions)
