"""What the chart of a service makes of values: properties of every object, whatever the stack."""

import copy
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.unit.operator.helm.conftest import CHARTS, stack_and_plan
from tests.unit.operator.helm.test_releases import KAFKA

from trade2026.kit.process import DRAIN_SECONDS_MAX
from trade2026_operator.helm.charts import Chart
from trade2026_operator.helm.manifests import Manifest, is_kept
from trade2026_operator.helm.releases import Cluster, HelmRelease, releases
from trade2026_operator.helm.render import Capabilities, Remembering, RenderError

SCALED = {"oms": {"replicas": {"min": 2, "max": 6}}}
SHAPES: dict[str, tuple[str, dict[str, Any], Cluster]] = {
    "compact": ("quickstart", {}, Cluster()),
    "ephemeral": ("quickstart", {}, Cluster(ephemeral=True, env_secrets=("a",), files_secret="b", pull_secrets=("c",))),
    "spread": ("kafka", {"bus": KAFKA, "placement": "spread", "services": SCALED}, Cluster()),
    "grouped": ("kafka", {"bus": KAFKA, "placement": "grouped"}, Cluster()),
}


def planned(shape: str) -> tuple[HelmRelease, ...]:
    manifest, spec, cluster = SHAPES[shape]
    return releases(*stack_and_plan(manifest, **spec), cluster)


def rendered(renderer: Remembering, chart: Chart, release: HelmRelease, **changes: Any) -> list[Manifest]:
    return renderer.render(chart, release.name, "trading", release.values | changes, Capabilities()).objects


def kinds(objects: list[Manifest], kind: str) -> list[Manifest]:
    return [each for each in objects if each["kind"] == kind]


def workload(objects: list[Manifest]) -> Manifest:
    (found,) = [each for each in objects if each["kind"] in ("StatefulSet", "Deployment")]
    return found


def pod(objects: list[Manifest]) -> Manifest:
    return workload(objects)["spec"]["template"]


@pytest.fixture(params=SHAPES)
def shape(request: pytest.FixtureRequest, renderer: Remembering, service_chart: Chart) -> list[list[Manifest]]:
    """The objects of each release of a stack."""
    return [rendered(renderer, service_chart, release) for release in planned(request.param)]


