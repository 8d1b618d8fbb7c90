"""The metrics server of the operator's chart: apart from the operator, asked by the API server, without rights of its own."""

from typing import Any

import pytest
from tests.unit.operator.helm.conftest import CHARTS

from trade2026_operator.helm.charts import read_chart
from trade2026_operator.helm.manifests import Manifest
from trade2026_operator.helm.render import Capabilities, Remembering, RenderError


@pytest.fixture
def rendered(renderer: Remembering) -> Any:
    chart = read_chart(CHARTS / "trade2026-operator")

    def render(**values: Any) -> dict[tuple[str, str], Manifest]:
        found = renderer.render(chart, "trade2026-operator", "ops", values, Capabilities()).objects
        return {(each["kind"], each["metadata"]["name"]): each for each in found}

    return render


NAME = "trade2026-operator-metrics"


def test_it_is_a_deployment_of_its_own_whose_pods_no_other_selector_finds(rendered: Any) -> None:
    objects = rendered()
    pods = objects["Deployment", NAME]["spec"]["template"]
    labels = pods["metadata"]["labels"]
    operator = objects["Deployment", "trade2026-operator"]["spec"]["selector"]["matchLabels"]
    assert not operator.items() <= labels.items()
    assert objects["Service", NAME]["spec"]["selector"].items() <= labels.items()
    (container,) = pods["spec"]["containers"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "--operators=http://trade2026-operator-pods.ops.svc:8080" in container["args"]
    assert objects["Service", "trade2026-operator-pods"]["spec"]["clusterIP"] == "None"


def test_it_reads_by_whom_it_is_asked_and_may_do_nothing_else(rendered: Any) -> None:
    objects = rendered()
    about = [each for each in objects.values() if any(s.get("name") == NAME for s in each.get("subjects") or [])]
    (binding,) = about
    assert (binding["metadata"]["namespace"], binding["roleRef"]["name"]) == (
        "kube-system",
        "extension-apiserver-authentication-reader",
    )


def test_the_operator_may_offer_this_one_api_and_withdraw_it(rendered: Any) -> None:
    role = rendered()["ClusterRole", "ops-trade2026-operator"]
    rules = [rule for rule in role["rules"] if "apiservices" in rule["resources"]]
    harmful = [rule for rule in rules if {"patch", "delete"} & set(rule["verbs"])]
    assert [rule["resourceNames"] for rule in harmful] == [["v1beta1.external.metrics.k8s.io"]]
    (owner,) = [rule for rule in role["rules"] if "clusterroles" in rule["resources"]]
    assert (owner["resourceNames"], owner["verbs"]) == (["ops-trade2026-operator"], ["get"])


@pytest.mark.parametrize(
    "values", [{"metricsServer": {"enabled": False}}, {"rbac": {"scope": "namespace", "aggregateRoles": False}}]
)
def test_without_it_or_without_rights_of_the_cluster_there_is_nothing_of_it(rendered: Any, values: Any) -> None:
    objects = rendered(**values)
    assert not [name for _, name in objects if "metrics" in name or name.endswith("-pods")]
    args = objects["Deployment", "trade2026-operator"]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert not [each for each in args if "metrics-server" in each]
    roles = [each for each in objects.values() if each["kind"] in ("Role", "ClusterRole")]
    assert "apiservices" not in [resource for role in roles for rule in role["rules"] for resource in rule["resources"]]


def test_keda_is_answered_on_a_port_of_its_own_from_its_namespace_alone(rendered: Any) -> None:
    objects = rendered(keda={"enabled": True, "namespace": "scaling"})
    (port,) = [each for each in objects["Service", NAME]["spec"]["ports"] if each["name"] == "scaler"]
    (container,) = objects["Deployment", NAME]["spec"]["template"]["spec"]["containers"]
    assert f"--scaler-port={port['port']}" in container["args"]
    (rule,) = [
        each for each in objects["NetworkPolicy", NAME]["spec"]["ingress"] if each["ports"][0]["port"] == port["port"]
    ]
    (peer,) = rule["from"]
    assert peer == {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "scaling"}}}

    known_by = objects["ClusterTriggerAuthentication", "ops-trade2026-operator-scaler"]
    assert known_by["spec"]["configMapTargetRef"][0] == {"parameter": "caCert", "name": f"{NAME}-ca", "key": "ca.crt"}
    args = objects["Deployment", "trade2026-operator"]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert {f"--keda-scaler={NAME}.ops.svc:{port['port']}", "--keda-namespace=scaling"} <= set(args)
    assert f"--keda-authentication={known_by['metadata']['name']}" in args
    rules = objects["ClusterRole", "ops-trade2026-operator"]["rules"]
    assert [rule["resources"] for rule in rules if rule["apiGroups"] == ["keda.sh"]] == [["scaledobjects"]]


