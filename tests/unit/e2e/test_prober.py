"""The prober against a made-up order service, which does what a real one must not: it is found out."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web
from e2e.accounting import Lost
from e2e.prober import Prober


class OrderService:
    """Takes orders into a list, in a thread of its own.

    Attributes:
        drops: How many of the next answers are lost after their order was taken.
        busy: How many of the next attempts are told to come again.
        forgets_ids: Whether the same client order id makes another order.
    """

    def __init__(self) -> None:
        self.orders: dict[str, dict[str, Any]] = {}
        self.drops = self.busy = 0
        self.forgets_ids = False
        self.loses: set[int] = set()
        """Numbers of orders that are acknowledged and not kept."""
        self.url = ""
        self._ready, self._loop = threading.Event(), asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._ready.wait()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        self._loop.close()

    async def _serve(self) -> None:
        self._end = asyncio.Event()
        app = web.Application()
        app.add_routes([web.post("/orders", self._submit), web.get("/orders", self._list)])
        app.add_routes([web.get("/positions/{account}", self._positions), web.get("/ws/events", self._events)])
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._ready.set()
        await self._end.wait()
        await runner.cleanup()

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        if self.busy:
            self.busy -= 1
            return web.json_response({}, status=503, headers={"Retry-After": "0"})
        asked = await request.json()
        name = asked["client_order_id"]
        known = next((o for o in self.orders.values() if o["client_order_id"] == name), None)
        if known is None or self.forgets_ids:
            order_id = f"o0-{len(self.orders)}"
            known = {"client_order_id": name, "order_id": order_id, "status": "Filled"}
            self.orders[order_id] = known
        if self.drops:
            self.drops -= 1
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({"order_id": known["order_id"]})

    @property
    def _kept(self) -> list[dict[str, Any]]:
        return [order for number, order in enumerate(self.orders.values()) if number not in self.loses]

    async def _list(self, request: web.Request) -> web.Response:
        begin = int(request.query.get("cursor", 0))
        page = self._kept[begin : begin + 2]
        return web.json_response({"orders": page, "cursor": str(begin + 2) if self._kept[begin + 2 :] else None})

    async def _positions(self, request: web.Request) -> web.Response:
        return web.json_response({"as_of": len(self._kept) - 1})

    async def _events(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        for seq, order in enumerate(self._kept):
            data = {"order_id": order["order_id"], "spec": {"client_order_id": order["client_order_id"]}}
            about = {"event_id": f"orders.events/0/{seq}", "seq": seq, "type": "OrderAccepted", "data": data}
            await socket.send_json(about)
        await socket.receive()
        return socket


@pytest.fixture
def service() -> Iterator[OrderService]:
    made = OrderService()
    made.start()
    yield made
    made.stop()


def prober(service: OrderService) -> Prober:
    return Prober(lambda: service.url, "key", orders_per_second=200)


def test_what_has_no_answer_or_is_told_to_wait_is_asked_again_and_accounted_for(service: OrderService) -> None:
    with prober(service) as probing:
        probing.until_acknowledged(3)
        service.drops, service.busy = 2, 3
        probing.until_acknowledged(5)
    report = probing.account()
    assert report.acknowledged == report.sent == len(service.orders)
    assert 1 <= report.resolved <= 2, "two answers were lost, perhaps of the same order"
    assert report.deferred == 3


def test_an_order_that_is_taken_twice_is_found(service: OrderService) -> None:
    with prober(service) as probing:
        service.forgets_ids, service.drops = True, 1
        probing.until_acknowledged(3)
    with pytest.raises(Lost, match="times: o0-"):
        probing.account()


def test_an_acknowledged_order_that_is_not_there_is_found(service: OrderService) -> None:
    with prober(service) as probing:
        service.loses = {1}
        probing.until_acknowledged(3)
    with pytest.raises(Lost, match="was acknowledged, and is not in the log"):
        probing.account()
