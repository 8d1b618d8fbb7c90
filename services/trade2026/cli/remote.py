"""A stack in a cluster: found by its Services, reached through forwarded ports, with a key from its Secret.

It is found by what runs, not by its TradingStack: one that was installed by Helm alone is as good.
"""

import base64
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from trade2026.cli.forwarding import Forwarding, Stream
from trade2026.cli.output import REFUSED, UNREACHABLE, USAGE, CliError
from trade2026.cli.target import InCluster, Target
from trade2026.kit.own_key import KEY_VARIABLE

Core = Any
"""`kubernetes.client.CoreV1Api`: of its models every field may be None by their types, which an API server never sends."""
STACK_LABEL, SERVICE_LABEL = "trade2026.io/stack", "trade2026.io/service"
_SECONDS_MAX = 15
_FRESH_SECONDS = 2.0
_INSTALL = "pip install 'trade2026[cluster]'"


@dataclass(frozen=True)
class Pod:
    """A pod of a stack."""

    name: str
    labels: dict[str, str]
    phase: str
    ready: bool
    restarts: int
    version: str
    waits: str = ""
    """Why it is not ready."""


class Pods:
    """The pods of a stack, asked for again when the answer is old: they come and go while somebody watches."""

    def __init__(self, core: Core, namespace: str, stack: str) -> None:
        self._core, self._namespace, self._selector = core, namespace, f"{STACK_LABEL}={stack}"
        self._at, self._known = float("-inf"), tuple[Pod, ...]()
        self._lock = threading.Lock()

    def __call__(self) -> tuple[Pod, ...]:
        with self._lock:
            if time.monotonic() - self._at > _FRESH_SECONDS:
                found = self._core.list_namespaced_pod(
                    self._namespace, label_selector=self._selector, _request_timeout=_SECONDS_MAX
                )
                self._known, self._at = tuple(map(_pod, found.items)), time.monotonic()
            return self._known


@dataclass(frozen=True)
class Place:
    """A stack in a cluster.

    Attributes:
        selectors: The labels of the pods of each service.
        numbers: The port of each service in its pod.
        pods: Those that there are, as of a moment ago.
        keyless: Why there is no key, if there is none.
    """

    context: str
    namespace: str
    stack: str
    selectors: dict[str, dict[str, str]]
    numbers: dict[str, int]
    pods: Callable[[], tuple[Pod, ...]]
    keyless: str = ""

    def pods_of(self, service: str) -> list[Pod]:
        """The pods that serve it, those that are ready first."""
        wanted = self.selectors.get(service, {}).items()
        found = [pod for pod in self.pods() if wanted and wanted <= pod.labels.items()]
        return sorted(found, key=lambda pod: (not pod.ready, pod.name))

    def pod_of(self, service: str) -> Pod:
        """The pod to ask.

        Raises:
            CliError: none runs; the message says what it waits for.
        """
        found = self.pods_of(service)
        running = [pod for pod in found if pod.phase == "Running"]
        if running:
            return running[0]
        why = "; ".join(
            f"pod {pod.name} is {pod.phase.lower()}{f' ({pod.waits})' if pod.waits else ''}" for pod in found
        )
        told = why or "it has no pod"
        raise CliError(f"{service} of {self.stack} does not run yet: {told}", UNREACHABLE)


@dataclass(frozen=True)
class ClusterTarget(Target):
    """A stack in a cluster, through forwarded ports."""

    place: Place
    forwarding: Forwarding

    def call(self, service: str, *args: Any, **kwargs: Any) -> Any:
        if service not in self.ports:
            why = "it has no strategy yet" if service == "strategies" else "see `kubectl get ts`"
            raise CliError(f"{self.name} runs no {service} in {self.place.namespace}: {why}", UNREACHABLE)
        try:
            return super().call(service, *args, **kwargs)
        except CliError as error:
            if self.place.keyless and error.exit_code == REFUSED and "401" in str((error.problem or {}).get("status")):
                raise CliError(f"{error}; {self.place.keyless}", REFUSED, error.problem) from error
            raise

    def why_unreachable(self, service: str, error: Exception) -> str:
        """Why a service does not answer."""
        return self._unreachable(service, error)

    def _unreachable(self, service: str, error: Exception) -> str:
        fault, self.forwarding.fault = self.forwarding.fault, None
        if isinstance(fault, CliError):
            return str(fault)
        if fault is not None:
            return f"{service} of {self.name} can't be reached: {in_words(fault, self.place.context)}"
        return f"{service} of {self.name} in {self.place.namespace} ({self.place.context}) does not answer: {error}"


@cache
def find_in_cluster(wanted: InCluster) -> ClusterTarget:
    """The stack that is meant.

    Raises:
        CliError: there is no such context, namespace or stack, or one may not see it; the message says which.
    """
    try:
        from kubernetes.client import CoreV1Api
    except ImportError as error:
        raise CliError(f"to speak with a cluster, its client is missing: {_INSTALL}", USAGE) from error

    client, context, namespace = _client(wanted)
    core: Core = CoreV1Api(client)
    with _told(context):
        services = core.list_namespaced_service(namespace, label_selector=STACK_LABEL, _request_timeout=_SECONDS_MAX)
        stack = _chosen(
            wanted, sorted({each.metadata.labels[STACK_LABEL] for each in services.items}), context, namespace
        )
        pods = Pods(core, namespace, stack)
        pods()
    ours = {
        each.metadata.labels[SERVICE_LABEL]: each
        for each in services.items
        if each.metadata.labels[STACK_LABEL] == stack
        and SERVICE_LABEL in each.metadata.labels
        and each.spec.cluster_ip != "None"
    }
    place = Place(
        context=context,
        namespace=namespace,
        stack=stack,
        selectors={name: dict(each.spec.selector) for name, each in ours.items()},
        numbers={name: each.spec.ports[0].port for name, each in ours.items()},
        pods=pods,
        keyless=_take_key(core, namespace, stack),
    )
    forwarding = Forwarding(lambda service: _stream(core, place, service))
    return ClusterTarget(stack, None, forwarding.host, forwarding.listen(list(ours)), place, forwarding)


