"""What is scaled on a cluster: the order service, once with a log of its own in each pod, once on Kafka with shared partitions.

Each pod has a quarter of a core, and there are four at most. All else of the cluster takes no pod's share: a broker beside it,
the servers of metrics with a twentieth of a core each.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.cluster import Cluster
from e2e.desk import manifest
from e2e.scaling import RELEASE, STACK, objects_of, values_of
from e2e.servers import broker_of

from bench.autoscale.open_load import Requests
from trade2026.stack.manifest import load_all
from trade2026.stack.planner import plan
from trade2026_operator.helm.releases import Cluster as Given
from trade2026_operator.helm.releases import releases, state_claim
from trade2026_operator.reconcile.objects import Manifest

CORES, MOST, PARTITIONS = "250m", 4, 8
_MEMORY = "512Mi"
_ACCOUNTS = tuple(f"account-{number}" for number in range(32))
"""So many that each partition has some, and about as much."""


@dataclass(frozen=True)
class Service:
    """One that a run scales.

    Attributes:
        kind: Of its workload.
        rate: Requests a second that nearly all pods are needed for.
        partitions: That its replicas share; 0 for none.
        started: Its objects, from one fresh pod on, as long as the block lasts.
    """

    name: str
    kind: str
    rate: float
    requests: Requests
    partitions: int
    started: Callable[["Cluster", str, Path], Any]


@contextmanager
def _alone(cluster: Cluster, namespace: str, folder: Path) -> Iterator[list[Manifest]]:
    """Each pod answers from what it has itself, and asks nobody."""
    values = values_of(cluster.image, CORES, MOST)
    values["containers"][0]["resources"] = _quota()
    yield objects_of(cluster, namespace, values)


@contextmanager
def _on_kafka(cluster: Cluster, namespace: str, folder: Path) -> Iterator[list[Manifest]]:
    """As the operator runs the service in a stack with placement `spread`; the broker has nothing of runs before."""
    for broker in broker_of(cluster, folder):
        values = _values_on_kafka(cluster.image, broker.address)
        claim = state_claim(STACK, namespace, Given(storage_size="1Gi"))
        assert claim is not None
        yield [claim, *objects_of(cluster, namespace, values)]


def _values_on_kafka(image: str, broker: str) -> dict[str, Any]:
    repository, _, tag = image.rpartition(":")
    stack = manifest("kafka")
    stack["spec"] |= {
        "bus": {"type": "kafka", "partitions": PARTITIONS, "kafka": {"bootstrapServers": broker}},
        "stores": {},
        "placement": "spread",
        "services": {"oms": {"replicas": {"min": 1, "max": MOST}, "resources": _quota()}},
    }
    document = load_all(json.dumps(stack))
    found = releases(document.stack, plan(document.stack, []), Given(image_repository=repository, pull_policy="Never"))
    values = next(each for each in found if each.name == RELEASE).values
    return values | {"image": values["image"] | {"tag": tag}}


def _quota() -> dict[str, Any]:
    """It may use what it requests, so that CPU is measured by what a pod may use."""
    amounts = {"cpu": CORES, "memory": _MEMORY}
    return {"requests": amounts, "limits": amounts}


SERVICES = {
    "stateless": Service("stateless", "Deployment", 140.0, Requests(orders=100, names=20), 0, _alone),
    "kafka": Service("kafka", "StatefulSet", 120.0, Requests(orders=20, accounts=_ACCOUNTS), PARTITIONS, _on_kafka),
}
