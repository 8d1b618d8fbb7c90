"""The order service of a stack, scaled by the objective in its manifest: from `kubectl apply` to pods that share partitions."""

import base64
import itertools
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.beside import Operator
from e2e.cluster import Cluster, wait_for
from e2e.desk import Desk, manifest
from e2e.prober import probing
from e2e.scaling import PORT, Load, metrics_server_of, with_metrics_server
from e2e.servers import broker_of
from e2e.soak import soak

from trade2026.local.cluster.place import NODE_IP
from trade2026.local.infra.component import free_port
from trade2026.local.infra.kafka import Kafka
from trade2026_operator.helm.releases import keys_name

PARTITIONS, MOST = 4, 3
ACCOUNTS = tuple(f"load-{number}" for number in range(16))
"""So many that each partition has some."""
WORKLOAD = "desk-oms"
QUICK = {
    "stabilizationWindowSeconds": 10,
    "policies": [{"type": "Pods", "value": 2, "periodSeconds": 5}],
}
"""How fewer pods are made here; by itself the HPA takes five minutes and more."""
EASE_SECONDS = 30
"""How fast a need is forgotten here; by itself the operator takes ten minutes, to a third."""
SCALE_SECONDS_MAX = 240.0
LOOK_SECONDS = 1.0
"""Who asks takes CPU from who is asked about."""


@pytest.fixture
def broker(cluster: Cluster, tmp_path: Path) -> Iterator[Kafka]:
    yield from broker_of(cluster, tmp_path)


def wanted(broker: Kafka, most: int) -> dict[str, Any]:
    """One order service with a fifth of a core, and more of them so that 99 of 100 answers take 250 ms at most."""
    oms = {
        "replicas": {"min": 1, "max": most},
        "slo": {"latency": [{"quantile": 0.99, "under": "250ms"}]},
        "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "200m"}},
    }
    stack = manifest()
    stack["spec"] |= {
        "bus": {"type": "kafka", "partitions": PARTITIONS, "kafka": {"bootstrapServers": broker.address}},
        "placement": "spread",
        "services": {"oms": oms},
        "driftIgnore": [{"kind": "HorizontalPodAutoscaler", "paths": ["/spec/behavior"]}],
    }
    return stack


def partitions_of(desk: Desk) -> list[list[int]]:
    """What each ready pod of the order service owns."""
    key = base64.b64decode(desk.get("secret", keys_name("desk"))["data"]["key"]).decode()
    found: list[list[int]] = []
    for pod in desk.get("pods", "-l", f"app.kubernetes.io/instance={WORKLOAD}")["items"]:
        try:
            url = f"http://{pod['status']['podIP']}:{PORT}/stats"
            asked = urllib.request.Request(url, headers={"authorization": f"Bearer {key}"})
            with urllib.request.urlopen(asked, timeout=2) as answer:
                found.append(json.load(answer)["partitions"])
        except (OSError, KeyError):
            continue
    return sorted(found)


@soak
@pytest.mark.timeout(1_200)
def test_under_load_the_objective_of_a_stack_brings_pods_that_share_its_partitions_and_nothing_is_lost(
    operator: Operator, broker: Kafka, cluster: Cluster, namespace: str
) -> None:
    desk = Desk(cluster, namespace)
    port = free_port()
    with metrics_server_of(cluster, namespace, f"http://{NODE_IP}:{port}"):
        more = ["--metrics-port", str(port), "--scaling-ease-seconds", str(EASE_SECONDS)]
        operator.start("one", *more, *with_metrics_server(namespace))
        refused = desk.kubectl("apply", "-f", "-", given=wanted(broker, PARTITIONS + 1), check=False)
        assert "can't share bus.partitions 4" in refused
        desk.kubectl("apply", "-f", "-", given=wanted(broker, MOST))
        desk.until("Ready")
        assert desk.get("hpa", WORKLOAD)["spec"]["maxReplicas"] == MOST
        patch = json.dumps({"spec": {"behavior": {"scaleDown": QUICK}}})
        desk.kubectl("patch", "hpa", WORKLOAD, "--type=merge", "-p", patch)

        def pods() -> int:
            return desk.get("statefulset", WORKLOAD)["spec"]["replicas"]

        with probing(cluster, namespace, accounts=ACCOUNTS, orders_per_second=10.0) as prober:
            load = Load(cluster, namespace, senders=12, pause_seconds=lambda: 0.1, accounts=ACCOUNTS, batch=10)
            try:
                wait_for("pods are added under load", lambda: pods() > 1, SCALE_SECONDS_MAX, LOOK_SECONDS)
                wait_for("each has partitions of its own", lambda: _shared(partitions_of(desk)), SCALE_SECONDS_MAX)
                wait_for(
                    "the status says why", lambda: "replicas are needed (D)" in desk.kubectl("describe", "ts", "desk")
                )
                print(partitions_of(desk), *(desk.condition(each)["message"] for each in ("SLOMet", "ScalingActive")))
            finally:
                load.close()
            wait_for("they go when the load has gone", lambda: pods() == 1, 2 * SCALE_SECONDS_MAX, LOOK_SECONDS)
            wait_for("one has all partitions again", lambda: partitions_of(desk) == [list(range(PARTITIONS))])
            prober.until_acknowledged(20)
        print(prober.account())


def _shared(owned: list[list[int]]) -> bool:
    """Several have some, and together all, each once."""
    return len([each for each in owned if each]) > 1 and sorted(itertools.chain.from_iterable(owned)) == list(
        range(PARTITIONS)
    )
