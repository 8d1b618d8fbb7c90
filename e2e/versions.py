"""Other versions of the platform, and a stack that is given one of them."""

import json
from typing import Any

from e2e.cluster import Cluster, wait_for
from e2e.desk import Desk

from trade2026 import __version__
from trade2026.local.cluster import cluster as local
from trade2026.local.cluster import image

OLD, NEW, NONE = "0.0.9", __version__, "0.0.8"
"""The one before, the one of this tree, and one of which there is no image."""
_ROLL_SECONDS_MAX = 600.0


def load_old(cluster: Cluster) -> None:
    """Bring this tree into a cluster of ours, as an image that says it is the version before."""
    assert cluster.place is not None
    name = f"{cluster.image.rpartition(':')[0]}:{OLD}"
    archive = cluster.place.state / "old.tar"
    image.build(archive, print, name, local.contents(cluster.place), OLD)
    local.load(cluster.place, archive)
    archive.unlink()


def change(desk: Desk, **spec: Any) -> None:
    """Change fields of the stack."""
    desk.kubectl("patch", "ts", "desk", "--type=merge", "-p", json.dumps({"spec": spec}))


def until_it_runs(desk: Desk, version: str) -> None:
    """Wait until a version is rolled out, and final."""
    wait_for(f"{version} runs", lambda: desk.get("ts", "desk")["status"].get("version") == version, _ROLL_SECONDS_MAX)
    for kind in ("Released", "Ready"):
        desk.until(kind)
    assert versions(desk) == {version}


def versions(desk: Desk) -> set[str]:
    """Of all pods."""
    pods = desk.get("pods", "-l", "trade2026.io/stack=desk")["items"]
    return {each["image"].rpartition(":")[2] for pod in pods for each in pod["spec"]["containers"]}
