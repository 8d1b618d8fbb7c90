"""Harm of every kind, under a client that never stops: orders are neither lost nor doubled, and all comes back.

The operator is installed by Helm, with two replicas, and keeps one stack, which all tests here share. What takes long
is left to `make soak`, which sets `E2E_FAULTS=all`.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.cluster import Cluster, wait_for
from e2e.desk import ROOT, Desk
from e2e.installed import RELEASE, Installed, apply, forget, revisions, until_led
from e2e.prober import Prober, probing
from e2e.soak import soak

from trade2026 import __version__

QUIET_SECONDS = 12.0
"""So long nothing may be written for it to be said that two operators don't fight."""
CHILDREN = ("service/desk-oms", "serviceaccount/desk", "configmap/desk", "networkpolicy/desk", "statefulset/desk")


@pytest.fixture(scope="module")
def installed(cluster: Cluster) -> Iterator[Installed]:
    """The operator, for the whole cluster."""
    if cluster.place is None:
        pytest.skip("only a cluster that these tests have started may be harmed")
    made = Installed(cluster, cluster.make_namespace())
    try:
        made.install()
        yield made
    finally:
        cluster.helm("uninstall", RELEASE, "--namespace", made.namespace, check=False)
        cluster.remove_namespace(made.namespace)


@pytest.fixture(scope="module")
def shared(cluster: Cluster, installed: Installed) -> Iterator[Desk]:
    """The stack that all tests here harm."""
    namespace = cluster.make_namespace()
    desk = Desk(cluster, namespace)
    apply(desk)
    desk.until("Ready")
    yield desk
    forget(desk)
    cluster.remove_namespace(namespace)


@pytest.fixture
def desk(shared: Desk) -> Iterator[Desk]:
    """It is ready before and after every test."""
    shared.until("Ready")
    yield shared
    shared.until("Ready")


@pytest.fixture
def prober(desk: Desk) -> Iterator[Prober]:
    """Sends orders while a test does harm; when that is over they go through, and each is accounted for."""
    with probing(desk.cluster, desk.namespace) as made:
        yield made
        made.until_acknowledged()
    print(made.account())


def kill_pod(desk: Desk) -> str:
    """SIGKILL for the stack's pod; which it was."""
    (name, uid), *_ = desk.pods().items()
    desk.kubectl("delete", "pod", name, "--grace-period=0", "--force")
    return uid


def uid_of(desk: Desk, child: str) -> str:
    """Empty if it is not there."""
    return desk.kubectl("get", child, "--ignore-not-found", "--output=jsonpath={.metadata.uid}")


def timed(what: str, condition: Callable[[], Any]) -> None:
    """Wait, and print how long it took; only a machine that is known is held to a figure."""
    began = time.monotonic()
    wait_for(what, condition)
    print(f"{what} after {time.monotonic() - began:.2f} s")


def test_a_pod_is_killed(desk: Desk, prober: Prober) -> None:
    killed = kill_pod(desk)
    wait_for("another pod takes its place", lambda: desk.pods() and killed not in desk.pods().values())
    (name,) = desk.pods()
    desk.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=150s")


@soak
def test_the_leader_is_killed_and_then_both(desk: Desk, installed: Installed, prober: Prober) -> None:
    leader, pods = until_led(installed), desk.pods()
    installed.kill(leader)
    desk.kubectl("delete", "service", "desk-risk")
    timed("another leads", lambda: installed.leader() not in ("", leader))
    wait_for("and puts back what is missing", lambda: uid_of(desk, "service/desk-risk"))
    installed.kill(*(pod["metadata"]["name"] for pod in installed.pods()))
    desk.kubectl("delete", "service", "desk-risk")
    timed("a new one leads", lambda: uid_of(desk, "service/desk-risk"))
    assert desk.pods() == pods, "an operator that starts disturbs nothing"


def test_the_api_server_and_etcd_are_killed(desk: Desk, cluster: Cluster, prober: Prober) -> None:
    pods = desk.pods()
    cluster.kill("etcd", "kube-apiserver")
    prober.until_acknowledged()
    wait_for("the API server answers", lambda: "ok" in cluster.kubectl("get", "--raw=/readyz", check=False))
    desk.kubectl("delete", "service", "desk-risk")
    timed("the operator sees again", lambda: uid_of(desk, "service/desk-risk"))
    assert desk.pods() == pods


