"""The operator on a real cluster: a manifest becomes a desk that runs, heals and goes, and a new operator disturbs none."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.cluster import Cluster, wait_for
from e2e.desk import ROOT, Desk, manifest

from trade2026_operator.helm.releases import keys_name


class Operator:
    """An operator of one namespace, as a process beside the cluster."""

    def __init__(self, cluster: Cluster, namespace: str, log: Path) -> None:
        self.cluster, self.namespace, self.log = cluster, namespace, log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, identity: str, *more: str) -> "subprocess.Popen[bytes]":
        """Start one, with more options perhaps; it leads as soon as no other does."""
        helm = shutil.which("helm", path=self.cluster.environment()["PATH"])
        repository, _, _ = self.cluster.image.rpartition(":")
        words = ["--kubeconfig", str(self.cluster.kubeconfig), "--namespace", self.namespace, "--helm", str(helm)]
        words += ["--lease", f"{self.namespace}/operator", "--identity", identity]
        words += ["--stack-image", repository, "--stack-pull-policy", "Never", "--stack-storage-size", "1Gi"]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "services"), str(ROOT / "operators")])}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "trade2026_operator", *words, *more], env=environment, stdout=log, stderr=log
            )
        return self.process

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def operator(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[Operator]:
    for crd in sorted((ROOT / "crds").glob("tradingstacks.*.yaml")):
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(crd))
    made = Operator(cluster, namespace, tmp_path / "operator.log")
    try:
        yield made
    except BaseException as error:
        error.add_note(made.log.read_text()[-4_000:])
        raise
    finally:
        made.kill()
        patch = '{"metadata":{"finalizers":null}}'
        with contextlib.suppress(AssertionError):
            cluster.kubectl("patch", "ts", "desk", "-n", namespace, "--type=merge", "-p", patch)


def test_a_manifest_becomes_a_desk_that_trades_heals_outlives_its_operator_and_goes(
    operator: Operator, cluster: Cluster, namespace: str
) -> None:
    desk = Desk(cluster, namespace)
    operator.start("first")
    desk.kubectl("apply", "-f", "-", given=manifest())
    applied = time.monotonic()
    wait_for("it says what it waits for", lambda: desk.condition("Ready")["message"])
    desk.until("Ready")
    print(f"ready {time.monotonic() - applied:.1f} s after kubectl apply")
    desk.kubectl("wait", "--for=condition=Ready", "ts/desk", "--timeout=10s")
    assert desk.order(1) == 200
    (release,) = json.loads(cluster.helm("list", "-n", namespace, "--output=json"))
    assert (release["name"], release["status"], release["revision"]) == ("desk", "deployed", "1")

    # What somebody changes or deletes is put back, without a pod being touched.
    pods = desk.pods()
    began = time.monotonic()
    desk.kubectl("delete", "service", "desk-oms")
    desk.kubectl("patch", "service", "desk-risk", "--type=merge", "-p", '{"spec":{"selector":{"a":"b"}}}')
    wait_for("the Service is back", lambda: "desk-oms" in desk.kubectl("get", "services", "--output=name"))
    wait_for("its selector is right", lambda: "a" not in desk.get("service", "desk-risk")["spec"]["selector"])
    print(f"corrected {time.monotonic() - began:.1f} s after the harm")
    wait_for("an Event tells", lambda: "DriftCorrected" in desk.kubectl("get", "events"))
    assert desk.pods() == pods

    # An operator that dies is followed by another, which makes good what happened meanwhile and restarts nothing.
    operator.kill()
    desk.kubectl("delete", "configmap", "desk")
    assert desk.order(2) == 200
    operator.start("second")
    wait_for("the settings are back", lambda: "configmap/desk" in desk.kubectl("get", "configmaps", "--output=name"))
    desk.until("Ready")
    assert desk.pods() == pods

    # A change of the spec is another revision; a mistake takes nothing away and says what it is.
    desk.kubectl("patch", "ts", "desk", "--type=merge", "-p", '{"spec":{"risk":{"limits":{"maxOpenOrders":1000}}}}')
    wait_for(
        "it is released", lambda: json.loads(cluster.helm("list", "-n", namespace, "-o", "json"))[0]["revision"] == "2"
    )
    desk.until("Released")
    desk.until("Ready")
    assert desk.order(3) == 200

    desk.kubectl("delete", "ts", "desk", "--wait=true", "--timeout=120s")
    left = desk.kubectl("get", "all,configmaps,networkpolicies", "-l", "trade2026.io/stack=desk", "--output=name")
    assert wait_for("all is gone", lambda: not desk.pods() or None) and "statefulset" not in left
    assert keys_name("desk") in desk.kubectl("get", "secrets", "--output=name"), "the keys stay, as the data does"
