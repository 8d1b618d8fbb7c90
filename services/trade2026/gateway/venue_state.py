"""The paper venue as data: what its log has told, to go on from.

Its orders are in pieces that are decoded when something happens to one of them: a start with very many of them
need not wait for that.
"""

from collections.abc import Iterator
from typing import Literal

import msgspec

from trade2026.domain.frozen import Records, cut
from trade2026.gateway.resting import VenueOrder


class VenuePiece(msgspec.Struct, array_like=True):
    """Some orders, in order."""

    order_ids: list[str]
    expiries: list[tuple[int, str]]
    """When (ns) which of them expire."""
    body: bytes
    """The orders."""


class ReportsState(msgspec.Struct, kw_only=True):
    """How far a partition of the reports is, from the second on."""

    next_seq: int
    executions: int
    orders_next: int


class VenueState(msgspec.Struct, kw_only=True):
    """What the log has told; another `format` is not read, the log is folded instead."""

    format: Literal[2] = 2
    next_seq: int
    executions: int
    accepted: int
    orders_next: int
    """As `next_seq` and `executions`, of partition 0 of the reports."""
    others: list[ReportsState] | msgspec.UnsetType = msgspec.UNSET
    """Of the other partitions, where there are some."""
    last_print: dict[str, str]
    orders: list[VenuePiece]
    closed: list[VenueOrder]
    resting: list[tuple[str, bool, int, list[str]]]
    """Instrument, whether it buys, price, and the ids of a level's orders, the first to trade first."""


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(VenueState).decode
_decode_orders = msgspec.msgpack.Decoder(list[VenueOrder]).decode


def thawed(piece: VenuePiece) -> dict[str, VenueOrder]:
    """Decode the orders of a piece. How far the queue ahead of each has moved is the market's to say: it is 0."""
    orders = {order.order_id: order for order in _decode_orders(piece.body)}
    assert len(orders) == len(piece.order_ids), "a piece has as many orders as ids"
    for order in orders.values():
        order.mark = 0
    return orders


def pieces(orders: Records[VenuePiece, VenueOrder]) -> Iterator[VenuePiece]:
    """Cut orders into pieces; none may come or go meanwhile."""
    return cut(orders, _piece)


def _piece(orders: list[VenueOrder]) -> VenuePiece:
    expiries = [(order.spec.expire_at, order.order_id) for order in orders if order.spec.expire_at]
    return VenuePiece([order.order_id for order in orders], expiries, encode(orders))
