"""Whether the API of external metrics is offered: a decision about one cluster-wide object, and the shell that takes it.

An APIService whose server does not answer has a price that others pay: while it stands, no namespace of the cluster can be
deleted to its end. So it is offered only while the server is ready, and withdrawn when it has not answered for a minute;
an HPA that finds no such API leaves its replicas as they are, as with any error. Whoever else serves the group keeps it.
"""

import asyncio
import base64
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from trade2026_operator.kube import Kube, KubeError
from trade2026_operator.leader import utc_now
from trade2026_operator.lists import Listed
from trade2026_operator.reconcile.objects import MANAGED_BY, Manifest, Ref, condition_of, labels_of, ref_of, uid_of
from trade2026_operator.slo.certificates import Certificates, from_data, renewed, to_data
from trade2026_operator.slo.external_metrics import API_SERVICE, GROUP, VERSION

log = logging.getLogger(__name__)

MANAGER = "trade2026-operator"
WITHDRAW_SECONDS = 60.0
LOOK_SECONDS = 5.0
"""While it is not offered, or does not answer; else a watch tells."""
RENEW_SECONDS = 3_600.0
REF = Ref("apiregistration.k8s.io/v1", "APIService", "", API_SERVICE)


class Offer(Enum):
    """What is to be done about it."""

    KEEP = "it is as it should be"
    MAKE = "it is missing, or not as it should be"
    WITHDRAW = "its server does not answer, or KEDA's is to"
    LEAVE = "it is another's"


@dataclass(frozen=True)
class Wanted:
    """What the APIService is to say.

    Attributes:
        namespace: Of the server's Service.
        service: Its name.
        owner: Cluster role of the operator's Helm release: when that is uninstalled, this goes with it. None: nobody.
        withdraw_seconds: After so many without an answer it is withdrawn, and for so long at least.
        keda_namespace: Where KEDA runs, whose API it is to be: it is not offered then. Empty: it is.
    """

    namespace: str
    service: str
    owner: Ref | None = None
    withdraw_seconds: float = WITHDRAW_SECONDS
    keda_namespace: str = ""


def decided(live: Manifest | None, wanted: Wanted, authorities: str, ready: bool, silent_seconds: float) -> Offer:
    """What is to be done.

    Args:
        live: As it is there.
        authorities: PEM, of those whose signature the server may show.
        ready: Whether a pod of the server is, so that it can be offered.
        silent_seconds: For how long the API server has not reached it.
    """
    is_kedas = bool(wanted.keda_namespace)
    if live is None:
        return Offer.MAKE if ready and not is_kedas else Offer.KEEP
    if not is_ours(live, wanted):
        return Offer.LEAVE
    if is_kedas or silent_seconds >= wanted.withdraw_seconds:
        return Offer.WITHDRAW
    bundle = base64.b64encode(authorities.encode()).decode()
    return Offer.KEEP if live["spec"].get("caBundle") == bundle else Offer.MAKE


def is_ours(live: Manifest, wanted: Wanted) -> bool:
    """Whether we have made it, and of this operator."""
    service = live["spec"].get("service") or {}
    told = (service.get("namespace"), service.get("name"))
    return labels_of(live).items() >= MANAGED_BY.items() and told == (wanted.namespace, wanted.service)


def is_reached(live: Manifest) -> bool:
    """Whether the API server reaches its server; not yet known counts as reached."""
    found = condition_of(live, "Available")
    return found is None or found["status"] != "False"


def manifest(wanted: Wanted, authorities: str, owner: Manifest | None) -> Manifest:
    """The object."""
    labels = {**MANAGED_BY, "app.kubernetes.io/part-of": "trade2026"}
    meta: Manifest = {"name": API_SERVICE, "labels": labels, **_owned_by(owner)}
    return {
        "apiVersion": REF.api_version,
        "kind": REF.kind,
        "metadata": meta,
        "spec": {
            "group": GROUP,
            "version": VERSION,
            "service": {"namespace": wanted.namespace, "name": wanted.service, "port": 443},
            "caBundle": base64.b64encode(authorities.encode()).decode(),
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
        },
    }


def scaler_authority(wanted: Wanted, authorities: str, owner: Manifest | None) -> Manifest:
    """For KEDA, which reads no Secret of another namespace: by whom the external scaler's certificate is signed."""
    named = {"name": f"{wanted.service}-ca", "namespace": wanted.keda_namespace}
    meta: Manifest = {**named, "labels": dict(MANAGED_BY), **_owned_by(owner)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"ca.crt": authorities}}


def _owned_by(owner: Manifest | None) -> Manifest:
    if owner is None:
        return {}
    of = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"]}
    return {"ownerReferences": [{**of, "uid": uid_of(owner)}]}


