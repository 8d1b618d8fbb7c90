"""Clients that trade, and never believe anything that they were not told: load for tests that break the platform.

Every request is repeated, with the same client order id, until it has an answer. What was answered is kept
in a `Ledger`; an answer that contradicts an earlier one is a fault at once.
"""

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

_RETRY_SECONDS = 0.1
_ANSWER_SECONDS_MAX = 10.0
_TRY_AGAIN = (429, 503)
_BATCH_ORDERS = 5


class GaveUp(Exception):
    """The load ended before an answer came: whether it was done is not known."""


@dataclass
class Ledger:
    """What clients were told. `orders` maps (account, client order id) to the order id."""

    orders: dict[tuple[str, str], str] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    retries: int = 0
    faults: list[str] = field(default_factory=list)

    def told(self, account: str, client_order_id: str, order_id: str) -> None:
        """An order was acknowledged, or refused and recorded: it exists from now on, under this id."""
        known = self.orders.setdefault((account, client_order_id), order_id)
        if known != order_id:
            self.faults.append(f"{account}/{client_order_id} was {known}, now it is {order_id}")


class Trader:
    """Submits, sends batches, cancels and amends at random, in one account, until told to stop.

    Args:
        send: One attempt of one request; returns a status and a body, or raises when there is no answer.
        price: Around which orders are priced.
        pause_seconds: Between two requests.
        with_lists: Whether brackets can be sent this way.
    """

    def __init__(
        self,
        name: str,
        account: str,
        ledger: Ledger,
        stop: asyncio.Event,
        send: Callable[..., Awaitable[tuple[int, Any]]],
        price: float,
        *,
        seed: int,
        pause_seconds: float,
        with_lists: bool,
    ) -> None:
        self.name, self.account, self.ledger, self.stop = name, account, ledger, stop
        self._send, self._price, self._pause_seconds = send, price, pause_seconds
        self._random = random.Random(f"{name} {seed}")
        self._made = 0
        self._mine: list[str] = []
        self._actions = [self._submit, self._submit_batch, self._cancel, self._amend]
        self._weights = [8, 1, 3, 1]
        if with_lists:
            self._actions.append(self._submit_bracket)
            self._weights.append(1)

    async def run(self) -> None:
        """Trade until `stop` is set."""
        with contextlib.suppress(GaveUp):
            while not self.stop.is_set():
                await self._random.choices(self._actions, self._weights)[0]()
                await asyncio.sleep(self._pause_seconds)

    def _order(self) -> dict[str, Any]:
        """Mostly orders that fill at once, else resting ones; both sides alike."""
        self._made += 1
        side = self._random.choice(("buy", "sell"))
        crosses = self._random.random() < 0.6
        edge = self._random.uniform(0.005, 0.03) * (1 if (side == "buy") == crosses else -1)
        return {
            "symbol": "BTCUSDT",
            "side": side,
            "order_type": "LIMIT",
            "quantity": f"{self._random.randint(1, 50) / 1000:.3f}",
            "price": f"{self._price * (1 + edge):.2f}",
            "account": self.account,
            "client_order_id": f"{self.name}-{self._made}",
        }

    async def _submit(self) -> None:
        order = self._order()
        status, body = await self._answered("submit", order=order)
        self._placed(order, status, body)
        if self._random.random() < 0.1:  # a client that is not sure asks again
            self._placed(order, *await self._answered("submit", order=order))

    async def _submit_batch(self) -> None:
        orders = [self._order() for _ in range(_BATCH_ORDERS)]
        while orders:
            status, results = await self._answered("batch", orders=orders)
            if status != 200 or len(results) != len(orders):
                self.ledger.faults.append(f"{self.name}: a batch was answered {status} {str(results)[:300]}")
                return
            again = []
            for order, result in zip(orders, results, strict=True):
                if result.get("status") in _TRY_AGAIN:
                    again.append(order)
                else:
                    self._placed(order, result["status"] if isinstance(result["status"], int) else 200, result)
            orders = again
            if orders:
                await self._rest()

    async def _submit_bracket(self) -> None:
        """An entry that fills at once, and a profit and a loss beside it that the market reaches soon."""
        buy = self._random.random() < 0.5
        entry, profit, loss = self._order(), self._order(), self._order()
        out = {"side": "sell" if buy else "buy", "quantity": entry["quantity"]}
        away = self._price * self._random.uniform(0.002, 0.02) * (1 if buy else -1)
        entry |= {
            "side": "buy" if buy else "sell",
            "price": f"{self._price + (1 if buy else -1) * self._price / 20:.2f}",
        }
        profit |= {**out, "price": f"{self._price + away:.2f}"}
        loss |= {**out, "order_type": "STOP", "stop_price": f"{self._price - away:.2f}"}
        del loss["price"]
        orders = [entry, profit, loss]
        status, results = await self._answered("list", orders=orders)
        self.ledger.answers[f"bracket {status}"] += 1
        if status == 200:
            for order, result in zip(orders, results, strict=True):
                self._placed(order, status, result)
        elif status != 422:
            self.ledger.faults.append(f"{self.name}: a bracket was answered {status} {str(results)[:300]}")

    def _placed(self, order: dict[str, Any], status: int, body: Any) -> None:
        self.ledger.answers[f"submit {status}"] += 1
        if "order_id" not in body or status not in (200, 422):
            self.ledger.faults.append(f"{order['client_order_id']} was answered {status} {str(body)[:300]}")
            return
        self.ledger.told(self.account, order["client_order_id"], body["order_id"])
        if status == 200:
            self._mine.append(body["order_id"])

    async def _cancel(self) -> None:
        if self._mine:
            self._changed("cancel", *await self._answered("cancel", order_id=self._random.choice(self._mine[-50:])))

    async def _amend(self) -> None:
        if self._mine:
            terms = {"quantity": f"{self._random.randint(1, 80) / 1000:.3f}"}
            order_id = self._random.choice(self._mine[-20:])
            self._changed("amend", *await self._answered("amend", order_id=order_id, amend=terms))

    def _changed(self, what: str, status: int, body: Any) -> None:
        self.ledger.answers[f"{what} {status}"] += 1
        if status not in (200, 409, 422):
            self.ledger.faults.append(f"{self.name}: a {what} was answered {status} {str(body)[:300]}")

    async def _answered(self, op: str, **values: Any) -> tuple[int, Any]:
        """Ask until somebody answers.

        Raises:
            GaveUp: the load has ended.
        """
        while True:
            try:
                async with asyncio.timeout(_ANSWER_SECONDS_MAX):
                    status, body = await self._send(op, **values)
            except (httpx.TransportError, OSError, WebSocketException, TimeoutError):
                status, body = 503, {}
            if status not in _TRY_AGAIN:
                return status, body
            self.ledger.retries += 1
            await self._rest()

    async def _rest(self) -> None:
        if self.stop.is_set():
            raise GaveUp
        await asyncio.sleep(_RETRY_SECONDS)


