"""A load whose requests come when they come: one that waits for answers would slow down with a slow service, and hide it."""

import base64
import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from e2e.cluster import Cluster
from e2e.scaling import BATCH, PORT, STACK

from trade2026_operator.helm.releases import keys_name

SENDERS = 48
ANSWER_SECONDS_MAX = 10.0
_ORDERS_KEPT = 20
"""Batches with names of their own; then the same come again, which the service has answered before. So its log and its
memory grow for a moment only, and a run may last."""


@dataclass(frozen=True)
class Sent:
    """One request.

    Attributes:
        due: Seconds since the load began, when it ought to have been sent.
        seconds: From then until its answer; infinite without one.
    """

    due: float
    seconds: float


class OpenLoad:
    """Batches of orders at random times, each over a connection of its own, so that all pods get some.

    Args:
        rate: Requests a second, by seconds since the beginning.
        seconds: How long it lasts.
        seed: Draws the times; the same for every signal that is compared.
    """

    def __init__(
        self, cluster: Cluster, namespace: str, rate: Callable[[float], float], seconds: float, seed: int
    ) -> None:
        service = cluster.get("service", f"{STACK}-oms", "-n", namespace)["spec"]
        secret = cluster.get("secret", keys_name(STACK), "-n", namespace)
        self._url = f"http://{service['clusterIP']}:{PORT}/orders/batch"
        key = base64.b64decode(secret["data"]["key"]).decode()
        self._headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        self._bodies = [_batch(number) for number in range(_ORDERS_KEPT)]
        self._due = enumerate(arrivals(rate, seconds, seed))
        self._turn = threading.Lock()
        self.sent: list[Sent] = []
        self.began = time.monotonic()
        self._threads = [threading.Thread(target=self._send, daemon=True) for _ in range(SENDERS)]
        for thread in self._threads:
            thread.start()

    def wait(self) -> None:
        """Until all are answered, or given up."""
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        while True:
            with self._turn:
                number, due = next(self._due, (0, None))
            if due is None:
                return
            time.sleep(max(0.0, self.began + due - time.monotonic()))
            answered = self._answered(self._bodies[number % len(self._bodies)])
            took = time.monotonic() - self.began - due
            self.sent.append(Sent(due, took if answered else float("inf")))

    def _answered(self, body: bytes) -> bool:
        try:
            asked = urllib.request.Request(self._url, body, self._headers)
            with urllib.request.urlopen(asked, timeout=ANSWER_SECONDS_MAX) as answer:
                answer.read()
        except OSError:  # refused, too slow, or a pod that has just gone
            return False
        return True


def _batch(number: int) -> bytes:
    order = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.001", "order_type": "limit", "price": "100"}
    orders = [{**order, "client_order_id": f"load-{number}-{each}"} for each in range(BATCH)]
    return json.dumps({"orders": orders}).encode()


def arrivals(rate: Callable[[float], float], seconds: float, seed: int) -> Iterator[float]:
    """Times of a Poisson process whose rate changes."""
    rng = np.random.default_rng(seed)
    at = 0.0
    while (at := at + float(rng.exponential(1 / max(0.1, rate(at))))) < seconds:
        yield at