def test_keda_has_nobody_to_ask_without_a_metrics_server(rendered: Any) -> None:
    with pytest.raises(RenderError, match="it is the metrics server that KEDA asks"):
        rendered(keda={"enabled": True}, metricsServer={"enabled": False})


def scaled(**autoscaling: Any) -> dict[str, Any]:
    """Values of a service with an autoscaler."""
    container = {"name": "oms", "settings": '{"stack":"desk"}', "ports": [{"name": "oms", "port": 8099}]}
    metric = {"name": "trade2026_required_replicas", "labels": {"stack": "desk", "release": "oms"}, "target": "1"}
    bounds = {"enabled": True, "minReplicas": 1, "maxReplicas": 6, "cpuUtilization": 70, "metric": metric}
    return {
        "stack": "desk", "component": "oms", "keysSecret": "keys", "containers": [container],
        "autoscaling": {**bounds, **autoscaling},
    }  # fmt: skip


def test_where_keda_scales_it_there_is_a_scaled_object_and_no_other_autoscaler(renderer: Remembering) -> None:
    chart, keda = read_chart(CHARTS / "trade2026-service"), {"scalerAddress": "metrics.ops.svc:9090"}
    values = scaled(keda={**keda, "authentication": "ops-scaler"})
    objects = renderer.render(chart, "desk-oms", "t", values, Capabilities("1.37.2")).objects
    assert not [each for each in objects if each["kind"] == "HorizontalPodAutoscaler"]
    (found,) = [each["spec"] for each in objects if each["kind"] == "ScaledObject"]
    (workload,) = [each for each in objects if each["kind"] == "StatefulSet"]
    assert found["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "desk-oms"}
    assert "replicas" not in workload["spec"]
    assert (found["minReplicaCount"], found["maxReplicaCount"]) == (1, 6)
    assert "pollingInterval" not in found, "KEDA warns of it where nothing is scaled to none"
    behavior = found["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert (behavior["scaleUp"]["tolerance"], behavior["scaleDown"]["stabilizationWindowSeconds"]) == ("0", 120)
    external, cpu = found["triggers"]
    named = {"stack": "desk", "release": "oms"}
    assert external["metadata"] == {"scalerAddress": keda["scalerAddress"], "enableTLS": "true", **named}
    assert external["authenticationRef"] == {"kind": "ClusterTriggerAuthentication", "name": "ops-scaler"}
    assert cpu == {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "70"}}
    more = scaled(keda=keda, metrics=[{"type": "Resource"}])
    with pytest.raises(RenderError, match="in the words of autoscaling/v2"):
        renderer.render(chart, "desk-oms", "t", more, Capabilities("1.37.2"))


def test_an_autoscaler_ignores_no_tenth_where_the_server_knows_how(renderer: Remembering) -> None:
    chart = read_chart(CHARTS / "trade2026-service")
    values = scaled()
    for version, knows in (("1.37.2", True), ("1.34.0", False)):
        objects = renderer.render(chart, "desk-oms", "t", values, Capabilities(version)).objects
        (found,) = [each for each in objects if each["kind"] == "HorizontalPodAutoscaler"]
        up, down = found["spec"]["behavior"]["scaleUp"], found["spec"]["behavior"]["scaleDown"]
        assert (up.get("tolerance") == "0") is knows
        assert (up["stabilizationWindowSeconds"], down["stabilizationWindowSeconds"]) == (0, 120)
        external, cpu = found["spec"]["metrics"]
        assert external["external"]["target"] == {"type": "AverageValue", "averageValue": "1"}
        assert cpu["resource"]["target"]["averageUtilization"] == 70
        (workload,) = [each for each in objects if each["kind"] == "StatefulSet"]
        assert "replicas" not in workload["spec"]
