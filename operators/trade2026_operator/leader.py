"""Which of several operators acts: the one that holds a Lease, and keeps renewing it."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from trade2026_operator.kube import Conflict, Kube, KubeError
from trade2026_operator.reconcile.objects import Manifest, Ref

log = logging.getLogger(__name__)

LEASE_SECONDS = 15
RENEW_SECONDS_MAX = 10.0
"""Who has not renewed for so long must not act any more, though others wait longer: clocks run differently."""
RETRY_SECONDS = 2.0


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


@dataclass
class Seen:
    """A Lease as it was seen last, and when by our own clock: nobody else's is trusted."""

    version: str = ""
    at: float = 0.0


class Lease:
    """One Lease, wanted by one operator.

    Args:
        identity: Of this operator; no two may have the same.
    """

    def __init__(
        self, kube: Kube, namespace: str, name: str, identity: str, now: Callable[[], datetime] = utc_now
    ) -> None:
        self.ref = Ref("coordination.k8s.io/v1", "Lease", namespace, name)
        self.identity = identity
        self._kube, self._now = kube, now
        self._seen = Seen()

    async def acquired(self) -> None:
        """Wait until it is ours."""
        while True:
            if await self._try():
                break
            await asyncio.sleep(RETRY_SECONDS)
        log.info("%s leads", self.identity)

    async def lost(self) -> None:
        """Renew it until that does not work any more; then nobody may act under it."""
        loop = asyncio.get_running_loop()
        renewed = loop.time()
        while loop.time() - renewed < RENEW_SECONDS_MAX:
            await asyncio.sleep(RETRY_SECONDS)
            try:
                async with asyncio.timeout(RENEW_SECONDS_MAX - (loop.time() - renewed)):
                    ours = await self._try()
                if ours is False:
                    break
                if ours:
                    renewed = loop.time()
            except TimeoutError:
                break
        log.error("%s does not lead any more", self.identity)

    async def release(self) -> None:
        """Let the next one begin at once."""
        try:
            lease = await self._kube.get(self.ref)
            if lease is not None and lease["spec"].get("holderIdentity") == self.identity:
                await self._write(lease, "")
        except KubeError as error:
            log.warning("the lease runs out by itself: %s", error)

    async def _try(self) -> bool | None:
        """Whether it is ours now; None where that can't be known: it is asked again while nobody else can have it."""
        try:
            lease = await self._kube.get(self.ref)
            if lease is None:
                await self._kube.create(self._manifest(self.identity, 0, {}))
                return True
            if not self._is_free(lease):
                return False
            await self._write(lease, self.identity)
            return True
        except Conflict:
            return None
        except KubeError as error:
            log.warning("the lease can't be asked for: %s", error)
            return None

    def _is_free(self, lease: Manifest) -> bool:
        """Ours, nobody's, or not renewed for as long as its holder has said."""
        spec, version = lease["spec"], lease["metadata"]["resourceVersion"]
        if spec.get("holderIdentity") in (self.identity, "", None):
            return True
        time = asyncio.get_running_loop().time()
        if version != self._seen.version:
            self._seen = Seen(version, time)
        return time - self._seen.at > spec.get("leaseDurationSeconds", LEASE_SECONDS)

    async def _write(self, lease: Manifest, holder: str) -> None:
        spec = lease["spec"]
        transitions = spec.get("leaseTransitions", 0) + (spec.get("holderIdentity") != holder and bool(holder))
        written = self._manifest(holder, transitions, spec)
        written["metadata"]["resourceVersion"] = lease["metadata"]["resourceVersion"]
        await self._kube.replace(written)

    def _manifest(self, holder: str, transitions: int, before: Manifest) -> Manifest:
        now = f"{self._now():%Y-%m-%dT%H:%M:%S.%fZ}"
        is_same = before.get("holderIdentity") == holder
        return {
            "apiVersion": self.ref.api_version,
            "kind": self.ref.kind,
            "metadata": {"name": self.ref.name, "namespace": self.ref.namespace},
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": LEASE_SECONDS,
                "leaseTransitions": transitions,
                "acquireTime": before["acquireTime"] if is_same else now,
                "renewTime": now,
            },
        }
