"""What the cluster says of itself: asked over HTTP in its own network, by a thread that has joined it."""

import http.client
import json
import ssl
from collections.abc import Iterator
from typing import Any

from trade2026.local.cluster.network import joined
from trade2026.local.cluster.place import API_PORT, NODE, NODE_IP, Place

_PROBES = {"kubelet": (10248, "/healthz"), "kube-proxy": (10256, "/healthz"), "coredns": (8181, "/ready")}
_ASK_SECONDS_MAX = 5.0


class Api:
    """Reads from the API server, with all rights."""

    def __init__(self, place: Place) -> None:
        keys = place.state / "pki"
        self._context = ssl.create_default_context(cafile=str(keys / "ca.crt"))
        self._context.load_cert_chain(keys / "admin.crt", keys / "admin.key")

    def get(self, path: str) -> dict[str, Any]:
        """One document.

        Raises:
            OSError: nobody answers.
            LookupError: there is no such thing, or not yet.
        """
        connection = http.client.HTTPSConnection(NODE_IP, API_PORT, timeout=_ASK_SECONDS_MAX, context=self._context)
        try:
            connection.request("GET", path, headers={"Accept": "application/json"})
            answer = connection.getresponse()
            body = answer.read()
        except http.client.HTTPException as error:
            raise ConnectionError(f"the API server answers no HTTP: {error}") from error
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise LookupError(f"{path}: {answer.status} {answer.reason}")
        return json.loads(body)


def unready(place: Place, pid: int) -> list[str]:
    """What a pod would still have to wait for; empty when the cluster is ready."""
    with joined(pid):
        return list(_unready(place))


def _unready(place: Place) -> Iterator[str]:
    for name, (port, path) in _PROBES.items():
        if not _answers(port, path):
            yield name
    try:
        api = Api(place)
        if not is_ready(api.get(f"/api/v1/nodes/{NODE}")):
            yield "the node"
        # Without it pods are refused, though the node is ready.
        api.get("/api/v1/namespaces/default/serviceaccounts/default")
    except OSError:
        yield "the API server"
    except LookupError as error:
        yield str(error)


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ASK_SECONDS_MAX)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def is_ready(thing: dict[str, Any]) -> bool:
    """Whether a node or a pod has the condition Ready."""
    conditions = thing.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def inside(place: Place, pid: int) -> dict[str, Any]:
    """Version, nodes and pods of a cluster that is up.

    Raises:
        OSError: the API server does not answer.
        LookupError: it is not ready.
    """
    with joined(pid):
        api = Api(place)
        nodes, pods = (api.get(f"/api/v1/{kind}")["items"] for kind in ("nodes", "pods"))
        return {
            "kubernetes": api.get("/version")["gitVersion"].lstrip("v"),
            "nodes": [{"name": node["metadata"]["name"], "ready": is_ready(node)} for node in nodes],
            "pods": {"all": len(pods), "ready": sum(map(is_ready, pods))},
        }
