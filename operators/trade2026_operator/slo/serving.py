"""The way in to the metrics server: its certificate from a mounted Secret, and the authority of who may ask.

Both change while it runs. A TLS context takes a new certificate for the connections that come after it.
"""

import asyncio
import json
import logging
import ssl
from pathlib import Path

from trade2026_operator.kube import Kube, KubeError
from trade2026_operator.reconcile.objects import Ref

log = logging.getLogger(__name__)

LOOK_SECONDS = 60.0
AUTHENTICATION = Ref("v1", "ConfigMap", "kube-system", "extension-apiserver-authentication")
"""Written by every API server: by which certificate it is known to servers behind it."""


class Serving:
    """The TLS contexts, and whose certificate is taken.

    Attributes:
        context: For the API server, which shows a certificate.
        scaler_context: For KEDA, which has none: it tells us by ours, and network policy tells it.

    Args:
        folder: With `tls.crt` and `tls.key`.
    """

    def __init__(self, kube: Kube, folder: Path) -> None:
        self._kube, self._folder = kube, folder
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.scaler_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.scaler_context.set_alpn_protocols(["h2"])
        self.names: tuple[str, ...] = ()
        self._authority = self._certificate = ""

    async def load(self) -> None:
        """What there is now.

        Raises:
            KubeError: nobody can be told apart yet.
            OSError: there is no certificate yet.
        """
        found = await self._kube.get(AUTHENTICATION)
        data = (found or {}).get("data") or {}
        authority = data.get("requestheader-client-ca-file", "")
        if not authority:
            raise KubeError(404, "NotFound", "the API server names no authority for requests that it passes on")
        self.names = tuple(json.loads(data.get("requestheader-allowed-names") or "[]"))
        if authority != self._authority:
            self.context.load_verify_locations(cadata=authority)
            self._authority = authority
        certificate = (self._folder / "tls.crt").read_text()
        if certificate != self._certificate:
            for context in (self.context, self.scaler_context):
                context.load_cert_chain(self._folder / "tls.crt", self._folder / "tls.key")
            self._certificate = certificate
            log.info("a certificate was loaded")

    async def keep(self, pause_seconds: float = LOOK_SECONDS) -> None:
        """Load what changes, until cancelled; what is loaded stays while nothing new can be had."""
        while True:
            await asyncio.sleep(pause_seconds)
            try:
                await self.load()
            except (KubeError, OSError, ValueError) as error:
                log.warning("certificates are not looked at: %s", error)
