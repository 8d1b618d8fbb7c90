"""The number of replicas that an objective needs, from a service's own metrics to its pods, on a real cluster."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.beside import Operator
from e2e.cluster import Cluster, wait_for
from e2e.scaling import (
    RELEASE,
    SERVER,
    Load,
    Measuring,
    Source,
    metrics_server_of,
    objects_of,
    values_of,
    with_metrics_server,
)

from trade2026.local.cluster.place import NODE_IP
from trade2026_operator.helm.releases import REPLICAS_METRIC
from trade2026_operator.slo.external_metrics import API_SERVICE, ROOT


class Scaling:
    """A metrics server, an operator that offers it, and a release."""

    def __init__(self, cluster: Cluster, namespace: str, source: Source) -> None:
        self.cluster, self.namespace, self.source = cluster, namespace, source

    def kubectl(self, *words: str, given: Any = None, check: bool = True) -> str:
        return self.cluster.kubectl(*words, "-n", self.namespace, given=given, check=check)

    def replicas(self) -> int:
        return self.cluster.get("deployment", RELEASE, "-n", self.namespace)["spec"]["replicas"]

    def ready(self) -> int:
        found = self.cluster.get("deployment", RELEASE, "-n", self.namespace)
        return found.get("status", {}).get("readyReplicas", 0)

    def heard(self) -> str:
        """What the autoscaler says of its metric: True, or why not."""
        conditions = self.cluster.get("hpa", RELEASE, "-n", self.namespace).get("status", {}).get("conditions", [])
        found = next((each for each in conditions if each["type"] == "ScalingActive"), {"status": "", "reason": ""})
        return found["status"] if found["status"] != "False" else found["reason"]

    def offered(self) -> bool:
        return API_SERVICE in self.cluster.kubectl("get", "apiservices", "-o", "name")


@pytest.fixture
def scaling(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[Scaling]:
    source = Source(NODE_IP)
    made = Scaling(cluster, namespace, source)
    operator = Operator(cluster, namespace, tmp_path / "operator.log")
    with metrics_server_of(cluster, namespace, source.url):
        operator.start("one", *with_metrics_server(namespace))
        try:
            yield made
        finally:
            operator.kill()
            source.close()
    wait_for("the API goes with the release", lambda: not made.offered())


def test_under_load_pods_are_added_unknown_holds_them_and_a_dead_server_keeps_no_namespace(
    scaling: Scaling, cluster: Cluster
) -> None:
    objects = objects_of(cluster, scaling.namespace, values_of(cluster.image, "300m", 4))
    scaling.kubectl("apply", "--server-side", "--field-manager=helm", "-f", "-", given=objects)
    wait_for("external metrics are offered", scaling.offered)
    wait_for("a pod is ready", lambda: scaling.ready() > 0)

    # From the pods' own metrics to the number that the autoscaler reads.
    measuring, load = Measuring(cluster, scaling.namespace, objects, "250ms", 20), None
    scaling.source.text = measuring.text
    try:
        load = Load(cluster, scaling.namespace, senders=4)
        wait_for("the autoscaler hears of it", lambda: scaling.heard() == "True")
        wait_for("pods are added under load", lambda: scaling.replicas() > 1)
        print(measuring.why())
        place = f"{ROOT}/namespaces/{scaling.namespace}/{REPLICAS_METRIC}?labelSelector=stack%3Ddesk,release%3Doms"
        assert json.loads(cluster.kubectl("get", "--raw", place))["items"][0]["value"].endswith("m")
    finally:
        if load is not None:
            load.close()
        measuring.close()

    scaling.source.say(scaling.namespace, 60.0)
    wait_for("maxReplicas cuts, and not the metric", lambda: scaling.replicas() == 4)
    scaling.source.say(scaling.namespace, None, "nobody has looked")
    wait_for("no answer is an error", lambda: scaling.heard() == "FailedGetExternalMetric")
    assert "nobody has looked" in scaling.kubectl("describe", "hpa", RELEASE)
    assert scaling.replicas() == 4, "and changes nothing"

    # Its server dies: replicas stay, and a namespace can be deleted all the same, a moment later.
    scaling.kubectl("scale", "deployment", SERVER, "--replicas=0")
    waiting = cluster.make_namespace()
    cluster.remove_namespace(waiting)
    began = time.monotonic()
    wait_for("the namespace is gone", lambda: waiting not in cluster.kubectl("get", "namespaces", "-o", "name"))
    print(f"a namespace was gone {time.monotonic() - began:.1f} s after the server had died")
    assert scaling.replicas() == 4
    scaling.source.say(scaling.namespace, 4.0)
    scaling.kubectl("scale", "deployment", SERVER, "--replicas=1")
    wait_for("it is offered again", scaling.offered)
    wait_for("and heard", lambda: scaling.heard() == "True")
