"""Lists of orders over several partitions, newest first: a page of each is taken, and put together by time.

A cursor says for each partition that has more where its next page begins: the id of the order that was seen last
there, or `o3-` for a partition of which nothing was seen yet.
"""

import heapq
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from trade2026.domain.orders import Order, number_of, partition_of_id

Begins = Mapping[int, str | None]
"""Where the page of each partition begins: after an order, or (None) with its newest."""
Page = tuple[list[Order], str | None]
"""Orders, newest first, and the cursor of the next page (None after the last)."""
UNCOUNTED = 1 << 62
"""In place of a partition's count that is not known here."""


T = TypeVar("T")


class Kind(NamedTuple):
    """What is listed, and how it is named."""

    letter: str
    """At the beginning of its ids."""
    field: str
    """That holds its id."""


ORDERS = Kind("o", "order_id")
PARENTS = Kind("e", "parent_id")


class BadCursor(ValueError):
    """No page of such a list has given it."""


def merge(
    pages: Sequence[tuple[Begins, list[T], str | None]],
    limit: int,
    age: Callable[[T], Any],
    id_of: Callable[[T], str],
    kind: Kind = ORDERS,
) -> tuple[list[T], str | None]:
    """Put pages together, each of one partition or of several.

    A partition in which a filter finds little may give its older orders only with a later page.

    Args:
        pages: Where each page began, up to `limit` orders, those of a partition in the order of their numbers, newest
            first, and the cursor that came with them.
        age: What an order is sorted by, before its number: when it was made.
        id_of: Its id.
    """
    letter = kind.letter
    # The order within a page stays, whatever the times in it say: where the next one begins depends on it.
    found = list(
        heapq.merge(
            *(orders for _, orders, _ in pages),
            key=lambda order: (age(order), number_of(id_of(order)), id_of(order)),
            reverse=True,
        )
    )
    taken = found[:limit]
    last = {partition_of_id(id_of(order), letter): id_of(order) for order in taken}
    left = {partition_of_id(id_of(order), letter) for order in found[limit:]}
    nexts: list[str] = []
    for begins, _, cursor in pages:
        more = {partition_of_id(part, letter): part for part in (cursor or "").split(",") if part}
        for partition, begin in begins.items():
            if partition in left:
                nexts.append(last.get(partition) or begin or f"{letter}{partition}-")
            elif partition in more:
                nexts.append(more[partition])
    return taken, ",".join(nexts) or None


def cursor_of(begins: Begins, kind: Kind = ORDERS) -> str:
    """A cursor that says where each of these partitions begins."""
    return ",".join(begin or f"{kind.letter}{partition}-" for partition, begin in begins.items())


def read_cursor(cursor: str | None, counts: Mapping[int, int], kind: Kind = ORDERS) -> dict[int, str | None]:
    """Where the page of each partition begins; what is not in it has ended.

    Args:
        cursor: What came with the page before; None begins everywhere.
        counts: How many orders each partition has; `UNCOUNTED` where that is not known.

    Raises:
        BadCursor: it names no order of these partitions.
    """
    if cursor is None:
        return dict.fromkeys(counts)
    begins: dict[int, str | None] = {}
    for part in cursor.split(","):
        partition = partition_of_id(part, kind.letter)
        if partition not in counts or partition in begins:
            raise BadCursor(cursor)
        if part == f"{kind.letter}{partition}-":
            begins[partition] = None
        elif 0 <= number_of(part) < counts[partition]:
            begins[partition] = part
        else:
            raise BadCursor(cursor)
    return begins
