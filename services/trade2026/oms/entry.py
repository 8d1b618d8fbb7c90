"""What order entry does, whichever way a request came in: read it, ask the owner, answer in words."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from trade2026.domain import commands as cmd
from trade2026.domain.numbers import to_text
from trade2026.domain.orders import Order
from trade2026.kit import tracing
from trade2026.kit.bus.membership import Member
from trade2026.kit.forward import HOP, Elsewhere
from trade2026.kit.http import Problem, Request
from trade2026.kit.identity import Principal
from trade2026.kit.origin import NOWHERE, Origin
from trade2026.kit.owner import Unavailable
from trade2026.kit.views import SubmitView, submit_view
from trade2026.oms import everywhere
from trade2026.oms.order_input import TEXT_MAX, AmendInput, OrderInput, amount
from trade2026.oms.refusals import OrderClosed, OrderError, Refused, UnknownOrder

if TYPE_CHECKING:
    from trade2026.oms.cell import OrderCell
    from trade2026.oms.service import OmsService

BATCH_ORDERS_MAX = 1_000

_STATUS = {"unknown_order": 404, "order_closed": 409, "client_order_id_reused": 409}


def problem_of(error: OrderError) -> Problem:
    """The HTTP answer to a command that was refused."""
    if isinstance(error, Refused):
        return Problem(422, error.code, str(error), reject_code=error.reject_code)
    return Problem(_STATUS.get(error.code, 422), error.code, str(error))


def require_own(principal: Principal, account: str) -> None:
    """Refuse a principal that may not use the account."""
    if principal.accounts is not None and account not in principal.accounts:
        raise Problem(
            403, "account_not_permitted", f"{principal.name} may not use account {account!r}", field="account"
        )


async def decided(answer: Awaitable[Any]) -> Any:
    try:
        return await answer
    except (OrderError, Unavailable) as error:
        raise problem_met(error) from error


async def submit_one(
    service: "OmsService",
    order: OrderInput,
    principal: Principal,
    request: Request | None = None,
    now: int = 0,
    origin: Origin = NOWHERE,
) -> Order:
    """Submit one order and return it once it is durable.

    Args:
        request: That brought it; without one it came over a WebSocket at `now` (ns), and follows from `origin`.
    """
    now = request.received_ns if request is not None else now
    key = idempotency_key(request) if request is not None else ""
    spec = service.spec(order, now, key)
    require_own(principal, spec.account)
    cell = service.cell_of(spec.account)
    service.admit(cell, spec)
    known = service.answered_before(cell, spec)
    if known is not None:
        return known
    command = cmd.SubmitOrder(
        ts=now,
        principal=principal.name,
        causation_id=request.causation_id if request is not None else origin.cause,
        traceparent=request.traceparent if request is not None else origin.span,
        spec=spec,
        reference=service.reference(spec.instrument),
    )
    return await decided(cell.submit(command, in_request=request is not None, caller=origin.traceparent))


def idempotency_key(request: Request) -> str:
    """The header's value; a longer one is refused, not cut: two keys must never become one."""
    key = request.headers.get(b"idempotency-key", b"").decode("latin-1")
    if len(key) > TEXT_MAX or not key.isprintable():
        detail = f"Idempotency-Key has at most {TEXT_MAX} printable characters"
        raise Problem(422, "bad_text", detail, field="Idempotency-Key")
    return key


class Sent(NamedTuple):
    """A request as its client has sent it, to be sent on."""

    headers: Mapping[bytes, bytes]
    orders: Callable[[], list[Any]]
    """The orders of a batch as plain JSON."""


