"""A release that scales, as the tests and the benchmark of autoscaling set one up: the order service, without a stack.

Each of its pods has a log of its own, so it is stateless to whoever asks it; the operator's own parts measure it.
"""

import asyncio
import base64
import itertools
import json
import shutil
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from e2e.cluster import Cluster

from trade2026.stack.manifest import load_all
from trade2026.stack.planner import plan
from trade2026_operator.cache import Cache
from trade2026_operator.helm.charts import charts_folder, read_chart
from trade2026_operator.helm.releases import REPLICAS_METRIC, keys_name, releases
from trade2026_operator.helm.releases import Cluster as Given
from trade2026_operator.helm.render import Capabilities, HelmCli
from trade2026_operator.helm.revisions import Wanted
from trade2026_operator.keys import keys_secret
from trade2026_operator.kube import Access, HttpKube
from trade2026_operator.queue import Key
from trade2026_operator.reconcile.objects import API_VERSION, Manifest, Ref, condition_of, ref_of
from trade2026_operator.reconcile.state import Desired, ReleaseWanted
from trade2026_operator.slo.external_metrics import API_SERVICE
from trade2026_operator.slo.scaler import Asking, Scaler

ROOT = Path(__file__).parent.parent
RELEASE, STACK = "desk-oms", "desk"
LABELS = {"stack": STACK, "release": "oms"}
PORT = 8099
BATCH = 50
"""Orders in one: so that a pod has to work, and not who sends them."""


def values_of(image: str, cores: str, most: int) -> dict[str, Any]:
    """Of the chart: the order service alone, scaled by its objective.

    Args:
        cores: Limit of a pod, e.g. 200m.
    """
    repository, _, tag = image.rpartition(":")
    document = load_all(
        (ROOT / "manifests" / "quickstart.yaml").read_text().replace("name: quickstart", f"name: {STACK}")
    )
    planned = plan(document.stack, [])
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


SERVER = "trade2026-operator-metrics"
WITHDRAW_SECONDS = 5


@contextmanager
def metrics_server_of(cluster: Cluster, namespace: str, operators: str) -> Iterator[None]:
    """The operator's chart without an operator, which runs beside the cluster and is asked at this address."""
    repository, _, tag = cluster.image.rpartition(":")
    values = {
        "replicas": 0, "crds": {"install": False},
        "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
        "metricsServer": {"replicas": 1, "operators": operators},
    }  # fmt: skip
    words = ["install", "trade2026-operator", str(ROOT / "charts" / "trade2026-operator"), "-n", namespace]
    cluster.call("helm", *words, "--values", "-", given=values)
    try:
        yield
    finally:
        cluster.helm("uninstall", "trade2026-operator", "-n", namespace, "--wait", check=False)


def with_metrics_server(namespace: str) -> list[str]:
    """Options of an operator that is to offer it."""
    more = ["--metrics-server", f"{namespace}/{SERVER}", "--metrics-withdraw-seconds", str(WITHDRAW_SECONDS)]
    return [*more, "--metrics-owner", f"{namespace}-trade2026-operator"]


def is_served(cluster: Cluster) -> bool:
    """Whether external metrics have a server that the API server reaches."""
    found = condition_of(cluster.get("apiservice", API_SERVICE), "Available")
    return found is not None and found["status"] == "True"


