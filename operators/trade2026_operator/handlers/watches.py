"""What is watched: stacks, strategies, and everything that carries the label of one."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import kopf

from trade2026_operator.cache import Cache
from trade2026_operator.lists import Listed
from trade2026_operator.reconcile.autoscalers import SCALED_OBJECTS
from trade2026_operator.reconcile.objects import GROUP, STACK_LABEL
from trade2026_operator.slo.api_service import ApiService

Children = tuple[tuple[str, str, str, str], ...]
CHILDREN: Children = (
    ("", "v1", "configmaps", "ConfigMap"),
    ("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim"),
    ("", "v1", "pods", "Pod"),
    ("", "v1", "secrets", "Secret"),
    ("", "v1", "serviceaccounts", "ServiceAccount"),
    ("", "v1", "services", "Service"),
    ("apps", "v1", "deployments", "Deployment"),
    ("apps", "v1", "statefulsets", "StatefulSet"),
    ("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler"),
    ("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy"),
    ("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget"),
)
"""Group, version, plural and kind of what a stack is made of."""
WITH_KEDA = (*CHILDREN, SCALED_OBJECTS)
"""The same, where KEDA's objects are autoscalers."""


WATCHED = ("tradingstacks", *(plural for _, _, plural, _ in CHILDREN))
_LIST_OBJECTS_MAX = 100
"""In one answer: all at once would take the memory of all at once."""
_QUIET_SECONDS = 0.05
"""kopf has a task for each object of which something was told, and for so long after it. As there are no more than
`_TASKS_MAX` for a kind, whoever comes next waits for it."""
_TASKS_MAX = 64
_LIST_SECONDS_MAX = 60.0
"""For one page of a list: a connection that died without a word is given up, and not waited on for five minutes."""
_RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 3.0)


class _Backoffs:
    """For ever: a watch that gives up ends the operator, and one that waits for minutes sees nothing when all is well."""

    def __iter__(self) -> Iterator[float]:
        yield from _RETRY_SECONDS
        while True:
            yield _RETRY_SECONDS[-1]


def missed_by(cache: Cache, api_service: ApiService | None, children: Children = CHILDREN) -> Callable[[Listed], None]:
    """Who is to hear of each list: what it is without was deleted while nobody watched."""
    by_kind: dict[tuple[str, str], Callable[[Listed], None]] = {
        (group, plural): partial(cache.children_listed, kind) for group, _, plural, kind in children
    }
    by_kind[GROUP, "tradingstacks"] = cache.stacks_listed
    by_kind[GROUP, "strategies"] = cache.strategies.listed
    if api_service is not None:
        by_kind["apiregistration.k8s.io", "apiservices"] = api_service.listed

    def told(listed: Listed) -> None:
        if hears := by_kind.get((listed.group, listed.plural)):
            hears(listed)

    return told


def registry_of(
    cache: Cache,
    session: Callable[[], kopf.AiohttpSession],
    api_service: ApiService | None = None,
    children: Children = CHILDREN,
) -> kopf.OperatorRegistry:
    """The handlers of one operator.

    Args:
        session: Makes a way to the API server; kopf closes it.
        api_service: Is told of the cluster's APIServices; None: nobody is.
    """
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.AiohttpSession:
        return session()

    @kopf.on.event(GROUP, "v1alpha1", "tradingstacks", registry=registry)
    async def stack(event: kopf.RawEvent, **_: Any) -> None:
        found = dict(event["object"])
        cache.stack_gone(found) if event["type"] == "DELETED" else cache.stack_seen(found)

    if api_service is not None:
        offered = api_service

        @kopf.on.event("apiregistration.k8s.io", "v1", "apiservices", registry=registry)
        async def served(event: kopf.RawEvent, **_: Any) -> None:
            found = dict(event["object"])
            offered.gone(found) if event["type"] == "DELETED" else offered.seen(found)

    @kopf.on.event(GROUP, "v1alpha1", "strategies", registry=registry)
    async def strategy(event: kopf.RawEvent, **_: Any) -> None:
        found = dict(event["object"])
        cache.strategies.gone(found) if event["type"] == "DELETED" else cache.strategies.seen(found)

    for group, version, plural, kind in children:
        api_version = f"{group}/{version}" if group else version
        _watch(registry, cache, group, version, plural, {"apiVersion": api_version, "kind": kind})
    return registry


def _watch(
    registry: kopf.OperatorRegistry, cache: Cache, group: str, version: str, plural: str, named: dict[str, str]
) -> None:
    @kopf.on.event(group, version, plural, labels={STACK_LABEL: kopf.PRESENT}, id=plural, registry=registry)
    async def child(event: kopf.RawEvent, **_: Any) -> None:
        found = {**event["object"], **named}  # a list leaves out what kind its items are
        cache.child_gone(found) if event["type"] == "DELETED" else cache.child_seen(found)


def settings(*, clusterwide: bool, children: Children = CHILDREN) -> kopf.OperatorSettings:
    """How kopf is to watch: it writes nothing, on no object, and is told of nothing that is no stack's.

    Args:
        clusterwide: Whether namespaces and definitions may be watched, too; what is defined later is found then.
    """
    found = kopf.OperatorSettings()
    found.posting.enabled = False
    found.peering.standalone = True
    found.scanning.disabled = not clusterwide
    found.networking.error_backoffs = _Backoffs()
    found.networking.request_timeout = _LIST_SECONDS_MAX
    found.watching.connect_timeout = 10
    found.watching.server_timeout = 600
    found.watching.chunk_size = _LIST_OBJECTS_MAX
    for group, version, plural, _ in children:
        found.watching.label_selectors[group, version, plural] = STACK_LABEL
    found.queueing.worker_limit = _TASKS_MAX
    found.queueing.idle_timeout = _QUIET_SECONDS
    return found