class ApiService:
    """Keeps it, as long as this operator leads.

    `seen` and `gone` are told by a watch; between its events nothing is asked of the API server while all is well.
    """

    def __init__(
        self,
        kube: Kube,
        wanted: Wanted,
        time: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.wanted = wanted
        self.others = ""
        """Who else serves the group; empty while nobody does."""
        self._kube, self._time, self._now = kube, time, now
        self._live: Manifest | None = None
        self._silent_since: float | None = None
        self._certificates: Certificates | None = None
        self._renewed_at = float("-inf")
        self._withdrawn_at = float("-inf")
        self._changed = asyncio.Event()

    def seen(self, live: Manifest) -> None:
        """A watch told of one of the APIServices."""
        if live["metadata"]["name"] == API_SERVICE:
            self._live = live
            self._changed.set()

    def gone(self, live: Manifest) -> None:
        """It was deleted."""
        if live["metadata"]["name"] == API_SERVICE:
            self._live = None
            self._changed.set()

    def listed(self, listed: Listed) -> None:
        """All that there are."""
        if self._live is not None and listed.lacks("", API_SERVICE):
            self.gone(self._live)

    async def prepare(self) -> None:
        """Before anything is scaled: of a ScaledObject without an autoscaler KEDA keeps what it has read of us first."""
        if self.wanted.keda_namespace:
            try:
                await self._tell_keda((await self._renewed()).authorities)
            except KubeError as error:
                log.warning("KEDA is not told who signs for the external scaler: %s", error)

    async def keep(self) -> None:
        """Until cancelled."""
        while True:
            settled = False
            try:
                settled = await self.look()
            except KubeError as error:
                log.warning("the API of external metrics is looked at again: %s", error)
            self._changed.clear()
            try:
                async with asyncio.timeout(RENEW_SECONDS if settled else LOOK_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def look(self) -> bool:
        """One look; whether nothing is to be done before a watch tells of something.

        Raises:
            KubeError: it is to be tried again.
        """
        found = await self._renewed()
        if self.wanted.keda_namespace:
            await self._tell_keda(found.authorities)
        if self._live is None:  # a watch may not have told of it yet, and it may be another's
            self._live = await self._kube.get(REF)
        live = self._live
        reached = live is not None and is_reached(live)
        if live is None or reached:
            self._silent_since = None
        elif self._silent_since is None:
            self._silent_since = self._time()
        silent = self._time() - self._silent_since if self._silent_since is not None else 0.0
        resting = self._time() - self._withdrawn_at < self.wanted.withdraw_seconds
        ready = live is None and not resting and await self._is_ready()
        offer = decided(live, self.wanted, found.authorities, ready, silent)
        self.others = ""
        match offer:
            case Offer.MAKE:
                self._live = await self._kube.apply(
                    manifest(self.wanted, found.authorities, await self._owner()), MANAGER
                )
                log.info("%s is offered", API_SERVICE)
            case Offer.WITHDRAW:
                await self._kube.delete(REF)
                self._withdrawn_at = self._time()
                why = "KEDA serves it" if self.wanted.keda_namespace else f"nobody has answered for {silent:.0f} s"
                log.warning("%s is withdrawn: %s", API_SERVICE, why)
            case Offer.LEAVE if live is not None:
                self.others = "" if self._is_kedas(live) else _told(live)
                await self._let_go(live)
            case _:
                pass
        return reached

    async def _renewed(self) -> Certificates:
        """The certificates, which a Secret has; looked at once an hour."""
        if self._certificates is not None and self._time() - self._renewed_at < RENEW_SECONDS:
            return self._certificates
        name, namespace = self.wanted.service, self.wanted.namespace
        secret = Ref("v1", "Secret", namespace, f"{name}-tls")
        live = await self._kube.get(secret)
        before = from_data((live or {}).get("data") or {})
        names = (f"{name}.{namespace}.svc", f"{name}.{namespace}.svc.cluster.local")
        made = renewed(before, names, self._now())
        if made != before:
            written: Manifest = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": secret.name, "namespace": namespace, "labels": dict(MANAGED_BY)},
                "type": "Opaque",
                "data": to_data(made),
            }
            await self._kube.apply(written, MANAGER)
        self._certificates, self._renewed_at = made, self._time()
        return made

    async def _tell_keda(self, authorities: str) -> None:
        """Each time: it may have been installed again, and have nothing of what it was told."""
        wanted = scaler_authority(self.wanted, authorities, await self._owner())
        live = await self._kube.get(ref_of(wanted))
        if live is None or (live.get("data"), _owners_of(live)) != (wanted["data"], _owners_of(wanted)):
            await self._kube.apply(wanted, MANAGER)

    async def _let_go(self, live: Manifest) -> None:
        """What another has taken over is not to end with our release."""
        ours, owners = self.wanted.owner, _owners_of(live)
        kept = [each for each in owners if ours is None or (each["kind"], each["name"]) != (ours.kind, ours.name)]
        if kept != owners:
            version = live["metadata"]["resourceVersion"]
            patch = {"metadata": {"ownerReferences": kept, "resourceVersion": version}}
            self._live = await self._kube.merge(REF, patch)

    def _is_kedas(self, live: Manifest) -> bool:
        """Whether it is served by whom it is to be."""
        namespace = (live["spec"].get("service") or {}).get("namespace", "")
        return bool(namespace) and namespace == self.wanted.keda_namespace

    async def _owner(self) -> Manifest | None:
        return await self._kube.get(self.wanted.owner) if self.wanted.owner is not None else None

    async def _is_ready(self) -> bool:
        """Whether a pod of the server would answer."""
        selector = f"kubernetes.io/service-name={self.wanted.service}"
        slices = await self._kube.listed("discovery.k8s.io/v1", "EndpointSlice", self.wanted.namespace, selector)
        endpoints = [endpoint for each in slices for endpoint in each.get("endpoints") or []]
        return any((endpoint.get("conditions") or {}).get("ready") for endpoint in endpoints)


def _owners_of(manifest: Manifest) -> list[Manifest]:
    return manifest["metadata"].get("ownerReferences") or []


def _told(live: Manifest) -> str:
    service = live["spec"].get("service") or {}
    return f"{service.get('namespace', 'the API server')}/{service.get('name', 'itself')}"
