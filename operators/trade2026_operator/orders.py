"""The way from the operator into a stack: its order service, asked over HTTP with the stack's own key."""

import base64
import logging

import aiohttp

from trade2026.stack.facts import SERVICES
from trade2026_operator.helm.releases import keys_name, service_name
from trade2026_operator.kube import Kube, KubeError
from trade2026_operator.reconcile.objects import Manifest, Ref

log = logging.getLogger(__name__)

_SECONDS_MAX = 5.0


class Orders:
    """Cancels the working orders of stacks."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    async def cancel(self, stack: Manifest) -> bool:
        """Whether every working order of a stack is being cancelled."""
        name, namespace = stack["metadata"]["name"], stack["metadata"]["namespace"]
        url = f"http://{service_name(name, 'oms')}.{namespace}:{SERVICES['oms'].port}/orders/cancel-all"
        try:
            secret = await self._kube.get(Ref("v1", "Secret", namespace, keys_name(name)))
            key = base64.b64decode(secret["data"]["key"]).decode() if secret is not None else ""
            timeout = aiohttp.ClientTimeout(total=_SECONDS_MAX)
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(
                    url, json={"reason": "the stack is deleted"}, headers={"Authorization": f"Bearer {key}"}
                ) as answer,
            ):
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError, KubeError, KeyError, ValueError) as error:
            log.warning("%s/%s: orders can't be cancelled yet: %s", namespace, name, error)
            return False
