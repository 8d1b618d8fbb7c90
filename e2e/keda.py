"""KEDA, as its own manifests install it, for a test that asks what it does: built by Go from its module, once."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml
from e2e.cluster import Cluster, wait_for

from trade2026.local.cluster import cluster as local
from trade2026.local.cluster.binaries import Report, go, made_once, pack_program
from trade2026.local.cluster.place import ClusterError
from trade2026.local.infra.artefacts import cache_folder

VERSION = "2.21.0"
MODULE = f"github.com/kedacore/keda/v2@v{VERSION}"
SUM = "h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps="
"""Of the module, as `go.sum` would have it."""
NAMESPACE = "keda"
API_SERVICE = "v1beta1.external.metrics.k8s.io"
_PROGRAMS = {"keda": "./cmd/operator", "keda-adapter": "./cmd/adapter"}
_FOLDERS = ("general", "service_account", "rbac", "manager", "metrics-server")
_DOWNLOAD_SECONDS_MAX = 300
_CERTIFICATES = "kedaorg-certs"


def programs(report: Report) -> Path:
    """The folder with KEDA's images and manifests, made first where they are missing.

    Raises:
        ClusterError: they can't be built.
    """

    def make(work: Path) -> None:
        report(f"building KEDA {VERSION}, once: about 20 minutes of one core")
        sources = work / "sources"
        shutil.copytree(_downloaded(), sources, copy_function=shutil.copy)
        for folder in (sources, *(each for each in sources.rglob("*") if each.is_dir())):
            folder.chmod(0o755)
        for name, package in _PROGRAMS.items():
            command = ["go", "build", "-v", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", str(work / name), package]  # fmt: skip
            go(command, sources, "KEDA", report)
            pack_program(work / name, f"localhost/{name}:{VERSION}", work / f"{name}.tar")
        shutil.move(sources / "config", work / "config")
        shutil.rmtree(sources)

    return made_once(cache_folder() / f"keda-{VERSION}", f"KEDA {VERSION}", make, report)


def _downloaded() -> Path:
    done = subprocess.run(
        ["go", "mod", "download", "-json", MODULE],
        capture_output=True, text=True, timeout=_DOWNLOAD_SECONDS_MAX, check=False,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout or "{}")
    if done.returncode or found.get("Sum") != SUM:
        raise ClusterError(f"{MODULE} can't be had: {found.get('Error') or done.stderr or 'it is another one'}")
    return Path(found["Dir"])


def install(cluster: Cluster) -> None:
    """Run it, and return when it serves external metrics."""
    assert cluster.place is not None, "it is loaded into a cluster that these tests have started"
    built = programs(print)
    for name in _PROGRAMS:
        local.load(cluster.place, built / f"{name}.tar")
    for kind in ("crd/bases", *_FOLDERS):
        found = [each for path in sorted((built / "config" / kind).glob("*.yaml")) for each in _objects(path)]
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", given=found)
    wait_for(
        "KEDA has made its certificates", lambda: _CERTIFICATES in _kubectl(cluster, "get", "secrets", "-o", "name")
    )
    # A pod that mounts them is a minute quicker than one that waits for what it has mounted to change.
    _kubectl(cluster, "delete", "pods", "--all", "--now")
    wait_for("KEDA serves external metrics", lambda: _is_served(cluster))


def uninstall(cluster: Cluster) -> None:
    """All of it; what it scaled is to be gone before."""
    cluster.kubectl("delete", "apiservice", API_SERVICE, "--ignore-not-found", check=False)
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false", check=False)


def _is_served(cluster: Cluster) -> bool:
    told = cluster.get("apiservice", API_SERVICE)
    conditions = (told.get("status") or {}).get("conditions") or []
    theirs = (told["spec"].get("service") or {}).get("namespace") == NAMESPACE
    return theirs and any(each["type"] == "Available" and each["status"] == "True" for each in conditions)


def _objects(path: Path) -> list[dict[str, Any]]:
    """Of a manifest, with the images that were built here."""
    found = [each for each in yaml.safe_load_all(path.read_text()) if each and each["kind"] != "Kustomization"]
    for each in (one for one in found if one["kind"] == "Deployment"):
        (container,) = each["spec"]["template"]["spec"]["containers"]
        name = container["command"][0].removeprefix("/")
        container |= {"image": f"localhost/{name}:{VERSION}", "imagePullPolicy": "Never"}
        container["resources"] = {"requests": {"cpu": "10m"}}
        container["readinessProbe"] |= {"initialDelaySeconds": 1, "periodSeconds": 1}
    return found


def _kubectl(cluster: Cluster, *words: str) -> str:
    return cluster.kubectl(*words, "-n", NAMESPACE)
