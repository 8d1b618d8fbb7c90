"""What makes a list of orders, and what its children are compared with. Pure."""

from collections.abc import Iterable

import msgspec

from trade2026.domain.market import Reference
from trade2026.domain.order_fold import counted
from trade2026.domain.orders import Order, OrderSpec
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


def open_on_side(orders: Iterable[Order], child: Order) -> int:
    """Return what could execute on a child's side besides its own list, nanos; of the legs of a list only the largest."""
    spec = child.spec
    key = (spec.account, spec.instrument, spec.side)
    largest: dict[str, int] = {}
    for order in orders:
        if (order.spec.account, order.spec.instrument, order.spec.side) != key or order.list_id == child.list_id:
            continue
        rivals = order.list_id if order.list_role in ("oco", "child") else ""
        name = rivals or order.order_id
        largest[name] = max(largest.get(name, 0), counted(order)[0])
    return sum(largest.values())
