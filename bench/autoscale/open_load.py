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
from e2e.scaling import PORT, STACK

from trade2026_operator.helm.releases import keys_name

SENDERS = 48
ANSWER_SECONDS_MAX = 10.0
_AGAIN_SECONDS = 0.02
_AGAIN_STATUSES = (429, 503)


@dataclass(frozen=True)
class Requests:
    """What is asked: batches of orders.

    Attributes:
        orders: In one.
        names: Batches with names of their own; then the same come again, which the service has answered before, so its log
            and its memory grow for a moment only. 0: each is new.
        accounts: In turn, each that of a whole batch; "" is the default one.
    """

    orders: int
    names: int = 0
    accounts: tuple[str, ...] = ("",)

    def body(self, number: int) -> bytes:
        """Of one request."""
        account = self.accounts[number % len(self.accounts)]
        order = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.001", "order_type": "limit", "price": "100"}
        order |= {"account": account} if account else {}
        return json.dumps(
            {"orders": [{**order, "client_order_id": f"load-{number}-{each}"} for each in range(self.orders)]}
        ).encode()


@dataclass(frozen=True)
class Sent:
    """One request.

    Attributes:
        due: Seconds since the load began, when it ought to have been sent.
        seconds: From then until its answer; infinite without one.
        tries: So often it was sent: again after 20 ms when it was told to, or was not answered.
    """

    due: float
    seconds: float
    tries: int


class OpenLoad:
    """Requests at random times, each over a connection of its own, so that all pods get some.

    Args:
        rate: Requests a second, by seconds since the beginning.
        seconds: How long it lasts.
        seed: Draws the times; the same for every signal that is compared.
    """

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        requests: Requests,
        rate: Callable[[float], float],
        seconds: float,
        seed: int,
    ) -> None:
        service = cluster.get("service", f"{STACK}-oms", "-n", namespace)["spec"]
        secret = cluster.get("secret", keys_name(STACK), "-n", namespace)
        self._url = f"http://{service['clusterIP']}:{PORT}/orders/batch"
        self.key = base64.b64decode(secret["data"]["key"]).decode()
        self._headers = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
        kept = [requests.body(number) for number in range(requests.names)]
        self._body = (lambda number: kept[number % len(kept)]) if kept else requests.body
        self._due = enumerate(arrivals(rate, seconds, seed))
        self._turn = threading.Lock()
        self.sent: list[Sent] = []
        self.refused: set[str] = set()
        """Why orders were, if any."""
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
            body, at, tries = self._body(number), self.began + due, 1
            time.sleep(max(0.0, at - time.monotonic()))
            while not (answered := self._answered(body)) and time.monotonic() < at + ANSWER_SECONDS_MAX:
                time.sleep(_AGAIN_SECONDS)
                tries += 1
            self.sent.append(Sent(due, time.monotonic() - at if answered else float("inf"), tries))

    def _answered(self, body: bytes) -> bool:
        """Whether it is known what became of all of its orders."""
        try:
            asked = urllib.request.Request(self._url, body, self._headers)
            with urllib.request.urlopen(asked, timeout=ANSWER_SECONDS_MAX) as answer:
                results = json.loads(answer.read())["results"]
        except (OSError, ValueError):  # refused, too slow, or a pod that has just gone
            return False
        again = [each.get("status") in _AGAIN_STATUSES for each in results]
        self.refused.update(
            each["code"] for each, is_again in zip(results, again, strict=True) if "code" in each and not is_again
        )
        return not any(again)


def arrivals(rate: Callable[[float], float], seconds: float, seed: int) -> Iterator[float]:
    """Times of a Poisson process whose rate changes."""
    rng = np.random.default_rng(seed)
    at = 0.0
    while (at := at + float(rng.exponential(1 / max(0.1, rate(at))))) < seconds:
        yield at
