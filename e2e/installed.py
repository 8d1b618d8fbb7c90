"""The operator as a user installs it: its chart, by Helm, with the platform's image."""

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from e2e.cluster import Cluster, wait_for
from e2e.desk import ROOT, Desk, manifest

CHART = ROOT / "charts" / "trade2026-operator"
RELEASE = "trade2026-operator"


@dataclass(frozen=True)
class Installed:
    """A release of the operator's chart.

    Attributes:
        namespace: Of the operator itself.
    """

    cluster: Cluster
    namespace: str

    def install(self, *words: str) -> None:
        """Install or upgrade, and wait until every replica is ready; `words` are more of Helm's."""
        repository, _, tag = self.cluster.image.rpartition(":")
        chosen = {"image.repository": repository, "image.tag": tag, "image.pullPolicy": "Never"}
        chosen["stacks.storage.size"] = "1Gi"
        sets = [word for name, value in chosen.items() for word in ("--set", f"{name}={value}")]
        self.cluster.helm(
            *("upgrade", "--install", RELEASE, str(CHART), "--namespace", self.namespace, *sets),
            # Other tests here may have applied the definitions by themselves.
            *("--take-ownership", "--wait", "--timeout", "150s", *words),
        )

    def uninstall(self) -> None:
        """Stacks go on."""
        self.cluster.helm("uninstall", RELEASE, "--namespace", self.namespace, "--wait", "--timeout", "90s")

    def pods(self) -> list[dict[str, Any]]:
        """Its pods that are not on their way out."""
        selector = "app.kubernetes.io/name=trade2026-operator"
        items = self.cluster.get("pods", "-n", self.namespace, "-l", selector)["items"]
        return [item for item in items if "deletionTimestamp" not in item["metadata"]]

    def leader(self) -> str:
        """The pod that leads; empty if none does."""
        found = self.cluster.kubectl(
            *("get", "lease", RELEASE, "-n", self.namespace, "--output=jsonpath={.spec.holderIdentity}"), check=False
        )
        return found if found in {pod["metadata"]["name"] for pod in self.pods()} else ""

    def kill(self, *pods: str) -> None:
        """End pods with SIGKILL, as when their node fails."""
        self.cluster.kubectl("delete", "pod", *pods, "-n", self.namespace, "--grace-period=0", "--force")


def apply(desk: Desk, **spec: Any) -> None:
    """Apply the quickstart, or a variant, as `desk`."""
    wanted = manifest()
    desk.kubectl("apply", "-f", "-", given={**wanted, "spec": {**wanted["spec"], **spec}})


def forget(desk: Desk) -> None:
    """Let a stack go that no operator cleans up any more."""
    with suppress(AssertionError):
        desk.kubectl("patch", "ts", "desk", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')


def revisions(desk: Desk) -> list[str]:
    """The states of a stack's revisions, as `helm history` tells them; none where there is no release."""
    told = desk.cluster.helm("history", "desk", "-n", desk.namespace, "--output=json", check=False)
    return [each["status"] for each in json.loads(told)] if told.startswith("[") else []


def until_led(installed: Installed, *, but: str = "") -> str:
    """Wait until a pod leads, another one than `but`; its name."""
    return wait_for("an operator leads", lambda: (found := installed.leader()) != but and found)
