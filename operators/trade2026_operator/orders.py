"""The way from the operator into a stack: its services, asked over HTTP with the stack's own key.

Where they are and what the key is, the API server is asked once, and again when somebody does not answer: strategies are
asked how they are every few seconds, and that may cost it nothing.
"""

import base64
import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import aiohttp

from trade2026.stack.facts import SERVICES
from trade2026_operator.helm.releases import STRATEGIES, keys_name, service_name
from trade2026_operator.kube import Kube, KubeError
from trade2026_operator.queue import Key
from trade2026_operator.reconcile.objects import Manifest, Ref
from trade2026_operator.reconcile.strategy_limits import Told

log = logging.getLogger(__name__)

_SECONDS_MAX = 5.0
_FRESH_SECONDS = 2.0
"""So long an answer to what is asked for all strategies of a stack counts."""
_FAILURES = (aiohttp.ClientError, TimeoutError, KubeError, KeyError, TypeError, ValueError)


class _Way(NamedTuple):
    """To one service of a stack."""

    url: str
    bearer: str
    seen: str
    """The Service and the Secret that it was read from: whoever has that address next must not be given the key."""


class Orders:
    """Asks order services to cancel, and strategies how they are. Nothing here releases a kill or a halt.

    Args:
        seen: In which version an object is that watches have told of; empty: there is none, or it is not known.
    """

    def __init__(
        self,
        kube: Kube,
        clock: Callable[[], float] = time.monotonic,
        seen: Callable[[Key, Ref], str] = lambda key, ref: "",
    ) -> None:
        self._kube, self._clock, self._seen = kube, clock, seen
        self._ways: dict[tuple[Key, str], _Way] = {}
        self._answers: dict[tuple[Key, str], tuple[float, Mapping[str, Any] | None]] = {}
        """By service: what it has said of each strategy, and when."""

    async def cancel(self, stack: Manifest) -> bool:
        """Whether every working order of a stack is being cancelled."""
        key = Key(stack["metadata"]["namespace"], stack["metadata"]["name"])
        return await self._cancel(key, "stack", "the stack is deleted")

    async def cancel_strategy(self, key: Key, strategy: str, reason: str) -> bool:
        """Whether every working order of one strategy is being cancelled, and of no other.

        Args:
            key: Its stack.
        """
        return await self._cancel(key, f"strategy:{strategy}", reason)

    async def strategies(self, key: Key) -> Mapping[str, Any] | None:
        """How each strategy of a stack says that it is, by name; None where nobody answers."""
        return await self._of_all(key, STRATEGIES, "/strategies", lambda each: (each["name"], each))

    async def limits(self, key: Key) -> Mapping[str, Told] | None:
        """Which limits of their own strategies of a stack are known to have, by name; None where nobody answers."""
        return await self._of_all(
            key, "risk", "/limits/strategies", lambda each: (each["strategy"], Told(each["limits"], each["enforced"]))
        )

    async def tell_limits(self, key: Key, strategy: str, limits: Mapping[str, Any], reason: str) -> bool:
        """Whether the risk service of a stack has recorded a strategy's own limits; {}: none."""
        self._answers.pop((key, "risk"), None)
        body = {"limits": limits, "reason": reason}
        try:
            await self._ask(key, "risk", "PUT", f"/limits/strategies/{strategy}", body)
        except _FAILURES as error:
            log.warning("%s/%s: limits of strategy %s can't be told yet: %s", *key, strategy, error)
            return False
        return True

    async def _of_all(
        self, key: Key, service: str, path: str, read: Callable[[Any], tuple[str, Any]]
    ) -> Mapping[str, Any] | None:
        """What a service says of each strategy, by name; asked seldom, for there may be many that want to know."""
        at, answered = self._answers.get((key, service), (-_FRESH_SECONDS, None))
        if self._clock() - at < _FRESH_SECONDS:
            return answered
        try:
            answer = await self._ask(key, service, "GET", path)
            found = dict(map(read, answer["strategies"]))
        except _FAILURES as error:
            log.debug("%s/%s: %s does not answer: %s", *key, service, error)
            found = None
        now = self._clock()
        self._answers = {each: said for each, said in self._answers.items() if now - said[0] < _FRESH_SECONDS}
        self._answers[key, service] = now, found
        return found

    async def _cancel(self, key: Key, scope: str, reason: str) -> bool:
        try:
            await self._ask(key, "oms", "POST", "/orders/cancel-all", {"scope": scope, "reason": reason})
        except _FAILURES as error:
            log.warning("%s/%s: orders of %s can't be cancelled yet: %s", *key, scope, error)
            return False
        return True

    async def _ask(self, key: Key, service: str, method: str, path: str, body: Any = None) -> Any:
        way = await self._way(key, service)
        headers = {"Authorization": f"Bearer {way.bearer}"}
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS_MAX)) as session,
            session.request(method, f"{way.url}{path}", json=body, headers=headers) as answer,
        ):
            answer.raise_for_status()
            found = json.loads(await answer.read())
        self._ways[key, service] = way  # it leads there
        return found

    async def _way(self, key: Key, service: str) -> _Way:
        """To a service: the one that has led there, while its Service and the key are the same. It is taken out."""
        known = self._ways.pop((key, service), None)
        if known is not None and known.seen == self._seen_of(key, service):
            return known
        self._ways = {
            (each, name): way for (each, name), way in self._ways.items() if way.seen == self._seen_of(each, name)
        }
        return await self._find(key, service)

    def _seen_of(self, key: Key, service: str) -> str:
        return " ".join(self._seen(key, ref) for ref in _refs(key, service))

    async def _find(self, key: Key, service: str) -> _Way:
        seen = self._seen_of(key, service)
        there, secret = [await self._kube.get(ref) for ref in _refs(key, service)]
        if there is None or secret is None:
            raise KeyError(f"there is no {service if there is None else 'key'}")
        address = there["spec"]["clusterIP"]  # by its name it is found in pods only, and an operator may be none
        host = f"[{address}]" if ":" in address else address
        bearer = base64.b64decode(secret["data"]["key"]).decode()
        return _Way(f"http://{host}:{SERVICES[service].port}", bearer, seen)


def _refs(key: Key, service: str) -> tuple[Ref, Ref]:
    """Of its Service, and of the stack's keys."""
    return (
        Ref("v1", "Service", key.namespace, service_name(key.name, service)),
        Ref("v1", "Secret", key.namespace, keys_name(key.name)),
    )
