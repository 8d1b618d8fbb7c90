"""A disk that fills up: new orders stop in time, what reduces risk goes on, and nothing acknowledged is lost."""

import contextlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from one_process import ORDER, SECONDS_MAX, OneProcess
from small_disk import SmallDisk
from websockets.sync.client import connect

FLOOR_BYTES = 128 * 1024 * 1024
"""Half of it is left: room for every service to go on until the test is over."""


@pytest.fixture(params=["this machine's", "simulated"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallDisk]:
    small = SmallDisk(tmp_path / "disk", simulated=request.param == "simulated")
    yield small
    small.close()


def running(disk: SmallDisk, floor: int) -> OneProcess:
    return OneProcess(
        disk.path / "state",
        disk=disk,
        change=lambda settings: msgspec.structs.replace(settings, free_bytes_min=floor),
    )


def low(stack: OneProcess) -> bool:
    return stack.call("oms", "POST", "/orders", {**ORDER, "price": "30000"}).code == "disk_low"


def test_below_the_floor_new_orders_stop_and_the_rest_goes_on(disk: SmallDisk) -> None:
    with running(disk, FLOOR_BYTES) as stack:
        last = float(stack.call("gateway", "GET", "/ticker/BTCUSDT").json["last"])
        near = [
            {**ORDER, "side": side, "price": f"{last * (1 + sign * step / 20_000):.2f}"}
            for step in range(1, 60)
            for side, sign in (("buy", -1), ("sell", 1))
        ]
        placed = stack.call("oms", "POST", "/orders/batch", {"orders": near}).json["results"]
        kept = stack.call("oms", "POST", "/orders", {**ORDER, "price": "30000"}).json["order_id"]
        disk.leave(FLOOR_BYTES // 2)
        stack.wait_until(lambda: low(stack), "new orders are refused")

        before = stack.decisions()
        refused = stack.call("oms", "POST", "/orders", ORDER)
        assert refused.status == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert "MiB are free" in refused.json["detail"]
        results = stack.call("oms", "POST", "/orders/batch", {"orders": [ORDER] * 3}).json["results"]
        assert [result["code"] for result in results] == ["disk_low"] * 3
        listed = {"kind": "OCO", "orders": [{**ORDER, "client_order_id": name} for name in ("a", "b")]}
        assert stack.call("oms", "POST", "/orders/list", listed).code == "disk_low"
        assert stack.call("oms", "PATCH", f"/orders/{kept}", {"price": "30001"}).code == "disk_low"
        assert stack.call("gateway", "POST", "/orders", ORDER).code == "disk_low"
        with connect(f"ws://127.0.0.1:{stack.settings.ports['oms']}/ws/orders") as ws:
            ws.send(json.dumps({"op": "submit", "order": ORDER}))
            assert json.loads(ws.recv(timeout=SECONDS_MAX))["problem"]["code"] == "disk_low"
        assert stack.decisions() == before
        health = stack.call("oms", "GET", "/health")
        assert health.status == 503
        assert health.json["checks"]["disk"]["status"] == "failed"
        assert stack.call("oms", "GET", "/readyz").status == 200

        # What was sent before still fills, and fills are written.
        def filled() -> set[str]:
            return {event.data.order_id for event in stack.events() if type(event.data).__name__ == "OrderFilled"}

        had = filled()
        stack.wait_until(lambda: filled() - had, "an order is filled while the disk is low")
        assert stack.call("oms", "DELETE", f"/orders/{kept}").status == 200
        stack.wait_until(
            lambda: stack.call("oms", "GET", f"/orders/{kept}").json["status"] == "Canceled", "a cancel goes through"
        )
        assert stack.call("oms", "POST", "/kill", {"scope": "stack", "reason": "test"}).status == 200
        stack.wait_until(
            lambda: not stack.call("oms", "GET", "/orders?status=open").json["orders"], "the kill cancels everything"
        )
        assert stack.call("risk", "POST", "/resume", {"scope": "stack", "reason": "test"}).status == 200

        disk.release()
        stack.wait_until(lambda: stack.call("oms", "POST", "/orders", ORDER).status == 200, "orders are taken again")
        assert len(placed) == len(near)


class Client(threading.Thread):
    """Places orders one after the other, and remembers which were acknowledged."""

    def __init__(self, stack: OneProcess, name: str) -> None:
        super().__init__(daemon=True)
        self.stack, self.account = stack, name
        self.acknowledged: list[str] = []
        self.answers: Counter[Any] = Counter()
        self.done = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.done.is_set():
            number += 1
            name = f"{self.account}-{number}"
            order = {**ORDER, "price": "30000", "account": self.account, "client_order_id": name}
            with contextlib.suppress(OSError):
                answer = self.stack.call("oms", "POST", "/orders", order)
                self.answers[answer.status, answer.code] += 1
                if answer.status == 200:
                    self.acknowledged.append(name)


def test_at_zero_bytes_nothing_acknowledged_is_lost_and_all_recovers(disk: SmallDisk) -> None:
    with running(disk, 0) as stack:
        clients = [Client(stack, name) for name in ("one", "two")]
        for client in clients:
            client.start()
        stack.wait_until(lambda: all(len(client.acknowledged) > 50 for client in clients), "orders are taken")
        disk.leave(0)
        stack.wait_until(
            lambda: all(
                client.answers[503, "not_acknowledged"] + client.answers[503, "not_ready"] for client in clients
            ),
            "the full disk is noticed",
        )
        killed = stack.call("oms", "POST", "/kill", {"scope": "account:one", "reason": "full disk"})
        assert (killed.status, killed.code) == (503, "latched_not_logged"), killed
        assert "kills" in stack.call("oms", "GET", "/health").json["checks"]
        for service in stack.services:
            assert stack.call(service, "GET", "/livez").status == 200
            assert stack.call(service, "GET", "/health").status in (200, 503)

        disk.release()
        stack.wait_until(lambda: stack.answers("oms") and stack.answers("gateway"), "orders and venue are back")
        stack.wait_until(
            lambda: any(type(event.data).__name__ == "Killed" for event in stack.events()), "the kill is logged"
        )
        two = clients[1]
        had = len(two.acknowledged)
        stack.wait_until(lambda: len(two.acknowledged) > had + 20, "orders are taken again")
        for client in clients:
            client.done.set()
            client.join(SECONDS_MAX)
        last = stack.call("oms", "POST", "/orders", {**ORDER, "account": "one"})
        assert last.code == "order_rejected"
        assert last.json["reject_code"] == "KILLED"
        assert stack.call("oms", "POST", "/resume", {"scope": "account:one", "reason": "test"}).status == 200

        # Every acknowledged order exists once, here and at the venue.
        events = stack.events()
        assert [event.seq for event in events] == list(range(len(events)))
        accepted = Counter(
            event.data.spec.client_order_id for event in events if type(event.data).__name__ == "OrderAccepted"
        )
        acknowledged = [name for client in clients for name in client.acknowledged]
        assert {name: accepted[name] for name in acknowledged if accepted[name] != 1} == {}
        unknown = {key for client in clients for key in client.answers} - {
            (200, ""),
            (422, "order_rejected"),
            (503, "disk_low"),
            (503, "killed"),
            (503, "not_ready"),
            (503, "not_acknowledged"),
            (429, "overloaded"),
        }
        assert not unknown
        end = len(stack.events()) - 1
        for service in ("risk", "ptrc", "pnl"):
            stack.wait_until(
                lambda service=service: stack.call(service, "GET", "/positions/two").json["as_of"] >= end,
                f"{service} has followed to the end",
            )
        stack.wait_until(
            lambda: stack.call("archive", "GET", "/stats").json["as_of"] >= end, "the history has followed to the end"
        )
        with contextlib.suppress(AssertionError):
            stack.wait_until(lambda: not unwell(stack), "every service is well again")
        assert unwell(stack) == {}


def unwell(stack: OneProcess) -> dict[str, Any]:
    """What is not well besides the disk, by service."""
    found: dict[str, Any] = {}
    for service in stack.services:
        for name, check in stack.call(service, "GET", "/health").json["checks"].items():
            if check["status"] != "ok" and name != "disk":
                found[f"{service} {name}"] = check["detail"]
    return found
