"""Kubernetes Events on a stack: what a person sees in `kubectl describe`."""

import hashlib
import logging
from collections.abc import Callable
from datetime import datetime

from trade2026_operator.kube import Kube, KubeError
from trade2026_operator.leader import utc_now
from trade2026_operator.reconcile.objects import Manifest, ref_of

log = logging.getLogger(__name__)

_MESSAGE_MAX = 1_000
COMPONENT = "trade2026-operator"


class Events:
    """Writes Events. The same one again counts on, and one that can't be written holds up nothing."""

    def __init__(self, kube: Kube, now: Callable[[], datetime] = utc_now) -> None:
        self._kube, self._now = kube, now

    async def say(self, about: Manifest, reason: str, message: str, is_warning: bool = False) -> None:
        """One Event."""
        ref, moment = ref_of(about), f"{self._now():%Y-%m-%dT%H:%M:%SZ}"
        said = hashlib.sha256(f"{about['metadata']['uid']} {reason} {message}".encode()).hexdigest()[:12]
        name = f"{ref.name}.{said}"
        event: Manifest = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": ref.namespace},
            "involvedObject": {
                "apiVersion": ref.api_version,
                "kind": ref.kind,
                "name": ref.name,
                "namespace": ref.namespace,
                "uid": about["metadata"]["uid"],
            },
            "type": "Warning" if is_warning else "Normal",
            "reason": reason,
            "message": message[:_MESSAGE_MAX],
            "source": {"component": COMPONENT},
            "firstTimestamp": moment,
            "lastTimestamp": moment,
            "count": 1,
        }
        try:
            before = await self._kube.get(ref_of(event))
            if before is None:
                await self._kube.create(event)
            else:
                again = {"count": before.get("count", 1) + 1, "lastTimestamp": moment}
                await self._kube.merge(ref_of(event), again)
        except KubeError as error:
            log.warning("%s %s: the event %s could not be written: %s", ref.kind, ref.name, reason, error)
