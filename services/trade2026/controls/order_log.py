"""A snapshot of the order log: the orders that are open and what counts against the limits, as of one position.

Lines of JSON: a head, then orders, a thousand to a line. Made in slices, so that whoever makes one can answer
others between two of them; nothing may be folded meanwhile.
"""

from collections.abc import Iterator
from itertools import islice

import msgspec

from trade2026.controls.machine import Controls
from trade2026.domain.order_fold import FoldState, OrderFold
from trade2026.domain.orders import Order, OrdStatus

VERSION = 1
_ORDERS_PER_SLICE = 1_000


class _Head(msgspec.Struct):
    version: int
    fold: FoldState
    """Without its orders."""
    controls: msgspec.Raw


_decode_head = msgspec.json.Decoder(_Head).decode
_decode_orders = msgspec.json.Decoder(list[Order]).decode


def slices(fold: OrderFold, controls: Controls) -> Iterator[bytes]:
    """Make a snapshot: its pieces in order, to be joined by line breaks."""
    state = fold.state()
    head = msgspec.structs.replace(state, orders={})
    yield msgspec.json.encode(_Head(VERSION, head, msgspec.Raw(controls.snapshot())))
    orders = iter(state.orders.values())
    while some := list(islice(orders, _ORDERS_PER_SLICE)):
        yield msgspec.json.encode(some)


def restore(state: bytes, fold: OrderFold, controls: Controls) -> None:
    """Take over a snapshot, in place of everything that was folded here.

    Raises:
        ValueError: it is none, or of a version to come.
    """
    first, *rest = _lines(state)
    head = _decode_head(first)
    if head.version > VERSION:
        raise ValueError(f"its version {head.version} is newer than {VERSION}")
    orders = {order.order_id: order for line in rest for order in _decode_orders(line)}
    fold.restore_state(msgspec.structs.replace(head.fold, orders=orders))
    controls.restore(bytes(head.controls))
    for order in fold.open.values():
        if OrdStatus.SUSPENDED in (order.status, order.status_before):
            controls.child_waits(order.spec, 1)


def _lines(state: bytes) -> Iterator[memoryview]:
    """Its lines, without a copy: there may be hundreds of megabytes."""
    view, begin = memoryview(state), 0
    while begin <= len(state):
        end = state.find(b"\n", begin)
        if end < 0:
            end = len(state)
        yield view[begin:end]
        begin = end + 1
