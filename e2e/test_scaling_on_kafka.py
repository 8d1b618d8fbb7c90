"""The order service of a stack, scaled by the objective in its manifest: from `kubectl apply` to pods that share partitions."""

import base64
import contextlib
import itertools
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.beside import Operator
from e2e.cluster import Cluster, wait_for
from e2e.desk import Desk
from e2e.prober import probing
from e2e.prometheus_adapter import Prometheus
from e2e.scaled_stack import (
    ACCOUNTS,
    EASE_SECONDS,
    LOOK_SECONDS,
    MOST,
    PARTITIONS,
    QUICK,
    SCALE_SECONDS_MAX,
    WORKLOAD,
    wanted,
)
from e2e.scaling import PORT, Load, metrics_server_of, with_metrics_server
from e2e.servers import broker_of
from e2e.soak import soak

from trade2026.local.cluster.place import NODE_IP
from trade2026.local.infra.component import free_port
from trade2026.local.infra.kafka import Kafka
from trade2026_operator.helm.releases import keys_name
from trade2026_operator.reconcile.objects import condition_of
from trade2026_operator.slo.external_metrics import API_SERVICE


@pytest.fixture
def broker(cluster: Cluster, tmp_path: Path) -> Iterator[Kafka]:
    yield from broker_of(cluster, tmp_path)


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


class Scaled:
    """The stack, from `kubectl apply` on; its operator answers Prometheus at `port`."""

    def __init__(self, operator: Operator, broker: Kafka) -> None:
        self._operator, self._broker, self._cluster = operator, broker, operator.cluster
        self.namespace = operator.namespace
        self.desk, self.port = Desk(operator.cluster, operator.namespace), free_port()

    def begin(self) -> None:
        """Ready, with an order service that may be made fewer soon."""
        more = ["--metrics-port", str(self.port), "--scaling-ease-seconds", str(EASE_SECONDS)]
        self._operator.start("one", *more, *with_metrics_server(self.namespace))
        self.desk.kubectl("apply", "-f", "-", given=wanted(self._broker, MOST))
        self.desk.until("Ready")
        patch = json.dumps({"spec": {"behavior": {"scaleDown": QUICK}}})
        self.desk.kubectl("patch", "hpa", WORKLOAD, "--type=merge", "-p", patch)

    def pods(self) -> int:
        """That are asked for."""
        return self.desk.get("statefulset", WORKLOAD)["spec"]["replicas"]

    def heard(self) -> bool:
        """Whether the autoscaler hears the number, as it says."""
        said = condition_of(self.desk.get("hpa", WORKLOAD), "ScalingActive")
        return said is not None and said["status"] == "True"

    @contextlib.contextmanager
    def loaded(self) -> Iterator[None]:
        """More comes than one order service can do."""
        load = Load(self._cluster, self.namespace, senders=12, pause_seconds=lambda: 0.1, accounts=ACCOUNTS, batch=10)
        try:
            yield
        finally:
            load.close()


@pytest.fixture
def scaled(operator: Operator, broker: Kafka) -> Scaled:
    return Scaled(operator, broker)


@soak
@pytest.mark.timeout(1_200)
def test_under_load_the_objective_of_a_stack_brings_pods_that_share_its_partitions_and_nothing_is_lost(
    scaled: Scaled, broker: Kafka, cluster: Cluster, namespace: str
) -> None:
    desk = scaled.desk
    with metrics_server_of(cluster, namespace, f"http://{NODE_IP}:{scaled.port}"):
        refused = desk.kubectl("apply", "-f", "-", given=wanted(broker, PARTITIONS + 1), check=False)
        assert "can't share bus.partitions 4" in refused
        scaled.begin()
        assert desk.get("hpa", WORKLOAD)["spec"]["maxReplicas"] == MOST
        with probing(cluster, namespace, accounts=ACCOUNTS, orders_per_second=4.0) as prober:  # one is enough for them
            with scaled.loaded():
                wait_for("pods are added under load", lambda: scaled.pods() > 1, SCALE_SECONDS_MAX, LOOK_SECONDS)
                wait_for("each has partitions of its own", lambda: _shared(partitions_of(desk)), SCALE_SECONDS_MAX)
                wait_for(
                    "the status says why", lambda: "replicas are needed (D)" in desk.kubectl("describe", "ts", "desk")
                )
                print(partitions_of(desk), *(desk.condition(each)["message"] for each in ("SLOMet", "ScalingActive")))
            wait_for("they go when the load has gone", lambda: scaled.pods() == 1, 2 * SCALE_SECONDS_MAX, LOOK_SECONDS)
            wait_for("one has all partitions again", lambda: partitions_of(desk) == [list(range(PARTITIONS))])
            prober.until_acknowledged(20)
        print(prober.account())


@soak
@pytest.mark.timeout(1_200)
def test_where_prometheus_serves_external_metrics_the_same_number_scales_and_an_unknown_one_holds(
    scaled: Scaled, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    prometheus = Prometheus(cluster, namespace, tmp_path / "prometheus", f"{NODE_IP}:{scaled.port}")
    with prometheus.serving():
        theirs = cluster.get("apiservice", API_SERVICE)["spec"]
        scaled.begin()
        wait_for("whose API it is, is told", lambda: "ServedByOthers" in scaled.desk.kubectl("describe", "ts", "desk"))
        prometheus.start()
        with scaled.loaded():
            wait_for("pods are added under load", lambda: scaled.pods() > 1, SCALE_SECONDS_MAX, LOOK_SECONDS)
            wait_for("the autoscaler is heard", lambda: scaled.desk.condition("ScalingActive")["status"] == "True")
            print(scaled.desk.kubectl("get", "hpa"), scaled.desk.condition("ScalingActive")["message"])
            many = scaled.pods()
            prometheus.stop()
            wait_for("the autoscaler hears no more", lambda: not scaled.heard())
        assert scaled.pods() >= many, "what is not known is not little"
        prometheus.start()
        wait_for("they go when the load has gone", lambda: scaled.pods() == 1, 2 * SCALE_SECONDS_MAX, LOOK_SECONDS)
        assert cluster.get("apiservice", API_SERVICE)["spec"] == theirs, "what others serve is left to them"


def _shared(owned: list[list[int]]) -> bool:
    """Several have some, and together all, each once."""
    return len([each for each in owned if each]) > 1 and sorted(itertools.chain.from_iterable(owned)) == list(
        range(PARTITIONS)
    )
