"""What the operator may do, verb by verb, as `kubectl auth can-i` asks the API server: what is not listed is forbidden."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from e2e.cluster import Cluster
from e2e.installed import CHART, RELEASE

VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
MADE = "get list watch create patch delete"
STACKS = {
    "trade2026.io/tradingstacks": "get list watch patch",
    "trade2026.io/strategies": "get list watch patch",
    "trade2026.io/tradingstacks/status": "get patch",
    "trade2026.io/strategies/status": "get patch",
    "configmaps": MADE,
    "persistentvolumeclaims": MADE,
    "serviceaccounts": MADE,
    "services": MADE,
    "apps/deployments": MADE,
    "apps/statefulsets": MADE,
    "autoscaling/horizontalpodautoscalers": MADE,
    "networking.k8s.io/networkpolicies": MADE,
    "policy/poddisruptionbudgets": MADE,
    "secrets": "get list watch create update patch delete",
    "pods": "get list watch",
    "discovery.k8s.io/endpointslices": "get list watch",
    "events": "get create patch",
}
"""Where stacks are kept."""
CLUSTER = {
    "apiextensions.k8s.io/customresourcedefinitions": "get list watch",
    "apiregistration.k8s.io/apiservices": "get list watch create",
    "namespaces": "get list watch",
}
NEVER = (
    *("pods/exec", "pods/log", "pods/eviction", "serviceaccounts/token", "nodes", "persistentvolumes"),
    *("apps/daemonsets", "apps/replicasets", "batch/jobs", "apps/deployments/scale"),
    *(f"rbac.authorization.k8s.io/{kind}" for kind in ("roles", "rolebindings", "clusterroles", "clusterrolebindings")),
    *(f"admissionregistration.k8s.io/{kind}webhookconfigurations" for kind in ("mutating", "validating")),
)
RESOURCES = (*STACKS, *CLUSTER, *NEVER, "coordination.k8s.io/leases")
Table = dict[str, str]


class Account:
    """The operator's service account, with the rights of the chart and no pod."""

    def __init__(self, cluster: Cluster, *values: str) -> None:
        self.cluster, self.home, self.watched = cluster, cluster.make_namespace(), cluster.make_namespace()
        sets = [word for value in values for word in ("--set", value.replace("WATCHED", self.watched))]
        rendered = self.cluster.helm(
            *("template", RELEASE, str(CHART), "--namespace", self.home, "--show-only", "templates/rbac.yaml", *sets)
        )
        self._objects = list(yaml.safe_load_all(rendered))
        for each in self._objects:
            if not each["kind"].startswith("Cluster"):
                each["metadata"].setdefault("namespace", self.home)
        self.cluster.kubectl("apply", "-f", "-", given=self._objects)

    def remove(self) -> None:
        self.cluster.kubectl("delete", "-f", "-", "--wait=false", given=self._objects)
        for name in (self.home, self.watched):
            self.cluster.remove_namespace(name)

    def may(self, namespace: str) -> Table:
        """The verbs that are allowed, by resource; those of which none is are left out."""
        asked = [
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {
                    "user": f"system:serviceaccount:{self.home}:{RELEASE}",
                    "resourceAttributes": {"namespace": namespace, "verb": verb, **_attributes(resource)},
                },
            }
            for resource, verb in itertools.product(RESOURCES, VERBS)
        ]
        answers = _documents(self.cluster.kubectl("create", "-f", "-", "--output=json", given=asked))
        found: dict[str, list[str]] = {}
        pairs = itertools.product(RESOURCES, VERBS)
        for (resource, verb), answer in zip(pairs, answers, strict=True):
            if answer["status"]["allowed"]:
                found.setdefault(resource, []).append(verb)
        return {resource: " ".join(verbs) for resource, verbs in found.items()}

    def can_i(self, *words: str) -> bool:
        """As a person asks."""
        who = f"--as=system:serviceaccount:{self.home}:{RELEASE}"
        return self.cluster.kubectl("auth", "can-i", *words, who, check=False).startswith("yes")


def _documents(text: str) -> Iterator[dict[str, Any]]:
    """What `kubectl create` prints of several objects: JSON after JSON."""
    at, decoder = 0, json.JSONDecoder()
    while at < len(text.rstrip()):
        found, end = decoder.raw_decode(text, at)
        yield found
        at = end + 1


def _attributes(resource: str) -> dict[str, str]:
    """`GROUP/RESOURCE/SUBRESOURCE`; a group is empty or has a dot, but for two."""
    first, _, rest = resource.partition("/")
    group, rest = (
        (first, rest) if "." in first or first in ("apps", "autoscaling", "batch", "policy") else ("", resource)
    )
    name, _, subresource = rest.partition("/")
    return {"group": group, "resource": name, "subresource": subresource}


@pytest.fixture
def namespaced(cluster: Cluster) -> Iterator[Account]:
    made = Account(cluster, "rbac.scope=namespace", "rbac.namespaces={WATCHED}")
    yield made
    made.remove()


@pytest.fixture
def clusterwide(cluster: Cluster) -> Iterator[Account]:
    made = Account(cluster)
    yield made
    made.remove()


def test_with_rights_in_a_namespace_it_sees_nothing_beyond(namespaced: Account) -> None:
    assert namespaced.may(namespaced.watched) == STACKS
    assert namespaced.may("kube-system") == {}
    # Where it runs itself, it has its Lease, and no Secret.
    assert namespaced.may(namespaced.home) == {"coordination.k8s.io/leases": "create"}
    assert namespaced.can_i("update", f"leases.coordination.k8s.io/{RELEASE}", "-n", namespaced.home)
    assert not namespaced.can_i("update", "leases.coordination.k8s.io/another", "-n", namespaced.home)
    assert not namespaced.can_i("get", "secrets", "--all-namespaces")


def test_with_rights_in_the_cluster_it_still_makes_nothing_but_what_stacks_are_of(clusterwide: Account) -> None:
    everywhere = STACKS | CLUSTER
    assert clusterwide.may("kube-system") == everywhere
    assert clusterwide.may(clusterwide.home) == everywhere | {"coordination.k8s.io/leases": "create"}
    # Of the APIs that others serve, only that of external metrics may be changed, for that is its own.
    assert clusterwide.can_i("delete", "apiservices.apiregistration.k8s.io/v1beta1.external.metrics.k8s.io")
    assert not clusterwide.can_i("delete", "apiservices.apiregistration.k8s.io/v1beta1.metrics.k8s.io")
    assert not clusterwide.can_i("*", "*")
    assert not clusterwide.can_i("escalate", "clusterroles.rbac.authorization.k8s.io")
