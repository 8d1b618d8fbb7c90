"""The Kubernetes API as the operator uses it: a few verbs, server-side apply, and errors that say what they mean."""

import base64
import json
import re
import ssl
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlencode

import aiohttp
import yaml

from trade2026_operator.reconcile.objects import Manifest, Ref, ref_of

REQUEST_SECONDS_MAX = 30.0
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_VERSION = re.compile(r"v?(\d+\.\d+\.\d+)")
_PLURALS = {"NetworkPolicy": "networkpolicies", "Strategy": "strategies", "Ingress": "ingresses"}


class KubeError(Exception):
    """The API server did not do it."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


class Conflict(KubeError):
    """The object is another one than it was taken for."""


class NotFound(KubeError):
    """It is not there."""


class Refused(KubeError):
    """The server will not take it as it is (invalid, immutable, forbidden, over quota): to ask again does not help."""


class Kube(Protocol):
    """What the operator asks of the API server."""

    async def get(self, ref: Ref) -> Manifest | None: ...
    async def listed(self, api_version: str, kind: str, namespace: str, selector: str = "") -> list[Manifest]: ...
    async def apply(self, manifest: Manifest, manager: str, *, dry_run: bool = False) -> Manifest: ...
    async def create(self, manifest: Manifest) -> Manifest: ...
    async def replace(self, manifest: Manifest) -> Manifest: ...
    async def merge(self, ref: Ref, patch: dict[str, Any], subresource: str = "") -> Manifest: ...
    async def delete(self, ref: Ref, uid: str = "") -> None: ...


@dataclass(frozen=True)
class Access:
    """How the API server is reached."""

    url: str
    tls: ssl.SSLContext | None = None
    token_file: Path | None = None
    token: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """A service account's token changes by the hour."""
        token = self.token_file.read_text().strip() if self.token_file else self.token
        return {"Authorization": f"Bearer {token}"} if token else {}


def access_in_cluster(host: str, port: str) -> Access:
    """As a pod's service account."""
    return Access(f"https://{host}:{port}", ssl.create_default_context(cafile=_ACCOUNT / "ca.crt"), _ACCOUNT / "token")


def access_of(kubeconfig: Path | None, environment: Mapping[str, str]) -> Access:
    """As a kubeconfig says, or as the service account of the pod that this runs in.

    Raises:
        ValueError: there is neither; the message says what to give.
    """
    if kubeconfig is not None:
        return access_by(yaml.safe_load(kubeconfig.read_text()), kubeconfig.parent)
    try:
        return access_in_cluster(environment["KUBERNETES_SERVICE_HOST"], environment["KUBERNETES_SERVICE_PORT"])
    except KeyError as error:
        raise ValueError("this is no pod: give --kubeconfig FILE") from error


def access_by(config: Mapping[str, Any], folder: Path) -> Access:
    """As the current context of a kubeconfig says: certificates, or a token; other ways in are not known here."""
    context = _named(config["contexts"], config["current-context"])["context"]
    cluster = _named(config["clusters"], context["cluster"])["cluster"]
    user = _named(config["users"], context["user"])["user"]
    tls = ssl.create_default_context()
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    with tempfile.TemporaryDirectory() as scratch:
        if (authority := _file(cluster, "certificate-authority", folder, Path(scratch))) is not None:
            tls.load_verify_locations(authority)
        certificate = _file(user, "client-certificate", folder, Path(scratch))
        if certificate is not None:
            tls.load_cert_chain(certificate, _file(user, "client-key", folder, Path(scratch)))
    token_file = user.get("tokenFile")
    return Access(cluster["server"], tls, Path(token_file) if token_file else None, user.get("token", ""))


