"""The cluster of `trade2026 cluster`: up, used, hurt, down, and nothing is left."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from e2e.cluster import Cluster, wait_for

from trade2026.local.cluster import cluster as local
from trade2026.local.cluster.binaries import version
from trade2026.local.cluster.place import Place

CALL_SECONDS_MAX = 300


def trade2026(*words: str, place: Place, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "trade2026", "cluster", *words],
        env=os.environ | {"TRADE2026_CLUSTER_DIR": str(place.state)},
        capture_output=True,
        text=True,
        timeout=CALL_SECONDS_MAX,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def namespaces_in_use() -> set[str]:
    """Every network, mount and process namespace that a process of this machine is in."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/ns/*"):
        if path.name in ("net", "mnt", "pid"):
            try:
                found.add(os.readlink(path))
            except OSError:
                continue  # the process has ended
    return found


def traces_of(place: Place) -> list[str]:
    """Processes, mounts and cgroups that name a cluster."""
    found = [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/{place.cgroup}")]
    found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(place.state) in line]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(place.state) in words:
            found.append(words)
    return found


@pytest.mark.usefixtures("machine")
def test_a_cluster_comes_up_works_and_leaves_nothing(place: Place) -> None:
    told = json.loads(trade2026("up", "--json", place=place))
    assert told["kubeconfig"] == str(place.kubeconfig)
    assert "up already" in trade2026("up", place=place)

    nodes = json.loads(trade2026("run", "--", "kubectl", "get", "nodes", "-o", "json", place=place))["items"]
    assert [node["status"]["nodeInfo"]["kubeletVersion"] for node in nodes] == [f"v{version()}"]
    assert "v4." in trade2026("run", "--", "helm", "version", "--short", place=place)
    trade2026("run", "--", "sh", "-c", "exit 7", place=place, code=7)
    told = json.loads(trade2026("status", "--json", place=place))
    assert (told["ready"], told["kubernetes"], told["nodes"]) == (True, version(), [{"name": "node-0", "ready": True}])

    inside = {os.readlink(f"/proc/{place.pid()}/ns/{kind}") for kind in ("net", "mnt", "pid")}
    assert inside <= namespaces_in_use()
    assert traces_of(place)
    assert "is down" in trade2026("down", place=place)
    assert traces_of(place) == []
    assert not inside & namespaces_in_use()
    assert not place.state.exists()
    assert "no cluster" in trade2026("down", place=place)


@pytest.mark.usefixtures("machine")
def test_a_cluster_that_was_kept_has_what_was_in_it(place: Place) -> None:
    local.up(place, print)
    trade2026("run", "--", "kubectl", "create", "configmap", "kept", "--from-literal=a=b", place=place)
    local.down(place, keep=True)
    assert traces_of(place) == []
    assert "not up" in trade2026("status", place=place, code=1)
    local.up(place, print)
    assert "b" in trade2026("run", "--", "kubectl", "get", "configmap", "kept", "-o", "jsonpath={.data.a}", place=place)


def test_components_that_are_killed_come_back_and_nothing_is_lost(cluster: Cluster, namespace: str) -> None:
    if cluster.place is None:
        pytest.skip("only a cluster that these tests have started may be harmed")
    cluster.kubectl("create", "configmap", "kept", "--from-literal=a=b", "-n", namespace)
    cluster.kill("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "coredns", "kube-proxy")
    found = wait_for(
        "the API server answers again",
        lambda: (
            cluster.kubectl("get", "configmap", "kept", "-n", namespace, "-o", "jsonpath={.data.a}", check=False) == "b"
        ),
    )
    assert found
    wait_for("all is ready again", lambda: local.status(cluster.place)["ready"])


def test_a_volume_is_written_by_a_pod_without_root_and_after_its_claim_is_empty_for_the_next(
    cluster: Cluster, namespace: str
) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": namespace},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    writes = "import pathlib; p = pathlib.Path('/data/x'); p.write_text('kept'); print(p.read_text())"
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "writes", "namespace": namespace},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "python",
                    "image": cluster.image,
                    "command": ["/usr/bin/python3", "-c", writes],
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                }
            ],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        },
    }
    cluster.kubectl("apply", "-f", "-", given=[claim, pod])
    cluster.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/writes", "-n", namespace, "--timeout=90s")
    assert cluster.kubectl("logs", "writes", "-n", namespace).strip() == "kept"
    if cluster.place is None:
        return
    volume = cluster.get("persistentvolumeclaim", "data", "-n", namespace)["spec"]["volumeName"]
    assert (cluster.place.state / "volumes" / volume / "x").exists()
    cluster.kubectl("delete", "pod/writes", "persistentvolumeclaim/data", "-n", namespace, "--timeout=60s")
    wait_for("it can be claimed", lambda: cluster.get("persistentvolume", volume)["status"]["phase"] == "Available")
    assert not any((cluster.place.state / "volumes" / volume).iterdir())
