"""Order entry over WebSocket: many requests under way on one connection, answered in the order of their arrival."""

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from trade2026.domain.orders import OrdStatus
from trade2026.kit.body import parse
from trade2026.kit.bus.membership import Member
from trade2026.kit.forward import Elsewhere
from trade2026.kit.http import Problem
from trade2026.kit.identity import Principal
from trade2026.kit.origin import Origin
from trade2026.kit.owner import Unavailable
from trade2026.kit.views import SubmitView, submit_view
from trade2026.oms import everywhere
from trade2026.oms.entry import BATCH_ORDERS_MAX, Sent, amend_one, cancel_one, submit_many, submit_one
from trade2026.oms.order_input import AmendInput, OrderInput

if TYPE_CHECKING:
    from trade2026.oms.service import OmsService

REQUESTS_UNDER_WAY_MAX = 64
"""Of one connection. Beyond it nothing more is read, so a client that sends faster than it reads waits in TCP."""

_encode = msgspec.json.encode


class WsMessage(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A request on the order socket; `id` comes back with the answer.

    `traceparent` (W3C) and `causation_id` say what it follows from, as the headers of a request do.
    """

    op: str
    id: int | str = 0
    order: OrderInput | None = None
    orders: list[OrderInput] | None = None
    order_id: str = ""
    amend: AmendInput | None = None
    traceparent: str = ""
    causation_id: str = ""


class OrderSocket:
    """One client's order-entry connection.

    A request is begun as soon as it has arrived, so that those under way share a commit; each answer waits
    for those before it.
    """

    def __init__(self, ws: WebSocket, principal: Principal, service: "OmsService") -> None:
        self.ws, self.principal, self.service = ws, principal, service
        self._headers: dict[bytes, bytes] = {
            name: value for name, value in ws.scope["headers"] if name == b"authorization"
        }
        """What says who asks, for a replica that a request is sent on to."""
        self._answers: asyncio.Queue[asyncio.Task[bytes]] = asyncio.Queue(REQUESTS_UNDER_WAY_MAX)

    async def run(self) -> None:
        """Serve until the client leaves; a broken message gets a problem, not a hang-up.

        What has arrived by then is done, though its answer has nowhere to go.
        """
        sending = asyncio.create_task(self._send())
        receiving = asyncio.create_task(self._receive())
        try:
            done, _ = await asyncio.wait((sending, receiving), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (sending, receiving):
                task.cancel()
            await asyncio.gather(sending, receiving, return_exceptions=True)

    async def _receive(self) -> None:
        while True:
            try:
                message = await self.ws.receive()
            except WebSocketDisconnect:
                return
            if message["type"] == "websocket.disconnect":
                return
            raw = message.get("text") or message.get("bytes") or b""
            await self._answers.put(asyncio.create_task(self._answer(raw)))

    async def _send(self) -> None:
        while True:
            answer = await self._answers.get()
            await self.ws.send_text((await asyncio.shield(answer)).decode())

    async def _answer(self, raw: str | bytes) -> bytes:
        body = raw if isinstance(raw, bytes) else raw.encode()
        identifier: int | str | None = None
        try:
            request = parse(body, WsMessage)
            identifier = request.id
            return _encode({"id": identifier, "result": await self._perform(request, body)})
        except Problem as problem:
            found = problem
        except Unavailable as error:
            found = Problem(503, "not_ready", str(error), retry_after=1)
        return _encode({"id": _identifier(body) if identifier is None else identifier, "problem": found.body()})

    async def _perform(self, request: WsMessage, body: bytes) -> Any:
        try:
            return await self._perform_here(request, body)
        except Elsewhere as elsewhere:
            return await self._send_on(request, body, elsewhere.member)

    async def _send_on(self, request: WsMessage, body: bytes, member: Member) -> Any:
        """Let the replica answer whose account it is; the same answer as here."""
        origin = Origin(request.traceparent, request.causation_id)
        headers = {**self._headers, b"causation-id": origin.cause.encode(), b"traceparent": origin.span.encode()}
        send = partial(everywhere.order_of, self.service, member)
        if request.op == "submit":
            try:
                return await send("POST", "", headers, parse(body)["order"])
            except Problem as problem:
                if problem.code != "order_rejected":
                    raise
                return {**problem.extra, "status": OrdStatus.REJECTED, "reason": problem.detail}
        if request.op == "cancel":
            answer = await send("DELETE", request.order_id, headers)
        else:
            answer = await send("PATCH", request.order_id, headers, parse(body)["amend"])
        return {name: answer[name] for name in SubmitView.__struct_fields__ if name in answer}

    async def _perform_here(self, request: WsMessage, body: bytes) -> Any:
        now, service, principal = self.service.context.clock.now(), self.service, self.principal
        origin = Origin(request.traceparent, request.causation_id)
        if request.op == "submit" and request.order is not None:
            return submit_view(await submit_one(service, request.order, principal, now=now, origin=origin))
        if request.op == "batch" and request.orders is not None and len(request.orders) <= BATCH_ORDERS_MAX:
            sent = Sent(self._headers, lambda: parse(body)["orders"])
            return await submit_many(service, request.orders, principal, now, sent)
        if request.op == "cancel" and request.order_id:
            return submit_view(await cancel_one(service, request.order_id, principal, now, origin.cause))
        if request.op == "amend" and request.order_id and request.amend is not None:
            return submit_view(await amend_one(service, request.order_id, request.amend, principal, now, origin.cause))
        raise Problem(
            422,
            "bad_operation",
            'op is "submit" with order, "batch" with up to 1,000 orders, "cancel" with order_id, or "amend" with order_id and amend',
            field="op",
        )


def _identifier(body: bytes) -> int | str:
    """The id of a request, so that also the answer to a wrong one can be told from others; 0 if it has none."""
    try:
        message = parse(body)
    except Problem:
        return 0
    given = message.get("id", 0) if isinstance(message, dict) else 0
    return given if type(given) in (int, str) else 0
