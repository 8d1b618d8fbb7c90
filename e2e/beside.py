"""The operator as a process beside the cluster: it starts in two seconds, and can be killed and be another one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from e2e.cluster import Cluster
from e2e.desk import ROOT

logs: list[Path] = []
"""Of operators that a test has started, for the report of its failure."""


class Operator:
    """An operator of one namespace, as a process beside the cluster."""

    def __init__(self, cluster: Cluster, namespace: str, log: Path) -> None:
        self.cluster, self.namespace, self.log = cluster, namespace, log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, identity: str, *more: str) -> "subprocess.Popen[bytes]":
        """Start one, with more options perhaps; it leads as soon as no other does."""
        logs.append(self.log)
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
