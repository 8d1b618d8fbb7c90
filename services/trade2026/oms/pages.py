"""Lists of orders over several partitions, newest first."""

import asyncio
from collections.abc import Mapping
from typing import Any

from trade2026.kit.pages import Page, merge, read_cursor
from trade2026.oms.lookup import OrderLookup


async def merged(lookups: Mapping[int, OrderLookup], cursor: str | None, limit: int, **filters: Any) -> Page:
    """A page of the orders of some partitions.

    Args:
        lookups: Of each partition.
        cursor: What came with the page before.
        filters: As of `OrderLookup.page`.

    Raises:
        BadCursor: it names no order of these partitions.
        Unavailable: as `OrderLookup.page`.
    """
    counts = {partition: lookup.owner.machine.fold.order_count for partition, lookup in lookups.items()}
    begins = read_cursor(cursor, counts)
    pages = await asyncio.gather(
        *(lookups[partition].page(cursor=begin, limit=limit, **filters) for partition, begin in begins.items())
    )
    return merge(begins, dict(zip(begins, pages, strict=True)), limit)
