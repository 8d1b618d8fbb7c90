"""The platform's image in a cluster: one of its processes becomes Ready in a pod without rights, and stops in order."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from e2e.cluster import Cluster

from trade2026 import __version__
from trade2026.kit.identity import new_key
from trade2026.local.cluster import cluster as local
from trade2026.local.cluster import image
from trade2026.stack.manifest import load
from trade2026.stack.planner import Release, plan

ROOT = Path(__file__).parent.parent
SERVICE = "gateway"
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


def release() -> tuple[Release, int]:
    """A process of the quickstart that needs no other, and its port."""
    planned = plan(load(ROOT / "manifests" / "quickstart.yaml"), services=[SERVICE])
    (found,) = planned.releases
    return found, planned.ports[SERVICE]


def pod_of(name_of_image: str, namespace: str) -> list[dict[str, Any]]:
    found, port = release()
    _, key = new_key("prober", "viewer", None)
    settings = found.settings | {"host": "0.0.0.0", "state_dir": "/state", "keys_file": "/settings/keys.json"}
    probe = {"httpGet": {"path": "/readyz", "port": port}, "periodSeconds": 1}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "settings", "namespace": namespace},
        "stringData": {
            "settings.json": json.dumps(settings),
            "keys.json": json.dumps({"keys": [msgspec.to_builtins(key)]}),
        },
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": SERVICE, "namespace": namespace, "labels": {"app": SERVICE}},
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": SERVICE,
                    "image": name_of_image,
                    "args": ["serve", "--settings", "/settings/settings.json"],
                    "securityContext": RESTRICTED,
                    "readinessProbe": probe,
                    "volumeMounts": [
                        {"name": "settings", "mountPath": "/settings", "readOnly": True},
                        {"name": "state", "mountPath": "/state"},
                        {"name": "tmp", "mountPath": "/tmp"},
                    ],
                }
            ],
            "volumes": [
                {"name": "settings", "secret": {"secretName": "settings"}},
                {"name": "state", "emptyDir": {}},
                {"name": "tmp", "emptyDir": {}},
            ],
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": SERVICE, "namespace": namespace},
        "spec": {"selector": {"app": SERVICE}, "ports": [{"port": port}]},
    }
    return [secret, pod, service]


def test_a_process_of_a_stack_is_ready_in_a_restricted_pod_and_found_by_its_name(
    cluster: Cluster, namespace: str
) -> None:
    _, port = release()
    cluster.kubectl("apply", "-f", "-", given=pod_of(cluster.image, namespace))
    try:
        cluster.kubectl("wait", "--for=condition=Ready", f"pod/{SERVICE}", "-n", namespace, "--timeout=90s")
    except AssertionError as error:
        error.add_note(cluster.kubectl("logs", SERVICE, "-n", namespace, check=False))
        raise
    asks = f"import urllib.request as u; print(u.urlopen('http://{SERVICE}:{port}/readyz').status)"
    said = cluster.kubectl("exec", SERVICE, "-n", namespace, "--", "/usr/bin/python3", "-c", asks)
    assert said.strip() == "200"
    cluster.kubectl("delete", "pod", SERVICE, "-n", namespace, "--timeout=60s")


def test_the_image_says_which_version_it_is(cluster: Cluster, namespace: str) -> None:
    pod = pod_of(cluster.image, namespace)[1]
    pod["metadata"]["name"] = "version"
    pod["spec"] |= {"restartPolicy": "Never", "volumes": []}
    container = pod["spec"]["containers"][0]
    container |= {"args": ["--version"], "volumeMounts": []}
    del container["readinessProbe"]
    cluster.kubectl("apply", "-f", "-", given=pod)
    cluster.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/version", "-n", namespace, "--timeout=90s")
    assert cluster.kubectl("logs", "version", "-n", namespace).strip() == __version__


def test_the_same_files_make_the_same_image_again(cluster: Cluster, tmp_path: Path) -> None:
    if cluster.place is None:
        pytest.skip("the image of another cluster may be made by others")
    assert image.build(tmp_path / "again.tar", print) in local.contents(cluster.place)
