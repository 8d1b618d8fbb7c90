"""A stack scaled by KEDA itself: it takes the stack over, asks our metrics server by TLS, and holds while it is not answered.

KEDA comes into a cluster in which the operator serves external metrics, as its own manifests install it, with its webhook.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.cluster import Cluster, wait_for
from e2e.desk import Desk
from e2e.installed import RELEASE, Installed, forget, until_led
from e2e.scaled_stack import (
    ACCOUNTS,
    EASE_SECONDS,
    LOOK_SECONDS,
    MOST,
    QUICK,
    SCALE_SECONDS_MAX,
    WORKLOAD,
    wanted,
)
from e2e.scaling import Load
from e2e.servers import broker_of
from e2e.soak import soak

from e2e import keda
from trade2026.local.infra.kafka import Kafka
from trade2026_operator.helm.releases import REPLICAS_METRIC
from trade2026_operator.slo.external_metrics import API_SERVICE, ROOT

HELD_SECONDS = 60.0
"""For so long nobody is sent home, who would be within half of it."""
SERVER = f"{RELEASE}-metrics"
HPA = "horizontalpodautoscaler.autoscaling"


@pytest.fixture
def broker(cluster: Cluster, tmp_path: Path) -> Iterator[Kafka]:
    yield from broker_of(cluster, tmp_path)


class Scaled:
    """A stack, as a person sees how it is scaled."""

    def __init__(self, installed: Installed, desk: Desk) -> None:
        self.cluster, self.installed, self.desk = installed.cluster, installed, desk

    def install(self, *words: str) -> None:
        """The operator, or another of its versions; a new one leads then."""
        self.installed.install("--set", f"extraArgs={{--scaling-ease-seconds={EASE_SECONDS}}}", *words)
        until_led(self.installed)

    def replicas(self) -> int:
        return self.desk.get("statefulset", WORKLOAD)["spec"]["replicas"]

    def autoscalers(self) -> list[str]:
        return self.desk.kubectl("get", "scaledobject,hpa", "-o", "name").split()

    def says(self, kind: str) -> tuple[str, str]:
        """Status and reason of a condition of the ScaledObject."""
        conditions = self.desk.get("scaledobject", WORKLOAD).get("status", {}).get("conditions", [])
        return next(((each["status"], each.get("reason", "")) for each in conditions if each["type"] == kind), ("", ""))

    def told_by_keda(self) -> float:
        """What the autoscaler is told."""
        selector = f"scaledobject.keda.sh%2Fname%3D{WORKLOAD}"
        path = f"{ROOT}/namespaces/{self.desk.namespace}/s0-{REPLICAS_METRIC}?labelSelector={selector}"
        told = self.cluster.kubectl("get", "--raw", path, check=False)
        (item,) = json.loads(told)["items"] if told.startswith("{") else [{"value": "-1"}]
        value = item["value"]
        return float(value[:-1]) / 1000 if value.endswith("m") else float(value)

    def told_by_operator(self) -> float:
        """What the leader has found out."""
        pod = f"/api/v1/namespaces/{self.installed.namespace}/pods/{self.installed.leader()}:8080/proxy/metrics"
        lines = self.cluster.kubectl("get", "--raw", pod, check=False).splitlines()
        ours = [line for line in lines if line.startswith(f"{REPLICAS_METRIC}{{") and self.desk.namespace in line]
        return float(ours[0].split()[-1]) if ours else 0.0

    def show(self, what: str) -> None:
        print(f"── {what}\n{self.desk.kubectl('get', 'scaledobject,hpa')}")
        print(*(f"{each}: {self.desk.condition(each)['message']}" for each in ("SLOMet", "ScalingActive")), sep="\n")


@pytest.fixture
def scaled(cluster: Cluster, namespace: str, broker: Kafka) -> Iterator[Scaled]:
    """The operator serves external metrics, and has a stack that scales."""
    installed = Installed(cluster, cluster.make_namespace())
    made = Scaled(installed, Desk(cluster, namespace))
    try:
        made.install()
        made.desk.kubectl("apply", "-f", "-", given=wanted(broker, MOST))
        made.desk.until("Ready")
        wait_for("external metrics are offered", lambda: API_SERVICE in cluster.kubectl("get", "apiservices"))
        yield made
    finally:
        forget(made.desk)
        made.desk.kubectl("delete", "ts", "desk", "--ignore-not-found", "--timeout=60s", check=False)
        cluster.helm("uninstall", RELEASE, "--namespace", installed.namespace, check=False)
        cluster.remove_namespace(installed.namespace)
        keda.uninstall(cluster)


@soak
@pytest.mark.timeout(1_800)
def test_keda_takes_a_stack_over_scales_it_by_our_number_holds_without_it_and_is_left_with_nothing(
    scaled: Scaled, cluster: Cluster
) -> None:
    desk = scaled.desk
    keda.install(cluster)
    wait_for("the status says whose", lambda: desk.condition("ScalingActive").get("reason") == "ServedByOthers")
    assert "keda/keda-metrics-apiserver" in desk.condition("ScalingActive")["message"]
    desk.kubectl("scale", "statefulset", WORKLOAD, "--replicas=2")

    _taken_over(scaled)
    assert scaled.replicas() == 2, "it keeps what it has"
    wait_for("KEDA tells our number", lambda: _is_about(scaled.told_by_keda(), scaled.told_by_operator()))
    quick = {"spec": {"advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": QUICK}}}}}
    desk.kubectl("patch", "scaledobject", WORKLOAD, "--type=merge", "-p", json.dumps(quick))

    load = Load(cluster, desk.namespace, senders=12, pause_seconds=lambda: 0.1, accounts=ACCOUNTS, batch=10)
    try:
        wait_for("pods are added under load", lambda: scaled.replicas() == MOST, SCALE_SECONDS_MAX, LOOK_SECONDS)
        wait_for("the status is heard", lambda: desk.condition("ScalingActive").get("reason") == "Measured")
        scaled.show("under load")
    finally:
        load.close()

    _held_without_an_answer(scaled)
    wait_for("they go", lambda: scaled.replicas() == 1, 2 * SCALE_SECONDS_MAX, LOOK_SECONDS)
    scaled.show("the load has gone")
    events = desk.kubectl("get", "events")
    assert "DriftCorrected" not in events and "ObjectRefused" not in events, "neither fights with the other"
    _there_and_back(scaled)
    _left_with_nothing(scaled)


def _taken_over(scaled: Scaled) -> None:
    scaled.install("--set", "keda.enabled=true", "--set", f"keda.namespace={keda.NAMESPACE}")
    names = [f"scaledobject.keda.sh/{WORKLOAD}", f"{HPA}/keda-hpa-{WORKLOAD}"]
    wait_for("one autoscaler in place of the other", lambda: scaled.autoscalers() == names)
    wait_for("KEDA scales it", lambda: scaled.says("Ready")[0] == "True")
    wait_for("KEDA serves the API as before", lambda: keda.is_serving(scaled.cluster))


def _held_without_an_answer(scaled: Scaled) -> None:
    """Nobody tells KEDA how many are needed, when fewer are."""
    desk, namespace = scaled.desk, scaled.installed.namespace
    scaled.cluster.kubectl("scale", "deployment", SERVER, "-n", namespace, "--replicas=0")
    began = time.monotonic()
    wait_for("KEDA says so", lambda: scaled.says("Ready") == ("False", "TriggerError"))
    wait_for("the status says so", lambda: desk.condition("ScalingActive").get("reason") == "AutoscalerFails")
    wait_for("a while", lambda: time.monotonic() - began > HELD_SECONDS)
    assert scaled.replicas() == MOST
    scaled.show("nobody answers")
    scaled.cluster.kubectl("scale", "deployment", SERVER, "-n", namespace, "--replicas=2")
    wait_for("KEDA is answered again", lambda: scaled.says("Ready")[0] == "True")


def _there_and_back(scaled: Scaled) -> None:
    """An operator that is not KEDA's any more knows of no ScaledObject: who changes it over deletes them."""
    scaled.install("--set", "keda.enabled=false")
    wait_for("it has an autoscaler of its own", lambda: f"{HPA}/{WORKLOAD}" in scaled.autoscalers())
    scaled.cluster.kubectl("delete", "scaledobjects", "-A", "-l", "trade2026.io/stack")
    wait_for("and no other", lambda: scaled.autoscalers() == [f"{HPA}/{WORKLOAD}"])
    _taken_over(scaled)


def _left_with_nothing(scaled: Scaled) -> None:
    """The stack goes, then the operator; KEDA stays and serves."""
    cluster, name = scaled.cluster, f"{scaled.installed.namespace}-{RELEASE}"
    scaled.desk.kubectl("delete", "ts", "desk", "--timeout=120s")
    wait_for("nothing scales", lambda: scaled.autoscalers() == [])
    scaled.installed.uninstall()

    kinds = "clustertriggerauthentications,configmaps,clusterroles,clusterrolebindings"

    def is_left() -> bool:
        found = cluster.kubectl("get", kinds, "-A", "-o", "name")
        return name in found or f"{SERVER}-ca" in found

    wait_for("nothing is left of the operator", lambda: not is_left())
    assert "ownerReferences" not in cluster.get("apiservice", API_SERVICE)["metadata"]
    assert keda.is_serving(cluster)


def _is_about(one: float, other: float) -> bool:
    return other > 0 and abs(one - other) <= 0.002