class RestEntry:
    """Order entry over REST."""

    def __init__(self, url: str) -> None:
        self._client = httpx.AsyncClient(base_url=url, timeout=_ANSWER_SECONDS_MAX, trust_env=False)

    async def send(
        self, op: str, *, order: Any = None, orders: Any = None, order_id: str = "", amend: Any = None
    ) -> Any:
        """One attempt."""
        match op:
            case "submit":
                answer = await self._client.post("/orders", json=order)
            case "batch":
                answer = await self._client.post("/orders/batch", json={"orders": orders})
            case "list":
                answer = await self._client.post("/orders/list", json={"kind": "BRACKET", "orders": orders})
            case "cancel":
                answer = await self._client.delete(f"/orders/{order_id}")
            case _:
                answer = await self._client.patch(f"/orders/{order_id}", json=amend)
        body = answer.json()
        return answer.status_code, body.get("results", body.get("orders", body))

    async def close(self) -> None:
        """Let the connections go."""
        await self._client.aclose()


class SocketEntry:
    """Order entry over one WebSocket, opened again when it breaks."""

    def __init__(self, url: str) -> None:
        self._url, self._socket, self._next_id = url, None, 0
        self._socket: ClientConnection | None

    async def send(self, op: str, **values: Any) -> Any:
        """One attempt."""
        if self._socket is None:
            self._socket = await connect(f"{self._url}/ws/orders", open_timeout=_ANSWER_SECONDS_MAX, proxy=None)
        self._next_id += 1
        try:
            await self._socket.send(json.dumps({"op": op, "id": self._next_id, **values}))
            answer = json.loads(await self._socket.recv())
        except BaseException:
            await self.close()
            raise
        assert answer["id"] == self._next_id, answer
        if "problem" in answer:
            return answer["problem"]["status"], answer["problem"]
        return 200, answer["result"]

    async def close(self) -> None:
        """Hang up."""
        socket, self._socket = self._socket, None
        if socket is not None:
            socket.transport.abort()


class Load:
    """Traders over REST and WebSocket, as a context: `async with Load(…) as load`.

    Args:
        http_url, ws_url: Of the OMS.
        accounts: Each gets one trader over REST and one over WebSocket.
    """

    def __init__(
        self,
        http_url: str,
        ws_url: str,
        accounts: tuple[str, ...],
        price: float,
        *,
        seed: int,
        pause_seconds: float = 0.02,
    ) -> None:
        self.ledger, self.accounts = Ledger(), accounts
        self._stop = asyncio.Event()
        self._entries: list[RestEntry | SocketEntry] = []
        self._traders: list[Trader] = []
        self._tasks: list[asyncio.Task[None]] = []
        for account in accounts:
            for kind, entry in (("rest", RestEntry(http_url)), ("ws", SocketEntry(ws_url))):
                trader = Trader(
                    f"{account}-{kind}",
                    account,
                    self.ledger,
                    self._stop,
                    entry.send,
                    price,
                    seed=seed,
                    pause_seconds=pause_seconds,
                    with_lists=kind == "rest",
                )
                self._entries.append(entry)
                self._traders.append(trader)

    async def __aenter__(self) -> "Load":
        self._tasks = [asyncio.create_task(trader.run(), name=trader.name) for trader in self._traders]
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.end()

    async def end(self) -> None:
        """Stop trading; what has no answer yet stays unknown. Raises what a trader raised. Idempotent."""
        self._stop.set()
        tasks, self._tasks = self._tasks, []
        try:
            await asyncio.gather(*tasks)
        finally:
            for entry in self._entries:
                await entry.close()

    def check(self) -> None:
        """Raise what a trader raised, and `AssertionError` for answers that contradict each other."""
        for task in self._tasks:
            if task.done():
                task.result()
        assert not self.ledger.faults, "\n".join(self.ledger.faults[:20])
