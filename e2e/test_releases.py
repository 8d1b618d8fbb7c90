"""Releases that Python writes, and what a person does to them with Helm; `test_pages_in_cluster` installs one by hand."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from e2e.cluster import Cluster

from trade2026.stack.manifest import load_all
from trade2026.stack.planner import plan
from trade2026_operator.helm.charts import charts_folder, read_chart
from trade2026_operator.helm.manifests import FIELD_MANAGER, owned
from trade2026_operator.helm.records import Record, history, selector, to_secret
from trade2026_operator.helm.releases import Cluster as Given
from trade2026_operator.helm.releases import HelmRelease, releases, state_claim
from trade2026_operator.helm.render import Capabilities, HelmCli, Remembering
from trade2026_operator.helm.revisions import Standing, Wanted, Writes, begun, finished, standing

ROOT = Path(__file__).parent.parent
CHART = charts_folder() / "trade2026-service"
SCALED = "{oms: {replicas: {min: 2, max: 6}}}"
LARGE = "123456789.123456789"
"""An amount that a float can't hold."""


def stack_release(image: str) -> HelmRelease:
    """The quickstart in one pod, with an amount that must not be rounded."""
    repository, _, tag = image.rpartition(":")
    text = (ROOT / "manifests" / "quickstart.yaml").read_text().replace('"5000000000"', f'"{LARGE}"', 1)
    found = load_all(text)
    planned = plan(found.stack)
    (release,) = releases(found.stack, planned, Given(image_repository=repository, pull_policy="Never"))
    release.values["image"]["tag"] = tag
    return release


class Desk:
    """A release as the operator keeps one, in Python: its objects by server-side apply, its record by its own hand."""

    def __init__(self, cluster: Cluster, namespace: str, release: HelmRelease) -> None:
        program = shutil.which("helm", path=cluster.environment()["PATH"])
        assert program is not None, "helm is missing beside kubectl"
        self.cluster, self.namespace, self.release = cluster, namespace, release
        self._renderer, self._chart = Remembering(HelmCli(Path(program))), read_chart(CHART)

    @property
    def records(self) -> list[Record]:
        found = self.cluster.get("secrets", "-n", self.namespace, "-l", selector(self.release.name))
        return history(found["items"])

    def deploy(self, description: str, **changes: Any) -> None:
        """Make a revision."""
        values = self.release.values | changes
        rendered = self._renderer.render(self._chart, self.release.name, self.namespace, values, Capabilities())
        wanted = Wanted(self.release.name, self.namespace, self._chart.copy(), values, rendered.text, description)
        before, now = self.records, datetime.now(UTC)
        pending = begun(before, wanted, now)
        self._write(Writes((pending,)))
        self.apply(owned(rendered.objects, self.release.name, self.namespace), FIELD_MANAGER)
        self._write(finished(before, pending, now))

    def apply(self, objects: list[dict[str, Any]], manager: str) -> None:
        words = ["apply", "--server-side", "--force-conflicts", f"--field-manager={manager}", "-f", "-"]
        self.cluster.kubectl(*words, given=objects)

    def _write(self, writes: Writes) -> None:
        self.apply([to_secret(record, datetime.now(UTC)) for record in writes.written], "trade2026-operator")
        for name in writes.deleted:
            self.cluster.kubectl("delete", "secret", name, "-n", self.namespace)

    def helm(self, *words: str) -> str:
        return self.cluster.helm(*words, "-n", self.namespace)

    def workload(self) -> dict[str, Any]:
        return self.cluster.get("statefulset", self.release.name, "-n", self.namespace, "--show-managed-fields")


@pytest.fixture
def desk(cluster: Cluster, namespace: str) -> Desk:
    """A release without pods: what is asked here is Helm and the API server."""
    release = stack_release(cluster.image)
    release.values["replicas"] = 0
    made = Desk(cluster, namespace, release)
    made.deploy("generation 1")
    return made