def test_every_kind_of_child_is_deleted_and_changed_by_hand(desk: Desk, prober: Prober) -> None:
    claim, before = uid_of(desk, "pvc/desk-state"), {child: uid_of(desk, child) for child in CHILDREN}
    assert all(before.values()), before
    for child in CHILDREN:
        desk.kubectl("delete", child, "--wait=false")
        timed(f"{child} is back", lambda child=child: uid_of(desk, child) not in ("", before[child]))
    desk.until("Ready")
    for child, patch in (
        ("service/desk-oms", {"spec": {"selector": {"a": "b"}}}),
        ("configmap/desk", {"data": {"orders.json": "{}"}}),
        ("networkpolicy/desk", {"spec": {"ingress": []}}),
        ("serviceaccount/desk", {"automountServiceAccountToken": True}),
        ("statefulset/desk", {"spec": {"replicas": 0}}),
    ):
        was = said(desk.get(child))
        desk.kubectl("patch", child, "--type=merge", "-p", json.dumps(patch))
        timed(f"{child} is as it was", lambda child=child, was=was: said(desk.get(child)) == was)
    assert uid_of(desk, "pvc/desk-state") == claim, "data stays"
    assert "DriftCorrected" in desk.kubectl("get", "events")


def said(manifest: dict[str, Any]) -> dict[str, Any]:
    """What an object is asked to be."""
    return {name: value for name, value in manifest.items() if name not in ("metadata", "status")}


@soak
def test_the_image_and_the_probe_are_broken_by_hand(desk: Desk, prober: Prober) -> None:
    for broken in (
        {"name": "orders", "image": "localhost/nothing:0"},
        {"name": "orders", "readinessProbe": {"httpGet": {"path": "/nothing"}}},
    ):
        was = desk.get("statefulset/desk")["spec"]["template"]
        patch = {"spec": {"template": {"spec": {"containers": [broken]}}}}
        desk.kubectl("patch", "statefulset/desk", "--type=strategic", "-p", json.dumps(patch))
        timed(
            f"{list(broken)[1]} is as it was",
            lambda was=was: desk.get("statefulset/desk")["spec"]["template"] == was,
        )
        desk.until("Ready")


@soak
def test_an_image_that_is_not_there_is_told_and_taken_back(desk: Desk, prober: Prober) -> None:
    wanted = desk.get("ts", "desk")["spec"].get("version")
    missing = f"{__version__}-missing"
    desk.kubectl("patch", "ts", "desk", "--type=merge", "-p", json.dumps({"spec": {"version": missing}}))
    wait_for("it says what is wrong", lambda: missing in desk.condition("Stalled")["message"])
    desk.kubectl("patch", "ts", "desk", "--type=merge", "-p", json.dumps({"spec": {"version": wanted}}))


@soak
def test_the_record_of_a_release_is_deleted(desk: Desk, prober: Prober) -> None:
    pods = desk.pods()
    desk.kubectl("delete", "secret", "-l", "owner=helm,name=desk")
    wait_for("it is told", lambda: desk.condition("Drifted").get("reason") == "HumanRelease")
    desk.until("Ready")
    assert desk.pods() == pods
    patch = {"spec": {"risk": {"limits": {"maxOpenOrders": 100_001}}}}
    desk.kubectl("patch", "ts", "desk", "--type=merge", "-p", json.dumps(patch))
    wait_for("a new spec makes it a release again", lambda: revisions(desk) == ["deployed"])