async def submit_many(
    service: "OmsService", orders: list[OrderInput], principal: Principal, now: int, sent: Sent
) -> list[SubmitView | dict[str, Any]]:
    """Submit independent orders; a wrong one spoils only its own answer."""
    results: list[Any] = []
    elsewhere: dict[Member, list[int]] = {}
    """For each other replica the places of its orders."""
    batches: dict[OrderCell, tuple[list[int], list[cmd.Command]]] = {}
    """For each cell the places of its orders, and their commands."""
    for order in orders:
        try:
            spec = service.spec(order, now)
            require_own(principal, spec.account)
            cell = service.cell_of(spec.account)
            service.admit(cell, spec)
            known = service.answered_before(cell, spec)
        except Problem as problem:
            results.append(problem.body())
            continue
        except Elsewhere as found:
            elsewhere.setdefault(found.member, []).append(len(results))
            results.append(None)
            continue
        if known is None:
            places, commands = batches.setdefault(cell, ([], []))
            places.append(len(results))
            commands.append(
                cmd.SubmitOrder(
                    ts=now,
                    principal=principal.name,
                    traceparent=tracing.new_traceparent(),
                    spec=spec,
                    reference=service.reference(spec.instrument),
                )
            )
        results.append(submit_view(known) if known is not None else None)
    if elsewhere and HOP in sent.headers:
        raise Problem(503, "not_owner", "some of these were moved a moment ago: ask again", retry_after=1)
    raw = sent.orders() if elsewhere else []
    sending = asyncio.gather(
        *(
            everywhere.batch_of(service, member, sent.headers, [raw[place] for place in places])
            for member, places in elsewhere.items()
        )
    )
    answered = await asyncio.gather(*(_answers(cell, commands) for cell, (_, commands) in batches.items()))
    for places, answers in zip(elsewhere.values(), await sending, strict=True):
        for place, answer in zip(places, answers, strict=True):
            results[place] = answer
    for (places, _), answers in zip(batches.values(), answered, strict=True):
        for place, answer in zip(places, answers, strict=True):
            results[place] = submit_view(answer) if isinstance(answer, Order) else problem_met(answer).body()
    return results


async def _answers(cell: "OrderCell", commands: list[cmd.Command]) -> list[Any]:
    try:
        return await cell.submit_many(commands)
    except Problem as problem:
        return [problem] * len(commands)


def problem_met(error: Exception) -> Problem:
    """The HTTP answer to what a command met."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, OrderError):
        return problem_of(error)
    if isinstance(error, Unavailable):
        return Problem(503, "not_acknowledged", str(error), retry_after=1)
    raise error


async def find_visible(cell: "OrderCell", order_id: str, principal: Principal) -> Order:
    """Return an order; for one of another's account the same 404 as for none, so that ids tell nothing."""
    order = await cell.orders.find(order_id)
    if order is None or (principal.accounts is not None and order.spec.account not in principal.accounts):
        raise problem_of(UnknownOrder(order_id))
    return order


async def cancel_one(service: "OmsService", order_id: str, principal: Principal, now: int, cause: str = "") -> Order:
    """Ask for the cancellation of one order."""
    cell = service.cell_of_order(order_id)
    order_to_change(cell, order_id, principal)
    reason = f"asked by {principal.name}"
    command = cmd.CancelOrder(ts=now, principal=principal.name, causation_id=cause, order_id=order_id, reason=reason)
    return await decided(cell.submit(command, reduces_risk=True))


def order_to_change(cell: "OrderCell", order_id: str, principal: Principal) -> Order:
    """Return an open order; 409 for a closed one, and the same 404 for another's as for none."""
    try:
        order = cell.orders.to_change(order_id)
    except OrderClosed as error:
        hidden = principal.accounts is not None and error.account not in principal.accounts
        raise problem_of(UnknownOrder(order_id) if hidden else error) from error
    except UnknownOrder as error:
        raise problem_of(error) from error
    except Unavailable as error:
        raise Problem(503, "not_ready", str(error), retry_after=1) from error
    if principal.accounts is not None and order.spec.account not in principal.accounts:
        raise problem_of(UnknownOrder(order_id))
    return order


async def amend_one(
    service: "OmsService", order_id: str, body: AmendInput, principal: Principal, now: int, cause: str = ""
) -> Order:
    """Ask for new terms of one order."""
    cell = service.cell_of_order(order_id)
    order = order_to_change(cell, order_id, principal)
    terms: dict[str, Any] = {name: amount(getattr(body, name), name) for name in ("quantity", "price", "stop_price")}
    if not any(terms.values()):
        raise Problem(422, "missing_field", "say what is to change: quantity, price or stop_price", field="quantity")
    service.check_steps(order.spec.instrument, terms)
    if 0 < terms["quantity"] < order.spec.display_quantity:
        shown = to_text(order.spec.display_quantity)
        raise Problem(422, "bad_display_quantity", f"an iceberg that shows {shown} has at least that", field="quantity")
    service.admit(cell, order.spec)
    command = cmd.AmendOrder(
        ts=now,
        principal=principal.name,
        causation_id=cause,
        order_id=order_id,
        reference=service.reference(order.spec.instrument),
        **terms,
    )
    return await decided(cell.submit(command))
