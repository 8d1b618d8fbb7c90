"""Lists of orders over several partitions, newest first: a page of each is taken, and put together by time.

A cursor says for each partition that has more where its next page begins: the id of the order that was seen last
there, or `o3-` for a partition of which nothing was seen yet.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from trade2026.domain.orders import Order, number_of, partition_of_id
from trade2026.oms.lookup import OrderLookup


class BadCursor(ValueError):
    """No page of such a list has given it."""


async def merged(
    lookups: Mapping[int, OrderLookup], cursor: str | None, limit: int, **filters: Any
) -> tuple[list[Order], str | None]:
    """A page of the orders of some partitions, and the cursor of the next (None after the last).

    A partition in which a filter finds little may give its older orders only with a later page.

    Args:
        lookups: Of each partition.
        cursor: What came with the page before.
        filters: As of `OrderLookup.page`.

    Raises:
        BadCursor: it names no order of these partitions.
        Unavailable: as `OrderLookup.page`.
    """
    begins = read_cursor(cursor, lookups) if cursor is not None else dict.fromkeys(lookups)
    pages = await asyncio.gather(
        *(lookups[partition].page(cursor=begin, limit=limit, **filters) for partition, begin in begins.items())
    )
    found = sorted(
        (order for orders, _ in pages for order in orders),
        key=lambda order: (order.ts_created, order.order_id),
        reverse=True,
    )
    taken = found[:limit]
    last = {partition_of_id(order.order_id): order.order_id for order in taken}
    left = {partition_of_id(order.order_id) for order in found[limit:]}
    nexts: list[str] = []
    for (partition, begin), (_, more) in zip(begins.items(), pages, strict=True):
        if partition in left:
            nexts.append(last.get(partition) or begin or f"o{partition}-")
        elif more is not None:
            nexts.append(more)
    return taken, ",".join(nexts) or None


def read_cursor(cursor: str, lookups: Mapping[int, OrderLookup]) -> dict[int, str | None]:
    """Where the page of each partition begins; what is not in it has ended."""
    begins: dict[int, str | None] = {}
    for part in cursor.split(","):
        partition = partition_of_id(part)
        lookup = lookups.get(partition)
        if lookup is None or partition in begins:
            raise BadCursor(cursor)
        if part == f"o{partition}-":
            begins[partition] = None
        elif 0 <= number_of(part) < lookup.owner.machine.fold.order_count:
            begins[partition] = part
        else:
            raise BadCursor(cursor)
    return begins
