"""Another server of external metrics than the operator's: prometheus-adapter with Prometheus, both beside the cluster.

The adapter is built by Go from its module, once; its rules are those that the docs give to a user.
"""

import contextlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from e2e.cluster import Cluster, wait_for
from e2e.go_module import fetched
from e2e.scaling import is_served
from tests.infra import prometheus_files

from trade2026.local.cluster.binaries import Report, go, made_once
from trade2026.local.cluster.place import NODE_IP
from trade2026.local.infra.artefacts import cache_folder
from trade2026.local.infra.component import free_port
from trade2026_operator.slo.external_metrics import API_SERVICE, GROUP
from trade2026_operator.slo.external_metrics import VERSION as VERSION_OF_API

VERSION = "0.12.0"
MODULE = f"sigs.k8s.io/prometheus-adapter@v{VERSION}"
SUM = "h1:e29A6BIwA/NKxPZeuamBMHJsvz0sSUXTb92Obg7RMV4="
"""Of the module, as `go.sum` would have it."""
PAGE = Path(__file__).parent.parent / "docs" / "explanation" / "autoscaling.md"
_RULES = re.compile(r"^```yaml\n(externalRules:.*?)^```", re.MULTILINE | re.DOTALL)
_NAME = "prometheus-adapter"
_END_SECONDS_MAX = 20
_SCRAPE = "1s"


def program(report: Report) -> Path:
    """The adapter, made first where it is missing.

    Raises:
        ClusterError: it can't be built.
    """

    def make(work: Path) -> None:
        report(f"building {_NAME} {VERSION}, once: about 5 minutes of one core")
        words = ["go", "build", "-v", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w"]
        go([*words, "-o", str(work / _NAME), "./cmd/adapter"], fetched(MODULE, SUM), _NAME, report)

    return made_once(cache_folder() / f"{_NAME}-{VERSION}", f"{_NAME} {VERSION}", make, report) / _NAME


class Prometheus:
    """Prometheus and the adapter that serves out of it.

    Args:
        operator: Host and port of its `/metrics`.
    """

    def __init__(self, cluster: Cluster, namespace: str, folder: Path, operator: str) -> None:
        self._cluster, self._namespace, self._folder, self._operator = cluster, namespace, folder, operator
        self._port, self._adapter_port = free_port(), free_port()
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """It serves external metrics to the cluster as long as the block lasts."""
        built = program(print)
        self._folder.mkdir()
        try:
            self._start(_NAME, self._adapter_command(built))
            self._cluster.kubectl("apply", "-f", "-", given=self._objects())
            wait_for("it serves external metrics", lambda: is_served(self._cluster))
            yield
        finally:
            self._cluster.kubectl("delete", "apiservice", API_SERVICE, "--ignore-not-found", check=False)
            for name in list(self._running):
                self.stop(name)

    def start(self) -> None:
        """Scrape, and answer the adapter."""
        scraped = {"job_name": "operator", "honor_labels": True, "static_configs": [{"targets": [self._operator]}]}
        config = {"global": {"scrape_interval": _SCRAPE, "scrape_timeout": _SCRAPE}, "scrape_configs": [scraped]}
        (self._folder / "prometheus.yml").write_text(json.dumps(config))
        self._start(
            "prometheus",
            [
                str(prometheus_files() / "usr" / "bin" / "prometheus"),
                f"--config.file={self._folder / 'prometheus.yml'}", f"--storage.tsdb.path={self._folder / 'data'}",
                f"--web.listen-address={NODE_IP}:{self._port}",
            ],
        )  # fmt: skip

    def stop(self, name: str = "prometheus") -> None:
        """The adapter stays, and knows nothing new."""
        process = self._running.pop(name)
        process.terminate()
        process.wait(_END_SECONDS_MAX)

    def _start(self, name: str, command: list[str]) -> None:
        with (self._folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(command, stdout=log, stderr=log)

    def _adapter_command(self, built: Path) -> list[str]:
        rules = _RULES.search(PAGE.read_text())
        assert rules is not None, f"{PAGE} has no rule for the adapter"
        (self._folder / "rules.yml").write_text(rules.group(1))
        kubeconfig = self._folder / "kubeconfig"
        shutil.copy(self._cluster.kubeconfig, kubeconfig)
        return [
            str(built), f"--config={self._folder / 'rules.yml'}", f"--prometheus-url=http://{NODE_IP}:{self._port}",
            f"--bind-address={NODE_IP}", f"--secure-port={self._adapter_port}", f"--cert-dir={self._folder}",
            *(f"--{use}-kubeconfig={kubeconfig}" for use in ("lister", "authentication", "authorization")),
            "--metrics-relist-interval=5s", "--metrics-max-age=10s",
        ]  # fmt: skip

    def _objects(self) -> list[dict[str, Any]]:
        meta = {"name": _NAME, "namespace": self._namespace}
        return [
            {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 443}]}},
            {
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {**meta, "labels": {"kubernetes.io/service-name": _NAME}},
                "endpoints": [{"addresses": [NODE_IP]}], "ports": [{"port": self._adapter_port}],
            },
            {
                "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": API_SERVICE},
                "spec": {
                    "group": GROUP, "version": VERSION_OF_API, "groupPriorityMinimum": 100, "versionPriority": 100,
                    "insecureSkipTLSVerify": True, "service": meta,
                },
            },
        ]  # fmt: skip
