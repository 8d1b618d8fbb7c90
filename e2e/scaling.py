"""A release that scales, as the tests and the benchmark of autoscaling set one up: the order service, without a stack.

Each of its pods has a log of its own, so it is stateless to whoever asks it; the operator's own parts measure it.
"""

import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from e2e.cluster import Cluster

from trade2026.stack.manifest import load_all
from trade2026.stack.planner import plan
from trade2026_operator.helm.charts import charts_folder, read_chart
from trade2026_operator.helm.releases import REPLICAS_METRIC, releases
from trade2026_operator.helm.releases import Cluster as Given
from trade2026_operator.helm.render import Capabilities, HelmCli
from trade2026_operator.keys import keys_secret
from trade2026_operator.reconcile.objects import Manifest

ROOT = Path(__file__).parent.parent
RELEASE, STACK = "desk-oms", "desk"
LABELS = {"stack": STACK, "release": "oms"}
PORT = 8099


def values_of(image: str, cores: str, most: int) -> dict[str, Any]:
    """Of the chart: the order service alone, scaled by its objective.

    Args:
        cores: Limit of a pod, e.g. 200m.
    """
    repository, _, tag = image.rpartition(":")
    document = load_all(
        (ROOT / "manifests" / "quickstart.yaml").read_text().replace("name: quickstart", f"name: {STACK}")
    )
    planned = plan(document.stack, document.strategies)
    (whole,) = releases(document.stack, planned, Given(image_repository=repository, pull_policy="Never"))
    container = next(each for each in whole.values["containers"] if each["name"] == "orders")
    amounts = {"requests": {"cpu": "50m", "memory": "96Mi"}, "limits": {"cpu": cores, "memory": "512Mi"}}
    return whole.values | {
        "image": whole.values["image"] | {"tag": tag},
        "component": "oms", "kind": "Deployment", "peers": "services", "replicas": 1,
        "containers": [container | {"resources": amounts}],
        "storage": {"ephemeral": True},
        "preStopSeconds": 0,
        "autoscaling": {
            "enabled": True, "minReplicas": 1, "maxReplicas": most,
            "metric": {"name": REPLICAS_METRIC, "labels": LABELS, "target": "1"},
        },
    }  # fmt: skip


def objects_of(cluster: Cluster, namespace: str, values: dict[str, Any]) -> list[Manifest]:
    """The same, rendered, with the keys that it starts with."""
    helm = shutil.which("helm", path=cluster.environment()["PATH"])
    assert helm is not None, "helm is missing beside kubectl"
    chart = read_chart(charts_folder() / "trade2026-service")
    rendered = HelmCli(Path(helm)).render(chart, RELEASE, namespace, values, Capabilities())
    return [keys_secret(STACK, namespace), *rendered.objects]


class Source:
    """Where the metrics server hears of demands: in the cluster's network, as an operator that leads would answer.

    Args:
        told: The board, as text.
    """

    def __init__(self, address: str, port: int) -> None:
        self.text = "[]"
        source = self

        class Answering(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(source.text.encode())

            def log_message(self, *words: Any) -> None:
                return

        self._server = ThreadingHTTPServer((address, port), Answering)
        self.url = f"http://{address}:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def say(self, namespace: str, replicas: float | None, why: str = "") -> None:
        """One answer, fresh as long as it stands."""
        entry = {"namespace": namespace, **LABELS, "replicas": replicas, "why": why, "age_seconds": 0}
        self.text = json.dumps([entry])

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
