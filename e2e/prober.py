"""A client that never stops: sends orders through a stack's Service while a test does harm, and then accounts for each.

It does what a careful client does. Each order has a client order id with a sequence number; an attempt without an
answer, or with one that says that it may come again, is repeated with the same id until it is known what became of it.
"""

import asyncio
import base64
import contextlib
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import aiohttp
from e2e.accounting import Answer, Ledger, Report
from e2e.cluster import WAIT_SECONDS, Cluster, wait_for

from trade2026.domain.orders import partition_of_id
from trade2026_operator.helm.releases import keys_name, service_name

ACCOUNT = "prober"
ORDERS_PER_SECOND = 20.0
_ATTEMPT_SECONDS_MAX = 3.0
_RETRY_SECONDS = 0.2
_IN_FLIGHT_MAX = 100
"""With so many orders without an answer no more are sent until one comes."""
_ADDRESS_SECONDS = 1.0
"""How often at most the Service is asked for anew, when nobody answers at its address."""
_PAGE_ORDERS = 1_000


class Prober:
    """Sends while it is entered; `account` afterwards tells what became of everything.

    Args:
        address: Where the order service is, as `http://HOST:PORT`; asked again when nobody answers there.
        key: Of a principal that may trade in any account.
        accounts: In turn.
    """

    def __init__(
        self,
        address: Callable[[], str],
        key: str,
        *,
        accounts: Sequence[str] = (ACCOUNT,),
        symbol: str = "BTCUSDT",
        orders_per_second: float = ORDERS_PER_SECOND,
    ) -> None:
        self.ledger = Ledger(f"probe-{uuid.uuid4().hex[:6]}-", time.monotonic())
        self.logs: list[list[Any]] = []
        """All events of each partition, when it has accounted."""
        self._find, self._address = address, address()
        self._found_at = time.monotonic()
        self._headers = {"Authorization": f"Bearer {key}"}
        self._accounts, self._symbol, self._pause = accounts, symbol, 1.0 / orders_per_second
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="prober", daemon=True)
        self._failure: BaseException | None = None

    def __enter__(self) -> "Prober":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(WAIT_SECONDS + 2 * _ATTEMPT_SECONDS_MAX)

    def until_acknowledged(self, count: int = 10) -> None:
        """Wait until so many orders that are yet to be sent are acknowledged: trading goes on."""
        begin = len(self.ledger.sent)
        wait_for(f"{count} orders are acknowledged", lambda: self.ledger.acknowledged_since(begin) >= count)

    def account(self) -> Report:
        """Stop, and compare each order with the order service and with its log; see `Ledger.account`."""
        self.__exit__()
        if self._failure is not None:
            raise self._failure
        assert not self._thread.is_alive(), "the prober hangs"
        listed, self.logs = wait_for("the order service tells of all orders", self._told)
        return self.ledger.account(listed, *self.logs)

    async def _run(self) -> None:
        try:
            timeout = aiohttp.ClientTimeout(total=_ATTEMPT_SECONDS_MAX)
            async with aiohttp.ClientSession(timeout=timeout, headers=self._headers) as session:
                await self._send_all(session)
        except BaseException as error:
            self._failure = error
            raise

    async def _send_all(self, session: aiohttp.ClientSession) -> None:
        """Send until stopped, and then wait for the answers of what was sent."""
        loop, running = asyncio.get_running_loop(), set[asyncio.Task[None]]()
        due = loop.time()
        while not self._stopping.is_set():
            if len(running) < _IN_FLIGHT_MAX:
                account = self._accounts[len(self.ledger.sent) % len(self._accounts)]
                number = self.ledger.begun(time.monotonic(), account)
                task = asyncio.ensure_future(self._settle(session, number))
                running.add(task)
                task.add_done_callback(running.discard)
            due = max(due + self._pause, loop.time())
            await asyncio.sleep(due - loop.time())
        if running:
            _, pending = await asyncio.wait(running, timeout=WAIT_SECONDS)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    async def _settle(self, session: aiohttp.ClientSession, number: int) -> None:
        """One order, until it has a final answer."""
        order = {
            "client_order_id": self.ledger.client_order_id(number),
            "account": self.ledger.sent[number].account,
            "symbol": self._symbol,
            "side": "buy" if number // len(self._accounts) % 2 else "sell",
            "order_type": "market",
            "quantity": f"0.{1 + number % 500:05d}",  # no two in a row are the same: that could be taken for a mistake
        }
        while True:
            answer, wait = await self._attempt(session, order)
            self.ledger.answered(number, answer, time.monotonic())
            if answer.is_final:
                return
            if not answer.status:
                await self._look_where_it_is()
            await asyncio.sleep(wait)

    async def _attempt(self, session: aiohttp.ClientSession, order: dict[str, Any]) -> tuple[Answer, float]:
        """What was told, and in how many seconds to ask again if that is not final."""
        try:
            async with session.post(f"{self._address}/orders", json=order) as answer:
                body = json.loads(await answer.read() or b"{}")
                wait = min(float(answer.headers.get("Retry-After", _RETRY_SECONDS)), 1.0)
                return Answer(answer.status, body.get("order_id", ""), body.get("reject_code", "")), wait
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return Answer(0), _RETRY_SECONDS

    async def _look_where_it_is(self) -> None:
        """A Service that was made anew has another address; as long as nobody tells one, the old one holds."""
        if time.monotonic() - self._found_at > _ADDRESS_SECONDS:
            self._found_at = time.monotonic()
            with contextlib.suppress(AssertionError):
                self._address = await asyncio.to_thread(self._find)

    def _told(self) -> tuple[list[Any], list[list[Any]]] | None:
        """Everything of the accounts, and the logs of their partitions; None while the service is not to be asked."""
        self._address = self._find()
        try:
            return asyncio.run(self._read_all())
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None

    async def _read_all(self) -> tuple[list[Any], list[list[Any]]]:
        timeout = aiohttp.ClientTimeout(total=WAIT_SECONDS)
        async with aiohttp.ClientSession(
            self._address, timeout=timeout, headers=self._headers, raise_for_status=True
        ) as session:
            listed, ends = list[Any](), dict[int, int]()
            for account in self._accounts:
                if orders := await self._list(session, account):
                    async with session.get(f"/positions/{account}") as answer:
                        as_of = (await answer.json())["as_of"]
                    partition = partition_of_id(orders[0]["order_id"])
                    ends[partition] = max(as_of, ends.get(partition, 0))
                    listed += orders
            return listed, [await self._read_log(session, partition, until) for partition, until in ends.items()]

    @staticmethod
    async def _list(session: aiohttp.ClientSession, account: str) -> list[Any]:
        """Every order of an account."""
        listed, query = list[Any](), {"account": account, "limit": str(_PAGE_ORDERS)}
        while True:
            async with session.get("/orders", params=query) as answer:
                page = await answer.json()
            listed += page["orders"]
            if not page["cursor"]:
                return listed
            query["cursor"] = page["cursor"]

    @staticmethod
    async def _read_log(session: aiohttp.ClientSession, partition: int, until: int) -> list[Any]:
        """All events of a partition up to one."""
        events: list[Any] = []
        async with session.ws_connect("/ws/events", params={"from": f"{partition}:0"}, max_msg_size=0) as socket:
            while not events or events[-1]["seq"] < until:
                said = await socket.receive()
                if said.type is not aiohttp.WSMsgType.TEXT:
                    raise aiohttp.ClientError(f"the log ended after {len(events)} events: {said.extra or said.data}")
                event = json.loads(said.data)
                if event["event_id"].split("/")[1] == str(partition):
                    events.append(event)
        return events


@contextlib.contextmanager
def probing(cluster: Cluster, namespace: str, stack: str = "desk", **told: Any) -> Iterator[Prober]:
    """A prober of a stack that is up, with the stack's own key; see `Prober` for what it may be told."""

    def address() -> str:
        spec = cluster.get("service", service_name(stack, "oms"), "-n", namespace)["spec"]
        return f"http://{spec['clusterIP']}:{spec['ports'][0]['port']}"

    secret = cluster.get("secret", keys_name(stack), "-n", namespace)
    with Prober(address, base64.b64decode(secret["data"]["key"]).decode(), **told) as prober:
        prober.until_acknowledged(1)
        yield prober
