"""The orders of a snapshot in pieces of two lines of JSON: what a start must know of its orders, and the orders."""

from collections.abc import Iterator

import msgspec

from trade2026.domain.frozen import Records, cut
from trade2026.domain.orders import CLOSED, HELD_TYPES, Order, OrdStatus


class OrderPiece(msgspec.Struct, array_like=True):
    """Some orders, in order. The lists of ids, accounts and client order ids are of all of them.

    Who never asks by client order id may leave accounts and client order ids empty.
    """

    order_ids: list[str]
    accounts: list[str]
    client_order_ids: list[str]
    expiries: list[tuple[int, str]]
    """When (ns) which of those in `rest` expire."""
    live: list[Order]
    """Those of which a start must know more: closed, suspended, waiting for a trigger."""
    rest: bytes | memoryview = b"[]"
    """The others, as JSON: the second line, and not in the first."""


class _FirstLine(msgspec.Struct, array_like=True):
    order_ids: list[str]
    accounts: list[str]
    client_order_ids: list[str]
    expiries: list[tuple[int, str]]
    live: list[Order]


_decode_first = msgspec.json.Decoder(_FirstLine).decode
_decode_orders = msgspec.json.Decoder(list[Order]).decode
_encode = msgspec.json.Encoder().encode


def read(first: memoryview, rest: memoryview) -> OrderPiece:
    """Return the piece of two lines.

    Raises:
        msgspec.MsgspecError: the first is none; the second is looked at when its orders are asked for.
    """
    found = _decode_first(first)
    return OrderPiece(found.order_ids, found.accounts, found.client_order_ids, found.expiries, found.live, rest)


def thawed(piece: OrderPiece) -> dict[str, Order]:
    """Decode the orders that are not live."""
    orders = {order.order_id: order for order in _decode_orders(piece.rest)}
    assert len(orders) + len(piece.live) == len(piece.order_ids), "a piece has as many orders as ids"
    return orders


def lines(piece: OrderPiece) -> tuple[bytes, bytes | memoryview]:
    """Return the two lines of a piece."""
    first = _FirstLine(piece.order_ids, piece.accounts, piece.client_order_ids, piece.expiries, piece.live)
    return _encode(first), piece.rest


def pieces(orders: Records[OrderPiece, Order]) -> Iterator[OrderPiece]:
    """Cut orders into pieces; none may come or go meanwhile."""
    return cut(orders, _piece_of)


def of_live(orders: list[Order]) -> OrderPiece:
    """Orders that are decoded already as a piece in which none is frozen."""
    return _piece(orders, orders, [])


def _piece_of(orders: list[Order]) -> OrderPiece:
    return _piece(
        orders, [order for order in orders if _is_live(order)], [order for order in orders if not _is_live(order)]
    )


def _piece(orders: list[Order], live: list[Order], rest: list[Order]) -> OrderPiece:
    return OrderPiece(
        [order.order_id for order in orders],
        [order.spec.account for order in orders],
        [order.spec.client_order_id for order in orders],
        [(order.spec.expire_at, order.order_id) for order in rest if order.spec.expire_at],
        live,
        _encode(rest),
    )


def _is_live(order: Order) -> bool:
    return (
        order.status in CLOSED
        or OrdStatus.SUSPENDED in (order.status, order.status_before)
        or order.spec.order_type in HELD_TYPES
    )
