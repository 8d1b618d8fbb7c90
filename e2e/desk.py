"""A stack as a person sees it who has applied a manifest: its conditions, its pods, an order through its Service."""

import base64
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import yaml
from e2e.cluster import Cluster, wait_for

from trade2026_operator.helm.releases import keys_name, service_name

ROOT = Path(__file__).parent.parent
READY_SECONDS_MAX = 60.0


class Desk:
    """A stack as a person sees it."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace

    def kubectl(self, *words: str, given: Any = None, check: bool = True) -> str:
        return self.cluster.kubectl(*words, "-n", self.namespace, given=given, check=check)

    def get(self, *words: str) -> dict[str, Any]:
        return self.cluster.get(*words, "-n", self.namespace)

    def condition(self, kind: str) -> dict[str, Any]:
        found = self.get("ts", "desk").get("status", {}).get("conditions", [])
        return next((each for each in found if each["type"] == kind), {"status": "", "message": ""})

    def until(self, kind: str, status: str = "True", seconds_max: float = READY_SECONDS_MAX) -> None:
        wait_for(f"{kind} is {status}", lambda: self.condition(kind)["status"] == status, 3 * seconds_max)

    def order(self, number: int, **terms: str) -> int:
        """Send an order through the Service, with the stack's own key; the answer's status."""
        service = self.get("service", service_name("desk", "oms"))["spec"]
        key = base64.b64decode(self.get("secret", keys_name("desk"))["data"]["key"]).decode()
        url = f"http://{service['clusterIP']}:{service['ports'][0]['port']}/orders"
        order = {"client_order_id": f"c{number}", "symbol": "BTCUSDT", "side": "buy", "quantity": "0.001", **terms}
        asked = urllib.request.Request(
            url,
            json.dumps({**order, "order_type": "market"}).encode(),
            {"authorization": f"Bearer {key}", "content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(asked, timeout=30) as answer:
                return answer.status
        except urllib.error.HTTPError as refused:
            return refused.code

    def restarts(self) -> dict[str, int]:
        """Of all containers of each pod together, by its name."""
        items = self.get("pods", "-l", "trade2026.io/stack=desk")["items"]
        return {
            item["metadata"]["name"]: sum(each["restartCount"] for each in item["status"]["containerStatuses"])
            for item in items
        }

    def pods(self) -> dict[str, str]:
        """Their uids by name."""
        items = self.get("pods", "-l", "trade2026.io/stack=desk")["items"]
        return {item["metadata"]["name"]: item["metadata"]["uid"] for item in items}


def manifest(name: str = "quickstart") -> dict[str, Any]:
    """The quickstart, or another of `manifests/`, without its strategies."""
    documents = yaml.safe_load_all((ROOT / "manifests" / f"{name}.yaml").read_text())
    stack = next(each for each in documents if each["kind"] == "TradingStack")
    return {**stack, "metadata": {"name": "desk"}}
