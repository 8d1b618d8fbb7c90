"""The documents of `external.metrics.k8s.io/v1beta1`: what an HPA asks, and how it is answered. Pure."""

import math
from datetime import datetime
from typing import Any

GROUP, VERSION = "external.metrics.k8s.io", "v1beta1"
GROUP_VERSION = f"{GROUP}/{VERSION}"
ROOT = f"/apis/{GROUP_VERSION}"
API_SERVICE = f"{VERSION}.{GROUP}"


def groups() -> dict[str, Any]:
    """`/apis`."""
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group()]}


def group() -> dict[str, Any]:
    """`/apis/external.metrics.k8s.io`."""
    version = {"groupVersion": GROUP_VERSION, "version": VERSION}
    return {"kind": "APIGroup", "apiVersion": "v1", "name": GROUP, "versions": [version], "preferredVersion": version}


def resources(metric: str) -> dict[str, Any]:
    """`/apis/external.metrics.k8s.io/v1beta1`. It can only be read, so the deletion of a namespace deletes nothing here."""
    one = {
        "name": metric,
        "singularName": "",
        "namespaced": True,
        "kind": "ExternalMetricValueList",
        "verbs": ["get"],
    }
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": GROUP_VERSION, "resources": [one]}


def value_list(metric: str, labels: dict[str, str], value: float, moment: datetime) -> dict[str, Any]:
    """The answer. Thousandths are rounded up: what is needed is not left out."""
    item = {
        "metricName": metric,
        "metricLabels": labels,
        "timestamp": f"{moment:%Y-%m-%dT%H:%M:%SZ}",
        "value": f"{math.ceil(round(value * 1000, 6))}m",
    }
    return {"kind": "ExternalMetricValueList", "apiVersion": GROUP_VERSION, "metadata": {}, "items": [item]}


def failure(status: int, reason: str, message: str) -> dict[str, Any]:
    """What is answered instead of a value: an HPA leaves its replicas as they are then."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": status,
    }


def equals(selector: str) -> dict[str, str]:
    """The labels that a selector asks for.

    Raises:
        ValueError: it asks for anything but equality, which nobody needs here.
    """
    found: dict[str, str] = {}
    for part in filter(None, selector.split(",")):
        name, equal, value = part.replace("==", "=").partition("=")
        if not equal or name.endswith("!") or not name or "(" in part:
            raise ValueError(f"{part!r}: only NAME=VALUE is understood")
        found[name.strip()] = value.strip()
    return found
