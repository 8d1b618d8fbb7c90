"""`status` of a stack in a cluster: the same table as on a laptop, asked of each service through its forwarded port."""

import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from trade2026.cli.remote import ClusterTarget, Pod
from trade2026.stack.facts import SERVICES

_ASKED_AT_ONCE = 8
_SECONDS_MAX = 10.0
_COMPONENT_LABEL = "app.kubernetes.io/component"
_PATHS = ("/readyz", "/stats", "/health")


def status_of(target: ClusterTarget) -> dict[str, Any]:
    """What `trade2026 status` shows.

    Raises:
        CliError: nothing can be reached.
    """
    from trade2026.local.stops import trading

    place = target.place
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as threads:
        there = [name for name in SERVICES if name in target.ports]
        readings = list(threads.map(lambda name: _reading(target, name), there))
    releases: dict[str, list[dict[str, Any]]] = {}
    pods: dict[str, list[Pod]] = {}
    for reading in readings:
        found = place.pods_of(reading["name"])
        release = found[0].labels.get(_COMPONENT_LABEL, "") if found else reading["name"]
        pods[release] = found
        releases.setdefault(release, []).append(reading)
    stops = _asked(target, "risk", "/killed", "killed")
    told = [{**stop, "release": f"trade2026 resume --scope {stop['scope']} --reason …"} for stop in stops or []]
    versions = sorted({pod.version for pod in place.pods()})
    return {
        "stack": place.stack,
        "version": ", ".join(versions),
        "context": place.context,
        "namespace": place.namespace,
        "ready": all(reading["ready"] for reading in readings),
        "stopping": False,
        "trading": trading(None if stops is None else told),
        "stops": told,
        "releases": [_release(name, pods[name], services) for name, services in sorted(releases.items())],
        "strategies": _asked(target, "strategies", "/strategies", "strategies") or [],
    }


def _release(name: str, pods: list[Pod], services: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": name,
        "pods": [pod.name for pod in pods],
        "ready": all(service["ready"] for service in services),
        "failing": False,
        "reason": "",
        "restarts": sum(pod.restarts for pod in pods),
        "services": services,
    }


def _reading(target: ClusterTarget, service: str) -> dict[str, Any]:
    """How one service is, over one connection."""
    from trade2026.local.process import unwell_of

    found: dict[str, Any] = {"name": service, "port": target.place.numbers[service], "ready": False, "stats": {}}
    connection = http.client.HTTPConnection(target.host, target.ports[service], timeout=_SECONDS_MAX)
    try:
        (status, ready), (_, stats), (_, health) = (_get(connection, path) for path in _PATHS)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return {**found, "detail": target.why_unreachable(service, error)}
    finally:
        connection.close()
    detail = "" if status == 200 else str(ready.get("detail") or ready.get("reason") or "")
    unwell = unwell_of(health) if status == 200 else {}
    return {**found, "ready": status == 200, "detail": detail, "stats": stats, "unwell": unwell}


def _get(connection: http.client.HTTPConnection, path: str) -> tuple[int, dict[str, Any]]:
    connection.request("GET", path)
    answer = connection.getresponse()
    body = json.loads(answer.read())
    return answer.status, body if isinstance(body, dict) else {}


def _asked(target: ClusterTarget, service: str, path: str, key: str) -> list[dict[str, Any]] | None:
    """A list that a service has; None where it can't be asked."""
    from trade2026.cli.output import CliError

    if service not in target.ports:
        return None
    try:
        return list(target.call(service, "GET", path)[key])
    except CliError:
        return None