def _client(wanted: InCluster) -> tuple[Any, str, str]:
    """The way to the API server, and the context and namespace that are meant."""
    from kubernetes import config

    try:
        listed: Any = config.list_kube_config_contexts()
        contexts, current = listed
        names = [each["name"] for each in contexts]
        chosen = current if not wanted.context else next((c for c in contexts if c["name"] == wanted.context), None)
        if chosen is None:
            raise CliError(f"there is no context {wanted.context!r}; known: {', '.join(names) or 'none'}", USAGE)
        client = config.new_client_from_config(context=chosen["name"])
    except config.ConfigException as error:
        raise CliError(
            f"no cluster is known here: {error}; name a kubeconfig by the variable KUBECONFIG", USAGE
        ) from error
    client.configuration.retries = False
    return client, chosen["name"], wanted.namespace or chosen["context"].get("namespace") or "default"


def _chosen(wanted: InCluster, there: list[str], context: str, namespace: str) -> str:
    where = f"in namespace {namespace} of {context}"
    if wanted.stack and wanted.stack not in there:
        known = f"; there is {', '.join(there)}" if there else ""
        hint = f"; if it was applied, see `kubectl describe ts {wanted.stack} -n {namespace}`" if not there else ""
        raise CliError(f"no stack {wanted.stack} runs {where}{known}{hint}", UNREACHABLE)
    if not there:
        raise CliError(f"no stack runs {where}; name another namespace with --namespace, or apply one", UNREACHABLE)
    if not wanted.stack and len(there) > 1:
        raise CliError(f"several stacks run {where}: say which one with --stack: {', '.join(there)}", USAGE)
    return wanted.stack or there[0]


def _take_key(core: Core, namespace: str, stack: str) -> str:
    """One's own key is shown if there is one, else the stack's own; return why there is none."""
    from kubernetes.client.exceptions import ApiException

    if os.environ.get(KEY_VARIABLE):
        return ""
    name = f"{stack}-keys"
    try:
        secret = core.read_namespaced_secret(name, namespace, _request_timeout=_SECONDS_MAX)
    except ApiException as error:
        why = "you may not read" if error.status == 403 else "there is no"
        return f"{why} Secret {name} in {namespace}: put your own key into the environment variable {KEY_VARIABLE}"
    os.environ[KEY_VARIABLE] = base64.b64decode((secret.data or {}).get("key", "")).decode()
    return ""


def _stream(core: Core, place: Place, service: str) -> Stream:
    """A connection to a service."""
    from kubernetes.client import ApiClient, CoreV1Api
    from kubernetes.stream import portforward

    number, pod = place.numbers[service], place.pod_of(service)
    # While it opens, whatever else its client is asked goes the way of WebSockets, too: nobody else may have that one.
    own: Core = CoreV1Api(ApiClient(core.api_client.configuration))
    opened = portforward(own.connect_get_namespaced_pod_portforward, pod.name, place.namespace, ports=str(number))
    return opened.socket(number)


def _pod(found: Any) -> Pod:
    states = found.status.container_statuses or []
    conditions = {each.type: each for each in found.status.conditions or []}
    unscheduled = conditions.get("PodScheduled")
    waiting = [each.state.waiting for each in states if each.state.waiting is not None]
    waits = waiting[0].reason if waiting else ""
    if unscheduled is not None and unscheduled.status == "False":
        waits = unscheduled.message or "it can't be scheduled"
    return Pod(
        name=found.metadata.name,
        labels=dict(found.metadata.labels or {}),
        phase=found.status.phase or "Unknown",
        ready="Ready" in conditions and conditions["Ready"].status == "True",
        restarts=sum(each.restart_count for each in states),
        version=found.spec.containers[0].image.rpartition(":")[2],
        waits=waits or "",
    )


@contextmanager
def _told(context: str) -> Iterator[None]:
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        raise CliError(in_words(error, context), REFUSED if error.status in (401, 403) else UNREACHABLE) from error
    except (HTTPError, OSError) as error:
        raise CliError(in_words(error, context), UNREACHABLE) from error


def in_words(error: Exception, context: str) -> str:
    """What the API server has answered, or that it has not."""
    status, said = getattr(error, "status", None), str(getattr(error, "body", "") or "")
    try:
        said = json.loads(said)["message"]
    except (ValueError, KeyError, TypeError):
        said = said or str(getattr(error, "reason", "") or error)
    if status == 401:
        return f"the API server of {context} does not know you ({said}): sign in again"
    if status == 403 or "403 Forbidden" in said:
        return f"you have no right to this in {context}: {said}"
    if status:
        return f"the API server of {context} answered {status}: {said}"
    return f"the API server of {context} does not answer: {said}"
