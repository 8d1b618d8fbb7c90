"""Lists of orders over several partitions, wherever their cells are."""

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from trade2026.kit.pages import Begins, merge
from trade2026.kit.views import OrderView, order_view
from trade2026.oms.lookup import OrderLookup


class Page(msgspec.Struct):
    """A page of orders, newest first, and the cursor of the next (None after the last)."""

    orders: list[OrderView]
    cursor: str | None


class Source(Protocol):
    """Some partitions that can be asked together."""

    async def page(self, begins: Begins, limit: int) -> Page: ...


class Own:
    """A partition whose cell is here."""

    def __init__(self, lookup: OrderLookup, filters: dict[str, Any]) -> None:
        self._lookup, self._filters = lookup, filters

    async def page(self, begins: Begins, limit: int) -> Page:
        """See `Source.page`. Raises `Unavailable` as `OrderLookup.page`."""
        (begin,) = begins.values()
        orders, cursor = await self._lookup.page(cursor=begin, limit=limit, **self._filters)
        return Page([order_view(order) for order in orders], cursor)


async def merged(sources: Sequence[tuple[Source, Begins]], limit: int) -> Page:
    """Ask each source for a page, and put them together."""
    pages = await asyncio.gather(*(source.page(begins, limit) for source, begins in sources))
    asked = [(begins, page.orders, page.cursor) for (_, begins), page in zip(sources, pages, strict=True)]
    return Page(*merge(asked, limit, lambda order: order.created_at))