@soak
def test_the_node_is_drained(desk: Desk, cluster: Cluster, prober: Prober) -> None:
    node = cluster.get("nodes")["items"][0]["metadata"]["name"]
    selector = "--pod-selector=trade2026.io/stack=desk"
    before = desk.pods()
    try:
        cluster.kubectl("drain", node, selector, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s")
        wait_for("it says why", lambda: "schedul" in desk.condition("Ready")["message"])
    finally:
        cluster.kubectl("uncordon", node)
    desk.until("Ready")
    assert set(desk.pods().values()).isdisjoint(before.values())


@soak
def test_the_operators_are_drained_one_by_one(desk: Desk, installed: Installed, prober: Prober) -> None:
    for pod in installed.pods():
        about = {"name": pod["metadata"]["name"], "namespace": installed.namespace}
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": about}
        path = f"--raw=/api/v1/namespaces/{installed.namespace}/pods/{about['name']}/eviction"
        wait_for(
            "its disruption budget lets it go",
            lambda path=path, eviction=eviction: (
                "Success" in installed.cluster.kubectl("create", path, "-f", "-", given=eviction, check=False)
            ),
        )
        wait_for("one leads", installed.leader)


@soak
def test_a_quota_is_full(desk: Desk, prober: Prober) -> None:
    """Nothing that was there goes; what is missing comes when there is room."""
    count = len(desk.get("services")["items"])
    hard = {"hard": {"services": str(count - 1)}}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full"}, "spec": hard}
    desk.kubectl("apply", "-f", "-", given=quota)
    wait_for("the quota counts", lambda: desk.get("resourcequota", "full").get("status", {}).get("used"))
    desk.kubectl("delete", "service", "desk-risk")
    wait_for("it says so", lambda: "quota" in desk.condition("Stalled")["message"])
    assert desk.condition("Stalled")["status"] == "True"
    prober.until_acknowledged()
    desk.kubectl("delete", "resourcequota", "full")
    timed("the Service is back", lambda: uid_of(desk, "service/desk-risk"))
    desk.until("Stalled", "False")


@soak
def test_two_operators_that_both_think_they_lead_do_not_fight(desk: Desk, installed: Installed, tmp_path: Path) -> None:
    """The second has a Lease of its own, and all rights."""
    cluster, log = desk.cluster, tmp_path / "second.log"
    repository, _, _ = cluster.image.rpartition(":")
    words = ["--kubeconfig", str(cluster.kubeconfig), "--namespace", desk.namespace, "--identity", "second"]
    words += ["--lease", f"{desk.namespace}/second", "--stack-image", repository]
    words += ["--stack-pull-policy", "Never", "--stack-storage-size", "1Gi"]
    paths = os.pathsep.join([str(ROOT / "services"), str(ROOT / "operators")])
    with log.open("wb") as file:
        second = subprocess.Popen(
            [sys.executable, "-m", "trade2026_operator", *words],
            env=cluster.environment() | {"PYTHONPATH": paths}, stdout=file, stderr=file,
        )  # fmt: skip
    try:
        pods, was = desk.pods(), len(revisions(desk))
        wait_for("the second leads, too", lambda: "second leads" in log.read_text())
        desk.kubectl("delete", "service", "desk-risk")
        wait_for("one puts it back", lambda: uid_of(desk, "service/desk-risk"))
        patch = {"spec": {"driftIgnore": [{"kind": "Service", "paths": ["/spec/a"]}]}}
        desk.kubectl("patch", "ts", "desk", "--type=merge", "-p", json.dumps(patch))
        generation = desk.get("ts", "desk")["metadata"]["generation"]
        wait_for("it is seen", lambda: desk.get("ts", "desk")["status"]["observedGeneration"] == generation)
        wait_for("all is quiet", lambda: _is_quiet(desk))
        assert desk.pods() == pods
        assert len(revisions(desk)) == was, "nothing was released twice"
        assert second.poll() is None, log.read_text()[-4_000:]
    except BaseException as error:
        error.add_note(log.read_text()[-4_000:])
        raise
    finally:
        second.kill()
        second.wait()


def _is_quiet(desk: Desk) -> bool:
    """Whether nothing of a stack is written for a time."""

    def versions() -> dict[str, str]:
        kinds = "ts,services,configmaps,statefulsets,serviceaccounts,networkpolicies,secrets"
        items = desk.get(kinds)["items"]
        return {f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"] for item in items}

    before = versions()
    time.sleep(QUIET_SECONDS)
    return versions() == before
