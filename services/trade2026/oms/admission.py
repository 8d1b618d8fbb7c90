"""What is asked before an order, new terms or a list are taken: whether the controls let them pass.

What only this partition's part of a limit has no room for is not refused where a larger part may be waited for: it is
`SliceShort`. Nothing is recorded of that, so it can be asked again.
"""

import msgspec

from trade2026.controls.machine import Check, Controls
from trade2026.controls.slices import Shortage
from trade2026.domain import commands as cmd
from trade2026.domain import events as ev
from trade2026.domain.market import Reference
from trade2026.domain.order_fold import counted
from trade2026.domain.orders import Order, OrderSpec
from trade2026.domain.rejects import RejectCode
from trade2026.oms import lists
from trade2026.oms.refusals import Refused, SliceShort

Refusal = tuple[str, str]
"""Reject code and reason."""


def of_order(controls: Controls, command: cmd.SubmitOrder) -> Refusal | None:
    """Return why an order is refused, None if it may be sent.

    Raises:
        SliceShort: it may wait, and with a larger part of a limit it could be sent.
    """
    refusal = _refusal(controls, command.spec, command.reference, command.ts)
    if refusal is not None and command.may_wait:
        _wait(controls.shortage(command.spec, command.reference, command.ts))
    return refusal


def check_terms(
    controls: Controls, command: cmd.AmendOrder, order: Order, wanted: OrderSpec, parent: OrderSpec | None
) -> None:
    """Let new terms of an order pass.

    Args:
        wanted: The order with its new terms.
        parent: Of a child that waits for it.

    Raises:
        Refused: they break a limit.
        SliceShort: as for an order.
    """
    reference, now = command.reference, command.ts
    if parent is not None:
        reference = lists.moment_of_release(parent, reference, now)
        broken = controls.check_waiting(wanted, reference, now, opens=0)
        if broken is not None and command.may_wait:
            _wait(controls.shortage_of_waiting(wanted, reference, now, opens=0))
    else:
        left, before = wanted.quantity - order.cum_qty, counted(order)
        broken = controls.check_amendment(wanted, left, before, reference, now)
        if broken is not None and command.may_wait:
            _wait(controls.shortage_of_amendment(wanted, left, before, reference, now))
    if broken is not None:
        raise Refused(broken.code, broken.message)


def check_legs(controls: Controls, command: cmd.SubmitList, legs: list[ev.ListedOrder]) -> None:
    """Let a list pass: each leg with those before it counted already, a child by what can be asked before it works.

    Raises:
        Refused: a leg breaks a limit.
        SliceShort: as for an order, with what all legs need together.
    """
    counted_legs: list[ev.ListedOrder] = []
    short: Shortage | None = None
    try:
        for leg in legs:
            refusal, more = _leg_refusal(controls, command, leg)
            if refusal is not None and more is None:
                raise Refused(*refusal)
            if short is None:
                short = more
            elif more is not None and more.limit == short.limit:
                short = msgspec.structs.replace(short, needed=max(short.needed, more.needed))
            _count(controls, leg, 1)
            counted_legs.append(leg)
    finally:
        for leg in counted_legs:
            _count(controls, leg, -1)
    _wait(short)


def _refusal(controls: Controls, spec: OrderSpec, reference: Reference | None, now: int) -> Refusal | None:
    if spec.reduce_only:
        position = controls.position(spec.account, spec.instrument).quantity
        if position == 0 or (position > 0) == (spec.side == "BUY") or spec.quantity > abs(position):
            return RejectCode.REDUCE_ONLY, "a reduce-only order must be at most the position it reduces"
    return _reason(controls.check(spec, reference, now))


def _reason(broken: Check | None) -> Refusal | None:
    return (broken.code, broken.message) if broken is not None else None


def _leg_refusal(
    controls: Controls, command: cmd.SubmitList, leg: ev.ListedOrder
) -> tuple[Refusal | None, Shortage | None]:
    """Why a leg is refused, and which larger part of a limit would be enough for it."""
    spec, reference, now, short = leg.spec, command.reference, command.ts, None
    if leg.role == "child":
        moment = lists.moment_of_release(command.specs[0], reference, now)
        refusal = _reason(controls.check_waiting(spec, moment, now))
        if refusal is not None and command.may_wait:
            short = controls.shortage_of_waiting(spec, moment, now)
    else:
        refusal = _refusal(controls, spec, reference, now)
        if refusal is not None and command.may_wait:
            short = controls.shortage(spec, reference, now)
    return refusal, short


def _count(controls: Controls, leg: ev.ListedOrder, sign: int) -> None:
    spec = leg.spec
    if leg.role == "child":
        controls.child_waits(spec, sign)
    elif sign > 0:
        controls.order_changed(spec, 0, 0, spec.quantity, leg.reserved_price)
    else:
        controls.order_changed(spec, spec.quantity, leg.reserved_price, 0, 0)


def _wait(short: Shortage | None) -> None:
    if short is not None:
        raise SliceShort(short)
