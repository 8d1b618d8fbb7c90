"""KEDA, as its own manifests install it, for a test that asks what it does: built by Go from its module, once."""

import shutil
from pathlib import Path
from typing import Any

import yaml
from e2e.cluster import Cluster, wait_for
from e2e.go_module import fetched
from e2e.scaling import is_served

from trade2026.local.cluster import cluster as local
from trade2026.local.cluster.binaries import Report, go, made_once, pack_program
from trade2026.local.infra.artefacts import cache_folder
from trade2026_operator.slo.external_metrics import API_SERVICE

VERSION = "2.21.0"
MODULE = f"github.com/kedacore/keda/v2@v{VERSION}"
SUM = "h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps="
"""Of the module, as `go.sum` would have it."""
NAMESPACE = "keda"
_PROGRAMS = {
    "keda": "./cmd/operator",
    "keda-adapter": "./cmd/adapter",
    "keda-admission-webhooks": "./cmd/webhooks",
}
_FOLDERS = ("general", "crd/bases", "service_account", "rbac", "manager", "metrics-server", "webhooks")
_CERTIFICATES = "kedaorg-certs"


def programs(report: Report) -> Path:
    """The folder with KEDA's images and manifests, made first where they are missing.

    Raises:
        ClusterError: they can't be built.
    """

    def make(work: Path) -> None:
        report(f"building KEDA {VERSION}, once: about 15 minutes of one core")
        sources = work / "sources"
        shutil.copytree(fetched(MODULE, SUM), sources, copy_function=shutil.copyfile)
        for folder in (sources, *(each for each in sources.rglob("*") if each.is_dir())):
            folder.chmod(0o755)
        for name, package in _PROGRAMS.items():
            flags = ("-v", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w")
            go(["go", "build", *flags, "-o", str(work / name), package], sources, "KEDA", report)
            pack_program(work / name, _image(name), work / f"{name}.tar")
        shutil.move(sources / "config", work / "config")
        shutil.rmtree(sources)

    return made_once(cache_folder() / f"keda-{VERSION}", f"KEDA {VERSION}", make, report)


def install(cluster: Cluster) -> None:
    """Run it, and return when it serves external metrics, whoever has served them before, and looks at what is asked of it."""
    assert cluster.place is not None, "it is loaded into a cluster that these tests have started"
    built = programs(print)
    for name in _PROGRAMS:
        local.load(cluster.place, built / f"{name}.tar")
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", given=_objects(built / "config"))
    wait_for("KEDA has made its certificates", lambda: _CERTIFICATES in _names(cluster, "secrets"))
    # A pod that mounts them is a minute quicker than one that waits for what it has mounted to change.
    _kubectl(cluster, "delete", "pods", "--all", "--now")
    for name in _names(cluster, "deployments").split():
        _kubectl(cluster, "rollout", "status", name, "--timeout=120s")
    wait_for("KEDA serves external metrics", lambda: is_serving(cluster))


def uninstall(cluster: Cluster) -> None:
    """All of it; what it scaled is to be gone before."""
    words = ("delete", "--ignore-not-found", "--wait=false", "-f", "-")
    cluster.kubectl(*words, given=_objects(programs(print) / "config"), check=False)


def is_serving(cluster: Cluster) -> bool:
    """Whether the API of external metrics is KEDA's, and answers."""
    by = cluster.get("apiservice", API_SERVICE)["spec"].get("service") or {}
    return by.get("namespace") == NAMESPACE and is_served(cluster)


def _objects(config: Path) -> list[dict[str, Any]]:
    """Its manifests, with the images that were built here."""
    paths = [path for folder in _FOLDERS for path in sorted((config / folder).glob("*.yaml"))]
    texts = [path.read_text() for path in paths if path.name != "kustomization.yaml"]
    found = [each for text in texts for each in yaml.safe_load_all(text) if each]
    for each in (one for one in found if one["kind"] == "Deployment"):
        (container,) = each["spec"]["template"]["spec"]["containers"]
        container |= {"image": _image(container["command"][0].removeprefix("/")), "imagePullPolicy": "Never"}
        container["resources"] = {"requests": {"cpu": "10m"}}
        container["readinessProbe"] |= {"initialDelaySeconds": 1, "periodSeconds": 1}
    return found


def _image(name: str) -> str:
    return f"localhost/{name}:{VERSION}"


def _names(cluster: Cluster, kind: str) -> str:
    return _kubectl(cluster, "get", kind, "-o", "name")


def _kubectl(cluster: Cluster, *words: str) -> str:
    return cluster.kubectl(*words, "-n", NAMESPACE)