class Source:
    """Where the metrics server hears of demands: in the cluster's network, as an operator that leads would answer."""

    def __init__(self, address: str, port: int = 0) -> None:
        self.text: Callable[[], str] = lambda: "[]"
        source = self

        class Answering(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(source.text().encode())

            def log_message(self, *words: Any) -> None:
                return

        self._server = ThreadingHTTPServer((address, port), Answering)
        self.url = f"http://{address}:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def say(self, namespace: str, replicas: float | None, why: str = "") -> None:
        """One answer, fresh as long as it stands."""
        entry = {"namespace": namespace, **LABELS, "replicas": replicas, "why": why, "age_seconds": 0}
        self.text = lambda: json.dumps([entry])

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()


class Measuring:
    """The operator's own measuring of the release, fed by `kubectl` instead of watches; in a thread of its own.

    Args:
        under: Objective of 99 of 100 answers, e.g. 250ms.
        window_seconds: Over which rates are taken.
        pause_seconds: Between two looks.
        partitions: That replicas share; 0 for none.
    """

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        objects: list[Manifest],
        under: str,
        window_seconds: float,
        pause_seconds: float = 1.0,
        partitions: int = 0,
    ) -> None:
        self._cluster, self._namespace, self._pause_seconds = cluster, namespace, pause_seconds
        self.seen: list[Manifest] = []
        """Workload, pods and autoscaler, as they were at the last look."""
        self._key = Key(namespace, STACK)
        slo = {"latency": [{"quantile": 0.99, "under": under}]}
        meta = {"name": STACK, "namespace": namespace, "uid": "measured"}
        self._stack: Manifest = {
            "apiVersion": API_VERSION, "kind": "TradingStack", "metadata": meta,
            "spec": {"services": {"oms": {"slo": slo}}, "bus": {"partitions": partitions}},
        }  # fmt: skip
        kinds = ("Deployment", "StatefulSet", "HorizontalPodAutoscaler")
        scaled = tuple(each for each in objects if each["kind"] in kinds)
        self._desired = Desired((ReleaseWanted(Wanted(RELEASE, namespace, {}, {}, "", ""), scaled, ("oms",)),))
        self._window_seconds = window_seconds
        self.scaler: Scaler | None = None
        self.said: list[str] = []
        self._ends = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()

    def text(self) -> str:
        """The board, as the metrics server hears of it."""
        return self.scaler.board.text(time.monotonic()) if self.scaler is not None else "[]"

    def why(self) -> str:
        """What is told of the release now, for a person."""
        return next((answer.why for _, answer in self.scaler.board.items()), "") if self.scaler is not None else ""

    def close(self) -> None:
        """Look no more."""
        self._ends.set()
        self._thread.join()

    async def _run(self) -> None:
        cache, asking = Cache(lambda key: None), Asking()
        cache.stack_seen(self._stack)
        window = self._window_seconds  # a need is forgotten sooner, as all is short here
        self.scaler = Scaler(_NoMemory(), cache, self._say, asking, window_seconds=window, ease_seconds=2 * window)
        self.scaler.planned(self._key, self._stack, self._desired)
        while not self._ends.is_set():
            kinds = "deployments,statefulsets,pods,hpa"
            found = await asyncio.to_thread(self._cluster.get, kinds, "-n", self._namespace)
            self.seen = found["items"]
            seen = {ref_of(each) for each in self.seen}
            for ref in set(cache.children(self._key)) - seen:
                cache.child_gone(cache.children(self._key)[ref].manifest)
            for each in self.seen:
                cache.child_seen(each)
            await self.scaler.look()
            await asyncio.sleep(self._pause_seconds)
        await asking.close()

    async def _say(self, stack: Manifest, reason: str, message: str, is_warning: bool) -> None:
        self.said.append(f"{reason}: {message}")


class _NoMemory(HttpKube):
    """Remembers nothing."""

    def __init__(self) -> None:
        super().__init__(Access(""))

    async def get(self, ref: Ref) -> Manifest | None:
        return None

    async def apply(self, manifest: Manifest, manager: str, *, dry_run: bool = False) -> Manifest:
        return manifest


class Load:
    """Batches of orders, each over a connection of its own, so that all pods get some.

    They are orders that stay open, so the log grows, and after some minutes a small pod is killed for its memory.

    Args:
        senders: So many at a time.
        pause_seconds: Of each, after an answer; asked before every one.
        accounts: In turn, each the account of a whole batch; "" is the default one.
        batch: Orders in one.
    """

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        senders: int,
        pause_seconds: Callable[[], float] = lambda: 0.0,
        accounts: Sequence[str] = ("",),
        batch: int = BATCH,
    ) -> None:
        service = cluster.get("service", f"{STACK}-oms", "-n", namespace)["spec"]
        secret = cluster.get("secret", keys_name(STACK), "-n", namespace)
        self._url = f"http://{service['clusterIP']}:{PORT}/orders/batch"
        self._key = base64.b64decode(secret["data"]["key"]).decode()
        order = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.001", "order_type": "limit", "price": "100"}
        orders = [order | ({"account": account} if account else {}) for account in accounts]
        self._bodies = itertools.cycle([json.dumps({"orders": [each] * batch}).encode() for each in orders])
        self._pause_seconds = pause_seconds
        self.seconds: list[float] = []
        """That each answer took; a refusal is none."""
        self._ends = threading.Event()
        self._threads = [threading.Thread(target=self._send, daemon=True) for _ in range(senders)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Send no more."""
        self._ends.set()
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        headers = {"authorization": f"Bearer {self._key}", "content-type": "application/json"}
        while not self._ends.wait(self._pause_seconds()):
            began = time.monotonic()
            try:
                with urllib.request.urlopen(
                    urllib.request.Request(self._url, next(self._bodies), headers), timeout=30
                ) as answer:
                    answer.read()
                self.seconds.append(time.monotonic() - began)
            except OSError:  # refused, or a pod that has just gone
                time.sleep(0.1)
