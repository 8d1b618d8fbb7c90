"""What makes a list of orders, and what its children are compared with. Pure."""

from collections.abc import Iterable

import msgspec

from trade2026.domain.market import Reference
from trade2026.domain.order_fold import counted
from trade2026.domain.orders import Order, OrderSpec, OrdStatus
from trade2026.oms.refusals import BadList

_SIZES = {"OCO": (2, 8), "OTO": (2, 8), "BRACKET": (3, 3)}


def check_shape(kind: str, specs: list[OrderSpec]) -> None:
    """Refuse orders that make no list of their kind.

    Raises:
        BadList: it says what is missing.
    """
    least, most = _SIZES[kind]
    if not least <= len(specs) <= most:
        raise BadList(f"a list of kind {kind} has {least} to {most} orders, not {len(specs)}")
    if len({(spec.account, spec.instrument) for spec in specs}) != 1:
        raise BadList("the orders of a list share one account and one instrument")
    if len({spec.client_order_id for spec in specs}) != len(specs):
        raise BadList("each order of a list needs a client_order_id of its own")
    if kind == "BRACKET" and any(spec.side == specs[0].side for spec in specs[1:]):
        raise BadList("the two exits of a bracket are on the other side than its entry")


def moment_of_release(parent: OrderSpec, reference: Reference | None, now: int) -> Reference | None:
    """Return the market as it will be when children are released: at the parent's price, if that has one."""
    price = parent.price or parent.stop_price
    if not price:
        return reference
    if reference is None:
        return Reference(price, price, price, ts=now)
    return msgspec.structs.replace(reference, last=price, ts=now)


def rivals(order: Order) -> str:
    """Return the list whose legs cancel each other, this one among them; else "": OTO only triggers its children."""
    competes = order.list_role == "oco" or (order.list_role == "child" and order.list_kind != "OTO")
    return order.list_id if competes else ""


def open_on_side(orders: Iterable[Order], child: Order) -> int:
    """Return what could execute on a child's side besides its rivals, nanos; of other rivals only the largest."""
    spec = child.spec
    key = (spec.account, spec.instrument, spec.side)
    largest: dict[str, int] = {}
    for order in orders:
        if (order.spec.account, order.spec.instrument, order.spec.side) == key:
            name = rivals(order) or order.order_id
            largest[name] = max(largest.get(name, 0), counted(order)[0])
    largest.pop(rivals(child), None)
    return sum(largest.values())


def quantity_of_release(child: Order, parent: Order, siblings: Iterable[Order]) -> int:
    """Return what a child works for now that its parent has ended, nanos; 0 if nothing is left for it.

    Rivals, of which one executes, and children on the parent's side get at most what the parent executed.
    Independent exits share that if the parent ended before it was filled: together they must not turn the position.
    """
    wanted, executed = child.spec.quantity, parent.cum_qty
    if rivals(child) or child.spec.side == parent.spec.side:
        return min(wanted, executed)
    if parent.status is OrdStatus.FILLED:
        return wanted
    released = sum(
        each.spec.quantity
        for each in siblings
        if each.list_role == "child"
        and each.spec.side == child.spec.side
        and each.is_open
        and each.status is not OrdStatus.SUSPENDED
    )
    return min(wanted, executed - released)