def test_helm_lists_and_explains_a_release_that_python_wrote(desk: Desk) -> None:
    (listed,) = json.loads(desk.helm("list", "--output=json"))
    assert (listed["name"], listed["status"], listed["revision"]) == ("quickstart", "deployed", "1")
    assert listed["chart"].startswith("trade2026-service-")
    assert json.loads(desk.helm("get", "values", "quickstart", "--output=json")) == desk.release.values
    assert "kind: StatefulSet" in desk.helm("get", "manifest", "quickstart")
    (revision,) = json.loads(desk.helm("history", "quickstart", "--output=json"))
    assert revision["description"] == "generation 1"
    assert "STATUS: deployed" in desk.helm("status", "quickstart")


def test_a_person_rolls_back_what_python_wrote_and_python_sees_it(desk: Desk) -> None:
    desk.deploy("generation 2", terminationGracePeriodSeconds=40)
    assert desk.workload()["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 40
    assert standing(desk.records, made=True) is Standing.OURS

    desk.helm("rollback", "quickstart", "1")
    assert desk.workload()["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 30
    assert standing(desk.records, made=True) is Standing.ROLLED_BACK

    desk.deploy("corrected", terminationGracePeriodSeconds=40)
    assert desk.workload()["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 40
    assert standing(desk.records, made=True) is Standing.OURS
    statuses = [each["status"] for each in json.loads(desk.helm("history", "quickstart", "--output=json"))]
    assert statuses == ["superseded", "superseded", "superseded", "deployed"]


def test_a_person_upgrades_what_python_wrote_without_rounding_an_amount(desk: Desk) -> None:
    before = desk.cluster.get("configmap", "quickstart", "-n", desk.namespace)["data"]
    assert "123456789123456789" in before["orders.json"]
    desk.helm("upgrade", "quickstart", str(CHART), "--reuse-values", "--set", "terminationGracePeriodSeconds=50")
    assert desk.workload()["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 50
    assert desk.cluster.get("configmap", "quickstart", "-n", desk.namespace)["data"] == before
    assert standing(desk.records, made=True) is Standing.UPGRADED
    managers = {each["manager"] for each in desk.workload()["metadata"]["managedFields"] if "subresource" not in each}
    assert managers == {FIELD_MANAGER}


def test_a_person_uninstalls_what_python_wrote_and_the_data_stays(desk: Desk) -> None:
    claim = state_claim("quickstart", desk.namespace, Given(storage_size="1Gi"))
    assert claim is not None
    desk.apply([claim], "trade2026-operator")
    desk.helm("uninstall", "quickstart")
    assert standing(desk.records, made=True) is Standing.UNINSTALLED
    for kind in ("statefulset", "service", "configmap", "networkpolicy"):
        left = desk.cluster.get(kind, "-n", desk.namespace, "-l", "app.kubernetes.io/instance=quickstart")
        assert left["items"] == []
    assert desk.cluster.get("pvc", "quickstart-state", "-n", desk.namespace)
    desk.deploy("made again")
    assert standing(desk.records, made=True) is Standing.OURS


def test_the_api_server_takes_every_object_of_a_spread_stack(cluster: Cluster, namespace: str) -> None:
    program = shutil.which("helm", path=cluster.environment()["PATH"])
    assert program is not None, "helm is missing beside kubectl"
    text = (
        (ROOT / "manifests" / "kafka.yaml")
        .read_text()
        .replace("    type: kafka\n", "    type: kafka\n    partitions: 6\n")
    )
    text = text.replace("  stores:", f"  placement: spread\n  services: {SCALED}\n  stores:")
    found = load_all(text)
    planned = plan(found.stack, found.strategies)
    chart, renderer = read_chart(CHART), HelmCli(Path(program))
    objects: list[dict[str, Any]] = []
    for release in releases(found.stack, planned, Given()):
        rendered = renderer.render(chart, release.name, namespace, release.values, Capabilities())
        objects += owned(rendered.objects, release.name, namespace)
    words = ["apply", "--server-side", "--dry-run=server", "--field-manager=helm", "--warnings-as-errors", "-f", "-"]
    cluster.kubectl(*words, given=objects)
