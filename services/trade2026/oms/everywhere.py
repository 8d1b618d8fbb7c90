"""What concerns many accounts: done by the cells that are here, and by sending it on to the replicas with the others."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from trade2026.kit.bus.membership import Member
from trade2026.kit.cells import is_forwarded, meant_partitions
from trade2026.kit.forward import HOP, require_done, target_of
from trade2026.kit.http import Problem, Request
from trade2026.kit.messages import Response

if TYPE_CHECKING:
    from trade2026.oms.service import OmsService


_SECONDS_MAX = 1.5
"""For a replica to stop or cancel what it has: whoever asked for it waits no longer than 2 s."""


class _Asked(msgspec.Struct):
    asked: int = 0


class _Results(msgspec.Struct):
    results: list[dict[str, Any]]


async def asked_everywhere(
    service: "OmsService", request: Request, scope: str, here: Callable[[], Awaitable[Any]]
) -> int:
    """Do something in the cells here and ask the other replicas for the same; return how many orders were asked.

    Raises:
        Elsewhere: it is about one account, which another replica has.
        Problem: 503: a partition has no owner just now, or its replica did not do it; the others have.
    """
    if scope.startswith("account:"):
        return await here() or 0
    if is_forwarded(request):
        lacking = meant_partitions(request) - service.cells.here.keys()
        asked = await here() or 0
        if lacking:
            raise Problem(503, "not_owner", f"not here any more: partitions {sorted(lacking)}", retry_after=1)
        return asked
    others, missing = service.cells.others()

    def send(member: Member, partitions: list[int]) -> Awaitable[Response]:
        headers = {**request.headers, HOP: ",".join(map(str, partitions)).encode()}
        return service.cells.send(member, request.method, target_of(request), headers, request.body, _SECONDS_MAX)

    answers = await asyncio.gather(here(), *(send(*other) for other in others.items()), return_exceptions=True)
    total = 0
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, Response):
            require_done(answer)
            total += msgspec.json.decode(answer.body, type=_Asked).asked
        else:
            total += answer or 0
    if missing is not None:
        raise missing
    return total


async def batch_of(
    service: "OmsService", member: Member, headers: Mapping[bytes, bytes], orders: Sequence[Any]
) -> list[dict[str, Any]]:
    """Send orders of a batch on to their replica; return an answer for each, in order."""
    body = msgspec.json.encode({"orders": orders})
    headers = {**headers, b"content-type": b"application/json"}
    try:
        answer = await service.cells.send(member, "POST", "/orders/batch", headers, body)
        require_done(answer)
        return msgspec.json.decode(answer.body, type=_Results).results
    except Problem as problem:
        return [problem.body()] * len(orders)


async def order_of(
    service: "OmsService", member: Member, method: str, order_id: str, headers: Mapping[bytes, bytes], body: Any = None
) -> dict[str, Any]:
    """Send on what concerns one order, or (without an id) submits one; return the answer's JSON."""
    target = f"/orders/{quote(order_id, safe='')}" if order_id else "/orders"
    headers = {**headers, b"content-type": b"application/json"}
    sent = msgspec.json.encode(body) if body is not None else b""
    answer = await service.cells.send(member, method, target, headers, sent)
    require_done(answer)
    return msgspec.json.decode(answer.body)
