"""A snapshot of the order log: the orders that are open and what counts against the limits, as of one position.

Lines of JSON: a head, then the orders in pieces of two lines. Made in slices, so that whoever makes one can
answer others between two of them; nothing may be folded meanwhile.
"""

from collections.abc import Iterable, Iterator

import msgspec

from trade2026.controls.machine import Controls
from trade2026.domain import order_pieces
from trade2026.domain.order_fold import FoldState, OrderFold
from trade2026.domain.order_pieces import OrderPiece
from trade2026.domain.orders import Order, OrdStatus

VERSION = 2
"""Raised whenever an older reader could not read what is written, be it only the orders: they are decoded late.

1: every order is decoded at once, a thousand to a line.
"""


class _Head(msgspec.Struct):
    version: int
    fold: FoldState
    """Without its orders."""
    controls: msgspec.Raw


_decode_head = msgspec.json.Decoder(_Head).decode
_decode_orders = msgspec.json.Decoder(list[Order]).decode


def slices(fold: OrderFold, controls: Controls) -> Iterator[bytes | memoryview]:
    """Make a snapshot: its pieces in order, to be joined by line breaks."""
    yield msgspec.json.encode(_Head(VERSION, fold.state(), msgspec.Raw(controls.snapshot())))
    for piece in order_pieces.pieces(fold.orders):
        yield from order_pieces.lines(piece)


def restore(state: bytes, fold: OrderFold, controls: Controls) -> None:
    """Take over a snapshot, in place of everything that was folded here.

    Raises:
        ValueError: it is none, or of a version to come.
    """
    lines = _lines(state)
    head = _decode_head(next(lines))
    if head.version > VERSION:
        raise ValueError(f"its version {head.version} is newer than {VERSION}")
    live: list[Order] = []
    pieces = _all_live(lines) if head.version == 1 else _pieces(lines)
    fold.restore_state(head.fold, _noting_live(pieces, live))
    controls.restore(bytes(head.controls))
    for order in live:
        if order.is_open and OrdStatus.SUSPENDED in (order.status, order.status_before):
            controls.child_waits(order.spec, 1)


def _pieces(lines: Iterator[memoryview]) -> Iterator[OrderPiece]:
    return (order_pieces.read(first, rest) for first, rest in zip(lines, lines, strict=True))


def _all_live(lines: Iterator[memoryview]) -> Iterator[OrderPiece]:
    """The orders of version 1."""
    return (order_pieces.of_live(_decode_orders(line)) for line in lines)


def _noting_live(pieces: Iterable[OrderPiece], live: list[Order]) -> Iterator[OrderPiece]:
    for piece in pieces:
        live += piece.live
        yield piece


def _lines(state: bytes) -> Iterator[memoryview]:
    """Its lines, without a copy: there may be hundreds of megabytes."""
    view, begin = memoryview(state), 0
    while begin <= len(state):
        end = state.find(b"\n", begin)
        if end < 0:
            end = len(state)
        yield view[begin:end]
        begin = end + 1
