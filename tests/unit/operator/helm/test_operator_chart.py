"""What the operator's own chart makes: restricted pods, no right that is not used, definitions that stay."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.operator.helm.conftest import CHARTS, ROOT, stack_and_plan

from trade2026_operator.arguments import read
from trade2026_operator.helm.charts import Chart, read_chart
from trade2026_operator.helm.manifests import Manifest, annotations_of, is_kept
from trade2026_operator.helm.releases import releases
from trade2026_operator.helm.render import Capabilities, Remembering, RenderError

VERBS = {"get", "list", "watch", "create", "update", "patch", "delete"}


@pytest.fixture(scope="session")
def operator_chart() -> Chart:
    return read_chart(CHARTS / "trade2026-operator")


@pytest.fixture
def rendered(renderer: Remembering, operator_chart: Chart) -> Any:
    def render(**values: Any) -> list[Manifest]:
        values = {"metricsServer": {"enabled": False}} | values
        return renderer.render(operator_chart, "trade2026-operator", "ops", values, Capabilities()).objects

    return render


def kinds(objects: list[Manifest], *wanted: str) -> list[Manifest]:
    return [each for each in objects if each["kind"] in wanted]


def rules_of(objects: list[Manifest]) -> list[dict[str, Any]]:
    """Of the operator itself, not of those who use it."""
    roles = kinds(objects, "Role", "ClusterRole")
    return [
        rule for role in roles if not role["metadata"]["name"].endswith(("-edit", "-view")) for rule in role["rules"]
    ]


NAMESPACED = {"rbac": {"scope": "namespace", "namespaces": ["desk", "lab"], "aggregateRoles": False}}


def test_two_replicas_share_one_lease_and_their_pods_are_restricted(rendered: Any) -> None:
    (deployment,) = kinds(rendered(), "Deployment")
    assert deployment["spec"]["replicas"] == 2
    spec = deployment["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "--lease=ops/trade2026-operator" in container["args"]
    (lease,) = [each for each in kinds(rendered(), "Role") if each["metadata"]["name"].endswith("-lease")]
    assert lease["rules"][1]["resourceNames"] == ["trade2026-operator"]


@pytest.mark.parametrize("values", [{}, NAMESPACED])
def test_no_right_is_a_wildcard_and_none_makes_rights(rendered: Any, values: dict[str, Any]) -> None:
    for rule in rules_of(rendered(**values)):
        assert set(rule["verbs"]) <= VERBS
        assert "*" not in [*rule["apiGroups"], *rule["resources"]]
        assert not {"rbac.authorization.k8s.io", "authentication.k8s.io"} & set(rule["apiGroups"])
        assert not {"pods/exec", "nodes", "serviceaccounts/token"} & set(rule["resources"])


def test_with_namespaces_nothing_beyond_them_is_asked_for(rendered: Any) -> None:
    objects = rendered(**NAMESPACED, crds={"install": False})
    assert not kinds(objects, "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition")
    places = {each["metadata"].get("namespace") for each in kinds(objects, "Role", "RoleBinding")}
    assert places == {None, "desk", "lab"}
    (deployment,) = kinds(objects, "Deployment")
    args = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    assert [each for each in args if each.startswith("--namespace=")] == ["--namespace=desk", "--namespace=lab"]


def test_without_a_list_the_namespace_of_the_release_is_meant(rendered: Any) -> None:
    objects = rendered(rbac={"scope": "namespace"})
    assert {each["metadata"].get("namespace") for each in kinds(objects, "RoleBinding")} == {None, "ops"}


def test_every_role_is_bound_to_the_operator_and_to_nobody_else(rendered: Any) -> None:
    for objects in (rendered(), rendered(**NAMESPACED)):
        for binding in kinds(objects, "RoleBinding", "ClusterRoleBinding"):
            assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "trade2026-operator", "namespace": "ops"}]
            role = binding["roleRef"]
            assert role["name"] in [each["metadata"]["name"] for each in kinds(objects, role["kind"])]


def test_the_operator_may_make_all_that_the_chart_of_a_service_has(rendered: Any) -> None:
    rules = rules_of(rendered(metricsServer={"enabled": True}, keda={"enabled": True}))
    may = {(group, name): set(rule["verbs"]) for rule in rules for group in rule["apiGroups"]
           for name in rule["resources"]}  # fmt: skip
    templates = "\n".join(path.read_text() for path in (CHARTS / "trade2026-service" / "templates").glob("*.yaml"))
    made = {line.partition(": ")[2] for line in templates.splitlines() if line.startswith("kind: ")}
    made = (made - {"{{ .Values.kind }}"}) | {"StatefulSet", "Deployment"}
    for kind in made:
        plural = f"{kind.lower()[:-1]}ies" if kind.endswith("y") else f"{kind.lower()}s"
        verbs = next((verbs for (_, name), verbs in may.items() if name == plural), set())
        assert verbs >= {"get", "list", "watch", "create", "patch", "delete"}, kind
    assert "keda.sh" not in [group for rule in rules_of(rendered()) for group in rule["apiGroups"]]


def test_definitions_are_those_of_the_tree_and_stay_when_the_operator_goes(rendered: Any) -> None:
    found = kinds(rendered(), "CustomResourceDefinition")
    assert len(found) == len(list((ROOT / "crds").glob("*.yaml"))) > 0
    for crd in found:
        assert is_kept(crd)
        given = yaml.safe_load((ROOT / "crds" / f"{crd['metadata']['name']}.yaml").read_text())
        assert crd["spec"] == given["spec"]


STACKS = {
    "pullSecrets": ["registry"],
    "envSecrets": ["kafka-login", "questdb-login"],
    "filesSecret": "kafka-files",
    "priorityClassName": "desks",
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "desks", "operator": "Exists"}],
}


def test_what_stacks_are_given_by_the_chart_is_in_their_pods(
    rendered: Any, renderer: Remembering, service_chart: Chart
) -> None:
    for told in ({}, STACKS):
        (deployment,) = kinds(rendered(stacks=told), "Deployment")
        (operator,) = deployment["spec"]["template"]["spec"]["containers"]
        cluster = read(operator["args"]).cluster
        whole, *_ = releases(*stack_and_plan(), cluster)
        objects = renderer.render(service_chart, whole.name, "desk", whole.values, Capabilities()).objects
        (workload,) = kinds(objects, "StatefulSet")
        pod = workload["spec"]["template"]["spec"]
        secrets = [{"secretRef": {"name": name}} for name in told.get("envSecrets", ())]
        files = told.get("filesSecret")
        assert [each["secret"]["secretName"] for each in pod["volumes"] if each["name"] == "files"] == [files][
            : len(told)
        ]
        for container in pod["containers"]:
            assert container.get("envFrom", []) == secrets
            assert (container.get("workingDir") == "/etc/trade2026/files") is bool(files)
        assert pod.get("imagePullSecrets", []) == [{"name": name} for name in told.get("pullSecrets", ())]
        for name in ("priorityClassName", "nodeSelector", "tolerations"):
            assert pod.get(name) == told.get(name)


def test_probes_metrics_and_the_monitor_find_their_ports(rendered: Any) -> None:
    objects = rendered(serviceMonitor={"enabled": True, "labels": {"release": "prometheus"}})
    (deployment,) = kinds(objects, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    names = {port["name"] for port in deployment["spec"]["template"]["spec"]["containers"][0]["ports"]}
    (service,) = kinds(objects, "Service")
    assert service["spec"]["selector"].items() <= labels.items()
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= names
    (monitor,) = kinds(objects, "ServiceMonitor")
    assert monitor["spec"]["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert monitor["spec"]["endpoints"][0]["honorLabels"], "else `namespace` of a stack would be that of the operator"
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    (policy,) = kinds(objects, "NetworkPolicy")
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_one_replica_has_no_budget_that_would_keep_a_node_from_draining(rendered: Any) -> None:
    assert kinds(rendered(), "PodDisruptionBudget")
    assert not kinds(rendered(replicas=1), "PodDisruptionBudget")


def test_the_test_of_the_release_is_a_restricted_pod_that_is_no_part_of_it(helm: Path, rendered: Any) -> None:
    command = [helm, "template", "trade2026-operator", CHARTS / "trade2026-operator", "--show-only"]
    done = subprocess.run([*command, "templates/tests/ready.yaml"], capture_output=True, text=True, check=True)
    pod = yaml.safe_load(done.stdout)
    assert annotations_of(pod)["helm.sh/hook"] == "test"
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    assert not kinds(rendered(), "Pod")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rbac": {"scope": "everything"}}, "scope"),
        ({"replicas": 50}, "replicas"),
        ({"image": {"name": "a"}}, "image"),
        ({"serviceMonitor": {"interval": "often"}}, "interval"),
        ({"stacks": {"envSecrets": "kafka-login"}}, "envSecrets"),
        ({"stacks": {"nodeSelector": {"disk": 1}}}, "nodeSelector"),
    ],
)
def test_wrong_values_are_refused(rendered: Any, values: dict[str, Any], said: str) -> None:
    with pytest.raises(RenderError, match=said):
        rendered(**values)


def test_helm_finds_nothing_to_blame(helm: Path) -> None:
    command = [helm, "lint", "--strict", CHARTS / "trade2026-operator"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
