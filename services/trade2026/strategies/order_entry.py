"""Sends decisions to the order service: in order, until each is answered, whatever happens on the way.

One socket; up to `WINDOW` decisions are under way. A decision is sent again after a broken connection or an
answer that says "later": the client order id makes that safe. What the service refuses is told back.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from trade2026.domain import events as ev
from trade2026.domain.numbers import to_text
from trade2026.domain.orders import OrderSpec, TimeInForce
from trade2026.kit.addresses import Addresses
from trade2026.kit.calls import post
from trade2026.kit.origin import NOWHERE, Origin
from trade2026.kit.views import time_text

log = logging.getLogger(__name__)

WINDOW = 32
RETRY_SECONDS = 0.2
_ANSWER_SECONDS_MAX = 10.0
_LATER = (429, 503)

Decision = ev.OrderDecided | ev.OrderListDecided | ev.CancelDecided | ev.AmendDecided


class Answered(msgspec.Struct, frozen=True):
    """What the order service said to a decision; `code` is empty where it was taken or recorded."""

    decision: Decision
    code: str = ""
    reason: str = ""


class OrderEntry:
    """The way to the order service.

    Args:
        where: The order service.
        key: Bearer key; empty for an open stack.
        order_id: Tells the platform's id of an order, "" while it is not known.
        answered: Told once per decision.
    """

    def __init__(
        self, where: Addresses, key: str, order_id: Callable[[str, str], str], answered: Callable[[Answered], None]
    ) -> None:
        self.where, self.key = where, key
        self.sent = 0
        self.detail = "not connected"
        """Why decisions wait; empty while they are sent."""
        self._order_id, self._answered = order_id, answered
        self._ids: dict[str, str] = {}
        """Order ids that were answered and that the order log has not told us yet."""
        self._queue: deque[tuple[Decision, Origin]] = deque()
        """Each with the event that recorded it."""
        self._wanted = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to send, in the background."""
        self._task = asyncio.create_task(self._run(), name="order entry")

    async def stop(self, seconds_max: float = 0.0) -> None:
        """Send what waits for so long at most, then let go."""
        if self._task is not None:
            if seconds_max:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._idle.wait(), seconds_max)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def send(self, decision: Decision, origin: Origin = NOWHERE) -> None:
        """Send a decision after those before it; it is durable already, in the event of `origin` if that is known."""
        self._queue.append((decision, origin))
        self._idle.clear()
        self._wanted.set()

    @property
    def waiting(self) -> int:
        """Decisions that are not answered yet."""
        return len(self._queue)

    async def _run(self) -> None:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        while True:
            url = self.where.url
            address = f"ws{url.removeprefix('http')}/ws/orders"
            try:
                async with connect(address, additional_headers=headers, compression=None, proxy=None) as socket:
                    self.detail = ""
                    await self._serve(socket)
            except (OSError, WebSocketException, TimeoutError, msgspec.MsgspecError) as error:
                self.detail = f"the order service does not answer: {error or type(error).__name__}"
                self.where.move_on(url)
            await asyncio.sleep(RETRY_SECONDS)

    async def _serve(self, socket: ClientConnection) -> None:
        """Send and read in turns: the window fills while there is something to send, and drains before what depends."""
        under_way: deque[Decision] = deque()
        while True:
            while len(under_way) < min(WINDOW, len(self._queue)):
                decision, origin = self._queue[len(under_way)]
                if isinstance(decision, ev.OrderListDecided):
                    if under_way:
                        break
                    await self._send_list(decision, origin)
                    continue
                request = self._request(decision)
                if request is None:
                    if under_way:
                        break
                    self._done(decision, "unknown_order", "the order is not known")
                    continue
                await socket.send(msgspec.json.encode({"id": decision.number, **request, **origin._asdict()}))
                under_way.append(decision)
                self.sent += 1
            if not under_way:
                await self._rest(socket)
                continue
            async with asyncio.timeout(_ANSWER_SECONDS_MAX):
                answer = msgspec.json.decode(await socket.recv())
            if not await self._take(under_way.popleft(), answer):
                while under_way:  # later decisions may depend on this one: they are sent again, after it
                    async with asyncio.timeout(_ANSWER_SECONDS_MAX):
                        await socket.recv()
                    under_way.popleft()

    async def _rest(self, socket: ClientConnection) -> None:
        """Wait for something to send, or for the connection to end."""
        self._wanted.clear()
        wanted = asyncio.ensure_future(self._wanted.wait())
        closed = asyncio.ensure_future(socket.wait_closed())
        try:
            await asyncio.wait((wanted, closed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            wanted.cancel()
            closed.cancel()
        if not self._wanted.is_set():
            raise ConnectionError("the order service has closed the connection")

    async def _take(self, decision: Decision, answer: dict[str, Any]) -> bool:
        """Handle the answer to the oldest decision; False if it must be sent again."""
        problem = answer.get("problem")
        if problem is None:
            self.detail = ""
            result = answer["result"]
            self._ids[result["client_order_id"]] = result["order_id"]
            self._done(decision)
            return True
        if problem.get("status") in _LATER:
            self.detail = str(problem.get("detail", "later"))
            await asyncio.sleep(RETRY_SECONDS)
            return False
        self.detail = ""
        self._done(decision, str(problem.get("code", "refused")), str(problem.get("detail", "")))
        return True

    def _done(self, decision: Decision, code: str = "", reason: str = "") -> None:
        taken, _ = self._queue.popleft()
        assert taken is decision, "decisions are answered in order"
        self._answered(Answered(decision, code, reason))
        if not self._queue:
            self._idle.set()
        if len(self._ids) > 10_000:
            self._ids.clear()

    def _request(self, decision: Decision) -> dict[str, Any] | None:
        """The message of a decision; None while the order that it is about has no id."""
        if isinstance(decision, ev.OrderDecided):
            return {"op": "submit", "order": order_input(decision.spec)}
        assert not isinstance(decision, ev.OrderListDecided)
        name = decision.client_order_id
        order_id = self._order_id(decision.strategy, name) or self._ids.get(name, "")
        if not order_id:
            return None
        if isinstance(decision, ev.CancelDecided):
            return {"op": "cancel", "order_id": order_id}
        terms = {n: to_text(value) for n in ("quantity", "price", "stop_price") if (value := getattr(decision, n))}
        return {"op": "amend", "order_id": order_id, "amend": terms}

    async def _send_list(self, decision: ev.OrderListDecided, origin: Origin) -> None:
        """A list goes over REST: the socket knows none."""
        body = {"kind": decision.kind, "orders": [order_input(spec) for spec in decision.specs]}
        authorization = f"Bearer {self.key}" if self.key else ""
        content, url = msgspec.json.encode(body), self.where.url
        answer = await post(f"{url}/orders/list", content, authorization=authorization, origin=origin)
        if answer.status == 0 or answer.status in _LATER or answer.status >= 500:
            self.detail = answer.detail or f"the order service answered {answer.status}"
            if answer.status == 0:
                self.where.move_on(url)
            await asyncio.sleep(RETRY_SECONDS)
            return
        self.detail = ""
        self.sent += 1
        result = msgspec.json.decode(answer.body)
        if answer.ok:
            for order in result["orders"]:
                self._ids[order["client_order_id"]] = order["order_id"]
            self._done(decision)
        else:
            self._done(decision, str(result.get("code", "refused")), str(result.get("detail", "")))


def order_input(spec: OrderSpec) -> dict[str, Any]:
    """An order as the order service reads it."""
    amounts = ("price", "stop_price", "trailing_offset", "display_quantity")
    found: dict[str, Any] = {
        "symbol": spec.instrument,
        "side": spec.side,
        "order_type": spec.order_type,
        "quantity": to_text(spec.quantity),
        "time_in_force": spec.time_in_force,
        "account": spec.account,
        "client_order_id": spec.client_order_id,
        "post_only": spec.post_only,
        "reduce_only": spec.reduce_only,
        "strategy": spec.strategy,
        "algo": spec.algo,
        **{name: to_text(value) for name in amounts if (value := getattr(spec, name))},
    }
    if spec.time_in_force is TimeInForce.GTD:
        found["expire_at"] = time_text(spec.expire_at)
    return found