def test_every_pod_is_restricted(shape: list[list[Manifest]]) -> None:
    for objects in shape:
        spec = pod(objects)["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == 65532
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for volume in spec["volumes"]:
            assert set(volume) - {"name"} <= {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
        (account,) = kinds(objects, "ServiceAccount")
        assert account["automountServiceAccountToken"] is False


def test_every_object_has_the_labels_of_the_convention(shape: list[list[Manifest]]) -> None:
    for objects in shape:
        for each in objects:
            labels = each["metadata"]["labels"]
            assert labels["app.kubernetes.io/part-of"] == "trade2026"
            assert labels["app.kubernetes.io/managed-by"] == "Helm"
            assert {"name", "instance", "component", "version"} <= {name.rpartition("/")[2] for name in labels}
            assert labels["trade2026.io/stack"] == "quickstart"


def test_nothing_in_a_pod_says_which_version_of_the_chart_made_it(shape: list[list[Manifest]]) -> None:
    for objects in shape:
        told = json.dumps(pod(objects)["metadata"])
        assert "helm.sh/chart" not in told and "app.kubernetes.io/version" not in told


def test_selectors_find_the_pods_of_their_release_and_those_of_no_other(shape: list[list[Manifest]]) -> None:
    pods = [pod(objects)["metadata"]["labels"].items() for objects in shape]
    for number, objects in enumerate(shape):
        selectors = [each["spec"]["selector"] for each in kinds(objects, "Service")]
        selectors += [each["spec"]["podSelector"]["matchLabels"] for each in kinds(objects, "NetworkPolicy")]
        for kind in ("StatefulSet", "Deployment", "PodDisruptionBudget"):
            selectors += [each["spec"]["selector"]["matchLabels"] for each in kinds(objects, kind)]
        for selector in selectors:
            assert [n for n, labels in enumerate(pods) if selector.items() <= labels] == [number]


def test_every_service_leads_to_a_port_that_a_container_has(shape: list[list[Manifest]]) -> None:
    for objects in shape:
        open_ports = {p["containerPort"] for each in pod(objects)["spec"]["containers"] for p in each["ports"]}
        services = kinds(objects, "Service")
        assert {p["targetPort"] for each in services for p in each["spec"]["ports"]} == open_ports
        if workload(objects)["kind"] == "StatefulSet":
            assert workload(objects)["spec"]["serviceName"] in [each["metadata"]["name"] for each in services]


def test_no_two_releases_of_a_stack_make_the_same_object(shape: list[list[Manifest]]) -> None:
    names = [(each["kind"], each["metadata"]["name"]) for objects in shape for each in objects]
    assert len(names) == len(set(names))


def test_probes_ask_for_the_whole_process_and_liveness_for_the_loop(shape: list[list[Manifest]]) -> None:
    for objects in shape:
        for container in pod(objects)["spec"]["containers"]:
            asked = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")}
            assert [asked[kind]["path"] for kind in asked] == ["/startupz?of=process", "/readyz?of=process", "/livez"]
            assert {each["port"] for each in asked.values()} <= {port["containerPort"] for port in container["ports"]}


def test_a_pod_has_time_to_drain(shape: list[list[Manifest]]) -> None:
    for objects in shape:
        spec = pod(objects)["spec"]
        for container in spec["containers"]:
            waits = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            assert waits + DRAIN_SECONDS_MAX + 1 < spec["terminationGracePeriodSeconds"]


def test_replicas_are_replaced_one_at_a_time_and_none_is_there_beyond_the_count(
    shape: list[list[Manifest]], renderer: Remembering, service_chart: Chart
) -> None:
    for objects in shape:
        spec = workload(objects)["spec"]
        assert spec["updateStrategy"] == {"type": "RollingUpdate"}, "of a StatefulSet: one, from the last to the first"
        assert spec["podManagementPolicy"] == "Parallel", "one that fails keeps nobody from being taken back"
    (release,) = planned("ephemeral")
    alone = rendered(renderer, service_chart, release, kind="Deployment", peers="services")
    assert workload(alone)["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


def test_processes_read_the_settings_as_the_planner_wrote_them(renderer: Remembering, service_chart: Chart) -> None:
    for release in planned("compact"):
        (config,) = kinds(rendered(renderer, service_chart, release), "ConfigMap")
        for container in release.values["containers"]:
            assert config["data"][f"{container['name']}.json"] == container["settings"]


@pytest.mark.parametrize(
    ("name", "value", "starts"),
    [("default_account", "alpha", True), ("allowed_versions", ["0.0.1"], False), ("config_hash", "ab", False)],
)
def test_a_container_starts_again_when_its_settings_change_but_not_for_the_versions_that_are_allowed(
    renderer: Remembering, service_chart: Chart, name: str, value: Any, starts: bool
) -> None:
    release, _ = planned("compact")
    changed = copy.deepcopy(release.values["containers"])
    for each in changed:
        settings = {**json.loads(each["settings"]), name: value}
        each["settings"] = json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    before, after = (
        pod(rendered(renderer, service_chart, release, **values))["metadata"]["annotations"]
        for values in ({}, {"containers": changed})
    )
    assert before.keys() == after.keys() and len(before) >= len(changed)
    for each in changed:
        key = f"checksum/settings-{each['name']}"
        assert (before[key] != after[key]) is starts


def test_one_pod_with_everything_finds_its_peers_beside_it_and_never_runs_twice(
    renderer: Remembering, service_chart: Chart
) -> None:
    release, _ = planned("compact")
    objects = rendered(renderer, service_chart, release)
    assert workload(objects)["kind"] == "StatefulSet" and workload(objects)["spec"]["replicas"] == 1
    for container in pod(objects)["spec"]["containers"]:
        assert not any(each.startswith("--service-host") for each in container["args"])
    assert all(each["spec"]["publishNotReadyAddresses"] for each in kinds(objects, "Service"))


def test_in_a_spread_stack_orders_go_to_who_is_ready_and_kills_to_all(
    renderer: Remembering, service_chart: Chart
) -> None:
    release = next(each for each in planned("spread") if each.component == "oms")
    objects = rendered(renderer, service_chart, release)
    services = {each["metadata"]["name"]: each["spec"] for each in kinds(objects, "Service")}
    assert "publishNotReadyAddresses" not in services["quickstart-oms"]
    everyone = services["quickstart-oms-pods"]
    assert everyone["publishNotReadyAddresses"] and everyone["clusterIP"] == "None"
    (container,) = pod(objects)["spec"]["containers"]
    assert "--service-host=quickstart-{service}" in container["args"] and "--replica=$(POD_INDEX)" in container["args"]
    (namespace,) = [each for each in container["env"] if each["name"] == "POD_NAMESPACE"]
    assert namespace["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.namespace"}}


def test_replicas_are_the_autoscalers_alone_where_there_is_one(renderer: Remembering, service_chart: Chart) -> None:
    for release in planned("spread"):
        objects = rendered(renderer, service_chart, release)
        scalers = kinds(objects, "HorizontalPodAutoscaler")
        assert ("replicas" in workload(objects)["spec"]) != bool(scalers)
        for scaler in scalers:
            target = scaler["spec"]["scaleTargetRef"]
            assert (target["kind"], target["name"]) == (workload(objects)["kind"], release.name)
            assert scaler["spec"]["metrics"][0]["external"]["target"] == {"type": "AverageValue", "averageValue": "1"}
    assert [each.component for each in planned("spread") if "autoscaling" in each.values] == ["oms"]


def test_what_is_not_named_may_neither_come_nor_go(shape: list[list[Manifest]]) -> None:
    for objects in shape:
        (policy,) = kinds(objects, "NetworkPolicy")
        spec = policy["spec"]
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        assert all(rule.get("from") and rule.get("ports") for rule in spec["ingress"])
        assert all(rule.get("to") or rule.get("ports") for rule in spec["egress"])


def test_data_stays_when_a_release_goes(renderer: Remembering, service_chart: Chart) -> None:
    release, _ = planned("compact")
    (claim,) = kinds(rendered(renderer, service_chart, release, storage={}), "PersistentVolumeClaim")
    assert claim["metadata"]["name"] == "quickstart-state" and is_kept(claim)
    assert not kinds(rendered(renderer, service_chart, release), "PersistentVolumeClaim")


def test_a_deployment_that_has_a_volume_never_has_two_pods_on_it(renderer: Remembering, service_chart: Chart) -> None:
    release = next(each for each in planned("spread") if each.component == "risk")
    made = workload(rendered(renderer, service_chart, release, kind="Deployment"))
    assert made["spec"]["strategy"] == {"type": "Recreate"}
    assert not any("--replica" in each for each in made["spec"]["template"]["spec"]["containers"][0]["args"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"replicas": 2}, "peers: local is one pod"),
        ({"stack": "other"}, "are of the stack quickstart, not other"),
        ({"keysSecret": ""}, "keysSecret"),
        ({"kind": "DaemonSet"}, "kind"),
        ({"replica": 2}, "replica"),
        ({"terminationGracePeriodSeconds": 5}, "terminationGracePeriodSeconds"),
        ({"containers": [{"name": "oms", "settings": {"stack": "quickstart"}, "ports": []}]}, "settings"),
        ({"containers": [{"name": "a", "settings": "{}}", "ports": [{"name": "oms", "port": 1}]}]}, "no JSON document"),
        (
            {
                "containers": [
                    {"name": name, "settings": '{"stack": "quickstart"}', "ports": [{"name": name, "port": 1}]}
                    for name in ("a", "b")
                ]
            },
            "port 1 is both that of a and of b",
        ),
    ],
)
def test_wrong_values_are_refused_with_the_reason(
    renderer: Remembering, service_chart: Chart, changes: dict[str, Any], said: str
) -> None:
    release, _ = planned("compact")
    with pytest.raises(RenderError, match=said):
        rendered(renderer, service_chart, release, **changes)


def test_helm_finds_nothing_to_blame(helm: Path, tmp_path: Path) -> None:
    release, _ = planned("compact")
    values = tmp_path / "values.json"
    values.write_text(json.dumps(release.values))
    done = subprocess.run(
        [helm, "lint", "--strict", CHARTS / "trade2026-service", "--values", values], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