def _named(entries: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(entry for entry in entries if entry["name"] == name)


def _file(said: Mapping[str, Any], name: str, folder: Path, scratch: Path) -> Path | None:
    """A file that a kubeconfig names, or has in it."""
    if data := said.get(f"{name}-data"):
        (path := scratch / name).write_bytes(base64.b64decode(data))
        return path
    return folder / said[name] if name in said else None


class HttpKube:
    """See `Kube`. One session for a process.

    Args:
        writes: Counts what is written, by verb.
    """

    def __init__(self, access: Access, writes: Counter[str] | None = None) -> None:
        self._access = access
        self._writes: Counter[str] = writes if writes is not None else Counter()
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Idempotent."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, ref: Ref) -> Manifest | None:
        """The object; None if there is none."""
        try:
            return await self._call("GET", path_of(ref))
        except NotFound:
            return None

    async def server_version(self) -> str:
        """Of Kubernetes, as `1.37.2`: what a vendor appends to it does not count."""
        said: str = (await self._call("GET", "/version"))["gitVersion"]
        found = _VERSION.match(said)
        if found is None:
            raise KubeError(0, "Unreadable", f"the API server says that it is of version {said!r}")
        return found[1]

    async def listed(self, api_version: str, kind: str, namespace: str, selector: str = "") -> list[Manifest]:
        """Objects of a kind, of a namespace or of all (empty)."""
        path = path_of(Ref(api_version, kind, namespace, ""))
        found = await self._call("GET", path, query={"labelSelector": selector} if selector else {})
        return [{"apiVersion": api_version, "kind": kind, **item} for item in found["items"]]

    async def apply(self, manifest: Manifest, manager: str, *, dry_run: bool = False) -> Manifest:
        """Server-side apply; what others have taken of our fields is taken back."""
        query = {"fieldManager": manager, "force": "true"} | ({"dryRun": "All"} if dry_run else {})
        path, kind = path_of(ref_of(manifest)), "application/apply-patch+yaml"
        return await self._call("PATCH", path, manifest, query, kind)

    async def create(self, manifest: Manifest) -> Manifest:
        """Raises `Conflict` if it is there."""
        ref = ref_of(manifest)
        return await self._call("POST", path_of(ref._replace(name="")), manifest)

    async def replace(self, manifest: Manifest) -> Manifest:
        """Raises `Conflict` if it has another `resourceVersion` by now."""
        return await self._call("PUT", path_of(ref_of(manifest)), manifest)

    async def merge(self, ref: Ref, patch: dict[str, Any], subresource: str = "") -> Manifest:
        """JSON merge patch; with `metadata.resourceVersion` in it only of the object that was seen."""
        path = path_of(ref) + (f"/{subresource}" if subresource else "")
        return await self._call("PATCH", path, patch, {}, "application/merge-patch+json")

    async def delete(self, ref: Ref, uid: str = "") -> None:
        """Idempotent; with a uid only that object. What it has made goes first."""
        body: dict[str, Any] = {"propagationPolicy": "Foreground"}
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            await self._call("DELETE", path_of(ref), body)
        except (NotFound, Conflict):
            return

    async def _call(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: dict[str, str] | None = None,
        kind: str = "application/json",
    ) -> Any:
        url = f"{self._access.url}{path}" + (f"?{urlencode(query)}" if query else "")
        headers = {**self._access.headers, "Accept": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            headers["Content-Type"] = kind
        if method != "GET":
            self._writes[method.lower()] += 1
        async with self._asked(method, url, data, headers) as answer:
            text = await answer.text()
            if answer.status >= 400:
                raise _error_of(answer.status, text)
            return json.loads(text)

    @asynccontextmanager
    async def _asked(
        self, method: str, url: str, data: bytes | None, headers: dict[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self._access.tls if self._access.tls is not None else True)
            timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS_MAX)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        try:
            async with self._session.request(method, url, data=data, headers=headers) as answer:
                yield answer
        except (aiohttp.ClientError, TimeoutError) as error:
            raise KubeError(0, "Unreachable", f"the API server does not answer: {error!r}") from error


def path_of(ref: Ref) -> str:
    """Of an object, or with an empty name of its kind."""
    root = f"/api/{ref.api_version}" if "/" not in ref.api_version else f"/apis/{ref.api_version}"
    space = f"/namespaces/{quote(ref.namespace)}" if ref.namespace else ""
    plural = _PLURALS.get(ref.kind, f"{ref.kind.lower()}s")
    return f"{root}{space}/{plural}" + (f"/{quote(ref.name)}" if ref.name else "")


def _error_of(status: int, text: str) -> KubeError:
    try:
        said = json.loads(text)
        reason, message = said.get("reason", ""), said.get("message", text)
    except ValueError:
        reason, message = "", text[:500]
    if status == 404:
        return NotFound(status, reason, message)
    if status == 409:
        return Conflict(status, reason, message)
    if status in (400, 403, 422):
        return Refused(status, reason, message)
    return KubeError(status, reason, message)
