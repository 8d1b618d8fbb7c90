"""Sends children and their cancels to the order service until each is answered, whatever happens on the way.

What is to be sent is read from the machine, once it is durable; so nothing is forgotten by a crash, and a
resend is safe, because the child's name derives from its parent. Cancels wait for no child that can't be sent.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import quote

import msgspec

from trade2026.domain.events import ChildReported
from trade2026.domain.numbers import to_text
from trade2026.domain.orders import OrderSpec, OrdStatus, partition_of_id
from trade2026.exeq.machine import ChildKey, ExecutionMachine
from trade2026.kit.addresses import Addresses
from trade2026.kit.calls import Answer, delete, post
from trade2026.kit.origin import Origin, decided
from trade2026.kit.owner import Owner, Unavailable

log = logging.getLogger(__name__)

TOPIC = "exeq.events"
RETRY_SECONDS = 0.2
_LATER = (0, 401, 408, 429)
"""Nobody answers, no key or a wrong one (somebody has to mend that), or: not now. And all above 499."""
_GONE = (404, 409)
"""To a cancel: it is over already, and the order log says so."""

_Name = tuple[str, int]


class OrderEntry:
    """The way to the order service.

    Args:
        where: The order service.
        key: Bearer key; empty for an open stack.
        owner: Of the parents.
        report: Records what the order service has answered.
    """

    def __init__(
        self, where: Addresses, key: str, owner: Owner, report: Callable[[ChildReported], Awaitable[Any]]
    ) -> None:
        self.where, self.owner, self.report = where, owner, report
        self.detail = ""
        """Why children or cancels wait; empty while they are sent."""
        self.sent = 0
        self._authorization = f"Bearer {key}" if key else ""
        self._attempted: set[_Name] = set()
        """Children that the order service may have heard of."""
        self._asked: set[tuple[str, int, int]] = set()
        """Cancels that were answered."""
        self._wake_children, self._wake_cancels = asyncio.Event(), asyncio.Event()
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, maybe_sent: Iterable[ChildKey]) -> None:
        """Begin to send, in the background.

        Args:
            maybe_sent: Children that an earlier process may have sent.
        """
        self._attempted = {(key.parent_id, key.number) for key in maybe_sent}
        self._tasks = [
            asyncio.create_task(self._run(self._wake_children, self._send_children), name="children"),
            asyncio.create_task(self._run(self._wake_cancels, self._send_cancels), name="cancels"),
        ]
        self.wake()

    async def stop(self) -> None:
        """Send no more. Idempotent."""
        self._stopping = True
        self.wake()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    def wake(self) -> None:
        """Something was decided: look."""
        self._wake_children.set()
        self._wake_cancels.set()

    async def _run(self, wake: asyncio.Event, send: Callable[[], Awaitable[bool]]) -> None:
        while not self._stopping:
            await wake.wait()
            wake.clear()
            try:
                done = await send()
            except Unavailable:  # what was decided may not be in the log; it is read again
                done = False
            if not done:
                wake.set()
                await asyncio.sleep(RETRY_SECONDS)

    # ── children ────────────────────────────────────────────────────────────────────────────

    async def _send_children(self) -> bool:
        """Send what waits; False if some of it has to wait longer."""
        for key in await self.owner.read(ExecutionMachine.unacknowledged):
            name = (key.parent_id, key.number)
            if name not in self._attempted and self._is_unwanted(key):
                withdrawn = "withdrawn before it was sent"
                await self.report(_report(key, status=OrdStatus.CANCELED, reason=withdrawn))
            else:
                self._attempted.add(name)
                if not await self._send_child(key):
                    return False
                self._attempted.discard(name)
        return True

    def _is_unwanted(self, key: ChildKey) -> bool:
        """Whether its cancel was decided, as of now: it may have waited for long."""
        parent = self.owner.machine.parents.get(key.parent_id)
        return parent is not None and parent.children[key.number].cancel_decided

    async def _send_child(self, key: ChildKey) -> bool:
        body = msgspec.json.encode(order_input(key.spec))
        url = self.where.url
        answer = await post(f"{url}/orders", body, authorization=self._authorization, origin=_origin(key))
        if self._is_later(answer, url):
            return False
        self.sent += 1
        said = _document(answer)
        order_id = str(said.get("order_id", ""))
        if answer.ok:
            await self.report(_report(key, child_order_id=order_id))
        else:
            reason = str(said.get("detail", "") or f"the order service answered {answer.status}")
            await self.report(_report(key, child_order_id=order_id, status=OrdStatus.REJECTED, reason=reason))
        return True

    # ── cancels ─────────────────────────────────────────────────────────────────────────────

    async def _send_cancels(self) -> bool:
        wanted = await self.owner.read(ExecutionMachine.uncanceled)
        self._asked &= {(key.parent_id, key.number, key.cancels) for key in wanted}
        done = True
        for key in wanted:
            if (key.parent_id, key.number, key.cancels) not in self._asked:
                done = await self._send_cancel(key) and done
        return done

    async def _send_cancel(self, key: ChildKey) -> bool:
        url = self.where.url
        target = f"{url}/orders/{quote(key.order_id, safe='')}"
        answer = await delete(target, authorization=self._authorization, origin=_origin(key))
        if self._is_later(answer, url):
            return False
        if not answer.ok and answer.status not in _GONE:
            reason = str(_document(answer).get("detail", "")) or f"the order service answered {answer.status}"
            await self.report(_report(key, cancel_rejected=True, reason=reason))
        self._asked.add((key.parent_id, key.number, key.cancels))
        return True

    def _is_later(self, answer: Answer, url: str) -> bool:
        if answer.status not in _LATER and answer.status < 500:
            self.detail = ""
            return False
        if answer.status == 0:
            self.where.move_on(url)
        said = answer.detail or str(_document(answer).get("detail", "")) or f"it answered {answer.status}"
        self.detail = f"the order service does not take orders: {said}"
        return True


def order_input(spec: OrderSpec) -> dict[str, Any]:
    """A child as the order service reads it."""
    names = ("strategy", "trader", "desk", "client", "algo", "parent_order_id")
    return {
        "symbol": spec.instrument,
        "side": spec.side,
        "order_type": spec.order_type,
        "quantity": to_text(spec.quantity),
        "account": spec.account,
        "client_order_id": spec.client_order_id,
        **{name: to_text(value) for name in ("price", "stop_price") if (value := getattr(spec, name))},
        **{name: value for name in names if (value := getattr(spec, name))},
    }


def _origin(key: ChildKey) -> Origin:
    return decided(key.traceparent, f"{TOPIC}/{partition_of_id(key.parent_id, 'e')}/{key.seq}")


def _report(key: ChildKey, **news: Any) -> ChildReported:
    return ChildReported(parent_id=key.parent_id, number=key.number, **news)


def _document(answer: Answer) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(answer.body)
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}
